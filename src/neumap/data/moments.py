"""Mean and overall scale of a sample of rows.

The scale is the standard deviation along the first principal component. Only that one eigenvalue is
needed, so it is computed by a Lanczos iteration on products with the sample. That works for dense
and sparse rows and never forms the covariance of wide rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from neumap.data.rows import Matrix, RowMoments, RowStore

__all__ = ["dense_row_moments", "matrix_moments", "sample_rows"]

Vector = NDArray[np.float64]

MAX_SAMPLE_BYTES = 2**28  # wide rows need fewer of them: the sample stays below this
MIN_SAMPLE_ROWS = 256
ORDINARY_EXPONENT = 40  # of two
NARROW = 64  # up to this many features the covariance itself is cheap, and exact


def dense_row_moments(rows: RowStore, max_rows: int, seed: int | np.random.Generator) -> RowMoments:
    """Return the moments of a sample of rows of a store."""
    rng = np.random.default_rng(seed)
    chosen = sample_rows(rows.n_rows, max_rows, rng, bytes_per_row=4 * rows.n_features)
    sample = rows.gather(torch.from_numpy(chosen)).view(len(chosen), -1)
    return matrix_moments(sample.cpu().numpy(), rng, rows.device)


def sample_rows(
    n_rows: int, max_rows: int, seed: int | np.random.Generator, bytes_per_row: int = 0
) -> NDArray[np.int64]:
    """Draw row numbers without replacement, in ascending order; all of them if they fit."""
    if max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, got {max_rows}. Pass a number of rows.")
    affordable = max(MIN_SAMPLE_ROWS, MAX_SAMPLE_BYTES // max(bytes_per_row, 1))
    n_sampled = min(n_rows, max_rows, affordable)
    if n_sampled == n_rows:
        return np.arange(n_rows, dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(n_rows, size=n_sampled, replace=False)
    return np.sort(drawn).astype(np.int64)


def matrix_moments(
    sample: Matrix, seed: int | np.random.Generator, device: torch.device
) -> RowMoments:
    """Return the moments of the rows of a matrix, without rows that hold NaN or infinity."""
    start: Vector = np.random.default_rng(seed).standard_normal((sample.shape[1],))
    if sparse.issparse(sample) and sample.shape[1] > NARROW:
        mean, scale = _sparse_moments(_finite_sparse_rows(sample), start)
    else:
        dense = sample.toarray() if sparse.issparse(sample) else np.asarray(sample)
        finite = np.isfinite(dense).all(axis=1)
        mean, scale = _dense_moments(dense if finite.all() else dense[finite], start)
    # The network divides by the scale as float32, which must not round it to zero or infinity.
    limits = np.finfo(np.float32)
    held = min(max(scale, float(limits.smallest_subnormal)), float(limits.max))
    return RowMoments(
        mean=torch.from_numpy(mean.astype(np.float32)).to(device),
        scale=held if scale > 0.0 else 1.0,
    )


def _dense_moments(rows: NDArray[np.float32], start: Vector) -> tuple[Vector, float]:
    n_rows, n_features = rows.shape
    if n_rows == 0:
        return np.zeros(n_features), 0.0
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows - mean.astype(np.float32)  # centre first: a far-off cloud keeps its digits
    if n_features <= NARROW:
        precise = centred.astype(np.float64)
        largest = float(np.linalg.eigvalsh(precise.T @ precise)[-1])
        return mean, math.sqrt(max(largest, 0.0) / n_rows)
    largest = max(float(centred.max()), -float(centred.min()))
    if largest == 0.0:
        return mean, 0.0
    # The products are float32: a power of two keeps squares within its range, digits unchanged.
    exponent = math.frexp(largest)[1]
    if abs(exponent) > ORDINARY_EXPONENT:
        _, scale = _dense_moments(np.ldexp(centred, -exponent), start)
        return mean, math.ldexp(scale, exponent)

    def scatter_product(v: Vector) -> Vector:
        return np.asarray(centred.T @ (centred @ v.astype(np.float32)), dtype=np.float64)

    return mean, _leading_deviation(scatter_product, n_rows, start)


def _sparse_moments(rows: sparse.csr_matrix, start: Vector) -> tuple[Vector, float]:
    n_rows, n_features = rows.shape
    if n_rows == 0:
        return np.zeros(n_features), 0.0
    mean = np.asarray(rows.mean(axis=0), dtype=np.float64).ravel()
    mean_square = np.asarray(rows.multiply(rows).mean(axis=0), dtype=np.float64).ravel()
    if not (mean_square > mean**2).any():
        return mean, 0.0

    def scatter_product(v: Vector) -> Vector:
        projected = rows @ v - mean @ v  # centres without a dense copy of the rows
        return np.asarray(rows.T @ projected - mean * projected.sum())

    return mean, _leading_deviation(scatter_product, n_rows, start)


def _finite_sparse_rows(sample: Matrix) -> sparse.csr_matrix:
    rows = sparse.csr_matrix(sample, dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(rows.data))
    if broken.size == 0:
        return rows
    keep = np.ones(rows.shape[0], dtype=bool)
    keep[np.searchsorted(rows.indptr, broken, side="right") - 1] = False
    return rows[keep]


def _leading_deviation(
    scatter_product: Callable[[Vector], Vector], n_rows: int, start: Vector
) -> float:
    """Standard deviation along the first principal component, from products with the scatter."""
    n_features = len(start)
    operator = LinearOperator((n_features, n_features), matvec=scatter_product, dtype=np.float64)
    # The error of an eigenvalue is of the order of the tolerance squared.
    largest = eigsh(operator, k=1, which="LA", v0=start, tol=1e-2, return_eigenvectors=False)[0]
    return math.sqrt(max(float(largest), 0.0) / n_rows)
