"""The graph of a fit: which search is chosen, what targets may be, and the graph itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from neumap import UMAP
from neumap._labels import read_column
from neumap.estimators.graph import (
    Graph,
    GraphSettings,
    TargetSettings,
    build_graph,
    check_supervision,
    training_neighbors,
)
from neumap.fuzzy import edge_distances, fuzzy_simplicial_set, local_radii
from neumap.neighbors import DescentBackend, HnswBackend, find_neighbors
from neumap.neighbors.search import NeighborSearch
from neumap.supervision import supervise

CPU = torch.device("cpu")
X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.arange(30) % 3
SETTINGS = replace(UMAP(n_neighbors=5, n_jobs=1)._recipe().graph, seed=0)
TARGETS = TargetSettings("categorical", None, 0.5, 5)


def settings(**changed: Any) -> GraphSettings:
    return replace(SETTINGS, **changed)


def assert_same_graph(one: Any, other: Any) -> None:
    for name in ("heads", "tails", "weights"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# ------------------------------------------------------------------ which search


def test_a_search_has_the_metric_threads_and_device() -> None:
    search = settings(metric="minkowski", metric_kwds={"p": 3}, n_jobs=2).search(X, CPU)
    assert search == NeighborSearch("minkowski", {"p": 3}, "auto", 2, 0, CPU)


def test_no_number_of_threads_means_all() -> None:
    assert settings(n_jobs=None).search(X, CPU).n_jobs == -1


@pytest.mark.parametrize(("seed", "expected"), [(None, None), (3, 3), (2**31 + 5, 5)])
def test_the_seed_fits_into_32_bits(seed: int | None, expected: int | None) -> None:
    assert settings(seed=seed).search(X, CPU).seed == expected


def test_an_approximate_search_has_a_queue_in_proportion_to_the_neighbors() -> None:
    backend = settings(force_approximation_algorithm=True, transform_queue_size=2.5)._backend(X)
    assert isinstance(backend, HnswBackend)
    assert backend.ef_search == math.ceil(2.5 * 5)


@pytest.mark.parametrize("metric", ["manhattan", lambda a, b: 0.0])
def test_an_approximate_search_of_another_metric_is_by_descent(metric: Any) -> None:
    made = settings(force_approximation_algorithm=True, metric=metric)
    assert made._backend(X) == "pynndescent"


def test_an_approximate_search_of_sparse_rows_is_by_descent() -> None:
    made = settings(force_approximation_algorithm=True)
    assert made._backend(scipy.sparse.csr_matrix(X)) == "pynndescent"


@pytest.mark.parametrize("asked", [{"angular_rp_forest": True}, {"low_memory": False}])
def test_settings_of_descent_ask_for_descent(asked: dict[str, bool]) -> None:
    backend = settings(**asked)._backend(X)
    assert backend == DescentBackend(
        n_jobs=1,
        seed=0,
        low_memory=asked.get("low_memory", True),
        angular=asked.get("angular_rp_forest", False),
    )


@pytest.mark.parametrize(
    "asked",
    [{"angular_rp_forest": True}, {"low_memory": False}, {"force_approximation_algorithm": True}],
)
def test_distances_are_never_searched_approximately(asked: dict[str, bool]) -> None:
    assert settings(metric="precomputed", **asked)._backend(np.eye(3)) == "auto"


def test_the_farthest_neighbor_is_given_or_that_of_the_metric() -> None:
    assert settings(metric="cosine", disconnection_distance=0.3).farthest == 0.3
    assert settings(metric="cosine").farthest == 2.0
    assert settings(metric="euclidean").farthest == np.inf


# ------------------------------------------------------------------ neighbours


@pytest.mark.parametrize("nothing", [None, (None, None, None), [None, None]])
def test_without_given_neighbors_they_are_searched_for(nothing: Any) -> None:
    found = training_neighbors(X, settings(precomputed_knn=nothing), CPU)
    distances = np.linalg.norm(X[:, None] - X, axis=2)
    expected = np.sort(distances, axis=1)[:, :5]
    np.testing.assert_allclose(found.distances, expected, atol=1e-5)


def test_given_neighbors_are_taken_and_cut() -> None:
    known = find_neighbors(X, 9)
    given = settings(precomputed_knn=(known.indices, known.distances))
    found = training_neighbors(np.zeros_like(X), given, CPU)
    assert found.backend == "precomputed"
    np.testing.assert_array_equal(found.indices, known.indices[:, :5])


def test_given_neighbors_of_other_rows_are_searched_for_with_a_warning() -> None:
    known = find_neighbors(X[:20], 5)
    given = settings(precomputed_knn=(known.indices, known.distances))
    with pytest.warns(UserWarning, match="30 rows of X"):
        found = training_neighbors(X, given, CPU)
    assert found.indices.shape == (30, 5)


# ------------------------------------------------------------------ the graph


def test_a_graph_without_targets_is_the_fuzzy_set_of_the_neighbors() -> None:
    made = settings(set_op_mix_ratio=0.4, local_connectivity=2.0, disconnection_distance=2.5)
    graph = build_graph(X, made, None, TARGETS, device=CPU)
    expected = fuzzy_simplicial_set(
        find_neighbors(X, 5),
        set_op_mix_ratio=0.4,
        local_connectivity=2.0,
        disconnection_distance=2.5,
    )
    assert_same_graph(graph.fuzzy, expected)
    assert graph.neighbor_seconds > 0
    assert graph.fuzzy_seconds > 0


def test_targets_reshape_the_graph() -> None:
    graph = build_graph(X, SETTINGS, Y, replace(TARGETS, weight=0.8), device=CPU)
    plain = fuzzy_simplicial_set(find_neighbors(X, 5))
    assert_same_graph(graph.fuzzy, supervise(plain, Y, target_weight=0.8))


def test_continuous_targets_have_their_own_number_of_neighbors() -> None:
    values = X[:, 0]
    chosen = TargetSettings("euclidean", None, 0.5, 8)
    graph = build_graph(X, SETTINGS, values, chosen, device=CPU)
    plain = fuzzy_simplicial_set(find_neighbors(X, 5))
    expected = supervise(plain, values, target_metric="euclidean", target_n_neighbors=8)
    assert_same_graph(graph.fuzzy, expected)


def test_the_total_weight_counts_each_edge_once() -> None:
    graph = build_graph(X, SETTINGS, None, TARGETS, device=CPU)
    assert graph.total_weight == pytest.approx(graph.fuzzy.to_csr().sum() / 2, rel=1e-6)


def test_radii_are_those_of_squared_distances() -> None:
    graph = build_graph(X, SETTINGS, None, TARGETS, device=CPU)
    assert graph.neighbors is not None
    squared = edge_distances(graph.fuzzy, graph.neighbors) ** 2
    np.testing.assert_array_equal(graph.radii(), local_radii(graph.fuzzy, squared))


def test_radii_need_distances() -> None:
    fuzzy = fuzzy_simplicial_set(find_neighbors(X, 5))
    with pytest.raises(ValueError, match="for a graph without distances"):
        Graph(None, fuzzy).radii()


# ------------------------------------------------------------------ targets, before the graph

MEANINGLESS: list[tuple[Any, dict[str, Any]]] = [
    (Y, {"metric_kwds": {"p": 1}}),
    (Y, {"metric": "ordinal", "metric_kwds": {"p": 1}}),
    (Y - 0.5, {"metric": "count"}),
    (np.stack([Y, Y], axis=1), {"metric": "ordinal"}),
    (Y, {"metric": "hierarchical_categorical"}),
    (Y, {"weight": 1.5}),
    (Y, {"metric": "foobar"}),
]


@pytest.mark.parametrize(("targets", "changed"), MEANINGLESS)
def test_targets_are_refused_before_the_graph_as_they_would_be_with_it(
    targets: Any, changed: dict[str, Any]
) -> None:
    chosen = replace(TARGETS, **changed)
    with pytest.raises(ValueError) as later:  # noqa: PT011 - the message is compared below
        supervise(
            fuzzy_simplicial_set(find_neighbors(X, 5)),
            targets,
            target_metric=chosen.metric,
            target_metric_kwds=chosen.metric_kwds,
            target_weight=chosen.weight,
        )
    with pytest.raises(ValueError) as at_once:  # noqa: PT011
        check_supervision(read_column(targets), chosen)
    assert str(at_once.value) == str(later.value)


@pytest.mark.parametrize(
    ("targets", "metric"),
    [
        (Y, "categorical"),
        (np.stack([Y, Y], axis=1), "categorical"),
        (Y.astype(str), "string"),
        (Y, "ordinal"),
        (Y, "count"),
        (X[:, 0], "euclidean"),
        (X[:, :2], lambda a, b: abs(a - b).sum()),
    ],
)
def test_targets_that_can_act_pass(targets: Any, metric: Any) -> None:
    check_supervision(read_column(targets), replace(TARGETS, metric=metric))
