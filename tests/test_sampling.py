"""Edges come up as often as their weight says, in both directions and in random order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neumap.fuzzy import FuzzyGraph
from neumap.sampling import BLOCK_EDGES, EdgeSampler


def random_graph(n_edges: int = 1000, n_vertices: int = 300, *, seed: int = 0) -> FuzzyGraph:
    rng = np.random.default_rng(seed)
    upper = np.stack(np.triu_indices(n_vertices, k=1))  # (2, n_pairs), heads < tails
    heads, tails = upper[:, np.sort(rng.choice(upper.shape[1], n_edges, replace=False))]
    weights = rng.uniform(0.01, 1.0, n_edges).astype(np.float32) ** 2
    return FuzzyGraph(heads, tails, weights, n_vertices)


def edges_of(batch: torch.Tensor, graph: FuzzyGraph) -> tuple[np.ndarray, np.ndarray]:
    """Which edge each pair of rows is, and whether it came tail first."""
    first, second = batch.view(2, -1).numpy()
    codes = graph.heads * graph.n_vertices + graph.tails
    order = np.argsort(codes)
    wanted = np.minimum(first, second) * graph.n_vertices + np.maximum(first, second)
    found = order[np.searchsorted(codes[order], wanted)]
    assert np.array_equal(codes[found], wanted), "a pair of rows is not an edge of the graph"
    return found, first > second


def test_batch_is_heads_then_tails_of_edges() -> None:
    graph = random_graph()
    sampler = EdgeSampler(graph, seed=0)
    for n_edges in (1, 7, 256):
        batch = sampler.draw(n_edges)
        assert batch.shape == (2 * n_edges,)
        assert batch.dtype == torch.int64
        edges_of(batch, graph)


def test_within_a_block_each_edge_has_its_share() -> None:
    graph = random_graph()
    edges, _ = edges_of(EdgeSampler(graph, seed=0).draw(BLOCK_EDGES), graph)
    counts = np.bincount(edges, minlength=len(graph.weights))
    share = graph.weights.astype(np.float64) / graph.weights.sum(dtype=np.float64)
    # Slices cut by an edge's two borders are the only ones left to chance.
    assert np.abs(counts - BLOCK_EDGES * share).max() < 2.0


def test_small_batches_together_follow_the_weights() -> None:
    graph = random_graph(n_edges=50)
    sampler = EdgeSampler(graph, seed=3)
    n_draws = 400 * 300
    edges = np.concatenate([edges_of(sampler.draw(300), graph)[0] for _ in range(400)])
    expected = n_draws * graph.weights / graph.weights.sum()
    chi_square = np.sum((np.bincount(edges, minlength=50) - expected) ** 2 / expected)
    assert chi_square < 49 + 5 * np.sqrt(2 * 49)  # mean and scatter of independent draws


def test_edges_of_one_batch_are_as_good_as_independent() -> None:
    """A batch is a random part of a block: its counts scatter, and do not follow the slices."""
    graph = random_graph(n_edges=10)
    share = graph.weights / graph.weights.sum()
    sampler = EdgeSampler(graph, seed=4)
    counts = [np.bincount(edges_of(sampler.draw(100), graph)[0], minlength=10) for _ in range(600)]
    variance = np.var(counts, axis=0)
    np.testing.assert_allclose(variance, 100 * share * (1 - share), rtol=0.35)


def test_order_is_random() -> None:
    graph = random_graph()
    edges, _ = edges_of(EdgeSampler(graph, seed=0).draw(BLOCK_EDGES), graph)
    limit = 5 / np.sqrt(BLOCK_EDGES)
    assert abs(np.corrcoef(edges, np.arange(BLOCK_EDGES))[0, 1]) < limit
    assert abs(np.corrcoef(edges[1:], edges[:-1])[0, 1]) < limit


def test_both_directions_occur_equally_often() -> None:
    graph = random_graph()
    edges, flipped = edges_of(EdgeSampler(graph, seed=0).draw(BLOCK_EDGES), graph)
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(BLOCK_EDGES)
    assert abs(np.corrcoef(edges, flipped)[0, 1]) < 5 / np.sqrt(BLOCK_EDGES)


def test_seed_decides_the_batches(global_random_state_untouched: None) -> None:
    graph = random_graph()
    first, again, other = (EdgeSampler(graph, seed=seed) for seed in (5, 5, 6))
    drawn = [first.draw(64) for _ in range(3)]
    assert all(torch.equal(batch, again.draw(64)) for batch in drawn)
    assert not torch.equal(drawn[0], other.draw(64))
    assert not torch.equal(drawn[0], drawn[1])


def test_blocks_differ_and_go_on_for_ever() -> None:
    graph = random_graph(n_edges=20)
    sampler = EdgeSampler(graph, seed=0)
    first, second = sampler.draw(BLOCK_EDGES), sampler.draw(BLOCK_EDGES)
    assert not torch.equal(first, second)


def test_batch_larger_than_a_block() -> None:
    graph = random_graph(n_edges=30)
    n_edges = BLOCK_EDGES + 4321
    sampler = EdgeSampler(graph, seed=0)
    sampler.draw(10)
    edges, _ = edges_of(sampler.draw(n_edges), graph)
    share = graph.weights.astype(np.float64) / graph.weights.sum(dtype=np.float64)
    assert np.abs(np.bincount(edges, minlength=30) - n_edges * share).max() < 2.0


def test_graph_with_one_edge() -> None:
    graph = FuzzyGraph(np.array([2]), np.array([4]), np.array([0.25], dtype=np.float32), 5)
    first, second = EdgeSampler(graph, seed=0).draw(100).view(2, -1)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == {(2, 4), (4, 2)}


def test_ten_million_tiny_weights_beside_a_large_one() -> None:
    """In float32 the running sum would stay at 1 and the tiny edges would never be drawn."""
    n_tiny = 10_000_000
    weights = np.full(n_tiny + 1, 1e-8, dtype=np.float32)
    weights[0] = 1.0
    heads = np.arange(n_tiny + 1)
    sampler = EdgeSampler(FuzzyGraph(heads, heads + 1, weights, n_tiny + 2), seed=0)
    assert sampler.total_weight == pytest.approx(1.1, rel=1e-6)
    drawn = sampler.draw(BLOCK_EDGES).view(2, -1).min(dim=0).values
    tiny = drawn[drawn > 0].double()
    assert abs(len(tiny) - BLOCK_EDGES / 11) < 2
    assert tiny.mean().item() == pytest.approx(n_tiny / 2, rel=0.01)  # evenly over all of them
    assert len(tiny.unique()) > 0.99 * len(tiny)


def test_total_weight_is_the_sum_over_undirected_edges() -> None:
    graph = random_graph()
    total = EdgeSampler(graph, seed=0).total_weight
    assert total == pytest.approx(graph.to_csr().sum() / 2, rel=1e-6)


def test_graph_without_edges() -> None:
    empty = np.empty(0, dtype=np.int64)
    graph = FuzzyGraph(empty, empty, np.empty(0, dtype=np.float32), n_vertices=3)
    with pytest.raises(ValueError, match=r"at least one edge, got none.*Raise n_neighbors"):
        EdgeSampler(graph, seed=0)


def test_a_state_gives_the_same_batches_again() -> None:
    first = EdgeSampler(random_graph(), seed=0)
    start = first.state()
    drawn = [first.draw(30_000) for _ in range(2)]
    middle = first.state()
    assert middle["position"] == 60_000
    later = [first.draw(30_000) for _ in range(4)]  # over the end of the block
    other = EdgeSampler(random_graph(), seed=1)
    other.set_state(middle)
    assert all(torch.equal(other.draw(30_000), batch) for batch in later)
    other.set_state(start)
    assert all(torch.equal(other.draw(30_000), batch) for batch in drawn)
