"""
With and without a network
==========================

UMAP itself has no network: it optimises the positions of the rows. With
``parametric_embedding=False`` the same code does this, with the same graph and the same loss, so
that the network is the only difference. ``neumap.UMAP`` is the same under its usual name.
"""

# %%
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from neumap import ParametricUMAP, metrics, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_train, y_new = train_test_split(X, y, stratify=y, random_state=0)

figure, panels = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
for ax, parametric in zip(panels, (True, False), strict=True):
    embedder = ParametricUMAP(parametric_embedding=parametric, preset="fast", random_state=0)
    embedding = embedder.fit_transform(X_train)
    # Without a network, new rows are placed near their neighbours and then optimised.
    placed = embedder.transform(X_new)
    scores = metrics.scores(
        X_train,
        embedding,
        labels=y_train,
        X_test=X_new,
        embedding_test=placed,
        labels_test=y_new,
    )
    name = "a network" if parametric else "free positions"
    print(f"{name}, trustworthiness: {scores['trustworthiness']:.3f}")
    print(f"{name}, held-out 5-NN accuracy: {scores['test_knn_accuracy']:.3f}")
    plots.points(embedding, labels=y_train, ax=ax, show_legend=not parametric)
    ax.set_title(name)
