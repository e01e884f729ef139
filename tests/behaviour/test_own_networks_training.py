"""Networks of the user train as the built-in ones do, and what the user adds to them acts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

os.environ.setdefault("KERAS_BACKEND", "torch")
from neumap import ParametricUMAP, load
from neumap.callbacks import Callback
from neumap.estimators.positions.presets import PRESETS, Preset
from neumap.training import Muon
from neumap.training.adam import FusedAdam

X = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
PRESET = replace(PRESETS["fast"], n_steps=20)


class Watch(Callback):
    """Keeps the optimiser and the parameters of a training."""

    def on_fit_end(self, run: Any) -> None:
        self.optimizer = run.optimizer
        self.names = set(run.state_dict())


def network(*before_last: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(20, 24), nn.ReLU(), *before_last, nn.Linear(24, 2))


def fitted(encoder: Any, preset: str | Preset = PRESET, **parameters: Any) -> ParametricUMAP:
    settings = {"n_neighbors": 5, "random_state": 0, **parameters}
    return ParametricUMAP(encoder=encoder, preset=preset, **settings).fit(X)


def keras_network() -> Any:
    keras = pytest.importorskip("keras")
    if keras.config.backend() != "torch":
        pytest.skip("Keras runs on another backend here")
    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((20,)), dense(24, activation="relu"), dense(2)])


KINDS: dict[str, Callable[[], Any]] = {"PyTorch": network, "Keras": keras_network}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("off", ["input_noise", "n_auxiliary"])
def test_noise_and_auxiliary_dimensions_act(kind: str, off: str) -> None:
    encoder = KINDS[kind]()
    with_it, without = fitted(encoder), fitted(encoder, replace(PRESET, **{off: 0}))
    assert np.abs(with_it.embedding_ - without.embedding_).max() > 1e-2
    # Neither is part of the network: positions are those of the rows themselves.
    np.testing.assert_allclose(with_it.transform(X), with_it.embedding_, atol=1e-5)
    again = fitted(encoder)
    np.testing.assert_array_equal(again.embedding_, with_it.embedding_)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
@pytest.mark.parametrize("kind", KINDS)
def test_matrices_get_orthogonal_steps(kind: str) -> None:
    watch = Watch()
    fitted(KINDS[kind](), callbacks=watch)
    assert isinstance(watch.optimizer, Muon)
    shape = (1, 24, 20) if kind == "PyTorch" else (1, 20, 24)  # Keras has inputs first
    assert [stack.momentum.shape for stack in watch.optimizer.stacks] == [shape]
    assert any("auxiliary" in name for name in watch.names)


def test_batch_normalisation_trains_with_adam() -> None:
    watch = Watch()
    fitted(network(nn.BatchNorm1d(24)), callbacks=watch)
    assert isinstance(watch.optimizer, FusedAdam)


def test_nothing_is_added_to_the_network(tmp_path: Path) -> None:
    given = network()
    model = fitted(given, "fast", n_epochs=2)
    assert set(model.encoder_.state_dict()) == set(given.state_dict())
    model.save(tmp_path / "map.neumap")
    loaded = load(tmp_path / "map.neumap")
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))


def test_an_encoder_that_goes_on_gets_no_auxiliary_dimensions() -> None:
    watch = Watch()
    model = fitted(network(), callbacks=watch)
    assert any("auxiliary" in name for name in watch.names)
    model.update(X[:30] + 0.01)
    assert not any("auxiliary" in name for name in watch.names)


# ------------------------------------------------------------------ what the user adds


def test_dropout_acts_in_training_alone() -> None:
    plain, dropped = fitted(network(nn.Identity())), fitted(network(nn.Dropout(0.5)))
    assert np.abs(plain.embedding_ - dropped.embedding_).max() > 1e-2
    np.testing.assert_allclose(dropped.transform(X), dropped.embedding_, atol=1e-5)


def lengths(model: ParametricUMAP) -> float:
    return sum(float(p.detach().square().sum()) for p in model.encoder_.parameters())


def adamw(weight_decay: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=weight_decay)


def test_weight_decay_acts() -> None:
    free = fitted(network(), optimizer=adamw(0.0))
    decayed = fitted(network(), optimizer=adamw(20.0))
    assert lengths(decayed) < 0.5 * lengths(free)


class Penalised(nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.layers, self.weight = network(), weight

    def forward(self, rows: Tensor) -> Tensor:
        placed: Tensor = self.layers(rows)
        return placed

    def regularization(self) -> Tensor:
        penalties = [p.square().sum() for p in self.parameters()]
        return self.weight * torch.stack(penalties).sum()


def test_regularisation_acts_beside_orthogonal_steps() -> None:
    free, penalised = fitted(Penalised(0.0)), fitted(Penalised(100.0))
    assert lengths(penalised) < 0.9 * lengths(free)
    assert penalised.history_["regularization_loss"][-1] > 0
