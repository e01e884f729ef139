"""The two searches: among the rows themselves, and for new rows among the old ones."""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch

from neumap.neighbors import sparse
from neumap.neighbors.descent import UNKNOWN_TO_PYNNDESCENT, DescentBackend
from neumap.neighbors.exact import ExactBackend
from neumap.neighbors.graph import Found, NeighborBackend, NeighborGraph
from neumap.neighbors.hnsw import HnswBackend, found_share
from neumap.neighbors.metrics import (
    EuclideanMetric,
    Metric,
    MetricLike,
    PynndescentMetric,
    TiledMetric,
    resolve_metric,
)
from neumap.neighbors.precomputed import neighbors_from_distances, query_from_distances
from neumap.neighbors.rows import is_sparse
from neumap.neighbors.sparse import SparseBackend

__all__ = ["NeighborIndex", "find_neighbors", "query_neighbors"]

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "exact", "hnsw", "pynndescent"]

# Processor seconds for 12,000 rows: exact 3.7 and HNSW 2.7 at 784 columns, 1.7 and 0.7 at 20. The
# product uses all threads and a seeded graph one, so two cores take about the same time for both.
MAX_EXACT_ROWS = 12_000
MAX_EXACT_PAIRS = 4e10  # pairs times columns that other metrics compute in about a minute
MAX_CALLABLE_PAIRS = 1e6  # calls of a Python function in a few seconds
MAX_SPARSE_COST = 3e10  # multiplications and comparisons of sparse products, minutes
N_RECALL_ROWS = 256
LOW_RECALL = 0.9


def find_neighbors(  # noqa: PLR0913 - one argument per choice the user has
    X: Any,
    n_neighbors: int,
    *,
    metric: MetricLike = "euclidean",
    metric_kwds: dict[str, Any] | None = None,
    backend: BackendName | NeighborBackend = "auto",
    n_jobs: int = -1,
    seed: int | None = 0,
    device: str | torch.device = "cpu",
    verbose: bool = False,
) -> NeighborGraph:
    """Find the nearest neighbours of every row of X.

    Parameters
    ----------
    X : array or sparse matrix of shape (n, n_features)
        With ``metric="precomputed"`` the matrix of distances, shape (n, n). Dense rows of
        float32 in C order are not copied, unless the metric needs a map of the rows.
    n_neighbors : int
        Neighbours per row, the row itself being one of them. More than ``n`` is cut to ``n``
        with a warning.
    metric : str or callable, default="euclidean"
        One of ``METRICS``, or a function of two rows.
    metric_kwds : dict, optional
        Arguments of the metric, for example ``{"p": 3}`` for "minkowski".
    backend : {"auto", "exact", "hnsw", "pynndescent"} or NeighborBackend, default="auto"
        "exact" compares all pairs. "hnsw" is approximate, for euclidean, cosine, correlation,
        hellinger, haversine, seuclidean and mahalanobis. "pynndescent" is approximate, for any
        metric, and needs the extra ``metrics``. "auto" is exact on a GPU and for small data,
        "hnsw" for large data where the metric allows it, else "pynndescent".
    n_jobs : int, default=-1
        Threads; -1 uses all.
    seed : int or None, default=0
        With a seed, "exact" and "hnsw" give the same neighbours at each call, "pynndescent" does
        with ``n_jobs=1``. None is faster: "hnsw" then builds its graph with all threads.
    device : str or torch.device, default="cpu"
        Where the exact search computes its tiles.
    verbose : bool, default=False
        Log at level INFO rather than DEBUG.

    Returns
    -------
    NeighborGraph
        With the recall measured on 256 rows where the search is approximate.

    Raises
    ------
    ValueError
        If the metric is unknown or does not fit the data, or an argument is out of range.
    ImportError
        If the search needs pynndescent, which is not installed.

    Examples
    --------
    >>> graph = find_neighbors(np.array([[0.0], [1.0], [3.0]]), n_neighbors=2)
    >>> graph.indices.tolist()
    [[0, 1], [1, 0], [2, 1]]
    >>> graph.recall
    1.0
    """
    started = time.perf_counter()
    data = _checked_rows(X)
    k = _fitting_n_neighbors(n_neighbors, data.shape[0])
    if metric == "precomputed":
        return neighbors_from_distances(data, k)
    chosen = resolve_metric(metric, metric_kwds)
    search = _resolve_backend(
        backend, data, data.shape[0], chosen, device=str(device), n_jobs=n_jobs, seed=seed
    )
    rows = search.prepare(data, chosen)
    indices, distances = search.search(rows, k, chosen)
    recall = 1.0 if search.exact else _sampled_recall(search, data, rows, distances, chosen, seed)
    seconds = time.perf_counter() - started
    level = logging.INFO if verbose else logging.DEBUG
    logger.log(level, "%d neighbours by %s in %.2f s, recall %s", k, search.name, seconds, recall)
    return NeighborGraph(indices, distances, search.name, recall, seconds)


