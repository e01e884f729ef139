"""Rows in Parquet and Arrow files and in Hugging Face Datasets, read in order, a batch at a time.

Rows are a column of vectors, or several columns of numbers. Numbers of rows come from footers. A
source remembers where it is, so that consecutive reads decode every batch once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.data.tables import frame_of
from neumap.data.vectors import (
    REPAIR,
    innermost_type,
    is_arrow_vector,
    named_column,
    stacked_rows,
    without_vectors,
)

__all__ = ["ArrowSource", "DatasetSource", "IpcSource", "ParquetSource"]

BATCH_BYTES = 2**23
READ_BYTES = 2**20
FIRST_BATCH = 64  # rows, where the width is not known yet
FILE_MAGIC = b"ARROW1"
OPEN = ("_lock", "_stream", "_first", "_batch")  # what a copy of a source opens anew


class Place(NamedTuple):
    """Where a batch stands, for messages: its file and the number of its first row there."""

    name: str
    start: int

    def of(self, row: int) -> str:
        """Return the words for a row of the batch."""
        return f"in row {self.start + row} of {self.name}"


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a row stand in a table.

    Attributes
    ----------
    columns : tuple of str
        One column of vectors, or columns with a number each.
    is_vector : bool
        Which of the two.
    dtype : numpy.dtype
        Of the rows.
    """

    columns: tuple[str, ...]
    is_vector: bool
    dtype: np.dtype[Any]

    def rows(self, batch: Any, row_shape: tuple[int, ...] | None, place: Place) -> NDArray[Any]:
        """Return the rows of a batch, (n, *row_shape)."""
        columns = [batch.column(name) for name in self.columns]
        if self.is_vector:
            values = _vectors(columns[0], row_shape, place)
        else:
            values = np.stack([_numbers(column) for column in columns], axis=1)
        if self.dtype.kind in "iub" and values.dtype.kind in "fO":
            is_missing = np.isnan(values.reshape(len(values), -1).astype(np.float64)).any(axis=1)
            raise ValueError(
                f"X must hold no missing values in columns of whole numbers, got one "
                f"{place.of(int(is_missing.argmax()))}. Fill them, drop these rows, or store the "
                "numbers as float."
            )
        return values.astype(self.dtype, copy=False)


def layout_of(schema: Any, column: str | Sequence[str] | None, name: str) -> Layout:
    """Choose the columns of a table by its schema, with the errors and warnings of a table."""
    with _named(name):
        if column is None or isinstance(column, str):
            frame = frame_of(schema.empty_table())
            assert frame is not None
            found = named_column(frame, column)
            if found is not None:
                if not is_arrow_vector(schema.field(found).type):
                    raise without_vectors(found)
                return Layout((found,), True, _numpy_type(schema.field(found).type, found))
        columns = list(schema.names if column is None else column)
        absent = [one for one in columns if one not in schema.names]
        if absent or not columns:
            raise ValueError(
                f"column must name columns of the files, got {absent or 'none'}. Choose among "
                f"{schema.names[:8]}."
            )
        dtypes = [_numpy_type(schema.field(one).type, one) for one in columns]
        return Layout(tuple(columns), False, np.result_type(*dtypes))


