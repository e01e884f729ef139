"""Nodes: every kind of value becomes one and comes back, others are refused."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from neumap.archive import Archive, ArchiveError
from neumap.archive.nodes import check_node
from neumap.estimators.landmarks import Landmarks
from neumap.estimators.saving.nodes import NotStorableError, Packer, Unpacker, role_of
from neumap.keras_bridge import KerasModule
from neumap.losses.reconstruction import ReconstructionLoss, reconstruction_loss
from neumap.networks import MLP

KERAS_WARNINGS = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")


def pack(value: Any, name: str = "thing") -> tuple[Any, Archive]:
    packer = Packer({"encoder": (3,), "decoder": (2,)})
    node = packer.pack(value, name)
    archive = Archive(packer.tensors, {}, packer.blobs, {})
    check_node(node, name, archive.tensors, archive.blobs)  # as a file is checked
    return node, archive


def there_and_back(value: Any, name: str = "thing", **given: Any) -> Any:
    node, archive = pack(value, name)
    return Unpacker(archive, **given).unpack(node, name)


def kind_of(value: Any, name: str = "thing") -> str:
    return str(next(iter(pack(value, name)[0])))


def refused(value: Any, message: str, name: str = "thing") -> None:
    with pytest.raises(NotStorableError, match=message):
        Packer({}).pack(value, name)


# ------------------------------------------------------------------ plain values


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.1, float("inf"), "text", [1, [2, "x"]], {"a": 1, "b": [None]}]
)
def test_json_values_come_back_as_they_are(value: Any) -> None:
    assert kind_of(value) == "value"
    assert there_and_back(value) == value


def test_a_value_that_looks_like_a_node_stays_a_value() -> None:
    value = {"array": "x", "module": {"root": {}}}
    assert there_and_back(value) == value


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "float16"])
def test_an_array_of_numbers_is_a_tensor_of_the_file(dtype: str) -> None:
    value = np.arange(6).reshape(2, 3).astype(dtype)
    node, archive = pack(value, "embedding")
    assert node == {"array": "embedding"}
    assert [*archive.tensors] == ["embedding"]
    found = there_and_back(value)
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize(
    "value",
    [np.array(["a", "bcd"]), np.array([["x", None], [1, "y"]], dtype=object)],
)
def test_an_array_of_text_or_objects_is_listed(value: Any) -> None:
    assert kind_of(value) == "items"
    found = there_and_back(value)
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    np.testing.assert_array_equal(found, value)


def test_an_array_in_two_places_is_stored_once_and_is_one_again() -> None:
    value = np.arange(3.0)
    node, archive = pack([value, value])
    assert [*archive.tensors] == ["thing.0"]
    one, other = Unpacker(archive).unpack(node, "thing")
    assert one is other


def test_a_tensor_comes_back() -> None:
    value = torch.arange(3.0)
    assert torch.equal(there_and_back(value), value)


@pytest.mark.parametrize("form", ["csr", "coo", "csc"])
def test_a_sparse_matrix_comes_back_as_csr(form: str) -> None:
    value = scipy.sparse.random_array((4, 5), density=0.4, format=form, rng=0)
    found = there_and_back(value)
    assert found.format == "csr"
    np.testing.assert_array_equal(found.toarray(), value.toarray())


def test_containers_of_other_values_come_back() -> None:
    value = {"a": (np.arange(2), 3), "b": [torch.device("cpu"), "x"]}
    found = there_and_back(value)
    assert isinstance(found["a"], tuple)
    np.testing.assert_array_equal(found["a"][0], [0, 1])
    assert found["a"][1] == 3
    assert found["b"] == [torch.device("cpu"), "x"]


@pytest.mark.parametrize("name", ["cpu", "cuda:1"])
def test_a_device_comes_back(name: str) -> None:
    assert there_and_back(torch.device(name)) == torch.device(name)


def test_landmarks_come_back() -> None:
    value = Landmarks(np.eye(3), np.ones((3, 2), np.float32), 0.25)
    found = there_and_back(value)
    assert isinstance(found, Landmarks)
    assert found.loss_weight == 0.25
    np.testing.assert_array_equal(found.rows, value.rows)
    np.testing.assert_array_equal(found.positions, value.positions)


def test_nodes_are_json() -> None:
    node, _ = pack({"a": [np.arange(2), nn.Linear(2, 2), torch.optim.SGD]})
    assert json.loads(json.dumps(node)) == node


# ------------------------------------------------------------------ networks


@pytest.mark.parametrize(
    "network", [MLP(3, 2, (4,), residual=True), nn.Sequential(nn.Linear(3, 4), nn.Tanh())]
)
def test_a_network_comes_back_with_its_weights(network: nn.Module) -> None:
    found = there_and_back(network, "encoder")
    probe = torch.randn(5, 3)
    assert type(found) is type(network)
    assert torch.equal(found(probe), network(probe))


class Own(nn.Module):
    """A network of a user, with a config."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)

    @property
    def config(self) -> dict[str, Any]:
        return {"width": self.layer.in_features}


