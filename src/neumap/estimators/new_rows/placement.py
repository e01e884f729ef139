"""Placement of new rows among free positions.

A new row starts at the weighted mean of its neighbours' positions. It then moves by the forces of
UMAP: attracted by those neighbours, repelled by a fixed sample of the training rows. The training
rows stay in place and new rows do not interact, so the position of a row does not depend on the
other new rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._random import numpy_generator
from neumap.fuzzy import smooth_knn
from neumap.fuzzy.memberships import directed_memberships
from neumap.losses import Kernel
from neumap.losses.output_metrics import OutputMetric, broadcast
from neumap.neighbors import query_neighbors
from neumap.similarity import similarity

__all__ = ["average_neighbors", "place_rows"]

N_REPELLERS = 512
TILE_ROWS = 512
PAIRS_AT_ONCE = 1 << 20
SMALLEST_SQUARED_DISTANCE = 1e-4
LARGEST_SHARE = 0.05  # of the extent of a map that is not flat, one step in one coordinate
LARGEST_STEP = 4.0  # umap-learn's clip of one pair's force, here of one step


def place_rows(
    indices: NDArray[np.int64],
    distances: NDArray[np.float32],
    embedding: NDArray[np.float32],
    kernel: Kernel,
    *,
    local_connectivity: float = 1.0,
    n_epochs: int = 100,
    seed: int = 42,
    metric: OutputMetric | None = None,
) -> NDArray[np.float32]:
    """Return positions of new rows among placed ones.

    Parameters
    ----------
    indices, distances : arrays of shape (n_new, k)
        Training rows nearest to each new row, by rising distance.
    embedding : array of shape (n_train, n_components)
        Positions of the training rows; rows that have none are NaN and neither pull nor push.
    kernel : Kernel
        Similarity and weight of repulsion.
    local_connectivity : float, default=1.0
        As for the training rows; a new row asks for one connected neighbour less.
    n_epochs : int, default=100
        Steps of gradient descent, with a step size that falls linearly to zero.
    seed : int, default=42
        Chooses the sample of training rows that repel, the same for every new row.
    metric : OutputMetric, optional
        Of the embedding; Euclidean distance by default.

    Returns
    -------
    array of shape (n_new, n_components), float32
        A row at distance zero from a training row gets exactly its position.
    """
    sigmas, rhos = smooth_knn(distances, indices.shape[1], max(0.0, local_connectivity - 1.0))
    strengths = directed_memberships(distances, sigmas, rhos).astype(np.float32)
    strengths[~np.isfinite(embedding[indices]).all(axis=2)] = 0.0
    settle = _settle if metric is None else partial(_settle_by_autograd, metric)
    settle = partial(settle, kernel=kernel, n_epochs=n_epochs)
    positions = _settle_all(indices, strengths, embedding, settle, seed)
    positions = positions if metric is None else metric.written(positions)
    same = distances[:, 0] == 0.0
    positions[same] = embedding[indices[same, 0]]
    return positions


def _settle_all(
    indices: NDArray[np.int64],
    strengths: NDArray[np.float32],
    embedding: NDArray[np.float32],
    settle: Callable[[Tensor, Tensor, Tensor], Tensor],
    seed: int,
) -> NDArray[np.float32]:
    """Settle the new rows, a tile at a time."""
    known = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    generator = numpy_generator(seed, "repellers")
    chosen = generator.choice(known, min(N_REPELLERS, len(known)), replace=False)
    placed = torch.from_numpy(np.nan_to_num(embedding).astype(np.float32, copy=False))
    repellers = placed[torch.from_numpy(np.sort(chosen))]  # (n_repellers, n_components)
    parts = []
    for start in range(0, len(indices), TILE_ROWS):
        tile = slice(start, start + TILE_ROWS)
        neighbors = placed[torch.from_numpy(indices[tile])]  # (tile, k, n_components)
        weights = torch.from_numpy(strengths[tile])
        parts.append(settle(neighbors, weights, repellers))
    return torch.cat(parts).numpy()


def _settle(
    neighbors: Tensor, weights: Tensor, repellers: Tensor, kernel: Kernel, n_epochs: int
) -> Tensor:
    """Move each row of a tile down its own loss."""
    share = _shares(weights)
    positions = (share[:, :, None] * neighbors).sum(1)  # (tile, n_components)
    for epoch in range(n_epochs):
        rate = 1.0 - epoch / n_epochs
        step = _pull(positions, neighbors, share, kernel) - _push(positions, repellers, kernel)
        positions = positions - rate * step.clamp_(-LARGEST_STEP, LARGEST_STEP)
    return positions


def _shares(weights: Tensor) -> Tensor:
    """Return weights that sum to 1 in each row, equal ones where all are 0."""
    return torch.nan_to_num(weights / weights.sum(1, keepdim=True), nan=1.0 / weights.shape[1])


def _settle_by_autograd(
    metric: OutputMetric,
    neighbors: Tensor,
    weights: Tensor,
    repellers: Tensor,
    kernel: Kernel,
    n_epochs: int,
) -> Tensor:
    """Move each row of a tile down its own loss, in a map with another metric.

    A row starts beside its nearest neighbour: a mean of coordinates is no place between points
    where the map closes on itself. Adam's steps are relative to the extent of the map in each
    coordinate, and those of a row do not depend on other rows.
    """
    share = _shares(weights)
    nearest = neighbors[torch.arange(len(neighbors)), weights.argmax(1)]  # (tile, n_components)
    extent = (repellers - repellers.mean(0)).square().mean(0).sqrt()  # (n_components,)
    moved = torch.full_like(nearest, 0.01).requires_grad_(True)  # at 0 no force would act
    optimizer = torch.optim.Adam([moved], lr=LARGEST_SHARE, foreach=False)

    def power(positions: Tensor, others: Tensor) -> Tensor:
        squared = metric(*broadcast(positions[:, None], others)).square()
        return kernel.power(squared.clamp_min(SMALLEST_SQUARED_DISTANCE))

    for epoch in range(n_epochs):
        optimizer.param_groups[0]["lr"] = LARGEST_SHARE * (1.0 - epoch / n_epochs)
        with torch.enable_grad():
            positions = nearest + extent * moved
            attraction = (share * torch.log1p(power(positions, neighbors))).sum()
            repulsion = torch.log1p(power(positions, repellers[None]).reciprocal()).mean(1).sum()
            (moved.grad,) = torch.autograd.grad(attraction + kernel.repulsion * repulsion, moved)
        optimizer.step()
    return (nearest + extent * moved).detach()


def _pull(positions: Tensor, neighbors: Tensor, share: Tensor, kernel: Kernel) -> Tensor:
    """Gradient of the mean attraction to the neighbours."""
    difference = positions[:, None] - neighbors  # (tile, k, n_components)
    squared = difference.square().sum(2).clamp_min_(SMALLEST_SQUARED_DISTANCE)
    s = kernel.power(squared)
    slope = share * kernel.attraction_slope_(squared, s, s.clone())
    return (slope[:, :, None] * difference).sum(1)


def _push(positions: Tensor, repellers: Tensor, kernel: Kernel) -> Tensor:
    """Gradient of the mean attraction's counterpart, away from the sampled training rows."""
    squared = torch.zeros(len(positions), len(repellers))
    for axis in range(positions.shape[1]):
        squared += (positions[:, axis, None] - repellers[:, axis]).square_()
    squared.clamp_min_(SMALLEST_SQUARED_DISTANCE)
    s = kernel.power(squared)
    slope = kernel.repulsion_slope_(squared, s, s.clone(), kernel.repulsion / len(repellers))
    # Not by a product of matrices, which rounds a single row in another way than one of several:
    # where two places are equally good, rounding decides between them.
    shared = torch.empty_like(slope)  # instead of as much memory for each axis
    towards = [torch.mul(slope, axis, out=shared).sum(1) for axis in repellers.t().contiguous()]
    return torch.stack(towards, 1) - positions * slope.sum(1, keepdim=True)


