"""A table, independent of the file format: rows of numbers, with labels and ids."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neumap.cli.errors import CommandError

if TYPE_CHECKING:  # --help imports this file and must not import numpy
    from numpy.typing import NDArray

__all__ = ["Columns", "Selection", "Table", "is_of_pandas", "listed"]

# Names of a stored index, which numbers the rows and is no feature: in a .csv none, as pandas and R
# write it, and what pandas calls this column when it reads it; in a .parquet what pandas writes.
UNNAMED = re.compile(r"|Unnamed: 0(\.\d+)?")
INDEX_LEVEL = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class Selection:
    """Which parts of a file to read.

    Attributes
    ----------
    key : str or None
        Array of an ``.npz``; None chooses one by name and shape.
    label, id : str or None
        Columns (or arrays) with the label and the name of each row.
    ignored : tuple of str
        Columns to leave out.
    wanted : tuple of str or None
        Columns of numbers to read, in the order of the fitted model. None reads all columns that
        are neither label, id nor ignored. Ignored for a file without column names.
    preferred : str or None
        Regular expression; if column names match, only those columns are read.
    delimiter, decimal : str or None
        Of a ``.csv``; None finds them.
    comment : str or None
        Character that begins the lines of a ``.csv`` to leave out.
    vectors : str or None
        Column with one vector per row; None finds it, where it is the only one.
    image_size : (int, int) or None
        Width and height to which images are resized.
    keeps : bool
        Whether all columns are kept for the output.
    """

    key: str | None = None
    label: str | None = None
    id: str | None = None
    ignored: tuple[str, ...] = ()
    wanted: tuple[str, ...] | None = None
    preferred: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    comment: str | None = None
    vectors: str | None = None
    image_size: tuple[int, int] | None = None
    keeps: bool = False

    def by_position(self) -> Selection:
        """Return the same selection for a file without column names."""
        return replace(self, wanted=None)

    def numbers_among(self, names: Sequence[str], excluded: Collection[str | None]) -> list[str]:
        """Return the columns of numbers, without the ``excluded`` ones."""
        if self.wanted is not None:
            return list(self.wanted)
        if self.preferred is not None:
            matching = [name for name in names if re.fullmatch(self.preferred, name)]
            if matching:
                return matching
        return [name for name in names if name not in excluded]


@dataclass(frozen=True)
class Table:
    """Rows of numbers with the label and id of each row.

    Attributes
    ----------
    rows : array of shape (n_rows, n_columns)
        Finite numbers. May be a memory map.
    columns : list of str or None
        Names of the columns, if the file has them.
    labels, ids : array of shape (n_rows,) or None
        Label and name of each row.
    label_name, id_name : str
        Their names in an output file.
    stored_index : tuple of str
        Columns left out because they number the rows.
    kept : mapping of str to array or None
        All columns as they are in the file, where the selection keeps them.
    vectors : str or None
        The column that holds the rows, where it holds vectors.
    left_out : tuple of str
        Columns beside it that nobody asked to leave out.
    """

    rows: NDArray[Any]
    columns: list[str] | None = None
    labels: NDArray[Any] | None = None
    ids: NDArray[Any] | None = None
    label_name: str = "label"
    id_name: str = "id"
    stored_index: tuple[str, ...] = ()
    kept: Mapping[str, Any] | None = None
    vectors: str | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """The names of the columns with numbers, labels and ids, and those of a stored index.

    Where the rows are vectors, their column is `vectors`; `left_out` are columns beside it.
    """

    numbers: list[str]
    label: str | None
    id: str | None
    stored_index: tuple[str, ...] = ()
    vectors: str | None = None
    left_out: tuple[str, ...] = ()

    def with_vectors(self, name: str, left_out: tuple[str, ...] = ()) -> Columns:
        """Return the same choice with the vectors of a column as the rows."""
        return replace(self, numbers=[], vectors=name, left_out=left_out)

    @classmethod
    def chosen(
        cls,
        names: Sequence[str],
        selection: Selection,
        file: Path,
        index: Collection[str] = (),
    ) -> Columns:
        """Choose among the columns of a file.

        Parameters
        ----------
        names : sequence of str
            All columns.
        selection : Selection
            What the user or the model asks for.
        file : Path
            For messages.
        index : collection of str
            Columns that the file itself calls the index of the rows.

        Raises
        ------
        CommandError
            If a named column is missing, or no column holds numbers.
        """
        asked = [selection.label, selection.id, selection.vectors]
        asked += [*selection.ignored, *(selection.wanted or ())]
        named, known = set(asked), set(names)
        missing = [name for name in asked if name is not None and name not in known]
        if missing:
            raise CommandError(
                f"{file}: columns must be among {listed(names)}, got {listed(missing)}. "
                "Choose from these."
            )
        stored = tuple(
            name for name in names if (name in index or is_index_name(name)) and name not in named
        )
        identity = selection.id or next(iter(stored), None)
        left_out = {*selection.ignored, *stored, selection.label, identity}
        numbers = selection.numbers_among(names, left_out)
        if not numbers:
            raise CommandError(
                f"{file}: at least one column must hold numbers, got {listed(names)} without one. "
                "Add a column, or name fewer as label, id or ignored."
            )
        return cls(numbers, selection.label, identity, stored)


def is_index_name(name: str) -> bool:
    """Return whether a column of this name numbers the rows."""
    return bool(UNNAMED.fullmatch(name) or INDEX_LEVEL.fullmatch(name))


def is_of_pandas(name: str) -> bool:
    """Return whether a stored index can only be told by pandas' notes in the file."""
    return not UNNAMED.fullmatch(name)


def listed(names: Sequence[str], n_shown: int = 8) -> str:
    """Return names for a message: the first few, and the number of the others."""
    shown = ", ".join(map(repr, names[:n_shown]))
    rest = len(names) - n_shown
    return f"{shown} and {rest} more" if rest > 0 else shown or "nothing"