def test_a_class_of_the_user_comes_back_with_the_class_or_a_module() -> None:
    network = Own(3)
    for given in ({"classes": [Own]}, {"given": {"encoder": Own(3)}}):
        found = there_and_back(network, "parameters.encoder", **given)
        assert torch.equal(found.layer.weight, network.layer.weight)
    with pytest.raises(ArchiveError, match="Own"):
        there_and_back(network, "encoder")


def test_a_given_module_is_copied() -> None:
    ready = Own(3)
    found = there_and_back(Own(3), "encoder", given={"encoder": ready})
    assert found is not ready
    assert not torch.equal(found.layer.weight, ready.layer.weight)


def test_a_class_of_the_user_is_refused_where_no_module_can_be_passed() -> None:
    refused(Own(3), "cannot hold a Own", name="classifier")


def test_a_network_of_another_library_cannot_take_its_place() -> None:
    node, archive = pack(nn.Linear(3, 2), "encoder")
    with pytest.raises(ArchiveError, match=r"encoder=<a torch.nn.Module>.*got int"):
        Unpacker(archive, given={"encoder": 3}).unpack(node, "encoder")


@pytest.mark.parametrize(
    ("name", "role"),
    [("parameters.encoder", "encoder"), ("encoder_", "encoder"), ("decoder", "decoder")],
)
def test_a_network_is_passed_by_the_last_part_of_its_name(name: str, role: str) -> None:
    assert role_of(name) == role


# ------------------------------------------------------------------ Keras


@KERAS_WARNINGS
def test_a_keras_model_comes_back_with_its_weights() -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    found = there_and_back(model, "encoder")
    probe = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(found.predict_on_batch(probe), model.predict_on_batch(probe))
    wrapped = there_and_back(KerasModule(model, (3,)), "encoder")
    assert isinstance(wrapped, KerasModule)


@KERAS_WARNINGS
def test_keras_optimizers_and_losses_come_back() -> None:
    keras = pytest.importorskip("keras")
    optimizer = there_and_back(keras.optimizers.Adam(0.25))
    assert float(optimizer.learning_rate) == 0.25
    loss = there_and_back(keras.losses.BinaryCrossentropy(label_smoothing=0.25))
    assert loss.get_config()["label_smoothing"] == 0.25


# ------------------------------------------------------------------ optimisers and losses


def test_an_optimizer_comes_back_as_class_or_with_its_settings() -> None:
    assert there_and_back(torch.optim.AdamW) is torch.optim.AdamW
    given = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3, momentum=0.5)
    found = there_and_back(given)
    assert isinstance(found, torch.optim.SGD)
    assert (found.defaults["lr"], found.defaults["momentum"]) == (0.3, 0.5)


