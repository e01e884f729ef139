"""Temporary: containers, until data has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

__all__ = ["DistinctRows", "distinct_rows", "row_count", "same_rows", "stack_rows"]


@dataclass(frozen=True)
class DistinctRows:
    """Which rows differ: ``X[first]`` are the distinct ones, ``X[first][inverse]`` all of them."""

    first: NDArray[np.int64]
    inverse: NDArray[np.int64]


def distinct_rows(X: Any) -> DistinctRows:
    """Find the distinct rows of an array or sparse matrix, in order of first appearance.

    Raises
    ------
    ValueError
        For data that are not in memory.
    """
    if scipy.sparse.issparse(X):
        rows: Any = X
        return _distinct(_row_texts(rows.tocsr()))
    if not isinstance(X, np.ndarray | torch.Tensor):
        raise ValueError(
            f"unique=True needs an array or a sparse matrix, got {type(X).__name__}. Load the data "
            "into memory, or leave unique=False."
        )
    flat = np.ascontiguousarray(np.asarray(X)).reshape(len(X), -1)
    as_bytes = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    return _distinct(as_bytes)


def _row_texts(X: Any) -> NDArray[Any]:
    """Return each sparse row's columns and values as one comparable object."""
    X.sum_duplicates()
    bounds = zip(X.indptr[:-1], X.indptr[1:], strict=True)
    rows = [X.indices[i:j].tobytes() + b"|" + X.data[i:j].tobytes() for i, j in bounds]
    return np.array(rows, dtype=object)


def _distinct(keys: NDArray[Any]) -> DistinctRows:
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return DistinctRows(first[order].astype(np.int64), rank[inverse.ravel()].astype(np.int64))


def row_count(X: Any) -> int:
    """Return the number of rows of checked data."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def same_rows(X: Any, other: Any) -> bool:
    """Whether two checked inputs in memory hold the same rows in the same order."""
    if X is other:
        return True
    if type(X) is not type(other) or getattr(X, "shape", None) != getattr(other, "shape", ()):
        return False
    if scipy.sparse.issparse(X):
        return bool(abs(X - other).nnz == 0)
    if isinstance(X, torch.Tensor):
        return torch.equal(X, other)
    return isinstance(X, np.ndarray) and np.array_equal(X, other)


def stack_rows(above: Any, below: Any) -> Any:
    """Return the rows of one data set with those of another after them.

    Raises
    ------
    ValueError
        For data that are not in memory.
    """
    if scipy.sparse.issparse(above):
        blocks: Any = [above, below]
        return scipy.sparse.vstack(blocks, format="csr")
    if isinstance(above, torch.Tensor):
        return torch.cat([above, torch.as_tensor(below, dtype=above.dtype, device=above.device)])
    if isinstance(above, np.ndarray):
        return np.concatenate([above, np.asarray(below, dtype=above.dtype)])
    raise ValueError(
        f"Landmarks can be joined with arrays, tensors and sparse matrices, got "
        f"{type(above).__name__}. Load the data into memory first."
    )
