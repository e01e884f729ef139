"""Read tables from ``.parquet`` files: named columns of numbers, labels and ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.cli.errors import CommandError
from neumap.cli.table import Columns, Selection, Table, listed

__all__ = ["check_numeric", "read_parquet"]


def read_parquet(file: Path, selection: Selection) -> Table:
    """Read named columns; integers, floats, decimals and booleans count as numbers."""
    parquet = require("pyarrow.parquet", extra="tables")
    types = require("pyarrow.types", extra="tables")
    arrow = require("pyarrow", extra="tables")
    try:
        table = parquet.read_table(file)
    except (arrow.ArrowException, OSError) as error:
        raise CommandError(
            f"{file}: not a readable .parquet table ({error}). Write it again."
        ) from error
    names = table.column_names
    taken = Columns.chosen(names, selection, file, _stored_index(table, names))
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    text = [f.name for f in table.schema if not any(is_kind(f.type) for is_kind in numeric)]
    check_numeric(text, taken, file)
    rows = np.empty((table.num_rows, len(taken.numbers)))  # float64, see data.digits
    for at, name in enumerate(taken.numbers):
        rows[:, at] = table.column(name).cast(arrow.float64(), safe=False).to_numpy()
    return Table(
        rows,
        columns=taken.numbers,
        labels=_values(table, taken.label),
        ids=_values(table, taken.id),
        label_name=taken.label or "label",
        id_name=taken.id or "id",
        stored_index=taken.stored_index,
    )


def _stored_index(table: Any, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that pandas wrote as the index of the rows, by what the file says."""
    metadata = table.schema.pandas_metadata
    if not isinstance(metadata, dict):
        return ()
    # An index that only counts is written as a dict without a column.
    index = [name for name in metadata.get("index_columns", []) if isinstance(name, str)]
    return tuple(name for name in index if name in names)


def _values(table: Any, name: str | None) -> NDArray[Any] | None:
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