def test_settings_that_this_torch_does_not_know_are_left_out() -> None:
    node = {"optimizer": "SGD", "settings": {"value": {"lr": 0.3, "unheard": 1}}}
    found = Unpacker(Archive({}, {}, {}, {})).unpack(node, "optimizer")
    assert found.defaults["lr"] == 0.3


def test_an_optimizer_that_this_torch_lacks_is_told() -> None:
    for name in ("Unheard", "Optional", "lr_scheduler"):
        with pytest.raises(ArchiveError, match=f"got '{name}'"):
            Unpacker(Archive({}, {}, {}, {})).unpack({"optimizer": name, "settings": None}, "o")


@pytest.mark.parametrize("name", ["bce", "mse", "mae", "huber"])
def test_a_named_loss_comes_back(name: str) -> None:
    found = there_and_back(reconstruction_loss(name, (0.0, 1.0)))
    expected = reconstruction_loss(name, (0.0, 1.0))
    rows, outputs = torch.rand(4, 3), torch.randn(4, 3)
    assert found.name == name
    assert found(rows, outputs) == expected(rows, outputs)
    assert torch.equal(found.activation(outputs), expected.activation(outputs))


def test_cross_entropy_of_a_decoder_with_a_sigmoid_comes_back() -> None:
    found = there_and_back(reconstruction_loss("bce", (0.0, 1.0)).of_fractions())
    rows, fractions = torch.rand(4, 3), torch.rand(4, 3)
    assert found(rows, fractions) == pytest.approx(
        float(nn.functional.binary_cross_entropy(fractions, rows))
    )
    assert torch.equal(found.activation(fractions), fractions)


@pytest.mark.parametrize("takes_logits", [True, False])
def test_a_loss_of_the_user_comes_back_with_its_activation_alone(takes_logits: bool) -> None:
    given = nn.BCEWithLogitsLoss() if takes_logits else nn.MSELoss()
    found = there_and_back(reconstruction_loss(given, (0.0, 1.0)))
    outputs = torch.randn(4, 3)
    expected = outputs.sigmoid() if takes_logits else outputs
    assert torch.equal(found.activation(outputs), expected)
    with pytest.raises(ValueError, match="a saved model does not hold functions"):
        found(outputs, outputs)


# ------------------------------------------------------------------ refused


class OwnOptimizer(torch.optim.SGD):
    """An optimiser of a user."""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: x, "cannot hold a builtins.function"),
        (partial(max, 1), "functools.partial"),
        (np.random.default_rng(0), "Generator"),
        ({1: np.arange(2)}, "needs text as keys"),
        (np.array([1 + 2j]), "dtype complex128"),
        (np.array([object()], dtype=object), "dtype object"),
        (np.ma.masked_array([1.0, 2.0], mask=[True, False]), "cannot hold an array"),
        (OwnOptimizer, "OwnOptimizer is not an optimiser of torch.optim"),
        (ReconstructionLoss("custom", max, torch.tanh), "neither the sigmoid nor the identity"),
        ([np.arange(2), lambda x: x], "function"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(value: Any, message: str) -> None:
    refused(value, message)


def test_nothing_stays_of_a_list_whose_last_item_is_refused() -> None:
    packer = Packer({})
    kept, dropped = np.arange(2), np.arange(3)
    packer.pack(kept, "first")
    with pytest.raises(NotStorableError):
        packer.pack([dropped, lambda x: x], "second")
    assert [*packer.tensors] == ["first"]
    # The array that was dropped can be stored later.
    assert packer.pack(dropped, "third") == {"array": "third"}
    assert [*packer.tensors] == ["first", "third"]


def test_a_kind_of_a_newer_version_is_told() -> None:
    with pytest.raises(ArchiveError, match="a kind that this neumap knows, got 'hologram'"):
        Unpacker(Archive({}, {}, {}, {})).unpack({"hologram": 1}, "thing")
