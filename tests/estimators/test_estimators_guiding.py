"""When a network is guided, what is said about it, and that a guide can be passed."""

from __future__ import annotations

import copy
import pickle
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import Tensor, nn

from neumap import ParametricUMAP, load
from neumap.callbacks import LambdaCallback, ProgressBar
from neumap.estimators import guiding
from neumap.estimators.positions.presets import PRESETS

X = (load_digits().data[:300] / 16.0).astype(np.float32)
Y = load_digits().target[:300]
FEW: dict[str, Any] = {"n_neighbors": 8, "random_state": 0, "device": "cpu"}


def conv_net(seed: int = 0) -> nn.Sequential:
    """Costs 8 times the preset "fast"."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 2)),
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty guided steps are enough to see what happens."""
    monkeypatch.setattr(guiding, "FEWEST_STEPS", 40)
    monkeypatch.setattr(guiding, "STEPS", 40)


SMALL = {"preset": "fast"}


def test_an_expensive_network_is_guided() -> None:
    with_guide = ParametricUMAP(encoder=conv_net(), guide="auto", **SMALL, **FEW).fit(X)
    assert with_guide.report_["guide"] == "trained first"
    assert with_guide.report_["n_steps"] == 16  # the preset's are two fifths of the default's
    assert {"guide_loss", "umap_loss", "loss"} == set(with_guide.history_)
    assert {len(curve) for curve in with_guide.history_.values()} == {10}
    again = ParametricUMAP(encoder=conv_net(), guide="auto", **SMALL, **FEW).fit(X)
    np.testing.assert_array_equal(again.embedding_, with_guide.embedding_)


