"""A Keras optimizer that updates torch parameters.

Keras's own update runs on Keras variables that share memory with the parameters. Every optimizer
and option therefore acts as in Keras (schedules, clipping, decoupled weight decay, epsilon outside
the bias correction). A translation to ``torch.optim`` could only approximate this. A step of Adam
on eight matrices of 100 × 100 takes about 1.6 times as long as torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neumap.keras_bridge.backend import keras_on_torch
from neumap.keras_bridge.copying import copy_keras
from neumap.keras_bridge.detect import is_keras_optimizer

__all__ = ["KerasOptimizer", "keras_optimizer_factory"]


def keras_optimizer_factory(
    keras_optimizer: Any,
) -> Callable[[Iterable[nn.Parameter]], KerasOptimizer]:
    """Return a function that creates an optimizer like a Keras one for given parameters.

    Parameters
    ----------
    keras_optimizer : keras.optimizers.Optimizer
        Its settings are used; the object itself is copied and stays unchanged.

    Returns
    -------
    callable
        ``factory(parameters) -> KerasOptimizer``, a new one at each call.

    Raises
    ------
    TypeError
        If it is not a Keras optimizer.
    ValueError
        If one of its settings has no effect here.
    """
    if not is_keras_optimizer(keras_optimizer):
        raise TypeError(
            f"optimizer must be a Keras optimizer, got {type(keras_optimizer).__name__}. Pass for "
            "example keras.optimizers.Adam(1e-3)."
        )
    keras_on_torch()
    _check_settings(keras_optimizer)

    def factory(parameters: Iterable[nn.Parameter]) -> KerasOptimizer:
        return KerasOptimizer(keras_optimizer, parameters)

    return factory


class KerasOptimizer(torch.optim.Optimizer):
    """Updates torch parameters by a copy of a Keras optimizer.

    ``param_groups[0]["lr"]`` is the learning rate of the next step. It can be set, unless the Keras
    optimizer has a schedule.

    Parameters
    ----------
    keras_optimizer : keras.optimizers.Optimizer
        Settings; stays unchanged.
    parameters : iterable of nn.Parameter
        What to train; those with ``requires_grad=False`` are ignored.
    """

    def __init__(self, keras_optimizer: Any, parameters: Iterable[nn.Parameter]) -> None:
        self._keras = keras_on_torch()
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            raise ValueError(
                "At least one parameter must have requires_grad=True, got none. Give the network a "
                "layer with trainable weights."
            )
        self._own = _fresh(keras_optimizer)
        with self._on_device(trained[0].device):
            self._variables = [self._keras.Variable(p) for p in trained]
            self._own.build(self._variables)
            for variable in self._own.variables:  # some were created on Keras's default device
                variable.value.data = variable.value.data.to(trained[0].device)
        self._known_lr = self._keras_lr()
        super().__init__(trained, defaults={"lr": self._known_lr})

    @property
    def keras_optimizer(self) -> Any:
        """The Keras optimizer that computes the updates."""
        return self._own

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters that have gradients.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients first, as in torch.

        Returns
        -------
        The loss of the closure, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        ready = [v for v in self._variables if v.value.grad is not None]
        if ready:
            with self._on_device(ready[0].value.device):
                self._write_lr()
                self._own.apply([v.value.grad for v in ready], ready)
                self._read_lr()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the optimizer's variables in Keras's order, and the parameter groups."""
        tensors = [v.value.detach().clone() for v in self._own.variables]
        groups = super().state_dict()["param_groups"]
        return {"state": dict(enumerate(tensors)), "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises
        ------
        ValueError
            If it is from another kind of optimizer or other parameters.
        """
        state: dict[int, Tensor] = state_dict["state"]
        own = self._own.variables
        shapes = [tuple(v.shape) for v in own]
        given = [tuple(tensor.shape) for tensor in state.values()]
        if shapes != given:
            raise ValueError(
                f"The state must be that of {type(self._own).__name__} with {len(shapes)} "
                f"variables, got {len(given)} of shapes {given}. Load it into the same kind of "
                "optimizer for the same parameters."
            )
        for variable, tensor in zip(own, state.values(), strict=True):
            variable.value.copy_(tensor)
        # The learning rate, or the step of its schedule, is one of the variables.
        self._known_lr = self._keras_lr()
        given_lr = state_dict["param_groups"][0]["lr"]
        self.param_groups[0]["lr"] = self._known_lr if self._has_schedule() else given_lr

    def _on_device(self, device: torch.device) -> Any:
        return self._keras.device(str(device))

    def _has_schedule(self) -> bool:
        return not isinstance(self._own._learning_rate, self._keras.Variable)

    def _keras_lr(self) -> float:
        return float(self._own.learning_rate)

    def _write_lr(self) -> None:
        lr = self.param_groups[0]["lr"]
        if lr == self._known_lr:
            return
        if self._has_schedule():
            raise ValueError(
                f"The learning rate must be that of the Keras optimizer's schedule, "
                f"{self._known_lr}, got {lr}. Give the Keras optimizer a float instead."
            )
        self._own.learning_rate = lr
        self._known_lr = lr

    def _read_lr(self) -> None:
        if self._has_schedule():
            self._known_lr = self.param_groups[0]["lr"] = self._keras_lr()


def _fresh(keras_optimizer: Any) -> Any:
    """Return an unbuilt copy; an optimizer that is built is created again from its settings."""
    if not keras_optimizer.built:
        return copy_keras(keras_optimizer)
    return type(keras_optimizer).from_config(keras_optimizer.get_config())


def _check_settings(keras_optimizer: Any) -> None:
    """Raise for settings that need a part of Keras's training that does not run here."""
    refusals = {
        "loss_scale_factor": "scales a loss that Keras does not compute here. Leave it out",
        "inner_optimizer": "scales a loss that Keras does not compute here. Pass the inner one",
        "_inner_optimizers": "selects variables by Keras's names. Pass one optimizer",
        "_exclude_from_weight_decay": "needs Keras's names. Use torch.optim.AdamW with groups",
    }
    for name, reason in refusals.items():
        if getattr(keras_optimizer, name, None) is not None:
            raise ValueError(
                f"The Keras optimizer must work without Keras's training, got "
                f"{type(keras_optimizer).__name__} with {name.lstrip('_')}, which {reason}."
            )
    if keras_optimizer.use_ema:
        raise ValueError(
            "use_ema must be False, got True. Averages become the weights at the end of Keras's "
            "fit, which does not run here. Leave it out. A decaying learning rate acts similarly."
        )
