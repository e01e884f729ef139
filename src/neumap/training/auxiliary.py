"""Auxiliary dimensions: extra output dimensions that shrink to zero during training.

In two dimensions, a cluster that starts on the wrong side of another one cannot get past it:
repulsion keeps them apart, and a network keeps clusters where it has put them. Two more dimensions
open a way around. Their coordinates are scaled down to zero by the middle of the training, so the
final embedding has only the dimensions that were asked for. They start at half the scale of the
others: enough for clusters to pass, while large distances still depend mainly on the dimensions of
the embedding.

Starting in more dimensions than the result has is known from multidimensional scaling and
stochastic neighbour embedding. In the same spirit, Vladymyrov (2019, "No pressure! Addressing the
problem of local minima in manifold learning algorithms") gives stuck points one more dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AuxiliaryDimensions"]


class AuxiliaryDimensions(nn.Module):
    """A second output layer, dropped after training.

    Parameters
    ----------
    n_features : int
        Width of the encoder's last hidden layer.
    n_auxiliary : int, default=2
        Number of auxiliary dimensions.
    start : float, default=0.5
        Scale of the auxiliary coordinates at the start of training.
    until : float, default=0.5
        Fraction of the training after which the scale is zero.
    """

    def __init__(
        self, n_features: int, n_auxiliary: int = 2, *, start: float = 0.5, until: float = 0.5
    ) -> None:
        super().__init__()
        self.n_auxiliary = n_auxiliary
        self.start = start
        self.until = until
        self.layer = nn.Linear(n_features, n_auxiliary)
        nn.init.kaiming_normal_(self.layer.weight, nonlinearity="linear")
        nn.init.zeros_(self.layer.bias)

    def scale(self, progress: float) -> float:
        """Return the scale of the auxiliary coordinates: `start` at first, 0 from `until` on."""
        return self.start * max(0.0, 1.0 - progress / self.until)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (batch, n_features) to unscaled coordinates (batch, n_auxiliary)."""
        coordinates: Tensor = self.layer(features.to(self.layer.weight.dtype))
        return coordinates

    def extend(self, weight: Tensor, bias: Tensor, scale: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias of one layer that computes all coordinates, auxiliary ones last.

        Parameters
        ----------
        weight, bias : Tensor
            Of the output layer, (n_components, n_features) and (n_components,).
        scale : float or scalar Tensor
            Scale of the auxiliary coordinates.
        """
        return (
            torch.cat([weight, self.layer.weight * scale]),
            torch.cat([bias, self.layer.bias * scale]),
        )
