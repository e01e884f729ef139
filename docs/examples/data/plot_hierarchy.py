"""
Clusters in groups of clusters
==============================

Sixty-four clusters in four groups of four groups of four. Their neighbour graph falls into parts
without an edge between them, and UMAP's loss does not say where such parts belong. A network is one
function of the data: near clusters stay near.
"""

# %%
import numpy as np
from matplotlib import pyplot as plt

from neumap import UMAP, ParametricUMAP, metrics, plots

rng = np.random.default_rng(0)
centres = np.zeros((1, 20))
for scale in (10.0, 3.0, 1.0):
    steps = rng.normal(scale=scale / np.sqrt(10), size=(len(centres), 4, 20))
    centres = (centres[:, None] + steps).reshape(-1, 20)
cluster = np.repeat(np.arange(64), 30)
X = centres[cluster] + rng.normal(scale=0.1, size=(len(cluster), 20))

# %%
# Hues are the outer groups, shades the groups within them.

hues = np.array([[55, 92, 213], [181, 28, 84], [49, 153, 4], [226, 184, 16]]) / 255
shade = np.array([0.0, 0.25, 0.45, 0.6])[np.arange(64) // 4 % 4, None]
colors = hues[np.arange(64) // 16] * (1 - shade) + shade
figure, panels = plt.subplots(1, 2, figsize=(11, 5.5), layout="constrained")
for ax, model in zip(
    panels,
    (ParametricUMAP(preset="fast", random_state=0), UMAP(init="random", random_state=0)),
    strict=True,
):
    Z = model.fit_transform(X)
    plots.points(Z, labels=cluster, color_key=list(colors), ax=ax, show_legend=False)
    places = np.array([Z[cluster == number].mean(axis=0) for number in range(64)])
    correlation = metrics.distance_correlation(centres, places, method="spearman")
    name = type(model).__name__
    ax.set_title(name if name == "ParametricUMAP" else "UMAP from random positions")
    print(f"{name}, correlation of distances between centres: {correlation:.3f}")
