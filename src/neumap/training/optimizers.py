"""From what the user calls an optimiser to a function that makes one for given parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn

from neumap.training.adam import FusedAdam
from neumap.training.muon import Muon

__all__ = ["Optimizer", "OptimizerFactory", "optimizer_factory", "optimizer_settings"]

NAMED = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "muon": Muon,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


class Optimizer(Protocol):
    """The part of ``torch.optim.Optimizer`` that training uses."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None: ...
    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


def default_optimizer(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Adam in its fused form, with a short memory for squares and no weight decay.

    Decay of the weights pulls the last layer towards rank one, a map that is a line.
    """
    return FusedAdam(parameters)


def optimizer_factory(optimizer: Any) -> OptimizerFactory:
    """Return a function from parameters to an optimiser.

    Parameters
    ----------
    optimizer : None, str, class, instance or callable
        None is Adam with the plan's learning rate. A name (``"adam"``, ``"sgd"``, ...) or a
        ``torch.optim.Optimizer`` class is called with its own defaults. An instance lends its
        class and settings; the optimiser itself belongs to other parameters and stays untouched.
        Any other callable gets the parameters and returns an optimiser.

    Raises
    ------
    ValueError
        If a name is unknown.
    TypeError
        If `optimizer` is none of these.
    """
    if optimizer is None:
        return default_optimizer
    if isinstance(optimizer, str):
        if optimizer.lower() not in NAMED:
            raise ValueError(
                f"optimizer must be one of {sorted(NAMED)}, got {optimizer!r}. For another one "
                "pass its class, or a function from parameters to an optimiser."
            )
        return NAMED[optimizer.lower()]
    if isinstance(optimizer, torch.optim.Optimizer):
        kind, settings = type(optimizer), optimizer_settings(optimizer)
        return lambda parameters: kind(parameters, **settings)
    if callable(optimizer):
        factory: OptimizerFactory = optimizer
        return factory
    raise TypeError(
        "optimizer must be None, a name, a torch.optim class or instance, a Keras optimizer or a "
        f"function from parameters to an optimiser; got {type(optimizer).__name__}."
    )


def optimizer_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the arguments that make an optimiser of the same kind and settings.

    Some classes keep more among their defaults than they take: AdamW is an Adam with
    ``decoupled_weight_decay=True``.
    """
    taken = inspect.signature(type(optimizer)).parameters
    return {name: value for name, value in optimizer.defaults.items() if name in taken}
