"""From rows to the fuzzy graph of a fit: neighbours, membership strengths, targets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from neumap._labels import Column
from neumap._ranks import ALONE, Ranks
from neumap.fuzzy import FuzzyGraph, edge_distances, fuzzy_simplicial_set, local_radii
from neumap.label_distances import DISCRETE_METRICS
from neumap.neighbors import (
    BackendName,
    DescentBackend,
    ExactBackend,
    HnswBackend,
    NeighborBackend,
    NeighborGraph,
    NeighborSearch,
    disconnection_distance_of,
    neighbors_from_knn,
)
from neumap.neighbors.metrics import (
    EuclideanMetric,
    Metric,
    PynndescentMetric,
    resolve_metric,
)
from neumap.supervision import check_values, supervise, target_metric_named

__all__ = [
    "Graph",
    "GraphSettings",
    "TargetSettings",
    "build_graph",
    "check_metric",
    "check_supervision",
    "check_target_metric",
    "list_length",
    "training_neighbors",
]

TRIAL_ROWS = 2
# Where the lists of anchors are joined: how much longer they are than those that make edges, and
# how many neighbours of each row in them are kept. The lists cost little, the edges nothing.
LONGER_LISTS = 2
N_JOINED = 5
LARGEST_ROOT = 1e18  # its square fits float32


@dataclass(frozen=True)
class GraphSettings:
    """Everything that decides the graph, as the estimator's constructor names it."""

    n_neighbors: int
    metric: Any
    metric_kwds: dict[str, Any] | None
    set_op_mix_ratio: float
    local_connectivity: float
    disconnection_distance: float | None
    precomputed_knn: Any
    force_approximation_algorithm: bool
    angular_rp_forest: bool
    low_memory: bool
    n_jobs: int | None
    transform_queue_size: float
    seed: int | None
    verbose: bool

    @property
    def searches(self) -> bool:
        """Whether neighbours have to be searched for, since none were passed."""
        given = self.precomputed_knn
        # umap-learn's default is (None, None, None).
        is_sequence = isinstance(given, tuple | list) and len(given) > 0
        return given is None or (is_sequence and all(part is None for part in given))

    @property
    def farthest(self) -> float | None:
        """Distance from which two rows are not neighbours."""
        if self.disconnection_distance is not None:
            return self.disconnection_distance
        return disconnection_distance_of(self.metric)

    def search(self, rows: Any, device: torch.device) -> NeighborSearch:
        """Return the settings of a neighbour search among these rows."""
        return NeighborSearch(
            metric=self.metric,
            metric_kwds=self.metric_kwds,
            backend=self._backend(rows),
            n_jobs=-1 if self.n_jobs is None else self.n_jobs,
            seed=None if self.seed is None else self.seed % 2**31,
            device=device,
        )

    def _backend(self, rows: Any) -> BackendName | NeighborBackend:
        n_jobs = -1 if self.n_jobs is None else self.n_jobs
        if self.metric == "precomputed":
            return "auto"
        if self.angular_rp_forest or not self.low_memory:
            # Both are settings of nearest-neighbour descent; asking for them asks for it.
            return DescentBackend(
                n_jobs=n_jobs,
                seed=self.seed,
                low_memory=self.low_memory,
                angular=self.angular_rp_forest,
            )
        if not self.force_approximation_algorithm:
            return "auto"
        reduces = isinstance(resolve_metric(self.metric, self.metric_kwds), EuclideanMetric)
        if not reduces or scipy.sparse.issparse(rows):
            return "pynndescent"
        queue = math.ceil(self.transform_queue_size * self.n_neighbors)
        return HnswBackend(n_jobs=n_jobs, seed=self.seed, ef_search=max(1, queue))


@dataclass(frozen=True)
class TargetSettings:
    """How targets reshape the graph, as the estimator's constructor names it."""

    metric: Any
    metric_kwds: dict[str, Any] | None
    weight: float
    n_neighbors: int


