"""Keras objects taken apart for a file, and put together again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

keras = pytest.importorskip("keras")
if keras.config.backend() != "torch":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)

from neumap.archive import ArchiveError, fits_json  # noqa: E402 - after the choice above
from neumap.estimators.saving.keras_nodes import (  # noqa: E402
    PackedNetwork,
    config_of,
    from_config,
    pack_network,
    unpack_network,
)
from neumap.keras_bridge import KerasModule  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")

ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Bare(keras.Model):  # type: ignore[misc, name-defined]
    """Has no get_config, so Keras cannot write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(width), keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x))


class Doubled(keras.layers.Layer):  # type: ignore[misc, name-defined]
    """A layer that Keras can write, if it is given the class when it reads."""

    def call(self, x: Any) -> Any:
        return 2 * x


def sequential(*front: Any) -> Any:
    return keras.Sequential([keras.Input((3,)), *front, keras.layers.Dense(2)])


def there_and_back(network: Any, given: Any = None, shape: Any = (3,), **named: Any) -> Any:
    packed = pack_network(network, shape)
    assert packed is not None
    assert fits_json(packed.facts)
    return unpack_network(packed, named, given, "encoder")


def assert_same_outputs(found: Any, model: Any) -> None:
    np.testing.assert_array_equal(found.predict_on_batch(ROWS), model.predict_on_batch(ROWS))


# ------------------------------------------------------------------ networks


def test_a_model_that_keras_can_write_is_a_file() -> None:
    model = sequential()
    packed = pack_network(model, None)
    assert packed is not None
    assert packed.content is not None
    assert packed.state == {}
    assert packed.facts["input_shape"] == (3,)
    assert_same_outputs(there_and_back(model), model)


def test_a_wrapped_model_comes_back_wrapped() -> None:
    module = KerasModule(sequential(), (3,)).eval()
    found = there_and_back(module)
    assert isinstance(found, KerasModule)
    assert not found.training
    with torch.no_grad():
        assert torch.equal(found(torch.from_numpy(ROWS)), module(torch.from_numpy(ROWS)))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_kept(training: bool) -> None:
    module = KerasModule(sequential(), (3,)).train(training)
    assert there_and_back(module).training is training


def test_a_model_that_is_not_built_is_built_for_the_known_shape() -> None:
    model = keras.Sequential([keras.layers.Dense(2)])
    packed = pack_network(model, (3,))
    assert packed is not None
    assert packed.facts["input_shape"] == (3,)
    assert not model.built


def test_a_model_without_weights_and_shape_is_a_config() -> None:
    model = keras.Sequential([keras.layers.Dense(2, activation="tanh")])
    packed = pack_network(model, None)
    assert packed is not None
    assert [*packed.facts] == ["config"]
    found = unpack_network(packed, {}, None, "encoder")
    assert found.layers[0].activation is keras.activations.tanh


def test_a_model_without_weights_that_keras_cannot_write_is_refused() -> None:
    assert pack_network(Bare(4), None) is None


def test_layers_of_the_user_need_their_class_or_a_model_made_of_them() -> None:
    model = sequential(Doubled())
    with pytest.raises(ArchiveError, match=r"Pass classes=\[...\]"):
        there_and_back(model)
    assert_same_outputs(there_and_back(model, Doubled=Doubled), model)
    assert_same_outputs(there_and_back(model, given=sequential(Doubled())), model)


# ------------------------------------------------------------------ weights alone


def test_a_model_that_keras_cannot_write_fills_a_copy_of_a_given_one() -> None:
    model, ready = Bare(4), Bare(4)
    module = KerasModule(model, (3,))
    packed = pack_network(module, None)
    assert packed is not None
    assert packed.content is None
    assert len(packed.state) == 4
    found = unpack_network(packed, {}, ready, "encoder")
    with torch.no_grad():
        assert torch.equal(found(torch.from_numpy(ROWS)), module(torch.from_numpy(ROWS)))
    assert not ready.built


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "encoder=<a Keras model of the same structure>"),
        (Bare(5), "Expected encoder to have the 4 variables"),
        (nn.Linear(3, 2), "Expected encoder=<a Keras model>, as the one in the file; got Linear"),
    ],
)
def test_weights_need_a_model_of_their_structure(given: Any, message: str) -> None:
    packed = pack_network(KerasModule(Bare(4), (3,)), None)
    assert packed is not None
    with pytest.raises(ArchiveError, match=message):
        unpack_network(packed, {}, given, "encoder")


def test_a_damaged_file_is_told() -> None:
    packed = pack_network(sequential(), None)
    assert isinstance(packed, PackedNetwork)
    with pytest.raises(ArchiveError, match="Expected to rebuild the Keras model of the file's"):
        unpack_network(replace(packed, content=b"PK"), {}, None, "encoder")


# ------------------------------------------------------------------ other objects


def test_a_config_is_json_and_gives_an_equal_object() -> None:
    config = config_of(keras.losses.BinaryCrossentropy(label_smoothing=0.25))
    assert config is not None
    assert fits_json(config)
    assert from_config(config, {}, "model").get_config()["label_smoothing"] == 0.25


def test_a_loss_keeps_its_settings_or_has_no_config() -> None:
    """Keras 3 leaves delta out of the config of Huber: a file would silently hold another loss."""
    config = config_of(keras.losses.Huber(delta=3.0))
    zeros, tens = torch.zeros(1, 2), torch.full((1, 2), 10.0)
    if config is not None:
        assert float(from_config(config, {}, "model")(zeros, tens)) == pytest.approx(3.0 * 10 - 4.5)
    assert config_of(keras.losses.Huber()) is not None


def test_a_config_is_not_changed_by_reading_it() -> None:
    config = config_of(keras.optimizers.SGD(0.5))
    before = repr(config)
    assert config is not None
    assert float(from_config(config, {}, "model").learning_rate) == 0.5
    assert repr(config) == before


def test_a_loss_of_the_user_has_no_config() -> None:
    class Own(keras.losses.Loss):  # type: ignore[misc, name-defined]
        pass

    assert config_of(Own()) is None


def test_an_unknown_class_in_a_config_is_told() -> None:
    config = config_of(keras.optimizers.SGD(0.5))
    assert config is not None
    with pytest.raises(ArchiveError, match=r"got None\.Unheard\. Pass classes="):
        from_config({**config, "class_name": "Unheard", "module": None}, {}, "model")
