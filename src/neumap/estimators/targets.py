"""Targets of a fit: one label or value per row, read once for graph, classifier and landmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning

from neumap._labels import UNLABELLED, Classes, Column, read_column
from neumap._warnings import warn_user

__all__ = ["accuracy", "check_targets", "encode_classes"]


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