@dataclass(frozen=True)
class Graph:
    """A fuzzy graph with the neighbours it came from, if any, and the seconds both took.

    `joined` are those of rows that are no anchors, from the lists of the anchors.
    """

    neighbors: NeighborGraph | None
    fuzzy: FuzzyGraph
    neighbor_seconds: float = 0.0
    fuzzy_seconds: float = 0.0
    joined: NeighborGraph | None = None

    @property
    def total_weight(self) -> float:
        """Sum of the weights of all undirected edges."""
        return float(self.fuzzy.weights.sum(dtype=np.float64))

    def weighted(self, row_weights: NDArray[np.float64]) -> Graph:
        """Return the graph with the strength of each edge times the weights of its two rows.

        Edges of rows of weight zero are left out. The strengths are scaled so that their sum stays
        what it was: weights say how often edges are sampled, not how long the training is.

        Parameters
        ----------
        row_weights : array of shape (n_rows,), float64
            Not negative.

        Raises
        ------
        ValueError
            If no edge is left.
        """
        fuzzy = self.fuzzy
        factors = row_weights[fuzzy.heads] * row_weights[fuzzy.tails]
        kept = factors > 0.0
        if not kept.any():
            raise ValueError(
                "sample_weight must be positive for two rows that are neighbours, got zeros at one "
                "end or both of every edge. Leave out rows of weight zero instead."
            )
        weights = fuzzy.weights[kept] * factors[kept]
        weights *= self.total_weight / weights.sum()
        weighted = FuzzyGraph(
            fuzzy.heads[kept], fuzzy.tails[kept], weights.astype(np.float32), fuzzy.n_vertices
        )
        return replace(self, fuzzy=weighted)

    def radii(self) -> NDArray[np.float32]:
        """Return the log local radius of each row, for densMAP.

        Raises
        ------
        ValueError
            If the graph was given without distances.

        Notes
        -----
        NaN for rows that are no anchors, where there are some.
        """
        if self.neighbors is None:
            raise ValueError(
                "densmap and output_dens must be False for a graph without distances, such as "
                "that of two combined models. Set densmap=False, output_dens=False."
            )
        lengths = edge_distances(self.fuzzy, self.neighbors)
        if self.joined is not None:
            np.maximum(lengths, edge_distances(self.fuzzy, self.joined), out=lengths)
        is_large = lengths.max(initial=0.0) > LARGEST_ROOT
        squared = np.square(lengths, dtype=np.float64 if is_large else None)
        radii = local_radii(self.fuzzy, squared)
        if self.anchors is None:
            return radii
        known = np.full_like(radii, np.nan)  # of others, edges are known by chance
        known[self.anchors] = radii[self.anchors]
        return known

    @property
    def anchors(self) -> NDArray[np.int64] | None:
        """Numbers of the rows whose neighbours were searched for; None for all rows."""
        return None if self.neighbors is None else self.neighbors.anchors


def build_graph(
    matrix: Any,
    settings: GraphSettings,
    targets: Column | None,
    target_settings: TargetSettings,
    *,
    device: torch.device,
    anchors: NDArray[np.int64] | None = None,
    ranks: Ranks = ALONE,
    joins: bool = False,
    known: NeighborGraph | None = None,
    keep: Callable[[NeighborGraph], None] | None = None,
) -> Graph:
    """Find neighbours, turn them into membership strengths, and let targets reshape those.

    Parameters
    ----------
    matrix : array or sparse matrix of shape (n_samples, n_features)
        Rows, or distances where the metric is ``"precomputed"``.
    settings : GraphSettings
        Parameters of the graph.
    targets : Column of shape (n_samples,) or (n_samples, n_targets), or None
        Labels or values.
    target_settings : TargetSettings
        How they act.
    device : torch.device
        Where neighbours are searched for and, on a CUDA card, memberships computed.
    anchors : array of shape (n_anchors,), int64, optional
        Numbers of the rows whose neighbours are searched for; by default all rows.
    ranks : Ranks, optional
        The processes that search together.
    joins : bool, default=False
        Whether the anchors get longer lists, in which neighbours of other rows are found.
    known : NeighborGraph, optional
        What the search has found before; `matrix` is not used then, except to join lists.
    keep : callable, optional
        Gets the neighbours when the search has ended.
    """
    began = time.perf_counter()
    length = list_length(settings.n_neighbors, matrix.shape[0]) if joins else settings.n_neighbors
    searched = replace(settings, n_neighbors=length)
    lists = known or training_neighbors(matrix, searched, device, anchors, ranks)
    if keep is not None:
        keep(lists)
    neighbors, joined = lists, None
    if joins:
        joined = settings.search(matrix, device).join(matrix, lists, _n_joined(settings) + 1)
        neighbors = _shortened(lists, settings.n_neighbors)
    found = time.perf_counter()
    fuzzy = fuzzy_simplicial_set(
        neighbors,
        others=joined,
        set_op_mix_ratio=settings.set_op_mix_ratio,
        local_connectivity=settings.local_connectivity,
        disconnection_distance=settings.farthest,
        device=device if device.type == "cuda" else "cpu",
    )
    if targets is not None:
        fuzzy = supervise(
            fuzzy,
            targets,
            target_metric=target_settings.metric,
            target_metric_kwds=target_settings.metric_kwds,
            target_weight=target_settings.weight,
            target_n_neighbors=target_settings.n_neighbors,
            seed=0 if settings.seed is None else settings.seed % 2**31,
            anchors=anchors if joined is None else np.union1d(lists.asking(), joined.asking()),
        )
    return Graph(neighbors, fuzzy, found - began, time.perf_counter() - found, joined)


