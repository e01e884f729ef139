"""Choose the row store that fits the data."""

from __future__ import annotations

from typing import Any

import torch
from scipy import sparse
from torch import Tensor

from neumap.data.containers import numeric, open_container
from neumap.data.dataset import DatasetRows
from neumap.data.dense import DenseRows
from neumap.data.disk import MemmapRows
from neumap.data.kinds import is_dataset, is_on_disk
from neumap.data.rows import RowStore, is_row_store
from neumap.data.sparse import CsrRows
from neumap.data.validate import Validated

__all__ = ["as_rows"]


def as_rows(
    X: Any,
    *,
    dims: tuple[int, ...] | None = None,
    device: torch.device | str = "cpu",
) -> RowStore:
    """Wrap data in the row store that fits them.

    Parameters
    ----------
    X : Validated, RowStore, or data of shape (n_rows, *shape)
        The result of `check_input`, or anything `check_input` accepts, which is not checked then.
        A store is returned as it is.
    dims : tuple of int, optional
        Shape of one row for the network, such as ``(28, 28, 1)`` for flat rows of 784.
    device : torch.device or str, default="cpu"
        Where rows are returned.

    Returns
    -------
    RowStore
        `DenseRows`, `CsrRows`, `MemmapRows` or `DatasetRows`.

    Raises
    ------
    ValueError
        If rows of `X` cannot have the shape `dims`.

    Examples
    --------
    >>> import numpy as np
    >>> as_rows(np.zeros((5, 784), dtype=np.uint8), dims=(28, 28, 1)).row_shape
    (28, 28, 1)
    """
    if is_row_store(X):
        return _same_store(X, dims, torch.device(device))
    values = X.X if isinstance(X, Validated) else numeric(open_container(X), "as_rows")
    if is_dataset(values):
        return DatasetRows(values, dims=dims, device=device)
    if is_on_disk(values):
        return MemmapRows(values, dims=dims, device=device)
    if sparse.issparse(values):
        return CsrRows(values, dims=dims, device=device)
    if not isinstance(values, Tensor) and values.ndim < 2:
        raise ValueError(
            f"X must have at least two axes (rows, features), got shape {values.shape}. Reshape it "
            "with X.reshape(-1, 1) if it has a single feature."
        )
    return DenseRows(values, dims=dims, device=device)


def _same_store(rows: RowStore, dims: tuple[int, ...] | None, device: torch.device) -> RowStore:
    wanted = rows.row_shape if dims is None else tuple(dims)
    if wanted != rows.row_shape or device != rows.device:
        raise ValueError(
            f"A row store must have rows of shape {wanted} on {device}, got a "
            f"{type(rows).__name__} with rows of shape {rows.row_shape} on {rows.device}. Build "
            "the store with these dims and this device."
        )
    return rows
