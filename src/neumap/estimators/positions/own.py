"""How a network of the user is trained: what of the built-in networks' training it gets.

Built-in networks have input noise, orthogonal steps and auxiliary dimensions. All three are decided
here from the structure of a network of PyTorch or Keras, and the length of its training from the
arithmetic of one row. The figures are in "Own networks" in ``docs/decisions.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from neumap._modes import evaluating
from neumap.keras_bridge import KerasModule
from neumap.training.last_layer import LastLayer, find_last_layer
from neumap.training.muon import Matrix

__all__ = ["OWN", "OwnNetworks", "flop_per_row", "last_layer", "matrices_of", "read_columns"]


@dataclass(frozen=True)
class OwnNetworks:
    """Settings for networks of the user, which the ablation varies."""

    optimizer: str = "muon"
    noise: float = 1.0  # times the preset's
    n_auxiliary: int = 2
    standardize: bool = False
    cluster_rows: int = 0  # 0: edge batches
    batch_rows: int | None = None
    n_edges: int = 1024
    n_steps: int | None = None
    learning_rate: float = 5e-3
    muon_recurrent: bool = True
    muon_batch_norm: bool = True


OWN = OwnNetworks()


def matrices_of(network: nn.Module) -> list[Matrix]:
    """Return the parameters that get orthogonal steps, none for tables of an embedding."""
    if isinstance(network, KerasModule):
        found = list(_keras_matrices(network))
    else:
        found = list(_torch_matrices(network))
    return list({id(matrix.parameter): matrix for matrix in found}.values())


def _torch_matrices(network: nn.Module) -> Iterator[Matrix]:
    parts = list(network.modules())
    if not OWN.muon_batch_norm and any(isinstance(part, _BatchNorm) for part in parts):
        return
    for part in parts:
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            continue
        if isinstance(part, nn.RNNBase | nn.RNNCellBase) and not OWN.muon_recurrent:
            continue
        for parameter in part.parameters(recurse=False):
            if parameter.ndim == 2 or (parameter.ndim > 2 and isinstance(part, _ConvNd)):
                yield Matrix(parameter)


def _keras_matrices(network: KerasModule) -> Iterator[Matrix]:
    for layer in network.model._flatten_layers():
        for name in ("kernel", "recurrent_kernel"):
            value = getattr(getattr(layer, name, None), "value", None)
            if isinstance(value, nn.Parameter) and value.ndim >= 2:
                yield Matrix(value, outputs_last=True)


def last_layer(network: nn.Module, probe: Tensor) -> LastLayer | None:
    """Return the linear layer that computes the output of a network; None if there is none."""
    if isinstance(network, KerasModule):
        layers = [
            layer
            for layer in network.model._flatten_layers()
            if type(layer).__name__ == "Dense" and layer.activation.__name__ == "linear"
        ]
    elif any(map(_is_compiled, network.modules())):
        return None  # watching a layer would compile its network a second time
    else:
        layers = [part for part in network.modules() if isinstance(part, nn.Linear)]
    return find_last_layer(network, layers, probe)


def _is_compiled(part: nn.Module) -> bool:
    """Whether a module is one of ``torch.compile``, or compiled in place."""
    return hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None


def read_columns(network: nn.Module, probe: Tensor) -> Tensor | None:
    """Return whether the output depends smoothly on each number of a row, (n_features,) bool.

    Where a network turns numbers into integers, as codes for the table of an embedding, no gradient
    comes back. Returns None if none comes back at all.
    """
    rows = probe.clone().requires_grad_(True)
    try:
        # CUDA's recurrent layers go backward in training mode only.
        with (
            evaluating(network, to_be_trained=True),
            torch.backends.cudnn.flags(enabled=False),
            torch.enable_grad(),
        ):
            output = network(rows * 1.0)  # not a leaf: the network may write on it
            (slope,) = torch.autograd.grad(output.float().sum(), rows, allow_unused=True)
    except Exception:  # of any kind: an operation of the user may have no gradient for its input
        return None
    return None if slope is None else (slope != 0).flatten(1).any(0)


def flop_per_row(network: nn.Module, probe: Tensor) -> float:
    """Return the arithmetic of one row, forward, in floating-point operations."""
    from torch.utils.flop_counter import FlopCounterMode

    with evaluating(network), FlopCounterMode(display=False) as counter:
        network(probe.clone())
    return counter.get_total_flops() / len(probe)
