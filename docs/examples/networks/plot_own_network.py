"""
Your own network, in PyTorch and in Keras
=========================================

Any network that maps a batch of rows to a batch of positions works. ``dims`` is the shape of one
row that the network expects; the data stay flat in ``fit`` and ``transform``. The network is
copied, so that the one you pass keeps its weights.
"""

# %%
import keras
import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from neumap import ParametricUMAP, metrics, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_train, y_new = train_test_split(X, y, stratify=y, random_state=0)
height, width, channels = 8, 8, 1

# %%
# PyTorch puts the channels of an image first.

torch.manual_seed(0)
torch_encoder = nn.Sequential(
    nn.Conv2d(channels, 32, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 64, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(64 * (height // 4) * (width // 4), 128),
    nn.ReLU(),
    nn.Linear(128, 2),
)

# %%
# Keras puts them last. Its networks run on its torch backend (``KERAS_BACKEND=torch``).

keras.utils.set_random_seed(0)
keras_encoder = keras.Sequential(
    [
        keras.Input((height, width, channels)),
        keras.layers.Conv2D(32, kernel_size=3, strides=2, padding="same", activation="relu"),
        keras.layers.Conv2D(64, kernel_size=3, strides=2, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(2),
    ]
)

# %%
networks = {
    "PyTorch": (torch_encoder, (channels, height, width)),
    "Keras": (keras_encoder, (height, width, channels)),
}
figure, panels = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
for ax, (name, (encoder, dims)) in zip(panels, networks.items(), strict=True):
    embedder = ParametricUMAP(encoder=encoder, dims=dims, preset="fast", random_state=0)
    embedding = embedder.fit_transform(X_train)
    placed = embedder.transform(X_new)
    accuracy = metrics.knn_accuracy(embedding, y_train, embedding_test=placed, labels_test=y_new)
    print(f"{name}, held-out 5-NN accuracy: {accuracy:.3f}")
    plots.points(placed, labels=y_new, ax=ax, show_legend=name == "Keras")
    ax.set_title(f"{name}, unseen images")
