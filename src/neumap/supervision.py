"""Labels reshape the graph: edges between rows with different labels lose strength.

In: a fuzzy graph and the targets. Out: a fuzzy graph. Categories weaken each edge directly. Numbers
and vectors get a neighbour graph of their own, which is intersected with the graph of the data.
Afterwards every row gets an edge of full strength again. The rules follow umap-learn's, so
``target_weight`` has the same meaning.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._labels import UNLABELLED, Column, read_column
from neumap.fuzzy.algebra import intersect_directed, reset_local_connectivity
from neumap.fuzzy.graph import FuzzyGraph
from neumap.fuzzy.memberships import directed_memberships, smooth_knn
from neumap.label_distances import DISCRETE_METRICS, Distance
from neumap.neighbors import NeighborSearch
from neumap.neighbors.metrics import MetricLike, resolve_metric

__all__ = [
    "LABEL_METRICS",
    "categorical_intersection",
    "check_values",
    "discrete_intersection",
    "metric_intersection",
    "supervise",
    "target_metric_named",
]

LABEL_METRICS = ("categorical", "hierarchical_categorical")  # those with unknown labels
UNKNOWN_DISTANCE = 1.0
FAR_DISTANCE = 2.5  # between unlike labels as target_weight goes to 0
INFINITE_DISTANCE = 1e12  # at target_weight 1
EUCLIDEAN = NeighborSearch()


def supervise(  # noqa: PLR0913 - the target parameters of UMAP
    graph: FuzzyGraph,
    y: Any,
    *,
    target_metric: MetricLike = "categorical",
    target_metric_kwds: dict[str, Any] | None = None,
    target_weight: float = 0.5,
    target_n_neighbors: int = 15,
    seed: int | None = 0,
    anchors: NDArray[np.int64] | None = None,
) -> FuzzyGraph:
    """Let targets reshape the graph of the data.

    Parameters
    ----------
    graph : FuzzyGraph
        Of the data.
    y : array of shape (n,) or (n, n_targets)
        Labels or values, in any container. Where ``target_metric`` is "categorical" or
        "hierarchical_categorical", -1 and every missing entry mark an unknown label; other metrics
        need all values.
    target_metric : str or callable, default="categorical"
        "categorical" for labels, "hierarchical_categorical" for those with groups, "ordinal",
        "count" or "string" for such values, otherwise a metric of ``neumap.neighbors``, for example
        "euclidean" for continuous targets.
    target_metric_kwds : dict, optional
        Arguments of the metric; of "hierarchical_categorical" the ``cat_hierarchy``, see
        ``discrete_intersection``.
    target_weight : float in [0, 1], default=0.5
        0 gives all weight to the data, 1 to the targets.
    target_n_neighbors : int, default=15
        Neighbours in the target space, for continuous targets.
    seed : int, optional
        Of the neighbour search among the targets.
    anchors : array of int, optional
        Rows whose neighbours are known, by default all. Only labels and discrete values can
        reshape the graph of some rows.

    Returns
    -------
    FuzzyGraph

    Raises
    ------
    ValueError
        If ``y`` has another length than the graph or values that the metric cannot compare,
        ``target_weight`` is outside [0, 1], or the arguments are not those of the metric.

    Examples
    --------
    >>> pair = FuzzyGraph(np.array([0, 0]), np.array([1, 2]), np.ones(2, dtype=np.float32), 3)
    >>> supervise(pair, np.array([0, 0, 1]), target_weight=1.0).weights.tolist()
    [1.0]
    """
    targets = read_column(y)
    _check(graph, targets, target_weight)
    kwds = dict(target_metric_kwds or {})
    if target_metric == "categorical":
        if kwds:
            raise _wrong_arguments("categorical", kwds)
        return categorical_intersection(
            graph, targets, target_weight=target_weight, anchors=anchors
        )
    if isinstance(target_metric, str) and target_metric in DISCRETE_METRICS:
        return discrete_intersection(
            graph,
            targets,
            target_metric,
            metric_kwds=kwds,
            target_weight=target_weight,
            anchors=anchors,
        )
    if target_metric != "precomputed":
        with target_metric_named():
            resolve_metric(target_metric, kwds)
    return metric_intersection(
        graph,
        targets,
        search=NeighborSearch(metric=target_metric, metric_kwds=kwds, seed=seed),
        target_weight=target_weight,
        n_neighbors=target_n_neighbors,
    )


@contextmanager
def target_metric_named() -> Iterator[None]:
    """Name ``target_metric`` where a message is about the metric of the targets."""
    try:
        yield
    except ValueError as error:
        message = re.sub(r"\bmetric(?=_kwds|\b)", "target_metric", str(error), count=1)
        if "target_metric" not in message:
            message = f"target_metric: {message}"
        raise ValueError(message) from error


def categorical_intersection(
    graph: FuzzyGraph,
    labels: Any,
    *,
    target_weight: float = 0.5,
    unknown_distance: float = UNKNOWN_DISTANCE,
    anchors: NDArray[np.int64] | None = None,
) -> FuzzyGraph:
    """Weaken edges between rows of different classes.

    An edge is multiplied by ``exp(-2.5 / (1 - target_weight))`` where the labels differ and by
    ``exp(-unknown_distance)`` where one is unknown (-1 or missing). With several columns of labels
    the distances are averaged over the columns.

    Parameters
    ----------
    graph : FuzzyGraph
    labels : array of shape (n,) or (n, n_columns)
    target_weight : float in [0, 1], default=0.5
    unknown_distance : float, default=1.0
    anchors : array of int, optional
        As for ``supervise``.

    Returns
    -------
    FuzzyGraph
    """
    codes = read_column(labels).codes()
    columns = codes.reshape(len(codes), -1)
    ours, theirs = columns[graph.heads], columns[graph.tails]  # (n_edges, n_columns)
    distances = np.where(ours != theirs, _far_distance(target_weight), 0.0)
    is_unknown = (ours == UNLABELLED) | (theirs == UNLABELLED)
    distances = np.where(is_unknown, unknown_distance, distances)
    return _weaken(graph, distances.mean(axis=1), anchors)


def discrete_intersection(
    graph: FuzzyGraph,
    values: Any,
    metric: str,
    *,
    metric_kwds: dict[str, Any] | None = None,
    target_weight: float = 0.5,
    anchors: NDArray[np.int64] | None = None,
) -> FuzzyGraph:
    """Weaken edges by a distance between discrete values: grouped classes, ranks, counts, strings.

    Parameters
    ----------
    graph : FuzzyGraph
    values : array of shape (n,)
    metric : {"hierarchical_categorical", "ordinal", "count", "string"}
        Scaled by the spread of the values, so that ``target_weight`` means the same for all.
    metric_kwds : dict, optional
        For "hierarchical_categorical" ``{"cat_hierarchy": levels}``: a list of dicts from label
        to group, the finest level first, such as ``[{"cat": 0, "dog": 1, "oak": 2},
        {"cat": "animal", "dog": "animal", "oak": "plant"}]``. The distance is the share of the
        levels on which two labels differ; -1 (unless it has a group) and every missing entry is
        an unknown label.
    target_weight : float in [0, 1], default=0.5
    anchors : array of int, optional
        As for ``supervise``.

    Returns
    -------
    FuzzyGraph
    """
    column = read_column(values)
    if len(column.shape) != 1:
        raise ValueError(
            f"y must have one value per row where target_metric={metric!r}, got shape "
            f"{column.shape}. Pass a single column, or use target_metric='categorical' for several."
        )
    kwds = metric_kwds or {}
    unknown = _unknown(column, metric, kwds)
    known = check_values(column, metric)[~unknown]
    if len(known) == 0:
        return _weaken(graph, np.full(len(graph.heads), UNKNOWN_DISTANCE), anchors)
    distance = _bound(metric, known, kwds)
    filled = np.full(column.shape, known[0], dtype=known.dtype)
    filled[~unknown] = known
    scaled = _far_distance(target_weight) * distance(filled[graph.heads], filled[graph.tails])
    scaled[unknown[graph.heads] | unknown[graph.tails]] = np.nan
    return _weaken(graph, np.nan_to_num(scaled, nan=UNKNOWN_DISTANCE), anchors)


def metric_intersection(
    graph: FuzzyGraph,
    targets: Any,
    *,
    search: NeighborSearch = EUCLIDEAN,
    target_weight: float = 0.5,
    n_neighbors: int = 15,
) -> FuzzyGraph:
    """Intersect the graph with the neighbour graph of continuous or multi-label targets.

    Parameters
    ----------
    graph : FuzzyGraph
    targets : array of shape (n,) or (n, n_targets)
    search : NeighborSearch, optional
        How neighbours among the targets are found; by Euclidean distance if not given.
    target_weight : float in [0, 1], default=0.5
    n_neighbors : int, default=15
        Neighbours of each row among the targets.

    Returns
    -------
    FuzzyGraph
    """
    values = check_values(read_column(targets), search.metric)
    columns = values.reshape(len(values), -1)
    found = search.find(columns, n_neighbors)
    sigmas, rhos = smooth_knn(found.distances, found.indices.shape[1])
    strengths = directed_memberships(found.distances, sigmas, rhos)
    return intersect_directed(graph, found.indices, strengths, target_weight)


def check_values(column: Column, metric: MetricLike) -> NDArray[Any]:
    """Return the values of targets in a form that their metric compares.

    Raises
    ------
    ValueError
        If it needs numbers or text and got something else, or a value is missing or infinite. Only
        labels may be unknown.
    """
    if metric in LABEL_METRICS:
        return column.values
    _check_complete(column.missing, column, metric)
    wanted = "text" if metric in ("string", "myers") else "numbers"
    values = column.values if column.kinds() <= {"text"} else None
    if wanted == "numbers":
        values = column.numbers()
    if values is None:
        example = column.known().ravel()[0]
        raise ValueError(
            f"y must hold {wanted} where target_metric={metric!r}, got "
            f"{' and '.join(sorted(column.kinds()))}, such as {example!r:.40}. Convert y, or use "
            "target_metric='categorical' for labels."
        )
    if values.dtype.kind == "f" and metric != "precomputed":  # whose room knows what may be far
        _check_complete(~np.isfinite(values), column, metric)
    return values


def _check_complete(bad: NDArray[np.bool_], column: Column, metric: MetricLike) -> None:
    if bad.any():
        raise ValueError(
            f"y must hold a finite value for every row where target_metric={metric!r}, got "
            f"{'a missing' if column.missing.any() else 'an infinite'} one in {column.first(bad)} "
            f"({int(bad.sum())} in all). Leave these rows out, or use target_metric='categorical', "
            "for which labels may be missing."
        )


def _unknown(column: Column, metric: str, kwds: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Which rows have no label; -1 is one like any other where the hierarchy holds it."""
    if metric != "hierarchical_categorical":
        return column.missing
    levels = kwds.get("cat_hierarchy", ())
    if not all(isinstance(level, Mapping) for level in levels):
        raise ValueError(
            "cat_hierarchy must be a list of dicts from label to group, the finest level first, "
            f"got {levels!r:.60}. Pass [{{'cat': 'animal', 'oak': 'plant'}}], for example."
        )
    column.classes()  # refuses labels of several kinds
    return column.missing if any(UNLABELLED in level for level in levels) else column.unlabelled()


