"""Rows in memory: a numpy array or a torch tensor, on the CPU or on a graphics card.

Storage is float32 unless the data are bytes or booleans, which stay as they are and become float32
one batch at a time: a quarter of the memory and of the bandwidth. On request float data are stored
as bfloat16, or as bytes where that loses nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap.data.moments import dense_row_moments
from neumap.data.rows import Matrix, RowMoments, check_out, resolve_row_shape

__all__ = ["DenseRows", "Storage"]

Storage = Literal["auto", "float32", "bfloat16", "uint8"]

_COMPACT = (torch.uint8, torch.bool)
_TILE_ELEMENTS = 2**20


class DenseRows:
    """Rows held in memory as one table.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n_rows, *shape)
        The data. A contiguous float32, uint8 or bool array on the same device is viewed, not
        copied; any other dtype is converted to float32 once.
    dims : tuple of int, optional
        Shape of one row; by default as in `X`.
    storage : {"auto", "float32", "bfloat16", "uint8"}
        ``"auto"`` keeps bytes and booleans, and stores the rest as float32. ``"bfloat16"`` halves
        the memory of float data and rounds them to 8 significant bits. ``"uint8"`` takes a quarter,
        for data that are whole numbers 0..255 or such numbers divided by 255; rows come back
        exactly as they went in.
    device : torch.device or str
        Where the table lives and rows are handed out.

    Attributes
    ----------
    table : Tensor of shape (n_rows, n_features)
        As stored, in its own dtype.
    divisor : int
        What stored numbers are divided by to give the data: 1, or 255 for bytes of [0, 1].
    n_rows, row_shape, n_features, device, nbytes
        As in `RowStore`.

    Examples
    --------
    >>> rows = DenseRows(np.arange(6, dtype=np.float32).reshape(3, 2))
    >>> rows.gather(torch.tensor([2, 0]))
    tensor([[4., 5.],
            [0., 1.]])
    """

    def __init__(
        self,
        X: NDArray[Any] | Tensor,
        *,
        dims: tuple[int, ...] | None = None,
        storage: Storage = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        self.row_shape = resolve_row_shape(tuple(X.shape[1:]), dims)
        values = _as_plain_tensor(X).reshape(X.shape[0], -1)
        table, self.divisor = _encode(values, storage)
        self._host = table if table.device.type == "cpu" else None
        self.table = table.to(device).contiguous()
        self.n_rows, self.n_features = self.table.shape
        self.device = self.table.device
        self.nbytes = self.table.nbytes

    def gather(self, indices: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the rows with these numbers, float32 (batch, *row_shape)."""
        index = indices.to(self.device)
        shape = (len(index), *self.row_shape)
        if out is not None:
            check_out(out, len(index), self.row_shape)
        flat = None if out is None else out.view(len(index), self.n_features)
        if self.table.dtype == torch.float32:
            # index_select: about three times the speed of table[index] on a CPU.
            return torch.index_select(self.table, 0, index, out=flat).view(shape)
        return self._decode(torch.index_select(self.table, 0, index), flat).view(shape)

    def slices(self, batch_rows: int) -> Iterator[Tensor]:
        """Yield all rows in order; float32 storage yields views."""
        for start in range(0, self.n_rows, batch_rows):
            tile = self.table[start : start + batch_rows]
            yield self._decode(tile).view(len(tile), *self.row_shape)

    def to_matrix(self) -> Matrix:
        """Return the table as an array, a view unless it is on another device or encoded."""
        table = self.table.cpu() if self._host is None else self._host
        if table.dtype == torch.bfloat16 or self.divisor != 1:
            return self._decode(table).numpy()
        return table.numpy()

    def mean_and_scale(
        self, *, max_rows: int = 10_000, seed: int | np.random.Generator = 0
    ) -> RowMoments:
        """Estimate mean, scale and standard deviations from a random sample of rows."""
        return dense_row_moments(self, max_rows, seed)

    def _decode(self, stored: Tensor, out: Tensor | None = None) -> Tensor:
        values = stored.to(torch.float32) if out is None else out.copy_(stored)
        return values if self.divisor == 1 else values.div_(self.divisor)


def _as_plain_tensor(X: NDArray[Any] | Tensor) -> Tensor:
    """View as float32, uint8 or bool where `X` is one of these, convert to float32 otherwise."""
    if isinstance(X, Tensor):
        tensor = X.detach()
        return tensor if tensor.dtype in _COMPACT else tensor.to(torch.float32)
    keeps = X.dtype in (np.dtype(np.uint8), np.dtype(np.bool_))
    array = np.ascontiguousarray(X, dtype=X.dtype if keeps else np.float32)
    with warnings.catch_warnings():
        # A read-only array is welcome: the store never writes to its table.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _encode(values: Tensor, storage: Storage) -> tuple[Tensor, int]:
    """Bring a table to its storage dtype; the second value divides it on the way back."""
    if storage == "auto":
        return values, 1
    if storage == "float32":
        return values.to(torch.float32), 1
    if storage == "bfloat16":
        return (values if values.dtype in _COMPACT else values.to(torch.bfloat16)), 1
    if storage == "uint8":
        return _encode_bytes(values)
    raise ValueError(
        "storage must be 'auto', 'float32', 'bfloat16' or 'uint8', "
        f"got {storage!r}. Leave it at 'auto' if unsure."
    )


def _encode_bytes(values: Tensor) -> tuple[Tensor, int]:
    if values.dtype in _COMPACT:
        return values, 1
    encoded = torch.empty(values.shape, dtype=torch.uint8, device=values.device)
    for divisor in (255, 1):
        if _encode_exactly(values, encoded, divisor):
            return encoded, divisor
    raise ValueError(
        "storage='uint8' needs whole numbers 0..255, or such numbers divided by 255; X holds other "
        f"values (between {values.min().item():.6g} and {values.max().item():.6g}). "
        "Use storage='bfloat16' or 'float32'."
    )


def _encode_exactly(values: Tensor, encoded: Tensor, divisor: int) -> bool:
    """Write the bytes tile by tile; stop with False where they would not decode to the same."""
    tile_rows = max(1, _TILE_ELEMENTS // max(values.shape[1], 1))
    for start in range(0, len(values), tile_rows):
        tile = values[start : start + tile_rows]
        nearest = (tile * divisor).round_().clamp_(0, 255)
        encoded[start : start + tile_rows] = nearest
        if not torch.equal(nearest.div_(divisor), tile):
            return False
    return True