def average_neighbors(
    positions: NDArray[np.float32],
    embedding: NDArray[np.float32],
    training: Any,
    kernel: Kernel,
    n_neighbors: int,
    metric: OutputMetric | None = None,
) -> NDArray[np.float32]:
    """Return the weighted mean of the training rows around each position.

    Parameters
    ----------
    positions : array of shape (n, n_components)
        Where rows are wanted.
    embedding : array of shape (n_train, n_components)
        Positions of the training rows, NaN for rows that have none.
    training : array or sparse matrix of shape (n_train, n_features)
        The training rows.
    kernel : Kernel
        Its similarity gives the weights.
    n_neighbors : int
        Training rows averaged.
    metric : OutputMetric, optional
        Of the embedding; Euclidean distance by default.

    Returns
    -------
    array of shape (n, n_features), float32
    """
    known = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    k = min(n_neighbors, len(known))
    if metric is None:
        found, distances = query_neighbors(embedding[known], positions, k)
    else:
        found, distances = _nearest_in(metric, embedding[known], positions, k)
    weights = similarity(distances, kernel.a, kernel.b)
    weights /= weights.sum(axis=1, keepdims=True)
    heads = np.repeat(np.arange(len(positions)), k)
    shape = (len(positions), training.shape[0])
    mixing = scipy.sparse.csr_matrix((weights.ravel(), (heads, known[found].ravel())), shape=shape)
    rows: Any = mixing @ training
    dense = rows.toarray() if hasattr(rows, "toarray") else rows
    return np.asarray(dense, dtype=np.float32)


def _nearest_in(
    metric: OutputMetric, embedding: NDArray[np.float32], positions: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest of the placed rows to each position, compared with all of them."""
    tile = max(1, PAIRS_AT_ONCE // len(embedding))
    parts = []
    for start in range(0, len(positions), tile):
        some = positions[start : start + tile, None].astype(np.float32)
        distances = torch.from_numpy(metric.between(some, embedding[None]))
        parts.append(distances.topk(k, dim=1, largest=False, sorted=True))
    found = torch.cat([part.indices for part in parts]).numpy()
    return found, torch.cat([part.values for part in parts]).numpy()
