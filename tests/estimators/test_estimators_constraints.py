"""Every parameter of both classes: wrong values are refused by name, right ones accepted."""

from __future__ import annotations

import inspect
import io
import math
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import UMAP, ParametricUMAP
from neumap.callbacks import Callback, EarlyStopping, LambdaCallback
from neumap.estimators import Preset
from neumap.keras_bridge.callbacks import KerasCallbacks

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(40, 4)).astype(np.float32)
Y = np.repeat([0, 1], 20)
POSITIONS = GENERATOR.normal(size=(40, 2)).astype(np.float32)
QUICK: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 2, "random_state": 0}
KINDS = [UMAP, ParametricUMAP]
SECONDS = 2.0


def names_of(kind: type[UMAP]) -> list[str]:
    return [name for name in inspect.signature(kind.__init__).parameters if name != "self"]


# Values of every wrong kind. A parameter lists those that are right for it.
VALUES: dict[str, Any] = {
    "text": "5",
    "bytes": b"x",
    "list": [],
    "dict": {},
    "set": {3},
    "object": object(),
    "class": int,
    "module": math,
    "NaN": math.nan,
    "infinity": math.inf,
    "numpy NaN": np.float32("nan"),
    "minus one": -1,
    "minus half": -0.5,
    "True": True,
    "numpy True": np.bool_(True),
    "None": None,
    "complex": 1j,
    "fraction": Fraction(1, 2),
    "too large for a float": 10**400,
    "array of no axis": np.array(5),
    "array": np.array([1, 2]),
    "tensor": torch.tensor(5),
    "tensor with a gradient": torch.ones((), requires_grad=True),
}

BOTH_TRUE = {"True", "numpy True"}
MAYBE: dict[str, set[str]] = {
    "column": {"text", "None"},
    "metric_kwds": {"dict", "None"},
    "output_metric_kwds": {"dict", "None"},
    "target_metric_kwds": {"dict", "None"},
    "tqdm_kwds": {"dict", "None"},
    "keras_fit_kwargs": {"dict", "None"},
    "n_epochs": {"None", "too large for a float"},
    "n_jobs": {"minus one", "None", "too large for a float"},
    "target_n_neighbors": {"minus one"},
    "verbose": BOTH_TRUE,
    "low_memory": BOTH_TRUE,
    "angular_rp_forest": BOTH_TRUE,
    "force_approximation_algorithm": BOTH_TRUE,
    "unique": BOTH_TRUE,
    "densmap": BOTH_TRUE,
    "output_dens": BOTH_TRUE,
    "parametric_embedding": BOTH_TRUE,
    "parametric_reconstruction": BOTH_TRUE,
    "autoencoder_loss": BOTH_TRUE,
    "callbacks": {"None", "list"},
}
OPTIONAL = {
    "a", "b", "random_state", "disconnection_distance", "precomputed_knn", "batch_size",
    "optimizer", "max_time", "dims", "encoder", "decoder", "parametric_reconstruction_loss_fcn",
    "reconstruction_validation", "landmark_loss_fn", "reconstruction_rows", "guide", "n_anchors",
}  # fmt: skip
# Integers have no upper bound.
WHOLE = {
    "n_neighbors", "n_components", "random_state", "target_n_neighbors", "transform_seed",
    "verbose", "batch_size", "n_training_epochs", "loss_report_frequency", "reconstruction_rows",
    "n_anchors",
}  # fmt: skip

# What else has to be set for a parameter to be looked at.
BESIDE: dict[str, dict[str, Any]] = {
    "decoder": {"parametric_reconstruction": True},
    "parametric_reconstruction_loss_fcn": {"parametric_reconstruction": True},
    "reconstruction_validation": {"parametric_reconstruction": True},
    "reconstruction_rows": {"parametric_reconstruction": True},
    "tqdm_kwds": {"verbose": True},
    "autoencoder_loss": {"parametric_reconstruction": True},
}


