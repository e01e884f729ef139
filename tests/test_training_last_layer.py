"""The layer whose output is the output of a network, and its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neumap.estimators.positions.networks import copy_network
from neumap.estimators.positions.own import last_layer
from neumap.keras_bridge import KerasModule
from neumap.training.last_layer import LastLayer

ROWS = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Around(nn.Module):
    """A network and what is done with its output."""

    def __init__(self, body: nn.Module, do: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.do = body, do

    def forward(self, x: Tensor) -> Tensor:
        return self.do(self.body, x)


def body() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


FOUND: dict[str, Callable[[], nn.Module]] = {
    "sequential": body,
    "alone": lambda: nn.Linear(6, 2),
    "inside": lambda: Around(body(), lambda f, x: f(x)),
    "not the last attribute": lambda: Around(
        nn.ModuleList([nn.Linear(4, 2), nn.Linear(6, 4)]), lambda f, x: f[0](f[1](x).tanh())
    ),
    "by name": lambda: Around(nn.Linear(6, 2), lambda f, x: f(input=x)),
}
NONE: dict[str, Callable[[], nn.Module]] = {
    "an activation": lambda: nn.Sequential(body(), nn.Tanh()),
    "a product": lambda: Around(body(), lambda f, x: f(x) * 2.0),
    "called twice": lambda: Around(nn.Linear(6, 6), lambda f, x: f(f(x))),
    "no layer": lambda: Around(nn.Flatten(), lambda f, x: f(x)[:, :2]),
    "rows with axes": lambda: Around(nn.Linear(3, 2), lambda f, x: f(x.view(-1, 2, 3))),
    "scripted": lambda: torch.jit.script(body()),
    "compiled": lambda: torch.compile(body(), backend="eager"),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_last_layer_is_found_by_its_output(name: str) -> None:
    network = FOUND[name]()
    found = last_layer(network, ROWS.clone())
    assert isinstance(found, LastLayer)
    output, features = found.run(network, ROWS.clone())
    layer = found.layer
    assert isinstance(layer, nn.Linear)
    assert features.shape == (5, found.n_features)
    torch.testing.assert_close(output, network(ROWS.clone()))
    torch.testing.assert_close(output, features @ layer.weight.T + layer.bias)
    assert "forward" not in vars(layer)  # nothing stays


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", NONE)
def test_other_networks_have_none(name: str) -> None:
    assert last_layer(NONE[name](), ROWS.clone()) is None


def keras_layers() -> Any:
    keras = pytest.importorskip("keras")
    if keras.config.backend() != "torch":
        pytest.skip("Keras runs on another backend here")
    return keras


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
@pytest.mark.parametrize("activation", [None, "linear", "tanh"])
def test_the_last_dense_layer_of_keras(activation: str | None) -> None:
    keras = keras_layers()
    dense = keras.layers.Dense
    given = keras.Sequential([keras.Input((6,)), dense(4, "relu"), dense(2, activation)])
    network = copy_network(given, (6,), "encoder")
    assert isinstance(network, KerasModule)
    own = [vars(layer).get("call") for layer in network.keras_layers()]
    found = last_layer(network, ROWS.clone())
    if activation == "tanh":
        assert found is None
        return
    assert found is not None
    output, features = found.run(network, ROWS.clone())
    torch.testing.assert_close(output, network(ROWS.clone()))
    torch.testing.assert_close(output, features @ found.layer.kernel.value + found.layer.bias.value)
    after = [vars(layer).get("call") for layer in network.keras_layers()]
    assert all(now is before for now, before in zip(after, own, strict=True))


def test_the_layer_stays_usable_after_an_error() -> None:
    network = body()
    found = last_layer(network, ROWS.clone())
    assert found is not None
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        found.run(network, torch.zeros(5, 7))
    assert "forward" not in vars(found.layer)
