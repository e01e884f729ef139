"""Rows of checked data as a whole: count, select, compare, join, and find the distinct ones.

Checked data are an array, a CSR matrix, a torch tensor, an array on disk or a torch Dataset (see
`check_input`). These functions take any of them, so that no other room asks which one it has.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.utils.data import Subset

from neumap._views import tensor_view
from neumap.data.disk import read_rows
from neumap.data.kinds import is_dataset, is_on_disk, is_row_files

__all__ = ["DistinctRows", "distinct", "like", "row_count", "same", "stack", "take"]


@dataclass(frozen=True)
class DistinctRows:
    """Which rows differ: ``X[first]`` are the distinct ones, ``X[first][inverse]`` all of them.

    Attributes
    ----------
    first : array of shape (n_distinct,), int64
        Where each distinct row appears first, in ascending order.
    inverse : array of shape (n_rows,), int64
        The number of each row's distinct row.
    """

    first: NDArray[np.int64]
    inverse: NDArray[np.int64]


def row_count(X: Any) -> int:
    """Return the number of rows of checked data.

    Examples
    --------
    >>> row_count(np.zeros((3, 2)))
    3
    """
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def take(X: Any, rows: NDArray[np.integer[Any]] | slice) -> Any:
    """Select rows of checked data.

    Parameters
    ----------
    X : checked data
        Of any kind.
    rows : array of int or slice
        Row numbers in any order, repeats and negative numbers allowed, or a range of rows.

    Returns
    -------
    checked data
        Of the same kind. Rows of an array on disk are read into memory; rows of a Dataset stay a
        Dataset, which reads them when they are used.

    Examples
    --------
    >>> take(np.array([[0.0], [1.0], [2.0]]), np.array([2, 0])).tolist()
    [[2.0], [0.0]]
    """
    if is_dataset(X):
        return Subset(X, np.arange(row_count(X))[rows].tolist())
    if not is_on_disk(X) or isinstance(rows, slice):
        return X[rows]
    ascending, where = np.unique(np.arange(row_count(X))[rows], return_inverse=True)
    return read_rows(X, ascending)[where]


def same(X: Any, other: Any) -> bool:
    """Whether two checked inputs in memory are of one kind and hold equal rows in equal order.

    Data on disk and Datasets are the same only if they are one object: they are not read.

    Examples
    --------
    >>> same(np.eye(2), np.eye(2)), same(np.eye(2), np.ones((2, 2)))
    (True, False)
    """
    if X is other:
        return True
    if type(X) is not type(other) or getattr(X, "shape", None) != getattr(other, "shape", ()):
        return False
    if _is_sparse(X):
        return bool((other != X).nnz == 0)
    if isinstance(X, Tensor):
        return bool((other.to(X.device) == X).all())
    return isinstance(X, np.ndarray) and np.array_equal(X, other)


def like(X: Any, other: Any) -> Any:
    """Return checked data in the form of others: array, tensor or sparse matrix.

    Data on disk and Datasets stay what they are.

    Examples
    --------
    >>> like(sparse.csr_matrix(np.eye(2)), np.ones((3, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not _in_memory(X) or type(X) is type(other):
        return X
    if _is_sparse(other):
        values = X if _is_sparse(X) else _as_array(X)
        return type(other)(values) if values.ndim == 2 else X  # matrix and array are two classes
    dense = X.toarray() if _is_sparse(X) else X
    if isinstance(other, Tensor):
        return dense if isinstance(dense, Tensor) else _as_tensor(dense)
    return _as_array(dense)


def stack(above: Any, below: Any) -> Any:
    """Join two data sets: the rows of the first, then those of the second.

    The result is of the kind of the first and on its device. Its dtype is the smallest that holds
    the values of both.

    Parameters
    ----------
    above, below : array, Tensor or sparse matrix
        With rows of one shape. The second may also be an array on disk, which is read. To
        rows of files (`RowFiles`) the second is added without reading them.

    Returns
    -------
    array, Tensor or CSR matrix of shape (n_above + n_below, *row_shape)

    Raises
    ------
    ValueError
        If the rows differ in shape, or are not in memory.

    Examples
    --------
    >>> stack(np.array([[1]], dtype=np.uint8), np.array([[0.7]], dtype=np.float32)).tolist()
    [[1.0], [0.699999988079071]]
    """
    if is_row_files(above):
        _check_readable(below)
        _check_shapes(above, below)
        added = below.toarray() if _is_sparse(below) else below
        return above.followed_by(added if is_row_files(added) else _as_array(added))
    _check_joinable(above, below)
    if _is_sparse(above):
        added = below if _is_sparse(below) else sparse.csr_matrix(_as_array(below))
        dtype = np.result_type(above.dtype, added.dtype)
        blocks: Any = [above.astype(dtype, copy=False), added.astype(dtype, copy=False)]
        return sparse.vstack(blocks, format="csr")
    added = below.toarray() if _is_sparse(below) else below
    if isinstance(above, Tensor):
        tensor = added if isinstance(added, Tensor) else _as_tensor(np.asarray(added))
        common = _common_dtype(above.dtype, tensor.dtype)
        return torch.cat([above.to(common), tensor.to(above.device, common)])
    return np.concatenate([above, _as_array(added)])  # in numpy's common dtype


def distinct(X: Any) -> DistinctRows:
    """Find the distinct rows of an array, a tensor or a sparse matrix.

    Values that compare equal are equal: 0.0 and -0.0, stored and absent zeros. NaN counts as equal
    to NaN.

    Returns
    -------
    DistinctRows
        In the order in which they appear first.

    Raises
    ------
    ValueError
        For data that are not in memory.

    Examples
    --------
    >>> found = distinct(np.array([[5.0], [3.0], [5.0]]))
    >>> found.first.tolist(), found.inverse.tolist()
    ([0, 1], [0, 1, 0])
    """
    if not _in_memory(X):
        raise ValueError(
            "X must be an array, a tensor or a sparse matrix where unique=True, got "
            f"{type(X).__name__}. Load the data into memory, or leave unique=False."
        )
    keys = _sparse_keys(X) if _is_sparse(X) else _dense_keys(_as_array(X))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return DistinctRows(first[order].astype(np.int64), rank[inverse.ravel()].astype(np.int64))


def _is_sparse(X: Any) -> bool:
    return bool(sparse.issparse(X))


def _in_memory(X: Any) -> bool:
    return _is_sparse(X) or isinstance(X, np.ndarray | Tensor)


def _check_joinable(above: Any, below: Any) -> None:
    _check_readable(above, is_readable=_in_memory(above))
    _check_readable(below)
    _check_shapes(above, below)


def _check_readable(part: Any, is_readable: bool | None = None) -> None:
    if not (hasattr(part, "dtype") if is_readable is None else is_readable):
        raise ValueError(
            "Rows to be joined must be in an array, a tensor or a sparse matrix, got "
            f"{type(part).__name__}. Load the data into memory first."
        )


def _check_shapes(above: Any, below: Any) -> None:
    if tuple(above.shape[1:]) != tuple(below.shape[1:]):
        raise ValueError(
            f"Rows to be joined must have the same shape, got {tuple(above.shape[1:])} and "
            f"{tuple(below.shape[1:])}. Reshape the new rows as the old ones are."
        )


def _as_tensor(array: NDArray[Any]) -> Tensor:
    """View as a tensor; torch supports neither foreign byte orders nor negative strides."""
    return tensor_view(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _as_array(X: Any) -> NDArray[Any]:
    """View as an array where numpy has the dtype; bfloat16 becomes float32."""
    if not isinstance(X, Tensor):
        return np.asarray(X)
    tensor = X.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _common_dtype(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """Return torch's common dtype, but no half precision for whole numbers it cannot hold."""
    common = torch.promote_types(one, other)
    is_mixed = one.is_floating_point != other.is_floating_point
    return torch.promote_types(common, torch.float32) if is_mixed else common


def _one_form(values: NDArray[Any]) -> NDArray[Any]:
    """Give values that count as equal the same bytes."""
    if values.dtype.kind != "f":
        return values
    return np.where(np.isnan(values), values.dtype.type(np.nan), values + 0)  # -0.0 + 0 is 0.0


def _dense_keys(X: NDArray[Any]) -> NDArray[Any]:
    """Return one comparable object per row: its bytes."""
    flat = np.ascontiguousarray(_one_form(X).reshape(len(X), math.prod(X.shape[1:])))
    return flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()


def _sparse_keys(X: Any) -> NDArray[Any]:
    """Return one comparable object per row: the bytes of its columns and values."""
    matrix = sparse.csr_matrix(X, copy=True)  # the clean-up below works in place
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    values, starts = _one_form(matrix.data), matrix.indptr
    keys = np.empty(matrix.shape[0], dtype=object)
    for row, (i, j) in enumerate(itertools.pairwise(starts)):
        keys[row] = matrix.indices[i:j].tobytes() + values[i:j].tobytes()
    return keys
