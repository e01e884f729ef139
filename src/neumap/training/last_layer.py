"""The last linear layer of a network that was written elsewhere, and what it reads.

Auxiliary dimensions are a second output layer, so they need the input of the first one. It is found
by a trial: the linear layer whose output *is* the output of the network, the same tensor. Where a
network ends with something else, there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neumap._modes import evaluating

__all__ = ["LastLayer", "find_last_layer"]


class Call(NamedTuple):
    """One use of a layer."""

    given: Tensor
    returned: Tensor


class LastLayer:
    """Runs a network and tells what its last linear layer reads.

    Parameters
    ----------
    layer : nn.Module
        A part of the network, with the method ``forward`` of torch or ``call`` of Keras.
    n_features : int
        Width of its input.
    """

    def __init__(self, layer: nn.Module, n_features: int) -> None:
        self.layer = layer
        self.n_features = n_features

    def run(self, network: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of the network (batch, n_outputs) and the features behind it."""
        with _watched(self.layer) as calls:
            output: Tensor = network(rows)
        return output, calls[-1].given


@contextmanager
def _watched(layer: nn.Module) -> Iterator[list[Call]]:
    """Collect the calls of a layer."""
    calls: list[Call] = []
    # Keras has its own way to call a layer and does not know torch's hooks. An attribute of the
    # object goes before the method of its class in both.
    name = "call" if hasattr(layer, "call") else "forward"
    method = getattr(layer, name)

    def watch(*args: Any, **kwargs: Any) -> Any:
        returned = method(*args, **kwargs)
        calls.append(Call([*args, *kwargs.values()][0], returned))
        return returned

    before = vars(layer).get(name)
    vars(layer)[name] = watch
    try:
        yield calls
    finally:
        if before is None:
            del vars(layer)[name]
        else:
            vars(layer)[name] = before


def find_last_layer(
    network: nn.Module, layers: Sequence[nn.Module], probe: Tensor
) -> LastLayer | None:
    """Return the linear layer whose output is the output of a network, None where there is none.

    Parameters
    ----------
    network : nn.Module
        Already tried: it takes the probe.
    layers : sequence of nn.Module
        Its linear layers without an activation.
    probe : Tensor of shape (n, ...)
        A few rows, which the network may write on.
    """
    with ExitStack() as stack, evaluating(network, to_be_trained=True), torch.no_grad():
        watched = [(layer, stack.enter_context(_watched(layer))) for layer in layers]
        output = network(probe)
    for layer, calls in watched:
        if len(calls) == 1 and calls[0].returned is output and _are_flat(calls[0].given, output):
            return LastLayer(layer, calls[0].given.shape[1])
    return None


def _are_flat(*tensors: Tensor) -> bool:
    return all(tensor.ndim == 2 for tensor in tensors)
