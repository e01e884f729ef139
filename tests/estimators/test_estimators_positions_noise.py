"""Noise in proportion to the distances between neighbours, as the network reads rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from neumap.data import as_rows
from neumap.estimators.positions.networks import prepare_encoder
from neumap.estimators.positions.noise import ORDINARY_FEATURES, input_noise, neighbor_distances
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.neighbors import find_neighbors
from neumap.networks import MLP

GENERATOR = np.random.default_rng(0)
LABELS = np.repeat([0, 1], 60)
# Two clusters far apart, one of them five times as dense.
X = (GENERATOR.normal(size=(120, 20)) * np.where(LABELS, 3.0, 0.6)[:, None]).astype(np.float32)
X[60:] += 50
ROWS = as_rows(X)
GRAPH = fuzzy_simplicial_set(find_neighbors(X, 8))
AS_THEY_ARE = lambda flat: flat  # noqa: E731


def built(**settings: object) -> MLP:
    module = prepare_encoder(None, ROWS, 2, (6,), 0, **settings)  # type: ignore[arg-type]
    assert isinstance(module, MLP)
    return module


def lengths_of_all_edges(graph: FuzzyGraph, rows: np.ndarray) -> np.ndarray:
    """Mean length of the edges at each row, by hand."""
    long = np.linalg.norm(rows[graph.heads] - rows[graph.tails], axis=1)
    ends = np.concatenate([graph.heads, graph.tails])
    total = np.bincount(ends, np.tile(long, 2), graph.n_vertices)
    return total / np.bincount(ends, minlength=graph.n_vertices)


def test_noise_is_that_share_of_the_distance_to_the_neighbors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("neumap.estimators.positions.noise.EDGES_PER_ROW", 10**6)
    noise = input_noise(built(), 0.5, ROWS, GRAPH, seed=0)
    assert noise is not None
    assert isinstance(noise.scale, torch.Tensor)
    expected = 0.5 * lengths_of_all_edges(GRAPH, X) / np.sqrt(20)
    np.testing.assert_allclose(noise.scale, expected, rtol=1e-5)


def test_a_few_edges_of_each_row_are_enough() -> None:
    noise = input_noise(built(), 0.5, ROWS, GRAPH, seed=0)
    assert noise is not None
    measured = np.asarray(noise.scale)
    expected = 0.5 * lengths_of_all_edges(GRAPH, X) / np.sqrt(20)
    np.testing.assert_allclose(measured, expected, rtol=0.5)
    assert measured[60:].mean() / measured[:60].mean() == pytest.approx(5, rel=0.2)


def test_narrow_rows_get_less() -> None:
    narrow = X[:, :4].copy()
    rows = as_rows(narrow)
    graph = fuzzy_simplicial_set(find_neighbors(narrow, 8))
    module = prepare_encoder(None, rows, 2, (6,), 0)
    noise = input_noise(module, 0.5, rows, graph, seed=0)
    assert noise is not None
    distances = neighbor_distances(rows, graph, AS_THEY_ARE, 1.0)
    torch.testing.assert_close(noise.scale, 0.5 * distances / ORDINARY_FEATURES**0.5)


def test_in_a_subspace_distances_are_those_of_the_subspace() -> None:
    module = built(subspace=3)
    assert module.basis is not None
    noise = input_noise(module, 0.5, ROWS, GRAPH, seed=0)
    assert noise is not None
    assert noise.basis is module.basis
    inside = as_rows(X @ module.basis.numpy().T)
    expected = neighbor_distances(inside, GRAPH, AS_THEY_ARE, 1.0)
    torch.testing.assert_close(
        noise.scale, 0.5 * expected / ORDINARY_FEATURES**0.5, rtol=1e-3, atol=1e-3
    )


def test_an_outlier_gets_ten_times_the_median() -> None:
    chain = FuzzyGraph(np.arange(5), np.arange(1, 6), np.ones(5, dtype=np.float32), 6)
    rows = as_rows(np.array([[0.0], [1], [2], [3], [4], [1e30]], dtype=np.float32))
    found = neighbor_distances(rows, chain, AS_THEY_ARE, 1.0)
    assert found.tolist() == [1, 1, 1, 1, 10, 10]


@pytest.mark.parametrize("unit", [2.0**-90, 2.0**90])
def test_units_do_not_matter(unit: float) -> None:
    found = neighbor_distances(as_rows((X * unit).astype(np.float32)), GRAPH, AS_THEY_ARE, unit)
    torch.testing.assert_close(found / unit, neighbor_distances(ROWS, GRAPH, AS_THEY_ARE, 1.0))


def test_a_row_without_neighbors_gets_the_median() -> None:
    alone = FuzzyGraph(np.array([0, 1]), np.array([1, 2]), np.ones(2, dtype=np.float32), 4)
    rows = as_rows(np.array([[0.0], [1.0], [4.0], [9.0]], dtype=np.float32))
    found = neighbor_distances(rows, alone, AS_THEY_ARE, 1.0)
    assert found.tolist() == [1.0, 2.0, 3.0, 2.0]


@pytest.mark.parametrize(("network", "relative"), [(nn.Linear(20, 2), 0.05), (built(), 0.0)])
def test_other_networks_get_no_noise(network: nn.Module, relative: float) -> None:
    assert input_noise(network, relative, ROWS, GRAPH, seed=0) is None
