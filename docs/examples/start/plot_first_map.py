"""
A map, and new rows on it
=========================

``ParametricUMAP`` trains a neural network that maps data to a UMAP embedding. ``fit_transform``
returns the positions of the training rows. ``transform`` applies the same network to unseen rows,
which takes almost no time.
"""

# %%
# Handwritten digits of 8x8 pixels; a quarter of them is held out.

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from neumap import ParametricUMAP, metrics, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_train, y_new = train_test_split(X, y, stratify=y, random_state=0)

embedder = ParametricUMAP(preset="fast", random_state=0)
Z_train = embedder.fit_transform(X_train)  # (n_train, 2)
Z_new = embedder.transform(X_new)  # (n_new, 2)

# %%
# Left the rows that the network was trained on, right rows that it never saw. Both panels have the
# same scale.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
plots.points(Z_train, labels=y_train, ax=left, show_legend=False)
plots.points(Z_new, labels=y_new, ax=right)
for ax in (left, right):
    ax.set(adjustable="box", xlim=left.get_xlim(), ylim=left.get_ylim())
left.set_title("trained on")
right.set_title("never seen before")

# %%
# How many unseen rows have nearest training rows of the right class?

accuracy = metrics.knn_accuracy(Z_train, y_train, embedding_test=Z_new, labels_test=y_new)
print(f"held-out 5-NN accuracy: {accuracy:.3f}")

# %%
# The loss at each of the ten reports of the training. ``scores`` makes a table of the usual
# measures.

ax = plots.loss(embedder)
scores = metrics.scores(
    X_train, Z_train, labels=y_train, X_test=X_new, embedding_test=Z_new, labels_test=y_new
)
for name, value in scores.items():
    print(f"{name}: {value:.3f}")
