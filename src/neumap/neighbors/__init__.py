"""Nearest neighbours: rows in, a :class:`NeighborGraph` out.

``find_neighbors`` is the main path (``search``). It turns the metric's name into an object
(``metrics``, with ``rows`` and ``tiles`` for the arithmetic), picks a backend that serves it
(``exact``, ``sparse``, ``hnsw``, ``descent``), searches, and measures the recall of an approximate
answer. ``query_neighbors`` does the same for rows outside the training set, ``NeighborIndex`` for
many such questions, and ``precomputed`` reads neighbours or distances that the user has already.
"""

from neumap.neighbors.descent import DescentBackend
from neumap.neighbors.exact import ExactBackend
from neumap.neighbors.graph import NeighborBackend, NeighborGraph
from neumap.neighbors.hnsw import HnswBackend
from neumap.neighbors.metrics import METRICS, disconnection_distance_of, resolve_metric
from neumap.neighbors.precomputed import neighbors_from_distances, neighbors_from_knn
from neumap.neighbors.search import NeighborIndex, find_neighbors, query_neighbors
from neumap.neighbors.sparse import SparseBackend

__all__ = [
    "METRICS",
    "DescentBackend",
    "ExactBackend",
    "HnswBackend",
    "NeighborBackend",
    "NeighborGraph",
    "NeighborIndex",
    "SparseBackend",
    "disconnection_distance_of",
    "find_neighbors",
    "neighbors_from_distances",
    "neighbors_from_knn",
    "query_neighbors",
    "resolve_metric",
]
