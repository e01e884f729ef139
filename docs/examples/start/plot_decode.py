"""
From positions back to images
=============================

With ``parametric_reconstruction=True`` a second network learns to decode positions. It does not
affect the map. Any point of the plane can be decoded, also one between the rows.
"""

# %%
# ``"conv"`` is a small convolutional network; you can pass any PyTorch or Keras network instead.
# The rows in ``reconstruction_validation`` are decoded at each report, so that the history shows
# the error on images that the decoder was not trained on.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from neumap import ParametricUMAP, metrics, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_train, y_new = train_test_split(X, y, stratify=y, random_state=0)

embedder = ParametricUMAP(
    encoder="conv",
    decoder="conv",
    dims=(8, 8, 1),
    parametric_reconstruction=True,
    reconstruction_validation=X_new,
    preset="fast",
    random_state=0,
)
embedder.fit(X_train)

# %%
# Unseen digits, and below each the image decoded from its two coordinates.

decoded = embedder.inverse_transform(embedder.transform(X_new))  # grey values, as in the data
figure = plots.reconstruction(X_new, decoded, dims=(8, 8))
print(f"test squared error per pixel: {metrics.reconstruction_error(X_new, decoded):.4f}")
print(f"test variance explained: {metrics.reconstruction_r2(X_new, decoded):.3f}")

# %%
# The map itself, decoded on a grid.

# sphinx_gallery_thumbnail_number = 2
ax = plots.inverse_grid(embedder, dims=(8, 8), n=16, width=600, height=600)

# %%
# A walk from the zeros to the ones: ten points on a straight line, decoded below. Above each stands
# the training row that is nearest to it on the map.

zero, one = (embedder.embedding_[y_train == digit].mean(axis=0) for digit in (0, 1))
line = np.linspace(zero, one, 10).astype(np.float32)
steps = embedder.inverse_transform(line)
nearest = np.linalg.norm(embedder.embedding_ - line[:, None], axis=2).argmin(axis=1)
figure = plots.reconstruction(X_train[nearest], steps, dims=(8, 8))

# %%
# Cross entropies of the graph, and of the pixels of training and validation images.

ax = plots.loss(
    embedder, components=["umap_loss", "reconstruction_loss", "val_reconstruction_loss"]
)
