"""Tables out: coordinates with their labels and ids, written whole or not at all.

A file appears under its name only when it is complete: it is written beside its place and then
moved there. What can be known before the work starts (an unknown ending, a missing folder, a
missing package) is checked by :func:`check_output`, so that no fit is lost to it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neumap._atomic import replacing
from neumap._optional import require
from neumap.cli.arrays import split_key
from neumap.cli.errors import CommandError

__all__ = ["TABLES", "Coordinates", "check_output", "write_coordinates"]


@dataclass(frozen=True)
class Coordinates:
    """A map: one position per row, with the labels and ids of the rows.

    Attributes
    ----------
    positions : array of shape (n_rows, n_components)
        Coordinates on the map.
    names : sequence of str
        Names of the components.
    beside : mapping of str to array of shape (n_rows,)
        Columns that belong to the rows, such as ids and labels.
    """

    positions: np.ndarray
    names: Sequence[str]
    beside: Mapping[str, np.ndarray] = field(default_factory=dict)

    def by_name(self) -> dict[str, np.ndarray]:
        """All columns in the order in which they are written."""
        axes = {name: self.positions[:, at] for at, name in enumerate(self.names)}
        return {**self.beside, **axes}


def check_output(path: Path, endings: Sequence[str], *inputs: Path) -> None:
    """Raise if ``path`` could not be written when the work is done.

    Parameters
    ----------
    path : Path
        Where the output will go.
    endings : sequence of str
        Endings that can be written; empty accepts any.
    *inputs : Path
        Files the command reads, which it must not overwrite.

    Raises
    ------
    CommandError
        For an unknown ending, a folder in the place of a file, a folder that is missing or may not
        be written, or an input that would be overwritten.
    """
    if endings and path.suffix.lower() not in endings:
        raise CommandError(
            f"{path}: expected an output ending in {', '.join(endings)}; "
            f"came {path.suffix or 'no ending'!r}"
        )
    if path.is_dir():
        raise CommandError(f"{path}: cannot write a file here, a folder has this name")
    folder = path.parent
    if not folder.is_dir():
        raise CommandError(f"{path}: no folder {str(folder)!r} to write into; create it first")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{path}: no permission to write into {str(folder)!r}")
    files = [split_key(other)[0] for other in inputs]
    if any(path.exists() and other.exists() and path.samefile(other) for other in files):
        raise CommandError(f"{path}: would overwrite the input; choose another name")
    if path.suffix.lower() == ".parquet":
        require("pyarrow.parquet", extra="tables")


def write_coordinates(path: Path, coordinates: Coordinates) -> None:
    """Write a map in the format that the ending of ``path`` names, atomically.

    ``.csv`` and ``.parquet`` get one column per component beside id and label; ``.npz`` gets the
    array ``embedding`` and those of id and label; ``.npy`` has room for the coordinates alone.
    """
    with replacing(path) as draft:
        TABLES[path.suffix.lower()](draft, coordinates)


def _write_npy(file: Path, coordinates: Coordinates) -> None:
    np.save(file, coordinates.positions, allow_pickle=False)


def _write_npz(file: Path, coordinates: Coordinates) -> None:
    arrays = {name: _storable(values) for name, values in coordinates.beside.items()}
    arrays["embedding"] = coordinates.positions
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _write_csv(file: Path, coordinates: Coordinates) -> None:
    columns = coordinates.by_name()
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        # str() of a float32 is the shortest text that reads back as the same number.
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(file: Path, coordinates: Coordinates) -> None:
    arrow = require("pyarrow", extra="tables")
    parquet = require("pyarrow.parquet", extra="tables")
    columns = {name: np.asarray(values) for name, values in coordinates.by_name().items()}
    parquet.write_table(arrow.table(columns), file)


def _storable(values: np.ndarray) -> np.ndarray:
    """Text in place of Python objects, which an array file cannot hold without pickle."""
    return values.astype(str) if values.dtype.kind == "O" else values


TABLES: dict[str, Callable[[Path, Coordinates], None]] = {
    ".csv": _write_csv,
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
}
