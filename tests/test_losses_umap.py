"""The cross entropy of a batch: value and gradient against the formula written out pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from neumap.losses import Kernel, umap_forces, umap_loss
from neumap.losses.terms import Batch, Softening, UmapTerm
from neumap.losses.umap import SMALLEST_EPS

KERNEL = Kernel(a=1.577, b=0.895, repulsion=5.0)


def layout(n_edges: int, n_components: int = 2, *, seed: int = 0) -> Tensor:
    """Random coordinates of n_edges heads and their tails, float64."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2 * n_edges, n_components, generator=generator, dtype=torch.float64)


def cyclic_pairs(n_edges: int, n_negatives: int) -> list[tuple[int, int]]:
    """Which rows repel each other: each row and the rows after it, around the batch."""
    n_rows = 2 * n_edges
    shifts = range(1, min(n_negatives, n_edges - 1) + 1)
    return [(row, (row + shift) % n_rows) for row in range(n_rows) for shift in shifts]


def probability(y: Tensor, i: int, j: int, kernel: Kernel, eps: float) -> Tensor:
    distance = (y[i] - y[j]).pow(2).sum().sqrt()
    return 1 / (1 + eps + kernel.a * distance ** (2 * kernel.b))


def by_the_formula(
    y: Tensor, kernel: Kernel, eps: float, n_negatives: int
) -> tuple[Tensor, Tensor]:
    """Attraction and repulsion, one pair after the other."""
    n_edges = len(y) // 2
    edges = [(row, row + n_edges) for row in range(n_edges)]
    attraction = [-torch.log(probability(y, i, j, kernel, eps)) for i, j in edges]
    pairs = cyclic_pairs(n_edges, n_negatives)
    repulsion = [-torch.log(1 - probability(y, i, j, kernel, eps)) for i, j in pairs]
    zero = y.new_zeros(1)
    return (
        torch.stack(attraction).mean(),
        kernel.repulsion * torch.stack(repulsion or list(zero)).mean(),
    )


SIZES = [(1, 1), (1, 5), (2, 1), (2, 5), (3, 2), (5, 1), (5, 4), (7, 32), (12, 5)]


@pytest.mark.parametrize("n_components", [1, 2, 3, 5])
@pytest.mark.parametrize(("n_edges", "n_negatives"), SIZES)
def test_value_and_gradient_equal_the_formula(
    n_edges: int, n_negatives: int, n_components: int
) -> None:
    y = layout(n_edges, n_components)
    for eps in (0.01, 1.0):
        variable = y.clone().requires_grad_()
        attraction, repulsion = by_the_formula(variable, KERNEL, eps, n_negatives)
        (expected,) = torch.autograd.grad(attraction + repulsion, variable)
        forces = umap_forces(y, KERNEL, eps, n_negatives)
        assert forces.attraction.item() == pytest.approx(attraction.item(), rel=1e-12)
        assert forces.repulsion.item() == pytest.approx(repulsion.item(), rel=1e-12)
        torch.testing.assert_close(forces.gradient, expected, rtol=1e-10, atol=1e-13)


def test_one_edge_has_nobody_to_repel() -> None:
    forces = umap_forces(layout(1), KERNEL, 0.1, n_negatives=8)
    assert forces.repulsion.item() == 0.0
    assert torch.equal(forces.gradient[0], -forces.gradient[1])


@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("eps", [0.0, 0.3, 1.0])
def test_gradient_by_finite_differences(n_components: int, eps: float) -> None:
    y = layout(4, n_components).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: umap_loss(z, KERNEL, eps=eps, n_negatives=2), y)


def test_cross_entropy_is_the_sum_of_both_halves_and_scales_its_gradient() -> None:
    y = layout(6).requires_grad_()
    forces = umap_forces(y.detach(), KERNEL, 0.1, 3)
    loss = umap_loss(y, KERNEL, eps=0.1, n_negatives=3)
    assert loss.item() == forces.attraction.item() + forces.repulsion.item()
    (-2.5 * loss).backward()
    torch.testing.assert_close(y.grad, -2.5 * forces.gradient)


