"""A table, independent of the file format: rows of numbers, with labels and ids."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # --help imports this file and must not import numpy
    from numpy.typing import NDArray

__all__ = ["Selection", "Table", "listed"]


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
    """

    key: str | None = None
    label: str | None = None
    id: str | None = None
    ignored: tuple[str, ...] = ()
    wanted: tuple[str, ...] | None = None
    preferred: str | None = None

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
    """

    rows: NDArray[Any]
    columns: list[str] | None = None
    labels: NDArray[Any] | None = None
    ids: NDArray[Any] | None = None
    label_name: str = "label"
    id_name: str = "id"


def listed(names: Sequence[str], n_shown: int = 8) -> str:
    """Return names for a message: the first few, and the number of the others."""
    shown = ", ".join(map(repr, names[:n_shown]))
    rest = len(names) - n_shown
    return f"{shown} and {rest} more" if rest > 0 else shown or "nothing"
