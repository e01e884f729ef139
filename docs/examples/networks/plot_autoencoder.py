"""
An autoencoder with a UMAP embedding as its code
================================================

With ``autoencoder_loss=True`` the encoder is trained on two losses, that of the graph and that of
the reconstruction. The map then keeps the information that the decoder needs.
``parametric_reconstruction_loss_weight`` is the weight of the reconstruction.
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
for ax, joint in zip(panels, (False, True), strict=True):
    embedder = ParametricUMAP(
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn="mse",
        parametric_reconstruction_loss_weight=50.0,
        autoencoder_loss=joint,
        preset="fast",
        random_state=0,
    )
    embedding = embedder.fit_transform(X_train)
    placed = embedder.transform(X_new)
    error = metrics.reconstruction_error(X_new, embedder.inverse_transform(placed))
    accuracy = metrics.knn_accuracy(embedding, y_train, embedding_test=placed, labels_test=y_new)
    name = "trained on both losses" if joint else "trained on UMAP's loss"
    print(f"encoder {name}, test squared error per pixel: {error:.4f}")
    print(f"encoder {name}, held-out 5-NN accuracy: {accuracy:.3f}")
    plots.points(embedding, labels=y_train, ax=ax, show_legend=joint)
    ax.set_title(f"encoder {name}\ntest error {error:.4f} per pixel")
