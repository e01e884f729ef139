"""Presets and budgets: how many steps, how large, how fast."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from neumap.estimators.positions.presets import (
    PRESETS,
    Budget,
    Preset,
    encoder_plan,
    for_regression,
    free_epochs,
    free_plan,
    resolve_preset,
)
from neumap.training import Plan

PRESET = Preset((8, 8), n_steps=1000, batch_edges=512, peak_learning_rate=4e-3, input_noise=0.05)
UNSET = Budget(
    n_epochs=None,
    n_training_epochs=1,
    batch_size=None,
    n_reports=10,
    learning_rate=1.0,
    max_time=None,
)
TOTAL_WEIGHT = 30_000.0


def encoder(budget: Budget = UNSET, n_rows: int = 10_000, **which: bool) -> Plan:
    kind = {"is_builtin_network": True, "has_user_optimizer": False, **which}
    return encoder_plan(PRESET, budget, n_rows, TOTAL_WEIGHT, **kind)


def free(budget: Budget = UNSET, n_rows: int = 1000, **which: bool) -> Plan:
    return free_plan(budget, n_rows, TOTAL_WEIGHT, **{"has_user_optimizer": False, **which})


def sampled_edges(plan: Plan) -> int:
    return plan.n_steps * plan.batch_edges


# ------------------------------------------------------------------ presets


@pytest.mark.parametrize(
    ("n_rows", "factor"),
    [
        (10_000, 1.0),
        (40_000, 2.0),
        (90_000, 3.0),
        (160_000, 4.0),
        (10_000_000, 4.0),
        (2500, 1.0),
        (20, 1.0),
    ],
)
def test_steps_grow_as_the_square_root_of_the_rows(n_rows: int, factor: float) -> None:
    assert PRESET.steps(n_rows) == round(1000 * factor)


@pytest.mark.parametrize(
    ("n_rows", "factor"),
    [(4000, 1.0), (8000, 0.841), (64_000, 0.6), (10**7, 0.6), (1000, 1.414), (100, 1.6)],
)
def test_noise_falls_with_the_rows_and_is_bounded(n_rows: int, factor: float) -> None:
    assert PRESET.noise(n_rows) == pytest.approx(0.05 * factor, rel=1e-3)


@pytest.mark.parametrize(
    ("n_rows", "n_features", "expected"),
    [
        (2500, 784, 64),
        (300, 784, 64),
        (40, 784, 40),  # no more directions than rows
        (10_000, 784, 128),
        (10**6, 784, 256),
        (2500, 128, 64),
        (2500, 127, None),  # not wide enough
        (10_000, 200, 100),
    ],
)
def test_directions_grow_with_the_rows(n_rows: int, n_features: int, expected: int | None) -> None:
    assert PRESET.directions(n_rows, n_features) == expected


def test_a_preset_is_found_by_its_name_or_is_itself() -> None:
    assert resolve_preset("best") is PRESETS["best"]
    assert resolve_preset(PRESET) is PRESET


@pytest.mark.parametrize("wrong", ["slow", None, 3, ["fast"]])
def test_an_unknown_preset_is_named_with_those_that_exist(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"one of \['fast', 'default', 'best'\] or a neumap"):
        resolve_preset(wrong)


# ------------------------------------------------------------------ networks


def test_without_epochs_the_preset_decides() -> None:
    plan = encoder(n_rows=40_000)
    assert (plan.n_steps, plan.batch_edges, plan.peak_learning_rate) == (2000, 512, 4e-3)


def test_with_epochs_each_edge_is_sampled_twice_per_epoch_by_its_weight() -> None:
    plan = encoder(replace(UNSET, n_epochs=7))
    assert plan.n_steps == math.ceil(7 * 2 * TOTAL_WEIGHT / 512)


def test_with_epochs_the_steps_depend_on_neither_preset_nor_network() -> None:
    budget = replace(UNSET, n_epochs=7)
    assert encoder(budget, is_builtin_network=False).n_steps == encoder(budget).n_steps


def test_a_network_of_the_user_takes_half_as_many_steps_again_at_its_own_rate() -> None:
    plan = encoder(is_builtin_network=False)
    assert plan.n_steps == 1500
    assert plan.peak_learning_rate == 5e-3


@pytest.mark.parametrize(("n_rows", "batch"), [(20, 64), (100, 100), (1000, 512), (10**6, 512)])
def test_a_batch_has_as_many_edges_as_rows_between_bounds(n_rows: int, batch: int) -> None:
    assert encoder(n_rows=n_rows).batch_edges == batch


def test_a_given_batch_size_is_used_as_it_is() -> None:
    assert encoder(replace(UNSET, batch_size=17), n_rows=100).batch_edges == 17


def test_training_epochs_multiply_the_steps() -> None:
    assert encoder(replace(UNSET, n_training_epochs=3)).n_steps == 3000


def test_the_learning_rate_is_a_factor_on_the_peak() -> None:
    assert encoder(replace(UNSET, learning_rate=0.5)).peak_learning_rate == 2e-3


@pytest.mark.parametrize("plan", [encoder, free])
def test_an_optimizer_of_the_user_keeps_its_own_learning_rate(plan: Any) -> None:
    assert plan(has_user_optimizer=True).peak_learning_rate is None


@pytest.mark.parametrize("plan", [encoder, free])
def test_reports_and_time_limit_pass_through(plan: Any) -> None:
    made = plan(replace(UNSET, n_reports=4, max_time=2.5))
    assert (made.n_reports, made.max_time) == (4, 2.5)


def test_a_graph_without_weight_still_takes_one_step() -> None:
    budget = replace(UNSET, n_epochs=5)
    kind = {"is_builtin_network": True, "has_user_optimizer": False}
    assert encoder_plan(PRESET, budget, 50, 0.0, **kind).n_steps == 1


# ------------------------------------------------------------------ free positions


@pytest.mark.parametrize(("n_rows", "expected"), [(20, 500), (10_000, 500), (10_001, 200)])
def test_default_epochs_are_those_of_umap_learn(n_rows: int, expected: int) -> None:
    assert free_epochs(n_rows) == expected
    assert free(n_rows=n_rows).n_steps == expected


def test_free_positions_sample_a_quarter_of_the_edges_in_one_step_per_epoch() -> None:
    plan = free(replace(UNSET, n_epochs=40))
    assert plan.n_steps == 40
    assert sampled_edges(plan) == 0.25 * 40 * 2 * TOTAL_WEIGHT


@pytest.mark.parametrize("batch_size", [100, 1000, 30_000])
def test_the_batch_size_does_not_change_how_many_edges_are_sampled(batch_size: int) -> None:
    plan = free(replace(UNSET, n_epochs=40, batch_size=batch_size))
    assert plan.batch_edges == batch_size
    assert sampled_edges(plan) == sampled_edges(free(replace(UNSET, n_epochs=40)))


@pytest.mark.parametrize(("n_epochs", "peak"), [(500, 100 / 500), (250, 0.4), (80, 1.0)])
def test_a_point_can_travel_the_same_way_in_any_number_of_steps(n_epochs: int, peak: float) -> None:
    assert free(replace(UNSET, n_epochs=n_epochs)).peak_learning_rate == pytest.approx(peak)


def test_a_start_without_order_gets_a_longer_way() -> None:
    plan = free(replace(UNSET, n_epochs=500), starts_in_order=False)
    assert plan.peak_learning_rate == pytest.approx(225 / 500)


def test_the_learning_rate_of_free_positions_is_a_factor_and_does_not_warm_up() -> None:
    plan = free(replace(UNSET, n_epochs=500, learning_rate=2.0))
    assert plan.peak_learning_rate == pytest.approx(2 * 100 / 500)
    assert plan.warm_up == 0.0


def test_training_epochs_repeat_the_steps_of_free_positions() -> None:
    plan = free(replace(UNSET, n_epochs=40, n_training_epochs=2))
    assert plan.n_steps == 80
    assert plan.peak_learning_rate == free(replace(UNSET, n_epochs=40)).peak_learning_rate


@pytest.mark.parametrize(("n_epochs", "weight"), [(0, TOTAL_WEIGHT), (5, 0.0)])
def test_no_epochs_or_no_edges_still_make_a_plan(n_epochs: int, weight: float) -> None:
    plan = free_plan(replace(UNSET, n_epochs=n_epochs), 50, weight, has_user_optimizer=False)
    assert plan.n_steps >= 1
    assert plan.batch_edges == 1


def test_regression_takes_twice_the_steps_and_twice_the_noise() -> None:
    found = for_regression(PRESET)
    assert found == replace(PRESET, n_steps=2000, input_noise=0.1)
    assert (found.steps(10_000), found.noise(10_000)) == (2000, pytest.approx(0.1))
