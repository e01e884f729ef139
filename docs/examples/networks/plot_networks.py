"""
A network of each kind
======================

Plain layers, batch normalisation, convolutions in two dimensions and in one, a recurrent network,
attention and a table of codes, each as you would write it anyway, beside the network that comes
with neumap. Input noise, the optimiser and the length of the training are chosen by what a network
consists of; nothing has to be set.
"""

# %%
import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from neumap import ParametricUMAP, metrics, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_train, y_new = train_test_split(X, y, stratify=y, random_state=0)
X_train, y_train, X_new, y_new = X_train[:600], y_train[:600], X_new[:200], y_new[:200]
height, width, n_pixels = 8, 8, 64

# %%
# Three modules of our own, and a dict of all networks with the shape of one row for each.


class Recurrent(nn.Module):
    """A GRU over the lines of an image; its last state gives the position."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(width, 64, batch_first=True)
        self.output = nn.Linear(64, 2)

    def forward(self, lines: Tensor) -> Tensor:
        states, _ = self.gru(lines)
        return self.output(states[:, -1])


class Attention(nn.Module):
    """One layer of a transformer over the lines of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(width, 48)
        self.places = nn.Parameter(0.02 * torch.randn(height, 48))
        self.layer = nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, batch_first=True)
        self.output = nn.Linear(48, 2)

    def forward(self, lines: Tensor) -> Tensor:
        return self.output(self.layer(self.read(lines) + self.places).mean(dim=1))


class Codes(nn.Module):
    """A vector for each of 17 grey levels, then plain layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(17, 4)
        self.layers = nn.Sequential(nn.Linear(4 * n_pixels, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, rows: Tensor) -> Tensor:
        levels = (16 * rows).round().long()
        return self.layers(self.table(levels).flatten(1))


torch.manual_seed(0)  # the weights with which the networks start
networks = {
    "neumap's own": (None, None),
    "plain layers": (
        nn.Sequential(
            nn.Linear(n_pixels, 100),
            nn.ReLU(),
            nn.Linear(100, 100),
            nn.ReLU(),
            nn.Linear(100, 2),
        ),
        None,
    ),
    "batch normalisation": (
        nn.Sequential(
            nn.Linear(n_pixels, 100),
            nn.BatchNorm1d(100),
            nn.ReLU(),
            nn.Linear(100, 100),
            nn.BatchNorm1d(100),
            nn.ReLU(),
            nn.Linear(100, 2),
        ),
        None,
    ),
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(64),
            nn.ReLU(),
            nn.Linear(64, 2),
        ),
        (1, height, width),
    ),
    "convolutions in 1-D": (
        nn.Sequential(
            nn.Conv1d(height, 48, 3, padding=1),  # the lines are channels
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(64),
            nn.ReLU(),
            nn.Linear(64, 2),
        ),
        (height, width),
    ),
    "recurrent": (Recurrent(), (height, width)),
    "attention": (Attention(), (height, width)),
    "a table of codes": (Codes(), None),
}

# %%
# Unseen images on each map. The grey levels of the last network start with unrelated vectors, so
# that it has more to learn from few rows.

figure, panels = plt.subplots(2, 4, figsize=(14, 7.2), layout="constrained")
for ax, (name, (encoder, dims)) in zip(panels.flat, networks.items(), strict=True):
    embedder = ParametricUMAP(encoder=encoder, dims=dims, preset="fast", random_state=0)
    embedding = embedder.fit_transform(X_train)
    placed = embedder.transform(X_new)
    accuracy = metrics.knn_accuracy(embedding, y_train, embedding_test=placed, labels_test=y_new)
    print(f"{name}, held-out 5-NN accuracy: {accuracy:.3f}")
    plots.points(placed, labels=y_new, ax=ax, show_legend=ax is panels[0, -1])
    ax.set_title(name)
