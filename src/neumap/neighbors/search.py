"""The two searches: among the rows themselves, and for new rows among the old ones."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from neumap.neighbors.exact import ExactBackend
from neumap.neighbors.graph import NeighborBackend, NeighborGraph
from neumap.neighbors.hnsw import HnswBackend
from neumap.neighbors.metrics import Metric, resolve_metric

__all__ = ["find_neighbors", "query_neighbors"]

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "exact", "hnsw"]
MAX_EXACT_ROWS = 12_000
N_RECALL_ROWS = 256


def find_neighbors(  # noqa: PLR0913 - one argument per choice the user has
    X: Any,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    metric_kwds: dict[str, Any] | None = None,
    backend: BackendName | NeighborBackend = "auto",
    n_jobs: int = -1,
    seed: int | None = 0,
    device: str = "cpu",
    verbose: bool = False,
) -> NeighborGraph:
    """Find the nearest neighbours of every row of X.

    Parameters
    ----------
    X : array of shape (n, n_features)
    n_neighbors : int
        Neighbours per row, the row itself being one of them.
    metric : str, default="euclidean"
    backend : {"auto", "exact", "hnsw"} or NeighborBackend, default="auto"

    Returns
    -------
    NeighborGraph

    Examples
    --------
    >>> graph = find_neighbors(np.array([[0.0], [1.0], [3.0]]), n_neighbors=2)
    >>> graph.indices.tolist()
    [[0, 1], [1, 0], [2, 1]]
    """
    started = time.perf_counter()
    rows = np.asarray(X)
    k = _fitting_n_neighbors(n_neighbors, len(rows))
    chosen = resolve_metric(metric, metric_kwds)
    search = _choose_backend(backend, rows, device=device, n_jobs=n_jobs, seed=seed)
    indices, distances = search.search(rows, k, chosen)
    recall = 1.0
    if not search.exact:
        recall = _sampled_recall(rows, distances, chosen, seed=seed)
    seconds = time.perf_counter() - started
    logger.info("%d neighbours by %s in %.2f s, recall %.3f", k, search.name, seconds, recall)
    return NeighborGraph(indices, distances, search.name, recall, seconds)


def query_neighbors(  # noqa: PLR0913 - the arguments of find_neighbors
    X_train: Any,
    X_new: Any,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    metric_kwds: dict[str, Any] | None = None,
    backend: BackendName | NeighborBackend = "auto",
    n_jobs: int = -1,
    seed: int | None = 0,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Find the training rows nearest to each new row.

    Returns
    -------
    indices : array of shape (n_new, n_neighbors), int64
    distances : array of shape (n_new, n_neighbors), float32
    """
    rows, queries = np.asarray(X_train), np.asarray(X_new)
    k = _fitting_n_neighbors(n_neighbors, len(rows))
    search = _choose_backend(backend, rows, device=device, n_jobs=n_jobs, seed=seed)
    return search.query(rows, queries, k, resolve_metric(metric, metric_kwds))


def _fitting_n_neighbors(n_neighbors: int, n_rows: int) -> int:
    if n_neighbors <= n_rows:
        return n_neighbors
    warnings.warn(
        f"n_neighbors should be at most the number of rows, {n_rows}; got {n_neighbors}. "
        f"Searching for {n_rows}.",
        stacklevel=3,
    )
    return n_rows


def _choose_backend(
    backend: BackendName | NeighborBackend,
    rows: np.ndarray,
    *,
    device: str,
    n_jobs: int,
    seed: int | None,
) -> NeighborBackend:
    if not isinstance(backend, str):
        return backend
    name = backend
    if name == "auto":
        on_gpu = device != "cpu"
        name = "exact" if on_gpu or len(rows) <= MAX_EXACT_ROWS else "hnsw"
    if name == "exact":
        return ExactBackend(device=device)
    return replace(HnswBackend(), n_jobs=n_jobs, seed=seed or 0)


def _sampled_recall(
    rows: np.ndarray, distances: np.ndarray, metric: Metric, *, seed: int | None
) -> float:
    """Share of true neighbours found, by distance, so that ties count as found."""
    generator = np.random.default_rng(seed)
    sample = generator.choice(len(rows), size=min(N_RECALL_ROWS, len(rows)), replace=False)
    k = distances.shape[1]
    _, exact = ExactBackend().query(rows, rows[sample], k, metric)
    return float((distances[sample] <= exact[:, -1:] * (1 + 1e-5)).mean())
