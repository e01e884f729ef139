"""The fuzzy graph in torch against a plain loop in float64, row by row and pair by pair."""

import math

import numpy as np
import pytest
import torch

from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set, smooth_knn
from neumap.fuzzy import graph as graph_module
from neumap.fuzzy import joining as joining_module
from neumap.fuzzy import scales as scales_module
from neumap.fuzzy.joining import join_directions
from neumap.fuzzy.scales import scales_and_offsets, strengths_of
from neumap.neighbors import NeighborGraph, find_neighbors
from neumap.sampling import EdgeSampler


def rows_with_ties():
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    rows[:25] = rows[0]
    rows[-3:] += 50
    return rows


def beyond(distance, rho):
    """Excess of a distance in float32, which distances are."""
    return max(0.0, float(np.float32(distance) - np.float32(rho)))


def scale_of_row(distances, target):
    """Bisect one row, as in algorithm 3 of the paper with umap-learn's bounds."""
    positive = [d for d in distances if d > 0]
    rho = positive[0] if positive else 0.0
    below, above, sigma = 0.0, math.inf, 1.0
    for _ in range(64):
        total = sum(math.exp(-beyond(d, rho) / sigma) for d in distances[1:])
        if abs(total - target) < 1e-5:
            break
        if total > target:
            above = sigma
        else:
            below = sigma
        sigma = sigma * 2 if math.isinf(above) else (below + above) / 2
    return sigma, rho


def graph_by_hand(graph, mix):
    """Weights of all pairs from loops over rows and neighbours."""
    distances = graph.distances.astype(np.float64)
    n, k = distances.shape
    directed = {}
    for i in range(n):
        sigma, rho = scale_of_row(distances[i].tolist(), math.log2(k))
        sigma = max(sigma, 1e-3 * (distances[i].mean() if rho > 0 else distances.mean()))
        for j, d in zip(graph.indices[i].tolist(), distances[i].tolist(), strict=True):
            if j not in (-1, i):
                directed[i, j] = math.exp(-beyond(d, rho) / sigma)
    edges = {}
    for i, j in directed:
        a, b = directed.get((i, j), 0.0), directed.get((j, i), 0.0)
        weight = mix * (a + b - a * b) + (1 - mix) * a * b
        if weight > 0:
            edges[min(i, j), max(i, j)] = weight
    return edges


@pytest.mark.filterwarnings("ignore:Every row must have a neighbour")
@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("k", [2, 9, 15])
def test_equals_loops_over_rows_and_pairs(k, mix):
    graph = find_neighbors(rows_with_ties(), k)
    expected = graph_by_hand(graph, mix)
    fuzzy = fuzzy_simplicial_set(graph, set_op_mix_ratio=mix)
    found = list(zip(fuzzy.heads.tolist(), fuzzy.tails.tolist(), strict=True))
    assert found == sorted(expected)
    np.testing.assert_allclose(fuzzy.weights, [expected[pair] for pair in found], atol=1e-6)
    assert fuzzy.heads.dtype == fuzzy.tails.dtype == np.int64
    assert fuzzy.weights.dtype == np.float32


def test_tiles_and_threads_do_not_change_the_scales(monkeypatch):
    distances = find_neighbors(rows_with_ties(), 10).distances
    whole = smooth_knn(distances, 10)
    monkeypatch.setattr(scales_module, "TILE_ROWS", 7)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        tiled = smooth_knn(distances, 10)
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(whole, tiled, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("power", [-126, -90, 60, 100])
def test_units_scale_the_scales(power):
    distances = find_neighbors(rows_with_ties()[25:], 10).distances
    sigmas, rhos = smooth_knn(distances, 10)
    scaled = smooth_knn(np.ldexp(distances, power), 10)
    np.testing.assert_allclose(np.ldexp(scaled[0], -power), sigmas, rtol=2e-5)
    np.testing.assert_allclose(np.ldexp(scaled[1], -power), rhos, rtol=1e-6)


def test_rows_whose_neighbours_are_cut():
    distances = torch.tensor([[0.0, 1.0, torch.inf], [0.0, torch.inf, torch.inf]])
    sigmas, rhos = scales_and_offsets(distances, 3, 1.0)
    assert rhos.tolist() == [1.0, math.inf]
    strengths = strengths_of(distances, sigmas, rhos)
    edges = join_directions(
        torch.arange(2), torch.tensor([[0, 1, -1], [1, -1, -1]]), strengths, 1.0, 2
    )
    assert [part.tolist() for part in edges] == [[0], [1], [1.0]]


def test_a_neighbour_named_twice_counts_twice():
    # As before: precomputed neighbours may repeat one, and its strengths are added.
    indices = torch.tensor([[0, 1, 1], [1, 2, -1], [2, 1, 0]])
    strengths = torch.tensor([[1.0, 0.5, 0.25], [1.0, 0.5, 0.0], [1.0, 0.25, 0.5]])
    heads, tails, weights = join_directions(torch.arange(3), indices, strengths, 1.0, 3)
    assert heads.tolist() == [0, 0, 1]
    assert tails.tolist() == [1, 2, 2]
    torch.testing.assert_close(weights, torch.tensor([0.75, 0.5, 0.625]))


def test_no_edges():
    graph = NeighborGraph(
        np.array([[0], [1]]), np.zeros((2, 1), dtype=np.float32), "hand", 1.0, 0.0
    )
    with pytest.warns(UserWarning, match="got 2 of 2 rows without one"):
        fuzzy = fuzzy_simplicial_set(graph)
    assert len(fuzzy.heads) == len(fuzzy.weights) == 0


def test_edges_on_the_host_are_kept_once():
    edges = torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5])
    graph = FuzzyGraph.from_tensors(*edges, n_vertices=2)
    assert graph.on_device is None
    assert graph.to_csr().toarray().tolist() == [[0, 0.5], [0.5, 0]]


def test_the_code_for_cards_gives_the_same(monkeypatch):
    """On the processor, as if its tensors were on a card."""
    graph = find_neighbors(rows_with_ties(), 10)
    here = fuzzy_simplicial_set(graph)
    for module in (scales_module, joining_module, graph_module):
        monkeypatch.setattr(module, "is_on_card", lambda tensor: True)
    there = fuzzy_simplicial_set(graph)
    for name in ("heads", "tails", "weights"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    assert there.on_device is not None
    one, other = (EdgeSampler(fuzzy, seed=3).draw(500) for fuzzy in (here, there))
    assert torch.equal(one, other)


def test_neighbours_on_a_device_are_taken_from_there():
    found = find_neighbors(rows_with_ties(), 10)
    on_device = torch.from_numpy(found.indices), torch.from_numpy(found.distances)
    nothing = np.full_like(found.indices, -1)
    moved = NeighborGraph(nothing, found.distances, "cells", 1.0, 0.0, on_device)
    np.testing.assert_array_equal(
        fuzzy_simplicial_set(moved).weights, fuzzy_simplicial_set(found).weights
    )


@pytest.mark.gpu
def test_a_card_gives_the_same_graph():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    graph = find_neighbors(np.random.default_rng(0).normal(size=(5000, 8)), 15)
    host, card = (fuzzy_simplicial_set(graph, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(host.heads, card.heads)
    np.testing.assert_array_equal(host.tails, card.tails)
    np.testing.assert_allclose(host.weights, card.weights, atol=1e-6)
    assert card.on_device is not None
