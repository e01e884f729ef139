"""11. A network of each kind.

Plain layers, batch normalisation, convolutions in two dimensions and in one, a recurrent network,
attention and a table of codes, each as you would write it anyway, beside the network that comes
with neumap. Input noise, the optimiser and the length of the training are chosen by what a network
consists of; nothing has to be set.
"""

import time

import torch
from drawing import draw_maps
from images import begin
from torch import Tensor, nn

from neumap import ParametricUMAP, metrics

images, options = begin(__doc__)
height, width, _ = images.dims
n_pixels = height * width


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

maps = {}
for name, (encoder, dims) in networks.items():
    began = time.perf_counter()
    embedder = ParametricUMAP(encoder=encoder, dims=dims, preset=options.preset, random_state=0)
    embedding = embedder.fit_transform(images.train)
    seconds = time.perf_counter() - began
    placed = embedder.transform(images.test)
    accuracy = metrics.knn_accuracy(
        embedding, images.train_labels, embedding_test=placed, labels_test=images.test_labels
    )
    print(f"{name}, held-out 5-NN accuracy: {accuracy:.3f}")
    print(f"{name}, seconds: {seconds:.1f}")
    maps[f"{name}, unseen images"] = (placed, images.test_labels)

draw_maps(options.figures / "11_own_networks.png", maps, columns=4)
