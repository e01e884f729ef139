"""
Give your t-SNE a transform
===========================

scikit-learn's t-SNE has no ``transform``: a new row means a new map. ``from_embedding`` learns a
network for a map that exists, of whatever method, and places new rows on it.
"""

# %%
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE
from sklearn.model_selection import train_test_split

from neumap import ParametricUMAP, metrics, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_train, y_new = train_test_split(X, y, stratify=y, random_state=0)
tsne_map = TSNE(random_state=0).fit_transform(X_train)

# %%
# The map was not made to be a function of the rows, so that this costs some accuracy. ``"best"`` is
# the right preset for a map that stays; this page takes ``"fast"``.

model = ParametricUMAP.from_embedding(X_train, tsne_map, preset="fast", random_state=0)
learned = model.transform(X_train)
placed = model.transform(X_new)

# %%
figure, panels = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
maps = {
    "t-SNE": (tsne_map, y_train),
    "the same rows, by the network": (learned, y_train),
    "new rows": (placed, y_new),
}
for ax, (title, (positions, labels)) in zip(panels, maps.items(), strict=True):
    plots.points(positions, labels=labels, ax=ax, show_legend=ax is panels[-1])
    ax.set(title=title, adjustable="box", xlim=panels[0].get_xlim(), ylim=panels[0].get_ylim())

# %%
accuracy = metrics.knn_accuracy(tsne_map, y_train, embedding_test=placed, labels_test=y_new)
print(f"held-out 5-NN accuracy on the t-SNE map: {accuracy:.3f}")

away = np.linalg.norm(learned - tsne_map, axis=1) / np.ptp(tsne_map, axis=0).max()
print(f"median distance from the given position, of the width: {np.median(away):.4f}")
