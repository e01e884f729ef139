"""Read a folder of ``.npy``, Parquet or Arrow files as one table whose rows stay on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neumap._optional import require
from neumap.cli.arrays import array_from, flat_rows
from neumap.cli.columns import choose_columns, labelled_table, readable
from neumap.cli.errors import CommandError
from neumap.cli.table import Selection, Table

__all__ = ["kind_of_rows", "read_row_files"]

FORMATS = {".npy": "", ".parquet": "parquet", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc"}
HIDDEN = (".", "_")  # as in neumap.data.shards, which imports torch


def kind_of_rows(folder: Path) -> str | None:
    """Return the ending of the files with rows in a folder; None if there is not one kind."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    shown = (path for path in paths if not any(part.startswith(HIDDEN) for part in path.parts))
    endings = sorted({path.suffix.lower() for path in shown} & set(FORMATS))
    return endings[0] if len({FORMATS[ending] for ending in endings}) == 1 else None


def read_row_files(folder: Path, selection: Selection) -> Table:
    """Read the files of a folder in the order of their names; see `neumap.open_rows`.

    Raises
    ------
    CommandError
        If the files are of several kinds or widths, or columns are missing or hold no numbers.
    """
    if selection.keeps:
        raise CommandError(
            f"{folder}: --keep-columns needs a file with named columns, got a folder. Leave it out."
        )
    from neumap.data.shards import row_files_in  # imports torch

    try:
        files = row_files_in(folder)
        if kind_of_rows(folder) == ".npy":
            return _of_arrays(folder, files, selection)
        return _of_tables(folder, files, selection)
    except (ValueError, OSError) as error:
        raise CommandError(f"{folder}: {error}") from error


def _of_arrays(folder: Path, files: list[Path], selection: Selection) -> Table:
    from neumap.data import open_rows

    rows = flat_rows(open_rows(files).flat(), folder)
    labels = array_from(folder, selection.label, len(rows))
    return Table(rows, labels=labels, ids=array_from(folder, selection.id, len(rows)))


def _of_tables(folder: Path, files: list[Path], selection: Selection) -> Table:
    from neumap.data import open_rows

    dataset = require("pyarrow.dataset", extra="tables")
    kind = FORMATS[files[0].suffix.lower()]
    with readable(folder, f"folder of {files[0].suffix} files"):
        source: Any = dataset.dataset([str(file) for file in files], format=kind)
        taken = choose_columns(source.schema.empty_table(), selection, folder)
        named = source.to_table(columns=[name for name in (taken.label, taken.id) if name])
    rows = open_rows(files, taken.vectors or taken.numbers).flat()
    return labelled_table(flat_rows(rows, folder), taken, named)
