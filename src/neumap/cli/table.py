"""What a table file gives, whatever its format: numbers, and what belongs to each row."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the help text needs this file and must not wait for numpy
    import numpy as np

__all__ = ["Selection", "Table", "listed"]


@dataclass(frozen=True)
class Selection:
    """Which parts of a file to take.

    Attributes
    ----------
    key : str or None
        Array of an ``.npz``; None chooses the obvious one.
    label, id : str or None
        Columns (or arrays) with one label and one name per row.
    ignored : tuple of str
        Columns to leave out.
    wanted : tuple of str or None
        Columns of numbers to take, in this order, as a fitted model asks for them. None takes all
        that are neither label, id nor ignored. Without effect on a file without column names.
    preferred : str or None
        Pattern of column names that are taken alone where the file has such columns.
    """

    key: str | None = None
    label: str | None = None
    id: str | None = None
    ignored: tuple[str, ...] = ()
    wanted: tuple[str, ...] | None = None
    preferred: str | None = None

    def numbers_among(self, names: Sequence[str], aside: Collection[str | None]) -> list[str]:
        """Columns of numbers, those put ``aside`` left out."""
        if self.wanted is not None:
            return list(self.wanted)
        if self.preferred is not None:
            matching = [name for name in names if re.fullmatch(self.preferred, name)]
            if matching:
                return matching
        return [name for name in names if name not in aside]


@dataclass(frozen=True)
class Table:
    """Rows of numbers with what belongs to each row.

    Attributes
    ----------
    rows : array of shape (n_rows, n_columns)
        Numbers, all finite. May be a memory map.
    columns : list of str or None
        Names of the columns, where the file has them.
    labels, ids : array of shape (n_rows,) or None
        One label and one name per row.
    label_name, id_name : str
        What to call them in an output file.
    """

    rows: np.ndarray
    columns: list[str] | None = None
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    label_name: str = "label"
    id_name: str = "id"


def listed(names: Sequence[str], n_shown: int = 8) -> str:
    """Names for a message: the first few in full, the rest as a count."""
    shown = ", ".join(map(repr, names[:n_shown]))
    rest = len(names) - n_shown
    return f"{shown} and {rest} more" if rest > 0 else shown or "nothing"
