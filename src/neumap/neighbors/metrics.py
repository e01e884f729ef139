"""Metrics by name, as objects that a backend can use.

Many metrics are Euclidean distance in disguise: cosine distance is half the squared distance of
unit rows, correlation is cosine of centred rows, Hellinger is the same on square roots,
haversine is an arc over a chord on the sphere. An :class:`EuclideanMetric` holds the map of the
rows and the function from Euclidean distance back to the metric, so one search serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["METRICS", "EuclideanMetric", "Metric", "disconnection_distance_of", "resolve_metric"]


def _unchanged(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows, dtype=np.float32)


def _same_distance(distance: np.ndarray) -> np.ndarray:
    return distance


@dataclass(frozen=True)
class EuclideanMetric:
    """A metric that rises with Euclidean distance after a map of the rows."""

    name: str
    prepare: Callable[[np.ndarray], np.ndarray] = _unchanged
    finish: Callable[[np.ndarray], np.ndarray] = _same_distance


Metric = EuclideanMetric


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their norm, in one more column that only zero rows use.

    A zero row has no direction. Given a dimension of its own, it is at cosine distance 1 from
    every other row and 0 from other zero rows, as umap-learn defines it.
    """
    norms = np.linalg.norm(rows, axis=1)
    unit = np.empty((rows.shape[0], rows.shape[1] + 1), dtype=np.float32)
    np.divide(rows, np.where(norms > 0, norms, 1)[:, None], out=unit[:, :-1])
    unit[:, -1] = norms == 0
    return unit


def _centred_unit_rows(rows: np.ndarray) -> np.ndarray:
    return unit_rows(rows - rows.mean(axis=1, keepdims=True))


def _half_square(distance: np.ndarray) -> np.ndarray:
    half: np.ndarray = distance * distance / 2
    return half


METRICS: dict[str, Any] = {
    "euclidean": EuclideanMetric("euclidean"),
    "l2": EuclideanMetric("euclidean"),
    "sqeuclidean": EuclideanMetric("sqeuclidean", finish=np.square),
    "cosine": EuclideanMetric("cosine", unit_rows, _half_square),
    "correlation": EuclideanMetric("correlation", _centred_unit_rows, _half_square),
}

_LARGEST_DISTANCES = {
    "cosine": 2.0,
    "correlation": 2.0,
    "hellinger": 1.0,
    "jaccard": 1.0,
    "bit_jaccard": 1.0,
    "dice": 1.0,
}


def disconnection_distance_of(metric: str | Callable[..., float]) -> float:
    """Distance at which rows count as unconnected: the metric's bound, or infinity.

    Examples
    --------
    >>> disconnection_distance_of("cosine"), disconnection_distance_of("euclidean")
    (2.0, inf)
    """
    return _LARGEST_DISTANCES.get(metric, np.inf) if isinstance(metric, str) else np.inf


def resolve_metric(metric: str, metric_kwds: dict[str, Any] | None = None) -> Metric:
    """Turn a metric's name into an object that backends can use."""
    if metric not in METRICS:
        raise ValueError(
            f"metric must be one of {', '.join(sorted(METRICS))}; got {metric!r}. "
            "Choose one of these."
        )
    found: EuclideanMetric = METRICS[metric]
    return found