def model_of(kind: type[UMAP], name: str, value: Any) -> UMAP:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    return kind(**{**QUICK, **preset, **BESIDE.get(name, {}), name: value})


def wrong_values() -> Iterator[Any]:
    for kind in KINDS:
        for name in names_of(kind):
            right = MAYBE.get(name, {"None"} if name in OPTIONAL else set())
            right = right | {"too large for a float"} if name in WHOLE else right
            for label in VALUES:
                if label not in right:
                    yield pytest.param(
                        kind, name, VALUES[label], id=f"{kind.__name__}-{name}-{label}"
                    )


def is_refused(model: UMAP, pattern: str, **fit: Any) -> None:
    began = time.process_time()  # not the wall's: other tests run at the same time
    with pytest.raises((ValueError, TypeError), match=pattern):
        model.fit(X, Y, **fit)
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize(("kind", "name", "value"), list(wrong_values()))
def test_values_of_a_wrong_kind_are_refused_by_name(
    kind: type[UMAP], name: str, value: Any, no_search: type[Exception]
) -> None:
    is_refused(model_of(kind, name, value), rf"\b{name}\b")


# ------------------------------------------------------------------ wrong in themselves


def knn(indices: Any = None, distances: Any = None) -> tuple[Any, Any]:
    rows = np.arange(40)[:, None]
    found = (rows + np.arange(6)) % 40 if indices is None else indices
    lengths = np.broadcast_to(np.arange(6.0), (40, 6)).copy() if distances is None else distances
    return found, lengths


def with_entry(value: float, part: int) -> tuple[Any, Any]:
    arrays = [np.array(array) for array in knn()]
    arrays[part][3, 2] = value
    return arrays[0], arrays[1]