class ArrowSource:
    """Rows of one file or Dataset; a subclass says where its batches come from.

    Attributes
    ----------
    name : str
        For messages.
    n_rows : int
        Number of rows.
    names : list of str
        Of all columns.
    layout : Layout
        The columns that are read.
    dtype : numpy.dtype
        Of the rows.
    row_shape : tuple of int or None
        Shape of one row; None for lists, until `first_shape` or the caller says it.
    """

    name: str
    n_rows: int
    names: list[str]
    layout: Layout
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...] | None
    _stream: Iterator[tuple[int, Any]]
    _first: int
    _batch: Any

    def _begin(self, schema: Any, column: str | Sequence[str] | None) -> None:
        self.names = list(schema.names)
        self.layout = layout_of(schema, column, self.name)
        self.dtype = self.layout.dtype
        self.row_shape = None if self.layout.is_vector else (len(self.layout.columns),)
        self._lock = threading.Lock()
        self._forget()

    def first_shape(self) -> tuple[int, ...]:
        """Return the shape of one row, for lists that of the first row."""
        if self.row_shape is None:
            batch = next(self._batches(0))[1].slice(0, 1)
            self.row_shape = self.layout.rows(batch, None, Place(self.name, 0)).shape[1:]
        return self.row_shape

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return consecutive rows, (stop - start, *row_shape), at least one."""
        parts = []
        with self._lock:
            if self._batch is None or start < self._first:
                self._stream = self._batches(start)
                self._first, self._batch = next(self._stream)
            while start < stop:
                while start >= self._first + self._batch.num_rows:
                    self._first, self._batch = next(self._stream)
                batch = self._batch.slice(start - self._first, stop - start)
                parts.append(self.layout.rows(batch, self.row_shape, Place(self.name, start)))
                start += batch.num_rows
            if start == self.n_rows:
                self._forget()
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _batches(self, start: int) -> Iterator[tuple[int, Any]]:
        """Yield batches with the number of their first row, from one at or before `start` on."""
        raise NotImplementedError

    def _batch_rows(self) -> int:
        if self.row_shape is None:
            return FIRST_BATCH
        return max(1, BATCH_BYTES // (math.prod(self.row_shape) * self.dtype.itemsize))

    def _forget(self) -> None:
        """Close what is open; the next read starts anew."""
        self._stream = iter(())
        self._first, self._batch = 0, None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in OPEN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
        self._forget()


class ParquetSource(ArrowSource):
    """Rows of a Parquet file."""

    def __init__(self, path: Path, column: str | Sequence[str] | None) -> None:
        self.name = str(path)
        with self._open() as file:
            self.n_rows = int(file.metadata.num_rows)
            self._begin(file.schema_arrow, column)

    def _open(self) -> Any:
        parquet = require("pyarrow.parquet", extra="tables")
        with _named(self.name):
            # Buffered, a large group of rows is read in pieces; pyarrow reads it whole otherwise.
            return parquet.ParquetFile(self.name, buffer_size=READ_BYTES, pre_buffer=False)

    def _batches(self, start: int) -> Iterator[tuple[int, Any]]:
        with self._open() as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            group = int(np.searchsorted(starts, start, side="right")) - 1
            first = int(starts[group])
            for number in range(
                group, len(sizes)
            ):  # one iterator over all keeps each group's memory
                for batch in file.iter_batches(
                    batch_size=self._batch_rows(),
                    row_groups=[number],
                    columns=list(self.layout.columns),
                ):
                    yield first, batch
                    first += batch.num_rows


class IpcSource(ArrowSource):
    """Rows of an Arrow IPC or Feather file, or of a stream in a file, as `datasets` saves them."""

    def __init__(self, path: Path, column: str | Sequence[str] | None) -> None:
        self.name = str(path)
        with self._mapped() as mapped:
            schema, batches = self._reader(mapped, None)
            self.n_rows = sum(batch.num_rows for batch in batches)
        self._begin(schema, column)

    def _mapped(self) -> Any:
        return require("pyarrow", extra="tables").memory_map(self.name)

    def _reader(self, mapped: Any, columns: Sequence[str] | None) -> tuple[Any, Iterator[Any]]:
        ipc = require("pyarrow.ipc", extra="tables")
        with _named(self.name):
            if bytes(mapped.read(len(FILE_MAGIC))) != FILE_MAGIC:
                mapped.seek(0)
                stream = ipc.open_stream(mapped)
                return stream.schema, iter(stream)
            mapped.seek(0)
            file = ipc.open_file(mapped)
            if columns is not None:  # columns that are not read are not unpacked either
                fields = [file.schema.get_field_index(name) for name in columns]
                options = ipc.IpcReadOptions(included_fields=fields)
                file = ipc.open_file(mapped, options=options)
        return file.schema, (file.get_batch(i) for i in range(file.num_record_batches))

    def _batches(self, start: int) -> Iterator[tuple[int, Any]]:
        first, rows_at_once = 0, self._batch_rows()
        with self._mapped() as mapped:
            for whole in self._reader(mapped, self.layout.columns)[1]:
                for at in range(0, whole.num_rows, rows_at_once):
                    if first + at + rows_at_once > start:
                        yield first + at, whole.slice(at, rows_at_once)
                first += whole.num_rows


class DatasetSource(ArrowSource):
    """Rows of a Hugging Face Dataset, as they are selected."""

    def __init__(self, dataset: Any, column: str | Sequence[str] | None) -> None:
        self.name = "the Dataset"
        self.n_rows = len(dataset)
        self._dataset = dataset.with_format("arrow")
        self._begin(self._dataset[:1].schema, column)

    def _batches(self, start: int) -> Iterator[tuple[int, Any]]:
        chosen = self._dataset.select_columns(list(self.layout.columns))
        size = self._batch_rows()
        for first in range(start // size * size, self.n_rows, size):
            table = chosen[first : first + size].combine_chunks()
            yield first, table.to_batches()[0]


def _vectors(column: Any, row_shape: tuple[int, ...] | None, place: Place) -> NDArray[Any]:
    compute = require("pyarrow.compute", extra="tables")
    if column.null_count:
        row = int(_numbers(column.is_null()).argmax())
        raise ValueError(f"X must hold one vector in each row, got none {place.of(row)}. {REPAIR}.")
    lists = getattr(column, "storage", column)  # of tensors of one shape
    lengths = _numbers(compute.list_value_length(lists))
    wanted = int(lengths[0]) if row_shape is None else row_shape[0]
    if (lengths != wanted).any():
        row = int((lengths != wanted).argmax())
        raise ValueError(
            f"X must hold vectors of one length, got {wanted} numbers in the first row and "
            f"{lengths[row]} {place.of(row)}. {REPAIR}."
        )
    with _named(place.name):
        values = stacked_rows(column)
    assert values is not None
    if row_shape is not None and values.shape[1:] != row_shape:
        raise ValueError(
            f"X must hold rows of one shape, got {row_shape} in the first row and "
            f"{values.shape[1:]} {place.of(0)}. {REPAIR}."
        )
    return values


def _numbers(column: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _numpy_type(kind: Any, name: str) -> np.dtype[Any]:
    """Return the type of the numbers of a column, or of its vectors."""
    types = require("pyarrow.types", extra="tables")
    inner = innermost_type(kind)
    if types.is_decimal(inner):
        return np.dtype(np.float64)
    if types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner):
        dtype: np.dtype[Any] = np.dtype(inner.to_pandas_dtype())
        return dtype
    raise ValueError(
        f"X must hold numbers, got {kind} in column {name!r}. Name the columns of numbers, or the "
        "one column of vectors, with column."
    )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the file in what is raised for its content."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{name} must be a readable file, got one that is not ({error}).") from error
    except ValueError as error:  # pyarrow's ArrowInvalid is one
        raise ValueError(f"{name}: {error}") from error
