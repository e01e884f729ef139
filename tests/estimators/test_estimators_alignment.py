"""A refit in an old frame: the best similarity transform, and networks that follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.stats import ortho_group
from sklearn.datasets import load_digits
from torch import nn

from neumap import UMAP, ParametricUMAP, load
from neumap.estimators.alignment import Motion, best_motion, check_frame

GENERATOR = np.random.default_rng(0)
DIGITS, LABELS = load_digits(return_X_y=True)
X = (DIGITS[:300] / 16).astype(np.float32)
QUICK: dict[str, Any] = {"preset": "fast", "n_epochs": 5}


@pytest.mark.parametrize("n_components", [1, 2, 3, 5])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_known_motion_is_found(n_components: int, is_mirrored: bool) -> None:
    points = GENERATOR.normal(size=(40, n_components))
    turn = (
        np.atleast_2d(1.0) if n_components == 1 else ortho_group.rvs(n_components, random_state=1)
    )
    if (np.linalg.det(turn) < 0) != is_mirrored:
        turn[0] *= -1
    target = 1.7 * points @ turn + np.arange(n_components)
    found = best_motion(points, target)
    np.testing.assert_allclose(found.matrix, 1.7 * turn, atol=1e-10)
    np.testing.assert_allclose(found.shift, np.arange(n_components), atol=1e-10)
    assert found.scale == pytest.approx(1.7)
    assert found.is_mirrored == is_mirrored
    np.testing.assert_allclose(found.inverse()(target), points, atol=1e-5)


def test_the_rest_is_that_of_scipys_procrustes() -> None:
    points, target = GENERATOR.normal(size=(2, 50, 3))
    target += points
    _, _, disparity = procrustes(target, points)
    moved = best_motion(points, target)(points)
    spread = np.square(target - target.mean(0)).sum()
    assert np.square(moved - target).sum() / spread == pytest.approx(disparity, rel=1e-5)


def test_without_scale_distances_stay() -> None:
    points = GENERATOR.normal(size=(30, 2))
    found = best_motion(points, 3 * points + 1, scales=False)
    np.testing.assert_allclose(found.matrix, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(found.shift, 1 + 2 * points.mean(0))


def frame_of(positions: Any, *, mirror: bool = False) -> tuple[Motion, Any]:
    """Return a motion, and where it brings positions. Its matrix is not symmetric by default."""
    turn = np.array([[0.6, 0.8], [0.8, -0.6]] if mirror else [[0.6, 0.8], [-0.8, 0.6]])
    motion = Motion(1.5 * turn, np.array([10.0, -3.0]))
    return motion, motion(positions)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 2))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(rows)


WITH_DECODER: dict[str, Any] = {"parametric_reconstruction": True}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": WITH_DECODER,
    "conv": {**WITH_DECODER, "encoder": "conv", "decoder": "conv", "dims": (8, 8, 1)},
    "of the user": {
        **WITH_DECODER,
        "encoder": Own(),
        "decoder": nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 64)),
    },
    "classifier": {"classifier_loss_weight": 1.0},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_all_of_a_model_follows_into_the_frame(name: str, tmp_path: Path) -> None:
    settings = {**QUICK, **NETWORKS[name]}
    y = LABELS[:300] if name == "classifier" else None
    plain = ParametricUMAP(random_state=0, **settings).fit(X, y)
    motion, frame = frame_of(plain.embedding_)
    model = ParametricUMAP(random_state=0, **settings).fit(X, y, align_to=frame)
    np.testing.assert_allclose(model.embedding_, frame, atol=2e-4)
    new = (DIGITS[300:340] / 16).astype(np.float32)
    placed = model.transform(new)
    np.testing.assert_allclose(placed, motion(plain.transform(new)), atol=2e-4)
    if name == "classifier":
        expected = plain.predict_proba(new)
        np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-4)
    else:
        expected = plain.inverse_transform(plain.transform(new))
        np.testing.assert_allclose(model.inverse_transform(placed), expected, atol=1e-4)
    found = model.report_["alignment"]
    assert found["n_rows"] == 300
    assert found["scale"] == pytest.approx(1.5, rel=1e-4)
    assert found["is_mirrored"] is False
    assert found["mean_share_of_extent"] < 1e-4
    if name != "of the user":
        model.save(tmp_path / "model.neumap")
        np.testing.assert_array_equal(load(tmp_path / "model.neumap").transform(new), placed)


def test_an_earlier_model_is_a_frame_also_for_more_rows() -> None:
    old = ParametricUMAP(random_state=0, **QUICK).fit(X[:200])
    free = ParametricUMAP(random_state=1, **QUICK).fit(X)
    model = ParametricUMAP(random_state=1, **QUICK).fit(X, align_to=old)
    target = old.transform(X)
    before = np.linalg.norm(free.embedding_ - target, axis=1).mean()
    after = np.linalg.norm(model.embedding_ - target, axis=1).mean()
    assert after < before
    assert model.report_["alignment"]["mean"] == pytest.approx(after, rel=1e-4)
    # The shape is the same: the map was moved, not trained towards the frame.
    assert procrustes(free.embedding_, model.embedding_)[2] < 1e-8
    # A model is a frame for its own refit.
    model.fit(X[:250], align_to=model)
    assert model.report_["alignment"]["n_rows"] == 250


def test_free_positions_keep_their_scale() -> None:
    plain = UMAP(n_epochs=20, random_state=0, output_dens=True).fit(X)
    _, frame = frame_of(plain.embedding_, mirror=True)
    frame[100:] = np.nan
    model = UMAP(n_epochs=20, random_state=0, output_dens=True).fit(X, align_to=frame)
    assert model.report_["alignment"]["scale"] == pytest.approx(1.0)
    assert model.report_["alignment"]["n_rows"] == 100
    assert model.report_["alignment"]["is_mirrored"]
    np.testing.assert_allclose(model.rad_emb_, plain.rad_emb_, atol=1e-6)
    np.testing.assert_array_equal(model.transform(X), model.embedding_)


def test_radii_follow_the_scale() -> None:
    plain = ParametricUMAP(random_state=0, output_dens=True, **QUICK).fit(X)
    _, frame = frame_of(plain.embedding_)
    model = ParametricUMAP(random_state=0, output_dens=True, **QUICK).fit(X, align_to=frame)
    expected = plain.rad_emb_ + 2 * np.log(1.5)
    np.testing.assert_allclose(model.rad_emb_, expected, rtol=1e-3, atol=1e-3)


def test_frames_that_cannot_be_used_say_so() -> None:
    with pytest.raises(ValueError, match=r"align_to must give positions of shape \(9, 2\)"):
        check_frame(np.zeros((9, 3)), 9, 2)
    known = np.full((9, 2), np.nan)
    known[:2] = 1.0
    with pytest.raises(ValueError, match="for at least 3 rows, got 2"):
        check_frame(known, 9, 2)
    model = ParametricUMAP(random_state=0, **QUICK).fit(X)
    positions = model.embedding_.copy()
    with pytest.raises(ValueError, match="align_to must be None for a fit with landmarks"):
        model.fit(X, landmark_positions=positions, align_to=positions)
    np.testing.assert_array_equal(model.embedding_, positions)  # a failed fit changes nothing
    with pytest.raises(ValueError, match="transform_mode must be 'embedding' for align_to"):
        UMAP(transform_mode="graph").fit(X, align_to=positions)
