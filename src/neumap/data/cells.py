"""Say which cell of a table is no number, and what to do about it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.data.kinds import is_a, is_table

__all__ = ["refuse_cells"]


@dataclass(frozen=True)
class Unfit:
    """What a column holds in place of numbers, and what to do.

    Attributes
    ----------
    what, remedy : str
        Parts of the message.
    error : Exception or None
        Of the conversion to a number; its class and its words are kept.
    """

    what: str
    remedy: str
    error: Exception | None = None


ENCODE = (
    "Encode it (for example with sklearn.preprocessing.OneHotEncoder, or pandas.to_numeric for "
    "numbers written as text), or leave it out of X."
)
STACK = "Make one array with a row for each of them, with numpy.stack, and pass that."
RECORDS = "Make a table of them first, for example with pandas.DataFrame."
MISSING = (
    "Convert it to floating point (in pandas astype('Float64')) and impute or drop these rows."
)
OTHER = "Convert it to numbers, or leave it out of X."


def refuse_cells(values: Any) -> None:
    """Raise ValueError or TypeError for the first column that holds something else than numbers.

    Parameters
    ----------
    values : ndarray or table
        As the user passed it. Only columns of objects, text and dates are looked at.
    """
    for where, column in _columns(values):
        unfit = _describe(column)
        if unfit is not None:
            told = "" if unfit.error is None else f" ({unfit.error})"
            kind = TypeError if isinstance(unfit.error, TypeError) else ValueError
            raise kind(f"X must hold numbers, got {unfit.what}{where}{told}. {unfit.remedy}")


def _columns(values: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Columns that may hold something else than numbers, and where they are."""
    if is_a(values, "pandas", "DataFrame"):
        for position, name in enumerate(values.columns):
            yield f" in column {name!r}", np.asarray(values.iloc[:, position])
    elif is_a(values, "polars", "DataFrame"):
        for series in values.get_columns():
            yield f" in column {series.name!r}", np.asarray(series)
    elif is_table(values):
        for name, column in zip(values.column_names, values.columns, strict=True):
            yield f" in column {name!r}", np.asarray(column)
    elif values.dtype.kind not in "fiubc" and values.ndim == 2:
        for position in range(values.shape[1]):
            yield f" in column {position}", values[:, position]
    elif values.dtype.kind not in "fiubc":
        yield "", values.ravel()


def _describe(column: NDArray[Any]) -> Unfit | None:
    if column.ndim > 1:
        return Unfit(f"arrays of shape {column.shape[1:]}", STACK)
    if column.dtype.kind in "mM":
        return Unfit(f"dates or times ({column.dtype})", ENCODE)
    if column.dtype.kind in "USV":
        shown = f", such as {column[0]!s:.40} in its first row" if len(column) else ""
        return Unfit(f"text{shown}", ENCODE)
    return _describe_objects(column) if column.dtype.kind == "O" else None


def _describe_objects(column: NDArray[Any]) -> Unfit | None:
    for row, value in enumerate(column):
        if isinstance(value, str | bytes):
            return Unfit(f"text, such as {value!r:.40} in row {row},", ENCODE)
    try:
        column.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return next(filter(None, map(_describe_cell, range(len(column)), column)), None)
    return None


def _describe_cell(row: int, value: Any) -> Unfit | None:
    """Describe an object that is no number; None for a number, or None, which counts as NaN."""
    if value is None:
        return None
    try:
        float(value)
    except (TypeError, ValueError, OverflowError) as error:
        return _unfit(row, value, error)
    return None if np.ndim(value) == 0 else _unfit(row, value, None)


def _unfit(row: int, value: Any, error: Exception | None) -> Unfit:
    kind = type(value).__name__
    if kind in ("NAType", "NaTType"):
        return Unfit(f"a missing value ({value!r}) in row {row}", MISSING, error)
    is_date = isinstance(value, datetime.date | datetime.time | datetime.timedelta)
    if is_date or kind in ("Period", "Interval"):
        return Unfit(f"dates, times or intervals ({kind}, the first in row {row})", ENCODE, error)
    if isinstance(value, Mapping):
        return Unfit(f"a {kind} in row {row}", RECORDS, error)
    if np.ndim(value) > 0 or isinstance(value, list | tuple | np.ndarray):
        return Unfit(f"a {kind} of several numbers in row {row}", STACK, None)
    return Unfit(f"{value!r:.40} of type {kind} in row {row}", OTHER, error)
