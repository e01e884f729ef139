"""Warn of columns whose differences float32 cannot hold, such as Unix times and large identifiers.

All computing is in float32, in the network, in ONNX models and in saved training rows. A column
around 1.7e9 has steps of 128 there, and rows that differ by less become equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from neumap._warnings import warn_user
from neumap.data.cells import columns_of
from neumap.data.finite import row_tiles
from neumap.data.kinds import is_dataset
from neumap.data.tables import is_table

__all__ = ["warn_of_lost_digits"]

FEWEST_STEPS = 1000  # of float32 over the spread of a column
NOISE = 1e-12  # of the values: a spread below this is rounding of float64

Ranges = tuple[NDArray[np.float64], NDArray[np.float64]]


def warn_of_lost_digits(values: Any, names: NDArray[Any] | None) -> None:
    """Warn if columns spread over few steps of float32 only.

    Parameters
    ----------
    values : array, table, sparse matrix, Tensor, array on disk or Dataset
        The data before they become float32. Items of a Dataset are not read.
    names : array of str or None
        Column names.
    """
    low, high = _ranges(values)
    with np.errstate(invalid="ignore", over="ignore"):
        spread = high - low
        size = np.maximum(np.abs(low), np.abs(high))
        step = np.spacing(size.astype(np.float32)).astype(np.float64)
        is_lost = (step * FEWEST_STEPS > spread) & (spread > NOISE * size)
    lost = np.flatnonzero(is_lost)
    if not len(lost):
        return
    at = int(lost[0])
    name = at if names is None or len(names) != len(low) else repr(names[at])
    warn_user(
        f"Columns of X must spread over many steps of float32, got {len(lost)} that do not, such "
        f"as column {name} with values from {low[at]:.10g} to {high[at]:.10g} in steps of "
        f"{step[at]:.2g}. Subtract each column's mean as float64 before fit and transform, and "
        "divide by its standard deviation."
    )


def _ranges(values: Any) -> Ranges:
    """Smallest and largest value of each column that float32 might not hold; 0 for others."""
    if is_table(values):
        columns = [np.asarray(column) for _, column in columns_of(values)]
        ends = [_ends(column) if _is_wide(column.dtype) else (0.0, 0.0) for column in columns]
        return np.array([low for low, _ in ends]), np.array([high for _, high in ends])
    nothing = np.zeros(0), np.zeros(0)
    if is_dataset(values) or not _is_wide(values.dtype) or not values.shape[0]:
        return nothing
    is_sparse: bool = sparse.issparse(values)
    if is_sparse:
        return _sparse_ranges(values.tocsr())
    low, high = nothing
    for start, tile in row_tiles(values):
        rows = tile.reshape(len(tile), -1)
        if isinstance(rows, Tensor):
            rows = rows.cpu().numpy()
        least, most = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
        low, high = (np.minimum(low, least), np.maximum(high, most)) if start else (least, most)
    return low, high


def _ends(column: NDArray[Any]) -> tuple[float, float]:
    return (float(column.min()), float(column.max())) if len(column) else (0.0, 0.0)


def _is_wide(dtype: Any) -> bool:
    """Whether the type holds numbers that float32 rounds."""
    if isinstance(dtype, torch.dtype):
        return dtype in (torch.float64, torch.int32, torch.int64)
    kind, size = dtype.kind, dtype.itemsize
    return (kind == "f" and size > 4) or (kind in "iu" and size >= 4)


def _sparse_ranges(matrix: Any) -> Ranges:
    """Ranges of the columns without a zero: the others spread as far as their values are large."""
    n_rows, n_columns = matrix.shape
    low, high = np.zeros(n_columns), np.zeros(n_columns)
    full = np.flatnonzero(np.bincount(matrix.indices, minlength=n_columns) >= n_rows)
    for column in full:
        stored = matrix[:, [column]].data
        if len(stored) == n_rows:
            low[column], high[column] = _ends(stored)
    return low, high
