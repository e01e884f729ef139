"""Rows on disk: memory maps, HDF5 and zarr arrays, read batch by batch and never as a whole.

A batch is read in ascending order of rows, each distinct row once. There are three layouts:

- A flat file (``np.memmap``) is read in place.
- A contiguous, uncompressed HDF5 dataset is a flat file inside a file, and is mapped as one.
- A chunked array must unpack a whole chunk for a single row, so random batches would unpack the
  file many times. The first call of `to_matrix`, which a fit makes for its neighbour search,
  unpacks it once into a flat temporary file, and later batches are read from there. The same
  holds for rows of several files.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._ranks import ALONE, Ranks
from neumap.data.kinds import is_a, is_row_files
from neumap.data.moments import dense_row_moments
from neumap.data.rows import Matrix, RowMoments, resolve_row_shape

__all__ = [
    "MemmapRows",
    "flat_file",
    "read_rows",
    "temporary_folder",
    "tile_starts",
    "unpack",
    "unpacked_type",
    "write_tiles",
]

logger = logging.getLogger(__name__)

TILE_BYTES = 2**23
LOCAL_DRIVERS = ("sec2", "stdio")  # HDF5 drivers whose offsets are those of an ordinary file


class MemmapRows:
    """Rows of an array on disk.

    The temporary file of a chunked array is made in the folder that Python's `tempfile` chooses,
    which the environment variable ``TMPDIR`` sets. It takes ``n_rows * n_features`` times 4 bytes
    (1 for bytes and booleans, 2 for half precision) and is removed with the store.

    Parameters
    ----------
    X : numpy.memmap, h5py.Dataset, zarr.Array or RowFiles of shape (n_rows, *shape)
        The array. It must stay open and unchanged while the store is used.
    dims : tuple of int, optional
        Shape of one row; by default as in `X`.
    device : torch.device or str, default="cpu"
        Where rows are returned.

    Attributes
    ----------
    n_rows, row_shape, n_features, device
        As in `RowStore`.
    """

    def __init__(
        self,
        X: Any,
        *,
        dims: tuple[int, ...] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._source = _map_if_contiguous(X)
        self.n_rows = int(X.shape[0])
        self.row_shape = resolve_row_shape(tuple(X.shape[1:]), dims)
        self.n_features = math.prod(self.row_shape)
        self.device = torch.device(device)

    def gather(self, indices: Tensor) -> Tensor:
        """Return the rows with these numbers, float32 (batch, *row_shape)."""
        ascending, where = np.unique(indices.cpu().numpy(), return_inverse=True)
        read = self._to_device(read_rows(self._source, ascending))  # (n_distinct, n_features)
        index = torch.from_numpy(where).to(self.device)
        return torch.index_select(read, 0, index).view(len(indices), *self.row_shape)

    def slices(self, batch_rows: int) -> Iterator[Tensor]:
        """Yield all rows in order, each slice in new memory."""
        for start in range(0, self.n_rows, batch_rows):
            read = np.asarray(self._source[start : start + batch_rows])
            yield self._to_device(read).view(len(read), *self.row_shape)

    def to_matrix(self) -> Matrix:
        """Return a memory-mapped matrix; a chunked array is unpacked to a temporary file first."""
        if is_row_files(self._source):
            self._source = self._source.flat()  # shared with other stores of these rows
        if not _is_flat(self._source):
            self._source = unpack(self._source, "a chunked array")
        return np.asarray(self._source).reshape(self.n_rows, -1)

    def mean_and_scale(
        self, *, max_rows: int = 10_000, seed: int | np.random.Generator = 0
    ) -> RowMoments:
        """Estimate the mean and the scale from a random sample of rows."""
        return dense_row_moments(self, max_rows, seed)

    def _to_device(self, read: NDArray[Any]) -> Tensor:
        # A copy always: what was read may be a read-only view of the file.
        values = np.array(read, dtype=np.float32, order="C").reshape(len(read), self.n_features)
        return torch.from_numpy(values).to(self.device)


def tile_starts(X: Any, tile_bytes: int = TILE_BYTES) -> range:
    """Return the first row of each tile; the step of the range is the number of rows per tile.

    Tiles of a chunked array hold whole chunks, so that each chunk is unpacked once.
    """
    row_bytes = max(1, math.prod(X.shape[1:]) * X.dtype.itemsize)
    rows_per_tile = max(1, tile_bytes // row_bytes)
    chunks = getattr(X, "chunks", None)
    if chunks:
        rows_per_tile = max(1, rows_per_tile // chunks[0]) * chunks[0]
    return range(0, X.shape[0], rows_per_tile)


def _is_flat(source: Any) -> bool:
    return isinstance(source, np.ndarray) and (source.ndim == 2 or source.flags.c_contiguous)


def _map_if_contiguous(X: Any) -> Any:
    """Map the bytes of a contiguous, unfiltered HDF5 dataset; return anything else as it is."""
    if not is_a(X, "h5py", "Dataset"):
        return X
    offset = X.id.get_offset()  # None for chunked, compact and not yet written datasets
    file = X.file
    plain = file.driver in LOCAL_DRIVERS and X.external is None
    if offset is None or not plain or X.is_virtual or X.dtype.kind not in "fiub":
        return X
    file.flush()  # rows just written may still be in HDF5's own buffers
    return np.memmap(file.filename, mode="r", dtype=X.dtype, shape=X.shape, offset=offset)


def read_rows(source: Any, ascending: NDArray[np.int64]) -> NDArray[Any]:
    """Read distinct rows of an array on disk, given in ascending order."""
    if isinstance(source, np.ndarray):
        return source[ascending]
    if is_row_files(source):
        return np.asarray(source.take(ascending))
    if is_a(source, "zarr", "Array"):
        rest = (slice(None),) * (source.ndim - 1)
        return np.asarray(source.get_orthogonal_selection((ascending, *rest)))
    # HDF5's own row lists cost far more than reading the block that holds the wanted rows.
    block_rows = source.chunks[0] if source.chunks else 1
    cuts = np.flatnonzero(np.diff(ascending // block_rows)) + 1
    blocks = [
        source[rows[0] : rows[-1] + 1][rows - rows[0]]
        for rows in np.split(ascending, cuts)
        if rows.size
    ]
    return np.concatenate(blocks) if blocks else np.asarray(source[:0])


def unpack(source: Any, what: str) -> NDArray[Any]:
    """Copy an array, tile by tile, into a flat temporary file that lives as long as its map."""
    flat = flat_file(source.shape, unpacked_type(source), what)
    write_tiles(flat, source)
    return flat


def unpacked_type(source: Any) -> np.dtype[Any]:
    """Return the type of the numbers of an array after :func:`unpack`."""
    compact = source.dtype.kind == "b" or source.dtype in (np.uint8, np.float16)
    return np.dtype(source.dtype) if compact else np.dtype(np.float32)


def write_tiles(flat: NDArray[Any], source: Any, part: Ranks = ALONE) -> None:
    """Copy all tiles of an array, or those of one of several processes."""
    starts = tile_starts(source)
    for start in starts[part.share(len(starts))]:
        flat[start : start + starts.step] = source[start : start + starts.step]


def flat_file(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Return an array in a temporary file that lives as long as its map.

    Raises
    ------
    OSError
        If the folder of temporary files lacks the space; `what` says for the message what needs it.
    """
    with tempfile.TemporaryFile(dir=temporary_folder(shape, dtype, what)) as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def temporary_folder(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> Path:
    """Return the folder of temporary files.

    Raises
    ------
    OSError
        If it lacks the space for an array; `what` says for the message what needs it.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OSError(
            f"{folder} must have {n_bytes / 1e9:.2f} GB free, since {what} of shape "
            f"{shape} is unpacked to a temporary file there, got {free / 1e9:.2f} GB. Free "
            "space, set the environment variable TMPDIR to a folder on a larger disk before "
            "Python starts, or save the rows as one uncompressed array without chunks."
        )
    logger.info("unpacking %s of %.2f GB to %s", what, n_bytes / 1e9, folder)
    return folder
