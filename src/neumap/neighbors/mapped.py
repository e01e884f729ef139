"""Rows of a file that become what a metric compares when they are read, a block at a time.

A metric such as cosine, and numbers of another type than float32, would otherwise need a copy of
all rows, which may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._views import tensor_view

__all__ = ["MappedRows", "is_in_a_file", "on_device"]

BLOCK_BYTES = 1 << 24


class MappedRows:
    """Rows of an array in a file, after the map of a metric.

    Parameters
    ----------
    data : array of shape (n_rows, n_features)
        A view of a ``numpy.memmap``.
    prepare : callable
        The map, which works on each row for itself.
    """

    device = torch.device("cpu")

    def __init__(self, data: NDArray[Any], prepare: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self._data = data
        self._prepare = prepare
        self.shape = (len(data), self[:1].shape[1])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._data)

    def __getitem__(self, rows: slice | Tensor | NDArray[Any]) -> Tensor:
        """Return rows by a range, or by numbers of any shape, float32 (..., n_columns)."""
        if isinstance(rows, slice):
            return self._read(rows)
        numbers = rows.numpy() if isinstance(rows, Tensor) else np.asarray(rows)
        read = self._read(numbers.ravel())
        return read.view(*numbers.shape, read.shape[1])

    def _read(self, rows: slice | NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.array(self._prepare(np.asarray(self._data[rows]))))

    def mean(self, dim: int) -> Tensor:
        """Return the mean of all rows, for ``dim=0``."""
        assert dim == 0
        step = max(1, BLOCK_BYTES // (4 * self.shape[1]))
        total = torch.zeros(self.shape[1], dtype=torch.float64)
        for start in range(0, len(self), step):
            total += self[start : start + step].sum(0, dtype=torch.float64)
        return (total / len(self)).float()


def is_in_a_file(data: Any) -> bool:
    """Whether an array is a view of a memory-mapped file."""
    while isinstance(data, np.ndarray):
        if isinstance(data, np.memmap) and data.filename is not None:
            return True
        data = data.base
    return False


def on_device(rows: NDArray[Any] | Tensor | MappedRows, device: str) -> Any:
    """Return rows as a tensor on the device, or as they are where they are read by blocks."""
    if isinstance(rows, MappedRows):
        return rows
    return (rows if isinstance(rows, Tensor) else tensor_view(rows)).to(device)
