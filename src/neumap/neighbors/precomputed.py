"""Neighbours from a distance matrix or from neighbour lists that the user already has."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from neumap._structure import check_structure
from neumap._warnings import warn_user
from neumap.neighbors.exact import by_distance, smallest
from neumap.neighbors.graph import Found, NeighborGraph, own_row_first
from neumap.neighbors.rows import is_sparse

__all__ = [
    "neighbors_from_distances",
    "neighbors_from_knn",
    "query_from_distances",
    "symmetric_distances",
]

ROWS_AT_A_TIME = 1024
ROUNDING = 1e-6  # of searches by products, below zero


def neighbors_from_distances(distances: Any, n_neighbors: int) -> NeighborGraph:
    """Read the nearest neighbours of every row off a square matrix of distances.

    Parameters
    ----------
    distances : array or sparse matrix of shape (n, n)
        Infinite entries, and entries that a sparse matrix does not store, are no neighbours. A
        sparse matrix must be symmetric with an empty diagonal.
    n_neighbors : int
        Neighbours per row, itself being one of them.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    ValueError
        If the matrix is not square, has negative or missing entries, or, when sparse, is not
        symmetric or has too few entries in a row.

    Examples
    --------
    >>> matrix = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    >>> neighbors_from_distances(matrix, n_neighbors=2).indices.tolist()
    [[0, 1], [1, 0], [2, 0]]
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(
            "Precomputed distances must be a square matrix, from every row to every row, got shape "
            f"{distances.shape}. Use another metric for rows and columns."
        )
    _check_values(distances)
    if is_sparse(distances):
        _check_sparse(distances)
        indices, found = _sparse_neighbors(distances, n_neighbors - 1)
        own = np.arange(len(indices))[:, None]
        indices = np.concatenate([own, indices], axis=1)
        found = np.concatenate([np.zeros(own.shape, dtype=np.float32), found], axis=1)
    else:
        indices, found = own_row_first(*_dense_neighbors(distances, n_neighbors))
    return NeighborGraph(indices, found, "precomputed", 1.0, 0.0)


def query_from_distances(distances: Any, n_neighbors: int) -> Found:
    """Read the nearest training rows of every new row off a matrix (n_new, n_train).

    Returns
    -------
    indices, distances : arrays of shape (n_new, n_neighbors)
    """
    _check_values(distances)
    if is_sparse(distances):
        return _sparse_neighbors(distances, n_neighbors)
    return _dense_neighbors(distances, n_neighbors)


def neighbors_from_knn(precomputed_knn: Any, n_rows: int, n_neighbors: int) -> NeighborGraph | None:
    """Check neighbours that the user passed, and cut them to ``n_neighbors``.

    Parameters
    ----------
    precomputed_knn : tuple (indices, distances[, index])
        Arrays of shape (n_rows, at least n_neighbors), each row itself being one of its
        neighbours; a search index, if there is one, is not used. -1 marks a missing neighbour.
    n_rows, n_neighbors : int

    Returns
    -------
    NeighborGraph or None
        None, with a warning, where they do not fit the data and must be searched for.

    Raises
    ------
    ValueError
        If the arrays are not a pair of equal shape or point to rows that do not exist.

    Examples
    --------
    >>> knn = np.array([[0, 1], [1, 0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> neighbors_from_knn(knn, n_rows=2, n_neighbors=2).backend
    'precomputed'
    """
    indices, distances = _pair_of_arrays(precomputed_knn)
    if indices.shape[0] != n_rows:
        _warn_ignored(f"one row for each of the {n_rows} rows of X", f"{indices.shape[0]} rows")
        return None
    if indices.shape[1] < n_neighbors:
        wanted = f"at least n_neighbors={n_neighbors} neighbours for each row"
        _warn_ignored(wanted, str(indices.shape[1]))
        return None
    if indices.size and (indices.min() < -1 or indices.max() >= n_rows):
        raise ValueError(
            f"precomputed_knn[0] must hold row numbers from 0 to {n_rows - 1}, or -1 for none, "
            f"got values from {indices.min()} to {indices.max()}. Search again on these rows."
        )
    distances = np.where(indices < 0, np.inf, distances)
    order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
    cut = np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)
    return NeighborGraph(*own_row_first(*cut), "precomputed", None, 0.0)


def _pair_of_arrays(precomputed_knn: Any) -> Found:
    if not isinstance(precomputed_knn, tuple | list) or len(precomputed_knn) not in (2, 3):
        raise ValueError(
            "precomputed_knn must be (indices, distances) or (indices, distances, index), got "
            f"{type(precomputed_knn).__name__}. Pass a tuple of arrays."
        )
    indices, distances = (_as_array(part) for part in precomputed_knn[:2])
    if indices.ndim != 2 or indices.shape != distances.shape:
        raise ValueError(
            "precomputed_knn must hold two arrays of one shape (n_rows, k), got "
            f"{indices.shape} and {distances.shape}. Pass indices and distances of one search."
        )
    if indices.dtype.kind not in "iu" or distances.dtype.kind not in "fiu":
        raise ValueError(
            "precomputed_knn must hold integer indices and distances that are numbers, got "
            f"{indices.dtype} and {distances.dtype}. Pass the results of a search as they are."
        )
    if distances.size and not distances.min() >= -ROUNDING:  # NaN compares as false
        raise ValueError(
            "precomputed_knn[1] must hold distances of zero or more and no NaN, got "
            f"{distances.min()}. Use distances, such as 1 - similarity, with -1 and infinity for "
            "missing neighbours."
        )
    return indices, np.maximum(distances, 0)


