"""Check what the user passed as ``X``, once, at the public edge.

`check_input` accepts every container the package reads and returns data that a row store can wrap,
with the names and shape an estimator keeps. Where scikit-learn has a rule (feature names, widths,
dtypes, wording of its messages) the rule is scikit-learn's.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.utils.validation import _check_feature_names

from neumap.data.containers import Contents, narrowed, open_container, plain_values
from neumap.data.dataset import DatasetRows
from neumap.data.digits import warn_of_lost_digits
from neumap.data.finite import LARGEST, find_non_finite
from neumap.data.kinds import is_dataset, is_row_files
from neumap.data.tables import refuse_repeated_names

__all__ = ["Validated", "check_input"]

logger = logging.getLogger(__name__)

CONSTANT_CHECK_ROWS = 10_000


@dataclass(frozen=True)
class Validated:
    """Checked input.

    Attributes
    ----------
    X : ndarray, scipy CSR, Tensor, array on disk or Dataset
        The data, ready for `as_rows`. Arrays are float32, uint8 or bool.
    feature_names : ndarray of str or None
        Names of the columns, by scikit-learn's rule: only if all of them are strings.
    n_features : int
        Number of values per row.
    row_shape : tuple of int
        Shape of one row; ``(n_features,)`` for flat data.
    is_finite : bool
        Whether missing and infinite values were refused; False where the check let some pass.
    """

    X: Any
    feature_names: NDArray[Any] | None
    n_features: int
    row_shape: tuple[int, ...]
    is_finite: bool


def check_input(  # noqa: PLR0913 - what is expected of X, and how to name it
    X: Any,
    *,
    ensure_all_finite: bool | Literal["allow-nan"] = True,
    n_features: int | None = None,
    feature_names: NDArray[Any] | None = None,
    min_rows: int = 1,
    estimator_name: str = "ParametricUMAP",
    column: str | None = None,
) -> Validated:
    """Check input data and bring them to a form that a row store wraps.

    Parameters
    ----------
    X : array-like, table, sparse matrix, Tensor, array on disk, Dataset or AnnData
        Data with one row per sample. Rows may have more than one axis.
    ensure_all_finite : bool or "allow-nan", default=True
        True refuses missing and infinite values, ``"allow-nan"`` only infinite ones, False neither.
        The check reads all data once; data on disk and Datasets are read in tiles.
    n_features : int, optional
        Width the estimator was fitted on; None while fitting.
    feature_names : array of str, optional
        Column names the estimator was fitted on; only used if `n_features` is given.
    min_rows : int, default=1
        Smallest number of rows that the estimator can use.
    estimator_name : str, default="ParametricUMAP"
        Name for the messages.
    column : str, optional
        Column of a table with one vector per row; None finds it, where it is the only one.

    Returns
    -------
    Validated
        The data with their names and shape.

    Warns
    -----
    UserWarning
        While fitting, if columns differ by less than float32 holds. If columns beside the vectors
        of a table are left out and `column` does not name the vectors.

    Raises
    ------
    ValueError
        If the data have the wrong shape, width or names, hold text, complex, missing or infinite
        values, or too few rows.
    TypeError
        If the container cannot be read row by row.

    Examples
    --------
    >>> checked = check_input([[0, 1], [2, 3], [4, 5]])
    >>> checked.X.dtype, checked.n_features
    (dtype('float32'), 2)
    """
    if ensure_all_finite not in (True, False, "allow-nan"):
        raise ValueError(
            f"ensure_all_finite must be a bool or 'allow-nan', got {ensure_all_finite!r}. Leave it "
            "at True if unsure."
        )
    contents = open_container(X, column=column)
    names = _checked_names(contents, n_features, feature_names, estimator_name)
    plain = plain_values(contents)
    values = narrowed(plain, estimator_name)
    readable = DatasetRows(values) if is_dataset(values) else values
    shape = _shape(readable)
    _check_shape(shape, min_rows, estimator_name)
    width = math.prod(shape[1:])
    if n_features is not None and width != n_features:
        raise ValueError(_wrong_width(width, n_features, estimator_name))
    if ensure_all_finite is not False and not get_config()["assume_finite"]:
        _check_finite(readable, ensure_all_finite == "allow-nan", names, estimator_name)
    if n_features is None:
        warn_of_lost_digits(plain, names)
    _log_constant_columns(values)
    return Validated(
        X=values,
        feature_names=names,
        n_features=width,
        row_shape=tuple(shape[1:]),
        is_finite=ensure_all_finite is True,
    )


def _shape(readable: Any) -> tuple[int, ...]:
    if isinstance(readable, DatasetRows):
        return (readable.n_rows, *readable.row_shape)
    return tuple(readable.shape)


def _checked_names(
    contents: Contents,
    n_features: int | None,
    feature_names: NDArray[Any] | None,
    estimator_name: str,
) -> NDArray[Any] | None:
    """Read the column names; in a fitted estimator compare them with those it was fitted on."""
    # scikit-learn's rule works on an estimator: it reads and writes feature_names_in_ and, in its
    # messages, the name of the class.
    fitted = type(estimator_name, (), {})()
    named = np.empty((0, 0)) if contents.named is None else contents.named
    refuse_repeated_names(contents.named)
    if n_features is None:
        _check_feature_names(fitted, named, reset=True)
        return getattr(fitted, "feature_names_in_", None)
    if feature_names is not None:
        fitted.feature_names_in_ = np.asarray(feature_names, dtype=object)
    _check_feature_names(fitted, named, reset=False)
    return feature_names


def _check_shape(shape: tuple[int, ...], min_rows: int, estimator_name: str) -> None:
    if len(shape) < 2:
        what = "scalar" if not shape else "1D"
        raise ValueError(
            f"Expected 2D array, got {what} array instead, of shape {shape}.\n"
            "Reshape your data either using array.reshape(-1, 1) if your data has a single feature "
            "or array.reshape(1, -1) if it contains a single sample."
        )
    if 0 in shape[1:]:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required by "
            f"{estimator_name}. Check how the columns of X were selected."
        )
    if shape[0] < min_rows:
        raise ValueError(
            f"Found array with {shape[0]} sample(s) (shape={shape}) while a minimum of {min_rows} "
            f"is required by {estimator_name}. Pass more rows; check how they were selected."
        )


def _wrong_width(width: int, n_features: int, estimator_name: str) -> str:
    return (
        f"X has {width} features, but {estimator_name} is expecting {n_features} features as "
        f"input: it was fitted on rows of that width. Pass the same columns in the same "
        "order, or fit again on these data."
    )


def _check_finite(
    readable: Any, allow_nan: bool, names: NDArray[Any] | None, estimator_name: str
) -> None:
    found = find_non_finite(readable)
    if found.n_nan and not allow_nan:
        raise ValueError(
            f"Input X contains NaN: {found.n_nan} missing value(s), the first "
            f"{_where(found.first_nan, names, readable)}. {estimator_name} does not accept missing "
            "values. Impute them (for example with sklearn.impute.SimpleImputer) or drop these "
            "rows."
        )
    if found.n_inf:
        dtype = getattr(readable, "dtype", np.dtype(np.float32))
        raise ValueError(
            f"Input X contains infinity or a value too large for {dtype!r}: {found.n_inf} "
            f"value(s), the first {_where(found.first_inf, names, readable)}. Clip or rescale X to "
            f"values of at most {LARGEST:.0e}, or drop these rows."
        )


def _where(position: tuple[int, ...] | None, names: NDArray[Any] | None, readable: Any) -> str:
    row, *rest = position or (0, 0)
    place = f" ({readable.where(row)})" if is_row_files(readable) else ""
    if len(rest) > 1:
        return f"in row {row}{place} at {tuple(rest)}"
    return f"in row {row}{place}, column {rest[0] if names is None else repr(names[rest[0]])}"


def _log_constant_columns(values: Any) -> None:
    """Log constant columns at level DEBUG: they hold no information but do no harm."""
    dense = isinstance(values, np.ndarray) and values.ndim == 2 and len(values) > 1
    if not dense or not logger.isEnabledFor(logging.DEBUG):
        return
    head = values[:CONSTANT_CHECK_ROWS]
    constant = np.flatnonzero((head == head[0]).all(axis=0)).tolist()
    if constant:
        logger.debug(
            "%d of %d columns are constant in the first %d rows, such as %s",
            len(constant), values.shape[1], len(head), constant[:10],
        )  # fmt: skip
