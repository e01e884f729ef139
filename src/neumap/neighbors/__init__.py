"""Nearest neighbours: rows in, a :class:`NeighborGraph` out.

``NeighborSearch`` (``search``) is the main path: it holds the settings. Its ``find`` turns the
metric's name into an object (``metrics``, with ``rows`` and ``tiles`` for the arithmetic), picks a
backend that serves it (``exact``, ``sparse``, ``cells`` on a ``partition``, ``hnsw``, ``descent``),
searches, and measures the recall of an approximate answer. Its ``join`` finds more neighbours in
the ``lists`` of some rows. Its ``index`` keeps training rows for queries of new rows.
``find_neighbors`` and ``query_neighbors`` do either in one call, and ``precomputed`` reads
neighbours or distances that the user has already.
"""

from neumap.neighbors.cells import CellBackend
from neumap.neighbors.descent import DescentBackend
from neumap.neighbors.exact import ExactBackend
from neumap.neighbors.graph import NeighborBackend, NeighborGraph
from neumap.neighbors.hnsw import HnswBackend
from neumap.neighbors.metrics import METRICS, disconnection_distance_of, resolve_metric
from neumap.neighbors.precomputed import (
    neighbors_from_distances,
    neighbors_from_knn,
    symmetric_distances,
)
from neumap.neighbors.search import (
    BackendName,
    NeighborIndex,
    NeighborSearch,
    find_neighbors,
    query_neighbors,
)
from neumap.neighbors.sparse import SparseBackend

__all__ = [
    "METRICS",
    "BackendName",
    "CellBackend",
    "DescentBackend",
    "ExactBackend",
    "HnswBackend",
    "NeighborBackend",
    "NeighborGraph",
    "NeighborIndex",
    "NeighborSearch",
    "SparseBackend",
    "disconnection_distance_of",
    "find_neighbors",
    "neighbors_from_distances",
    "neighbors_from_knn",
    "query_neighbors",
    "resolve_metric",
    "symmetric_distances",
]
