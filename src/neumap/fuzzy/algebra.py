"""Combine graphs over the same vertices: union, intersection, difference.

These operations implement ``+``, ``*`` and ``-`` of fitted models, and ``intersect_directed``
brings labels into a graph. An edge that one of the graphs lacks gets a strength below all edges of
that graph, since a product with zero would remove every edge that only one graph has. The rules
follow umap-learn's, edge by edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.fuzzy.graph import FuzzyGraph

__all__ = [
    "difference",
    "intersect_directed",
    "intersection",
    "reset_local_connectivity",
    "union",
]

METRIC_ROW_SUM = np.log2(15)  # of a row where reset_local_metric is on, whatever n_neighbors was
N_BISECTIONS = 32
TOLERANCE = 1e-5
SMALLEST_STRENGTH = 1e-8
LARGEST_ABSENT_STRENGTH = 1e-4  # a target graph with only strong edges must not connect everything

Rule = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def union(a: FuzzyGraph, b: FuzzyGraph) -> FuzzyGraph:
    """Edges that either graph has: the graph of ``model_a + model_b``.

    Parameters
    ----------
    a, b : FuzzyGraph
        Over the same vertices.

    Returns
    -------
    FuzzyGraph

    Raises
    ------
    ValueError
        If the graphs differ in their number of vertices.

    Examples
    --------
    >>> path = FuzzyGraph(np.array([0]), np.array([1]), np.array([1.0], dtype=np.float32), 3)
    >>> other = FuzzyGraph(np.array([1]), np.array([2]), np.array([1.0], dtype=np.float32), 3)
    >>> union(path, other).tails.tolist()
    [1, 2]
    """
    _check_same_vertices(a, b)
    heads, tails, left, right = _aligned(a, b)
    left = np.where(left > 0, left, _absent_strength(a.weights))
    right = np.where(right > 0, right, _absent_strength(b.weights))
    joined = left + right - left * right
    return _rejoin(heads, tails, joined, joined, a.n_vertices, reset_local_metric=True)


def intersection(a: FuzzyGraph, b: FuzzyGraph, weight: float = 0.5) -> FuzzyGraph:
    """Edges that both graphs have: the graph of ``model_a * model_b``.

    Parameters
    ----------
    a, b : FuzzyGraph
        Over the same vertices.
    weight : float in [0, 1], default=0.5
        Weight of b: 0 gives a, 1 gives b.

    Returns
    -------
    FuzzyGraph
    """
    _check_same_vertices(a, b)
    heads, tails, left, right = _aligned(a, b)
    absent = min(_absent_strength(b.weights), LARGEST_ABSENT_STRENGTH)
    met = _weighted_product(left, right, _absent_strength(a.weights), absent, weight)
    return _rejoin(heads, tails, met, met, a.n_vertices, reset_local_metric=True)


def difference(a: FuzzyGraph, b: FuzzyGraph) -> FuzzyGraph:
    """Edges of a, weaker the stronger they are in b: the graph of ``model_a - model_b``.

    As in umap-learn, an edge that b lacks gets the smallest strength that an edge of the complement
    can have, not full strength. Only edges that both have differ in strength.

    Parameters
    ----------
    a, b : FuzzyGraph
        Over the same vertices.

    Returns
    -------
    FuzzyGraph
    """
    _check_same_vertices(a, b)
    heads, tails, left, right = _aligned(a, b)
    ours = left > 0
    heads, tails, left, right = heads[ours], tails[ours], left[ours], right[ours]
    absent = min(_absent_strength(1 - b.weights), LARGEST_ABSENT_STRENGTH)
    kept = left * np.where(right > 0, 1 - right, absent)
    return _rejoin(heads, tails, kept, kept, a.n_vertices, reset_local_metric=False)


def intersect_directed(
    graph: FuzzyGraph, indices: NDArray[Any], strengths: NDArray[Any], weight: float
) -> FuzzyGraph:
    """Intersect a graph with directed memberships, such as those of a target's neighbours.

    Parameters
    ----------
    graph : FuzzyGraph
    indices : array of shape (n, k), int64
        Neighbours of each row; -1 and the row itself are ignored.
    strengths : array of shape (n, k)
        Membership of each neighbour.
    weight : float in [0, 1]
        Weight of the directed memberships.

    Returns
    -------
    FuzzyGraph
        Rejoined, every row having an edge of full strength before the union.
    """
    n = graph.n_vertices
    rows = np.broadcast_to(np.arange(n)[:, None], indices.shape)
    is_edge = (indices >= 0) & (indices != rows) & (strengths > 0)
    sources, targets = rows[is_edge], indices[is_edge]
    values = strengths[is_edge].astype(np.float64)
    is_forward = sources < targets

    own = graph.heads * n + graph.tails
    theirs = np.minimum(sources, targets) * n + np.maximum(sources, targets)
    keys = np.union1d(own, theirs)
    left = np.zeros(len(keys))
    left[np.searchsorted(keys, own)] = graph.weights
    forward, backward = np.zeros(len(keys)), np.zeros(len(keys))
    position = np.searchsorted(keys, theirs)
    forward[position[is_forward]] = values[is_forward]
    backward[position[~is_forward]] = values[~is_forward]

    left_absent = _absent_strength(graph.weights)
    right_absent = min(_absent_strength(values), LARGEST_ABSENT_STRENGTH)
    heads, tails = np.divmod(keys, n)

    def met(right: NDArray[Any]) -> NDArray[Any]:
        product = _weighted_product(left, right, left_absent, right_absent, weight)
        # A direction that neither graph has stays without an edge.
        return np.where((left > 0) | (right > 0), product, 0)

    return _rejoin(heads, tails, met(forward), met(backward), n, reset_local_metric=False)


def reset_local_connectivity(
    graph: FuzzyGraph, anchors: NDArray[np.int64] | None = None
) -> FuzzyGraph:
    """Give every vertex an edge of full strength again, then join both directions.

    Parameters
    ----------
    graph : FuzzyGraph
    anchors : array of shape (n_anchors,), int64, optional
        Vertices whose neighbours are known; by default all. The others are given nothing, and an
        edge to one of them keeps the strength of its one direction.

    Returns
    -------
    FuzzyGraph

    Examples
    --------
    >>> weak = FuzzyGraph(np.array([0]), np.array([1]), np.array([0.1], dtype=np.float32), 2)
    >>> reset_local_connectivity(weak).weights.tolist()
    [1.0]
    """
    forward = backward = graph.weights
    if anchors is not None:
        is_known = np.zeros(graph.n_vertices, dtype=bool)
        is_known[anchors] = True
        forward = np.where(is_known[graph.heads], forward, 0)
        backward = np.where(is_known[graph.tails], backward, 0)
    return _rejoin(
        graph.heads, graph.tails, forward, backward, graph.n_vertices, reset_local_metric=False
    )


def _rejoin(
    heads: NDArray[Any],
    tails: NDArray[Any],
    forward: NDArray[Any],
    backward: NDArray[Any],
    n_vertices: int,
    *,
    reset_local_metric: bool,
) -> FuzzyGraph:
    """Scale each row of a directed graph to a maximum of one and take the union of directions."""
    # Rounded to float32 here, as umap-learn's are: the bisection below stops by a tolerance.
    forward, backward = forward.astype(np.float32), backward.astype(np.float32)
    largest = np.zeros(n_vertices, dtype=np.float32)
    np.maximum.at(largest, heads, forward)
    np.maximum.at(largest, tails, backward)
    scale = np.where(largest > 0, largest, np.float32(1))
    forward, backward = forward / scale[heads], backward / scale[tails]
    if reset_local_metric:
        powers = _row_powers(heads, tails, forward, backward, n_vertices)
        forward, backward = forward ** powers[heads], backward ** powers[tails]
    weights = (forward + backward - forward * backward).astype(np.float32)
    kept = weights > 0
    return FuzzyGraph(heads[kept], tails[kept], weights[kept], n_vertices)


def _row_powers(
    heads: NDArray[Any],
    tails: NDArray[Any],
    forward: NDArray[Any],
    backward: NDArray[Any],
    n_vertices: int,
) -> NDArray[Any]:
    """Power of each row at which its strengths sum to log2(15), by bisection."""
    below, above = np.zeros(n_vertices), np.full(n_vertices, np.inf)
    middle = np.ones(n_vertices)
    for _ in range(N_BISECTIONS):
        total = np.bincount(heads, forward ** middle[heads], n_vertices)
        total += np.bincount(tails, backward ** middle[tails], n_vertices)
        is_open = np.abs(total - METRIC_ROW_SUM) >= TOLERANCE
        if not is_open.any():
            break
        too_small = total < METRIC_ROW_SUM
        above = np.where(is_open & too_small, middle, above)
        below = np.where(is_open & ~too_small, middle, below)
        step = np.where(np.isinf(above), middle * 2, (below + above) / 2)
        middle = np.where(is_open, step, middle)
    return middle


def _weighted_product(
    left: NDArray[Any], right: NDArray[Any], left_absent: float, right_absent: float, weight: float
) -> NDArray[Any]:
    """``left * right``, one of them to a power that gives the other more weight."""
    known = np.where(left > 0, left, left_absent), np.where(right > 0, right, right_absent)
    if weight < 0.5:
        product = known[0] * known[1] ** (weight / (1 - weight))
    else:
        product = known[0] ** ((1 - weight) / weight) * known[1]
    is_informative = (known[0] > left_absent) | (known[1] > right_absent)
    return np.where(is_informative, product, left + right)


def _absent_strength(weights: NDArray[Any]) -> float:
    """Strength of an edge that a graph lacks: half of its weakest edge."""
    weakest = float(weights.min()) if len(weights) else 0.0
    return max(weakest / 2, SMALLEST_STRENGTH)


def _aligned(
    a: FuzzyGraph, b: FuzzyGraph
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Edges of both graphs with the weight in each, 0 where it has none."""
    n = a.n_vertices
    key_a, key_b = a.heads * n + a.tails, b.heads * n + b.tails
    keys = np.union1d(key_a, key_b)
    left, right = np.zeros(len(keys)), np.zeros(len(keys))
    left[np.searchsorted(keys, key_a)] = a.weights
    right[np.searchsorted(keys, key_b)] = b.weights
    heads, tails = np.divmod(keys, n)
    return heads, tails, left, right


def _check_same_vertices(a: FuzzyGraph, b: FuzzyGraph) -> None:
    if a.n_vertices != b.n_vertices:
        raise ValueError(
            "Graphs to be combined must have the same vertices, got graphs of "
            f"{a.n_vertices} and {b.n_vertices} vertices. Fit both models on the same rows."
        )
