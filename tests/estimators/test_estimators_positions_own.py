"""What of the training of built-in networks a network of the user gets, by its structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import ParametricUMAP
from neumap.data import as_rows
from neumap.estimators.positions.networks import copy_network
from neumap.estimators.positions.noise import neighbor_distances, own_noise
from neumap.estimators.positions.own import matrices_of, read_columns, shortened
from neumap.estimators.positions.presets import Preset
from neumap.fuzzy import FuzzyGraph
from neumap.training import EncoderEmbedder, Plan
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
    "batch normalisation": (
        lambda: nn.Sequential(nn.Linear(30, 20), nn.BatchNorm1d(20), nn.Linear(20, 2)),
        set(),
    ),
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
    assert [matrix.shape for matrix in found] == [(9, 16), (576, 2)]
    own = {id(parameter) for parameter in network.parameters()}
    assert all(id(matrix.parameter) in own for matrix in found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
def test_a_keras_model_with_batch_normalisation_has_none() -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((30,)), layers.Dense(20), layers.BatchNormalization(), layers.Dense(2)]
    )
    assert matrices_of(copy_network(model, (30,), "encoder")) == []


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
    return own_noise(network, 0.1, as_rows(X), line_of(X), seed=0)


def line_of(X: np.ndarray) -> FuzzyGraph:
    """Every row is a neighbour of the next one."""
    first = np.arange(len(X) - 1)
    return FuzzyGraph(first, first + 1, np.ones(len(first), dtype=np.float32), len(X))


def test_noise_for_networks_that_read_numbers() -> None:
    found, noisy = noise(nn.Linear(4, 2), CONTINUOUS)
    lengths = neighbor_distances(as_rows(CONTINUOUS), line_of(CONTINUOUS), lambda rows: rows, 1.0)
    torch.testing.assert_close(found.scale, 0.1 * lengths / 4)  # narrow rows: as for sixteen
    assert noisy is None  # all of them
    assert noise(nn.Linear(4, 2), CODES)[0] is not None  # read as numbers


def test_rows_with_missing_values_get_no_noise() -> None:
    rows = CONTINUOUS.copy()
    rows[5, 0] = np.nan
    found, _ = noise(nn.Linear(4, 2), rows)
    assert [i for i in range(40) if found.scale[i] == 0.0] == [5]
    assert found.scale.isfinite().all()


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
    np.testing.assert_array_equal(seen[-1][:, 0], MIXED[:30, 0])
    assert (seen[-1][:, 1:] != torch.from_numpy(MIXED[:30, 1:])).all()


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


# ------------------------------------------------------------------ length

PLAN = Plan(n_steps=3600, batch_edges=500)


@pytest.mark.parametrize(
    ("width", "n_steps"),
    [
        (1, 3600),  # 2 * 100 operations
        (1_750, 3600),  # 350,000: just cheap
        (3_500, 1800),  # twice as many, half the steps
        (5_250, 1200),
        (50_000, 1200),  # never less than a third
    ],
)
def test_expensive_networks_take_fewer_steps(width: int, n_steps: int) -> None:
    found = shortened(PLAN, 200.0 * width, has_batch_size=False)
    assert found == replace(PLAN, n_steps=n_steps)


@pytest.mark.parametrize(
    ("full", "has_batch_size", "n_steps", "batch_edges"),
    [
        (1800, False, 1200, 250),
        (900, False, 840, 250),  # not 600
        (600, False, 600, 250),  # never more than without
        (900, True, 300, 500),
    ],
)
def test_few_steps_become_twice_as_many_of_half_the_edges(
    full: int, has_batch_size: bool, n_steps: int, batch_edges: int
) -> None:
    short = replace(PLAN, n_steps=full)
    found = shortened(short, 1_050_000.0, has_batch_size=has_batch_size)
    assert (found.n_steps, found.batch_edges) == (n_steps, batch_edges)
    assert shortened(short, 400.0, has_batch_size=has_batch_size) == short


@pytest.mark.parametrize(("flops", "n_steps"), [(3e7, 3600), (6e7, 1800), (1e10, 1200)])
def test_more_operations_are_cheap_on_a_card(flops: float, n_steps: int) -> None:
    found = shortened(PLAN, flops, has_batch_size=False, on_card=True)
    assert found == replace(PLAN, n_steps=n_steps)


def test_networks_whose_arithmetic_cannot_be_counted_take_all_steps() -> None:
    assert shortened(PLAN, None, has_batch_size=False) is PLAN


PRESET = Preset((6,), n_steps=40, batch_edges=64, peak_learning_rate=2e-3)


def wide(n_hidden: int) -> nn.Module:
    """A network of ``8 * n_hidden`` operations, and a few."""
    return nn.Sequential(nn.Linear(4, n_hidden), nn.AdaptiveAvgPool1d(4), nn.Linear(4, 2))


def steps_of(encoder: nn.Module | None, **parameters: Any) -> int:
    """Return the steps of a fit of 40 rows."""
    recipe = ParametricUMAP(encoder=encoder, preset=PRESET, **parameters)._recipe()
    network = nn.Linear(4, 2) if encoder is None else encoder
    embedder = EncoderEmbedder(network, as_rows(CONTINUOUS))
    steps: int = recipe.positions.plan(40, 100.0, embedder).n_steps
    return steps


def test_length_of_a_fit_by_what_the_network_costs() -> None:
    assert steps_of(None) == 40
    assert steps_of(nn.Linear(4, 2)) == 24  # a fifth more, half of it for so few rows
    assert steps_of(wide(40_000)) == 24
    assert steps_of(wide(80_000)) == 2 * round(24 * 350_000 / (8 * 80_000 + 16))
    assert steps_of(wide(200_000)) == 24  # of half the edges, since 840 are the fewest
    assert steps_of(wide(200_000), batch_size=64) == 8
    assert steps_of(wide(200_000), batch_size=64, n_training_epochs=2) == 16
    asked = steps_of(nn.Linear(4, 2), n_epochs=7)
    assert steps_of(wide(200_000), n_epochs=7) == asked  # as many as the user set


def test_a_fit_takes_these_steps() -> None:
    settings: dict[str, Any] = {
        "preset": PRESET,
        "n_neighbors": 5,
        "random_state": 0,
        "guide": None,
    }
    model = ParametricUMAP(encoder=wide(80_000), **settings).fit(CONTINUOUS)
    assert model.report_["n_steps"] == steps_of(wide(80_000))
