"""What the scores accept: finite numeric rows, labels of some of them, counts that make sense.

Every function returns the array to work with, or raises an error that says what the argument must
be, what it is, and what to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap._labels import Classes, Column, read_column

__all__ = [
    "Floats",
    "Ints",
    "check_between",
    "check_labels",
    "check_rows",
    "check_same_length",
    "classes_of",
]

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def check_rows(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return `values` as finite numeric rows; images and sequences are flattened per row."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must be a dense numeric array, one row per sample, "
            f"got {type(values).__name__} with dtype {array.dtype}. "
            "Convert it first, for example with .toarray() or .to_numpy(dtype='float32')."
        )
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(
            f"{name} must have shape (n_samples, n_columns) with at least one of each, "
            f"got shape {array.shape}. Use reshape(-1, 1) for a single column."
        )
    rows = array.reshape(len(array), -1)
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        n_bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise ValueError(
            f"{name} must be finite, got NaN or infinity in {n_bad} of {len(rows)} rows. "
            "Drop or fill those rows before scoring."
        )
    return rows


def check_labels(labels: Any, rows: NDArray[Any], name: str) -> Column:
    """Return `labels` as one label per row, at least one of them known."""
    column = read_column(labels, name)
    if column.shape != (len(rows),):
        raise ValueError(
            f"{name} must hold one label per row, shape ({len(rows)},), got shape {column.shape}. "
            "Pass the labels of exactly the rows that are scored."
        )
    if column.unlabelled().all():
        raise ValueError(
            f"{name} must hold the label of at least one row, got -1 (unlabelled) in every row. "
            "Label some rows, or leave the argument out."
        )
    return column


def classes_of(
    labels: Any, rows: NDArray[Any], name: str
) -> tuple[Classes, NDArray[np.bool_] | slice]:
    """Return the classes of the labelled rows, and which rows these are."""
    classes = check_labels(labels, rows, name).classes()
    labelled = classes.codes >= 0
    if labelled.all():
        return classes, slice(None)  # which takes no copy
    return Classes(classes.labels, classes.codes[labelled]), labelled


def check_same_length(
    first: NDArray[Any], second: NDArray[Any], first_name: str, second_name: str
) -> None:
    """Raise unless both arrays have as many rows."""
    if len(first) != len(second):
        raise ValueError(
            f"{first_name} and {second_name} must describe the same rows in the same order, "
            f"got {len(first)} and {len(second)} rows. Pass the rows that were embedded."
        )


def check_between(value: int, name: str, low: int, high: int, reason: str) -> None:
    """Raise unless ``low <= value <= high``; `reason` says where the upper bound comes from."""
    if not low <= value <= high:
        raise ValueError(
            f"{name} must be between {low} and {high} ({reason}), got {value}. "
            f"Choose another {name} or score more rows."
        )
