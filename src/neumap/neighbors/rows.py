"""Maps of rows before a search and of distances after it.

Each map works on one row at a time, so it may be applied to any block of rows and to new rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

__all__ = [
    "arc_of_chord",
    "binary_rows",
    "centred_unit_rows",
    "float_rows",
    "half_square",
    "is_sparse",
    "of_ordinary_size",
    "probability_rows",
    "projected_rows",
    "root_half_square",
    "root_rows",
    "scaled_rows",
    "softmax_root_rows",
    "sphere_points",
    "unchanged",
    "unit_rows",
]

SMALLEST_PROBABILITY = 1e-11  # keeps the logarithm of empty cells finite
ORDINARY_EXPONENT = 40  # of two
ROUNDING = 2e-6  # of distances between rows of 60,000 numbers, relative: at most 6e-7


def is_sparse(data: Any) -> bool:
    """Whether the data are a scipy.sparse matrix or array."""
    return bool(scipy.sparse.issparse(data))


def unchanged(distance: NDArray[Any]) -> NDArray[Any]:
    """Distance as it is."""
    return distance


def half_square(distance: NDArray[Any]) -> NDArray[Any]:
    """``d^2 / 2``: from chords of the unit sphere to 1 - cosine, at most 2."""
    return _at_most(2.0, distance * distance / 2)


def root_half_square(distance: NDArray[Any]) -> NDArray[Any]:
    """``d / sqrt(2)``: from distance of root probabilities to Hellinger distance, at most 1."""
    return _at_most(1.0, distance / np.float32(np.sqrt(2)))


def _at_most(bound: float, distances: NDArray[Any]) -> NDArray[Any]:
    """Distances, of which those that rounding sets apart from the bound are equal to it.

    Rows at the bound have nothing in common. They are told from others by this distance alone.
    """
    return np.where(distances >= bound * (1 - ROUNDING), distances.dtype.type(bound), distances)


def arc_of_chord(distance: NDArray[Any]) -> NDArray[Any]:
    """Angle in radians that a chord of the unit sphere spans."""
    return np.asarray(2 * np.arcsin(np.minimum(distance / 2, 1)))


def float_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows as contiguous float32; no copy where they are already."""
    return np.ascontiguousarray(rows, dtype=np.float32)


def scaled_rows(rows: NDArray[Any], scale: NDArray[Any]) -> NDArray[Any]:
    """Each column times its scale."""
    return np.ascontiguousarray(rows * scale.astype(np.float32), dtype=np.float32)


def projected_rows(rows: NDArray[Any], matrix: NDArray[Any]) -> NDArray[Any]:
    """Rows times a matrix."""
    return float_rows(float_rows(rows) @ matrix.astype(np.float32))


def binary_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """1 where a row is not zero."""
    return np.ascontiguousarray(rows != 0, dtype=np.float32)


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows divided by their norm, with one more column that only zero rows use.

    A zero row has no direction. The additional dimension puts it at cosine distance 1 from every
    other row and 0 from other zero rows, as umap-learn defines it.
    """
    unit = _with_zero_column(rows)
    unit[:, :-1] = of_ordinary_size(rows)
    return _normalise(unit)


def centred_unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Unit rows after subtracting each row's mean."""
    unit = _with_zero_column(rows)
    values = float_rows(of_ordinary_size(rows))
    means = values.mean(axis=1, keepdims=True)
    np.subtract(values, means, out=unit[:, :-1])
    # What rounding leaves of a constant row has no direction.
    noise = np.abs(means[:, 0]) * 1e-6 * np.sqrt(rows.shape[1])
    return _normalise(unit, smallest_norm=noise)


def root_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Square roots of rows that sum to one; a row of zeros gets a dimension of its own."""
    if rows.size and rows.min() < 0:
        raise ValueError(
            "X must not be negative where metric='hellinger', which compares distributions, got a "
            f"smallest value of {rows.min()}. Shift or clip X, or choose another metric."
        )
    unit = _with_zero_column(rows)
    np.sqrt(of_ordinary_size(rows), out=unit[:, :-1], casting="same_kind", dtype=np.float32)
    return _normalise(unit)


def softmax_root_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Square roots of the softmax of each row."""
    values = float_rows(rows)
    return root_rows(np.exp(values - values.max(axis=1, keepdims=True)))


def probability_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows shifted off zero and divided by their sum."""
    shifted = float_rows(rows).astype(np.float64) + SMALLEST_PROBABILITY
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def sphere_points(rows: NDArray[Any]) -> NDArray[Any]:
    """Points on the unit sphere from (latitude, longitude) in radians."""
    if rows.shape[1] != 2:
        raise ValueError(
            "X must have two columns where metric='haversine', latitude and longitude in radians, "
            f"got {rows.shape[1]}. Select these two columns, or choose another metric."
        )
    latitude, longitude = np.asarray(rows, dtype=np.float64).T
    parallel = np.cos(latitude)
    points = [parallel * np.cos(longitude), parallel * np.sin(longitude), np.sin(latitude)]
    return float_rows(np.stack(points, axis=1))


def of_ordinary_size(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows of which very large and very small ones are multiplied by a power of two.

    Their squares would leave the range of float32. For maps that ignore the length of a row.
    """
    if rows.dtype.itemsize == 1:
        return rows
    size = np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0))
    exponent = np.frexp(size)[1] & ~1  # even: the root of its power of two is one as well
    is_extreme = (np.abs(exponent) > ORDINARY_EXPONENT) & (size > 0)
    if not is_extreme.any():
        return rows
    return np.asarray(np.ldexp(rows, np.where(is_extreme, -exponent, 0)[:, None]))


def _with_zero_column(rows: NDArray[Any]) -> NDArray[Any]:
    return np.zeros((rows.shape[0], rows.shape[1] + 1), dtype=np.float32)


def _normalise(unit: NDArray[Any], smallest_norm: NDArray[Any] | float = 0.0) -> NDArray[Any]:
    """Divide rows by their norm in place; those without one become the last unit vector."""
    norms = np.sqrt(np.einsum("ij,ij->i", unit, unit))
    is_zero = norms <= smallest_norm
    unit /= np.where(is_zero, 1, norms)[:, None]
    unit[is_zero] = 0
    unit[is_zero, -1] = 1
    return unit