class Codes(nn.Module):
    """Reads whole numbers as the entries of a table, which no other network can guess."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(17, 64)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 512), nn.Linear(512, 2))

    def forward(self, rows: Tensor) -> Tensor:
        placed: Tensor = self.net(self.table((rows * 16).long()))
        return placed


ALONE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "guide=None": ({"guide": None}, {}),
    "of the package": ({"encoder": None}, {}),
    "of the package: conv": ({"encoder": "conv", "dims": (8, 8, 1)}, {}),
    "n_epochs sets": ({"n_epochs": 1}, {}),
    "n_epochs=0 trains nothing": ({"n_epochs": 0}, {}),
    "this metric": ({"metric": "cosine"}, {}),
    "below 5": ({"encoder": nn.Sequential(nn.Linear(64, 2))}, {}),
    "measurements": ({"encoder": Codes()}, {}),
    "classifier_loss_weight": ({"classifier_loss_weight": 1.0}, {"y": Y}),
    "global_correlation": ({"global_correlation_loss_weight": 0.1}, {}),
    "densmap": ({"densmap": True}, {}),
    "autoencoder_loss": ({"parametric_reconstruction": True, "autoencoder_loss": True}, {}),
    "given positions": ({}, {"landmark_positions": np.full((300, 2), np.nan)}),
    "positions are free": ({"parametric_embedding": False, "encoder": None}, {}),
}


@pytest.mark.parametrize("reason", ALONE)
def test_where_a_network_trains_alone_the_report_says_why(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, fit = ALONE[reason]
    if "landmark_positions" in fit:
        fit = {"landmark_positions": np.where(np.arange(300)[:, None] < 9, 1.0, np.nan) * [1, 1]}
    limit = {"max_time": 0.2}  # only the decision matters
    model = ParametricUMAP(
        **{"encoder": conv_net(), "guide": "auto", **SMALL, **FEW, **limit, **parameters}
    )
    model.fit(X, **fit)
    assert model.report_["guide"].startswith("none: ")
    assert reason.partition(":")[0] in model.report_["guide"]
    assert "guide_loss" not in model.history_


def test_the_decision_counts_operations() -> None:
    """Whatever the clock says: 2 x 64 x (9 x 32 + 288 x 32) + 2 x 2048 x 2 per row."""
    operations = 2 * 64 * (9 * 32 + 288 * 32) + 2 * 2048 * 2
    widths = (64, *PRESETS["default"].hidden, 2)
    cheap = 2 * sum(a * b for a, b in pairwise(widths))
    model = ParametricUMAP(encoder=conv_net(), guide="auto", max_time=0.2, **FEW).fit(X)
    assert f"costs {operations / cheap:.1f} times" in model.report_["guide"]


# ---- a guide that is passed ----


@pytest.fixture(scope="module")
def fitted() -> ParametricUMAP:
    return ParametricUMAP(n_epochs=30, preset="fast", **FEW).fit(X)


def distance(model: ParametricUMAP, other: ParametricUMAP) -> float:
    return float(np.linalg.norm(model.embedding_ - other.embedding_, axis=1).mean())


@pytest.mark.parametrize(
    "encoder",
    [None, "residual", conv_net(), nn.Linear(64, 2)],
    ids=["mlp", "residual", "conv", "linear"],
)
def test_networks_of_any_kind_learn_the_map_of_one_guide(
    encoder: Any, fitted: ParametricUMAP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guiding, "FEWEST_STEPS", 600)
    before = fitted.encoder_.state_dict()["layers.0.weight"].clone()
    model = ParametricUMAP(encoder=encoder, guide=fitted, **SMALL, **FEW).fit(X)
    assert model.report_["guide"] == "as passed"
    spread = float(fitted.embedding_.std())
    assert distance(model, fitted) < (0.5 if not isinstance(encoder, nn.Linear) else 1.5) * spread
    assert torch.equal(before, fitted.encoder_.state_dict()["layers.0.weight"])
    alone = ParametricUMAP(encoder=copy.deepcopy(encoder), guide=None, **SMALL, **FEW).fit(X)
    assert distance(model, fitted) < distance(alone, fitted)


def test_a_guide_reads_rows_of_its_own_shape(fitted: ParametricUMAP) -> None:
    torch.manual_seed(0)
    images = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    model = ParametricUMAP(encoder=images, guide=fitted, dims=(8, 8, 1), **SMALL, **FEW).fit(X)
    assert model.report_["guide"] == "as passed"


def test_n_epochs_sets_the_length_under_a_guide(fitted: ParametricUMAP) -> None:
    lengths = [
        ParametricUMAP(guide=guide, n_epochs=2, **SMALL, **FEW).fit(X).report_["n_steps"]
        for guide in (fitted, None)
    ]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (ParametricUMAP(), "guide must be a fitted .* that is not fitted"),
        ("other", "guide must be one of .*'auto'"),
        (nn.Linear(64, 2), "guide must be one of .*got Linear"),
    ],
)
def test_what_is_no_guide_is_refused(guide: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParametricUMAP(guide=guide, **FEW).fit(X)


def test_a_guide_of_other_rows_or_components_is_refused(fitted: ParametricUMAP) -> None:
    with pytest.raises(ValueError, match="guide must have the features of this fit, 9, got 64"):
        ParametricUMAP(guide=fitted, **FEW).fit(X[:, :9])
    with pytest.raises(ValueError, match="guide must have the components of this fit, 3, got 2"):
        ParametricUMAP(guide=fitted, n_components=3, **FEW).fit(X)
    free = ParametricUMAP(parametric_embedding=False, n_epochs=1, **FEW).fit(X)
    with pytest.raises(ValueError, match=r"guide must be a fitted .* without an encoder"):
        ParametricUMAP(guide=free, **FEW).fit(X)


@pytest.mark.parametrize(
    ("parameters", "fit"),
    [
        ({"densmap": True}, {}),
        ({"classifier_loss_weight": 1.0}, {"y": Y}),
        ({"global_correlation_loss_weight": 1.0}, {}),
        ({"autoencoder_loss": True, "parametric_reconstruction": True}, {}),
    ],
    ids=lambda value: next(iter(value), ""),
)
def test_a_guide_next_to_another_term_is_refused(
    parameters: dict[str, Any], fit: dict[str, Any], fitted: ParametricUMAP
) -> None:
    name = next(iter(parameters))
    with pytest.raises(ValueError, match=f"guide must be 'auto' or None together with {name}"):
        ParametricUMAP(guide=fitted, **parameters, **FEW).fit(X, **fit)


def test_a_model_with_a_guide_is_copied_and_saved(fitted: ParametricUMAP, tmp_path: Path) -> None:
    model = ParametricUMAP(guide=fitted, n_epochs=1, **SMALL, **FEW)
    assert clone(model).guide is fitted  # a clone of a guide would not be fitted
    model.fit(X)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied.transform(X), model.transform(X))
        np.testing.assert_array_equal(copied.guide.transform(X), fitted.transform(X))
    with pytest.warns(UserWarning, match=r"(?s)Left out of the saved model.*guide: "):
        model.save(tmp_path / "model.neumap")
    read = load(tmp_path / "model.neumap")
    assert read.guide is None
    np.testing.assert_array_equal(read.transform(X), model.transform(X))


def test_update_continues_without_the_guide(fitted: ParametricUMAP) -> None:
    model = ParametricUMAP(guide=fitted, n_epochs=1, **SMALL, **FEW).fit(X[:200])
    model.update(X[200:])
    assert model.report_["guide"] == "none: the fit keeps given positions"


# ---- with what else there is ----


def test_a_decoder_leaves_the_embedding_as_it_is() -> None:
    alone = ParametricUMAP(encoder=conv_net(), guide="auto", **SMALL, **FEW).fit(X)
    model = ParametricUMAP(
        encoder=conv_net(), guide="auto", parametric_reconstruction=True, **SMALL, **FEW
    ).fit(X)
    np.testing.assert_allclose(model.embedding_, alone.embedding_, atol=1e-4)
    assert np.isfinite(model.history_["reconstruction_loss"]).all()


def test_the_time_limit_holds_for_both_networks() -> None:
    steps: list[float] = []
    note = LambdaCallback(on_fit_start=lambda run: steps.append(run.plan.max_time))
    model = ParametricUMAP(
        encoder=conv_net(),
        guide="auto",
        max_time=1.5,
        callbacks=[note],
        n_training_epochs=1000,
        **SMALL,
        **FEW,
    ).fit(X)
    assert model.report_["guide"] == "trained first"
    assert model.report_["n_steps"] < 16_000  # which take minutes
    assert model.report_["training_seconds"] < 30.0
    assert 0.0 < steps[0] < 1.5  # what the guide has left


def test_one_bar_shows_both_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    bar, seen = ProgressBar(tqdm_kwds={"mininterval": 0.0, "ncols": 90}), []
    original = bar._show

    def watch(run: Any) -> None:
        original(run)
        seen.append((id(bar._bar), float(bar._bar.n), float(bar._bar.total)))

    bar._show = watch  # type: ignore[method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ParametricUMAP(encoder=conv_net(), guide="auto", callbacks=[bar], **SMALL, **FEW).fit(X)
    bars, done, totals = zip(*seen, strict=True)
    assert len(set(bars)) == 1
    assert set(totals) == {100.0}
    assert list(done) == sorted(done)
    assert done[-1] == pytest.approx(100.0)
    assert 0 < done[0] < 1
    assert bar._bar is None
    assert "%" in capsys.readouterr().err


def test_a_keras_network_is_guided() -> None:
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    network = keras.Sequential(
        [
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            *(layers.Flatten(), layers.Dense(2)),
        ]
    )
    model = ParametricUMAP(encoder=network, guide="auto", dims=(8, 8, 1), **SMALL, **FEW).fit(X)
    assert model.report_["guide"] == "trained first"
    assert np.isfinite(model.embedding_).all()
    np.testing.assert_allclose(model.transform(X[:7]), model.embedding_[:7], atol=1e-3)
