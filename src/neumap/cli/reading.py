"""Read a table from a file: rows of numbers with labels and ids.

``.npy`` and ``.npz`` hold arrays, ``.csv`` and ``.parquet`` hold named columns. An error in the
file raises a :class:`CommandError` that names the file and the position in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from neumap.cli.arrays import read_npy, read_npz, split_key
from neumap.cli.columns import read_parquet
from neumap.cli.delimited import read_csv
from neumap.cli.errors import CommandError
from neumap.cli.options import say
from neumap.cli.table import Selection, Table, is_of_pandas, listed

__all__ = ["READABLE", "read_table"]

ROWS_PER_CHECK = 65_536  # bounds the memory of the finiteness check
LARGEST = 1e36  # what neumap.data accepts, without importing torch

READABLE: dict[str, Callable[[Path, Selection], Table]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def read_table(path: Path, selection: Selection) -> Table:
    """Read the rows of ``path``, with the labels and ids that ``selection`` names.

    Parameters
    ----------
    path : Path
        ``.npy``, ``.npz`` (also written ``file.npz:key``), ``.csv`` or ``.parquet``.
    selection : Selection
        Key, label column, id column and columns to ignore.

    Returns
    -------
    Table
        At least one row and one column, all numbers finite.

    Raises
    ------
    CommandError
        If the file is missing, of another kind, damaged, or holds anything but finite numbers.
    """
    file, key = split_key(path)
    reader = READABLE.get(file.suffix.lower())
    if reader is None:
        raise CommandError(
            f"{file}: the file name must end in {', '.join(READABLE)}, "
            f"got {file.suffix or 'no ending'!r}. Convert the file to one of these."
        )
    if not file.is_file():
        found = "a folder" if file.is_dir() else "no such file"
        raise CommandError(f"{file}: the table must be a file, got {found}. Check the path.")
    table = reader(file, selection if key is None else replace(selection, key=key))
    _check_finite(table, file)
    if table.stored_index:
        _say_what_numbers_the_rows(table, file)
    return table


def _say_what_numbers_the_rows(table: Table, file: Path) -> None:
    first = table.stored_index[0]
    names = "a column without a name" if not first else listed(table.stored_index)
    remedy = "Call reset_index() before storing" if is_of_pandas(first) else "Give it another name"
    say(f"neumap: {file}: {names} was read as row names, not as a feature. {remedy} if it is one.")


def _check_finite(table: Table, file: Path) -> None:
    """Raise if a number is missing or infinite, and name its row and column."""
    rows = table.rows
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise CommandError(
            f"{file}: the table must have at least one row and one column, got shape {rows.shape}. "
            "Choose another table."
        )
    if rows.dtype.kind != "f":
        return
    for start in range(0, rows.shape[0], ROWS_PER_CHECK):
        finite = np.abs(rows[start : start + ROWS_PER_CHECK]) <= LARGEST  # false for NaN
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            name = repr(table.columns[column]) if table.columns else str(column)
            number = rows[start + row, column]
            raise CommandError(
                f"{file}: the numbers must be finite and at most {LARGEST:.0e}, got {number} in "
                f"row {start + row}, column {name} (the first row is 0). Rescale, fill or drop "
                "such rows first."
            )
