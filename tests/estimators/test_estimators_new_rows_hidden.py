"""Features of hidden layers: against the layers themselves, and for networks of any kind."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap.data import as_rows
from neumap.estimators.new_rows.hidden import _layer_inputs, hidden_directions
from neumap.networks import MLP, ConvEncoder

X = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)


def unit(features: Tensor) -> np.ndarray:
    values = features.detach().numpy().reshape(len(features), -1)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def hooks(encoder: nn.Module) -> int:
    return sum(len(part._forward_pre_hooks) for part in encoder.modules())


@pytest.mark.parametrize("batch_rows", [3, 1024])
def test_directions_in_the_middle_layer_of_the_built_in_network(batch_rows: int) -> None:
    """The second of four and of three hidden layers, the first of two and of one."""
    for n_layers, middle in ((4, 2), (3, 2), (2, 1), (1, 1)):
        encoder = MLP(5, 2, hidden=(9, 8, 7, 6)[:n_layers])
        features = torch.from_numpy(X)
        for layer in encoder.layers[:middle]:
            features = torch.relu(layer(features))
        found = hidden_directions(encoder, as_rows(X), batch_rows)
        np.testing.assert_allclose(found, unit(features), rtol=1e-5, atol=1e-6)
        assert found.dtype == np.float32
        assert hooks(encoder) == 0


def test_feature_maps_are_flat() -> None:
    encoder = ConvEncoder((8, 8, 1), 2)  # two convolutions, a hidden layer, the outputs
    images = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
    found = hidden_directions(encoder, as_rows(images, dims=(8, 8, 1)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    assert found.shape[1] > 64


class Erasing(nn.Module):
    """Writes on a feature vector after the layer that reads it, and on its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 2)

    def forward(self, rows: Tensor) -> Tensor:
        features = torch.relu(self.first(rows))
        positions: Tensor = self.last(features)
        features.zero_()
        rows.zero_()
        return positions


def test_features_are_those_that_the_layer_read() -> None:
    encoder, rows = Erasing(), X.copy()
    expected = unit(torch.relu(encoder.first(torch.from_numpy(X))))
    np.testing.assert_allclose(hidden_directions(encoder, as_rows(rows)), expected, rtol=1e-5)
    np.testing.assert_array_equal(rows, X)


@pytest.mark.parametrize("kind", ["one layer", "scripted"])
def test_outputs_stand_in_for_layers_that_are_not_seen(kind: str) -> None:
    encoder: nn.Module = nn.Linear(5, 2)
    if kind == "scripted":
        parts = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            encoder = torch.jit.script(parts)
    expected = encoder(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(hidden_directions(encoder, as_rows(X)), expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_features_of_any_size_have_length_one(factor: float) -> None:
    encoder = nn.Sequential(nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 2))
    found = hidden_directions(encoder, as_rows(X * np.float32(factor)))
    np.testing.assert_allclose(found, hidden_directions(encoder, as_rows(X)), rtol=1e-4)


def test_an_input_of_other_rows_is_no_feature_vector() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.prototypes = nn.Linear(5, 2), nn.Linear(5, 2)

        def forward(self, rows: Tensor) -> Tensor:
            positions: Tensor = self.weight(rows)
            offset: Tensor = self.prototypes(rows.new_ones(3, 5)).mean(0)
            return positions + offset

    encoder = Mixing()
    expected = encoder(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(hidden_directions(encoder, as_rows(X)), expected, rtol=1e-5)


def test_a_pass_of_another_thread_is_not_read() -> None:
    encoder, rows = MLP(5, 2, hidden=(7,)), torch.from_numpy(X)
    with _layer_inputs(encoder, len(X)) as found:
        other = threading.Thread(target=encoder, args=(rows,))
        other.start()
        other.join()
        assert found == []
        encoder(rows)
        assert len(found) == 1


def test_a_failing_pass_leaves_no_hook() -> None:
    encoder = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        hidden_directions(encoder, as_rows(X))
    assert hooks(encoder) == 0