def _bound(metric: str, values: NDArray[Any], kwds: dict[str, Any]) -> Distance:
    """Distance of that name between these values."""
    make = DISCRETE_METRICS[metric]
    try:
        inspect.signature(make).bind(values, **kwds)
    except TypeError as error:
        raise _wrong_arguments(metric, kwds) from error
    return make(values, **kwds)


def _wrong_arguments(metric: str, kwds: dict[str, Any]) -> ValueError:
    wanted = "cat_hierarchy" if metric == "hierarchical_categorical" else "no arguments"
    return ValueError(
        f"target_metric_kwds of {metric!r} must hold {wanted}, got {sorted(kwds)}. Correct or "
        "remove them."
    )


def _far_distance(target_weight: float) -> float:
    return FAR_DISTANCE / (1 - target_weight) if target_weight < 1 else INFINITE_DISTANCE


def _weaken(
    graph: FuzzyGraph, distances: NDArray[Any], anchors: NDArray[np.int64] | None
) -> FuzzyGraph:
    """Multiply each edge by ``exp(-distance)`` and restore local connectivity."""
    weights = (graph.weights * np.exp(-distances)).astype(np.float32)
    kept = weights > 0
    weakened = FuzzyGraph(graph.heads[kept], graph.tails[kept], weights[kept], graph.n_vertices)
    return reset_local_connectivity(weakened, anchors)


def _check(graph: FuzzyGraph, targets: Column, target_weight: float) -> None:
    if targets.shape[0] != graph.n_vertices:
        raise ValueError(
            f"y must have one entry per row of X, {graph.n_vertices}, got {targets.shape[0]}. Pass "
            "labels for all rows, with -1 for unknown ones."
        )
    if not 0 <= target_weight <= 1:
        raise ValueError(
            f"target_weight must be between 0 and 1, got {target_weight!r}. Use 0 to give all "
            "weight to the data, 1 to the targets."
        )