def query_neighbors(  # noqa: PLR0913 - the arguments of find_neighbors
    X_train: Any,
    X_new: Any,
    n_neighbors: int,
    *,
    metric: MetricLike = "euclidean",
    metric_kwds: dict[str, Any] | None = None,
    backend: BackendName | NeighborBackend = "auto",
    n_jobs: int = -1,
    seed: int | None = 0,
    device: str | torch.device = "cpu",
) -> Found:
    """Find the training rows nearest to each new row.

    Parameters
    ----------
    X_train : array or sparse matrix of shape (n_train, n_features)
        Not read with ``metric="precomputed"``, except for its number of rows.
    X_new : array or sparse matrix of shape (n_new, n_features)
        With ``metric="precomputed"`` the distances from new to training rows.
    n_neighbors : int
        Neighbours per new row.
    metric, metric_kwds, backend, n_jobs, seed, device
        As for ``find_neighbors``. "auto" is exact unless there are many new rows, since an
        approximate search has to build its graph of the training rows first.

    Returns
    -------
    indices : array of shape (n_new, n_neighbors), int64
    distances : array of shape (n_new, n_neighbors), float32
        Rising along each row.

    Examples
    --------
    >>> indices, distances = query_neighbors(np.eye(3), np.array([[0.9, 0.0, 0.0]]), 1)
    >>> indices.tolist()
    [[0]]
    """
    index = NeighborIndex(
        X_train,
        metric=metric,
        metric_kwds=metric_kwds,
        backend=backend,
        n_jobs=n_jobs,
        seed=seed,
        device=device,
    )
    return index.query(X_new, n_neighbors)


