"""Density: neighbourhoods that are wide in the data should be wide in the map.

In: the positions of a batch and the logarithm of each row's radius in the data. Out: minus the
correlation of that with the logarithm of the radius in the map (densMAP: Narayan, Berger and Cho
2021), estimated from the edges of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neumap.losses.correlation import pearson
from neumap.losses.terms import Batch

__all__ = ["DensityTerm"]

SMALLEST_RADIUS = 1e-8  # inside the logarithm, as in densMAP
SMALLEST_SQUARED_DISTANCE = 1e-8  # d^(2b) has no gradient at 0


@dataclass(frozen=True)
class DensityTerm:
    """Minus the correlation of log radii in the data and in the map.

    umap-learn recomputes the radius of every row from all its edges once per epoch:
    ``r_i = log(1e-8 + sum_j q_ij d_ij^2 / sum_j q_ij)`` over all neighbours j of row i. Here only
    the edges of the batch are known. Each edge is a sample for both its ends, a row that occurs
    several times is averaged over its occurrences, and, since edges are drawn by membership,
    close neighbours weigh more. The estimate is noisy, which lowers the correlation reported
    (the value of a full pass over the map is higher) but not the direction in which it improves.
    Larger batches help.

    Parameters
    ----------
    radii : Tensor of shape (n_rows,)
        Logarithm of the local radius of each row in the data (:func:`neumap.fuzzy.local_radii`);
        rows with NaN are left out.
    weight : float
        Factor in the total. umap-learn's ``dens_lambda`` has the same balance with the rest as
        ``2 * dens_lambda`` here: its gradient counts each edge of the symmetric graph twice.
    a, b : float
        Curve of the similarity ``q = 1 / (1 + a d^(2b))``.
    var_shift : float, default=0.1
        Added to the variance of the log radii of the map; larger values reward a wider spread
        of densities.
    start : float, default=0.7
        Share of the training after which the term acts, ``1 - dens_frac``; until then it is 0.
    """

    radii: Tensor
    weight: float
    a: float
    b: float
    var_shift: float = 0.1
    start: float = 0.7
    name: str = field(default="density_loss", init=False)
    modules: dict[str, nn.Module] = field(default_factory=dict, init=False)

    def __call__(self, batch: Batch) -> Tensor:
        """Return minus the correlation over the distinct rows of the batch."""
        if batch.progress < self.start:
            return batch.coordinates.sum() * 0.0
        squared = _squared_lengths(batch)  # (n_edges,)
        similarity = 1.0 / (1.0 + self.a * squared.clamp_min(SMALLEST_SQUARED_DISTANCE) ** self.b)
        group = _groups(batch.indices)
        total = _sum_by(group, (similarity * squared).repeat(2))
        mass = _sum_by(group, similarity.repeat(2))
        found = torch.log(SMALLEST_RADIUS + total / mass.clamp_min(torch.finfo(mass.dtype).tiny))
        original = self.radii.index_select(0, batch.indices).to(found.dtype)
        # Equal rows write equal values, so it does not matter which one is last.
        known = torch.zeros_like(found).index_copy(0, group, original.isfinite().to(found.dtype))
        wanted = torch.zeros_like(found).index_copy(0, group, original.nan_to_num())
        return -pearson(wanted, found, weights=known, variance_shift=self.var_shift)


def _squared_lengths(batch: Batch) -> Tensor:
    heads, tails = batch.coordinates[: batch.n_edges], batch.coordinates[batch.n_edges :]
    return (heads - tails).square().sum(1)


def _groups(indices: Tensor) -> Tensor:
    """Number the distinct rows of a batch, (2 n_edges,) int64 below 2 n_edges.

    The numbers have gaps, which keeps all shapes independent of the batch, as
    ``torch.unique`` would not.
    """
    ordered, _ = indices.sort()
    return torch.searchsorted(ordered, indices)


def _sum_by(group: Tensor, values: Tensor) -> Tensor:
    return torch.zeros_like(values).index_add(0, group, values)
