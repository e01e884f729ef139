"""Terms of the objective: what each one reads of a batch, its name in the history, its weight.

A term is an object with ``name``, ``weight``, ``modules`` (what it trains in addition to the
embedder) and a call that maps a :class:`Batch` to a scalar. The training step only adds them up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from neumap.data import RowStore
from neumap.losses.umap import Kernel, umap_loss

__all__ = ["Batch", "Softening", "Term", "UmapTerm", "rows_of"]


@dataclass(frozen=True)
class Batch:
    """The input of the terms in one training step.

    Attributes
    ----------
    indices : Tensor of shape (2 n_edges,), int64
        Row numbers, first the heads, then their tails.
    rows : Tensor of shape (2 n_edges, *row_shape) or None
        Network inputs; None for free positions.
    coordinates : Tensor of shape (2 n_edges, n_components)
        Positions, differentiable.
    progress : float
        Fraction of the training that is done, 0 to 1.
    auxiliary : Tensor of shape (2 n_edges, n_auxiliary) or None
        Coordinates in the auxiliary dimensions used early in training, else None. Only the UMAP
        loss uses them.
    softening : float, Tensor or None
        The eps of the UMAP loss at this time, where it is in device memory; by default its
        schedule at `progress`.
    """

    indices: Tensor
    rows: Tensor | None
    coordinates: Tensor
    progress: float
    auxiliary: Tensor | None = None
    softening: float | Tensor | None = None

    @property
    def all_coordinates(self) -> Tensor:
        """Coordinates in all dimensions, the auxiliary ones last."""
        if self.auxiliary is None:
            return self.coordinates
        return torch.cat([self.coordinates, self.auxiliary], dim=1)

    @property
    def n_edges(self) -> int:
        """Number of edges in the batch."""
        return len(self.indices) // 2


def rows_of(
    batch: Batch, store: RowStore | None, term: str, chosen: Tensor | slice = slice(None)
) -> Tensor:
    """Return the encoder's inputs in a batch, or, with free positions, its rows of the store.

    Parameters
    ----------
    batch : Batch
    store : RowStore or None
        Read where the batch has no inputs.
    term : str
        Name of the term in messages.
    chosen : Tensor or slice, optional
        Which rows of the batch; by default all.

    Raises
    ------
    ValueError
        If there are neither inputs nor a store.
    """
    if batch.rows is not None:
        return batch.rows[chosen]
    if store is None:
        raise ValueError(
            f"rows must be a row store for a {term} with free positions, got None. Pass rows=, the "
            "row store of X."
        )
    return store.gather(batch.indices[chosen])


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
        """Modules that this term trains, by name; empty for most terms."""
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """Return the scalar value of the term, unweighted."""
        ...


@dataclass(frozen=True)
class Softening:
    """The schedule of eps: `start` until `hold`, then a geometric decrease to `end`.

    A bounded kernel (eps near 1) lets clusters pass through each other early in training. The exact
    kernel (eps near 0) resolves small distances late in training.
    """

    start: float = 1.0
    end: float = 0.01
    hold: float = 0.5

    def __call__(self, progress: float) -> float:
        """Return eps at this fraction of the training."""
        if progress <= self.hold or self.start <= 0.0:
            return self.start
        done = (progress - self.hold) / (1.0 - self.hold)
        return float(self.start * (self.end / self.start) ** done)


@dataclass(frozen=True)
class UmapTerm:
    """UMAP's cross entropy; see :func:`neumap.losses.umap_loss`."""

    kernel: Kernel
    softening: Softening = Softening()
    n_negatives: int = 32
    name: str = "umap_loss"
    weight: float = 1.0
    modules: dict[str, nn.Module] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the cross entropy of the batch."""
        given = batch.softening
        return umap_loss(
            batch.all_coordinates,
            self.kernel,
            eps=self.softening(batch.progress) if given is None else given,
            n_negatives=self.n_negatives,
        )
