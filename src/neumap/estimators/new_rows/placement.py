"""Placement of new rows among free positions.

A new row starts at the weighted mean of its neighbours' positions. It then moves by the forces of
UMAP: attracted by those neighbours, repelled by a fixed sample of the training rows. The training
rows stay in place and new rows do not interact, so the position of a row does not depend on the
other new rows.
"""

from __future__ import annotations

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
from neumap.neighbors import query_neighbors
from neumap.similarity import similarity

__all__ = ["average_neighbors", "place_rows"]

N_REPELLERS = 512
TILE_ROWS = 2048
SMALLEST_SQUARED_DISTANCE = 1e-4
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

    Returns
    -------
    array of shape (n_new, n_components), float32
        A row at distance zero from a training row gets exactly its position.
    """
    sigmas, rhos = smooth_knn(distances, indices.shape[1], max(0.0, local_connectivity - 1.0))
    strengths = directed_memberships(distances, sigmas, rhos).astype(np.float32)
    strengths[~np.isfinite(embedding[indices]).all(axis=2)] = 0.0
    positions = _settle_all(indices, strengths, embedding, kernel, n_epochs, seed)
    same = distances[:, 0] == 0.0
    positions[same] = embedding[indices[same, 0]]
    return positions


def _settle_all(
    indices: NDArray[np.int64],
    strengths: NDArray[np.float32],
    embedding: NDArray[np.float32],
    kernel: Kernel,
    n_epochs: int,
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
        parts.append(_settle(neighbors, weights, repellers, kernel, n_epochs))
    return torch.cat(parts).numpy()


def _settle(
    neighbors: Tensor, weights: Tensor, repellers: Tensor, kernel: Kernel, n_epochs: int
) -> Tensor:
    """Move each row of a tile down its own loss."""
    share = torch.nan_to_num(weights / weights.sum(1, keepdim=True), nan=1.0 / weights.shape[1])
    positions = (share[:, :, None] * neighbors).sum(1)  # (tile, n_components)
    for epoch in range(n_epochs):
        rate = 1.0 - epoch / n_epochs
        step = _pull(positions, neighbors, share, kernel) - _push(positions, repellers, kernel)
        positions = positions - rate * step.clamp_(-LARGEST_STEP, LARGEST_STEP)
    return positions


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
    return slope @ repellers - positions * slope.sum(1, keepdim=True)


def average_neighbors(
    positions: NDArray[np.float32],
    embedding: NDArray[np.float32],
    training: Any,
    kernel: Kernel,
    n_neighbors: int,
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

    Returns
    -------
    array of shape (n, n_features), float32
    """
    known = np.flatnonzero(np.isfinite(embedding).all(axis=1))
    k = min(n_neighbors, len(known))
    found, distances = query_neighbors(embedding[known], positions, k)
    weights = similarity(distances, kernel.a, kernel.b)
    weights /= weights.sum(axis=1, keepdims=True)
    heads = np.repeat(np.arange(len(positions)), k)
    shape = (len(positions), training.shape[0])
    mixing = scipy.sparse.csr_matrix((weights.ravel(), (heads, known[found].ravel())), shape=shape)
    rows: Any = mixing @ training
    dense = rows.toarray() if hasattr(rows, "toarray") else rows
    return np.asarray(dense, dtype=np.float32)
