"""Density: neighbourhoods that are wide in the data should be wide in the embedding.

In: positions and the logarithm of each row's radius in the data. Out: minus the correlation of this
with the logarithm of the radius in the embedding (densMAP: Narayan, Berger and Cho 2021). The
radius of a free position is that among its neighbours in the embedding (:class:`MapDensity`), that
of a network's output is estimated from the edges of the batch (:class:`DensityTerm`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from neumap.losses.correlation import pearson
from neumap.losses.terms import Batch

__all__ = ["DensityTerm", "MapDensity"]

FindEdges = Callable[
    [NDArray[np.float32]], tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
]

SEARCH_EVERY = 10  # steps; the neighbours in a map change little in fewer
SMALLEST_RADIUS = 1e-8  # inside the logarithm, as in densMAP
SMALLEST_SQUARED_DISTANCE = 1e-8  # d^(2b) has no gradient at 0


class MapDensity:
    """Minus the correlation of log radii in the data and in a map of free positions.

    The radius of a row in the map is ``r_i = log(1e-8 + sum_j w_ij d_ij^2 / sum_j w_ij)`` over its
    neighbours j in the map. umap-learn takes the neighbours in the data. These lie apart where the
    map tears or folds, and then their distance does not tell how crowded the map is.

    Parameters
    ----------
    positions : Tensor of shape (n_rows, n_components)
        All positions, differentiable.
    radii : Tensor of shape (n_rows,)
        Logarithm of the local radius of each row in the data (:func:`neumap.fuzzy.local_radii`);
        rows with NaN are left out.
    find_edges : callable
        Maps positions, an array, to the edges between neighbours in the map: heads, tails and
        weights, each an array of shape (n_edges,).
    weight : float
        Factor in the total.
    var_shift : float, default=0.1
        Added to the variance of the log radii of the map; larger values reward a wider spread of
        densities.
    start : float, default=0.7
        Fraction of the training after which the term acts, ``1 - dens_frac``; until then it is 0.
    """

    name = "density_loss"

    def __init__(
        self,
        positions: Tensor,
        radii: Tensor,
        find_edges: FindEdges,
        *,
        weight: float,
        var_shift: float = 0.1,
        start: float = 0.7,
    ) -> None:
        self.positions = positions
        self.find_edges = find_edges
        self.weight = weight
        self.var_shift = var_shift
        self.start = start
        self.modules: dict[str, nn.Module] = {}
        self.radii = radii
        self._n_calls = 0
        self._searched = self._ends = self._weights = torch.empty(0)

    def state(self) -> dict[str, Any]:
        """Return what the next values depend on, for :meth:`set_state`."""
        return {"n_calls": self._n_calls, "searched": self._searched}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`, with the neighbours that were found then."""
        self._n_calls = int(state["n_calls"])
        if len(state["searched"]):
            self._find_neighbors(state["searched"].to(self.positions).view_as(self.positions))

    def __call__(self, batch: Batch) -> Tensor:
        """Return minus the correlation over all rows."""
        if batch.progress < self.start:
            return batch.coordinates.sum() * 0.0
        if self._n_calls % SEARCH_EVERY == 0:
            self._find_neighbors(self.positions.detach().clone())
        self._n_calls += 1
        heads, tails = functional.embedding(self._ends, self.positions)
        squared = (heads - tails).square().sum(1)  # (n_edges,)
        total = self._sum_of_ends(self._weights * squared)
        mass = self._sum_of_ends(self._weights)
        found = torch.log(SMALLEST_RADIUS + total / mass.clamp_min(torch.finfo(mass.dtype).tiny))
        known = self.radii.isfinite().to(found.dtype)
        wanted = self.radii.nan_to_num().to(found.dtype)
        return -pearson(wanted, found, weights=known, variance_shift=self.var_shift)

    def _find_neighbors(self, positions: Tensor) -> None:
        self._searched = positions
        heads, tails, weights = self.find_edges(positions.cpu().numpy())
        device, dtype = self.positions.device, self.positions.dtype
        self._ends = torch.from_numpy(np.stack([heads, tails])).to(device)
        self._weights = torch.from_numpy(weights).to(device, dtype)

    def _sum_of_ends(self, values: Tensor) -> Tensor:
        zeros = values.new_zeros(len(self.positions))
        return zeros.index_add(0, self._ends[0], values).index_add(0, self._ends[1], values)


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
