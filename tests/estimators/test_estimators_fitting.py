"""The path of a fit: refused before the search, and the model whole or unchanged."""

from __future__ import annotations

import copy
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import neumap.estimators.fitting as fitting
from neumap import UMAP, ParametricUMAP
from neumap.callbacks import Callback, TrainingRun
from neumap.estimators.fitted import FIELDS
from neumap.training import TrainingDivergedError

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 6)).astype(np.float32) + np.repeat([[0.0], [4.0]], 30, axis=0)
X = X.astype(np.float32)
Y = np.repeat([0, 1], 30)
FRAME = pd.DataFrame(X, columns=list("abcdef"))
QUICK: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 2, "random_state": 0}


def quick(kind: type[UMAP], **parameters: Any) -> UMAP:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    return kind(**{**QUICK, **preset, **parameters})


# ------------------------------------------------------------------ before the search


def test_a_right_setting_reaches_the_search(no_search: type[Exception]) -> None:
    with pytest.raises(no_search):
        quick(ParametricUMAP).fit(X)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "preset": ({"preset": "slow"}, "preset must be one of"),
    "optimizer": ({"optimizer": "gradient"}, "optimizer must be one of"),
    "optimizer class": ({"optimizer": int}, "got the class int"),
    "init": ({"init": "spectral"}, "init must be 'auto' for an encoder"),
    "encoder": ({"encoder": "transformer"}, "encoder must be one of"),
    "width": ({"encoder": torch.nn.Linear(6, 3)}, "n_components=3"),
    "rows": ({"encoder": torch.nn.Linear(5, 2)}, "must take float32 rows of shape"),
    "decoder": (
        {"parametric_reconstruction": True, "decoder": torch.nn.Linear(2, 5)},
        "decoder must give one row",
    ),
    "loss": (
        {"parametric_reconstruction": True, "parametric_reconstruction_loss_fcn": "bce"},
        "must be within \\[0, 1\\]",
    ),
    "classifier": ({"classifier_loss_weight": 1.0}, "classifier_loss_weight needs labels"),
    "keras_fit_kwargs": ({"keras_fit_kwargs": {"epochs": 3}}, "use n_training_epochs"),
    "validation": ({"reconstruction_validation": X}, "needs an encoder and a decoder"),
    "validation rows": (
        {"parametric_reconstruction": True, "reconstruction_validation": X[:, :3]},
        "3 features",
    ),
    "callbacks": ({"callbacks": [3]}, "callbacks"),
    "metric": ({"metric": "foobar"}, "metric must be"),
    "metric_kwds": ({"metric": "cosine", "metric_kwds": {"p": 3}}, "metric_kwds"),
    "switch": ({"densmap": "no"}, "densmap must be True or False"),
    "dims": ({"dims": (5,)}, r"dims must fit the rows.*got \(5,\)"),
    "init array": (
        {"parametric_embedding": False, "init": np.zeros((60, 3))},
        r"shape \(60, 2\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_refused_before_the_search(
    name: str, no_search: type[Exception]
) -> None:
    parameters, message = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=message):
        quick(ParametricUMAP, **parameters).fit(X)


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        ({}, Y[:7], "one entry per row of X"),
        ({"target_metric": "foobar"}, Y, "metric must be"),
        ({"target_metric": "ordinal", "target_metric_kwds": {"p": 1}}, Y, "target_metric_kwds"),
        ({"target_metric": "count"}, Y - 0.5, "count"),
    ],
)
def test_wrong_targets_are_refused_before_the_search(
    parameters: dict[str, Any], y: Any, message: str, no_search: type[Exception]
) -> None:
    with pytest.raises(ValueError, match=message):
        quick(UMAP, **parameters).fit(X, y)


# ------------------------------------------------------------------ whole or not at all


class Raises(Callback):
    """Raises in the middle of the training."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_epoch_end(self, run: TrainingRun) -> None:
        raise self.error("in the middle")


class Broken(torch.nn.Module):
    """An encoder that returns NaN once it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(rows)
        return out * float("nan") if self.training else out


def no_memory(*args: Any, **kwargs: Any) -> Any:
    raise MemoryError("no memory for this")


Failure = tuple[dict[str, Any], Any, type[BaseException]]
FAILURES: dict[str, Failure] = {
    "wrong data": ({}, np.full((60, 6), np.nan), ValueError),
    "wrong parameter": ({"min_dist": 9.0}, X, ValueError),
    "wrong labels": ({}, (X, Y[:5]), ValueError),
    "callback": ({"callbacks": [Raises(RuntimeError)]}, X, RuntimeError),
    "Ctrl-C": ({"callbacks": [Raises(KeyboardInterrupt)]}, X, KeyboardInterrupt),
    "exit": ({"callbacks": [Raises(SystemExit)]}, X, SystemExit),
    "memory": ({"callbacks": [Raises(MemoryError)]}, X, MemoryError),
}
OF_NETWORKS: dict[str, Failure] = {
    "loss is NaN": ({"encoder": Broken()}, X, TrainingDivergedError),
    "network does not fit": ({"encoder": torch.nn.Linear(4, 2)}, X, ValueError),
}


def permuted(data: Any) -> Any:
    """The same data with named columns in another order, and moved: a model that took over only
    names or widths would place rows elsewhere."""
    if isinstance(data, tuple):
        return (pd.DataFrame(data[0][:, ::-1] + 50, columns=list("fedcba")), data[1])
    return (pd.DataFrame(data[:, ::-1] + 50, columns=list("fedcba")), None)


