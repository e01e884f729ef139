"""Terms of the objective: what each one reads of a batch, its name in the history, its weight.

A term is an object with ``name``, ``weight``, ``modules`` (what it trains besides the embedder)
and a call from a :class:`Batch` to a scalar. The training loop adds them up and knows nothing
else about them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from neumap.losses.umap import Kernel, umap_cross_entropy

__all__ = ["Batch", "Softening", "Term", "UmapTerm"]


@dataclass(frozen=True)
class Batch:
    """What the terms see of one training step.

    Attributes
    ----------
    indices : Tensor of shape (2 n_edges,), int64
        Row numbers, heads first, then their tails.
    rows : Tensor of shape (2 n_edges, *row_shape) or None
        Network inputs; None for a free table.
    coordinates : Tensor of shape (2 n_edges, n_components)
        Positions, differentiable.
    progress : float
        Share of the training that is done, 0 to 1.
    spare : Tensor of shape (2 n_edges, n_spare) or None
        Positions in dimensions that the finished map does not have, while the training lends some.
        Distances along edges and between negatives count them; nothing else does.
    """

    indices: Tensor
    rows: Tensor | None
    coordinates: Tensor
    progress: float
    spare: Tensor | None = None

    @property
    def wide_coordinates(self) -> Tensor:
        """Positions in all dimensions, those of the map first."""
        if self.spare is None:
            return self.coordinates
        return torch.cat([self.coordinates, self.spare], dim=1)

    @property
    def n_edges(self) -> int:
        """Edges in the batch."""
        return len(self.indices) // 2


class Term(Protocol):
    """One summand of the objective."""

    @property
    def name(self) -> str:
        """Key in the history, such as ``"umap_loss"``."""
        ...

    @property
    def weight(self) -> float:
        """Factor in the total loss."""
        ...

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Modules this term trains, by name; empty for most."""
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """Return the scalar value of the term, unweighted."""
        ...


@dataclass(frozen=True)
class Softening:
    """The course of eps over training: `start` until `hold`, then geometrically to `end`.

    A bounded kernel first (eps near 1) lets clusters pass through each other; the exact kernel
    last (eps near 0) resolves the near field.
    """

    start: float = 1.0
    end: float = 0.01
    hold: float = 0.5

    def __call__(self, progress: float) -> float:
        """Return eps at this share of the training."""
        if progress <= self.hold or self.start <= 0.0:
            return self.start
        done = (progress - self.hold) / (1.0 - self.hold)
        return float(self.start * (self.end / self.start) ** done)


@dataclass(frozen=True)
class UmapTerm:
    """UMAP's cross entropy; see :func:`neumap.losses.umap_cross_entropy`."""

    kernel: Kernel
    softening: Softening = Softening()
    n_partners: int = 32
    name: str = "umap_loss"
    weight: float = 1.0
    modules: dict[str, nn.Module] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the cross entropy of the batch."""
        return umap_cross_entropy(
            batch.wide_coordinates,
            self.kernel,
            eps=self.softening(batch.progress),
            n_partners=self.n_partners,
        )
