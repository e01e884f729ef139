"""Targets of a fit: one label or value per row, and the classes among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from neumap._labels import UNLABELLED

__all__ = ["Classes", "check_targets", "encode_classes"]


@dataclass(frozen=True)
class Classes:
    """Distinct labels in order, and the code of each row's label; -1 for unlabelled rows."""

    labels: NDArray[Any]
    codes: NDArray[np.int64]


def check_targets(y: Any, n_rows: int) -> NDArray[Any]:
    """Return y as an array with one entry per row.

    Raises
    ------
    ValueError
        If it has another length.
    """
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = column_or_1d(values, warn=True)
    if values.ndim == 0 or len(values) != n_rows:
        raise ValueError(
            f"y must have one entry per row of X: expected {n_rows}, got shape {values.shape}. "
            "Mark rows without a label with -1."
        )
    return values


def encode_classes(y: NDArray[Any]) -> Classes:
    """Number the labels of y; -1 (and NaN) stay unlabelled.

    Raises
    ------
    ValueError
        If y has more than one column or no label at all.
    """
    if y.ndim != 1:
        raise ValueError(
            f"y must be one label per row for a classifier, got shape {y.shape}. Pass one column."
        )
    known = np.ones(len(y), dtype=bool)
    if y.dtype.kind in "if":
        known = (y != UNLABELLED) & ~np.isnan(y)
    if not known.any():
        raise ValueError(
            "y must hold labels for a classifier, got -1 (unlabelled) in every row. Label some "
            "rows, or set classifier_loss_weight=0."
        )
    labels, found = np.unique(y[known], return_inverse=True)
    codes = np.full(len(y), UNLABELLED, dtype=np.int64)
    codes[known] = found
    return Classes(labels, codes)
