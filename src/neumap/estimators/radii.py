"""Radii in the embedding: how spread out the rows around each row are, for densMAP."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from neumap.fuzzy import FuzzyGraph, edge_distances, fuzzy_simplicial_set, local_radii
from neumap.neighbors import NeighborGraph, find_neighbors
from neumap.neighbors.graph import own_row_first

__all__ = ["embedded_radii", "map_edges"]

# Up to this number of dimensions a tree is much faster than other searches.
TREE_DIMENSIONS = 5


def map_edges(
    positions: NDArray[np.float32], n_neighbors: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return heads, tails and weights of the edges between neighbours in an embedding."""
    graph, _ = _map_graph(positions, n_neighbors)
    return graph.heads, graph.tails, graph.weights


def _map_graph(
    positions: NDArray[np.float32], n_neighbors: int
) -> tuple[FuzzyGraph, NeighborGraph]:
    """Return the fuzzy graph of positions, and the neighbours that it comes from.

    Parameters
    ----------
    positions : array of shape (n, n_components), float32
        Finite.
    n_neighbors : int
        As for the data; fewer where there are fewer rows.
    """
    k = min(n_neighbors, len(positions))
    if positions.shape[1] > TREE_DIMENSIONS:
        found = find_neighbors(positions, k)
    else:
        distances, indices = KDTree(positions).query(positions, k=np.arange(1, k + 1))
        own_first = own_row_first(np.asarray(indices), np.asarray(distances))
        found = NeighborGraph(*own_first, backend="tree", recall=1.0, seconds=0.0)
    return fuzzy_simplicial_set(found), found


def embedded_radii(positions: NDArray[np.float32], n_neighbors: int) -> NDArray[np.float32]:
    """Return the log local radius of each row of an embedding, NaN for one without position.

    Parameters
    ----------
    positions : array of shape (n, n_components), float32
        Rows without a position are NaN.
    n_neighbors : int
        As for the data.
    """
    placed = np.isfinite(positions).all(axis=1)
    graph, neighbors = _map_graph(positions[placed], n_neighbors)
    radii = np.full(len(positions), np.nan, dtype=np.float32)
    radii[placed] = local_radii(graph, edge_distances(graph, neighbors) ** 2)
    return radii
