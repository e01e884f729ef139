"""A Keras loss as a function of torch tensors that returns one number per batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neumap.keras_bridge.backend import keras_on_torch

__all__ = ["KerasLoss", "loss_function"]


@dataclass(frozen=True)
class KerasLoss:
    """Mean loss of a batch, differentiable by torch.

    Attributes
    ----------
    name : str
        Keras's name of the loss.
    function : callable
        The Keras loss, ``function(y_true, y_pred)``.
    from_logits : bool
        Whether ``y_pred`` are logits; predictions then still need the activation.
    """

    name: str
    function: Callable[[Any, Any], Any]
    from_logits: bool

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss, a mean over what the Keras loss did not reduce.

        Parameters
        ----------
        y_true, y_pred : Tensor of shape (batch, ...)
            Targets and outputs of the network.
        """
        with keras_on_torch().device(str(y_pred.device)):
            loss: Tensor = self.function(y_true, y_pred)
        return loss.mean()


def loss_function(loss: Any) -> KerasLoss:
    """Wrap a Keras loss.

    Parameters
    ----------
    loss : keras.losses.Loss, callable or str
        A loss object, a loss function ``f(y_true, y_pred)`` or a name such as ``"mse"``.

    Raises
    ------
    ValueError
        If Keras has no loss of this name.
    TypeError
        If it is neither a loss nor a function.

    Examples
    --------
    >>> import torch
    >>> mse = loss_function("mse")  # doctest: +SKIP
    >>> mse(torch.zeros(2, 3), torch.ones(2, 3))  # doctest: +SKIP
    tensor(1.)
    """
    keras = keras_on_torch()
    function = _by_name(keras, loss) if isinstance(loss, str) else loss
    if not callable(function):
        raise TypeError(
            f"loss must be a Keras loss, a function of (y_true, y_pred) or a name, got {loss!r}. "
            'Pass for example keras.losses.MeanSquaredError() or "mse".'
        )
    name = getattr(function, "name", None) or getattr(function, "__name__", type(loss).__name__)
    return KerasLoss(str(name), function, _takes_logits(function))


def _by_name(keras: Any, name: str) -> Any:
    try:
        return keras.losses.get(name)
    except ValueError as error:
        raise ValueError(
            f"loss must be the name of a Keras loss, got {name!r}. Use a name of keras.losses, for "
            'example "mse" or "binary_crossentropy".'
        ) from error


def _takes_logits(function: Any) -> bool:
    # Losses that wrap a function keep its settings here. Others may have the attribute itself.
    settings = getattr(function, "_fn_kwargs", {})
    return bool(settings.get("from_logits", getattr(function, "from_logits", False)))
