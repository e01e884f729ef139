"""Is the data recovered? Errors of a decoder, over all values at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap.metrics.checks import check_rows

__all__ = ["reconstruction_error", "reconstruction_r2"]


def reconstruction_error(X: ArrayLike, reconstruction: ArrayLike) -> float:
    """Return the mean squared error per value.

    Parameters
    ----------
    X, reconstruction : arrays of shape (n_samples, ...)
        The data and what the decoder made of its positions. Rows of any shape are flattened.

    Returns
    -------
    float
        In squared units of `X`; 0 is best.

    Raises
    ------
    ValueError
        If shapes differ or values are not finite.

    Examples
    --------
    >>> reconstruction_error([[0.0, 1.0]], [[0.0, 0.5]])
    0.125
    """
    return _squared_sum(*_paired(X, reconstruction)) / np.asarray(X).size


def reconstruction_r2(X: ArrayLike, reconstruction: ArrayLike) -> float:
    """Return the share of the variance of the data that the reconstruction explains.

    One figure over all columns together, ``1 - sum (x - x')^2 / sum (x - column mean)^2``, so that
    columns with little or no variance (the border of an image) do not dominate it.

    Parameters
    ----------
    X, reconstruction : arrays of shape (n_samples, ...)
        The data and what the decoder made of its positions. Rows of any shape are flattened.

    Returns
    -------
    float
        At most 1; 0 for a decoder that always answers the mean row.

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or all rows of `X` are equal.

    Examples
    --------
    >>> reconstruction_r2([[0.0], [2.0]], [[0.5], [1.5]])
    0.75
    """
    data, rebuilt = _paired(X, reconstruction)
    mean = data.mean(axis=0, dtype=np.float64)
    spread = _squared_sum(data, np.broadcast_to(mean, data.shape))
    if spread == 0:
        raise ValueError(
            f"X must hold rows that differ, got {len(data)} equal rows. "
            "Use reconstruction_error for a constant target."
        )
    return 1.0 - _squared_sum(data, rebuilt) / spread


def _paired(X: ArrayLike, reconstruction: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    data, rebuilt = check_rows(X, "X"), check_rows(reconstruction, "reconstruction")
    if data.shape != rebuilt.shape:
        raise ValueError(
            "X and reconstruction must have the same shape, "
            f"got {data.shape} and {rebuilt.shape} after flattening. Pass the same rows."
        )
    return data, rebuilt


def _squared_sum(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Sum of squared differences in float64, a thousand rows at a time."""
    total = 0.0
    for start in range(0, len(first), 1000):
        difference = first[start : start + 1000].astype(np.float64) - second[start : start + 1000]
        total += float(np.square(difference).sum())
    return total
