"""Turn the optimiser a user passes into a function that creates one for given parameters."""

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
    """Fused Adam with a fast decay of the mean square and no weight decay.

    Weight decay pulls the last layer towards rank one, which makes the embedding a line.
    """
    return FusedAdam(parameters)


def optimizer_factory(optimizer: Any) -> OptimizerFactory:
    """Return a function from parameters to an optimiser.

    Parameters
    ----------
    optimizer : None, str, class, instance or callable
        None is Adam with the plan's learning rate. A name (``"adam"``, ``"sgd"``, ...) or a
        ``torch.optim.Optimizer`` class is called with its own defaults. Of an instance, only class
        and settings are used, since it belongs to other parameters; it stays unchanged. Any other
        callable gets the parameters and returns an optimiser.

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
                f"optimizer must be one of {sorted(NAMED)}, got {optimizer!r}. For another one, "
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
        f"function from parameters to an optimiser, got {type(optimizer).__name__}. Pass one of "
        "these, for example 'adam'."
    )


def optimizer_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the arguments that create an optimiser with the same settings.

    The defaults of some classes contain more than their constructor accepts: AdamW is an Adam with
    ``decoupled_weight_decay=True``.
    """
    taken = inspect.signature(type(optimizer)).parameters
    return {name: value for name, value in optimizer.defaults.items() if name in taken}
