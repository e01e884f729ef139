"""Density: both estimates by hand, its gradient, when it acts, and what it does to a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from neumap.estimators.radii import map_edges
from neumap.fuzzy import FuzzyGraph, edge_distances, fuzzy_simplicial_set, local_radii
from neumap.layout import initial_positions
from neumap.losses import DensityTerm, Kernel, MapDensity
from neumap.losses.terms import Batch, Term, UmapTerm
from neumap.neighbors import NeighborGraph
from neumap.sampling import EdgeSampler
from neumap.training import FreeEmbedder, Plan, train

A, B = 1.577, 0.895
INDICES = torch.tensor([0, 0, 3, 1, 2, 4])  # edges 0-1, 0-2, 3-4
RADII = torch.tensor([0.5, -1.0, 0.3, 2.0, 1.1, 9.0], dtype=torch.float64)


def batch_of(coordinates: Tensor, progress: float = 1.0, indices: Tensor = INDICES) -> Batch:
    return Batch(indices, None, coordinates, progress)


def positions(seed: int = 0) -> Tensor:
    """Six ends, of which the first two are the same row."""
    found = torch.randn(6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found[1] = found[0]
    return found


def test_equals_the_correlation_over_distinct_rows_by_hand() -> None:
    z = positions().numpy()
    squared = ((z[:3] - z[3:]) ** 2).sum(1)
    q = 1 / (1 + A * squared**B)
    both = (q[0] * squared[0] + q[1] * squared[1]) / (q[0] + q[1])
    found = np.log(1e-8 + np.array([both, squared[0], squared[1], squared[2], squared[2]]))
    wanted = RADII.numpy()[:5]
    covariance = np.mean((found - found.mean()) * (wanted - wanted.mean()))
    expected = -covariance / (wanted.std() * np.sqrt(found.var() + 0.1))
    value = DensityTerm(RADII, 2.0, A, B)(batch_of(positions()))
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_gradient_by_finite_differences() -> None:
    # Rows 0 and 1 of the batch are one row of the data; checked as six free ends.
    ends = torch.randn(6, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    term = DensityTerm(RADII, 1.0, A, B)
    assert torch.autograd.gradcheck(lambda z: term(batch_of(z)), ends.requires_grad_(), atol=1e-5)


def test_acts_from_its_start_on() -> None:
    term = DensityTerm(RADII, 1.0, A, B, start=0.7)
    ends = positions().requires_grad_()
    before = term(batch_of(ends, progress=0.69))
    assert before.item() == 0.0
    before.backward()
    torch.testing.assert_close(ends.grad, torch.zeros_like(ends))
    assert term(batch_of(ends, progress=0.7)).item() != 0.0


def test_finite_where_points_coincide_and_where_radii_are_unknown() -> None:
    ends = torch.zeros(6, 2, requires_grad=True)
    value = DensityTerm(RADII.float(), 1.0, A, B)(batch_of(ends))
    value.backward()
    assert torch.isfinite(value)
    assert ends.grad is not None
    assert torch.isfinite(ends.grad).all()
    unknown = RADII.clone()
    unknown[0] = float("nan")  # as if row 0 were not there
    z = positions().numpy()
    found = np.log(1e-8 + ((z[:3] - z[3:]) ** 2).sum(1))[[0, 1, 2, 2]]
    wanted = RADII.numpy()[1:5]
    expected = -np.mean((found - found.mean()) * (wanted - wanted.mean())) / (
        wanted.std() * np.sqrt(found.var() + 0.1)
    )
    assert DensityTerm(unknown, 1.0, A, B)(batch_of(positions())).item() == pytest.approx(expected)


# ------------------------------------------------------------------ free positions

SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], dtype=torch.float64)


def star(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges 0-1, 0-2, 1-3, whatever the positions are."""
    weights = np.array([1.0, 0.5, 0.25], dtype=np.float32)
    return np.array([0, 0, 1]), np.array([1, 2, 3]), weights


def map_term(positions: Tensor, radii: Any = (0.5, -1.0, 0.3, 2.0), **settings: Any) -> MapDensity:
    known = torch.tensor(radii, dtype=torch.float64)
    return MapDensity(positions, known, star, weight=1.0, **settings)


