"""What of the training of built-in networks a network of the user gets, by its structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap.data import RowStore, as_rows
from neumap.estimators.positions.networks import copy_network, own_noise
from neumap.estimators.positions.own import matrices_of, read_columns
from neumap.training import EncoderEmbedder
from neumap.training.embedders import Found

GENERATOR = np.random.default_rng(0)


def names_of(network: nn.Module) -> set[str]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(matrix.parameter)] for matrix in matrices_of(network)}


# ------------------------------------------------------------------ orthogonal steps


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 20)
        self.mix = nn.Parameter(torch.zeros(20, 20))
        self.places = nn.Parameter(torch.zeros(1, 16, 20))
        self.output = nn.Linear(20, 2)

    def forward(self, codes: Tensor) -> Tensor:
        found = self.table(codes.long()).mean(1) @ self.mix
        placed: Tensor = self.output(found)
        return placed


MATRICES: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "layers": (
        lambda: nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 2)),
        {"0.weight", "1.weight"},
    ),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(1, 16, 3), nn.ConvTranspose1d(4, 8, 3), nn.LayerNorm(9)),
        {"0.weight", "1.weight"},
    ),
    "tables and places": (Table, {"mix", "output.weight"}),
    "recurrent": (lambda: nn.GRU(5, 16), {"weight_ih_l0", "weight_hh_l0"}),
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices_and_kernels_get_orthogonal_steps(name: str) -> None:
    make, expected = MATRICES[name]
    assert names_of(make()) == expected


def test_a_shared_matrix_is_stepped_once() -> None:
    first, second = nn.Linear(20, 20), nn.Linear(20, 20)
    second.weight = first.weight
    assert len(matrices_of(nn.Sequential(first, second))) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
def test_kernels_of_keras_have_their_outputs_last() -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(16, 3), layers.Flatten(), layers.Dense(2)]
    )
    network = copy_network(model, (8, 8, 1), "encoder")
    found = matrices_of(network)
    assert [tuple(matrix.parameter.shape) for matrix in found] == [(3, 3, 1, 16), (576, 2)]
    assert [matrix.shape for matrix in found] == [(9, 16), (2, 576)]
    own = {id(parameter) for parameter in network.parameters()}
    assert all(id(matrix.parameter) in own for matrix in found)


# ------------------------------------------------------------------ noise


class Reads(nn.Module):
    """Reads its rows in one way or another, then a linear layer."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read
        self.output = nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        placed: Tensor = self.output(self.read(rows))
        return placed


CODES = GENERATOR.integers(0, 9, (40, 4)).astype(np.float32)
CONTINUOUS = GENERATOR.normal(size=(40, 4)).astype(np.float32)
MIXED = np.hstack([CODES[:, :1], CONTINUOUS[:, 1:]])


def integers(rows: Tensor) -> Tensor:
    return rows.long().float()


def first_as_integer(rows: Tensor) -> Tensor:
    return torch.cat([rows[:, :1].long().float(), rows[:, 1:]], dim=1)


def test_the_numbers_of_a_row_that_are_read_smoothly() -> None:
    probe = torch.from_numpy(MIXED[:8])
    assert read_columns(nn.Linear(4, 2), probe).tolist() == [True] * 4
    assert read_columns(Reads(first_as_integer), probe).tolist() == [False, True, True, True]
    assert read_columns(Reads(integers), probe) is None
    assert read_columns(nn.Sequential(Reads(integers), nn.Tanh()), probe) is None


def noise(network: nn.Module, X: np.ndarray) -> tuple[Any, Any]:
    rows: RowStore = as_rows(X)
    return own_noise(network, 0.1, rows, seed=0)


def test_noise_for_networks_that_read_numbers() -> None:
    found, noisy = noise(nn.Linear(4, 2), CONTINUOUS)
    principal = np.sqrt(np.linalg.eigvalsh(np.cov(CONTINUOUS.T, ddof=0))[-1])
    assert found.scale == pytest.approx(0.1 * principal, rel=1e-3)
    assert noisy is None  # all of them
    assert noise(nn.Linear(4, 2), CODES)[0] is not None  # read as numbers


def test_no_noise_for_codes_and_for_zeros_and_ones() -> None:
    tables = Reads(lambda rows: nn.functional.embedding(rows.long(), TABLE).mean(1))
    for network in (Reads(integers), tables):
        assert noise(network, CODES) == (None, None)
    assert noise(nn.Linear(4, 2), CODES > 4) == (None, None)
    assert noise(nn.Linear(4, 2), np.eye(4, dtype=np.float32)) == (None, None)


def test_a_code_among_numbers_stays_as_it_is() -> None:
    found, noisy = noise(Reads(first_as_integer), MIXED)
    assert noisy.tolist() == [False, True, True, True]
    seen: list[Tensor] = []

    class Watches(Reads):
        def forward(self, rows: Tensor) -> Tensor:
            seen.append(rows.clone())
            return super().forward(rows)

    embedder = EncoderEmbedder(
        Watches(first_as_integer), as_rows(MIXED), found, found=Found(noisy=noisy)
    )
    embedder.embed(torch.arange(30))
    np.testing.assert_array_equal(seen[0][:, 0], MIXED[:30, 0])
    assert (seen[0][:, 1:] != torch.from_numpy(MIXED[:30, 1:])).all()


def test_a_network_that_starts_at_zero_gets_noise() -> None:
    network = nn.Linear(4, 2)
    nn.init.zeros_(network.weight)
    assert noise(network, CODES)[0] is not None
    assert noise(network, CODES)[1] is None


TABLE = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))


def test_the_trial_leaves_the_weights_and_the_state() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert noise(network, CONTINUOUS)[0] is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training
