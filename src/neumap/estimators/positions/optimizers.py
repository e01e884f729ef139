"""The parameter `optimizer`, resolved and checked before anything is trained."""

from __future__ import annotations

from typing import Any

from neumap.keras_bridge import is_keras_optimizer, keras_optimizer_factory
from neumap.training import optimizer_factory
from neumap.training.optimizers import OptimizerFactory

__all__ = ["resolve_optimizer"]


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
    if isinstance(optimizer, type) and not hasattr(optimizer, "step"):
        raise TypeError(
            "optimizer must be None, a name, a torch.optim class or instance, a Keras optimizer "
            f"or a function from parameters to an optimiser, got the class {optimizer.__name__}. "
            "Change optimizer."
        )
    return optimizer_factory(optimizer)
