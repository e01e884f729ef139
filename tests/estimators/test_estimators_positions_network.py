"""Positions given by a network: what the settings of an encoder turn into."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tasks import task_of
from torch import nn

from neumap import ParametricUMAP
from neumap.data import as_rows
from neumap.estimators.graph import Graph
from neumap.estimators.landmarks import WarmStart
from neumap.estimators.positions import NetworkPositions
from neumap.estimators.positions.noise import neighbor_distances
from neumap.estimators.positions.presets import PRESETS, Preset
from neumap.estimators.task import Task
from neumap.fuzzy import fuzzy_simplicial_set
from neumap.losses.terms import Softening
from neumap.neighbors import find_neighbors
from neumap.networks import MLP
from neumap.training import Muon
from neumap.training.muon import STEP_SIZE

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
GRAPH = Graph(None, fuzzy_simplicial_set(find_neighbors(X, 4)))
PRESET = Preset(
    (6,),
    n_steps=100,
    batch_edges=64,
    peak_learning_rate=2e-3,
    softening=Softening(0.4, 0.2, 0.1),
    n_negatives=3,
    repulsion=1.5,
    input_noise=0.02,
    n_auxiliary=2,
)


def positions(**parameters: Any) -> NetworkPositions:
    made = ParametricUMAP(**{"preset": PRESET, **parameters})._recipe().positions
    assert isinstance(made, NetworkPositions)
    return made


def task(warm_start: WarmStart | None = None) -> Task:
    return task_of(X, random_state=1, warm_start=warm_start)


def kept(encoder: nn.Module | None) -> WarmStart:
    return WarmStart(X[:, :2], encoder=encoder)


# ------------------------------------------------------------------ settings


def test_the_preset_is_found_by_name() -> None:
    assert positions(preset="best").preset is PRESETS["best"]
    assert positions().preset is PRESET


def test_the_forces_are_those_of_the_preset() -> None:
    forces = positions().forces
    assert (forces.softening, forces.n_negatives, forces.repulsion) == (PRESET.softening, 3, 1.5)
    assert forces.density == 0.5


@pytest.mark.parametrize(
    ("encoder", "is_builtin"),
    [(None, True), ("conv", True), (MLP(5, 2), True), (nn.Linear(5, 2), False)],
)
def test_settings_were_measured_for_networks_of_the_package(encoder: Any, is_builtin: bool) -> None:
    made = positions(encoder=encoder)
    assert made.is_builtin_network is is_builtin
    assert made.plan(10_000, 0.0).n_steps == (100 if is_builtin else 120)


def test_the_optimizer_is_muon_for_networks_of_the_package_only() -> None:
    assert positions().optimizer_factory() is Muon
    assert positions(encoder=nn.Linear(5, 2)).optimizer_factory() is not Muon
    assert positions(optimizer="sgd").optimizer_factory() is torch.optim.SGD


def test_steps_of_a_decoder_go_by_its_outputs_those_of_an_encoder_by_the_longer_side() -> None:
    encoder, decoder = nn.Linear(80, 20), nn.Conv2d(16, 25, 3)
    factory = positions(encoder=encoder).optimizer_factory(encoder, decoder)
    made = factory([*encoder.parameters(), *decoder.parameters()])
    assert isinstance(made, Muon)
    lengths = [stack.matrices[0].length / STEP_SIZE for stack in made.stacks]
    assert lengths == pytest.approx([80**0.5, 25**0.5])


def test_an_optimizer_of_the_user_keeps_its_learning_rate() -> None:
    assert positions(optimizer="sgd").plan(1000, 0.0).peak_learning_rate is None
    assert positions().plan(1000, 0.0).peak_learning_rate == 2e-3


# ------------------------------------------------------------------ checks


@pytest.mark.parametrize("init", ["spectral", "random", X[:, :2]])
def test_an_encoder_starts_from_its_weights(init: Any) -> None:
    with pytest.raises(ValueError, match="init must be 'auto' for an encoder"):
        positions(init=init).check()


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="preset must be one of"):
        positions(preset="slow").check()
    with pytest.raises(ValueError, match="encoder must be one of"):
        positions(encoder="transformer").check()
    positions(encoder="residual").check()


# ------------------------------------------------------------------ the network


def test_a_network_is_built_for_the_rows() -> None:
    network = positions(n_components=3).network(task())
    assert isinstance(network, MLP)
    assert (network.n_inputs, network.n_outputs, network.hidden) == (5, 3, (6,))


def test_a_fit_that_continues_has_a_copy_of_the_earlier_network() -> None:
    earlier = nn.Linear(5, 2)
    network = positions().network(task(kept(earlier)))
    assert isinstance(network, nn.Linear)
    assert network is not earlier
    assert torch.equal(network.weight, earlier.weight)


def test_a_start_without_a_network_builds_one() -> None:
    assert isinstance(positions().network(task(kept(None))), MLP)


# ------------------------------------------------------------------ the embedder


def test_positions_are_the_output_for_all_rows() -> None:
    made, one = positions(), task()
    network = made.network(one)
    embedder = made.build(one, network, GRAPH)
    with torch.no_grad():
        expected = network(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(embedder.embed_all(), expected, atol=1e-5)


def test_noise_is_that_of_the_preset_for_this_number_of_rows() -> None:
    made, one = positions(), task()
    network = made.network(one)
    noise = made.build(one, network, GRAPH).noise
    assert noise is not None
    assert isinstance(network, MLP)
    lengths = neighbor_distances(one.rows, GRAPH.fuzzy, lambda flat: flat, 1.0)
    # Few rows: 1.6 times the noise. Few features: as for sixteen.
    torch.testing.assert_close(noise.scale, 1.6 * 0.02 * lengths / 4)


@pytest.mark.parametrize("subspace", [None, 3])
def test_a_network_in_float64_gets_the_noise_of_one_in_float32(subspace: int | None) -> None:
    torch.manual_seed(0)
    given, one = MLP(5, 2, (6,), subspace=subspace), task()
    noises = []
    for encoder in (given, copy.deepcopy(given).double()):
        made = positions(encoder=encoder)
        noises.append(made.build(one, made.network(one), GRAPH).noise)
    in_float32, in_float64 = noises
    assert in_float32 is not None
    assert in_float64 is not None
    torch.testing.assert_close(in_float64.scale, in_float32.scale)


def test_wide_rows_are_read_in_principal_directions() -> None:
    wide = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    one = replace(task(), rows=as_rows(wide))
    for number, expected in ((10, 10), (15, 15), (16, None), (0, None)):
        network = positions(preset=replace(PRESET, subspace=number)).network(one)
        assert isinstance(network, MLP)
        assert network.subspace == expected


def has_auxiliary(made: NetworkPositions, one: Task) -> bool:
    return made.build(one, made.network(one), GRAPH).auxiliary is not None


def test_auxiliary_dimensions_are_for_networks_from_scratch() -> None:
    assert has_auxiliary(positions(), task())
    assert has_auxiliary(positions(encoder="residual"), task())
    assert not has_auxiliary(positions(encoder=MLP(5, 2)), task())
    assert has_auxiliary(positions(encoder=nn.Linear(5, 2)), task())
    assert not has_auxiliary(positions(encoder=nn.Linear(5, 2)), task(kept(nn.Linear(5, 2))))
    bounded = nn.Sequential(nn.Linear(5, 2), nn.Tanh())  # does not end with a linear layer
    assert not has_auxiliary(positions(encoder=bounded), task())
    assert not has_auxiliary(positions(), task(kept(None)))
    assert not has_auxiliary(positions(preset=replace(PRESET, n_auxiliary=0)), task())
