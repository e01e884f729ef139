"""Metrics by name, as objects that the backends can use.

Many metrics follow from Euclidean distance: cosine distance is half the squared distance of unit
rows, correlation is the cosine of centred rows, Hellinger is the same on square roots, and
haversine is the arc over a chord of the sphere. An :class:`EuclideanMetric` holds the map of the
rows and the map from Euclidean distance to the metric, so that one exact and one approximate search
work for all of them. A :class:`TiledMetric` computes a tile of distances directly, which suits
exact search only. A :class:`PynndescentMetric` is one that only pynndescent computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neumap.neighbors import rows as row_maps
from neumap.neighbors import tiles

__all__ = [
    "METRICS",
    "EuclideanMetric",
    "Metric",
    "PynndescentMetric",
    "TiledMetric",
    "as_euclidean",
    "disconnection_distance_of",
    "resolve_metric",
]

RowMap = Callable[[NDArray[Any]], NDArray[Any]]
MetricLike = str | Callable[..., Any]


@dataclass(frozen=True)
class EuclideanMetric:
    """A metric that rises with Euclidean distance after a map of each row."""

    name: str
    prepare: RowMap = row_maps.float_rows
    finish: RowMap = row_maps.unchanged
    kwds: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TiledMetric:
    """A metric computed for every pair of two blocks of rows.

    ``function`` is the callable that defines it, where it is not one of the named metrics.
    """

    name: str
    tile: Callable[[Tensor, Tensor], Tensor]
    prepare: RowMap = row_maps.float_rows
    kwds: dict[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None


@dataclass(frozen=True)
class PynndescentMetric:
    """A metric that only pynndescent computes."""

    name: str
    kwds: dict[str, Any] = field(default_factory=dict)


Metric = EuclideanMetric | TiledMetric | PynndescentMetric


def as_euclidean(metric: Metric, backend: str) -> EuclideanMetric:
    """Return the metric; raise ValueError if a backend of Euclidean distance does not know it."""
    if not isinstance(metric, EuclideanMetric):
        raise ValueError(
            f"metric must reduce to Euclidean distance where backend={backend!r}, got "
            f"{metric.name!r}. Use backend='exact' or 'pynndescent'."
        )
    return metric


def _minkowski(name: str, *, p: float = 2.0) -> Metric:
    if _power(p) == 2:
        return EuclideanMetric("minkowski", kwds={"p": p})
    return TiledMetric(name, partial(tiles.minkowski, p=p), kwds={"p": p})


def _power(p: Any) -> float:
    is_number = isinstance(p, int | float | np.integer | np.floating) and not isinstance(p, bool)
    if not is_number or not p > 0:
        raise ValueError(f"p must be a number above 0, got {p!r:.60}")
    return float(p)


def _weighted_minkowski(name: str, *, w: Any, p: float = 2.0) -> Metric:
    weights = np.asarray(w, dtype=np.float32)
    if weights.ndim != 1 or not (weights >= 0).all():
        raise ValueError(f"w must be one weight of 0 or more per column, got {w!r:.60}")
    _power(p)
    prepare = partial(row_maps.scaled_rows, scale=weights ** (1 / p))
    kwds = {"w": weights, "p": p}
    if p == 2:
        return EuclideanMetric(name, prepare, kwds=kwds)
    return TiledMetric(name, partial(tiles.minkowski, p=p), prepare, kwds)


def _standardised(name: str, *, sigma: Any = None, V: Any = None) -> Metric:
    variances = _one_of(name, sigma=sigma, V=V)
    prepare = partial(row_maps.scaled_rows, scale=1 / np.sqrt(variances))
    return EuclideanMetric("seuclidean", prepare, kwds={"sigma": variances})


def _mahalanobis(name: str, *, vinv: Any = None, VI: Any = None) -> Metric:
    inverse = _one_of(name, vinv=vinv, VI=VI)
    # x' V^-1 x = |L' x|^2 with V^-1 = L L'
    prepare = partial(row_maps.projected_rows, matrix=np.linalg.cholesky(inverse))
    return EuclideanMetric(name, prepare, kwds={"vinv": inverse})


def _one_of(metric: str, **candidates: Any) -> NDArray[Any]:
    """The one argument that was given under either of its names."""
    given = [np.asarray(v, dtype=np.float64) for v in candidates.values() if v is not None]
    if len(given) != 1:
        raise ValueError(
            f"metric_kwds of {metric!r} must hold exactly one of {' and '.join(candidates)}, got "
            f"{len(given)} of them. Pass one."
        )
    return given[0]


def _euclidean(prepare: RowMap = row_maps.float_rows, finish: RowMap = row_maps.unchanged) -> Any:
    def make(name: str) -> Metric:
        return EuclideanMetric(name, prepare, finish)

    return make


def _tiled(tile: Callable[[Tensor, Tensor], Tensor], prepare: RowMap = row_maps.float_rows) -> Any:
    def make(name: str) -> Metric:
        return TiledMetric(name, tile, prepare)

    return make


def _binary(rule: tiles.CountRule) -> Any:
    return _tiled(partial(tiles.from_counts, rule=rule), row_maps.binary_rows)


_angular = _euclidean(row_maps.unit_rows, row_maps.half_square)
_hellinger = _euclidean(row_maps.root_rows, row_maps.root_half_square)

# A maker takes the name and metric_kwds and returns the metric.
MAKERS: dict[str, Callable[..., Metric]] = {
    "euclidean": _euclidean(),
    "sqeuclidean": _euclidean(finish=np.square),
    "manhattan": _tiled(partial(tiles.minkowski, p=1.0)),
    "chebyshev": _tiled(partial(tiles.minkowski, p=float("inf"))),
    "minkowski": _minkowski,
    "weighted_minkowski": _weighted_minkowski,
    "seuclidean": _standardised,
    "mahalanobis": _mahalanobis,
    "cosine": _angular,
    "correlation": _euclidean(row_maps.centred_unit_rows, row_maps.half_square),
    "hellinger": _hellinger,
    "softmax_hellinger": _euclidean(row_maps.softmax_root_rows, row_maps.root_half_square),
    "haversine": _euclidean(row_maps.sphere_points, row_maps.arc_of_chord),
    "canberra": _tiled(tiles.canberra),
    "braycurtis": _tiled(tiles.braycurtis),
    "poincare": _tiled(tiles.poincare),
    "symmetric_kl": _tiled(tiles.symmetric_kl, row_maps.probability_rows),
    "ll_dirichlet": _tiled(tiles.ll_dirichlet),
    "hamming": _tiled(tiles.hamming),
    "jaccard": _binary(tiles.jaccard),
    "dice": _binary(tiles.dice),
    "matching": _binary(tiles.matching),
    "kulsinski": _binary(tiles.kulsinski),
    "rogerstanimoto": _binary(tiles.rogerstanimoto),
    "sokalmichener": _binary(tiles.rogerstanimoto),
    "russellrao": _binary(tiles.russellrao),
    "sokalsneath": _binary(tiles.sokalsneath),
    "yule": _binary(tiles.yule),
}

OTHER_NAMES = {
    "l2": "euclidean",
    "l1": "manhattan",
    "taxicab": "manhattan",
    "cityblock": "manhattan",
    "linf": "chebyshev",
    "linfty": "chebyshev",
    "linfinity": "chebyshev",
    "standardised_euclidean": "seuclidean",
    "wminkowski": "weighted_minkowski",
}

ONLY_IN_PYNNDESCENT = (
    "bit_hamming",
    "bit_jaccard",
    "circular_kantorovich",
    "circular_wasserstein",
    "dot",
    "inner_product",
    "jensen_shannon",
    "kantorovich",
    "kantorovich_1d",
    "sinkhorn",
    "spearmanr",
    "true_angular",
    "tsss",
    "wasserstein",
    "wasserstein_1d",
)

METRICS: tuple[str, ...] = tuple(
    sorted({*MAKERS, *OTHER_NAMES, *ONLY_IN_PYNNDESCENT, "precomputed"})
)

LARGEST_DISTANCES = {
    "cosine": 2.0,
    "correlation": 2.0,
    "hellinger": 1.0,
    "jaccard": 1.0,
    "bit_jaccard": 1.0,
    "dice": 1.0,
}


def disconnection_distance_of(metric: MetricLike) -> float:
    """Distance at which rows count as unconnected: the metric's bound, or infinity.

    Examples
    --------
    >>> disconnection_distance_of("cosine"), disconnection_distance_of("euclidean")
    (2.0, inf)
    """
    return LARGEST_DISTANCES.get(metric, np.inf) if isinstance(metric, str) else np.inf


def resolve_metric(metric: MetricLike, metric_kwds: dict[str, Any] | None = None) -> Metric:
    """Turn a metric's name or function into an object that the backends can use.

    Parameters
    ----------
    metric : str or callable
        A name of ``METRICS``, or a function of two rows that returns their distance.
    metric_kwds : dict, optional
        Arguments of the metric, for example ``{"p": 3}`` for "minkowski".

    Returns
    -------
    EuclideanMetric, TiledMetric or PynndescentMetric

    Raises
    ------
    ValueError
        If the name is unknown or the arguments do not fit.

    Examples
    --------
    >>> resolve_metric("l1").name
    'manhattan'
    """
    kwds = dict(metric_kwds or {})
    if callable(metric) and not isinstance(metric, type):
        tile = partial(tiles.pairwise, function=metric, kwds=kwds)
        name = getattr(metric, "__name__", type(metric).__name__)
        return TiledMetric(name, tile, kwds=kwds, function=metric)
    name = OTHER_NAMES.get(metric, metric) if isinstance(metric, str) else ""
    if name in ONLY_IN_PYNNDESCENT:
        return PynndescentMetric(name, kwds)
    if name not in MAKERS:
        raise ValueError(
            f"metric must be a function of two rows or one of {', '.join(METRICS)}, "
            f"got {metric!r:.60}. Choose one of these."
        )
    try:
        return MAKERS[name](name, **kwds)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metric_kwds must hold the arguments of metric {metric!r}, got "
            f"{sorted(kwds)} ({error}). Correct or remove them."
        ) from error
