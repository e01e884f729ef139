"""Radii in the embedding, against a slow version that sorts all distances."""

from __future__ import annotations

import numpy as np
import pytest

from neumap.estimators.radii import embedded_radii, map_edges
from neumap.fuzzy import edge_distances, fuzzy_simplicial_set, local_radii
from neumap.neighbors import NeighborGraph


def slow_neighbors(positions: np.ndarray, k: int) -> NeighborGraph:
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(distances, order, axis=1).astype(np.float32)
    return NeighborGraph(order, near, backend="sorted", recall=1.0, seconds=0.0)


@pytest.mark.parametrize("n_components", [1, 2, 5, 6])
def test_radii_are_those_of_the_neighbours_in_the_embedding(n_components: int) -> None:
    positions = np.random.default_rng(0).normal(size=(60, n_components)).astype(np.float32)
    slow = slow_neighbors(positions, 10)
    graph = fuzzy_simplicial_set(slow)
    heads, tails, weights = map_edges(positions, 10)
    np.testing.assert_array_equal([heads, tails], [graph.heads, graph.tails])
    np.testing.assert_allclose(weights, graph.weights, rtol=1e-3)
    expected = local_radii(graph, edge_distances(graph, slow) ** 2)
    np.testing.assert_allclose(embedded_radii(positions, 10), expected, rtol=1e-3, atol=1e-4)


def test_rows_without_a_position_have_no_radius() -> None:
    positions = np.random.default_rng(1).normal(size=(30, 2)).astype(np.float32)
    alone = embedded_radii(positions, 5)
    with_gaps = np.insert(positions, 7, np.nan, axis=0)
    found = embedded_radii(with_gaps, 5)
    assert np.isnan(found[7])
    np.testing.assert_array_equal(np.delete(found, 7), alone)


def test_fewer_rows_than_neighbours_and_rows_that_coincide() -> None:
    few = embedded_radii(np.arange(6, dtype=np.float32).reshape(3, 2), 10)
    assert np.isfinite(few).all()
    together = embedded_radii(np.zeros((20, 2), dtype=np.float32), 5)
    np.testing.assert_allclose(together, np.log(1e-8), rtol=1e-6)
