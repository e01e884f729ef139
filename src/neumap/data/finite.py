"""Find missing, infinite and too large values without a mask the size of the data.

The data are read in tiles of a few megabytes. The answer is how many values are missing or
infinite, and the position of the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from neumap.data.disk import tile_starts
from neumap.data.rows import is_row_store

__all__ = ["LARGEST", "NonFinite", "find_non_finite", "row_tiles"]

TILE_BYTES = 2**22  # the mask of a tile stays in the processor's cache
STORE_TILE_ROWS = 1024
# Differences of two values must be finite in float32, as must sums of some hundred of them.
LARGEST = 1e36


@dataclass(frozen=True)
class NonFinite:
    """Missing and infinite values of a data set.

    Attributes
    ----------
    n_nan, n_inf : int
        How many values are NaN, and how many infinite or larger than `LARGEST`.
    first_nan, first_inf : tuple of int or None
        Position of the first of each: the row, then the position in the row.
    """

    n_nan: int = 0
    n_inf: int = 0
    first_nan: tuple[int, ...] | None = None
    first_inf: tuple[int, ...] | None = None

    def __add__(self, later: NonFinite) -> NonFinite:
        return NonFinite(
            n_nan=self.n_nan + later.n_nan,
            n_inf=self.n_inf + later.n_inf,
            first_nan=self.first_nan or later.first_nan,
            first_inf=self.first_inf or later.first_inf,
        )


def find_non_finite(X: Any) -> NonFinite:
    """Count missing and infinite values.

    Parameters
    ----------
    X : array, Tensor, sparse matrix, array on disk or `RowStore`
        The data.

    Examples
    --------
    >>> find_non_finite(np.array([[1.0, np.nan], [2.0, 3.0]]))
    NonFinite(n_nan=1, n_inf=0, first_nan=(0, 1), first_inf=None)
    """
    if sparse.issparse(X):
        return _in_sparse(X)
    found = NonFinite()
    if _holds_floats(X):
        for start, tile in row_tiles(X):
            if not _all_finite(tile):
                found += _in_tile(_as_array(tile), start)
    return found


def _holds_floats(X: Any) -> bool:
    dtype = getattr(X, "dtype", None)  # a row store has none: its rows are float32
    return (
        dtype.is_floating_point
        if isinstance(dtype, torch.dtype)
        else not (dtype is not None and dtype.kind in "iub")
    )


def row_tiles(X: Any) -> Iterator[tuple[int, NDArray[Any] | Tensor]]:
    """Cut into consecutive rows; the first value is the number of the tile's first row."""
    if is_row_store(X):
        for number, rows in enumerate(X.slices(STORE_TILE_ROWS)):
            yield number * STORE_TILE_ROWS, rows
        return
    starts = tile_starts(X, TILE_BYTES)
    for start in starts:
        tile = X[start : start + starts.step]
        yield start, tile if isinstance(tile, Tensor) else np.asarray(tile)


def _all_finite(tile: NDArray[Any] | Tensor) -> bool:
    if 0 in tile.shape:
        return True
    low, high = torch.aminmax(tile) if isinstance(tile, Tensor) else (tile.min(), tile.max())
    return float(low) >= -LARGEST and float(high) <= LARGEST  # NaN compares as false


def _as_array(tile: NDArray[Any] | Tensor) -> NDArray[Any]:
    return tile.detach().float().cpu().numpy() if isinstance(tile, Tensor) else tile


def _in_tile(tile: NDArray[Any], start: int) -> NonFinite:
    is_nan, is_inf = np.isnan(tile), np.abs(tile) > LARGEST
    return NonFinite(
        n_nan=int(is_nan.sum()),
        n_inf=int(is_inf.sum()),
        first_nan=_first(is_nan, start),
        first_inf=_first(is_inf, start),
    )


def _first(mask: NDArray[np.bool_], start: int) -> tuple[int, ...] | None:
    if not mask.any():
        return None
    row, *rest = np.unravel_index(int(mask.argmax()), mask.shape)
    return (start + int(row), *(int(position) for position in rest))


def _in_sparse(matrix: Any) -> NonFinite:
    """Only stored entries can be missing or infinite; entry numbers become positions."""
    csr = matrix.tocsr()
    entries = find_non_finite(csr.data)

    def position(entry: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if entry is None:
            return None
        row = int(np.searchsorted(csr.indptr, entry[0], side="right")) - 1
        return row, int(csr.indices[entry[0]])

    return replace(
        entries, first_nan=position(entries.first_nan), first_inf=position(entries.first_inf)
    )