def check_unchanged(model: UMAP, refit: Callable[[], Any], error: type[BaseException]) -> None:
    before = model._model()
    placed = model.transform(FRAME)
    values = {name: copy.deepcopy(getattr(before, name)) for name in ("history", "report")}
    parameters = model.get_params()
    with pytest.raises(error):
        refit()
    model.set_params(**{k: v for k, v in parameters.items() if k in model.get_params()})
    assert model._model() is before
    assert {name: getattr(before, name) for name in values} == values
    assert model.feature_names_in_.tolist() == list("abcdef")
    np.testing.assert_array_equal(model.transform(FRAME), placed)


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
@pytest.mark.parametrize("name", [*FAILURES, *OF_NETWORKS])
def test_a_fit_that_fails_leaves_the_model_as_it_was(kind: type[UMAP], name: str) -> None:
    if kind is UMAP and name in OF_NETWORKS:
        pytest.skip("UMAP has no network")
    model = quick(kind).fit(FRAME)
    parameters, data, error = {**FAILURES, **OF_NETWORKS}[name]
    before = model.get_params()

    def refit() -> None:
        model.set_params(**parameters)
        try:
            model.fit(*permuted(data))
        finally:
            model.set_params(**before)

    check_unchanged(model, refit, error)


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
@pytest.mark.parametrize("step", ["_positions", "_report", "_of_graph", "_train"])
def test_a_failure_at_any_step_leaves_the_model_as_it_was(
    kind: type[UMAP], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quick(kind).fit(FRAME)

    def refit() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(fitting, step, no_memory)
            model.fit(*permuted(X))

    check_unchanged(model, refit, MemoryError)


@pytest.mark.parametrize("verb", ["update", "landmarks", "positions"])
def test_other_fits_that_fail_leave_the_model_as_it_was(verb: str) -> None:
    model = quick(ParametricUMAP).fit(FRAME)
    if verb == "landmarks":
        model.add_landmarks(FRAME, sample_pct=0.2)
    positions = np.full((60, 2), np.nan, dtype=np.float32)
    positions[0] = 1.0

    def refit() -> None:
        model.set_params(callbacks=[Raises(KeyboardInterrupt)])
        try:
            if verb == "update":
                model.update(FRAME)
            else:
                model.fit(FRAME, landmark_positions=positions if verb == "positions" else None)
        finally:
            model.set_params(callbacks=None)

    check_unchanged(model, refit, KeyboardInterrupt)
    if verb == "landmarks":
        assert model.fit(FRAME).report_["landmark_drift"]["n_landmarks"] == 12


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
def test_a_first_fit_that_fails_leaves_an_unfitted_model(kind: type[UMAP]) -> None:
    model = quick(kind, callbacks=[Raises(KeyboardInterrupt)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert vars(model).keys() == model.get_params().keys()
    assert not hasattr(model, "n_features_in_")


def test_a_reader_sees_the_old_model_or_the_new_one() -> None:
    """A transform in another thread never meets half of a fit."""
    model = quick(ParametricUMAP).fit(X)
    old = model.transform(X)
    other = quick(ParametricUMAP, random_state=1)
    new = other.fit(X).transform(X)
    faults: list[Any] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                placed = model.transform(X)
            except Exception as error:
                faults.append(error)
                return
            if not (np.array_equal(placed, old) or np.array_equal(placed, new)):
                faults.append("neither the old nor the new positions")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    model.set_params(random_state=1)
    for _ in range(3):
        model.fit(X)
    stop.set()
    for reader in readers:
        reader.join()
    assert faults == []
    np.testing.assert_array_equal(model.transform(X), new)


# ------------------------------------------------------------------ the shape of the path


def calls_of_a_fit(model: UMAP) -> list[str]:
    files: list[str] = []

    def watch(frame: Any, event: str, argument: Any) -> None:
        _, inside, name = frame.f_code.co_filename.partition("/neumap/estimators/")
        if event == "call" and inside:
            files.append(name)

    sys.setprofile(watch)
    try:
        model.fit(X)
    finally:
        sys.setprofile(None)
    return files


def test_a_fit_hardly_moves_between_the_two_classes() -> None:
    files = [f for f in calls_of_a_fit(quick(ParametricUMAP)) if f in ("umap.py", "parametric.py")]
    changes = sum(one != other for one, other in itertools.pairwise(files))
    assert changes < 5


def test_the_subclass_replaces_verbs_only() -> None:
    replaced = {name for name, value in vars(ParametricUMAP).items() if name in vars(UMAP)}
    hooks = {name for name in replaced if name.startswith("_") and not name.startswith("__")}
    hooks -= {name for name in hooks if "sklearn" in name}  # set by scikit-learn on any subclass
    assert hooks == {"_constraints", "_recipe_of"}  # two values, no method


# ------------------------------------------------------------------ what a fit learned


def test_setting_a_learned_attribute_takes_part_in_transform() -> None:
    model = quick(ParametricUMAP).fit(X)
    tuned = copy.deepcopy(model.encoder_)
    with torch.no_grad():
        next(iter(tuned.parameters())).mul_(1.5)
    before = model.transform(X)
    model.encoder_ = tuned
    assert not np.allclose(model.transform(X), before)


def test_a_learned_attribute_cannot_be_set_before_a_fit() -> None:
    with pytest.raises(AttributeError, match="can be set after fit only"):
        UMAP().embedding_ = X[:, :2]


def test_a_missing_attribute_says_why() -> None:
    with pytest.raises(AttributeError, match="this model is not fitted"):
        _ = UMAP().embedding_
    with pytest.raises(AttributeError, match="did not learn it"):
        _ = quick(ParametricUMAP).fit(X).decoder_


def test_every_field_is_documented() -> None:
    doc = fitting.Fitted.__doc__ or ""
    assert [name for name in FIELDS if name not in doc] == []
