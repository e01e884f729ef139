"""Principal components of a matrix that may be large, sparse or on disk.

In: rows. Out: their positions along the first principal axes. The matrix is only multiplied by a
block of a few columns, a slice of rows at a time, so uint8 images are not copied to float and
sparse rows are not made dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

__all__ = ["flat_rows", "principal_positions"]

# Columns beyond the wanted ones (Halko, Martinsson and Tropp 2011), the relative change of the
# variances that ends the iteration, and the most sweeps over the data.
N_EXTRA = 8
TOLERANCE = 1e-4
MOST_SWEEPS = 20

SLICE_ROWS = 8192
ORDINARY_EXPONENT = 40  # of two


def principal_positions(
    X: Any, n_components: int, *, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return the scores of the rows on the first principal axes.

    Parameters
    ----------
    X : array of shape (n, ...) or sparse matrix of shape (n, n_features)
        Rows, finite; anything after the first axis is flattened.
    n_components : int
        Number of axes. Axes that the data do not have are zeros.
    generator : numpy.random.Generator
        Draws the start of the iteration.

    Returns
    -------
    array of shape (n, n_components), float32
        Largest variance first; the entry of largest size in each column is positive.
    """
    matrix = flat_rows(X)
    n_features = matrix.shape[1]
    # In float64, so that bytes and floats of equal value have equal means.
    mean = np.asarray(matrix.mean(axis=0, dtype=np.float64)).ravel()
    exponent = _exponent(matrix)
    mean = np.ldexp(mean, -exponent)
    width = min(n_components + N_EXTRA, n_features)
    axes = np.linalg.qr(generator.standard_normal((n_features, width)))[0]
    values = np.zeros(width)
    for _ in range(MOST_SWEEPS):
        image = _covariance_times(matrix, exponent, mean, axes)  # (n_features, width)
        ascending, rotation = np.linalg.eigh(axes.T @ image)
        before, values = values, ascending[::-1]
        axes = np.linalg.qr(image @ rotation[:, ::-1])[0]
        if np.allclose(values[:n_components], before[:n_components], rtol=TOLERANCE, atol=0.0):
            break
    kept = axes[:, :n_components]
    scores = np.zeros((matrix.shape[0], n_components), dtype=np.float32)
    for rows, part in _slices(matrix, exponent):
        scores[rows, : kept.shape[1]] = part @ kept - mean @ kept
    scores[:, : kept.shape[1]] *= _has_variance(values[: kept.shape[1]])
    largest = np.abs(scores).argmax(axis=0)
    signs = np.sign(scores[largest, np.arange(n_components)])
    scores *= np.where(signs == 0, 1, signs).astype(np.float32)
    return np.ldexp(scores, exponent) if exponent else scores


def flat_rows(X: Any) -> Any:
    """Return the rows as a two-dimensional array, or as a CSR matrix where they are sparse.

    Infinite distances become the largest finite one; missing values become 0.
    """
    is_sparse: bool = scipy.sparse.issparse(X)
    if is_sparse:
        return X.tocsr()
    rows = np.asarray(X).reshape(X.shape[0], -1)
    if rows.size == 0 or np.isfinite([rows.min(), rows.max()]).all():
        return rows
    is_finite = np.isfinite(rows)
    largest = np.abs(rows, where=is_finite, out=np.zeros_like(rows)).max()
    return np.nan_to_num(rows, nan=0.0, posinf=largest, neginf=-largest)


def _has_variance(values: NDArray[Any]) -> NDArray[Any]:
    """Which axes have more variance than rounding noise; the others are arbitrary directions."""
    return values > 1e-10 * max(float(values.max()), np.finfo(np.float64).tiny)


def _exponent(matrix: Any) -> int:
    """Power of two of the largest value where its square leaves the range of float32, else 0."""
    is_sparse: bool = scipy.sparse.issparse(matrix)
    values = matrix.data if is_sparse else matrix
    if values.size == 0 or values.dtype.itemsize == 1:
        return 0
    largest = max(float(values.max()), -float(values.min()))
    exponent = math.frexp(largest)[1]
    return exponent if abs(exponent) > ORDINARY_EXPONENT and largest > 0.0 else 0


def _slices(matrix: Any, exponent: int) -> Iterator[tuple[slice, Any]]:
    """Yield slices of rows, float32 if dense, divided by ``2**exponent``."""
    is_sparse: bool = scipy.sparse.issparse(matrix)
    for start in range(0, matrix.shape[0], SLICE_ROWS):
        rows = slice(start, min(start + SLICE_ROWS, matrix.shape[0]))
        part = matrix[rows]
        if is_sparse:
            yield rows, part * 2.0**-exponent if exponent else part
        else:
            dense = part.astype(np.float32)
            yield rows, np.ldexp(dense, -exponent) if exponent else dense


def _covariance_times(
    matrix: Any, exponent: int, mean: NDArray[Any], block: NDArray[Any]
) -> NDArray[Any]:
    """Multiply the scatter matrix of the centred rows by a block, (n_features, width)."""
    total = np.zeros_like(block)
    shift = mean @ block
    column_sums = np.zeros(block.shape[1])
    thin = block.astype(np.float32)
    for _, part in _slices(matrix, exponent):
        scores = part @ thin - shift.astype(np.float32)  # (slice, width)
        total += part.T @ scores
        column_sums += scores.sum(axis=0)
    total -= np.outer(mean, column_sums)
    return total
