"""Landmarks: value, gradient, batches without any, refused targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from neumap.fuzzy import FuzzyGraph
from neumap.losses import Kernel, LandmarkTerm
from neumap.losses.terms import Batch, UmapTerm
from neumap.sampling import EdgeSampler
from neumap.training import FreeEmbedder, Plan, train

NAN = float("nan")
TARGETS = torch.tensor([[1.0, 1.0], [NAN, NAN], [4.0, 5.0], [NAN, NAN]])


def batch_of(indices: list[int], coordinates: Tensor) -> Batch:
    return Batch(torch.tensor(indices), None, coordinates, progress=0.0)


def test_mean_distance_over_the_landmarks_of_the_batch() -> None:
    coordinates = torch.tensor([[4.0, 5.0], [9.0, 9.0], [1.0, 2.0], [4.0, 5.0]])
    batch = batch_of([0, 1, 2, 2], coordinates)  # distances 5, free, sqrt(18), 0
    expected = (5 + np.sqrt(18) + 1e-5) / 3
    assert LandmarkTerm(TARGETS)(batch).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_pulls_landmarks_and_leaves_free_rows_alone() -> None:
    coordinates = torch.tensor([[4.0, 5.0], [9.0, 9.0], [4.0, 5.0]], requires_grad=True)
    LandmarkTerm(TARGETS)(batch_of([0, 1, 2], coordinates)).backward()
    expected = torch.tensor([[3 / 5 / 2, 4 / 5 / 2], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(coordinates.grad, expected)


def squared(y_true: Tensor, y_pred: Tensor) -> Tensor:
    return (y_true - y_pred).square().sum(1)


@pytest.mark.parametrize("loss_fn", [None, squared])
def test_a_batch_without_landmarks_counts_nothing(loss_fn: object) -> None:
    coordinates = torch.randn(2, 2, requires_grad=True)
    value = LandmarkTerm(TARGETS, loss_fn=loss_fn)(batch_of([1, 3], coordinates))  # type: ignore[arg-type]
    assert value.item() == 0.0
    value.backward()
    torch.testing.assert_close(coordinates.grad, torch.zeros(2, 2))


def test_own_loss_sees_truth_first_and_landmarks_only() -> None:
    seen = []

    def loss_fn(y_true: Tensor, y_pred: Tensor) -> Tensor:
        seen.append((y_true, y_pred))
        return squared(y_true, y_pred)

    coordinates = torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    value = LandmarkTerm(TARGETS, loss_fn=loss_fn)(batch_of([3, 0], coordinates))
    assert value.item() == 1.0
    torch.testing.assert_close(seen[0][0], TARGETS[[0]])
    torch.testing.assert_close(seen[0][1], coordinates[[1]])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([NAN, 2.0], "1 rows that are NaN in some columns.*row 3"),
        ([np.inf, 2.0], "infinite.*row 3"),
    ],
)
def test_half_given_positions_are_refused(row: list[float], message: str) -> None:
    targets = TARGETS.clone()
    targets[3] = torch.tensor(row)
    with pytest.raises(ValueError, match=message):
        LandmarkTerm(targets)


def test_landmarks_end_up_where_they_belong() -> None:
    n = 40  # a ring of rows; every tenth one belongs on a circle of radius 20
    ring = FuzzyGraph(
        np.r_[np.arange(n - 1), 0], np.r_[np.arange(1, n), n - 1], np.ones(n, np.float32), n
    )
    angle = 2 * np.pi * np.arange(n) / n
    circle = 20 * np.column_stack([np.cos(angle), np.sin(angle)])
    given = np.full((n, 2), np.nan)
    given[::10] = circle[::10]
    targets = torch.tensor(given, dtype=torch.float32)
    start = np.random.default_rng(0).normal(size=(n, 2))

    def fit(weight: float) -> np.ndarray:
        table = FreeEmbedder(start)
        terms = [
            UmapTerm(Kernel(1.577, 0.895), n_negatives=8),
            LandmarkTerm(targets, weight=weight),
        ]
        plan = Plan(n_steps=400, n_reports=4, batch_edges=32, peak_learning_rate=0.5)
        history = train(table, terms, EdgeSampler(ring, seed=0), plan, seed=0)
        assert len(history["landmark_loss"]) == 4
        return table.embed_all()

    off = np.linalg.norm(fit(1.0)[::10] - circle[::10], axis=1)
    assert off.max() < 2.0
    assert np.linalg.norm(fit(0.0)[::10] - circle[::10], axis=1).mean() > 10.0
