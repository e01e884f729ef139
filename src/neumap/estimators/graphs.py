"""From checked data to the fuzzy graph that is trained on: neighbours, memberships, targets."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch

from neumap.fuzzy import FuzzyGraph, edge_distances, fuzzy_simplicial_set, local_radii
from neumap.neighbors import (
    BackendName,
    DescentBackend,
    HnswBackend,
    NeighborBackend,
    NeighborGraph,
    NeighborSearch,
    disconnection_distance_of,
    neighbors_from_knn,
)
from neumap.neighbors.metrics import EuclideanMetric, resolve_metric
from neumap.supervision import supervise

__all__ = ["Graph", "GraphSettings", "Targets", "build_graph", "training_neighbors"]


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
    def farthest(self) -> float | None:
        """Distance from which rows count as unrelated."""
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
class Targets:
    """Labels or values of the rows and how they reshape the graph."""

    values: Any
    metric: Any
    metric_kwds: dict[str, Any] | None
    weight: float
    n_neighbors: int


@dataclass(frozen=True)
class Graph:
    """A fuzzy graph with the neighbours it came from, if any, and the seconds both took."""

    neighbors: NeighborGraph | None
    fuzzy: FuzzyGraph
    neighbor_seconds: float
    fuzzy_seconds: float

    @property
    def total_weight(self) -> float:
        """Sum of the weights of all undirected edges."""
        return float(self.fuzzy.weights.sum(dtype=np.float64))

    def radii(self) -> np.ndarray:
        """Return the log local radius of each row, for densMAP."""
        if self.neighbors is None:
            raise ValueError(
                "densMAP needs distances, which a combination of two models does not have. "
                "Set densmap=False."
            )
        return local_radii(self.fuzzy, edge_distances(self.fuzzy, self.neighbors) ** 2)


def build_graph(
    matrix: Any, settings: GraphSettings, targets: Targets | None, *, device: torch.device
) -> Graph:
    """Find neighbours, turn them into membership strengths, and let targets reshape those.

    Parameters
    ----------
    matrix : array or sparse matrix of shape (n_samples, n_features)
        Rows, or distances where the metric is ``"precomputed"``.
    settings : GraphSettings
        Parameters of the graph.
    targets : Targets or None
        Labels or values, one per row.
    device : torch.device
        Where exact searches run.
    """
    began = time.perf_counter()
    neighbors = training_neighbors(matrix, settings, device)
    found = time.perf_counter()
    fuzzy = fuzzy_simplicial_set(
        neighbors,
        set_op_mix_ratio=settings.set_op_mix_ratio,
        local_connectivity=settings.local_connectivity,
        disconnection_distance=settings.farthest,
    )
    if targets is not None:
        fuzzy = supervise(
            fuzzy,
            targets.values,
            target_metric=targets.metric,
            target_metric_kwds=targets.metric_kwds,
            target_weight=targets.weight,
            target_n_neighbors=targets.n_neighbors,
            seed=0 if settings.seed is None else settings.seed % 2**31,
        )
    return Graph(neighbors, fuzzy, found - began, time.perf_counter() - found)


def training_neighbors(matrix: Any, settings: GraphSettings, device: torch.device) -> NeighborGraph:
    """Take the user's neighbours where they fit, search otherwise."""
    given = settings.precomputed_knn
    # umap-learn's default is (None, None, None).
    nothing = given is None or (isinstance(given, tuple | list) and given[0] is None)
    if not nothing:
        checked = neighbors_from_knn(given, matrix.shape[0], settings.n_neighbors)
        if checked is not None:
            return checked
    search = settings.search(matrix, device)
    return search.find(matrix, settings.n_neighbors, verbose=settings.verbose)
