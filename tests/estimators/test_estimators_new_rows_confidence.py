"""Confidence: p-values by their definition, the norm of a known Jacobian, the former names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neumap.estimators.new_rows.confidence as room
from neumap import ParametricUMAP
from neumap.data import as_rows, check_input
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.confidence import (
    Confidence,
    Novelty,
    confidence_of,
    jacobian_norms,
)
from neumap.estimators.new_rows.training_rows import TrainingRows

GENERATOR = np.random.default_rng(0)


def novelty(seed: int, n_rows: int) -> Novelty:
    generator = np.random.default_rng(seed)
    return Novelty(*(generator.integers(0, 9, n_rows).astype(float) for _ in range(3)))


def confidence() -> Confidence:
    return Confidence(np.zeros(2), novelty(0, 2), novelty(1, 2))


# ------------------------------------------------------------------ p-values


def test_p_values_count_the_usual_rows_that_are_at_least_as_novel() -> None:
    values = GENERATOR.integers(-2, 12, 50).astype(float)
    usual = GENERATOR.integers(0, 10, 30).astype(float)  # with ties
    expected = [(sum(u >= value for u in usual) + 1) / (30 + 1) for value in values]
    np.testing.assert_allclose(room._p_values(values, usual), expected, rtol=1e-15)


def test_the_score_is_the_mean_of_two_p_values() -> None:
    found, usual = novelty(0, 6), novelty(1, 20)
    result = room._compare(found, usual)
    expected = room._p_values(found.distance, usual.distance)
    expected = (expected + room._p_values(found.neighbor_spread, usual.neighbor_spread)) / 2
    np.testing.assert_array_equal(result.score, expected)
    assert result.measures is found


# ------------------------------------------------------------------ Jacobian


def test_the_norm_of_a_linear_map_is_the_frobenius_norm_of_its_matrix() -> None:
    encoder = nn.Linear(5, 3)
    rows = as_rows(GENERATOR.normal(size=(7, 5)).astype(np.float32))
    expected = np.linalg.norm(encoder.weight.detach().numpy(), "fro")
    np.testing.assert_allclose(jacobian_norms(encoder, rows), np.full(7, expected), rtol=1e-6)


def test_the_norm_of_a_curved_map_is_that_of_its_derivative() -> None:
    class Square(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.stack([rows[:, 0] ** 2, rows[:, 0] * rows[:, 1]], dim=1)

    x, y = np.array([[1.0, 2.0], [3.0, -1.0]], dtype=np.float32).T
    found = jacobian_norms(Square(), as_rows(np.stack([x, y], axis=1)))
    # The Jacobian is [[2x, 0], [y, x]].
    np.testing.assert_allclose(found, np.sqrt(4 * x**2 + y**2 + x**2), rtol=1e-6)


def test_norms_are_the_same_in_any_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    rows = as_rows(GENERATOR.normal(size=(11, 4)).astype(np.float32))
    whole = jacobian_norms(encoder, rows)
    monkeypatch.setattr(room, "JACOBIAN_ROWS", 3)
    np.testing.assert_allclose(jacobian_norms(encoder, rows), whole, rtol=1e-6)


def test_norms_are_of_the_encoder_in_evaluation_and_leave_it_as_it_was() -> None:
    encoder = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)).train()
    rows = as_rows(GENERATOR.normal(size=(5, 4)).astype(np.float32))
    with torch.no_grad():
        expected = float(encoder[1].weight.norm())
        np.testing.assert_allclose(jacobian_norms(encoder, rows), expected, rtol=1e-6)
    assert encoder.training
    assert encoder[1].weight.grad is None


# ------------------------------------------------------------------ measures


def test_measures_are_distance_and_spread_to_the_nearest_training_rows() -> None:
    """Training rows at 0, 1, 2, 10 on a line, and an encoder that doubles."""
    rows = np.array([[0.0], [1.0], [2.0], [10.0]], dtype=np.float32)
    encoder = nn.Linear(1, 1, bias=False)
    nn.init.constant_(encoder.weight, 2.0)
    fitted = Fitted(
        n_features=1,
        n_components=1,
        input_shape=(1,),
        row_shape=(1,),
        graph=None,
        embedding=2 * rows,
        encoder=encoder,
        training=TrainingRows(rows),
    )
    recipe = ParametricUMAP(n_neighbors=3, device="cpu", n_jobs=1)._recipe()
    new = check_input(np.array([[0.25]], dtype=np.float32))
    found = confidence_of(new, fitted, recipe, n_calibration=4)
    # The two nearest are 0 and 1: at 0.25 and 0.75, their positions at 0.5 and 1.5.
    assert found.measures.distance[0] == pytest.approx(0.5)
    assert found.measures.neighbor_spread[0] == pytest.approx(np.sqrt((0.5**2 + 1.5**2) / 2))
    assert found.measures.jacobian_norm[0] == pytest.approx(2.0)
    # The training rows' own means without themselves: 1.5, 1, 1.5, 8.5, all at least 0.5.
    assert found.p_values.distance[0] == 1.0
    far = confidence_of(check_input(np.array([[-7.5]])), fitted, recipe, n_calibration=4)
    assert far.measures.distance[0] == pytest.approx(8.0)
    assert far.p_values.distance[0] == pytest.approx(2 / 5)


def test_confidence_needs_the_training_rows() -> None:
    model = ParametricUMAP()
    fitted = Fitted(2, 2, (2,), (2,), None, encoder=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="confidence needs the training rows"):
        confidence_of(check_input(np.eye(2)), fitted, model._recipe(), n_calibration=4)


# ------------------------------------------------------------------ names of neumap 0.1


@pytest.mark.parametrize(
    ("old", "new", "holder"),
    [
        ("signs", "measures", confidence),
        ("shares", "p_values", confidence),
        ("disagreement", "neighbor_spread", lambda: novelty(0, 2)),
        ("steepness", "jacobian_norm", lambda: novelty(0, 2)),
    ],
)
def test_a_former_name_warns_and_gives_the_same(old: str, new: str, holder: Any) -> None:
    value = holder()
    with pytest.warns(FutureWarning, match=f"{old} is now called {new}. Use {new}"):
        assert getattr(value, old) is getattr(value, new)


def test_the_present_names_do_not_warn() -> None:
    value = confidence()
    assert value.measures.neighbor_spread is not None
    assert value.p_values.jacobian_norm is not None
