"""The parameter `optimizer`: names, classes, instances, functions and Keras optimizers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from neumap.estimators.positions.optimizers import resolve_optimizer


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0]))]


def after_one_step(optimizer: Any) -> float:
    """Minimise x^2 / 2 from x = 1, where the gradient is 1."""
    (x,) = given = parameters()
    made = resolve_optimizer(optimizer)(given)
    (x.square().sum() / 2).backward()
    made.step()
    return float(x.detach())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("SGD", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_an_optimizer_is_found_by_its_name(name: str, kind: Any) -> None:
    assert resolve_optimizer(name) is kind


def test_none_gives_an_optimizer_without_weight_decay() -> None:
    made = resolve_optimizer(None)(parameters())
    assert all(not group.get("weight_decay") for group in made.param_groups)


def test_a_class_is_called_with_its_defaults() -> None:
    assert after_one_step(torch.optim.SGD) == pytest.approx(1.0 - 1e-3)


def test_an_instance_lends_its_settings_and_stays_unchanged() -> None:
    own = parameters()
    given = torch.optim.SGD(own, lr=0.25)
    assert after_one_step(given) == 0.75
    assert float(own[0].detach()) == 1.0


def test_a_function_gets_the_parameters() -> None:
    assert after_one_step(lambda given: torch.optim.SGD(given, lr=0.5)) == 0.5


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
def test_a_keras_optimizer_takes_the_same_step() -> None:
    keras = pytest.importorskip("keras")
    assert after_one_step(keras.optimizers.SGD(0.25)) == pytest.approx(0.75)


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer must be one of"):
        resolve_optimizer("gradient")


@pytest.mark.parametrize("wrong", [int, dict, nn.Linear])
def test_a_class_that_cannot_step_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"got the class {wrong.__name__}"):
        resolve_optimizer(wrong)


@pytest.mark.parametrize("wrong", [3, 0.1, ["sgd"]])
def test_what_is_no_optimizer_is_refused(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"optimizer must be .* got {re.escape(repr(wrong))}\. Pass"
    ):
        resolve_optimizer(wrong)
