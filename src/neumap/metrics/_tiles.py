"""Distances from sampled query rows to all reference rows, a bounded tile at a time.

A :class:`Cloud` is one space (the data or the embedding) as the scores see it: the queries, the
reference rows their neighbours are sought among, and, where a query is itself a reference row,
which one, so that no row is its own neighbour. :func:`distance_tiles` walks any number of clouds
with the same queries side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neumap.metrics._checks import Floats, Ints, as_rows, check_between, check_same_length

__all__ = [
    "Cloud",
    "distance_tiles",
    "nearest_columns",
    "paired_clouds",
    "sample_rows",
    "single_cloud",
]

# One tile of float64 distances. Smaller tiles starve the matrix product, larger ones leave the
# cache: 60,000 reference rows give about 130 queries a tile.
TILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Cloud:
    """Queries and reference rows of one space, both moved so that the reference mean is zero."""

    queries: Floats  # (n_queries, n_columns)
    reference: Floats  # (n_reference, n_columns)
    own: Ints | None  # (n_queries,) the reference row each query is, or None for unseen rows

    @property
    def n_candidates(self) -> int:
        """How many reference rows can be a neighbour of a query."""
        return len(self.reference) - (self.own is not None)


def sample_rows(n_rows: int, n_samples: int | None, random_state: int) -> Ints:
    """Return sorted row numbers, `n_samples` of them without repetition; None means all."""
    if n_samples is None or n_samples >= n_rows:
        return np.arange(n_rows, dtype=np.int64)
    check_between(n_samples, "n_samples", 1, n_rows, "the number of rows")
    chosen = np.random.default_rng(random_state).choice(n_rows, n_samples, replace=False)
    return np.sort(chosen).astype(np.int64)


def paired_clouds(
    X: npt.ArrayLike,
    embedding: npt.ArrayLike,
    X_reference: npt.ArrayLike | None,
    embedding_reference: npt.ArrayLike | None,
    n_samples: int | None,
    random_state: int,
) -> tuple[Cloud, Cloud]:
    """Return the data and the embedding as clouds with the same sampled queries."""
    if (X_reference is None) != (embedding_reference is None):
        raise ValueError(
            "X_reference and embedding_reference must be given together; got only one of them. "
            "Pass the training rows and their positions, or neither."
        )
    data, positions = as_rows(X, "X"), as_rows(embedding, "embedding")
    check_same_length(data, positions, "X", "embedding")
    rows = sample_rows(len(data), n_samples, random_state)
    if X_reference is None or embedding_reference is None:
        return _cloud(data[rows], data, rows), _cloud(positions[rows], positions, rows, np.float64)

    data_reference = as_rows(X_reference, "X_reference")
    positions_reference = as_rows(embedding_reference, "embedding_reference")
    names = ("X_reference", "embedding_reference")
    check_same_length(data_reference, positions_reference, *names)
    return (
        _cloud(data[rows], data_reference, None),
        _cloud(positions[rows], positions_reference, None, np.float64),
    )


def single_cloud(
    rows: npt.NDArray[np.generic], chosen: Ints, reference: npt.NDArray[np.generic] | None = None
) -> Cloud:
    """Return the chosen rows as queries, among themselves or among unrelated reference rows."""
    if reference is None:
        return _cloud(rows[chosen], rows, chosen, np.float64)
    return _cloud(rows[chosen], reference, None, np.float64)


def _cloud(
    queries: npt.NDArray[np.generic],
    reference: npt.NDArray[np.generic],
    own: Ints | None,
    dtype: type[np.floating[Any]] | None = None,
) -> Cloud:
    if queries.shape[1] != reference.shape[1]:
        raise ValueError(
            "Scored rows and reference rows must have as many columns; "
            f"got {queries.shape[1]} and {reference.shape[1]}. Pass both from the same space."
        )
    if dtype is None:
        dtype = np.float64 if reference.dtype == np.float64 else np.float32
    # |q|^2 + |r|^2 - 2 q.r cancels when the rows lie far from the origin; moving the mean there
    # keeps the rounding at the scale of the spread.
    mean = reference.mean(axis=0, dtype=np.float64).astype(dtype)

    def centred(rows: npt.NDArray[np.generic]) -> Floats:
        moved: Floats = np.subtract(rows, mean, dtype=dtype, casting="unsafe")
        return moved

    return Cloud(centred(queries), centred(reference), own)


def distance_tiles(*clouds: Cloud) -> Iterator[tuple[Floats, ...]]:
    """Yield squared distances ``(n_tile, n_reference)`` of each cloud, the queries in order.

    A query's distance to itself is infinite.
    """
    norms = [np.einsum("ij,ij->i", cloud.reference, cloud.reference) for cloud in clouds]
    n_queries, n_reference = len(clouds[0].queries), len(clouds[0].reference)
    n_tile = max(1, TILE_BYTES // (8 * n_reference))
    for start in range(0, n_queries, n_tile):
        tile = slice(start, start + n_tile)
        yield tuple(_tile(cloud, norm, tile) for cloud, norm in zip(clouds, norms, strict=True))


def _tile(cloud: Cloud, reference_norms: Floats, tile: slice) -> Floats:
    queries = cloud.queries[tile]
    squared = queries @ cloud.reference.T  # (n_tile, n_reference)
    squared *= -2
    squared += reference_norms
    squared += np.einsum("ij,ij->i", queries, queries)[:, None]
    np.maximum(squared, 0, out=squared)
    if cloud.own is not None:
        squared[np.arange(len(queries)), cloud.own[tile]] = np.inf
    return squared


def nearest_columns(distances: Floats, k: int) -> Ints:
    """Return the columns of the k smallest values of each row, in no particular order."""
    if k == distances.shape[1]:
        return np.tile(np.arange(k, dtype=np.int64), (len(distances), 1))
    return np.argpartition(distances, k - 1, axis=1)[:, :k]
