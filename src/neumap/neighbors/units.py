"""Units of a search: data whose squares leave the range of float32 are scaled by a power of two.

A power of two changes no digit, so the neighbours of X are those of ``c X``. Data of ordinary size
are not touched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.neighbors.metrics import Metric

__all__ = ["exponent_of_unit", "in_user_units", "largest_value", "scaled_by"]

# How each metric follows the unit of X: d(c x, c y) = c^degree d(x, y).
DEGREES = {
    "euclidean": 1,
    "sqeuclidean": 2,
    "manhattan": 1,
    "chebyshev": 1,
    "minkowski": 1,
    "canberra": 0,
    "braycurtis": 0,
    "cosine": 0,
    "correlation": 0,
    "hellinger": 0,
}
TOP = 100  # powers of the largest value stay below 2^100, which leaves room for their sum
BOTTOM = -60
BLOCK_BYTES = 1 << 22  # read once, though looked at twice


def largest_value(data: Any) -> float:
    """Largest absolute value; 0 for bytes and booleans, whose squares are never out of range."""
    values = data.data if hasattr(data, "nnz") else data
    if values.size == 0 or values.dtype.itemsize == 1:
        return 0.0
    step = max(1, BLOCK_BYTES * len(values) // values.nbytes)
    blocks = (values[start : start + step] for start in range(0, len(values), step))
    ends = [end for block in blocks for end in (-float(block.min()), float(block.max()))]
    return float(np.max(ends))  # NaN where there is one, unlike the maximum of Python


def exponent_of_unit(largest: float, metric: Metric) -> int:
    """Return the power of two by which to scale data with this largest value; mostly 0."""
    if metric.name not in DEGREES or largest == 0.0 or not np.isfinite(largest):
        return 0
    power = max(1.0, float(metric.kwds.get("p", 2.0)))
    size = int(np.frexp(largest)[1])
    if not np.isfinite(power) or BOTTOM <= size * power <= TOP:
        return 0
    return int(TOP / power) - size


def scaled_by(data: Any, exponent: int) -> Any:
    """Return data times ``2**exponent``, themselves if that is 1."""
    if exponent == 0:
        return data
    if hasattr(data, "nnz"):
        scaled = data.copy()
        scaled.data = np.ldexp(data.data, exponent)
        return scaled
    return np.ldexp(data, exponent)


def in_user_units(
    distances: NDArray[np.float32], exponent: int, metric: Metric
) -> NDArray[np.float32]:
    """Return distances between scaled rows in the units of X.

    Raises
    ------
    ValueError
        If float32 cannot hold them: all of them would be infinite, or zero.
    """
    if exponent == 0:
        return distances
    with np.errstate(over="ignore", under="ignore"):
        result: NDArray[np.float32] = np.ldexp(distances, -exponent * DEGREES[metric.name])
    # Data near the end of the range have distances there; squares of ordinary data must not.
    smallest = np.finfo(np.float32).tiny if DEGREES[metric.name] == 2 else 0.0
    is_lost = np.isinf(result) & np.isfinite(distances) | (result <= smallest) & (distances > 0)
    if is_lost.any():
        size = 2.0 ** (-exponent * DEGREES[metric.name])
        raise ValueError(
            f"Distances must be between 1e-38 and 3e38, got some of about {size:.0e} with metric "
            f"{metric.name!r}. Divide X by its largest value."
        )
    return result
