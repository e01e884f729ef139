"""
Distances between clusters
==========================

UMAP preserves neighbours; the distance between two clusters means little. An additional loss, with
weight ``global_correlation_loss_weight``, raises the correlation between distances on the map and
distances in the data. With larger weights the arrangement of clusters follows the data more
closely.
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

figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for ax, weight in zip(panels, (0, 0.1, 1), strict=True):
    embedder = ParametricUMAP(global_correlation_loss_weight=weight, preset="fast", random_state=0)
    embedding = embedder.fit_transform(X_train)
    placed = embedder.transform(X_new)
    accuracy = metrics.knn_accuracy(embedding, y_train, embedding_test=placed, labels_test=y_new)
    # Over pairs of held-out rows.
    correlation = metrics.distance_correlation(X_new, placed, method="pearson")
    print(f"weight {weight}, held-out distance correlation: {correlation:.3f}")
    print(f"weight {weight}, held-out 5-NN accuracy: {accuracy:.3f}")
    plots.points(embedding, labels=y_train, ax=ax, show_legend=weight == 1)
    ax.set_title(f"weight {weight}\ndistances correlate by {correlation:.2f}")
