"""Penalties of networks: of PyTorch modules and of Keras models, alone and in a whole fit."""

from __future__ import annotations

import copy
import os
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import ParametricUMAP
from neumap.estimators import PRESETS
from neumap.losses import regularization_term
from neumap.losses.terms import Batch

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
if keras.config.backend() != "torch":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)

# keras imports and compares numpy's deprecated spellings in some versions
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")

layers, regularizers = keras.layers, keras.regularizers

N_ROWS = 100
CLEAN = replace(PRESETS["fast"], input_noise=0.0)  # the network sees the rows themselves
DATA = np.random.default_rng(0).normal(size=(N_ROWS, 5)).astype(np.float32)
BATCH = Batch(torch.arange(4), None, torch.zeros(4, 2), progress=0.0)


class Lasso(nn.Linear):
    def regularization(self) -> Tensor:
        return 0.5 * self.weight.abs().sum()


def dense(n_outputs: int, n_inputs: int, **settings: Any) -> Any:
    """One Keras layer with the same weights at each call."""
    start = keras.initializers.RandomNormal(stddev=0.5, seed=1)
    layer = layers.Dense(n_outputs, kernel_initializer=start, **settings)
    return keras.Sequential([keras.Input((n_inputs,)), layer])


def encoder(**settings: Any) -> Any:
    return dense(2, 5, **settings)


def decoder(**settings: Any) -> Any:
    return dense(5, 2, **settings)


def fitted(
    y: Any = None, *, learning_rate: float = 0.05, batch_size: int = 30, **settings: Any
) -> Any:
    model = ParametricUMAP(
        n_neighbors=5,
        n_epochs=3,
        random_state=0,
        batch_size=batch_size,
        optimizer=keras.optimizers.SGD(learning_rate),
        **settings,
    )
    return model.fit(DATA, y)


def l2(model: Any, strength: float) -> float:
    """The penalty of one layer's matrix, by hand."""
    return strength * float(np.square(model.weights[0].value.detach().numpy()).sum())


# --- the term ---


def test_penalties_of_networks_are_added_up() -> None:
    first, second = Lasso(3, 2), Lasso(2, 3)
    term = regularization_term([first, None, nn.Linear(2, 2), second, first])
    assert term is not None
    expected = 0.5 * sum(np.abs(net.weight.detach().numpy()).sum() for net in (first, second))
    value = term(BATCH)
    assert value.item() == pytest.approx(float(expected))
    assert (term.name, term.weight, term.modules) == ("regularization_loss", 1.0, {})
    value.backward()
    assert torch.equal(first.weight.grad, 0.5 * first.weight.detach().sign())


def test_no_penalty_no_term() -> None:
    class Named(nn.Linear):
        regularization = "none"

    assert regularization_term([None, nn.Linear(2, 2), Named(2, 2)]) is None


def test_a_torch_encoder_may_have_a_penalty() -> None:
    def lasso() -> Lasso:
        torch.manual_seed(0)
        return Lasso(5, 2)

    plain = nn.Linear(5, 2)
    plain.load_state_dict(lasso().state_dict())
    with_penalty, without = fitted(encoder=lasso()), fitted(encoder=plain)
    assert "regularization_loss" not in without.history_
    assert with_penalty.encoder_.weight.abs().sum() < without.encoder_.weight.abs().sum()


# --- Keras models in a fit ---


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_weight_penalties_stand_in_the_history_and_in_the_loss(role: str) -> None:
    """At a learning rate of 0 the weights stay, so the value is known."""
    make = {"encoder": encoder, "decoder": decoder}[role]
    networks = {"encoder": encoder(), "decoder": decoder()}
    networks[role] = make(kernel_regularizer=regularizers.L2(0.25))
    found = fitted(learning_rate=0.0, parametric_reconstruction=True, **networks).history_
    expected = l2(networks[role], 0.25)
    assert expected > 0.1
    assert found["regularization_loss"] == pytest.approx([expected] * 10)
    for loss, *terms in zip(
        *(
            found[name]
            for name in ("loss", "umap_loss", "reconstruction_loss", "regularization_loss")
        ),
        strict=True,
    ):
        assert loss == pytest.approx(sum(terms), rel=1e-5)


def test_a_penalty_on_weights_changes_the_map() -> None:
    none, weak, strong = (
        fitted(encoder=encoder(kernel_regularizer=penalty))
        for penalty in (None, regularizers.L2(0.0), regularizers.L2(5.0))
    )
    assert np.array_equal(none.embedding_, weak.embedding_)
    assert np.square(strong.embedding_).mean() < 0.5 * np.square(weak.embedding_).mean()
    assert "regularization_loss" not in none.history_
    assert weak.history_["regularization_loss"] == [0.0] * 10


def test_a_penalty_on_activities_is_that_of_the_batch_once() -> None:
    """A batch longer than the data encodes each row once; the classifier visits 64 rows more."""
    few = np.where(np.arange(N_ROWS) % 10 == 0, np.arange(N_ROWS) % 20 == 0, -1)
    model = fitted(
        few,
        learning_rate=0.0,
        batch_size=N_ROWS,
        preset=CLEAN,
        encoder=encoder(activity_regularizer=regularizers.L2(0.5)),
        classifier_loss_weight=1.0,
    )
    expected = 0.5 * np.square(model.embedding_).sum() / N_ROWS  # Keras divides by the batch
    assert model.history_["regularization_loss"] == pytest.approx([expected] * 10, rel=1e-4)


def test_a_penalty_on_activities_changes_the_map() -> None:
    weak, strong = (
        fitted(encoder=encoder(activity_regularizer=regularizers.L2(strength)))
        for strength in (0.0, 0.5)
    )
    assert np.square(strong.embedding_).mean() < 0.5 * np.square(weak.embedding_).mean()


@pytest.mark.parametrize("kind", ["kernel_regularizer", "activity_regularizer"])
def test_a_penalty_of_the_decoder_acts_on_the_decoder_alone(kind: str) -> None:
    weak, strong = (
        fitted(
            encoder=encoder(),
            decoder=decoder(**{kind: regularizers.L2(strength)}),
            parametric_reconstruction=True,
        )
        for strength in (0.0, 0.02 if kind == "activity_regularizer" else 5.0)
    )
    assert np.array_equal(weak.embedding_, strong.embedding_)
    sizes = [l2(model.decoder_.model, 1.0) for model in (weak, strong)]
    assert sizes[1] < 0.9 * sizes[0]


@keras.saving.register_keras_serializable("neumap_tests")
class AddsInTraining(layers.Layer):  # type: ignore[misc]
    """Adds a loss of its own, in training only."""

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.add_loss(0.5 * keras.ops.sum(x * x))
        return x


def test_losses_that_a_layer_adds_in_training_count() -> None:
    model = keras.Sequential([*encoder().layers, AddsInTraining()])
    found = fitted(learning_rate=0.0, batch_size=N_ROWS, encoder=model, preset=CLEAN)
    expected = 0.5 * np.square(found.embedding_).sum()
    assert found.history_["regularization_loss"] == pytest.approx([expected] * 10, rel=1e-4)


def test_a_fitted_model_with_penalties_can_be_copied() -> None:
    model = fitted(
        encoder=encoder(activity_regularizer=regularizers.L2(0.1)),
        decoder=decoder(activity_regularizer=regularizers.L2(0.001)),
        parametric_reconstruction=True,
    )
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(copied.transform(DATA), model.transform(DATA))
        assert np.array_equal(
            copied.inverse_transform(model.embedding_), model.inverse_transform(model.embedding_)
        )