def scheduler_class() -> type:
    return torch.optim.lr_scheduler.StepLR


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown metric": ({"metric": "foobar"}, "metric must be a function of two rows or one of"),
    "p of text": (
        {"metric": "minkowski", "metric_kwds": {"p": "x"}},
        "metric_kwds must hold .*minkowski.*p must be a number above 0, got 'x'",
    ),
    "p of zero": ({"metric": "minkowski", "metric_kwds": {"p": 0}}, "metric_kwds .*above 0, got 0"),
    "p of NaN": ({"metric": "minkowski", "metric_kwds": {"p": math.nan}}, "metric_kwds .*above 0"),
    "weights of text": (
        {"metric": "weighted_minkowski", "metric_kwds": {"w": "x"}},
        "metric_kwds must hold",
    ),
    "too few weights": (
        {"metric": "weighted_minkowski", "metric_kwds": {"w": [1.0, 2.0]}},
        "metric_kwds must be arguments of metric 'weighted_minkowski' that fit the rows.*rows of 4",
    ),
    "too few variances": (
        {"metric": "seuclidean", "metric_kwds": {"V": np.ones(3)}},
        "metric_kwds must be arguments of metric 'seuclidean'",
    ),
    "no inverse": (
        {"metric": "mahalanobis", "metric_kwds": {"VI": -np.eye(4)}},
        "metric_kwds must hold the arguments of metric 'mahalanobis'",
    ),
    "metric of one row": ({"metric": np.linalg.norm}, "metric must be a function of two rows"),
    "metric without a number": ({"metric": lambda a, b: None}, "metric must be a function of two"),
    "metric that is NaN": (
        {"metric": lambda a, b: math.nan},
        "metric must give numbers of zero or more, got nan",
    ),
    "arguments of a function": (
        {"metric": lambda a, b: 1.0, "metric_kwds": {"power": 2}},
        "metric must be a function.*unexpected keyword argument 'power'",
    ),
    "unknown target metric": ({"target_metric": "foobar"}, "target_metric must be a function"),
    "target arguments": (
        {"target_metric": "minkowski", "target_metric_kwds": {"p": "x"}},
        "target_metric_kwds must hold the arguments of metric 'minkowski'",
    ),
    "target function": ({"target_metric": lambda a, b: None}, "target_metric must be a function"),
    "arguments of categories": (
        {"target_metric_kwds": {"p": 2}},
        "target_metric_kwds of 'categorical' must hold no arguments",
    ),
    "optimizer class": ({"optimizer": int}, "optimizer must be .* got the class int"),
    "scheduler": ({"optimizer": scheduler_class()}, "optimizer must be .* got the class StepLR"),
    "network as optimizer": ({"optimizer": nn.Linear(2, 2)}, "optimizer must be .* got Linear"),
    "network class": ({"optimizer": nn.Linear}, "optimizer must be .* got the class Linear"),
    "LBFGS": ({"optimizer": torch.optim.LBFGS}, "optimizer must take a step.*got LBFGS"),
    "sparse Adam": ({"optimizer": torch.optim.SparseAdam}, "optimizer must take a step"),
    "no neighbours": ({"precomputed_knn": []}, r"precomputed_knn must be \(indices, distances\)"),
    "half of the neighbours": ({"precomputed_knn": (None, X)}, "precomputed_knn must hold"),
    "rows that do not exist": ({"precomputed_knn": with_entry(40, 0)}, r"precomputed_knn\[0\] mu"),
    "rows below -1": (
        {"precomputed_knn": with_entry(-2, 0)},
        r"precomputed_knn\[0\] must hold row",
    ),
    "other shapes": (
        {"precomputed_knn": (knn()[0], knn()[1][:, :3])},
        "precomputed_knn must hold t",
    ),
    "one axis": ({"precomputed_knn": (knn()[0][0], knn()[1][0])}, "precomputed_knn must hold two"),
    "NaN distance": ({"precomputed_knn": with_entry(math.nan, 1)}, r"precomputed_knn\[1\] must h"),
    "negative distance": ({"precomputed_knn": with_entry(-1.0, 1)}, r"precomputed_knn\[1\].*-1\.0"),
    "swapped": ({"precomputed_knn": knn()[::-1]}, "precomputed_knn must hold integer indices"),
    "ragged": ({"precomputed_knn": ([[0, 1], [1]], [[0.0], [1.0]])}, "precomputed_knn .*unequal"),
    "text for neighbours": ({"precomputed_knn": ("ab", "cd")}, "precomputed_knn must hold two"),
    "meta": ({"device": "meta"}, "device must be one that .* compute on, got 'meta'"),
    "card 99": (
        {"device": "cuda:99"},
        r"device must be (one that torch finds|below 'cuda:\d+' on this machine), got 'cuda:99'",
    ),
    "number of a card": ({"device": 3}, "device must be 'auto'.* got 3"),
    "other maker": ({"device": "xpu"}, "device must be one that .* compute on, got 'xpu'"),
    "unknown argument of the bar": (
        {"verbose": True, "tqdm_kwds": {"colums": 3}},
        "tqdm_kwds must hold arguments of tqdm.tqdm, got {'colums': 3}",
    ),
    "wrong argument of the bar": (
        {"verbose": True, "tqdm_kwds": {"bar_format": 3}},
        "tqdm_kwds must hold arguments of tqdm.tqdm",
    ),
    "number as callback": ({"callbacks": [3]}, "callbacks"),
    "class as callback": ({"callbacks": [EarlyStopping]}, "callbacks"),
    "function as callback": ({"callbacks": print}, "callbacks"),
    "generator of callbacks": ({"callbacks": (c for c in [Callback()])}, "callbacks"),
    "no time": ({"max_time": 0}, "max_time must be a number above 0"),
    "init of other rows": ({"init": POSITIONS[:9]}, "init must"),
    "init with NaN": ({"init": np.full((40, 2), np.nan)}, "init must"),
    "init of text": ({"init": np.full((40, 2), "x")}, "init must"),
    "init with a gradient": (
        {"init": torch.from_numpy(POSITIONS[:9]).requires_grad_(True)},
        "init must",
    ),
}

