"""Rows in many files that are one data set: folders of ``.npy``, Parquet and Arrow files.

`open_rows` returns an array on disk like a memory map: it has a shape and a type, and gives ranges
of rows. Nothing is read but headers and footers until rows are asked for, and then only these.
"""

from __future__ import annotations

import bisect
import itertools
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neumap.data.arrow import ArrowSource, DatasetSource, IpcSource, ParquetSource
from neumap.data.kinds import is_a

__all__ = ["RowFiles", "open_rows", "row_files_in"]

ARROW = {
    ".parquet": ParquetSource,
    ".arrow": IpcSource,
    ".feather": IpcSource,
    ".ipc": IpcSource,
}
ENDINGS = (".npy", *ARROW)
HIDDEN = (".", "_")  # how the names of files begin that hold no rows, such as _SUCCESS


def open_rows(source: Any, column: str | Sequence[str] | None = None) -> RowFiles:
    """Open rows in files, or of a Hugging Face Dataset, without reading them into memory.

    The result is never in memory as a whole. It is passed to ``fit``, ``transform`` and ``update``
    like an array. Files of a folder are read in the order of their names, compared as text
    (``part-10`` comes before ``part-2``), with those in folders inside; ``files`` of the result has
    this order. Files in a list stay in the order of the list.

    Parameters
    ----------
    source : path-like, list of paths, or datasets.Dataset
        A folder, or files, of one kind: ``.npy`` arrays, ``.parquet``, or Arrow IPC files
        (``.arrow``, ``.feather``, ``.ipc``). Names that begin with a dot or an underscore are left
        out of a folder.
    column : str or list of str, optional
        The column with one vector per row, or the columns of numbers. None finds a single column
        of vectors, or takes all columns, which must then be numbers. Of no use for ``.npy`` files.

    Returns
    -------
    RowFiles
        Rows of all files, one after the other.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    TypeError
        If `source` is neither a path, a list of paths, nor a Dataset.
    ValueError
        If the folder holds no such files or several kinds of them, or the files have other columns,
        or rows of other shapes. A vector that is missing or of another length raises when it is
        read, with its file and row.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> for number in range(2):
    ...     np.save(Path(folder.name, f"part-{number}.npy"), np.full((3, 4), number))
    >>> rows = open_rows(folder.name)
    >>> rows.shape, rows[2:4].tolist()
    ((6, 4), [[0, 0, 0, 0], [1, 1, 1, 1]])
    >>> folder.cleanup()
    """
    if is_a(source, "datasets", "Dataset"):
        return RowFiles([DatasetSource(source, column)])
    files = _files(source)
    kinds = {file.suffix.lower() for file in files}
    if kinds == {".npy"}:
        if column is not None:
            raise ValueError(
                f"column must be None for .npy files, which have no columns, got {column!r}. Leave "
                "it out."
            )
        return RowFiles([_NpySource(file) for file in files])
    if len({ARROW.get(kind) for kind in kinds}) > 1 or not kinds <= set(ARROW):
        raise ValueError(
            f"source must hold files of one kind, of {', '.join(ENDINGS)}, got "
            f"{', '.join(sorted(kind or 'no ending' for kind in kinds))}. Pass a list of files of "
            "one kind."
        )
    first = ARROW[files[0].suffix.lower()](files[0], column)
    # The others are read as the first is: by the columns that it was found to have.
    layout = first.layout
    same = layout.columns[0] if layout.is_vector else layout.columns
    others = [ARROW[file.suffix.lower()](file, same) for file in files[1:]]
    if column is None and not layout.is_vector:
        for other in others:
            _refuse_more_columns(first, other)
    return RowFiles([first, *others])


def _refuse_more_columns(first: ArrowSource, other: ArrowSource) -> None:
    more = [name for name in other.names if name not in first.names]
    if more:
        raise ValueError(
            f"All files must have the same columns, got {more} in {other.name}, which {first.name} "
            "lacks. Name those to read with column=[...]."
        )