class NeighborIndex:
    """Training rows that are asked for neighbours of new rows again and again.

    What a search needs to build (a graph, trees, rows mapped by the metric) is built at the first
    query that needs it and serves all later ones; :func:`query_neighbors` asks once.

    Parameters
    ----------
    X_train, metric, metric_kwds, backend, n_jobs, seed, device
        As for ``query_neighbors``.

    Examples
    --------
    >>> index = NeighborIndex(np.eye(3))
    >>> index.query(np.array([[0.9, 0.0, 0.0]]), 1)[0].tolist()
    [[0]]
    """

    def __init__(  # noqa: PLR0913 - the arguments of query_neighbors
        self,
        X_train: Any,
        *,
        metric: MetricLike = "euclidean",
        metric_kwds: dict[str, Any] | None = None,
        backend: BackendName | NeighborBackend = "auto",
        n_jobs: int = -1,
        seed: int | None = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.rows = _checked_rows(X_train)
        # Distances are read off the new rows, so there is no metric to resolve.
        self.metric = None if metric == "precomputed" else resolve_metric(metric, metric_kwds)
        self._choose = partial(
            _resolve_backend, backend, device=str(device), n_jobs=n_jobs, seed=seed
        )
        self._built: dict[tuple[str, int], Any] = {}

    def query(self, X_new: Any, k: int) -> Found:
        """Find the `k` training rows nearest to each new row; see :func:`query_neighbors`.

        The argument is named as in pynndescent, whose place the index takes in ``umap.plot``.
        """
        new = _checked_rows(X_new)
        n_found = _fitting_n_neighbors(k, self.rows.shape[0])
        wanted = self.rows.shape[0 if self.metric is None else 1]
        if new.shape[1] != wanted:
            raise ValueError(
                f"New rows must have {wanted} columns, as the training rows; got {new.shape[1]}. "
                "Select the same columns in the same order."
            )
        if self.metric is None:
            return query_from_distances(new, n_found)
        search = self._choose(self.rows, new.shape[0], self.metric)
        built = self._built.get((search.name, n_found))
        if built is None:
            built = search.build(search.prepare(self.rows, self.metric), n_found, self.metric)
            self._built[search.name, n_found] = built
        return search.query(built, search.prepare(new, self.metric), n_found, self.metric)


def _checked_rows(X: Any) -> Any:
    rows: Any = scipy.sparse.csr_matrix(X) if is_sparse(X) else np.asarray(X)
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(
            f"X must be a table with at least one row, shape (n, n_features); got {rows.shape}. "
            "Flatten each sample to one row."
        )
    return rows


def _fitting_n_neighbors(n_neighbors: int, n_rows: int) -> int:
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be at least 1; got {n_neighbors}. 15 suits most data.")
    if n_neighbors <= n_rows:
        return int(n_neighbors)
    warnings.warn(
        f"n_neighbors should be at most the number of rows, {n_rows}; got {n_neighbors}. "
        f"Searching for {n_rows}.",
        stacklevel=3,
    )
    return n_rows


def _resolve_backend(  # noqa: PLR0913 - what a choice depends on
    backend: BackendName | NeighborBackend,
    data: Any,
    n_queries: int,
    metric: Metric,
    *,
    device: str,
    n_jobs: int,
    seed: int | None,
) -> NeighborBackend:
    """The backend of that name, or the fastest one that serves the metric and the data."""
    if not isinstance(backend, str):
        return backend
    if n_jobs < -1 or n_jobs == 0:
        raise ValueError(f"n_jobs must be positive, or -1 for all cores; got {n_jobs}. Use -1.")
    name = _automatic(data, n_queries, metric, device) if backend == "auto" else backend
    if name == "exact" and is_sparse(data) and sparse.supports(metric):
        return SparseBackend(n_jobs=n_jobs)
    if name == "exact":
        return ExactBackend(device=device, n_jobs=n_jobs)
    if name == "hnsw" and not is_sparse(data):
        return HnswBackend(n_jobs=n_jobs, seed=seed)
    if name == "pynndescent":
        return DescentBackend(n_jobs=n_jobs, seed=seed)
    raise ValueError(
        "backend must be 'auto', 'exact', 'pynndescent' or, for dense rows, 'hnsw'; got "
        f"{backend!r} for {'sparse' if is_sparse(data) else 'dense'} rows. Use 'auto'."
    )


def _automatic(data: Any, n_queries: int, metric: Metric, device: str) -> BackendName:
    if isinstance(metric, PynndescentMetric):
        return "pynndescent"
    n, n_columns = data.shape
    pairs = float(n) * n_queries
    if is_sparse(data) and sparse.supports(metric):
        cost = sparse.product_cost(data) * n_queries / n + pairs
        return "exact" if cost <= MAX_SPARSE_COST else "pynndescent"
    if isinstance(metric, EuclideanMetric) and not is_sparse(data):
        few = pairs <= MAX_EXACT_ROWS**2 or n_queries <= n // 8
        return "exact" if few or device != "cpu" else "hnsw"
    if isinstance(metric, TiledMetric) and metric.function is not None:
        return "exact" if pairs <= MAX_CALLABLE_PAIRS else "pynndescent"
    if metric.name in UNKNOWN_TO_PYNNDESCENT:
        return "exact"
    budget = MAX_EXACT_PAIRS * (100 if device != "cpu" or sparse.supports(metric) else 1)
    return "exact" if pairs * n_columns <= budget else "pynndescent"


def _sampled_recall(
    search: NeighborBackend,
    data: Any,
    rows: Any,
    distances: np.ndarray,
    metric: Metric,
    seed: int | None,
) -> float | None:
    """Share of the true neighbours found, from an exact search for a sample of the rows."""
    if isinstance(metric, PynndescentMetric) or getattr(metric, "function", None) is not None:
        return None  # no exact search to compare with
    n = data.shape[0]
    generator = np.random.default_rng(None if seed is None else seed + 1)
    sample = np.sort(generator.choice(n, size=min(N_RECALL_ROWS, n), replace=False))
    k = distances.shape[1]
    if isinstance(search, HnswBackend):  # its rows are those of the exact search
        truth = ExactBackend().query(rows, rows[sample], k, metric)[1]
    else:
        by_products = is_sparse(data) and sparse.supports(metric)
        exact: NeighborBackend = SparseBackend() if by_products else ExactBackend()
        mapped, queries = exact.prepare(data, metric), exact.prepare(data[sample], metric)
        truth = exact.query(mapped, queries, k, metric)[1]
    recall = found_share(distances[sample], truth)
    if recall < LOW_RECALL:
        warnings.warn(
            f"The approximate search found {recall:.0%} of the true neighbours on a sample; "
            f"expected at least {LOW_RECALL:.0%}. Use backend='exact' or reduce the data's "
            "dimension first, for example by PCA.",
            stacklevel=3,
        )
    return recall
