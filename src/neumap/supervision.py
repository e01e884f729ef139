"""Labels reshape the graph: edges between rows with unlike labels lose strength.

A fuzzy graph and the targets go in, a fuzzy graph comes out. Categories weaken each edge
directly; numbers and vectors get a neighbour graph of their own, which is intersected with the
graph of the data. Afterwards every row gets an edge of full strength again. The rules follow
umap-learn's, so ``target_weight`` means the same here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neumap.fuzzy.algebra import intersect_directed, reset_local_connectivity
from neumap.fuzzy.graph import FuzzyGraph
from neumap.fuzzy.memberships import directed_memberships, smooth_knn
from neumap.neighbors import find_neighbors
from neumap.neighbors.metrics import MetricLike

__all__ = [
    "DISCRETE_METRICS",
    "categorical_intersection",
    "discrete_intersection",
    "metric_intersection",
    "supervise",
]

UNKNOWN = -1
UNKNOWN_DISTANCE = 1.0
FAR_DISTANCE = 2.5  # between unlike labels as target_weight goes to 0
INFINITE_DISTANCE = 1e12  # at target_weight 1


def supervise(  # noqa: PLR0913 - the target parameters of UMAP
    graph: FuzzyGraph,
    y: Any,
    *,
    target_metric: MetricLike = "categorical",
    target_metric_kwds: dict[str, Any] | None = None,
    target_weight: float = 0.5,
    target_n_neighbors: int = 15,
    seed: int | None = 0,
) -> FuzzyGraph:
    """Let targets reshape the graph of the data.

    Parameters
    ----------
    graph : FuzzyGraph
        Of the data.
    y : array of shape (n,) or (n, n_targets)
        Labels or values; -1 marks an unknown label where ``target_metric="categorical"``.
    target_metric : str or callable, default="categorical"
        "categorical" for labels, "ordinal", "count" or "string" for those, otherwise a metric
        of ``neumap.neighbors``, for example "euclidean" for continuous targets.
    target_metric_kwds : dict, optional
        Arguments of the metric.
    target_weight : float in [0, 1], default=0.5
        0 lets the data rule, 1 the targets.
    target_n_neighbors : int, default=15
        Neighbours in the target space, for continuous targets.
    seed : int, optional
        Of the neighbour search among the targets.

    Returns
    -------
    FuzzyGraph

    Raises
    ------
    ValueError
        If ``y`` has another length than the graph, or ``target_weight`` is outside [0, 1].

    Examples
    --------
    >>> pair = FuzzyGraph(np.array([0, 0]), np.array([1, 2]), np.ones(2, dtype=np.float32), 3)
    >>> supervise(pair, np.array([0, 0, 1]), target_weight=1.0).weights.tolist()
    [1.0]
    """
    targets = np.asarray(y)
    _check(graph, targets, target_weight)
    if target_metric == "categorical":
        return categorical_intersection(graph, targets, target_weight=target_weight)
    if isinstance(target_metric, str) and target_metric in DISCRETE_METRICS:
        return discrete_intersection(graph, targets, target_metric, target_weight=target_weight)
    return metric_intersection(
        graph,
        targets,
        metric=target_metric,
        metric_kwds=target_metric_kwds,
        target_weight=target_weight,
        n_neighbors=target_n_neighbors,
        seed=seed,
    )


def categorical_intersection(
    graph: FuzzyGraph,
    labels: np.ndarray,
    *,
    target_weight: float = 0.5,
    unknown_distance: float = UNKNOWN_DISTANCE,
) -> FuzzyGraph:
    """Weaken edges between rows of different classes.

    An edge is multiplied by ``exp(-2.5 / (1 - target_weight))`` where the labels differ and by
    ``exp(-unknown_distance)`` where one is unknown (-1). With several columns of labels the
    distances are averaged over the columns.

    Parameters
    ----------
    graph : FuzzyGraph
    labels : array of shape (n,) or (n, n_columns)
    target_weight : float in [0, 1], default=0.5
    unknown_distance : float, default=1.0

    Returns
    -------
    FuzzyGraph
    """
    columns = labels.reshape(len(labels), -1)
    ours, theirs = columns[graph.heads], columns[graph.tails]  # (n_edges, n_columns)
    distances = np.where(ours != theirs, _far_distance(target_weight), 0.0)
    if columns.dtype.kind not in "US":  # text has no -1
        is_unknown = (ours == UNKNOWN) | (theirs == UNKNOWN)
        distances = np.where(is_unknown, unknown_distance, distances)
    return _weaken(graph, distances.mean(axis=1))


def discrete_intersection(
    graph: FuzzyGraph, values: np.ndarray, metric: str, *, target_weight: float = 0.5
) -> FuzzyGraph:
    """Weaken edges by a distance between discrete values: ranks, counts or strings.

    Parameters
    ----------
    graph : FuzzyGraph
    values : array of shape (n,)
    metric : {"ordinal", "count", "string"}
        Scaled by the spread of the values, so that ``target_weight`` means the same for all.
    target_weight : float in [0, 1], default=0.5

    Returns
    -------
    FuzzyGraph
    """
    distance = DISCRETE_METRICS[metric](values)
    scaled = _far_distance(target_weight) * distance(values[graph.heads], values[graph.tails])
    return _weaken(graph, scaled)


def metric_intersection(  # noqa: PLR0913 - a neighbour search has its own settings
    graph: FuzzyGraph,
    targets: np.ndarray,
    *,
    metric: MetricLike = "euclidean",
    metric_kwds: dict[str, Any] | None = None,
    target_weight: float = 0.5,
    n_neighbors: int = 15,
    seed: int | None = 0,
) -> FuzzyGraph:
    """Intersect the graph with the neighbour graph of continuous or multi-label targets.

    Parameters
    ----------
    graph : FuzzyGraph
    targets : array of shape (n,) or (n, n_targets)
    metric, metric_kwds
        As in ``find_neighbors``.
    target_weight : float in [0, 1], default=0.5
    n_neighbors : int, default=15
        Neighbours of each row among the targets.
    seed : int, optional

    Returns
    -------
    FuzzyGraph
    """
    columns = targets.reshape(len(targets), -1)
    found = find_neighbors(columns, n_neighbors, metric=metric, metric_kwds=metric_kwds, seed=seed)
    sigmas, rhos = smooth_knn(found.distances, found.indices.shape[1])
    strengths = directed_memberships(found.distances, sigmas, rhos)
    return intersect_directed(graph, found.indices, strengths, target_weight)


def _far_distance(target_weight: float) -> float:
    return FAR_DISTANCE / (1 - target_weight) if target_weight < 1 else INFINITE_DISTANCE


def _weaken(graph: FuzzyGraph, distances: np.ndarray) -> FuzzyGraph:
    """Multiply each edge by ``exp(-distance)`` and restore local connectivity."""
    weights = (graph.weights * np.exp(-distances)).astype(np.float32)
    kept = weights > 0
    weakened = FuzzyGraph(graph.heads[kept], graph.tails[kept], weights[kept], graph.n_vertices)
    return reset_local_connectivity(weakened)


def _check(graph: FuzzyGraph, targets: np.ndarray, target_weight: float) -> None:
    if len(targets) != graph.n_vertices:
        raise ValueError(
            f"y must have one entry per row of X, {graph.n_vertices}; got {len(targets)}. "
            "Pass labels for all rows, with -1 for those you do not know."
        )
    if not 0 <= target_weight <= 1:
        raise ValueError(
            f"target_weight must lie between 0 and 1; got {target_weight!r}. "
            "0 lets the data rule, 1 the targets."
        )


Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _ordinal_distance(values: np.ndarray) -> Distance:
    """Difference of ranks over half of their range."""
    half_range = float(values.max() - values.min()) / 2 or 1.0
    return lambda ours, theirs: np.abs(ours - theirs) / half_range


def _count_distance(values: np.ndarray) -> Distance:
    """Log-probability of a Poisson variable summed from the smaller to the larger count.

    The mean count is the rate; half of the distance across all counts is the unit.
    """
    if values.min() < 0:
        raise ValueError(
            f"Counts must not be negative; got {values.min()}. Use target_metric='ordinal'."
        )
    lowest, highest = int(values.min()), int(values.max())
    counts = np.arange(lowest, highest)
    log_rate = np.log(values.mean())

    def span(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        # The factorial starts at the smaller count's, so each start has a table of its own.
        result = np.zeros(len(low))
        for start in np.unique(low):
            first = max(int(start), 0)
            steps = counts[counts >= first]
            log_factorial = (
                _log_factorial(first)
                + np.concatenate([[0.0], np.cumsum(np.log(np.maximum(steps[:-1], 1)))])[
                    : len(steps)
                ]
            )
            sums = np.concatenate(
                [[0.0], np.cumsum(steps * log_rate - values.mean() - log_factorial)]
            )
            of_start = low == start
            result[of_start] = sums[high[of_start] - first]
        return result

    unit = float(span(np.array([lowest]), np.array([highest]))[0]) / 2 or 1.0

    def distance(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        low, high = np.minimum(ours, theirs), np.maximum(ours, theirs)
        return span(low.astype(np.int64), high.astype(np.int64)) / unit

    return distance


def _log_factorial(count: int) -> float:
    """Logarithm of ``count!``, by Stirling's formula from 10 on and in a shorter sum below."""
    if count < 2:
        return 0.0
    if count < 10:
        return float(np.log(np.arange(2, count)).sum())
    n = count + 1
    return float(n * np.log(n) - n + 0.5 * np.log(2 * np.pi / n) + 1 / (12 * n))


def _string_distance(values: np.ndarray) -> Distance:
    """Edit distance over a third of the longest string's length, which is also the most."""
    most = max(len(text) for text in values) / 3 or 1.0

    def distance(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        ours, theirs = ours.astype(str), theirs.astype(str)
        pairs, inverse = np.unique(np.stack([ours, theirs]), axis=1, return_inverse=True)
        edits = np.array([_edit_distance(a, b, most) for a, b in pairs.T])
        return np.asarray(edits[inverse.reshape(-1)] / most)

    return distance


def _edit_distance(a: str, b: str, most: float) -> float:
    """Fewest insertions, deletions and substitutions from a to b; ends early beyond ``most``."""
    if abs(len(a) - len(b)) > most:
        return most
    previous = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        current = [i]
        for j, other in enumerate(b, start=1):
            replaced = previous[j - 1] + (letter != other)
            current.append(min(previous[j] + 1, current[j - 1] + 1, replaced))
        if min(current) > most:
            return most
        previous = current
    return float(previous[-1])


DISCRETE_METRICS: dict[str, Callable[[np.ndarray], Distance]] = {
    "ordinal": _ordinal_distance,
    "count": _count_distance,
    "string": _string_distance,
}
