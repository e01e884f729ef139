"""The two searches: among the rows themselves, and for new rows among the training rows.

A :class:`NeighborSearch` holds the settings of both. Its ``find`` answers for the rows themselves,
and its ``index`` keeps training rows for any number of queries.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._ranks import ALONE, Ranks
from neumap._structure import check_structure
from neumap._warnings import warn_user
from neumap.neighbors import sparse
from neumap.neighbors.cells import CellBackend
from neumap.neighbors.descent import UNKNOWN_TO_PYNNDESCENT, DescentBackend
from neumap.neighbors.exact import ExactBackend
from neumap.neighbors.graph import (
    Found,
    NeighborBackend,
    NeighborGraph,
    check_found,
    own_row_first,
)
from neumap.neighbors.hnsw import HnswBackend, found_share
from neumap.neighbors.lists import nearest_in_lists
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
from neumap.neighbors.shares import answer_shares
from neumap.neighbors.sparse import SparseBackend
from neumap.neighbors.units import exponent_of_unit, in_user_units, largest_value, scaled_by

__all__ = ["BackendName", "NeighborIndex", "NeighborSearch", "find_neighbors", "query_neighbors"]

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "exact", "cells", "hnsw", "pynndescent"]

MAX_EXACT_ROWS = 12_000
MAX_EXACT_ROWS_ON_CARD = 100_000  # all pairs take a fraction of a second
MAX_EXACT_PAIRS = 4e10  # pairs times columns that other metrics compute in about a minute
MAX_CALLABLE_PAIRS = 1e6  # calls of a Python function in a few seconds
MAX_SPARSE_COST = 3e10  # multiplications and comparisons of sparse products, minutes
DENSE_BYTES = 1 << 26  # of sparse new rows that are dense at a time
N_RECALL_ROWS = 256
LOW_RECALL = 0.9


@dataclass(frozen=True)
class NeighborSearch:
    """How to search for neighbours: the metric, the backend and where it runs.

    Parameters
    ----------
    metric : str or callable, default="euclidean"
        One of ``METRICS``, or a function of two rows.
    metric_kwds : dict, optional
        Arguments of the metric, for example ``{"p": 3}`` for "minkowski".
    backend : {"auto", "exact", "cells", "hnsw", "pynndescent"} or NeighborBackend, default="auto"
        "exact" compares all pairs. "cells" and "hnsw" are approximate, for dense rows and
        euclidean, cosine, correlation, hellinger, haversine, seuclidean and mahalanobis. "cells"
        divides the rows among cells and compares those of near cells; "hnsw" walks a graph.
        "pynndescent" is approximate, for any metric, and needs the extra ``metrics``. "auto" is
        exact for up to 12,000 rows (100,000 on a GPU), "cells" for more where the metric allows
        it, else "pynndescent". For queries "auto" is exact unless there are many, since an
        approximate search first has to arrange the training rows.
    n_jobs : int, default=-1
        Threads; -1 uses all.
    seed : int or None, default=0
        With a seed, "exact", "cells" and "hnsw" give the same neighbours at each call,
        "pynndescent" does with ``n_jobs=1``. None is faster for "hnsw", which then builds its graph
        with all threads.
    device : str or torch.device, default="cpu"
        Where "exact" and "cells" compute.
    ranks : Ranks, optional
        The processes that call ``find`` together. Each does a share of an "exact" search or one by
        "cells"; other searches are done by all of them.

    Examples
    --------
    >>> search = NeighborSearch(metric="manhattan")
    >>> search.find(np.array([[0.0], [1.0], [3.0]]), 2).distances.tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 2.0]]
    >>> search.index(np.eye(3)).query(np.array([[0.9, 0.0, 0.0]]), 1)[0].tolist()
    [[0]]
    """

    metric: MetricLike = "euclidean"
    metric_kwds: dict[str, Any] | None = None
    backend: BackendName | NeighborBackend = "auto"
    n_jobs: int = -1
    seed: int | None = 0
    device: str | torch.device = "cpu"
    ranks: Ranks = ALONE

    def find(
        self,
        X: Any,
        n_neighbors: int,
        *,
        anchors: NDArray[np.int64] | None = None,
        verbose: bool = False,
    ) -> NeighborGraph:
        """Find the nearest neighbours of every row of X, or of some of its rows.

        Parameters
        ----------
        X : array or sparse matrix of shape (n, n_features)
            With ``metric="precomputed"`` the matrix of distances, shape (n, n). Dense rows of
            float32 in C order are not copied, unless the metric needs a map of the rows.
        n_neighbors : int
            Neighbours per row, the row itself being one of them. More than ``n`` is cut to ``n``
            with a warning.
        anchors : array of int, optional
            Numbers of the rows whose neighbours are wanted, rising; by default those of all rows.
            The neighbours are among all rows in either case.
        verbose : bool, default=False
            Log at level INFO rather than DEBUG.

        Returns
        -------
        NeighborGraph
            With the recall measured on 256 rows where the search is approximate.

        Raises
        ------
        ValueError
            If the metric is unknown or does not fit the data, or a setting is out of range.
        ImportError
            If the search needs pynndescent, which is not installed.
        """
        started = time.perf_counter()
        given = _checked_rows(X)
        k = _fitting_n_neighbors(n_neighbors, given.shape[0])
        asking = None if anchors is None else _checked_anchors(anchors, given.shape[0])
        if self.metric == "precomputed":
            return _of_anchors(neighbors_from_distances(given, k), asking)
        metric = resolve_metric(self.metric, self.metric_kwds)
        exponent = exponent_of_unit(largest_value(given), metric)
        data = scaled_by(given, exponent)
        n_asking = data.shape[0] if asking is None else len(asking)
        backend = self.choose_backend(data, n_asking, metric, are_rows=True)
        rows = backend.prepare(data, metric)
        on_device = None
        if isinstance(backend, CellBackend) and _stays_on_device(backend, exponent, metric):
            on_device = _of_cells(backend, rows, asking, k, metric)
            indices, distances = (part.cpu().numpy() for part in on_device)
        elif asking is None:
            indices, distances = backend.search(rows, k, metric)
        else:
            indices, distances = _search_of_anchors(backend, data, rows, asking, k, metric)
        check_found(indices, distances, metric)
        recall: float | None = 1.0
        if not backend.exact:
            numbers = np.arange(data.shape[0]) if asking is None else asking
            recall = _sampled_recall(backend, data, rows, (numbers, distances), metric, self.seed)
        distances = in_user_units(distances, exponent, metric)
        seconds = time.perf_counter() - started
        level = logging.INFO if verbose else logging.DEBUG
        logger.log(
            level, "%d neighbours by %s in %.2f s, recall %s", k, backend.name, seconds, recall
        )
        n_rows = None if asking is None else data.shape[0]
        return NeighborGraph(
            indices, distances, backend.name, recall, seconds, on_device, asking, n_rows
        )

    def join(self, X: Any, found: NeighborGraph, n_neighbors: int) -> NeighborGraph:
        """Find neighbours of the rows that did not ask, in the lists of those that did.

        Candidates are the rows that share a list with a row, so that the longer the lists are, the
        more of the true neighbours are found.

        Parameters
        ----------
        X : array of shape (n, n_features)
            The rows among which `found` were searched: dense ones, with a metric that reduces to
            Euclidean distance.
        found : NeighborGraph
            The neighbours of some rows.
        n_neighbors : int
            Neighbours per row, the row itself being one of them.

        Returns
        -------
        NeighborGraph
            Its ``anchors`` are the rows in the lists that are none in `found`; ``recall`` is None.
        """
        started = time.perf_counter()
        metric = resolve_metric(self.metric, self.metric_kwds)
        assert isinstance(metric, EuclideanMetric)
        given = _checked_rows(X)
        exponent = exponent_of_unit(largest_value(given), metric)
        # A card of Apple sorts no integers of 64 bits.
        device = str(self.device) if torch.device(self.device).type == "cuda" else "cpu"
        rows = CellBackend(device=device).prepare(scaled_by(given, exponent), metric)
        numbers, (indices, distances) = nearest_in_lists(
            rows, found.indices, n_neighbors - 1, n_jobs=self.n_jobs, device=device
        )
        distances = in_user_units(metric.finish(distances), exponent, metric)
        seconds = time.perf_counter() - started
        return NeighborGraph(
            indices, distances, "lists", None, seconds, anchors=numbers, n_rows=len(given)
        )

    def index(self, X_train: Any) -> NeighborIndex:
        """Return what answers queries for the nearest of these rows."""
        return NeighborIndex(X_train, self)

    def choose_backend(
        self, data: Any, n_queries: int, metric: Metric, *, are_rows: bool = False
    ) -> NeighborBackend:
        """Return the backend of that name, or the fastest one for the metric and the data.

        ``are_rows`` tells that the queries are rows of the data, which are asked once.
        """
        if not isinstance(self.backend, str):
            return self.backend
        if self.n_jobs < -1 or self.n_jobs == 0:
            raise ValueError(
                f"n_jobs must be positive, or -1 for all cores, got {self.n_jobs}. Use -1."
            )
        name, device = self.backend, str(self.device)
        ranks = self.ranks if are_rows else ALONE
        if name == "auto":
            name = _automatic(data, n_queries, metric, device, are_rows=are_rows)
        if name == "exact" and is_sparse(data) and sparse.supports(metric):
            return SparseBackend(n_jobs=self.n_jobs, ranks=ranks)
        if name == "exact":
            return ExactBackend(device=device, n_jobs=self.n_jobs, ranks=ranks)
        if name == "cells" and not is_sparse(data):
            return CellBackend(n_jobs=self.n_jobs, seed=self.seed, device=device, ranks=ranks)
        if name == "hnsw" and not is_sparse(data):
            return HnswBackend(n_jobs=self.n_jobs, seed=self.seed)
        if name == "pynndescent":
            return DescentBackend(n_jobs=self.n_jobs, seed=self.seed)
        raise ValueError(
            "backend must be 'auto', 'exact', 'pynndescent' or, for dense rows, 'cells' or 'hnsw', "
            f"got {self.backend!r} for {'sparse' if is_sparse(data) else 'dense'} rows. Use 'auto'."
        )


class NeighborIndex:
    """Training rows in which the neighbours of new rows are searched, any number of times.

    What a search needs (a graph, trees, rows mapped by the metric) is built at the first query
    that needs it and is used by all later ones.

    Parameters
    ----------
    X_train : array or sparse matrix of shape (n_train, n_features)
        Not read with ``metric="precomputed"``, except for its number of rows.
    search : NeighborSearch
        How to search.

    Examples
    --------
    >>> index = NeighborIndex(np.eye(3), NeighborSearch())
    >>> index.query(np.array([[0.9, 0.0, 0.0]]), 1)[0].tolist()
    [[0]]
    """

    def __init__(self, X_train: Any, search: NeighborSearch) -> None:
        self.rows = _checked_rows(X_train)
        # Distances are read off the new rows, so there is no metric to resolve.
        is_given = search.metric == "precomputed"
        self.metric = None if is_given else resolve_metric(search.metric, search.metric_kwds)
        self.search = search
        self._largest = 0.0 if self.metric is None else largest_value(self.rows)
        self._built: dict[tuple[str, int, int], Any] = {}

    def query(self, X_new: Any, k: int) -> Found:
        """Find the training rows nearest to each new row.

        The second argument is named as in pynndescent, whose place the index takes in
        ``umap.plot``.

        Parameters
        ----------
        X_new : array or sparse matrix of shape (n_new, n_features)
            With ``metric="precomputed"`` the distances from new to training rows.
        k : int
            Neighbours per new row.

        Returns
        -------
        indices : array of shape (n_new, k), int64
        distances : array of shape (n_new, k), float32
            Rising along each row.
        """
        new = _checked_rows(X_new)
        n_found = _fitting_n_neighbors(k, self.rows.shape[0])
        n_columns = self.rows.shape[0 if self.metric is None else 1]
        if new.shape[1] != n_columns:
            raise ValueError(
                f"New rows must have {n_columns} columns, as the training rows, got "
                f"{new.shape[1]}. Select the same columns in the same order."
            )
        if self.metric is None:
            return query_from_distances(new, n_found)
        parts = [self._query(part, n_found, self.metric) for part in _in_kind_of(self.rows, new)]
        return np.concatenate([i for i, _ in parts]), np.concatenate([d for _, d in parts])

    def _query(self, new: Any, k: int, metric: Metric) -> Found:
        """Search for new rows that are sparse if the training rows are, dense otherwise."""
        # New rows may be much larger than all training rows.
        exponent = exponent_of_unit(max(self._largest, largest_value(new)), metric)
        backend = self.search.choose_backend(self.rows, new.shape[0], metric)
        built = self._built.get((backend.name, k, exponent))
        if built is None:
            rows = backend.prepare(scaled_by(self.rows, exponent), metric)
            built = backend.build(rows, k, metric)
            self._built[backend.name, k, exponent] = built
        queries = backend.prepare(scaled_by(new, exponent), metric)
        indices, distances = backend.query(built, queries, k, metric)
        check_found(indices, distances, metric)
        return indices, in_user_units(distances, exponent, metric)


def find_neighbors(
    X: Any, n_neighbors: int, *, verbose: bool = False, **settings: Any
) -> NeighborGraph:
    """Find the nearest neighbours of every row of X, in one call.

    Parameters
    ----------
    X, n_neighbors, verbose
        As for ``NeighborSearch.find``.
    **settings
        Those of ``NeighborSearch``.

    Returns
    -------
    NeighborGraph

    Examples
    --------
    >>> graph = find_neighbors(np.array([[0.0], [1.0], [3.0]]), n_neighbors=2)
    >>> graph.indices.tolist()
    [[0, 1], [1, 0], [2, 1]]
    >>> graph.recall
    1.0
    """
    return NeighborSearch(**settings).find(X, n_neighbors, verbose=verbose)


def query_neighbors(X_train: Any, X_new: Any, n_neighbors: int, **settings: Any) -> Found:
    """Find the training rows nearest to each new row, in one call.

    Parameters
    ----------
    X_train, X_new, n_neighbors
        As for ``NeighborIndex`` and its ``query``.
    **settings
        Those of ``NeighborSearch``.

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
    return NeighborSearch(**settings).index(X_train).query(X_new, n_neighbors)


