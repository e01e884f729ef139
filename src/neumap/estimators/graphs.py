"""From checked data to the fuzzy graph that is trained on: neighbours, memberships, labels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.neighbors import NeighborGraph, find_neighbors

__all__ = ["Graph", "GraphSettings", "build_graph"]


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
    n_jobs: int | None
    verbose: bool


@dataclass(frozen=True)
class Graph:
    """A fuzzy graph with the neighbours it came from and the seconds both took."""

    neighbors: NeighborGraph
    fuzzy: FuzzyGraph
    neighbor_seconds: float
    fuzzy_seconds: float


def build_graph(
    matrix: Any, settings: GraphSettings, *, seed: int, device: torch.device
) -> Graph:
    """Find neighbours and turn them into membership strengths.

    Parameters
    ----------
    matrix : array or sparse matrix of shape (n_samples, n_features)
        Rows, or distances where the metric is ``"precomputed"``.
    settings : GraphSettings
        Parameters of the graph.
    seed : int
        For approximate searches.
    device : torch.device
        Where exact searches run.
    """
    began = time.perf_counter()
    neighbors = find_neighbors(
        matrix,
        settings.n_neighbors,
        metric=settings.metric,
        metric_kwds=settings.metric_kwds,
        backend="hnsw" if settings.force_approximation_algorithm else "auto",
        n_jobs=-1 if settings.n_jobs is None else settings.n_jobs,
        seed=seed % 2**31,
        device=str(device),
        verbose=settings.verbose,
    )
    found = time.perf_counter()
    fuzzy = fuzzy_simplicial_set(
        neighbors,
        set_op_mix_ratio=settings.set_op_mix_ratio,
        local_connectivity=settings.local_connectivity,
        disconnection_distance=settings.disconnection_distance,
    )
    return Graph(neighbors, fuzzy, found - began, time.perf_counter() - found)


