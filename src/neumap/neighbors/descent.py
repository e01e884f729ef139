"""Approximate neighbours by nearest-neighbour descent (pynndescent, an optional package).

Dong, Charikar and Li, "Efficient k-nearest neighbor graph construction for generic similarity
measures", 2011. It supports every named metric of umap-learn, compiled functions and sparse rows,
but each process compiles it for about half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from neumap._device import allowed_threads, usable_cores
from neumap._optional import require
from neumap.neighbors.graph import Found, own_row_first
from neumap.neighbors.metrics import Metric, TiledMetric
from neumap.neighbors.rows import is_sparse

__all__ = ["UNKNOWN_TO_PYNNDESCENT", "DescentBackend"]

MAX_CANDIDATES = 60
QUERY_NEIGHBORS = 30
NEAR_EPSILON, ANGULAR_EPSILON = 0.12, 0.24  # how far a query looks beyond the k-th neighbour
ANGULAR = ("cosine", "correlation", "dice", "jaccard", "hellinger")
UNKNOWN_TO_PYNNDESCENT = ("ll_dirichlet", "poincare", "softmax_hellinger")


@dataclass(frozen=True)
class DescentBackend:
    """Search by nearest-neighbour descent.

    Parameters
    ----------
    n_jobs : int, default=-1
        Threads; -1 takes all cores.
    seed : int or None, default=0
        Makes the search repeatable with ``n_jobs=1``.
    low_memory : bool, default=True
        False builds the index faster and takes more memory.
    angular : bool, default=False
        Split the first trees by angle rather than by distance.
    """

    n_jobs: int = -1
    seed: int | None = 0
    low_memory: bool = True
    angular: bool = False
    name: str = "pynndescent"
    exact: bool = False

    def prepare(self, data: Any, metric: Metric) -> Any:
        """Rows as float32, or as bytes for the metrics of packed bits."""
        if metric.name in UNKNOWN_TO_PYNNDESCENT:
            raise ValueError(
                "metric must be one that pynndescent has, or a compiled function, got "
                f"{metric.name!r}. Use backend='exact'; in an estimator, leave low_memory, "
                "angular_rp_forest and force_approximation_algorithm at their defaults."
            )
        dtype: Any = np.uint8 if metric.name.startswith("bit_") else np.float32
        if is_sparse(data):
            # pynndescent's metrics of binary data count stored zeros as ones.
            rows = scipy.sparse.csr_matrix(data, dtype=dtype, copy=True)
            rows.sum_duplicates()
            rows.eliminate_zeros()
            return rows
        if getattr(metric, "function", None) is not None:  # it may write to its arguments
            return np.array(data, dtype=dtype, order="C")
        return np.ascontiguousarray(data, dtype=dtype)

    def search(self, rows: Any, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each row among all rows, itself first."""
        indices, distances = self._index(rows, n_neighbors, metric).neighbor_graph
        return own_row_first(indices, distances)

    def build(self, rows: Any, n_neighbors: int, metric: Metric) -> Any:
        """Index the rows for queries."""
        # A graph with few neighbours has several components, and a query stays in one of them.
        return self._index(rows, min(max(n_neighbors, QUERY_NEIGHBORS), rows.shape[0]), metric)

    def query(self, index: Any, queries: Any, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each query among the rows of the index."""
        epsilon = ANGULAR_EPSILON if metric.name in ANGULAR else NEAR_EPSILON
        indices, distances = index.query(queries, k=n_neighbors, epsilon=epsilon)
        return indices.astype(np.int64), distances.astype(np.float32)

    def _index(self, rows: Any, n_neighbors: int, metric: Metric) -> Any:
        pynndescent = require("pynndescent", extra="metrics")
        n = rows.shape[0]
        # Without a seed a fresh one, since the package would draw from numpy's global state.
        seed = self.seed
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        return pynndescent.NNDescent(
            rows,
            metric=_name_or_function(metric),
            metric_kwds=metric.kwds,
            n_neighbors=n_neighbors,
            random_state=np.random.RandomState(seed % 2**32),
            n_trees=min(64, 5 + round(n**0.5 / 20)),
            n_iters=max(5, round(np.log2(n))),
            max_candidates=MAX_CANDIDATES,
            n_jobs=_numba_threads(self.n_jobs),
            low_memory=self.low_memory,
            angular_trees=self.angular,
            compressed=False,
        )


def _numba_threads(n_jobs: int) -> int:
    """Return the threads to ask for: no more than cores, and no more than numba started with."""
    numba = require("numba", extra="metrics")
    most = min(usable_cores(), int(numba.config.NUMBA_NUM_THREADS))
    return allowed_threads(most if n_jobs < 0 else min(n_jobs, most))


def _name_or_function(metric: Metric) -> Any:
    if not isinstance(metric, TiledMetric) or metric.function is None:
        return metric.name
    if hasattr(metric.function, "py_func"):
        return metric.function
    return require("numba", extra="metrics").njit(metric.function)