def _checked_rows(X: Any) -> Any:
    check_structure(X)
    rows: Any = scipy.sparse.csr_matrix(X) if is_sparse(X) else np.asarray(X)
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(
            f"X must have shape (n, n_features) with at least one row, got shape {rows.shape}. "
            "Flatten each sample to one row."
        )
    return rows


def _in_kind_of(rows: Any, new: Any) -> Iterator[Any]:
    """Yield new rows as sparse or dense ones, whichever the training rows are."""
    if is_sparse(rows) == is_sparse(new):
        yield new
    elif is_sparse(rows):
        yield scipy.sparse.csr_matrix(new)
    else:
        step = max(1, DENSE_BYTES // (new.shape[1] * 4))
        for start in range(0, new.shape[0], step):
            yield new[start : start + step].toarray()


def _fitting_n_neighbors(n_neighbors: int, n_rows: int) -> int:
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be at least 1, got {n_neighbors}. 15 suits most data.")
    if n_neighbors <= n_rows:
        return int(n_neighbors)
    warn_user(
        f"n_neighbors should be at most the number of rows, {n_rows}, got {n_neighbors}. "
        f"{n_rows} neighbours are searched for instead.",
    )
    return n_rows


def _stays_on_device(backend: CellBackend, exponent: int, metric: Metric) -> bool:
    """Whether Euclidean distances that a card has found are those of the metric."""
    return backend.device != "cpu" and exponent == 0 and metric.name in ("euclidean", "minkowski")


def _checked_anchors(anchors: Any, n: int) -> NDArray[np.int64]:
    numbers = np.asarray(anchors)
    is_right = numbers.ndim == 1 and numbers.dtype.kind in "iu" and len(numbers) > 0
    if not (is_right and numbers[0] >= 0 and numbers[-1] < n and (np.diff(numbers) > 0).all()):
        raise ValueError(
            f"anchors must be rising row numbers from 0 to {n - 1}, got {anchors!r:.60}. Pass "
            "numpy.unique(numbers)."
        )
    return numbers.astype(np.int64)


def _of_anchors(graph: NeighborGraph, anchors: NDArray[np.int64] | None) -> NeighborGraph:
    """Return the lists of these rows alone."""
    if anchors is None:
        return graph
    return replace(
        graph,
        indices=graph.indices[anchors],
        distances=graph.distances[anchors],
        anchors=anchors,
        n_rows=len(graph.indices),
    )


def _of_cells(
    backend: CellBackend, rows: Any, anchors: NDArray[np.int64] | None, k: int, metric: Metric
) -> tuple[Tensor, Tensor]:
    if anchors is None:
        return backend.search_on_device(rows, k, metric)
    return backend.search_of_anchors(rows, anchors, k)


def _search_of_anchors(
    backend: NeighborBackend,
    data: Any,
    rows: Any,
    anchors: NDArray[np.int64],
    k: int,
    metric: Metric,
) -> Found:
    """Neighbours of some rows among all, itself first."""
    if isinstance(backend, CellBackend):
        assert isinstance(metric, EuclideanMetric)  # prepare has refused the others
        indices, distances = (p.cpu().numpy() for p in backend.search_of_anchors(rows, anchors, k))
        return indices, metric.finish(distances)
    index = backend.build(rows, k, metric)

    def answer(part: slice) -> Found:
        queries = backend.prepare(data[anchors[part]], metric)
        return backend.query(index, queries, k, metric)

    if isinstance(backend, ExactBackend | SparseBackend):
        tile = backend.tile_rows(rows, metric)
        found = answer_shares(answer, len(anchors), k, tile, backend.ranks)
    else:
        found = answer(slice(None))
    return own_row_first(*found, anchors)


def _automatic(
    data: Any, n_queries: int, metric: Metric, device: str, *, are_rows: bool
) -> BackendName:
    if isinstance(metric, PynndescentMetric):
        return "pynndescent"
    n, n_columns = data.shape
    pairs = float(n) * n_queries
    if is_sparse(data) and sparse.supports(metric):
        cost = sparse.product_cost(data) * n_queries / n + pairs
        return "exact" if cost <= MAX_SPARSE_COST else "pynndescent"
    if isinstance(metric, EuclideanMetric) and not is_sparse(data):
        kind = torch.device(device).type
        if kind == "mps":  # sorts no integers of 64 bits
            return "exact"
        most = MAX_EXACT_ROWS if kind == "cpu" else MAX_EXACT_ROWS_ON_CARD
        # To arrange the rows in cells takes longer than to compare them with a few new ones.
        is_few = not are_rows and n_queries <= n // 8
        return "exact" if pairs <= most**2 or is_few else "cells"
    if isinstance(metric, TiledMetric) and metric.function is not None:
        return "exact" if pairs <= MAX_CALLABLE_PAIRS else "pynndescent"
    if metric.name in UNKNOWN_TO_PYNNDESCENT:
        return "exact"
    budget = MAX_EXACT_PAIRS * (100 if device != "cpu" or sparse.supports(metric) else 1)
    return "exact" if pairs * n_columns <= budget else "pynndescent"


def _sampled_recall(
    backend: NeighborBackend,
    data: Any,
    rows: Any,
    found: Found,
    metric: Metric,
    seed: int | None,
) -> float | None:
    """Share of the true neighbours found, from an exact search for a sample of the rows.

    `found` are the numbers of the rows that asked, and the distances to their neighbours.
    """
    if isinstance(metric, PynndescentMetric) or getattr(metric, "function", None) is not None:
        return None  # no exact search to compare with
    numbers, distances = found
    n, k = distances.shape
    generator = np.random.default_rng(None if seed is None else seed + 1)
    places = np.sort(generator.choice(n, size=min(N_RECALL_ROWS, n), replace=False))
    sample = numbers[places]
    if isinstance(backend, CellBackend):
        assert isinstance(metric, EuclideanMetric)  # prepare has refused the others
        truth = metric.finish(backend.true_distances(rows, sample, k))
    elif isinstance(backend, HnswBackend):  # its rows are those of the exact search
        truth = ExactBackend().query(rows, rows[sample], k, metric)[1]
    else:
        by_products = is_sparse(data) and sparse.supports(metric)
        exact: NeighborBackend = SparseBackend() if by_products else ExactBackend()
        mapped, queries = exact.prepare(data, metric), exact.prepare(data[sample], metric)
        truth = exact.query(mapped, queries, k, metric)[1]
    recall = found_share(distances[places], truth)
    if recall < LOW_RECALL:
        warn_user(
            f"The approximate search found {recall:.0%} of the true neighbours of a sample, and "
            f"should find at least {LOW_RECALL:.0%}. Use backend='exact' (for an estimator pass "
            "precomputed_knn=(graph.indices, graph.distances) with graph = find_neighbors(X, "
            "n_neighbors, backend='exact')), or reduce the data's dimension first.",
        )
    return recall
