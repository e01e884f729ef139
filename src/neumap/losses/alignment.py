"""Several maps in one training: UMAP's loss in each, and a pull between rows that are related.

In: a batch with edges of every map (:class:`neumap.sampling.JointSampler`). Out: the mean cross
entropy of its edges, and, per edge, the squared distances of its two rows from their partners in
the neighbouring maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from neumap.losses.terms import Batch, Softening
from neumap.losses.umap import Kernel, umap_loss

__all__ = ["AlignmentTerm", "JointUmapTerm"]


@dataclass(frozen=True)
class JointUmapTerm:
    """UMAP's cross entropy of several maps, mean over all edges of a batch.

    Rows repel rows of their own map only: what lies at one place in two maps is not close.

    Parameters
    ----------
    kernels : tuple of Kernel
        One per map.
    sizes : tuple of int
        Edges of each map in a batch, in this order.
    softening : Softening
        See :class:`neumap.losses.terms.UmapTerm`.
    n_negatives : int
        Negatives per row.
    """

    kernels: tuple[Kernel, ...]
    sizes: tuple[int, ...]
    softening: Softening = field(default_factory=Softening)
    n_negatives: int = 32
    name: str = "umap_loss"
    weight: float = 1.0
    modules: dict[str, nn.Module] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean cross entropy per edge."""
        eps = self.softening(batch.progress)
        parts = torch.split(batch.coordinates, [2 * size for size in self.sizes])
        losses = [
            size * umap_loss(part, kernel, eps=eps, n_negatives=self.n_negatives)
            for size, part, kernel in zip(self.sizes, parts, self.kernels, strict=True)
        ]
        return torch.stack(losses).sum() / sum(self.sizes)


@dataclass(frozen=True)
class AlignmentTerm:
    """Squared distances of a batch's rows from their partners in other maps, per edge.

    Like an edge, a row counts as often as it is drawn, so that the pull and UMAP's attraction keep
    their ratio in dense and in sparse regions.

    Parameters
    ----------
    partners : Tensor of shape (n_rows, n_partners), int64
        Rows of the table of positions; -1 where a row has no partner.
    pulls : Tensor of shape (n_partners,)
        Weight of each column.
    positions : callable
        Returns the table of all positions, (n_all, n_components); those that are trained first.
    weight : float
        Factor in the total.
    """

    partners: Tensor
    pulls: Tensor
    positions: Callable[[], Tensor]
    weight: float = 0.01
    name: str = field(default="alignment_loss", init=False)
    modules: dict[str, nn.Module] = field(default_factory=dict, init=False)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the term for one batch; 0 if no row has a partner."""
        found = self.partners.index_select(0, batch.indices)  # (2 n_edges, n_partners)
        there = functional.embedding(found.clamp_min(0), self.positions())
        squared = (batch.coordinates[:, None] - there).square().sum(2)
        return (squared * (found >= 0) * self.pulls).sum() / batch.n_edges