def _as_array(part: Any) -> NDArray[Any]:
    try:
        return np.asarray(part.detach().cpu() if isinstance(part, torch.Tensor) else part)
    except ValueError as error:  # rows of several lengths
        raise ValueError(
            "precomputed_knn must hold two arrays of one shape (n_rows, k), got rows of unequal "
            "length. Fill them with -1 and infinity."
        ) from error


def _warn_ignored(wanted: str, got: str) -> None:
    warn_user(
        f"precomputed_knn should have {wanted}, got {got}. It is ignored, and the neighbours are "
        "searched for.",
    )


def _check_values(distances: Any) -> None:
    check_structure(distances, "Precomputed distances")
    values = distances.data if is_sparse(distances) else np.asarray(distances)
    if np.size(values) and not np.min(values) >= 0:  # NaN compares as false
        raise ValueError(
            "Precomputed distances must be zero or more and not NaN, got a smallest value of "
            f"{np.min(values)}. Use infinity for rows that are no neighbours; where "
            "a network reads X, pass the distances as precomputed_distances."
        )


def _check_sparse(distances: Any) -> None:
    ours, theirs = _sorted(distances), _sorted(distances.T)
    same_places = np.array_equal(ours.indptr, theirs.indptr) and np.array_equal(
        ours.indices, theirs.indices
    )
    # Distances that were computed twice may differ in their last digit.
    if not same_places or not np.allclose(ours.data, theirs.data, rtol=1e-6, atol=0.0):
        raise ValueError(
            "A sparse matrix of distances must be symmetric, got one that is not. Use "
            "neumap.neighbors.symmetric_distances(D), which keeps stored zeros as well."
        )
    if np.any(distances.diagonal() != 0):
        raise ValueError(
            "A sparse matrix of distances must have 0 on its diagonal, got "
            f"{distances.diagonal().max()}. Use D.setdiag(0)."
        )


def _sorted(distances: Any) -> scipy.sparse.csr_matrix[Any]:
    csr = scipy.sparse.csr_matrix(distances)
    return csr if csr.has_sorted_indices else csr.sorted_indices()


def symmetric_distances(distances: Any) -> scipy.sparse.csr_matrix[Any]:
    """Store each distance of a sparse matrix in both directions.

    Neighbour graphs hold the distance from a row to its neighbours, often not the way back.
    Arithmetic of scipy drops stored zeros, the distances of rows that are equal.

    Parameters
    ----------
    distances : sparse matrix of shape (n, n)

    Returns
    -------
    CSR matrix of shape (n, n)
        The larger of the two where both directions are stored.

    Examples
    --------
    >>> one_way = scipy.sparse.csr_matrix(([0.0, 2.0], ([0, 1], [1, 2])), shape=(3, 3))
    >>> symmetric_distances(one_way).nnz
    4
    """
    stored = scipy.sparse.coo_matrix(distances)
    heads = np.concatenate([stored.row, stored.col]).astype(np.int64)
    tails = np.concatenate([stored.col, stored.row]).astype(np.int64)
    values = np.concatenate([stored.data, stored.data])
    pairs, first = np.unique(heads * stored.shape[1] + tails, return_inverse=True)
    largest = np.full(len(pairs), -np.inf)
    np.maximum.at(largest, first, values)
    rows, columns = np.divmod(pairs, stored.shape[1])
    kept = largest.astype(stored.dtype)
    return scipy.sparse.csr_matrix((kept, (rows, columns)), shape=stored.shape)


def _dense_neighbors(distances: Any, k: int) -> Found:
    parts = []
    for start in range(0, distances.shape[0], ROWS_AT_A_TIME):
        block = np.array(distances[start : start + ROWS_AT_A_TIME], dtype=np.float32)
        found, index = smallest(torch.from_numpy(block), k)
        parts.append(by_distance(index, found, k))
    indices = torch.cat([index for index, _ in parts]).numpy()
    nearest = torch.cat([found for _, found in parts]).numpy()
    return np.where(np.isinf(nearest), -1, indices), nearest


def _sparse_neighbors(distances: Any, k: int) -> Found:
    """The k smallest stored entries of each row, off the diagonal where it is square."""
    stored = scipy.sparse.coo_matrix(distances)
    is_square = distances.shape[0] == distances.shape[1]
    used = stored.row != stored.col if is_square else np.ones(stored.nnz, dtype=bool)
    rows, columns, values = stored.row[used], stored.col[used], stored.data[used]
    counts = np.bincount(rows, minlength=distances.shape[0])
    if counts.min(initial=k) < k:
        raise ValueError(
            f"Each row of a sparse matrix of distances must hold at least {k} of them, got "
            f"{counts.min()} in row {int(counts.argmin())}. Store more, or lower n_neighbors."
        )
    order = np.lexsort((columns, values, rows))
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = order[first[:, None] + np.arange(k)]
    return columns[chosen].astype(np.int64), values[chosen].astype(np.float32)
