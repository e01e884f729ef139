"""Copies of estimators that hold Keras objects."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from torch import nn

from neumap import UMAP, ParametricUMAP
from neumap.estimators.saving.copies import SETTINGS, cloned, deeply_copied

keras = pytest.importorskip("keras")
if keras.config.backend() != "torch":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")

ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Bare(keras.Model):  # type: ignore[misc, name-defined]
    """Has no get_config: Keras itself cannot copy it."""

    def __init__(self) -> None:
        super().__init__()
        self.out = keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.out(x)


def estimator() -> ParametricUMAP:
    encoder = Bare()
    encoder(ROWS)
    return ParametricUMAP(
        encoder=encoder,
        optimizer=keras.optimizers.SGD(0.5),
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn=keras.losses.MeanAbsoluteError(),
    )


COPIES = pytest.mark.parametrize("make", [cloned, lambda model: deeply_copied(model, {})])


@COPIES
def test_keras_objects_are_copied_with_their_weights(make: Any) -> None:
    model = estimator()
    expected = model.encoder.predict_on_batch(ROWS)
    copied = make(model)
    assert copied.encoder is not model.encoder
    np.testing.assert_array_equal(copied.encoder.predict_on_batch(ROWS), expected)
    for weight in copied.encoder.weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(model.encoder.predict_on_batch(ROWS), expected)
    assert copied.optimizer is not model.optimizer
    assert float(copied.optimizer.learning_rate) == 0.5
    loss = copied.parametric_reconstruction_loss_fcn
    assert isinstance(loss, keras.losses.MeanAbsoluteError)


@COPIES
def test_other_parameters_are_copied_as_scikit_learn_does(make: Any) -> None:
    given = nn.Linear(3, 2)
    model = ParametricUMAP(n_neighbors=7, encoder=given, metric_kwds={"p": 2})
    copied = make(model)
    assert type(copied) is ParametricUMAP
    assert copied.n_neighbors == 7
    assert copied.encoder is not given
    assert copied.metric_kwds == {"p": 2}
    assert copied.metric_kwds is not model.metric_kwds


def test_a_clone_is_not_fitted_and_a_deep_copy_is() -> None:
    model = UMAP()
    vars(model)["_fitted"] = ["what a fit learned"]
    assert "_fitted" not in vars(cloned(model))
    copied = deeply_copied(model, {})
    assert vars(copied)["_fitted"] == ["what a fit learned"]
    assert vars(copied)["_fitted"] is not vars(model)["_fitted"]


@COPIES
def test_settings_of_scikit_learn_are_taken_along(make: Any) -> None:
    model = UMAP().set_output(transform="default")
    copied = make(model)
    (name,) = [name for name in SETTINGS if name in vars(model)]
    assert vars(copied)[name] == vars(model)[name] == {"transform": "default"}
    assert vars(copied)[name] is not vars(model)[name]


def test_an_object_in_two_places_stays_one_in_a_deep_copy() -> None:
    model = estimator()
    pair = copy.deepcopy([model, model])
    assert pair[0] is pair[1]
    assert pair[0] is not model


def test_the_ordinary_functions_copy_these_estimators() -> None:
    model = estimator()
    for made in (clone(model), copy.deepcopy(model)):
        assert isinstance(made.encoder, Bare)
        assert made.encoder is not model.encoder