def test_second_derivatives_are_refused_rather_than_wrong() -> None:
    y = layout(3).requires_grad_()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = scale * umap_loss(y, KERNEL)
    (gradient,) = torch.autograd.grad(loss, y, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


# --- where the formula itself would divide by zero ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_all_points_equal(dtype: torch.dtype, eps: float) -> None:
    forces = umap_forces(torch.ones(10, 2, dtype=dtype), KERNEL, eps, 4)
    assert torch.isfinite(forces.attraction + forces.repulsion)
    assert forces.repulsion > 0
    assert torch.equal(forces.gradient, torch.zeros(10, 2, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coincident_edges_and_coincident_negatives(dtype: torch.dtype) -> None:
    y = layout(6).to(dtype)
    y[6:9] = y[:3]  # three edges of length 0
    y[5] = y[4]  # a negative pair at distance 0
    forces = umap_forces(y, KERNEL, 0.0, 5)
    assert torch.isfinite(forces.attraction + forces.repulsion)
    assert torch.isfinite(forces.gradient).all()


def test_float32_is_finite_over_26_decades_of_distance() -> None:
    for power in range(-20, 7):
        y = torch.zeros(8, 2)
        y[4:, 0] = 10.0**power * torch.arange(1, 5)
        y[1::2, 1] = 10.0**power
        for eps in (0.0, 0.1, 1.0):
            forces = umap_forces(y, KERNEL, eps, 3)
            assert torch.isfinite(forces.attraction + forces.repulsion), power
            assert torch.isfinite(forces.gradient).all(), power


@pytest.mark.parametrize("min_dist_kernel", [KERNEL, Kernel(0.1193, 1.9164), Kernel(1.93, 0.79)])
def test_float32_is_close_to_float64(min_dist_kernel: Kernel) -> None:
    y = layout(64).float()
    y[:8] = y[64:72] + 1e-2  # short edges too
    single = umap_forces(y, min_dist_kernel, 0.01, 16)
    double = umap_forces(y.double(), min_dist_kernel, 0.01, 16)
    assert single.attraction.item() == pytest.approx(double.attraction.item(), rel=1e-5)
    assert single.repulsion.item() == pytest.approx(double.repulsion.item(), rel=1e-5)
    error = (single.gradient.double() - double.gradient).abs().max()
    assert error < 2e-5 * double.gradient.abs().max()


# --- the family in eps ---


def test_eps_one_is_the_objective_of_umap_learns_parametric_class() -> None:
    """There, log q goes through log_sigmoid as if it were a logit: p = q / (1 + q)."""
    y = layout(6)
    n_edges = 6
    squared = lambda i, j: (y[i] - y[j]).square().sum().item()  # noqa: E731

    def cross_entropy(i: int, j: int, label: int) -> float:
        log_q = -math.log1p(KERNEL.a * squared(i, j) ** KERNEL.b)
        log_sigmoid = -math.log1p(math.exp(-log_q))
        return -label * log_sigmoid - (1 - label) * (log_sigmoid - log_q)

    positive = np.mean([cross_entropy(i, i + n_edges, 1) for i in range(n_edges)])
    negative = np.mean([cross_entropy(i, j, 0) for i, j in cyclic_pairs(n_edges, 3)])
    forces = umap_forces(y, KERNEL, 1.0, 3)
    assert forces.attraction.item() == pytest.approx(positive, rel=1e-12)
    assert forces.repulsion.item() == pytest.approx(5.0 * negative, rel=1e-12)


def test_small_eps_tends_to_the_true_cross_entropy() -> None:
    y = layout(20)
    s = lambda i, j: KERNEL.a * (y[i] - y[j]).square().sum().item() ** KERNEL.b  # noqa: E731
    attraction = np.mean([math.log1p(s(i, i + 20)) for i in range(20)])
    pairs = cyclic_pairs(20, 4)
    repulsion = np.mean([math.log1p(1 / s(i, j)) for i, j in pairs])
    exact = attraction + KERNEL.repulsion * repulsion
    errors = [
        abs(umap_loss(y, KERNEL, eps=eps, n_negatives=4).item() - exact)
        for eps in (0.1, 0.01, 0.001)
    ]
    assert errors[2] < 0.005 * exact
    assert errors[0] > 5 * errors[1] > 25 * errors[2]  # the error is of first order in eps


def test_eps_has_a_floor() -> None:
    y = layout(5)
    at_zero, at_floor = (umap_loss(y, KERNEL, eps=e).item() for e in (0.0, SMALLEST_EPS))
    assert at_zero == at_floor
    assert umap_loss(y, KERNEL, eps=2 * SMALLEST_EPS).item() != at_floor


def test_softer_kernel_bounds_the_forces_of_close_negatives() -> None:
    y = torch.tensor([[0.0, 0.0], [0.01, 0.0], [9.0, 0.0], [0.0, 9.0]])  # rows 0 and 1 repel
    strength = [umap_forces(y, KERNEL, eps, 1).gradient[0].norm().item() for eps in (0.0, 0.1, 1.0)]
    assert strength[0] > 10 * strength[1] > 100 * strength[2]


# --- repulsion: its weight, its negatives ---


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 7.0])
def test_weight_of_repulsion_is_linear(weight: float) -> None:
    y = layout(9)
    none, unit, found = (umap_forces(y, Kernel(1.5, 0.9, w), 0.1, 4) for w in (0.0, 1.0, weight))
    assert none.repulsion.item() == 0.0
    assert found.attraction == none.attraction
    assert found.repulsion.item() == pytest.approx(weight * unit.repulsion.item())
    torch.testing.assert_close(
        found.gradient, none.gradient + weight * (unit.gradient - none.gradient)
    )


def pairs_of_different_edges(n_edges: int) -> list[tuple[int, int]]:
    n_rows = 2 * n_edges
    return [(i, j) for i in range(n_rows) for j in range(i) if i % n_edges != j % n_edges]


def test_most_negatives_are_all_pairs_of_different_edges_once() -> None:
    n_edges = 8
    y = layout(n_edges)
    pairs = pairs_of_different_edges(n_edges)
    expected = np.mean([-math.log(1 - probability(y, i, j, KERNEL, 0.1)) for i, j in pairs])
    for n_negatives in (n_edges - 1, n_edges, 1000):
        found = umap_forces(y, KERNEL, 0.1, n_negatives).repulsion.item()
        assert found == pytest.approx(5.0 * expected, rel=1e-12)


@pytest.mark.parametrize("n_negatives", [1, 4, 9, 50])
def test_an_edge_never_repels_its_own_ends(n_negatives: int) -> None:
    heads = 1e4 * torch.arange(10, dtype=torch.float64)[:, None] * torch.ones(1, 2)
    y = torch.cat([heads, heads + 1e-3])  # touching ends, everything else far away
    assert umap_forces(y, KERNEL, 0.0, n_negatives).repulsion < 1e-5


def test_more_negatives_same_expectation_lower_variance() -> None:
    """Over batches in random order and direction, as the sampler draws them."""
    n_edges, n_batches = 24, 600
    y = layout(n_edges, seed=1)
    pairs = pairs_of_different_edges(n_edges)
    expected = 5.0 * np.mean([-math.log(1 - probability(y, i, j, KERNEL, 0.1)) for i, j in pairs])
    generator = torch.Generator().manual_seed(2)
    ends = y.view(2, n_edges, 2)
    scatter = []
    for n_negatives in (1, 4, 16):
        values = np.empty(n_batches)
        for batch in range(n_batches):
            order = torch.randperm(n_edges, generator=generator)
            flip = torch.randint(2, (n_edges,), generator=generator)
            shuffled = torch.cat([ends[flip, order], ends[1 - flip, order]])
            values[batch] = umap_forces(shuffled, KERNEL, 0.1, n_negatives).repulsion
        standard_error = values.std() / math.sqrt(n_batches)
        assert abs(values.mean() - expected) < 4 * standard_error
        scatter.append(values.std())
    assert scatter[0] > 1.5 * scatter[1] > 2.25 * scatter[2]


# --- the term of the objective ---


def test_softening_holds_then_falls_geometrically() -> None:
    eps = Softening(start=1.0, end=0.01, hold=0.5)
    assert [eps(p) for p in (0.0, 0.25, 0.5)] == [1.0, 1.0, 1.0]
    assert eps(0.75) == pytest.approx(0.1)
    assert eps(1.0) == pytest.approx(0.01)
    assert Softening(start=1.0, end=0.01, hold=1.0)(1.0) == 1.0
    assert Softening(start=0.0, end=0.0)(0.9) == 0.0


def test_term_is_the_cross_entropy_at_the_eps_of_the_progress() -> None:
    y = layout(6)
    term = UmapTerm(KERNEL, Softening(1.0, 0.01, hold=0.0), n_negatives=3)
    for progress, eps in [(0.0, 1.0), (0.5, 0.1), (1.0, 0.01)]:
        batch = Batch(torch.arange(12), None, y, progress)
        expected = sum(by_the_formula(y, KERNEL, eps, 3))
        assert term(batch).item() == pytest.approx(float(expected), rel=1e-9)
    assert batch.n_edges == 6
    assert (term.name, term.weight, term.modules) == ("umap_loss", 1.0, {})