def test_radii_of_a_map_by_hand() -> None:
    # Squared lengths 1, 4, 13: weighted means 3 / 1.5, (1 + 13 / 4) / 1.25, 4 and 13.
    found = np.log(1e-8 + np.array([2.0, 3.4, 4.0, 13.0]))
    wanted = np.array([0.5, -1.0, 0.3, 2.0])
    covariance = np.mean((found - found.mean()) * (wanted - wanted.mean()))
    expected = -covariance / (wanted.std() * np.sqrt(found.var() + 0.2))
    value = map_term(SQUARE, var_shift=0.2)(batch_of(positions()))
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_gradient_of_a_map_by_finite_differences() -> None:
    assert torch.autograd.gradcheck(
        lambda z: map_term(z)(batch_of(positions())), SQUARE.clone().requires_grad_(), atol=1e-5
    )


def test_map_term_acts_from_its_start_on() -> None:
    def never(positions: np.ndarray) -> Any:
        raise AssertionError("searched for neighbours that are not needed yet")

    ends = positions().requires_grad_()
    early = MapDensity(SQUARE, RADII[:4], never, weight=1.0, start=0.7)
    assert early(batch_of(ends, progress=0.69)).item() == 0.0
    assert map_term(SQUARE, start=0.7)(batch_of(ends, progress=0.7)).item() != 0.0


def test_map_term_is_finite_where_points_coincide_and_leaves_out_unknown_radii() -> None:
    together = torch.zeros(4, 2, requires_grad=True)
    value = map_term(together)(batch_of(positions()))
    value.backward()
    assert torch.isfinite(value)
    assert together.grad is not None
    assert torch.isfinite(together.grad).all()
    found, wanted = np.log(1e-8 + np.array([2.0, 3.4, 13.0])), np.array([0.5, -1.0, 2.0])
    expected = -np.mean((found - found.mean()) * (wanted - wanted.mean())) / (
        wanted.std() * np.sqrt(found.var() + 0.1)
    )
    value = map_term(SQUARE, (0.5, -1.0, float("nan"), 2.0))(batch_of(positions()))
    assert value.item() == pytest.approx(expected)


def test_neighbors_in_the_map_are_found_again_every_ten_steps() -> None:
    seen = []

    def find(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen.append(positions[0, 0])
        return star(positions)

    moving = SQUARE.clone()
    term = MapDensity(moving, RADII[:4], find, weight=1.0)
    for _ in range(21):
        term(batch_of(positions()))
        moving[0, 0] += 1.0
    assert seen == [0.0, 10.0, 20.0]


def two_blobs() -> tuple[np.ndarray, FuzzyGraph, np.ndarray]:
    """Rows, graph and log radii of a tight and a wide cloud."""
    rng = np.random.default_rng(0)
    tight, wide = 0.2 * rng.normal(size=(150, 5)), 2.0 * rng.normal(size=(150, 5))
    rows = np.concatenate([tight, wide + 12.0 * np.eye(5)[0]]).astype(np.float32)
    distances, order = NearestNeighbors(n_neighbors=15).fit(rows).kneighbors(rows)
    neighbors = NeighborGraph(
        order, distances.astype(np.float32), backend="exact", recall=1.0, seconds=0.0
    )
    graph = fuzzy_simplicial_set(neighbors)
    return rows, graph, local_radii(graph, edge_distances(graph, neighbors) ** 2)


def test_wide_clouds_become_wide_in_the_map() -> None:
    rows, graph, radii = two_blobs()
    start = initial_positions("spectral", graph=graph, X_matrix=rows, n_components=2, seed=0)
    objective: list[Term] = [UmapTerm(Kernel(A, B), n_negatives=8)]

    def correlation(make_terms: Callable[[FreeEmbedder], list[Term]]) -> float:
        table = FreeEmbedder(start)
        terms = make_terms(table)
        plan = Plan(n_steps=500, n_reports=5, batch_edges=256, peak_learning_rate=0.2)
        history = train(table, terms, EdgeSampler(graph, seed=0), plan, seed=0)
        if len(terms) == 2:
            assert history["density_loss"][0] == 0.0
            assert history["density_loss"][-1] < -0.3
        placed = table.embed_all()
        reached, _ = NearestNeighbors(n_neighbors=15).fit(placed).kneighbors(placed)
        return float(np.corrcoef(radii, np.log(reached[:, 1:].mean(1)))[0, 1])

    def find(placed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return map_edges(placed, 15)

    known = torch.tensor(radii)
    without = correlation(lambda _: objective)
    by_edges = correlation(lambda _: [*objective, DensityTerm(known, 4.0, A, B)])
    by_map = correlation(
        lambda table: [*objective, MapDensity(table.positions, known, find, weight=1.0)]
    )
    assert by_edges > 0.7
    assert by_map > 0.9
    assert without < 0.4
