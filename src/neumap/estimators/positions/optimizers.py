"""The parameter `optimizer`, resolved and checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from neumap.estimators.constraints import short_text
from neumap.keras_bridge import is_keras_optimizer, keras_optimizer_factory
from neumap.training import optimizer_factory
from neumap.training.optimizers import Optimizer, OptimizerFactory

__all__ = ["resolve_optimizer"]

# They call a function for the loss, or need sparse gradients.
OTHER_STEPS = (torch.optim.LBFGS, torch.optim.SparseAdam)


def resolve_optimizer(optimizer: Any) -> OptimizerFactory:
    """Return a function from parameters to an optimiser; Keras optimisers included.

    Raises
    ------
    ValueError
        If a name is unknown.
    TypeError
        If it is neither a name, an optimiser nor a function.
    """
    if is_keras_optimizer(optimizer):
        return keras_optimizer_factory(optimizer)
    if optimizer is None or isinstance(optimizer, str):
        return optimizer_factory(optimizer)
    kind = optimizer if isinstance(optimizer, type) else type(optimizer)
    is_class = isinstance(optimizer, type) and hasattr(optimizer, "zero_grad")
    is_object = isinstance(optimizer, torch.optim.Optimizer)
    is_function = callable(optimizer) and not isinstance(optimizer, type | nn.Module)
    if not (is_class or is_object or is_function) or issubclass(kind, nn.Module):
        given = f"the class {kind.__name__}" if kind is optimizer else short_text(optimizer)
        raise TypeError(
            "optimizer must be None, a name, a torch.optim class or instance, a Keras optimizer "
            f"or a function from parameters to an optimiser, got {given}. Pass "
            "one of these, for example 'adam'."
        )
    if issubclass(kind, OTHER_STEPS):
        raise ValueError(
            f"optimizer must take a step from one dense gradient, got {kind.__name__}, which does "
            "not. Use torch.optim.Adam, for example."
        )
    return partial(_make, optimizer_factory(optimizer))


def _make(make: OptimizerFactory, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make the user's optimiser; say which parameter is meant if that fails."""
    try:
        made = make(parameters)
    except Exception as error:
        raise ValueError(
            "optimizer must make an optimiser of the parameters, got "
            f"{type(error).__name__}: {str(error).rstrip('. ')}. Change optimizer, or pass a "
            "function from parameters to an optimiser."
        ) from error
    if not all(hasattr(made, name) for name in ("param_groups", "zero_grad", "step")):
        raise TypeError(
            "optimizer must return an optimiser with param_groups, zero_grad and step, got "
            f"{short_text(made)}. Return a torch.optim.Optimizer."
        )
    return made
