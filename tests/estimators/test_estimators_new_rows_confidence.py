"""Confidence: p-values by their definition, measures of known rows and networks, former names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neumap.estimators.new_rows.confidence as room
from neumap import ParametricUMAP
from neumap.data import check_input
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.confidence import (
    Confidence,
    Novelty,
    confidence_of,
)
from neumap.estimators.new_rows.training_rows import TrainingRows

GENERATOR = np.random.default_rng(0)


def novelty(seed: int, n_rows: int) -> Novelty:
    generator = np.random.default_rng(seed)
    return Novelty(*(generator.integers(0, 9, n_rows).astype(float) for _ in range(5)))


def confidence() -> Confidence:
    return Confidence(np.zeros(2), novelty(0, 2), novelty(1, 2))


# ------------------------------------------------------------------ p-values


def test_p_values_count_the_usual_rows_that_are_at_least_as_novel() -> None:
    values = GENERATOR.integers(-2, 12, 50).astype(float)
    usual = GENERATOR.integers(0, 10, 30).astype(float)  # with ties
    expected = [(sum(u >= value for u in usual) + 1) / (30 + 1) for value in values]
    np.testing.assert_allclose(room._p_values(values, usual), expected, rtol=1e-15)


def test_the_score_is_the_p_value_of_the_product_of_two_p_values() -> None:
    found, usual = novelty(0, 6), novelty(1, 20)
    result = room._compare(found, usual)

    def product(row: Novelty, i: int) -> float:
        shares = []
        for name in ("relative_distance", "feature_spread"):
            value, others = getattr(row, name)[i], getattr(usual, name)
            shares.append((sum(other >= value for other in others) + 1) / 21)
        return float(np.prod(shares))

    products = [product(usual, i) for i in range(20)]
    expected = [
        (sum(other <= product(found, i) + 1e-12 for other in products) + 1) / 21 for i in range(6)
    ]
    np.testing.assert_allclose(result.score, expected, rtol=1e-15)
    assert result.measures is found


def test_one_extraordinary_measure_is_enough() -> None:
    """The product u of two independent p-values is at most u with probability u (1 - log u)."""
    n = 4000
    usual = Novelty(*np.random.default_rng(0).uniform(size=(5, n)))
    zeros = np.zeros(3)
    far, near = np.array([2.0, 2.0, -1.0]), np.array([-1.0, 0.5, -1.0])
    score = room._compare(Novelty(zeros, zeros, zeros, far, near), usual).score
    least = 1 / (n + 1)
    half = least * (1 + sum(usual.feature_spread >= 0.5)) / (n + 1)
    expected = [u * (1 - np.log(u)) for u in (least, half, 1.0)]
    np.testing.assert_allclose(score, expected, rtol=0.4, atol=2 / n)


# ------------------------------------------------------------------ measures


def fitted_to(rows: np.ndarray, encoder: nn.Module) -> Fitted:
    with torch.no_grad():
        embedding = encoder(torch.from_numpy(rows)).numpy()
    width = rows.shape[1]
    return Fitted(
        n_features=width,
        n_components=embedding.shape[1],
        input_shape=(width,),
        row_shape=(width,),
        graph=None,
        embedding=embedding,
        encoder=encoder,
        training=TrainingRows(rows),
    )


def ask(new: np.ndarray, fitted: Fitted, n_neighbors: int, n_calibration: int) -> Confidence:
    recipe = ParametricUMAP(n_neighbors=n_neighbors, device="cpu", n_jobs=1)._recipe()
    checked = check_input(np.asarray(new, dtype=np.float32))
    return confidence_of(checked, fitted, recipe, n_calibration=n_calibration)


def test_measures_are_distances_to_the_nearest_training_rows() -> None:
    """Training rows at 0, 1, 2, 10 on a line, and an encoder that doubles."""
    rows = np.array([[0.0], [1.0], [2.0], [10.0]], dtype=np.float32)
    encoder = nn.Linear(1, 1, bias=False)
    nn.init.constant_(encoder.weight, 2.0)
    fitted = fitted_to(rows, encoder)
    found = ask([[0.25]], fitted, 3, 4)
    # The two nearest are 0 and 1: at 0.25 and 0.75, their positions at 0.5 and 1.5.
    assert found.measures.distance[0] == pytest.approx(0.5)
    spread = np.sqrt((0.5**2 + 1.5**2) / 2)
    assert found.measures.neighbor_spread[0] == pytest.approx(spread)
    assert found.measures.jacobian_norm[0] == pytest.approx(2.0)
    # The two nearest of 0 are on average 1.5 away from it, those of 1 are 1 away.
    assert found.measures.relative_distance[0] == pytest.approx(0.5 / 1.25)
    # There is no hidden layer.
    assert found.measures.feature_spread[0] == pytest.approx(spread)
    # The training rows' own means without themselves: 1.5, 1, 1.5, 8.5, all at least 0.5.
    assert found.p_values.distance[0] == 1.0
    # Relative to their neighbours: 1.5 / 1.25, 1 / 1.5, 1.5 / 1.25, 8.5 / 1.25.
    assert found.p_values.relative_distance[0] == 1.0
    far = ask([[-7.5]], fitted, 3, 4)
    assert far.measures.distance[0] == pytest.approx(8.0)
    assert far.p_values.distance[0] == pytest.approx(2 / 5)
    assert far.measures.relative_distance[0] == pytest.approx(8.0 / 1.25)
    assert far.p_values.relative_distance[0] == pytest.approx(2 / 5)


def test_features_spread_in_the_middle_layer() -> None:
    """Directions in the hidden layer, computed with numpy; five neighbours of twelve."""
    encoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    rows = GENERATOR.normal(size=(30, 3)).astype(np.float32)
    new = GENERATOR.normal(size=(9, 3)).astype(np.float32)
    weight, bias = encoder[0].weight.detach().numpy(), encoder[0].bias.detach().numpy()

    def directions(x: np.ndarray) -> np.ndarray:
        features = np.maximum(x @ weight.T + bias, 0.0)
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    nearest = np.linalg.norm(new[:, None] - rows, axis=2).argsort(axis=1)[:, :5]
    squared = np.square(directions(new)[:, None] - directions(rows)[nearest]).sum(2)
    found = ask(new, fitted_to(rows, encoder), 12, 30).measures
    np.testing.assert_allclose(found.feature_spread, np.sqrt(squared.mean(1)), rtol=1e-5)


def test_features_are_the_same_in_any_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    rows, new = (GENERATOR.normal(size=(n, 3)).astype(np.float32) for n in (30, 11))
    whole = ask(new, fitted_to(rows, encoder), 6, 30).measures.feature_spread
    monkeypatch.setattr(room, "FEATURE_ROWS", 4)
    parts = ask(new, fitted_to(rows, encoder), 6, 30).measures.feature_spread
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_a_row_beside_a_dense_cluster_is_novel_though_it_is_near() -> None:
    dense = GENERATOR.normal(scale=0.01, size=(300, 4))
    sparse = GENERATOR.normal(loc=20.0, scale=2.0, size=(300, 4))
    encoder = nn.Linear(4, 2)
    fitted = fitted_to(np.concatenate([dense, sparse]).astype(np.float32), encoder)
    beside = np.array([[0.3, 0.0, 0.0, 0.0]])
    usual = GENERATOR.normal(loc=20.0, scale=2.0, size=(50, 4))
    found = ask(np.concatenate([beside, usual]), fitted, 15, 600)
    assert found.measures.distance[0] < found.measures.distance[1:].min()
    assert found.measures.relative_distance[0] > found.measures.relative_distance[1:].max()
    assert found.p_values.relative_distance[0] == pytest.approx(1 / 601)


def test_new_rows_like_the_training_rows_have_uniform_scores() -> None:
    encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    rows, new = (np.random.default_rng(n).normal(size=(n, 6)) for n in (1500, 1501))
    score = ask(new, fitted_to(rows.astype(np.float32), encoder), 15, 1500).score
    for level in (0.05, 0.25, 0.5, 0.75):
        assert np.mean(score <= level) == pytest.approx(level, abs=0.035)


def test_repeated_training_rows_have_no_distance_to_compare_with() -> None:
    rows = np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0).astype(np.float32)
    found = ask([[0.0, 0.0], [0.5, 0.4]], fitted_to(rows, nn.Linear(2, 2)), 6, 20)
    assert found.measures.relative_distance.tolist() == [0.0, np.inf]
    assert found.p_values.relative_distance.tolist() == [1.0, pytest.approx(1 / 21)]


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
