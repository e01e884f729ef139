"""Say which cell of a table is no number, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neumap.data.tables import frame_of, series_of

__all__ = ["columns_of", "refuse_cells"]

ENCODE = (
    "Encode it (for example with sklearn.preprocessing.OneHotEncoder, or pandas.to_numeric for "
    "numbers written as text)"
)
AS_NUMBERS = "Turn it into numbers, such as the year, the hour or seconds since the first"
AS_COLUMNS = "Make columns of it, for example with numpy.stack"
AS_NULLABLE = "Give it a numeric type, with X.convert_dtypes() or X.astype('Float64')"
AS_PARTS = "Pass real and imaginary parts as separate features"
RESCALE = "Rescale it, for example with its logarithm"
TAKE_NUMBERS = "Take the numbers out of these objects"
TEMPORAL = (date, time, timedelta, np.datetime64, np.timedelta64)
# pandas' own kinds of values, by name: the package need not be imported.
TEMPORAL_NAMES = ("Period", "NaTType")


def refuse_cells(values: Any) -> None:
    """Raise ValueError or TypeError for the first column that holds something else than numbers.

    Parameters
    ----------
    values : ndarray or table
        As the user passed it. Only columns of objects, text and dates are read.
    """
    for name, column in columns_of(values):
        unfit = _describe_unfit(column)
        if unfit:
            what, advice = unfit
            message = (
                f"X must hold numbers, got {what} in column {name!r}. {advice}, or leave it out of "
                "X."
            )
            if advice == TAKE_NUMBERS:  # Python's words, which scikit-learn's checks look for
                raise TypeError(f"float() argument must be a string or a real number. {message}")
            raise ValueError(message)


def columns_of(values: Any) -> Iterator[tuple[Any, Any]]:
    """Columns that may hold something else than numbers, with their names or positions."""
    frame = frame_of(values)
    if frame is not None:
        for series in frame.iter_columns():
            yield series.name, series.to_native()
    elif values.dtype.kind not in "fiubc" and values.ndim == 2:
        for position in range(values.shape[1]):
            yield position, values[:, position]


def _describe_unfit(column: Any) -> tuple[str, str] | None:
    """Return what a column holds that is no number, and what to do about it."""
    if _is_temporal(column):
        return f"dates or times ({getattr(column, 'dtype', None) or column.type})", AS_NUMBERS
    values = np.asarray(column)
    if values.ndim > 1:  # an Array of polars
        return f"arrays of shape {values.shape[1:]}", AS_COLUMNS
    if values.dtype.kind in "mM":  # of a categorical column
        return f"dates or times ({values.dtype})", AS_NUMBERS
    if values.dtype.kind in "USV":
        example = f"text, such as {values[0]!s:.40} in its first row" if len(values) else "text"
        return example, ENCODE
    if values.dtype.kind != "O":
        return None
    unfit = {kind for kind in set(map(type, values)) if _advice_on(kind)}
    for row, value in enumerate(values) if unfit else ():
        if type(value) in unfit:
            what, advice = _advice_on(type(value)) or ("", "")
            return f"{what}, such as {value!r:.40} in row {row}", advice
    return _describe_too_large(values)


def _describe_too_large(values: NDArray[Any]) -> tuple[str, str] | None:
    """Name the first integer among objects that no float can hold."""
    try:
        values.astype(np.float64)
    except OverflowError:
        row = next(row for row, value in enumerate(values) if _is_too_large(value))
        return f"an integer too large for a float in row {row}", RESCALE
    return None


def _is_too_large(value: Any) -> bool:
    try:
        np.float64(value)
    except OverflowError:
        return True
    return False


def _is_temporal(column: Any) -> bool:
    """Whether the type of a column is one of dates, times or durations.

    Asked before the values are read: polars gives a Time column to numpy as nanoseconds.
    """
    series = series_of(column)
    if series is not None and series.dtype.is_temporal():
        return True
    return getattr(getattr(column, "dtype", None), "kind", "O") in "mM"


def _advice_on(kind: type) -> tuple[str, str] | None:
    """Return what values of this type are and what to do about them; None for numbers."""
    if issubclass(kind, str | bytes):
        return "text", ENCODE
    if issubclass(kind, TEMPORAL) or kind.__name__ in TEMPORAL_NAMES:
        return "dates or times", AS_NUMBERS
    if kind.__name__ == "NAType":
        return "missing values among objects", AS_NULLABLE
    if issubclass(kind, complex | np.complexfloating):
        return "complex numbers", AS_PARTS
    if issubclass(kind, np.ndarray | list | tuple | Tensor):
        return f"one {kind.__name__} per row", AS_COLUMNS
    # None is read as NaN; Decimal and Fraction have a __float__.
    if kind is type(None) or hasattr(kind, "__float__"):
        return None
    return f"{kind.__name__} objects", TAKE_NUMBERS
