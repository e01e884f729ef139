"""Write tables: coordinates with labels and ids.

A file appears under its name only when it is complete. :func:`check_output` finds what can be
known before the work starts (an unknown ending, a missing folder, a missing package), so that no
fit is lost because of it.
"""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neumap._atomic import replacing
from neumap._optional import require
from neumap.cli.arrays import split_key
from neumap.cli.errors import CommandError

__all__ = ["POSITIONS", "TABLES", "Coordinates", "check_output", "write_coordinates"]

POSITIONS = "embedding"  # their name in an .npz


@dataclass(frozen=True)
class Coordinates:
    """The coordinates of a map, with the labels and ids of the rows.

    Attributes
    ----------
    positions : array of shape (n_rows, n_components)
        Coordinates on the map.
    names : sequence of str
        Names of the components.
    columns : mapping of str to array of shape (n_rows,)
        Further columns, such as ids and labels; arrays of pyarrow where they were read as such.
    """

    positions: NDArray[Any]
    names: Sequence[str]
    columns: Mapping[str, Any] = field(default_factory=dict)

    def by_name(self) -> dict[str, Any]:
        """Return all columns in the order in which they are written."""
        axes = {name: self.positions[:, at] for at, name in enumerate(self.names)}
        return {**self.columns, **axes}


def check_output(path: Path, endings: Sequence[str], *inputs: Path) -> None:
    """Raise if ``path`` cannot be written later.

    Parameters
    ----------
    path : Path
        Where the output will go.
    endings : sequence of str
        Allowed endings; empty allows any.
    *inputs : Path
        Files the command reads, which it must not overwrite.

    Raises
    ------
    CommandError
        If the ending is unknown, the path is a folder, its folder is missing or not writable, or
        an input would be overwritten.
    """
    if endings and path.suffix.lower() not in endings:
        raise CommandError(
            f"{path}: the output must end in {', '.join(endings)}, "
            f"got {path.suffix or 'no ending'!r}. Change the ending."
        )
    if path.is_dir():
        raise CommandError(f"{path}: the output must be a file, got a folder. Choose another name.")
    folder = path.parent
    if not folder.is_dir():
        raise CommandError(
            f"{path}: the folder of the output must exist, got no folder {str(folder)!r}. Create "
            "it first."
        )
    if not os.access(folder, os.W_OK):
        raise CommandError(
            f"{path}: no permission to write to {str(folder)!r}. Choose another folder."
        )
    files = [split_key(other)[0] for other in inputs]
    if any(path.exists() and other.exists() and path.samefile(other) for other in files):
        raise CommandError(f"{path}: the output would overwrite the input. Choose another name.")
    if path.suffix.lower() == ".parquet":
        require("pyarrow.parquet", extra="tables")


def write_coordinates(path: Path, coordinates: Coordinates) -> None:
    """Write a map in the format that the ending of ``path`` names, atomically.

    ``.csv`` and ``.parquet`` hold the id, the label and one column per component. ``.npz`` holds
    the array ``embedding`` and those of id and label. ``.npy`` holds only the coordinates. Ids and
    labels are written as they are, also those that a spreadsheet would take for a formula.
    """
    with replacing(path) as draft:
        TABLES[path.suffix.lower()](draft, coordinates)


def _write_npy(file: Path, coordinates: Coordinates) -> None:
    np.save(file, coordinates.positions, allow_pickle=False)


def _write_npz(file: Path, coordinates: Coordinates) -> None:
    arrays = {name: _storable(values) for name, values in coordinates.columns.items()}
    arrays[POSITIONS] = coordinates.positions
    # numpy.savez takes the names as arguments beside its own: no array could be called "file".
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)


def _write_csv(file: Path, coordinates: Coordinates) -> None:
    columns = {name: _cells(values) for name, values in coordinates.by_name().items()}
    # csv leaves a lone carriage return without quotes, which readers take for the end of a line.
    has_return = any("\r" in text for text in [*columns, *_texts(columns.values())])
    quoting: Literal[0, 1] = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n", quoting=quoting)
        writer.writerow(columns)
        # str() of a float32 is the shortest text that parses to the same number.
        writer.writerows(zip(*columns.values(), strict=True))


def _cells(values: Any) -> Any:
    """Return what csv writes: arrays as they are, Arrow's columns with lists as JSON."""
    if isinstance(values, np.ndarray):
        return values
    return [
        json.dumps(cell, default=str) if isinstance(cell, list | dict) else cell
        for cell in values.to_pylist()
    ]


def _texts(columns: Iterable[Any]) -> Iterator[str]:
    for values in columns:
        if not isinstance(values, np.ndarray) or values.dtype.kind in "UO":
            yield from (value for value in values if isinstance(value, str))


def _write_parquet(file: Path, coordinates: Coordinates) -> None:
    arrow = require("pyarrow", extra="tables")
    parquet = require("pyarrow.parquet", extra="tables")
    parquet.write_table(arrow.table(coordinates.by_name()), file)


def _storable(values: Any) -> Any:
    """Return text instead of Python objects, which need pickle in an array file."""
    if not isinstance(values, np.ndarray):
        numbers = np.asarray(values.to_numpy())
        return numbers if numbers.dtype.kind != "O" else np.array(_cells(values), dtype=str)
    return values.astype(str) if values.dtype.kind == "O" else values


TABLES: dict[str, Callable[[Path, Coordinates], None]] = {
    ".csv": _write_csv,
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
}
