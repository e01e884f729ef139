"""Density: neighbourhoods that are wide in the data should be wide in the embedding.

In: the positions of a batch and the logarithm of each row's radius in the data. Out: minus the
correlation of this with the logarithm of the radius in the embedding (densMAP: Narayan, Berger and
Cho 2021), estimated from the edges of the batch.
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
    """Minus the correlation of log radii in the data and in the embedding.

    umap-learn recomputes the radius of every row from all its edges once per epoch:
    ``r_i = log(1e-8 + sum_j q_ij d_ij^2 / sum_j q_ij)`` over all neighbours j of row i. Here only
    the edges of the batch are known. Each edge is a sample for both its ends. A row that occurs
    several times is averaged over its occurrences. Since edges are drawn in proportion to their
    membership, close neighbours have a larger weight. The estimate is noisy. Noise lowers the
    reported correlation (computed on the whole embedding, it is higher) but does not change the
    direction in which it improves. Larger batches reduce it.

    Parameters
    ----------
    radii : Tensor of shape (n_rows,)
        Logarithm of the local radius of each row in the data (:func:`neumap.fuzzy.local_radii`);
        rows with NaN are left out.
    weight : float
        Factor in the total. umap-learn's ``dens_lambda`` corresponds to ``2 * dens_lambda`` here,
        since its gradient counts each edge of the symmetric graph twice.
    a, b : float
        Curve of the similarity ``q = 1 / (1 + a d^(2b))``.
    var_shift : float, default=0.1
        Added to the variance of the log radii of the embedding; larger values reward a wider
        spread of densities.
    start : float, default=0.7
        Fraction of the training after which the term acts, ``1 - dens_frac``; until then it is 0.
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
        # Occurrences of a row write equal values, so their order does not matter.
        known = torch.zeros_like(found).index_copy(0, group, original.isfinite().to(found.dtype))
        wanted = torch.zeros_like(found).index_copy(0, group, original.nan_to_num())
        return -pearson(wanted, found, weights=known, variance_shift=self.var_shift)


def _squared_lengths(batch: Batch) -> Tensor:
    heads, tails = batch.coordinates[: batch.n_edges], batch.coordinates[batch.n_edges :]
    return (heads - tails).square().sum(1)


def _groups(indices: Tensor) -> Tensor:
    """Number the distinct rows of a batch, (2 n_edges,) int64 below 2 n_edges.

    The numbers have gaps. Unlike with ``torch.unique``, all shapes are independent of the batch.
    """
    ordered, _ = indices.sort()
    return torch.searchsorted(ordered, indices)


def _sum_by(group: Tensor, values: Tensor) -> Tensor:
    return torch.zeros_like(values).index_add(0, group, values)
