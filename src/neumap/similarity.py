"""The low-dimensional similarity of UMAP, ``q(d) = 1 / (1 + a d^(2b))``.

In: ``min_dist`` and ``spread``, or a and b themselves. Out: a and b, and q. The loss is in
:mod:`neumap.losses`.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit

__all__ = ["find_ab", "similarity"]


def similarity(distance: ArrayLike, a: float, b: float) -> NDArray[np.float64]:
    """Return ``1 / (1 + a d^(2b))``, the probability that two embedded points are neighbours.

    Parameters
    ----------
    distance : array_like
        Euclidean distances in the embedding, any shape.
    a, b : float
        Curve parameters; see :func:`find_ab`.

    Returns
    -------
    ndarray of float64
        Values in (0, 1], of the same shape.

    Examples
    --------
    >>> similarity([0.0, 1.0], a=1.0, b=1.0).tolist()
    [1.0, 0.5]
    """
    d = np.asarray(distance, dtype=np.float64)
    return np.asarray(1.0 / (1.0 + a * d ** (2.0 * b)))


@functools.cache
def find_ab(spread: float = 1.0, min_dist: float = 0.1) -> tuple[float, float]:
    """Fit a and b so that q follows the curve that `min_dist` and `spread` describe.

    The target is 1 below `min_dist` and ``exp(-(d - min_dist) / spread)`` above it. The fit is by
    least squares at 300 points of ``[0, 3 spread]`` (McInnes, Healy & Melville 2018, section 3.2).
    The grid is that of umap-learn, so the numbers are the same.

    Parameters
    ----------
    spread : float, default=1.0
        Scale of the embedded points; together with `min_dist` it controls how dense clusters are.
    min_dist : float, default=0.1
        Distance below which points have similarity 1. Larger values spread points more evenly
        (0.0 for clustering, 0.1 to 0.5 for plots).

    Returns
    -------
    tuple of float
        ``(a, b)``.

    Raises
    ------
    ValueError
        If `spread` is not positive, or `min_dist` is negative or larger than `spread`.

    Examples
    --------
    >>> a, b = find_ab(spread=1.0, min_dist=0.1)
    >>> round(a, 4), round(b, 4)
    (1.5769, 0.8951)
    """
    if not (0.0 <= min_dist <= spread and 0.0 < spread < np.inf):
        raise ValueError(
            f"min_dist must be between 0 and a positive, finite spread, got min_dist={min_dist} "
            f"with spread={spread}. Lower min_dist or raise spread."
        )
    d = np.linspace(0.0, 3.0 * spread, 300)
    target = np.where(d < min_dist, 1.0, np.exp(-(d - min_dist) / spread))
    with np.errstate(divide="ignore"):  # the fit may try b < 0, where q(0) divides by zero
        (a, b), _ = curve_fit(similarity, d, target)
    return float(a), float(b)
