"""Local radii: how spread out the neighbourhood of each row is, for densMAP.

Narayan, Berger and Cho, "Assessing single-cell transcriptomic variability through
density-preserving data visualization", 2021.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.fuzzy.graph import FuzzyGraph
from neumap.neighbors.graph import NeighborGraph

__all__ = ["edge_distances", "local_radii"]

SMALLEST_RADIUS = 1e-8


def local_radii(graph: FuzzyGraph, squared_distances: NDArray[Any]) -> NDArray[np.float32]:
    """Logarithm of each vertex's mean squared distance to its neighbours, by membership.

    ``log(1e-8 + sum_j w_ij d_ij^2 / sum_j w_ij)``. The same function works for the data (with the
    distances of ``edge_distances``) and for an embedding (with distances between positions).

    Parameters
    ----------
    graph : FuzzyGraph
    squared_distances : array of shape (n_edges,)
        Squared length of each edge.

    Returns
    -------
    array of shape (n_vertices,), float32
        NaN for vertices without an edge.

    Examples
    --------
    >>> pair = FuzzyGraph(np.array([0]), np.array([1]), np.array([0.5], dtype=np.float32), 2)
    >>> local_radii(pair, np.array([1.0])).round(3).tolist()
    [0.0, 0.0]
    """
    weighted = graph.weights * np.asarray(squared_distances, dtype=np.float64)
    n = graph.n_vertices
    total = np.bincount(graph.heads, weighted, n) + np.bincount(graph.tails, weighted, n)
    degrees = graph.degrees().astype(np.float64)
    mean = np.divide(total, degrees, out=np.full(n, np.nan), where=degrees > 0)
    radii: NDArray[Any] = np.log(SMALLEST_RADIUS + mean).astype(np.float32)
    return radii


def edge_distances(graph: FuzzyGraph, neighbors: NeighborGraph) -> NDArray[np.float32]:
    """Distance between the ends of each edge, as the neighbour search found it.

    Parameters
    ----------
    graph : FuzzyGraph
    neighbors : NeighborGraph
        The neighbours that the graph was made from.

    Returns
    -------
    array of shape (n_edges,), float32
        The larger one where both directions were found (approximate searches and precomputed
        neighbours may differ), 0 where neither was.
    """
    n = graph.n_vertices
    rows = np.broadcast_to(neighbors.asking()[:, None], neighbors.indices.shape)
    known = (neighbors.indices >= 0) & np.isfinite(neighbors.distances)
    sources, targets = rows[known], neighbors.indices[known]
    found = np.minimum(sources, targets) * n + np.maximum(sources, targets)
    keys = graph.heads * n + graph.tails  # sorted, since the edges are
    position = np.searchsorted(keys, found)
    is_edge = (position < len(keys)) & (keys[np.minimum(position, len(keys) - 1)] == found)
    lengths = np.zeros(len(keys), dtype=np.float32)
    np.maximum.at(lengths, position[is_edge], neighbors.distances[known][is_edge])
    return lengths
