"""Targets of a fit: one label or value per row, read once for graph, classifier and landmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning

from neumap._labels import UNLABELLED, Classes, Column, read_column
from neumap._warnings import warn_user

__all__ = [
    "accuracy",
    "check_sample_weight",
    "check_targets",
    "encode_classes",
    "weights_before_landmarks",
]


def check_targets(y: Any, n_rows: int) -> Column:
    """Return y as a column with one entry per row.

    Raises
    ------
    TypeError
        If it is no sequence.
    ValueError
        If it has another length.

    Warns
    -----
    DataConversionWarning
        If it is an array with two axes and one column, as scikit-learn warns.
    """
    column = read_column(y)
    if isinstance(y, np.ndarray) and y.shape == (n_rows, 1):
        warn_user(
            "A column-vector y was passed when a 1d array was expected. Pass y.ravel().",
            DataConversionWarning,
        )
    if len(column.shape) == 0 or column.shape[0] != n_rows:
        raise ValueError(
            f"y must have one entry per row of X: expected {n_rows}, got shape {column.shape}. "
            "Mark rows without a label with -1."
        )
    return column


def check_sample_weight(sample_weight: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Return the weights of rows divided by their largest; None for none.

    Raises
    ------
    ValueError
        If there is not one finite number per row, one is negative, or fewer than two are positive.
    """
    if sample_weight is None:
        return None
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"sample_weight must hold numbers, got {type(sample_weight).__name__} ({error}). Pass "
            "one number per row of X."
        ) from error
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight must have shape ({n_rows},), one number per row of X, got "
            f"{weights.shape}. Pass numpy.ones({n_rows}) for equal weights."
        )
    if not np.isfinite(weights).all() or (weights < 0.0).any():
        bad = int(np.flatnonzero(~np.isfinite(weights) | (weights < 0.0))[0])
        raise ValueError(
            f"sample_weight must hold finite numbers of at least 0, got {weights[bad]} in row "
            f"{bad}. Use 0 for rows that should not take part."
        )
    if (weights > 0.0).sum() < 2:
        raise ValueError(
            "sample_weight must be positive for at least two rows, got "
            f"{int((weights > 0.0).sum())} and zero for the others. Raise some weights."
        )
    # The largest is 1 whatever the unit, so that products of two do not overflow.
    return np.asarray(weights / weights.max())


def weights_before_landmarks(
    sample_weight: Any, n_rows: int, n_landmarks: int
) -> NDArray[np.float64] | None:
    """Return the weights of rows, and of landmarks after them, which get the mean weight."""
    weights = check_sample_weight(sample_weight, n_rows)
    if weights is None:
        return None
    return np.concatenate([weights, np.full(n_landmarks, weights.mean())])


def encode_classes(y: Column) -> Classes:
    """Number the labels of y for a classifier.

    Raises
    ------
    ValueError
        If y has more than one column, no label at all, or measurements instead of classes.

    Warns
    -----
    UserWarning
        If there is one class besides -1, which may have been meant as a class.
    """
    _check_one_column(y)
    unlabelled = y.unlabelled()
    if unlabelled.all():
        raise ValueError(
            "y must hold labels for a classifier, got -1 (unlabelled) in every row. Label some "
            "rows, or set classifier_loss_weight=0."
        )
    classes = y.classes()
    n_labels, n_labelled = len(classes.labels), int((~unlabelled).sum())
    is_fractional = y.values.dtype.kind == "f" and (classes.labels % 1 != 0).any()
    if is_fractional and n_labels > n_labelled / 2:
        # The first words are scikit-learn's for every classifier.
        raise ValueError(
            "Unknown label type: continuous. y must hold classes for a classifier, got "
            f"{n_labels} different fractional numbers in {n_labelled} labelled rows. Turn "
            "measurements into classes, for example with numpy.digitize, or set "
            "classifier_loss_weight=0."
        )
    if len(classes.labels) == 1 and (y.values == UNLABELLED).any():
        warn_user(
            f"y holds one class, {classes.labels[0]!r}, besides -1, which marks rows without a "
            "label. If -1 is a class, give it another number, such as 0."
        )
    return classes


def accuracy(predicted: Any, y: Column, weights: Any = None) -> float:
    """Return the share of labelled rows that were predicted right.

    Raises
    ------
    ValueError
        If y has no label, or labels of another kind than the predictions.
    """
    _check_one_column(y)
    labelled = ~y.unlabelled()
    if not labelled.any():
        raise ValueError(
            "y must hold the label of at least one row, got -1 (unlabelled) in every row. Score "
            "rows whose labels are known."
        )
    truth, ours = y[labelled], read_column(predicted)[labelled]
    if truth.kinds() != ours.kinds():
        raise ValueError(
            f"y must hold labels as they were in fit, {' and '.join(sorted(ours.kinds()))}, got "
            f"{' and '.join(sorted(truth.kinds()))}. Pass labels that are in classes_."
        )
    right = ours.values == truth.values
    return float(np.average(right, weights=None if weights is None else _of(weights, labelled)))


def _of(weights: Any, labelled: Any) -> Any:
    return np.asarray(weights, dtype=np.float64)[labelled]


def _check_one_column(y: Column) -> None:
    if len(y.shape) != 1:
        raise ValueError(
            f"y must be one label per row for a classifier, got shape {y.shape}. Pass one column."
        )
