"""Free positions: where they start, and what they are trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tasks import task_of

from neumap import UMAP, ParametricUMAP
from neumap.estimators.graph import Graph
from neumap.estimators.landmarks import WarmStart
from neumap.estimators.positions import FreePositions
from neumap.estimators.task import Task
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.layout import initial_positions
from neumap.neighbors import find_neighbors

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
GRAPH = Graph(None, fuzzy_simplicial_set(find_neighbors(X, 6)))
GIVEN = np.random.default_rng(1).normal(size=(40, 2))


def positions(**parameters: Any) -> FreePositions:
    made = UMAP(**parameters)._recipe().positions
    assert isinstance(made, FreePositions)
    return made


def task(warm_start: WarmStart | None = None) -> Task:
    return task_of(X, random_state=1, warm_start=warm_start)


def start(made: FreePositions, one: Task | None = None, graph: Graph = GRAPH) -> np.ndarray:
    return made.build(one or task(), None, graph).embed_all()


def expected_start(init: Any) -> np.ndarray:
    return initial_positions(init, graph=GRAPH.fuzzy, X_matrix=X, n_components=2, seed=1)


@pytest.mark.parametrize("init", ["spectral", "pca", "random", GIVEN])
def test_positions_start_as_init_says(init: Any) -> None:
    np.testing.assert_allclose(start(positions(init=init)), expected_start(init), atol=1e-4)


def test_auto_means_spectral() -> None:
    made = ParametricUMAP(parametric_embedding=False)._recipe().positions
    assert isinstance(made, FreePositions)
    np.testing.assert_allclose(start(made), expected_start("spectral"), atol=1e-4)


def test_a_fit_that_continues_starts_where_the_earlier_one_ended() -> None:
    warm = WarmStart(np.full((40, 2), np.nan, np.float32), initial=GIVEN.astype(np.float32))
    found = start(positions(init="random"), task(warm))
    np.testing.assert_array_equal(found, GIVEN.astype(np.float32))


def test_landmarks_without_initial_positions_leave_init_in_force() -> None:
    warm = WarmStart(np.full((40, 2), 1.0, np.float32))
    np.testing.assert_array_equal(
        start(positions(init="random"), task(warm)), expected_start("random")
    )


@pytest.mark.parametrize("loose", [[39], [0, 7], [3, 20, 39]])
def test_rows_without_a_neighbor_start_somewhere_finite(loose: list[int]) -> None:
    """One component and loose rows, as an outlier beyond disconnection_distance leaves them."""
    matrix = GRAPH.fuzzy.to_csr().tolil()
    matrix[loose] = 0
    matrix[:, loose] = 0
    cut = Graph(None, FuzzyGraph.from_matrix(matrix.tocsr()))
    np.testing.assert_array_equal(cut.fuzzy.isolated(), loose)
    assert np.isfinite(start(positions(), graph=cut)).all()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (np.zeros((39, 2)), r"shape \(40, 2\), got \(39, 2\)"),
        (np.zeros((40, 3)), r"shape \(40, 2\), got \(40, 3\)"),
        (np.full((40, 2), np.nan), "init must be finite"),
    ],
)
def test_initial_positions_that_do_not_fit_are_refused_before_the_graph(
    init: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        positions(init=init).network(task())


@pytest.mark.parametrize("init", ["spectral", GIVEN])
def test_there_is_no_network(init: Any) -> None:
    made = positions(init=init)
    made.check()
    assert made.network(task()) is None
    assert made.build(task(), None, GRAPH).encoder is None


@pytest.mark.parametrize(
    ("init", "travel"),
    [("spectral", 100), ("auto", 100), ("pca", 100), ("random", 225), (GIVEN, 225)],
)
def test_a_start_without_order_has_a_longer_way_to_go(init: Any, travel: int) -> None:
    plan = positions(init=init).plan(1000, 3000.0)
    assert plan.peak_learning_rate * plan.n_steps == pytest.approx(travel)


def test_both_ends_of_a_negative_pair_move_so_repulsion_is_lowered() -> None:
    assert positions().forces.repulsion == 0.7


def test_the_plan_is_one_step_per_epoch() -> None:
    assert positions(n_epochs=30).plan(40, 100.0).n_steps == 30
    assert positions(n_epochs=30).plan(40, 100.0).peak_learning_rate == 1.0
    assert positions(n_epochs=30, optimizer="sgd").plan(40, 100.0).peak_learning_rate is None


def test_the_optimizer_is_that_of_the_user() -> None:
    assert positions(optimizer="sgd").optimizer_factory() is torch.optim.SGD
