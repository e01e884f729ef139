"""Features of rows in the middle hidden layer of any network.

The input of each layer that has weights, except the first such layer, is a hidden feature vector.
Hooks read it during an ordinary pass, so that the network needs no method of its own. The middle
layer recognises novel rows best: the first ones are much like the rows themselves, and the last
ones have lost what the embedding does not show.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neumap._modes import evaluating
from neumap.data import RowStore
from neumap.training.embedders import rows_to_write_on

__all__ = ["hidden_directions"]

SMALLEST = torch.finfo(torch.float32).tiny


def hidden_directions(
    encoder: nn.Module, rows: RowStore, batch_rows: int = 1024
) -> NDArray[np.float32]:
    """Return the feature vectors of rows in the middle hidden layer, scaled to length 1.

    Parameters
    ----------
    encoder : nn.Module
        Maps each row to a position on its own.
    rows : RowStore
        Rows to compute features of.
    batch_rows : int, default=1024
        Rows per pass.

    Returns
    -------
    ndarray of shape (n_rows, n_values), float32
        Features of layer ``(n_layers + 1) // 2`` of `n_layers` hidden layers. For a network in
        which no hidden layer is found, such as a Keras model, a TorchScript module or a single
        linear layer, the outputs themselves, as they are.
    """
    parts = []
    with evaluating(encoder):
        for part in rows.slices(batch_rows):
            with _layer_inputs(encoder, len(part)) as found:
                outputs = encoder(rows_to_write_on(encoder, part))
            values = found[(len(found) - 1) // 2] if found else outputs.float()
            parts.append(values.cpu().numpy())
    return np.concatenate(parts)


@contextmanager
def _layer_inputs(encoder: nn.Module, n_rows: int) -> Iterator[list[Tensor]]:
    """Collect the unit inputs of layers with weights, but for the first, during the block."""
    found: list[Tensor] = []
    n_seen = 0
    thread = threading.get_ident()

    def read(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal n_seen
        # Another thread may be in `transform` with the same network.
        if threading.get_ident() != thread:
            return
        n_seen += 1
        if n_seen > 1 and inputs and _has_rows(inputs[0], n_rows):
            found.append(_unit(inputs[0].flatten(1).float()))

    layers = [part for part in encoder.modules() if _is_layer(part)]
    handles = [layer.register_forward_pre_hook(read) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _unit(features: Tensor) -> Tensor:
    """Return rows of length 1 in memory of their own: a later layer may write on the input."""
    # Squares of large values would overflow. A row of zeros stays zero.
    largest = features.abs().amax(dim=1, keepdim=True)
    return nn.functional.normalize(features / largest.clamp_min(SMALLEST), dim=1)


def _is_layer(part: nn.Module) -> bool:
    """Whether a module has weights of its own and no parts, and takes hooks."""
    if isinstance(part, torch.jit.ScriptModule):
        return False
    is_leaf = next(part.children(), None) is None
    return is_leaf and next(part.parameters(), None) is not None


def _has_rows(value: Any, n_rows: int) -> bool:
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return is_float and value.ndim > 1 and len(value) == n_rows
