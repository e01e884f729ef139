"""Derivatives of positions with respect to features, against formulas and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from torch import nn

from neumap import ParametricUMAP
from neumap.data import as_rows
from neumap.estimators.new_rows import jacobian as room
from neumap.estimators.new_rows.jacobian import explain_rows, jacobian_norms

GENERATOR = np.random.default_rng(0)
X = (load_digits().data[:200] / 16).astype(np.float32)


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


def smooth(n_features: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_features, 16), nn.Tanh(), nn.Linear(16, 2))


ENCODERS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "unit rows": {"metric": "cosine"},
    "subspace": {"encoder": "residual", "dims": (8, 8)},
    "images": {"encoder": "conv", "dims": (8, 8, 1)},
    "of the user": {"encoder": smooth(64)},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_jacobian_is_the_limit_of_finite_differences(name: str) -> None:
    model = ParametricUMAP(preset="fast", n_epochs=3, random_state=0, **ENCODERS[name]).fit(X)
    found = model.explain(X[:4])
    assert found.shape == (4, 2, 64)
    assert found.dtype == np.float32
    # In float64 the step can be so small that no ReLU changes sides.
    encoder, step = model.encoder_.double(), 1e-6
    shape = (-1, *model.row_shape_)

    def place(rows: Any) -> Any:
        with torch.no_grad():
            return encoder(torch.from_numpy(rows).reshape(shape)).numpy()

    for feature in (3, 20, 42):
        to = np.zeros(64)
        to[feature] = step
        rows = X[:4].astype(np.float64)
        expected = (place(rows + to) - place(rows - to)) / (2 * step)
        np.testing.assert_allclose(found[:, :, feature], expected, rtol=2e-3, atol=2e-4)


def test_summaries_are_norms_over_components_and_their_means_over_rows() -> None:
    model = ParametricUMAP(preset="fast", n_epochs=1, random_state=0).fit(X)
    whole = model.explain(X)
    norms = np.sqrt((whole.astype(np.float64) ** 2).sum(1))
    np.testing.assert_allclose(model.explain(X, summary="rows"), norms, rtol=1e-5)
    np.testing.assert_allclose(model.explain(X, summary="features"), norms.mean(0), rtol=1e-5)


def test_the_result_is_the_same_in_any_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, encoder = as_rows(X[:11]), smooth(64)
    whole = explain_rows(encoder, rows, 2, None)
    features = explain_rows(encoder, rows, 2, "features")
    monkeypatch.setattr(room, "BATCH_NUMBERS", 3 * 2 * 64)
    np.testing.assert_allclose(explain_rows(encoder, rows, 2, None), whole, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(explain_rows(encoder, rows, 2, "features"), features, rtol=1e-5)


def test_a_feature_that_does_not_matter_has_no_share() -> None:
    rows = GENERATOR.normal(size=(300, 3)).astype(np.float32)
    rows[:, 2] *= 1e-4
    model = ParametricUMAP(preset="fast", n_epochs=20, random_state=0).fit(rows)
    moved = model.explain(rows, summary="features") * rows.std(0)
    assert moved[2] < 0.01 * moved[:2].min()


def test_what_cannot_be_explained_says_so() -> None:
    with pytest.raises(NotFittedError):
        ParametricUMAP().explain(X)
    model = ParametricUMAP(parametric_embedding=False, n_epochs=1).fit(X)
    with pytest.raises(NotFittedError, match="explain needs an encoder"):
        model.explain(X)

    class Codes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.table(rows.long().clamp(0, 19)).mean(1)

    model = ParametricUMAP(preset="fast", n_epochs=1, encoder=Codes(), random_state=0).fit(X)
    with pytest.raises(ValueError, match="encoder must be differentiable in its input"):
        model.explain(X)
    model = ParametricUMAP(preset="fast", n_epochs=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"summary must be None or one of .*, got 'row'"):
        model.explain(X, summary="row")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="features"):
        model.explain(X[:, :5])
