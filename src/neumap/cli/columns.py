"""Read tables from ``.csv`` and ``.parquet`` files: named columns of numbers, labels and ids."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.cli.errors import CommandError
from neumap.cli.table import Selection, Table, listed

__all__ = ["read_csv", "read_parquet"]

# Names that pandas gives to a stored index, which numbers the rows and is no feature.
INDEX_NAMES = ("", "__index_level_0__")


def read_csv(file: Path, selection: Selection) -> Table:
    """Read comma-separated columns; a first line with text holds their names.

    Without such a line the columns are named by their position, ``"0"``, ``"1"`` and so on.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            head = [row for row, _ in zip(_filled_lines(stream), range(2), strict=False)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{file}: not a readable .csv in UTF-8 ({error})") from error
    names, has_header = _header_of(head, file)
    by_name = selection if has_header else replace(selection, wanted=None)
    taken = _Columns.chosen(names, by_name, file)
    # The first row shows which columns are text; a later text cell fails in loadtxt.
    _check_numeric(
        [n for n, cell in zip(names, head[-1], strict=False) if _is_text(cell)], taken, file
    )
    position = {name: at for at, name in enumerate(names)}
    skipped = 1 if has_header else 0
    rows = _load_csv(file, [position[n] for n in taken.numbers], skipped, np.float64, names)
    return Table(
        rows,
        columns=taken.numbers if has_header else None,
        labels=_text_column(file, position, taken.label, skipped, names),
        ids=_text_column(file, position, taken.id, skipped, names),
        label_name=taken.label or "label",
        id_name=taken.id or "id",
    )


def _filled_lines(stream: Any) -> Iterator[list[str]]:
    return (row for row in csv.reader(stream) if row)


def _header_of(head: list[list[str]], file: Path) -> tuple[list[str], bool]:
    """Return the column names, and whether the first line holds them."""
    if not head:
        raise CommandError(f"{file}: the file must have rows, got an empty file. Check the path.")
    first = [cell.strip() for cell in head[0]]
    counted = [str(at) for at in range(len(first))]
    # pandas names the columns of an unnamed array 0, 1, 2, …: the header consists of numbers.
    has_header = not all(map(_is_number, first)) or first in (counted, ["", *counted[:-1]])
    if has_header and len(head) < 2:
        raise CommandError(
            f"{file}: the file must have rows below the column names, got none. Add rows."
        )
    names = first if has_header else counted
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise CommandError(
            f"{file}: column names must be unique, got {listed(repeated)} twice. Rename them."
        )
    return names, has_header


def _load_csv(
    file: Path, positions: list[int], skipped: int, dtype: Any, names: Sequence[str]
) -> NDArray[Any]:
    try:
        return np.loadtxt(
            file,
            dtype=dtype,
            delimiter=",",
            quotechar='"',
            comments=None,
            skiprows=skipped,
            usecols=positions,
            ndmin=2,
            encoding="utf-8-sig",
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise CommandError(
            f"{file}: every line must have {len(names)} cells, with numbers outside the label and "
            f"id columns, got another one ({error}). Correct this line."
        ) from error


def _text_column(
    file: Path, position: dict[str, int], name: str | None, skipped: int, names: Sequence[str]
) -> NDArray[Any] | None:
    if name is None:
        return None
    return _numbers_where_possible(_load_csv(file, [position[name]], skipped, str, names)[:, 0])


def _numbers_where_possible(text: NDArray[Any]) -> NDArray[Any]:
    """Return integers, else floats, else the text itself."""
    for dtype in (np.int64, np.float64):
        try:
            return text.astype(dtype)
        except ValueError:
            continue
    return text


def _is_text(cell: str) -> bool:
    return bool(cell.strip()) and not _is_number(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_parquet(file: Path, selection: Selection) -> Table:
    """Read named columns; integers, floats, decimals and booleans count as numbers."""
    parquet = require("pyarrow.parquet", extra="tables")
    types = require("pyarrow.types", extra="tables")
    arrow = require("pyarrow", extra="tables")
    try:
        table = parquet.read_table(file)
    except (arrow.ArrowException, OSError) as error:
        raise CommandError(f"{file}: not a readable .parquet table ({error})") from error
    taken = _Columns.chosen(table.column_names, selection, file)
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    text = [f.name for f in table.schema if not any(is_kind(f.type) for is_kind in numeric)]
    _check_numeric(text, taken, file)
    rows = np.empty((table.num_rows, len(taken.numbers)))  # float64, see data.digits
    for at, name in enumerate(taken.numbers):
        rows[:, at] = table.column(name).cast(arrow.float64(), safe=False).to_numpy()
    return Table(
        rows,
        columns=taken.numbers,
        labels=None if taken.label is None else table.column(taken.label).to_numpy(),
        ids=None if taken.id is None else table.column(taken.id).to_numpy(),
        label_name=taken.label or "label",
        id_name=taken.id or "id",
    )


@dataclass(frozen=True)
class _Columns:
    """The names of the columns with numbers, labels and ids."""

    numbers: list[str]
    label: str | None
    id: str | None

    @classmethod
    def chosen(cls, names: Sequence[str], selection: Selection, file: Path) -> _Columns:
        named = [selection.label, selection.id, *selection.ignored, *(selection.wanted or ())]
        missing = [name for name in named if name is not None and name not in names]
        if missing:
            raise CommandError(
                f"{file}: columns must be among {listed(names)}, got {listed(missing)}. "
                "Choose from these."
            )
        identity = selection.id or next((name for name in names if name in INDEX_NAMES), None)
        numbers = selection.numbers_among(names, {*selection.ignored, selection.label, identity})
        if not numbers:
            raise CommandError(
                f"{file}: at least one column must hold numbers, got {listed(names)} without one. "
                "Add a column, or name fewer as label, id or ignored."
            )
        return cls(numbers, selection.label, identity)


def _check_numeric(text_columns: Sequence[str], taken: _Columns, file: Path) -> None:
    unfit = [name for name in text_columns if name in set(taken.numbers)]
    if unfit:
        raise CommandError(
            f"{file}: columns must hold numbers, got text in {listed(unfit)}. Name them with "
            "--label-column, --id-column or --ignore-column, or convert them to numbers first."
        )
