"""How a ``.csv`` file is laid out: its delimiter, decimal mark, column names and row names.

In: the first lines of the file and what the user said about it. Out: a :class:`Layout`, or an error
where these lines can be read in more than one way. A guess that may be wrong is never made.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neumap.cli.errors import CommandError
from neumap.cli.table import Columns, Selection, listed

__all__ = ["DELIMITERS", "Layout", "is_blank", "is_number", "layout_of"]

# What spreadsheets and statistics programs write, with their names for messages.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

UNSIGNED = {mark: rf"(\d+{re.escape(mark)}?\d*|{re.escape(mark)}\d+)" for mark in ".,"}
NUMBER = {
    mark: re.compile(
        rf"[ \t]*[+-]?({digits}(e[+-]?\d+)?|nan|inf|infinity)[ \t]*", re.IGNORECASE | re.ASCII
    )
    for mark, digits in UNSIGNED.items()
}
# 1,234 is 1234 in English and 1.234 in German; 0,234 and 1,5 have one meaning only.
EITHER = re.compile(r"\s*[+-]?[1-9]\d{0,2}[.,]\d{3}\s*")

Row = list[str]


@dataclass(frozen=True)
class Layout:
    """Where the cells of a file are and what they are called.

    Attributes
    ----------
    delimiter, decimal : str
        One character each.
    names : list of str
        One per column; their positions if the file has no header. Row names without a name of
        their own (R writes them) are the column ``""``.
    has_header : bool
        Whether the first line holds the names.
    has_hint : bool
        Whether a line such as ``sep=;`` comes first, which Excel writes and reads.
    ends_with_delimiter : bool
        Whether every line ends with one more delimiter, and thus with an empty cell.
    has_row_names : bool
        Whether lines have one cell more than the header.
    columns : Columns
        Which of the columns are numbers, label and id.
    first : list of str
        Cells of the first row of data.
    """

    delimiter: str
    decimal: str
    names: list[str]
    has_header: bool
    has_hint: bool
    ends_with_delimiter: bool
    has_row_names: bool
    columns: Columns
    first: Row

    def positions(self, names: Iterable[str]) -> list[int]:
        """Return where these columns are in a line."""
        position = {name: at for at, name in enumerate(self.names)}
        return [position[name] for name in names]

    @property
    def n_cells(self) -> int:
        """Cells of each line."""
        return len(self.names) + self.ends_with_delimiter

    @property
    def n_header_lines(self) -> int:
        """Lines that are not blank, before the first row of data."""
        return self.has_hint + self.has_header


def layout_of(lines: Sequence[str], selection: Selection, file: Path) -> Layout:
    """Find the layout of a file.

    Parameters
    ----------
    lines : sequence of str
        The first lines of the file.
    selection : Selection
        The delimiter and the decimal mark, if the user named them, and the columns.
    file : Path
        For messages.

    Raises
    ------
    CommandError
        If the lines can be read in more than one way, or hold no rows or no column names.
    """
    filled = [line for line in lines if not is_blank(line)]
    hint = re.fullmatch(r'"?sep=(.)"?\s*', filled[0]) if filled else None
    body = filled[1:] if hint else filled
    if not body:
        raise CommandError(f"{file}: the file must have rows, got an empty file. Check the path.")
    delimiter = selection.delimiter or (
        hint[1] if hint else _delimiter_of(body, selection.decimal, file)
    )
    rows = _rows(body, delimiter)
    if not rows:
        raise CommandError(
            f"{file}: quotes must be closed, got one that is not in the first lines. Correct them."
        )
    has_header = _has_header(rows[0], selection.decimal)
    names, data = _names_and_data(rows, has_header, file)
    ends, row_names = _extra_cell(names, data, delimiter, file) if has_header else (False, False)
    if ends and len(data[0]) == len(names):
        names = names[:-1]  # the header ends with a delimiter too
    if row_names:
        names = ["", *names]
    _check_names(names, file)
    # Columns have names only if the file has; a model's names say nothing about positions.
    columns = Columns.chosen(names, selection if has_header else selection.by_position(), file)
    position = {name: at for at, name in enumerate(names)}
    numbers = [position[name] for name in columns.numbers]
    return Layout(
        delimiter=delimiter,
        decimal=selection.decimal or _decimal_of(_cells(data, numbers), delimiter, file),
        names=names,
        has_header=has_header,
        has_hint=hint is not None,
        ends_with_delimiter=ends,
        has_row_names=row_names,
        columns=columns,
        first=data[0],
    )


def is_blank(line: str) -> bool:
    """Return whether a line has no cells; one of tabs only has."""
    return line[:1] in " \r\n" and not line.strip(" \r\n")


def is_number(cell: str, decimal: str) -> bool:
    """Return whether a cell is a number with this decimal mark.

    Examples
    --------
    >>> is_number("1,5", ","), is_number("1.234,5", ","), is_number("1_000", ".")
    (True, False, False)
    """
    return NUMBER[decimal].fullmatch(cell) is not None


def _rows(lines: Iterable[str], delimiter: str) -> list[Row]:
    """Split lines into cells; stop at a quote that is not closed in these lines."""
    rows = []
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            rows.append(row)
    except csv.Error:
        pass  # reading the file names the line
    return rows


def _delimiter_of(lines: Sequence[str], decimal: str | None, file: Path) -> str:
    """Return the only delimiter that splits all lines alike."""
    found = [mark for mark in DELIMITERS if any(mark in line for line in lines)]
    possible = [mark for mark in found if mark != decimal] or found
    split = {mark: _rows(lines, mark) for mark in possible}
    split = {mark: rows for mark, rows in split.items() if rows and len(rows[0]) > 1}
    even = [mark for mark, rows in split.items() if _is_even(rows)]
    if len(even) > 1:
        even = [mark for mark in even if _all_numbers(split[mark])]
    candidates = even or list(split)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates and set(found) <= {decimal}:
        return ";"  # one column
    raise CommandError(
        f"{file}: the delimiter must be clear from the first lines, got "
        f"{' and '.join(DELIMITERS[mark] for mark in found)} that could be it. Name it, for "
        f"example with --delimiter {_shell_name(found[0])}, or the decimal mark with --decimal."
    )


def _shell_name(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else repr(delimiter)


def _is_even(rows: Sequence[Row]) -> bool:
    """Return whether all rows of data have as many cells as the first line, or all one more."""
    lengths = {len(row) for row in rows[1:]} or {len(rows[0])}
    return len(lengths) == 1 and lengths.pop() - len(rows[0]) in (0, 1)


def _all_numbers(rows: Sequence[Row]) -> bool:
    """Return whether all cells below the first line are numbers, with either decimal mark."""
    return all(any(is_number(c, mark) for mark in ".,") for row in rows[1:] or rows for c in row)


def _has_header(first: Row, decimal: str | None) -> bool:
    marks = decimal or ".,"
    stripped = [cell.strip() for cell in first]
    counted = [str(at) for at in range(len(first))]
    # pandas names the columns of an unnamed array 0, 1, 2, …: the header consists of numbers.
    is_counted = stripped in (counted, ["", *counted[:-1]])
    return is_counted or not all(any(is_number(c, mark) for mark in marks) for c in stripped)


def _names_and_data(rows: list[Row], has_header: bool, file: Path) -> tuple[list[str], list[Row]]:
    if not has_header:
        return [str(at) for at in range(len(rows[0]))], rows
    if len(rows) < 2:
        raise CommandError(
            f"{file}: the file must have rows below the column names, got none. Add rows."
        )
    return [cell.strip() for cell in rows[0]], rows[1:]


def _extra_cell(names: list[str], data: list[Row], delimiter: str, file: Path) -> tuple[bool, bool]:
    """Return whether all lines end with a delimiter, and whether they begin with a row name."""
    n_cells = {len(row) for row in data}
    last_is_empty = not any(row[-1].strip() for row in data)
    if n_cells == {len(names)}:
        return last_is_empty and len(names) > 1 and not names[-1], False
    if n_cells != {len(names) + 1}:
        return False, False  # reading the file names the line
    if last_is_empty:
        return True, False
    split_numbers = delimiter == "," and all(
        re.fullmatch(r"[+-]?\d{1,3}", row[0]) and re.fullmatch(r"\d{3}(\.\d*)?", row[1])
        for row in data
    )
    fractions = all(is_number(row[0], ".") and not row[0].strip().isdecimal() for row in data)
    if split_numbers or fractions:
        raise CommandError(
            f"{file}: lines must have {len(names)} cells, as the header, or begin with a row name, "
            f"got {len(names) + 1} cells beginning with {listed([data[0][0]])}. Name every column "
            "in the header, and remove thousands separators."
        )
    return False, True


def _check_names(names: list[str], file: Path) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1 and name]
    if repeated:
        raise CommandError(
            f"{file}: column names must be unique, got {listed(repeated)} twice. Rename them."
        )
    unnamed = [at for at, name in enumerate(names) if not name and at > 0]
    if unnamed:
        raise CommandError(
            f"{file}: columns must have a name, got none for column {unnamed[0] + 1}. Write one "
            "in the first line."
        )


def _cells(rows: Iterable[Row], positions: Sequence[int]) -> list[str]:
    return [row[at] for row in rows for at in positions if at < len(row)]


def _decimal_of(cells: Sequence[str], delimiter: str, file: Path) -> str:
    """Return the decimal mark that the numbers of some columns show."""
    marked = {
        mark: [cell for cell in cells if mark in cell and is_number(cell, mark)] for mark in ".,"
    }
    if marked["."] and marked[","]:
        raise CommandError(
            f"{file}: numbers must have one decimal mark, got {marked['.'][0]!r} and "
            f"{marked[','][0]!r}. Remove thousands separators, or write all numbers alike."
        )
    mark = "," if marked[","] else "."
    # Between commas nobody writes a point as thousands separator.
    may_be_thousands = mark == "," or delimiter != ","
    if marked[mark] and may_be_thousands and all(map(EITHER.fullmatch, marked[mark])):
        raise CommandError(
            f"{file}: the decimal mark must be clear from the first lines, got only numbers such "
            f"as {marked[mark][0]!r}, in which it may separate thousands. If it is the decimal "
            f"mark, say so with --decimal {mark!r}; else remove it."
        )
    return mark
