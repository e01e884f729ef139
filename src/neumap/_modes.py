"""The state of torch around a block of code: modes of modules, gradients, autocast, dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["draws_from_torch", "evaluating", "evaluation_mode", "own_torch_state"]

# Layers of torch.nn that draw random numbers while they train, or contain such layers.
RANDOM_LAYERS = (
    "Dropout",
    "RReLU",
    "FractionalMaxPool",
    "RNN",
    "LSTM",
    "GRU",
    "Multihead",
    "Trans",
)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation, and restore the mode of each submodule afterwards.

    ``module.train(mode)`` would not do: it sets all submodules to one mode, also those that their
    owner keeps in evaluation, such as a frozen batch normalisation.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, was_training in modes:
            part.training = was_training


@contextmanager
def evaluating(module: nn.Module, *, to_be_trained: bool = False) -> Iterator[None]:
    """Switch a module to evaluation without gradients, and restore its modes afterwards.

    With `to_be_trained`, parameters that lazy layers create in the block can be trained later.
    Tensors created in torch's inference mode cannot.
    """
    # Compiled by TorchScript for training, a module keeps tensors for backward whatever the mode.
    is_scripted = any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
    keeps_gradients = to_be_trained or is_scripted
    gradients_off = torch.no_grad() if keeps_gradients else torch.inference_mode()
    with evaluation_mode(module), gradients_off:
        yield


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Run code with gradients, without autocast and with float32 as the default dtype.

    The default dtype is one for all threads of a process. It is changed only if it is another one.
    """
    default = torch.get_default_dtype()
    if default != torch.float32:
        torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), _without_autocast():
            yield
    finally:
        if default != torch.float32:
            torch.set_default_dtype(default)


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Switch a surrounding autocast off.

    Not by a nested ``autocast(enabled=False)``: casts of weights are cached until the outermost
    autocast ends, so that training inside one would use the weights of the first step for ever.
    """
    surrounding = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    is_cached = torch.is_autocast_cache_enabled()
    if surrounding:
        torch.set_autocast_cache_enabled(False)
        torch.clear_autocast_cache()
    for kind in surrounding:
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        for kind in surrounding:
            torch.set_autocast_enabled(kind, True)
        torch.set_autocast_cache_enabled(is_cached)


def draws_from_torch(module: nn.Module) -> bool:
    """Whether a module may draw random numbers while it trains: all but known layers may."""
    return not all(map(_is_known_to_draw_nothing, module.modules()))


def _is_known_to_draw_nothing(part: nn.Module) -> bool:
    kind = type(part)
    if kind.__module__.startswith("neumap."):
        return not kind.__module__.startswith("neumap.keras_bridge")
    is_of_torch = kind.__module__.startswith("torch.nn.modules.")
    return is_of_torch and not any(name in kind.__name__ for name in RANDOM_LAYERS)
