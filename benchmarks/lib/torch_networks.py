"""Networks of PyTorch for MNIST: those of umap-learn's page, and one of each common kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDE, N_COMPONENTS = 28, 2


def conv_encoder(side: int = SIDE, n_components: int = N_COMPONENTS) -> nn.Module:
    """The convolutional encoder of umap-learn's page, channels first."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (side // 4) ** 2, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, n_components),
    )


def conv_decoder() -> nn.Module:
    """The decoder of that page, which upsamples twice."""
    return nn.Sequential(
        nn.Linear(N_COMPONENTS, 256),
        nn.ReLU(),
        nn.Linear(256, 256 * 7 * 7),
        nn.ReLU(),
        nn.Unflatten(1, (256, 7, 7)),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(256, 64, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 1, 3, padding=1),
    )


def mlp() -> nn.Module:
    """Three hidden layers of 100, umap-learn's default."""
    widths = [(SIDE * SIDE, 100), (100, 100), (100, 100)]
    hidden = [layer for i, o in widths for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(100, N_COMPONENTS))


def batch_norm() -> nn.Module:
    """Two hidden layers of 128 with batch normalisation."""
    widths = [(SIDE * SIDE, 128), (128, 128)]
    hidden = [layer for i, o in widths for layer in (nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(128, N_COMPONENTS))


class Recurrent(nn.Module):
    """A GRU that reads an image line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(SIDE, 96, batch_first=True)
        self.output = nn.Linear(96, N_COMPONENTS)

    def forward(self, lines: Tensor) -> Tensor:
        states, _ = self.gru(lines)
        placed: Tensor = self.output(states[:, -1])
        return placed


class Lines(nn.Module):
    """One-dimensional convolutions along the lines of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(SIDE, 64, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(64, 64, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7, 128),
            nn.ReLU(),
            nn.Linear(128, N_COMPONENTS),
        )

    def forward(self, lines: Tensor) -> Tensor:
        placed: Tensor = self.layers(lines.transpose(1, 2))
        return placed


class Attention(nn.Module):
    """A transformer of two layers over pairs of lines."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.read = nn.Linear(2 * SIDE, width)
        self.places = nn.Parameter(0.02 * torch.randn(SIDE // 2, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(width, N_COMPONENTS)

    def forward(self, lines: Tensor) -> Tensor:
        pairs = self.read(lines.reshape(len(lines), SIDE // 2, 2 * SIDE)) + self.places
        placed: Tensor = self.output(self.layers(pairs).mean(1))
        return placed