def list_length(n_neighbors: int, n_rows: int) -> int:
    """Return the length of lists that are joined, the row itself counted."""
    return max(n_neighbors, min(LONGER_LISTS * n_neighbors, n_rows))


def _n_joined(settings: GraphSettings) -> int:
    """Return how many neighbours of a row that is no anchor are kept, itself not counted."""
    return min(N_JOINED, settings.n_neighbors - 1)


def _shortened(lists: NeighborGraph, n_neighbors: int) -> NeighborGraph:
    """Return the nearest of each list, the row itself being one of them."""
    on_device = lists.on_device
    if on_device is not None:
        indices, distances = (part[:, :n_neighbors].contiguous() for part in on_device)
        on_device = indices, distances
    return replace(
        lists,
        indices=np.ascontiguousarray(lists.indices[:, :n_neighbors]),
        distances=np.ascontiguousarray(lists.distances[:, :n_neighbors]),
        on_device=on_device,
    )


def check_supervision(targets: Column, settings: TargetSettings) -> None:
    """Raise ValueError if the targets cannot act with these settings, without a graph."""
    metric = settings.metric
    if not isinstance(metric, str) or metric not in ("categorical", *DISCRETE_METRICS):
        check_target_metric(settings)
        check_values(targets, metric)
        numbers = _target_numbers(targets.values)
        with target_metric_named():
            _try(resolve_metric(metric, settings.metric_kwds), numbers, settings.metric_kwds)
        return
    nothing = np.empty(0, dtype=np.int64)
    supervise(
        FuzzyGraph(nothing, nothing, np.empty(0, dtype=np.float32), targets.shape[0]),
        targets,
        target_metric=metric,
        target_metric_kwds=settings.metric_kwds,
        target_weight=settings.weight,
    )


def check_target_metric(settings: TargetSettings) -> None:
    """Raise ValueError if there is no such target metric, whatever the targets are."""
    metric = settings.metric
    if isinstance(metric, str) and metric in ("categorical", *DISCRETE_METRICS):
        return
    with target_metric_named():
        resolve_metric(metric, settings.metric_kwds)


def _target_numbers(targets: NDArray[Any]) -> NDArray[np.float32]:
    """Return the first targets as rows of numbers."""
    first = targets[:TRIAL_ROWS].reshape(min(len(targets), TRIAL_ROWS), -1)
    try:
        return np.asarray(first, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"target_metric must be 'categorical' or one of {list(DISCRETE_METRICS)} for targets "
            f"that are no numbers, got y of dtype {targets.dtype}. Change target_metric, or pass "
            "numbers."
        ) from error


def check_metric(settings: GraphSettings, rows: NDArray[np.float32]) -> None:
    """Compute distances between a few rows, so that a metric that cannot fails before the search.

    Raises
    ------
    ValueError
        If the arguments of the metric do not fit the rows, or a function gives no number.
    """
    _try(resolve_metric(settings.metric, settings.metric_kwds), rows, settings.metric_kwds)


def _try(metric: Metric, rows: NDArray[np.float32], kwds: dict[str, Any] | None) -> None:
    function = getattr(metric, "function", None)
    # pynndescent compiles its metrics first, which takes seconds.
    if isinstance(metric, PynndescentMetric) or (function is None and not kwds):
        return
    exact = ExactBackend(n_jobs=1)
    try:
        exact.query(exact.prepare(rows, metric), exact.prepare(rows, metric), 1, metric)
    except Exception as error:
        if str(error).startswith("metric must give"):  # the search says what is wrong
            raise
        what, wanted = "metric_kwds", f"arguments of metric {metric.name!r} that fit the rows"
        if function is not None:
            what, wanted = "metric", "a function of two rows that returns their distance"
        raise ValueError(
            f"{what} must be {wanted}, got {type(error).__name__} for rows of {rows.shape[1]} "
            f"numbers: {error}. Correct {what}."
        ) from error


def training_neighbors(
    matrix: Any,
    settings: GraphSettings,
    device: torch.device,
    anchors: NDArray[np.int64] | None = None,
    ranks: Ranks = ALONE,
) -> NeighborGraph:
    """Take the user's neighbours where they fit, search otherwise, for all rows or the anchors.

    Several processes that call it together share the search.
    """
    if not settings.searches:
        given = settings.precomputed_knn
        checked = neighbors_from_knn(given, matrix.shape[0], settings.n_neighbors)
        if checked is not None:
            return checked
    search = replace(settings.search(matrix, device), ranks=ranks)
    return search.find(matrix, settings.n_neighbors, anchors=anchors, verbose=settings.verbose)
