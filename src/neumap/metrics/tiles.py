"""Distances from sampled query rows to all reference rows, a bounded tile at a time.

A :class:`Cloud` is one space (the data or the embedding) as the scores see it: the queries, the
reference rows in which their neighbours are searched, and, where a query is itself a reference row,
which one, so that no row is its own neighbour. :func:`distance_tiles` walks any number of clouds
with the same queries at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap.metrics.checks import Floats, Ints, check_between, check_rows, check_same_length

__all__ = [
    "Cloud",
    "distance_tiles",
    "nearest_columns",
    "paired_clouds",
    "scored_rows",
    "single_cloud",
]

# One tile of float64 distances. Smaller tiles slow the matrix product down, larger ones do not fit
# the cache. With 60,000 reference rows a tile has about 130 queries.
TILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Cloud:
    """Queries and reference rows of one space, laid out so that distances are one product.

    ``|q|^2 + |r|^2 - 2 q.r`` is the product of ``[-2q, |q|^2, 1]`` with ``[r, 1, |r|^2]``. The sums
    cost nothing that way; as passes over the tile they would cost more than the product itself.
    """

    left: Floats  # (n_queries, n_columns + 2)
    right: Floats  # (n_reference, n_columns + 2)
    own: Ints | None  # (n_queries,) the reference row each query is, or None for unseen rows

    @property
    def n_queries(self) -> int:
        """How many rows are scored."""
        return len(self.left)

    @property
    def n_candidates(self) -> int:
        """How many reference rows can be a neighbour of a query."""
        return len(self.right) - (self.own is not None)


def scored_rows(n_rows: int, n_samples: int | None, random_state: int) -> Ints:
    """Return sorted row numbers, `n_samples` of them without repetition; None means all."""
    if n_samples is None or n_samples >= n_rows:
        return np.arange(n_rows, dtype=np.int64)
    check_between(n_samples, "n_samples", 1, n_rows, "the number of rows")
    chosen = np.random.default_rng(random_state).choice(n_rows, n_samples, replace=False)
    return np.sort(chosen).astype(np.int64)


def paired_clouds(
    X: ArrayLike,
    embedding: ArrayLike,
    X_reference: ArrayLike | None,
    embedding_reference: ArrayLike | None,
    n_samples: int | None,
    random_state: int,
) -> tuple[Cloud, Cloud]:
    """Return the data and the embedding as clouds with the same sampled queries."""
    if (X_reference is None) != (embedding_reference is None):
        raise ValueError(
            "X_reference and embedding_reference must be given together, got only one of them. "
            "Pass the training rows and their positions, or neither."
        )
    data, positions = check_rows(X, "X"), check_rows(embedding, "embedding")
    check_same_length(data, positions, "X", "embedding")
    rows = scored_rows(len(data), n_samples, random_state)
    if X_reference is None or embedding_reference is None:
        return _cloud(data[rows], data, rows), _cloud(positions[rows], positions, rows, np.float64)

    data_reference = check_rows(X_reference, "X_reference")
    positions_reference = check_rows(embedding_reference, "embedding_reference")
    names = ("X_reference", "embedding_reference")
    check_same_length(data_reference, positions_reference, *names)
    return (
        _cloud(data[rows], data_reference, None),
        _cloud(positions[rows], positions_reference, None, np.float64),
    )


def single_cloud(
    rows: NDArray[np.generic], chosen: Ints, reference: NDArray[np.generic] | None = None
) -> Cloud:
    """Return the chosen rows as queries, among themselves or among unrelated reference rows."""
    if reference is None:
        return _cloud(rows[chosen], rows, chosen, np.float64)
    return _cloud(rows[chosen], reference, None, np.float64)


def _cloud(
    queries: NDArray[np.generic],
    reference: NDArray[np.generic],
    own: Ints | None,
    dtype: type[np.floating[Any]] | None = None,
) -> Cloud:
    if queries.shape[1] != reference.shape[1]:
        raise ValueError(
            "Scored rows and reference rows must have the same number of columns, "
            f"got {queries.shape[1]} and {reference.shape[1]}. Pass both from the same space."
        )
    if dtype is None:
        dtype = np.float64 if reference.dtype == np.float64 else np.float32
    # The squared distance cancels where rows lie far from the origin; moving their mean there keeps
    # the rounding at the scale of the spread.
    mean = reference.mean(axis=0, dtype=np.float64).astype(dtype)
    left, right = _centred(queries, mean), _centred(reference, mean)
    left[:, :-2] *= -2
    left[:, -2], left[:, -1] = left[:, -1], 1
    right[:, -2] = 1
    return Cloud(left, right, own)


def _centred(rows: NDArray[np.generic], mean: Floats) -> Floats:
    """Return rows minus mean, a free column, and their squared norms, with one copy in all."""
    layout = np.empty((len(rows), rows.shape[1] + 2), mean.dtype)
    moved = layout[:, :-2]
    np.subtract(rows, mean, out=moved, casting="unsafe")
    np.einsum("ij,ij->i", moved, moved, out=layout[:, -1])
    return layout


def distance_tiles(*clouds: Cloud) -> Iterator[tuple[Floats, ...]]:
    """Yield squared distances ``(n_tile, n_reference)`` of each cloud, the queries in order.

    A query's distance to itself is infinite; rounding may leave coincident rows slightly below 0.
    Each tile is overwritten by the next one.
    """
    n_queries, n_reference = clouds[0].n_queries, len(clouds[0].right)
    n_tile = min(n_queries, max(1, TILE_BYTES // (8 * n_reference)))
    buffers = [np.empty((n_tile, n_reference), cloud.left.dtype) for cloud in clouds]
    for start in range(0, n_queries, n_tile):
        tile = slice(start, min(start + n_tile, n_queries))
        yield tuple(
            _fill(buffer[: tile.stop - start], cloud, tile)
            for buffer, cloud in zip(buffers, clouds, strict=True)
        )


def _fill(squared: Floats, cloud: Cloud, tile: slice) -> Floats:
    np.matmul(cloud.left[tile], cloud.right.T, out=squared)  # (n_tile, n_reference)
    if cloud.own is not None:
        squared[np.arange(len(squared)), cloud.own[tile]] = np.inf
    return squared


def nearest_columns(distances: Floats, k: int) -> Ints:
    """Return the columns of the k smallest values of each row, in no particular order."""
    # Row by row: one row fits the cache, and over a whole tile argpartition is ten times slower.
    return np.stack([np.argpartition(row, k - 1)[:k] for row in distances])
