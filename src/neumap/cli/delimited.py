"""Read tables from ``.csv`` and ``.tsv`` files in one pass, with every line checked.

The layout (delimiter, decimal mark, names) comes from the first lines; every further line must
follow it. A cell that does not is named by its line and column.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.cli.columns import check_numeric
from neumap.cli.compressed import ending_of, opened_text
from neumap.cli.errors import CommandError
from neumap.cli.layout import Layout, is_blank, is_number, layout_of
from neumap.cli.table import Selection, Table, listed

__all__ = ["read_csv"]

# Enough to see how a file is written, and little time on rows with thousands of columns.
SAMPLE_LINES = 200
SAMPLE_CHARACTERS = 1_000_000

SIGNED = re.compile(r"[ \t]*[+-]?[0-9]+[ \t]*")
PLAIN = re.compile(r"-?(0|[1-9][0-9]*)")


def read_csv(file: Path, selection: Selection) -> Table:
    """Read columns separated by commas, semicolons, tabs or bars.

    A first line with text holds the column names. Without such a line the columns are named by
    their position, ``"0"``, ``"1"`` and so on. Where each further line has one cell more than the
    header, it begins with a row name, as R writes it, which becomes the id.
    """
    if selection.delimiter is None and ending_of(file) == ".tsv":
        selection = replace(selection, delimiter="\t")
    with opened_text(file) as stream:
        layout = _layout(_first_lines(stream, selection.comment), selection, file)
    columns, decimal = layout.columns, layout.decimal
    text = {
        name: cell
        for name, cell in zip(layout.names, layout.first, strict=False)
        if cell.strip() and not is_number(cell, decimal)
    }
    numbers = set(columns.numbers)
    wrong = [cell for name, cell in text.items() if name in numbers]
    example = f" (the first row has {listed(wrong, 3)}; the decimal mark is {decimal!r})"
    check_numeric(list(text), columns, file, example)
    with opened_text(file) as stream:
        lines = _Lines(stream, layout, file, selection)
        rows = _numbers(lines, layout)
    ids, labels = lines.text_of(columns.id), lines.text_of(columns.label)
    if layout.has_row_names and ids is not None:
        _check_row_names(ids, file)
    return Table(
        rows,
        columns=columns.numbers if layout.has_header else None,
        labels=None if labels is None else _as_labels(labels, decimal),
        ids=None if ids is None else _as_ids(ids),
        label_name=columns.label or "label",
        id_name=columns.id or "id",
        stored_index=columns.stored_index,
        kept={name: _as_kept(lines.text_of(name) or []) for name in layout.names}
        if selection.keeps
        else None,
    )


def _layout(lines: list[str], selection: Selection, file: Path) -> Layout:
    try:
        return layout_of(lines, selection, file)
    except CommandError as error:
        if selection.comment is None and any(line.startswith("#") for line in lines):
            hint = "If lines that begin with '#' are comments, write --comment '#'."
            raise CommandError(f"{error} {hint}") from error
        raise


def _first_lines(stream: Iterable[str], comment: str | None) -> list[str]:
    lines: list[str] = []
    n_characters, n_filled = 0, 0
    for line in stream:
        if comment is not None and line.startswith(comment):
            continue
        lines.append(line)
        n_characters += len(line)
        n_filled += not is_blank(line)
        enough = n_filled >= SAMPLE_LINES or n_characters > SAMPLE_CHARACTERS
        if enough and n_filled > 2:
            break
    return lines


def _numbers(lines: _Lines, layout: Layout) -> NDArray[np.float64]:
    positions = layout.positions(layout.columns.numbers)
    try:
        return np.loadtxt(
            lines,
            dtype=np.float64,  # see data.digits
            delimiter=lines.delimiter,
            comments=None,
            usecols=positions,
            ndmin=2,
        )
    except ValueError as error:
        raise lines.fault(positions, error) from error


class _Lines:
    """Lines for ``numpy.loadtxt``: each checked for its cells, with the text columns taken out."""

    def __init__(
        self, stream: Iterable[str], layout: Layout, file: Path, selection: Selection
    ) -> None:
        self._stream = stream
        self._layout = layout
        self._file = file
        # Numbers with a decimal comma are joined again, after the comma has become a point.
        self.delimiter = ";" if layout.decimal == "," else layout.delimiter
        self._number = 0  # of the last line that was read
        self._began = 0  # line with the first cell of this row
        self._cells: list[str] = []
        self._numbers = frozenset(layout.positions(layout.columns.numbers))
        self._comment = selection.comment
        named = {
            layout.columns.label,
            layout.columns.id,
            *(layout.names if selection.keeps else ()),
        }
        self._text: dict[str, list[str]] = {name: [] for name in named if name is not None}
        self._text_at = layout.positions(self._text)

    def __iter__(self) -> Iterator[str]:
        numbered = self._numbered()
        to_skip = self._layout.n_header_lines
        for line in numbered:
            if is_blank(line) or (self._comment is not None and line.startswith(self._comment)):
                continue
            self._began = self._number
            if to_skip:
                to_skip -= 1
                self._split(line, numbered)  # a name may go over two lines
                continue
            yield self._checked(line, numbered)

    def text_of(self, name: str | None) -> list[str] | None:
        """Return the cells of a column of text, once all lines have been read."""
        return None if name is None else self._text[name]

    def fault(self, positions: list[int], error: ValueError) -> CommandError:
        """Return the error for the line that was read last, in which a number is wrong."""
        layout = self._layout
        cells = self._cells or self._split(self._line, iter(()))
        for at in positions:
            if not is_number(cells[at], layout.decimal):
                found = f"got {cells[at]!r}" if cells[at].strip() else "got an empty cell"
                column = repr(layout.names[at]) if layout.has_header else str(at)
                return CommandError(
                    f"{self._file}: every cell must be a number with the decimal mark "
                    f"{layout.decimal!r}, {found} in line {self._began}, column {column}. Correct "
                    "the cell (write no thousands separators), name another mark with --decimal, "
                    "or leave the column out with --ignore-column."
                )
        return CommandError(f"{self._file}: line {self._began} is not readable ({error}).")

    def _numbered(self) -> Iterator[str]:
        for line in self._stream:
            self._number += 1
            yield line

    def _checked(self, line: str, rest: Iterator[str]) -> str:
        """Return a row whose text columns loadtxt can skip."""
        layout = self._layout
        if '"' in line or layout.decimal == ",":
            self._cells = self._split(line, rest)
            self._check_count(len(self._cells))
            self._keep_text(self._cells)
            return self._joined(self._cells)
        # The usual line costs a count only; csv would take three times as long as loadtxt.
        self._cells, self._line = [], line
        self._check_count(line.count(layout.delimiter) + 1)
        if self._text or layout.ends_with_delimiter:
            self._keep_text(line.rstrip("\r\n").split(layout.delimiter))
        return line

    def _split(self, line: str, rest: Iterator[str]) -> list[str]:
        reader = csv.reader(chain([line], rest), delimiter=self._layout.delimiter, strict=True)
        try:
            return next(reader)
        except csv.Error as error:
            raise CommandError(
                f"{self._file}: not a readable .csv, quotes must be closed and stand around a "
                f"whole cell, got another one in line {self._began} ({error}). Correct this line."
            ) from error

    def _check_count(self, n_cells: int) -> None:
        wanted = self._layout.n_cells
        if n_cells != wanted:
            raise CommandError(
                f"{self._file}: every line must have {wanted} cells, as the first lines do, got "
                f"{n_cells} in line {self._began}. Correct this line: put quotes around cells with "
                f"{self._layout.delimiter!r} in them, and write no thousands separators."
            )

    def _keep_text(self, cells: list[str]) -> None:
        for at, column in zip(self._text_at, self._text.values(), strict=True):
            column.append(cells[at])
        if self._layout.ends_with_delimiter and cells[-1].strip():
            raise CommandError(
                f"{self._file}: every line must end with a delimiter, as the first lines do, got "
                f"{cells[-1]!r} behind it in line {self._began}. Correct this line, or name the "
                "column in the header."
            )

    def _joined(self, cells: list[str]) -> str:
        decimal = self._layout.decimal
        numbers = [cells[at] if at in self._numbers else "" for at in range(len(cells))]
        # Quotes may hide what loadtxt would take for the end of a cell or of a line. Where the
        # decimal mark is a comma, a point separates thousands: 1.234 is no fraction.
        misread = (self.delimiter if decimal == "." else ".", "\n", "\r")
        if any(mark in cell for cell in numbers for mark in misread):
            raise self.fault(sorted(self._numbers), ValueError("not a number"))
        return self.delimiter.join(number.replace(decimal, ".") for number in numbers)


def _check_row_names(names: list[str], file: Path) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise CommandError(
            f"{file}: the first column must hold row names, all different, because the header has "
            f"no name for it, got {listed([twice])} twice. Name every column in the header."
        )


def _as_labels(text: list[str], decimal: str) -> NDArray[Any]:
    """Return integers, else floats, else the text itself."""
    whole = _whole_numbers(text, SIGNED)
    if whole is not None:
        return whole
    if all(is_number(cell, decimal) for cell in text):
        return np.array([float(cell.replace(",", ".")) for cell in text])
    return np.array(text)


def _as_ids(text: list[str]) -> NDArray[Any]:
    """Return integers where they are written as such: 007 and 1.10 are names."""
    whole = _whole_numbers(text, PLAIN)
    return np.array(text) if whole is None else whole


def _as_kept(text: list[str]) -> NDArray[Any]:
    """Return numbers where their text is the one that Python writes, so that none changes."""
    whole = _whole_numbers(text, PLAIN)
    if whole is not None:
        return whole
    is_same = all(is_number(cell, ".") and repr(float(cell)) == cell for cell in text)
    return np.array(text, dtype=np.float64 if is_same else str)


def _whole_numbers(text: list[str], form: re.Pattern[str]) -> NDArray[np.int64] | None:
    if not all(map(form.fullmatch, text)):
        return None
    try:
        return np.array([int(cell) for cell in text], dtype=np.int64)
    except OverflowError:  # more digits than an integer holds
        return None
