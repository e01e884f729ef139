"""Read a table from a file: rows of numbers with labels and ids.

The ending of the file tells the format, and each format has a reader. An error in the file raises a
:class:`CommandError` that names the file and the position in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neumap.cli.annotated import read_h5ad
from neumap.cli.arrays import read_npy, read_npz, split_key
from neumap.cli.columns import read_arrow, read_json_lines, read_parquet
from neumap.cli.compressed import ending_of
from neumap.cli.delimited import read_csv
from neumap.cli.errors import CommandError
from neumap.cli.folders import has_images, read_images
from neumap.cli.options import say
from neumap.cli.row_files import kind_of_rows, read_row_files
from neumap.cli.table import Selection, Table, is_of_pandas, listed

__all__ = [
    "READABLE",
    "VECTORS",
    "WITHOUT_COLUMNS",
    "check_finite",
    "check_fits",
    "for_another_file",
    "read_table",
    "say_what_was_left_out",
]

ROWS_PER_CHECK = 65_536  # bounds the memory of the finiteness check
LARGEST = 1e36  # what neumap.data accepts, without importing torch

READABLE: dict[str, Callable[[Path, Selection], Table]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".ipc": read_arrow,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".h5ad": read_h5ad,
}
# Formats whose cells may be lists.
VECTORS = (".parquet", ".arrow", ".feather", ".ipc", ".jsonl", ".ndjson")
WITHOUT_COLUMNS = (".npy", ".npz", "")
WITH_ARRAYS = (".npz", ".h5ad")
DELIMITED = (".csv", ".tsv")


def read_table(path: Path, selection: Selection) -> Table:
    """Read the rows of ``path``, with the labels and ids that ``selection`` names.

    Parameters
    ----------
    path : Path
        A file with an ending of ``READABLE`` (``.npz`` also as ``file.npz:key``, text also
        compressed), or a folder of images, or of ``.npy``, Parquet or Arrow files.
    selection : Selection
        Key, label column, id column, vectors and columns to ignore or keep.

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
    ending = ending_of(file)
    reader = READABLE.get(ending)
    is_folder = reader is None and file.is_dir()
    if is_folder:
        reader, ending = _reader_of_folder(file)
    if reader is None:
        raise CommandError(
            f"{file}: the file name must end in {', '.join(READABLE)}, "
            f"got {file.suffix or 'no ending'!r}. Convert the file to one of these."
        )
    if not is_folder and not file.is_file():
        found = "a folder" if file.is_dir() else "no such file"
        raise CommandError(f"{file}: the table must be a file, got {found}. Check the path.")
    check_fits(selection, ending, file)
    table = reader(file, selection if key is None else replace(selection, key=key))
    check_finite(table, file)
    say_what_was_left_out(table, file)
    return table


def _reader_of_folder(folder: Path) -> tuple[Callable[[Path, Selection], Table], str]:
    """Return the reader of a folder, and the ending of the files in it; none for images."""
    kind = None if has_images(folder) else kind_of_rows(folder)
    return (read_images, "") if kind is None else (read_row_files, kind)


def check_fits(selection: Selection, ending: str, file: Path) -> None:
    """Raise for options that a file of this format has no use for."""
    for option, value, endings in (
        ("--vector-column", selection.vectors, VECTORS),
        ("--key", selection.key, WITH_ARRAYS),
        ("--delimiter", selection.delimiter, DELIMITED),
        ("--decimal", selection.decimal, DELIMITED),
        ("--comment", selection.comment, DELIMITED),
    ):
        if value is not None and ending not in endings:
            raise CommandError(
                f"{file}: {option} needs a file with one of the endings {', '.join(endings)}, "
                f"got {file.suffix or 'a folder'!r}. Leave it out."
            )
    for option, is_given in (
        ("--keep-columns", selection.keeps),
        ("--ignore-column", bool(selection.ignored)),
    ):
        if is_given and ending in WITHOUT_COLUMNS:
            raise CommandError(
                f"{file}: {option} needs a file with named columns, got "
                f"{file.suffix or 'a folder'!r}. Leave it out."
            )
    if selection.image_size is not None and ending:
        raise CommandError(
            f"{file}: --image-size needs a folder of images, got {file.suffix!r}. Leave it out."
        )


def for_another_file(selection: Selection, path: Path) -> Selection:
    """Return the selection for a second input, of which options of another format say nothing."""
    file, _key = split_key(path)
    other = replace(selection, key=None)
    if ending_of(file) not in DELIMITED:
        other = replace(other, delimiter=None, decimal=None, comment=None)
    return replace(other, ignored=()) if ending_of(file) in WITHOUT_COLUMNS else other


def say_what_was_left_out(table: Table, file: Path) -> None:
    """Print which columns were not read as features, where nobody asked for that."""
    if table.stored_index:
        _say_what_numbers_the_rows(table, file)
    if table.left_out:
        say(
            f"neumap: {file}: the vectors in {table.vectors!r} were read, and not "
            f"{listed(table.left_out)}. Write --vector-column {table.vectors} to say so."
        )


def _say_what_numbers_the_rows(table: Table, file: Path) -> None:
    first = table.stored_index[0]
    names = "a column without a name" if not first else listed(table.stored_index)
    remedy = "Call reset_index() before storing" if is_of_pandas(first) else "Give it another name"
    say(f"neumap: {file}: {names} was read as row names, not as a feature. {remedy} if it is one.")


def check_finite(table: Table, file: Path, first_row: int = 0) -> None:
    """Raise if a number is missing or infinite, and name its row and column.

    `first_row` is the number that the first row of the table has in the file.
    """
    rows: Any = table.rows
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise CommandError(
            f"{file}: the table must have at least one row and one column, got shape {rows.shape}. "
            "Choose another table."
        )
    if rows.dtype.kind != "f":
        return
    if not isinstance(rows, np.ndarray):
        _check_finite_entries(rows, file)
        return
    for start in range(0, rows.shape[0], ROWS_PER_CHECK):
        finite = np.abs(rows[start : start + ROWS_PER_CHECK]) <= LARGEST  # false for NaN
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            name = repr(table.columns[column]) if table.columns else str(column)
            number = rows[start + row, column]
            raise CommandError(
                f"{file}: the numbers must be finite and at most {LARGEST:.0e}, got {number} in "
                f"row {first_row + start + row}, column {name} (the first row is 0). Rescale, fill "
                "or drop such rows first."
            )


def _check_finite_entries(matrix: Any, file: Path) -> None:
    """Raise if an entry of a sparse matrix is missing or infinite."""
    finite = np.abs(matrix.data) <= LARGEST
    if not finite.all():
        at = int(np.argmin(finite))
        row = int(np.searchsorted(matrix.indptr, at, side="right")) - 1
        raise CommandError(
            f"{file}: the numbers must be finite and at most {LARGEST:.0e}, got {matrix.data[at]} "
            f"in row {row}, column {matrix.indices[at]} (the first is 0). Rescale, fill or drop "
            "such rows first."
        )