class RowFiles:
    """Rows of several files as one array on disk.

    Attributes
    ----------
    shape : tuple of int
        ``(n_rows, *row_shape)``.
    dtype : numpy.dtype
        That holds the numbers of all files.
    files : tuple of str
        Names of the files, in the order of the rows.
    """

    def __init__(self, sources: Sequence[Any]) -> None:
        filled = [source for source in sources if source.n_rows]
        self._sources: list[_Source] = filled
        self.files = tuple(source.name for source in sources)
        self._starts = [0, *itertools.accumulate(source.n_rows for source in filled)]
        row_shape = filled[0].first_shape() if filled else (0,)
        for source in filled:
            if source.row_shape is None:
                source.row_shape = row_shape
            if source.row_shape != row_shape:
                raise ValueError(
                    f"All files must hold rows of one shape, got {row_shape} in {filled[0].name} "
                    f"and {source.row_shape} in {source.name}. Pass files of one width."
                )
        self.shape: tuple[int, ...] = (self._starts[-1], *row_shape)
        dtypes = [source.dtype for source in filled]
        self.dtype: np.dtype[Any] = np.result_type(*dtypes) if dtypes else np.dtype(np.float32)
        self._forget()

    def _forget(self) -> None:
        self._flat: NDArray[Any] | None = None
        self._lock = threading.Lock()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the rows in memory, which nothing needs to hold."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def header(self) -> Any:
        """An empty table with the names of the columns, or None for vectors."""
        first = self._sources[0] if self._sources else None
        if not isinstance(first, ArrowSource) or first.layout.is_vector:
            return None
        import pyarrow  # a source has imported it

        return pyarrow.table({name: pyarrow.array([], "float32") for name in first.layout.columns})

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the rows of a range, or with these numbers, as an array."""
        if isinstance(rows, slice) and rows.step in (None, 1):
            return self._range(*rows.indices(len(self))[:2])
        numbers = np.arange(len(self))[rows]
        ascending, where = np.unique(numbers, return_inverse=True)
        return self.take(ascending)[where.reshape(numbers.shape)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows in memory."""
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        return f"<RowFiles of shape {self.shape}, {self.dtype}, in {len(self.files)} file(s)>"

    def take(self, ascending: NDArray[np.int64]) -> NDArray[Any]:
        """Return distinct rows, given in ascending order."""
        if len(ascending) == 0 or ascending[-1] - ascending[0] + 1 == len(ascending):
            first = int(ascending[0]) if len(ascending) else 0
            return self._range(first, first + len(ascending))
        return self.flat()[ascending]

    def flat(self) -> NDArray[Any]:
        """Return all rows as one memory map.

        A single ``.npy`` file is mapped. Other files are written once to a flat temporary file in
        the order of the rows, since single rows of them cannot be read.
        """
        from neumap.data.disk import unpack

        only = self._sources[0] if len(self._sources) == 1 else None
        with self._lock:
            if self._flat is None and isinstance(only, _NpySource):
                self._flat = only.mapped()
            elif self._flat is None:
                self._flat = unpack(self, "rows of files")
            return self._flat

    def to_unpack(self) -> list[Any] | None:
        """Return which files and columns :meth:`flat` would write to a temporary file.

        None where it would not, or the rows are not all those of files.
        """
        from_files = (_NpySource, ParquetSource, IpcSource)
        is_mapped = len(self._sources) == 1 and isinstance(self._sources[0], _NpySource)
        if self._flat is not None or is_mapped:
            return None
        if not all(isinstance(source, from_files) for source in self._sources):
            return None
        return [
            [str(Path(source.name).resolve()), getattr(source, "layout", None)]
            for source in self._sources
        ]

    def unpacked(self, flat: NDArray[Any]) -> None:
        """Take these rows as what :meth:`flat` returns."""
        self._flat = flat

    def where(self, row: int) -> str:
        """Return the words for the place of a row: its number in its file."""
        number = bisect.bisect_right(self._starts, row) - 1
        return f"row {row - self._starts[number]} of {self._sources[number].name}"

    def followed_by(self, rows: Any) -> RowFiles:
        """Return these rows and then those of an array or of other files."""
        added = rows._sources if isinstance(rows, RowFiles) else [_ArraySource(np.asarray(rows))]
        return RowFiles([*self._sources, *added])

    def _range(self, start: int, stop: int) -> NDArray[Any]:
        if self._flat is not None:
            return self._flat[start:stop]
        parts = []
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            first, source = self._starts[number], self._sources[number]
            end = min(stop, self._starts[number + 1])
            parts.append(source.read(start - first, end - first))
            start, number = end, number + 1
        if not parts:
            return np.empty((0, *self.shape[1:]), dtype=self.dtype)
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return joined.astype(self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_flat", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


class _Source(Protocol):
    name: str
    n_rows: int
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...] | None

    def first_shape(self) -> tuple[int, ...]: ...

    def read(self, start: int, stop: int) -> NDArray[Any]: ...


class _ArraySource:
    """Rows of an array in memory."""

    name = "the array"

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.n_rows = len(array)
        self.row_shape: tuple[int, ...] | None = array.shape[1:]
        self.dtype = array.dtype

    def first_shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return self.array[start:stop]


class _NpySource:
    """Rows of a ``.npy`` file, mapped while it is read: a system opens some thousand at a time."""

    def __init__(self, path: Path) -> None:
        array = _mapped(path)
        self.name = str(path)
        self.n_rows = len(array)
        self.row_shape: tuple[int, ...] | None = array.shape[1:]
        self.dtype = array.dtype

    def first_shape(self) -> tuple[int, ...]:
        return self.row_shape or ()

    def mapped(self) -> NDArray[Any]:
        return _mapped(Path(self.name))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return np.array(self.mapped()[start:stop])


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(
            f"{path} must hold one array of numbers, got a file that numpy cannot map ({error}). "
            "Save it with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim < 2 or array.dtype.kind not in "fiub":
        found = (
            f"shape {array.shape} and dtype {array.dtype}"
            if isinstance(array, np.ndarray)
            else "an archive"
        )
        raise ValueError(
            f"{path} must hold one array of numbers with rows and columns, got {found}. Save it "
            "with numpy.save, one row per sample."
        )
    return array


def _files(source: Any) -> list[Path]:
    """Return the files that are meant, in the order of the rows."""
    if isinstance(source, str | os.PathLike):
        place = Path(source)
        return row_files_in(place) if place.is_dir() else [_existing(place)]
    if not isinstance(source, list | tuple) or not source:
        raise TypeError(
            "source must be a folder, a file, a list of files or a Hugging Face Dataset, got "
            f"{source if isinstance(source, list | tuple) else type(source).__name__}. Pass "
            "arrays and tables to fit itself."
        )
    return [_existing(Path(path)) for path in source]


def row_files_in(folder: Path) -> list[Path]:
    """Return the files with rows in a folder and those inside, sorted by name."""
    files = [path for path in folder.rglob("*") if _holds_rows(path.relative_to(folder))]
    found = sorted(path for path in files if path.is_file())
    if not found:
        raise ValueError(
            f"source must be a folder with files that end in {', '.join(ENDINGS)}, got "
            f"{folder}, which holds none. Check the path."
        )
    return found


def _holds_rows(path: Path) -> bool:
    is_hidden = any(part.startswith(HIDDEN) for part in path.parts)
    return not is_hidden and path.suffix.lower() in ENDINGS


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"source must name files that exist, got {str(path)!r}. Check the path."
        )
    return path