PARAMETRIC: dict[str, tuple[dict[str, Any], str]] = {
    "other dims": ({"dims": (5,)}, "dims must fit the rows of X"),
    "no dims": ({"dims": ()}, "dims must be a tuple of positive integers"),
    "dims of text": ({"dims": "22"}, "dims must be a tuple of positive integers"),
    "dims of zero": ({"dims": (4, 0)}, "dims must be a tuple of positive integers"),
    "images that are none": (
        {"encoder": "conv"},
        r"dims must be \(height, width\) or .*, got \(4,\)\. Pass",
    ),
    "unknown preset": ({"preset": "slow"}, "preset must be one of"),
    "preset beside no network": (
        {"preset": "slow", "parametric_embedding": False},
        "preset must be one of",
    ),
    "unknown encoder": ({"encoder": "transformer"}, "encoder must be one of"),
    "unknown argument of Keras": ({"keras_fit_kwargs": {"epochs": 3}}, "keras_fit_kwargs"),
    "unknown loss": (
        {"parametric_reconstruction_loss_fcn": "cosine"},
        "parametric_reconstruction_loss_fcn must be one of",
    ),
    "no labels": ({"classifier_loss_weight": 1.0}, "classifier_loss_weight needs labels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_values_that_are_wrong_in_themselves(name: str, no_search: type[Exception]) -> None:
    parameters, message = WRONG[name]
    is_refused(UMAP(**{**QUICK, **parameters}), f"(?s){message}")


@pytest.mark.parametrize("name", PARAMETRIC)
def test_values_that_are_wrong_for_a_network(name: str, no_search: type[Exception]) -> None:
    parameters, message = PARAMETRIC[name]
    model = ParametricUMAP(**{"preset": "fast", **QUICK, **parameters})
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        model.fit(X)


# What a loss returns of (y_true, y_pred), and what the message says.
BAD_LOSSES: dict[str, tuple[Any, str]] = {
    "nothing": (lambda true, guess: None, "got"),
    "a number": (lambda true, guess: 3.0, "got"),
    "numpy": (lambda true, guess: guess.detach().numpy(), "got"),
    "no gradient": (lambda true, guess: (true - guess).detach(), "without a gradient"),
    "of the truth alone": (lambda true, guess: true.square(), "without a gradient"),
    "columns": (lambda true, guess: (true - guess).square().mean(0), r"for each of 8 rows, got sh"),
    "some rows": (lambda true, guess: (true - guess)[:5].square(), r"for each of 8 rows, got sha"),
    "text": (lambda true, guess: "0.5", "got"),
    "one argument": (lambda true: true, "takes 1 positional argument but 2 were given"),
    "fails": (lambda true, guess: [][0], "IndexError"),
}


@pytest.mark.parametrize("name", BAD_LOSSES)
def test_losses_are_tried_before_the_search(name: str, no_search: type[Exception]) -> None:
    loss, message = BAD_LOSSES[name]
    model = ParametricUMAP(
        preset="fast", **QUICK, parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn=loss,
    )  # fmt: skip
    is_refused(model, f"(?s)parametric_reconstruction_loss_fcn must.*{message}")
    keeping = ParametricUMAP(preset="fast", **QUICK, landmark_loss_fn=loss)
    is_refused(
        keeping, f"(?s)landmark_loss_fn must.*{message}", landmark_positions=POSITIONS.copy()
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (X[:, :3], "3 features"),
        (X[0], "Expected 2D array"),
        (np.full((3, 4), np.nan), "contains NaN"),
        ("rows.npy", "got the name"),
        (3, "Expected 2D"),
    ],
)
def test_validation_rows_are_named(rows: Any, message: str, no_search: type[Exception]) -> None:
    model = model_of(ParametricUMAP, "reconstruction_validation", rows)
    is_refused(model, f"(?s)reconstruction_validation must hold rows like X: .*{message}")


def test_a_bar_that_is_not_shown_takes_any_arguments() -> None:
    UMAP(**QUICK, tqdm_kwds={"colums": 3}).fit(X)


def test_arguments_of_the_bar_that_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    UMAP(**QUICK, verbose=True, tqdm_kwds={"file": out, "desc": "here"}).fit(X)
    assert "here" in out.getvalue()
    assert capsys.readouterr().err == ""  # nothing of the trial


@pytest.mark.parametrize("kind", KINDS)
def test_a_factory_that_makes_no_optimiser_is_named(
    kind: type[UMAP], no_search: type[Exception]
) -> None:
    nothing = model_of(kind, "optimizer", lambda parameters: None)
    is_refused(nothing, r"optimizer must return an optimiser .* got None")
    fails = model_of(kind, "optimizer", lambda p: torch.optim.SGD(p, 0.1, momentum=None))
    is_refused(fails, r"optimizer must make an optimiser.*TypeError: .*")


@pytest.mark.parametrize("kind", KINDS)
def test_a_factory_is_tried_on_parameters_like_those_it_gets(kind: type[UMAP]) -> None:
    asked: list[list[Tensor]] = []

    def factory(parameters: Any) -> Any:
        asked.append(list(parameters))
        return torch.optim.SGD(asked[-1], lr=0.1)

    model_of(kind, "optimizer", factory).fit(X)
    tried, trained = asked
    if kind is UMAP:
        assert [p.shape for p in tried] == [p.shape for p in trained] == [(40, 2)]
    assert {id(p) for p in tried}.isdisjoint(map(id, trained))
    asked.clear()
    model_of(kind, "optimizer", factory).set_params(n_epochs=0).fit(X)
    assert asked == []


@pytest.mark.parametrize("loss", [None, "mse", lambda true, guess: (true - guess).square()])
def test_rows_too_large_to_square_are_refused_before_the_search(
    loss: Any, no_search: type[Exception]
) -> None:
    model = model_of(ParametricUMAP, "parametric_reconstruction_loss_fcn", loss)
    pattern = "reconstruction.* finite numbers" if callable(loss) else r"X must be within ±1e\+15"
    with pytest.raises(ValueError, match=pattern):
        model.fit(X * np.float32(1e30))
    with pytest.raises(no_search):
        model.fit(X)


def test_rows_that_can_be_squared_are_trained_on() -> None:
    model = model_of(ParametricUMAP, "parametric_reconstruction_loss_fcn", "mse")
    with pytest.warns(UserWarning, match="ordinary size for a decoder of neumap.*Standardise X"):
        model.fit(X / np.abs(X).max() * np.float32(9.9e14))
    assert np.isfinite(model.history_["reconstruction_loss"]).all()


def test_callbacks_of_keras_are_wrapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    start = KerasCallbacks.__init__

    def counted(self: KerasCallbacks, *arguments: Any) -> None:
        made.append(self)
        start(self, *arguments)

    monkeypatch.setattr(KerasCallbacks, "__init__", counted)
    epochs: list[int] = []
    given = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    for name, value in (("callbacks", [given]), ("keras_fit_kwargs", {"callbacks": [given]})):
        made.clear()
        epochs.clear()
        model = model_of(ParametricUMAP, name, value).fit(X)
        assert len(made) == 1
        assert epochs == list(range(len(model.history_["loss"])))


# ------------------------------------------------------------------ right values


def squared(true: Tensor, guess: Tensor) -> Tensor:
    return (true - guess).square()


RIGHT: dict[str, list[Any]] = {
    "metric": ["l1", "cosine", "precomputed", lambda a, b: float(np.abs(a - b).sum())],
    "output_metric": ["euclidean", "l2"],
    "n_epochs": [0, 3, np.int64(3), None],
    "n_jobs": [1, -1, None],
    "init": ["spectral", "random", "pca", POSITIONS, POSITIONS.tolist(), torch.tensor(POSITIONS)],
    "random_state": [np.int32(4), np.random.RandomState(0), np.random.default_rng(0), None],
    "target_metric": ["l2", "ordinal", "count", lambda a, b: float(np.abs(a - b).sum())],
    "transform_mode": ["graph", "embedding"],
    "verbose": [0, 1, 2],
    "precomputed_knn": [(None, None, None), knn(), [*knn()], (*knn(), object())],
    "optimizer": ["adam", "SGD", torch.optim.AdamW, lambda p: torch.optim.SGD(p, lr=0.1)],
    "callbacks": [Callback(), [], [Callback(), [LambdaCallback()]], EarlyStopping()],
    "device": ["cpu", "auto", torch.device("cpu")],
    "max_time": [1, 0.5, np.float64(2)],
    "dims": [(4,), [2, 2], (2, 2, 1), torch.Size([4])],
    "encoder": ["mlp", "residual", nn.Linear(4, 2)],
    "decoder": [nn.Linear(2, 4)],
    "parametric_reconstruction_loss_fcn": ["mse", "MAE", "huber", squared, nn.MSELoss()],
    "reconstruction_validation": [X[:3], X[:3].tolist()],
    "landmark_loss_fn": [squared],
    "reconstruction_rows": ["auto", None, 5],
    "guide": ["auto", None],
    "keras_fit_kwargs": [{"verbose": 0}, {"callbacks": []}],
    "preset": ["fast", "best", Preset((8,), 20, 64, 1e-3)],
    "metric_kwds": [{}],
    "tqdm_kwds": [{"ncols": 60}],
    "n_components": [1, 3, np.uint8(2)],
    "column": ["vector", None],
}


def as_numpy(value: Any) -> list[Any]:
    """The same value as numpy's scalars; integers also serve as real numbers."""
    if isinstance(value, bool):
        return [np.bool_(value), not value]
    if isinstance(value, int):
        return [np.int16(value), np.int64(value)]
    if isinstance(value, float):
        return [
            np.float32(value),
            np.float64(value),
            *([int(value)] if value == int(value) else []),
        ]
    return []


def right_values() -> Iterator[Any]:
    for kind in KINDS:
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if name == "self":
                continue
            given = [parameter.default, *as_numpy(parameter.default), *RIGHT.get(name, [])]
            for number, value in enumerate(given):
                if not (name == "init" and kind is ParametricUMAP and number):
                    yield pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{number}")


@pytest.mark.filterwarnings("ignore:.*has no effect while:UserWarning")
@pytest.mark.parametrize(("kind", "name", "value"), list(right_values()))
def test_right_values_reach_the_search(
    kind: type[UMAP], name: str, value: Any, no_search: type[Exception]
) -> None:
    beside = {"a": {"b": 0.9}, "b": {"a": 1.6}}.get(name, {}) if value is not None else {}
    model = model_of(kind, name, value).set_params(**beside)
    if name == "precomputed_knn" and value is not None and value[0] is not None:
        model.fit(X)  # nothing is searched for
        return
    with pytest.raises(no_search):
        model.fit(np.abs(X @ X.T) if isinstance(value, str) and value == "precomputed" else X, Y)


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_scalars_give_the_same_map(kind: type[UMAP]) -> None:
    defaults = {n: p.default for n, p in inspect.signature(kind.__init__).parameters.items()}
    scalars = {n: as_numpy(v)[-1 if isinstance(v, int) else 1] for n, v in defaults.items()
               if as_numpy(v) and not isinstance(v, bool)}  # fmt: skip
    assert len(scalars) > 15
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    plain = kind(**QUICK, **preset).fit_transform(X)
    as_scalars = kind(**{**scalars, **{n: np.int64(v) for n, v in QUICK.items()}, **preset})
    np.testing.assert_array_equal(as_scalars.fit_transform(X), plain)


def test_every_message_says_what_to_do() -> None:
    for kind in KINDS:
        for name in names_of(kind):
            model = model_of(kind, name, object())
            with pytest.raises((ValueError, TypeError)) as caught:
                model.fit(X, Y)
            message = str(caught.value)
            assert re.search(r"got|Expected", message), message
            assert re.search(r"\. [A-Z][^.]+", message), message  # a sentence after the first
