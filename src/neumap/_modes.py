"""Evaluation mode for a block of code, after which every part of a module is as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating", "evaluation_mode"]


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
    gradients_off = torch.no_grad() if to_be_trained else torch.inference_mode()
    with evaluation_mode(module), gradients_off:
        yield
