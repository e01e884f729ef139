"""Nearest neighbours: rows in, a :class:`NeighborGraph` out.

``find_neighbors`` is the main path. It turns the metric's name into an object (``metrics``),
picks a backend that can serve it (``exact``, ``hnsw``, ``descent``), searches, and measures the
recall of an approximate answer. ``query_neighbors`` does the same for rows that were not in the
training set, and ``precomputed`` reads neighbours or distances that the user already has.
"""

from neumap.neighbors.graph import NeighborBackend, NeighborGraph
from neumap.neighbors.metrics import METRICS, disconnection_distance_of
from neumap.neighbors.search import find_neighbors, query_neighbors

__all__ = [
    "METRICS",
    "NeighborBackend",
    "NeighborGraph",
    "disconnection_distance_of",
    "find_neighbors",
    "query_neighbors",
]
