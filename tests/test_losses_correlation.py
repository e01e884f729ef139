"""Correlation of distances: against numpy, finite differences and the cases without an answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neumap.data import DenseRows
from neumap.losses import CorrelationTerm
from neumap.losses.correlation import pearson
from neumap.losses.terms import Batch


def batch_of(rows: torch.Tensor, coordinates: torch.Tensor) -> Batch:
    return Batch(torch.arange(len(rows)), rows, coordinates, progress=0.0)


def random_batch(n_rows: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(n_rows, 3, 2, generator=generator, dtype=torch.float64)
    return rows, torch.randn(n_rows, 2, generator=generator, dtype=torch.float64)


def pairs(n_rows: int, n_shifts: int) -> list[tuple[int, int]]:
    return [(r, (r + k) % n_rows) for k in range(1, n_shifts + 1) for r in range(n_rows)]


@pytest.mark.parametrize("n_shifts", [1, 4])
def test_equals_minus_numpy_corrcoef_over_cyclic_pairs(n_shifts: int) -> None:
    rows, coordinates = random_batch()
    flat = rows.reshape(12, -1).numpy()
    x = [np.linalg.norm(flat[i] - flat[j]) for i, j in pairs(12, n_shifts)]
    z = [np.linalg.norm(coordinates[i] - coordinates[j]) for i, j in pairs(12, n_shifts)]
    found = CorrelationTerm(0.1, n_shifts=n_shifts)(batch_of(rows, coordinates)).item()
    assert found == pytest.approx(-np.corrcoef(x, z)[0, 1], abs=1e-6)


def test_perfect_and_inverted_maps() -> None:
    line = torch.tensor([0.0, 1.0, 3.0, 7.0, 12.0, 20.0])[:, None]
    term = CorrelationTerm(1.0)
    assert term(batch_of(line, 5 * line + 2)).item() == pytest.approx(-1.0, abs=1e-5)
    x, y = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0])
    assert pearson(x, y).item() == pytest.approx(-1.0, abs=1e-5)


def test_gradient_by_finite_differences() -> None:
    rows, coordinates = random_batch()
    inputs = rows.float()  # distances of the data are computed in float32

    def loss(z: torch.Tensor) -> torch.Tensor:
        return CorrelationTerm(1.0, n_shifts=3)(batch_of(inputs.double(), z))

    assert torch.autograd.gradcheck(loss, coordinates.requires_grad_(), eps=1e-6, atol=1e-5)


def test_distances_in_the_data_pass_no_gradient() -> None:
    rows, coordinates = random_batch()
    CorrelationTerm(1.0)(batch_of(rows.requires_grad_(), coordinates.requires_grad_())).backward()
    assert rows.grad is None
    assert coordinates.grad is not None


@pytest.mark.parametrize("case", ["coincident map", "coincident data", "two rows", "equal rows"])
def test_no_nan_where_there_is_no_correlation(case: str) -> None:
    rows, coordinates = (part.float() for part in random_batch())
    if case == "coincident map":
        coordinates = torch.ones(12, 2)
    elif case == "coincident data":
        rows = torch.ones(12, 3, 2)
    elif case == "two rows":
        rows, coordinates = rows[:2], coordinates[:2]
    else:  # some distances are zero, the others are not
        rows[3:6], coordinates[3:6] = rows[3], coordinates[3].clone()
    coordinates = coordinates.clone().requires_grad_()
    value = CorrelationTerm(1.0)(batch_of(rows, coordinates))
    value.backward()
    assert coordinates.grad is not None
    assert torch.isfinite(coordinates.grad).all()
    assert coordinates.grad.abs().max() < 1e3
    if case == "equal rows":
        assert -1.0 <= value.item() <= 1.0
    else:
        assert value.item() == pytest.approx(0.0, abs=1e-4)


def test_more_shifts_lower_the_variance() -> None:
    estimates: dict[int, list[float]] = {1: [], 8: []}
    rows, _ = random_batch(512)
    coordinates = rows.reshape(512, -1)[:, :2]
    for seed in range(40):
        order = torch.randperm(512, generator=torch.Generator().manual_seed(seed))[:64]
        for n_shifts, values in estimates.items():
            term = CorrelationTerm(1.0, n_shifts=n_shifts)
            values.append(term(batch_of(rows[order], coordinates[order])).item())
    assert np.std(estimates[8]) < 0.7 * np.std(estimates[1])
    assert np.mean(estimates[8]) == pytest.approx(np.mean(estimates[1]), abs=0.05)


def test_free_positions_take_rows_from_a_store() -> None:
    rows, coordinates = (part.float() for part in random_batch())
    flat = rows.reshape(12, -1)
    table = Batch(torch.arange(12), None, coordinates, progress=0.0)
    found = CorrelationTerm(1.0, rows=DenseRows(flat.numpy()))(table)
    torch.testing.assert_close(found, CorrelationTerm(1.0)(batch_of(flat, coordinates)))
    with pytest.raises(ValueError, match=r"row store for a CorrelationTerm.*rows="):
        CorrelationTerm(1.0)(table)


def test_weighted_pearson_ignores_rows_of_weight_zero() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20))
    weights = np.r_[np.ones(15), np.zeros(5)]
    found = pearson(*(torch.tensor(v) for v in (x, y)), weights=torch.tensor(weights))
    assert found.item() == pytest.approx(np.corrcoef(x[:15], y[:15])[0, 1], abs=1e-6)
