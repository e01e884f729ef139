"""Choose the row store that fits the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from neumap.data.dense import DenseRows, Storage
from neumap.data.rows import RowStore
from neumap.data.sparse import SparseRows

__all__ = ["as_rows"]


def as_rows(
    X: Any,
    *,
    dims: tuple[int, ...] | None = None,
    device: torch.device | str = "cpu",
    storage: Storage = "auto",
) -> RowStore:
    """Wrap data in the row store that fits them.

    Parameters
    ----------
    X : array, Tensor or sparse matrix of shape (n_rows, *shape)
        The data.
    dims : tuple of int, optional
        Shape of one row for the network, such as ``(28, 28, 1)`` for flat rows of 784.
    device : torch.device or str
        Where rows are handed out.
    storage : {"auto", "float32", "bfloat16", "uint8"}
        How dense rows are kept in memory; see `DenseRows`.

    Examples
    --------
    >>> as_rows(np.zeros((5, 784), dtype=np.uint8), dims=(28, 28, 1)).row_shape
    (28, 28, 1)
    """
    if sparse.issparse(X):
        return SparseRows(X, dims=dims, device=device)
    if isinstance(X, Tensor):
        return DenseRows(X, dims=dims, storage=storage, device=device)
    return DenseRows(np.asarray(X), dims=dims, storage=storage, device=device)
