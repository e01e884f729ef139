"""Read files of typed columns: Parquet, Arrow IPC and JSON lines, by pyarrow.

The rows are the columns of numbers, or one column of vectors (embeddings). Labels, ids and the
columns to keep are copied with their types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.cli.errors import CommandError
from neumap.cli.table import Columns, Selection, Table, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "check_numeric",
    "choose_columns",
    "column_values",
    "labelled_table",
    "read_arrow",
    "read_json_lines",
    "read_parquet",
    "readable",
    "stored_index",
    "table_of",
]

# A line of JSON may not be longer than a block.
JSON_BLOCK_BYTES = 2**20
LONGEST_JSON_BLOCK = 2**31 - 1


def read_parquet(file: Path, selection: Selection) -> Table:
    """Read a Parquet file; integers, floats, decimals and booleans count as numbers."""
    parquet = require("pyarrow.parquet", extra="tables")
    with readable(file, ".parquet"):
        table = parquet.read_table(file)
    return table_of(table, selection, file)


def read_arrow(file: Path, selection: Selection) -> Table:
    """Read an Arrow file: IPC, also called Feather, or the stream format."""
    arrow = require("pyarrow", extra="tables")
    ipc = require("pyarrow.ipc", extra="tables")
    with readable(file, file.suffix.lower()):
        source = arrow.memory_map(str(file))
        try:
            table = ipc.open_file(source).read_all()
        except arrow.ArrowInvalid:
            source.seek(0)
            table = ipc.open_stream(source).read_all()
    return table_of(table, selection, file)


def read_json_lines(file: Path, selection: Selection) -> Table:
    """Read one JSON object per line; arrays of numbers are vectors."""
    arrow = require("pyarrow", extra="tables")
    json = require("pyarrow.json", extra="tables")
    with readable(file, "file of JSON lines"), arrow.input_stream(str(file)) as stream:
        text = stream.read_buffer()
    if not text.size:
        raise CommandError(f"{file}: the file must have rows, got an empty file. Check the path.")
    block = min(max(JSON_BLOCK_BYTES, text.size), LONGEST_JSON_BLOCK)
    with readable(file, "file of JSON lines"):
        table = json.read_json(
            arrow.BufferReader(text), read_options=json.ReadOptions(block_size=block)
        )
    return table_of(table, selection, file)


@contextmanager
def readable(file: Path, kind: str) -> Iterator[None]:
    """Name the file in what pyarrow raises for its content."""
    arrow = require("pyarrow", extra="tables")
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        noun = f"{kind} table" if kind.startswith(".") else kind
        raise CommandError(f"{file}: not a readable {noun} ({error}). Write it again.") from error


def table_of(table: Any, selection: Selection, file: Path, taken: Columns | None = None) -> Table:
    """Return the rows that are selected in a table of pyarrow.

    Parameters
    ----------
    table : pyarrow.Table
        All columns of the file.
    selection : Selection
        Which of them to read, and how.
    file : Path
        For messages.
    taken : Columns, optional
        The choice, where it has been made for the first part of the same file.

    Raises
    ------
    CommandError
        If a column is missing, is no number, or holds vectors of several lengths.
    """
    _check_names(table.column_names, file)
    if taken is None:
        taken = choose_columns(table, selection, file)
    rows = _numbers(table, taken) if taken.vectors is None else _vectors(table, taken, file)
    made = labelled_table(rows, taken, table)
    if not selection.keeps:
        return made
    return replace(made, kept={name: table.column(name) for name in table.column_names})


def labelled_table(rows: Any, taken: Columns, named: Any) -> Table:
    """Return the rows of the chosen columns with the labels and ids of a table of pyarrow."""
    return Table(
        rows,
        columns=taken.numbers if taken.vectors is None else None,
        labels=column_values(named, taken.label),
        ids=column_values(named, taken.id),
        label_name=taken.label or "label",
        id_name=taken.id or "id",
        stored_index=taken.stored_index,
        vectors=taken.vectors,
        left_out=taken.left_out,
    )


def choose_columns(table: Any, selection: Selection, file: Path) -> Columns:
    """Choose the columns of numbers, or the column of vectors, in a table of pyarrow."""
    taken = Columns.chosen(
        table.column_names, selection, file, stored_index(table, table.column_names)
    )
    schema = {field.name: field.type for field in table.schema}
    found = [name for name in taken.numbers if _is_vector(schema[name])]
    if selection.vectors is not None:
        if selection.vectors not in found:
            raise CommandError(
                f"{file}: --vector-column must name a column with one list of numbers per row, got "
                f"{selection.vectors!r}. Name another one."
            )
        return taken.with_vectors(selection.vectors)
    numbers = [name for name in taken.numbers if _is_number(schema[name])]
    if found and (len(found) > 1 or numbers):
        beside = f" beside numbers in {listed(numbers)}" if numbers else ""
        raise CommandError(
            f"{file}: the rows must be one column of vectors, or columns of numbers, got vectors "
            f"in {listed(found)}{beside}. Name the vectors with --vector-column, or leave columns "
            "out with --ignore-column."
        )
    if found:
        others = tuple(name for name in taken.numbers if name != found[0])
        return taken.with_vectors(found[0], left_out=others)
    check_numeric([name for name in taken.numbers if name not in numbers], taken, file)
    return taken


def _numbers(table: Any, taken: Columns) -> NDArray[np.float64]:
    arrow = require("pyarrow", extra="tables")
    rows = np.empty((table.num_rows, len(taken.numbers)))  # float64, see data.digits
    for at, name in enumerate(taken.numbers):
        rows[:, at] = table.column(name).cast(arrow.float64(), safe=False).to_numpy()
    return rows


def _vectors(table: Any, taken: Columns, file: Path) -> NDArray[Any]:
    from neumap.data.vectors import stacked_rows  # imports torch

    try:
        rows = stacked_rows(table.column(taken.vectors), taken.vectors)
    except ValueError as error:
        raise CommandError(f"{file}: {error}") from error
    assert rows is not None
    flat = rows.reshape(len(rows), -1)
    return flat if flat.dtype.kind in "fiub" else flat.astype(np.float64)


def _check_names(names: Sequence[str], file: Path) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise CommandError(
            f"{file}: column names must be unique, got {listed(repeated)} twice. Rename them."
        )


def _is_number(kind: Any) -> bool:
    types = require("pyarrow.types", extra="tables")
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(is_kind(kind) for is_kind in numeric)


def _is_vector(kind: Any) -> bool:
    types = require("pyarrow.types", extra="tables")
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    inner = getattr(kind, "storage_type", kind)
    depth = 0
    while any(is_kind(inner) for is_kind in lists):
        inner, depth = getattr(inner.value_type, "storage_type", inner.value_type), depth + 1
    return depth > 0 and _is_number(inner)


def stored_index(table: Any, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that pandas wrote as the index of the rows, by what the file says."""
    metadata = table.schema.pandas_metadata
    if not isinstance(metadata, dict):
        return ()
    # An index that only counts is written as a dict without a column.
    index = [name for name in metadata.get("index_columns", []) if isinstance(name, str)]
    return tuple(name for name in index if name in names)


def column_values(table: Any, name: str | None) -> NDArray[Any] | None:
    """Return a column as it is, for labels and ids; None for no name."""
    if name is None:
        return None
    column = table.column(name)
    if require("pyarrow.types", extra="tables").is_dictionary(column.type):
        # to_numpy() of categories gives a missing one the name of another.
        column = column.cast(column.type.value_type)
    return np.asarray(column.to_numpy())


def check_numeric(
    text_columns: Sequence[str], taken: Columns, file: Path, example: str = ""
) -> None:
    """Raise if columns of text would be read as numbers."""
    numbers = set(taken.numbers)
    unfit = [name for name in text_columns if name in numbers]
    if unfit:
        raise CommandError(
            f"{file}: columns must hold numbers, got text in {listed(unfit)}. Name them with "
            "--label-column, --id-column or --ignore-column, or convert them to numbers first"
            f"{example}."
        )
