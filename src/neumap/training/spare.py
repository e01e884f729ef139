"""Spare dimensions: room in which clusters pass each other while the map is being formed.

On a plane, two groups that start on the wrong sides of a third cannot get past it: repulsion holds
them apart, and a network that has put them there keeps them. With two more dimensions
there is a way around. These shrink to nothing by the middle of the training, so that the map
itself has only the dimensions that were asked for. They start at half the size of the others:
enough to get past, while what is far apart is told mainly by the map's own dimensions.

Starting in more dimensions than the result has is known from multidimensional scaling and
stochastic neighbour embedding. In the same spirit, Vladymyrov (2019, "No pressure! Addressing the
problem of local minima in manifold learning algorithms") gives stuck points a dimension more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SpareDimensions"]


class SpareDimensions(nn.Module):
    """A second last layer, dropped after training.

    Parameters
    ----------
    n_features : int
        Width of the encoder's last hidden layer.
    n_spare : int, default=2
        Dimensions besides those of the map.
    start : float, default=0.5
        Factor on the spare coordinates at the start of the training.
    until : float, default=0.5
        Share of the training at which nothing is left of them.
    """

    def __init__(
        self, n_features: int, n_spare: int = 2, *, start: float = 0.5, until: float = 0.5
    ) -> None:
        super().__init__()
        self.n_spare = n_spare
        self.start = start
        self.until = until
        self.layer = nn.Linear(n_features, n_spare)
        nn.init.kaiming_normal_(self.layer.weight, nonlinearity="linear")
        nn.init.zeros_(self.layer.bias)

    def share(self, progress: float) -> float:
        """Return the factor on the spare coordinates: `start` at first, 0 from `until` on."""
        return self.start * max(0.0, 1.0 - progress / self.until)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (batch, n_features) to spare coordinates (batch, n_spare), unshrunk."""
        coordinates: Tensor = self.layer(features.to(self.layer.weight.dtype))
        return coordinates

    def widen(self, weight: Tensor, bias: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of one layer that gives map and spare coordinates."""
        return (
            torch.cat([weight, self.layer.weight * share]),
            torch.cat([bias, self.layer.bias * share]),
        )
