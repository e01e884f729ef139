"""How a network of the user is trained: what of the built-in networks' training it gets.

Built-in networks have input noise, orthogonal steps and auxiliary dimensions. All three are decided
here from the structure of a network of PyTorch or Keras, and the length of its training from the
arithmetic of one row. The figures are under "Own networks" in ``docs/decisions.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from neumap._modes import evaluating
from neumap.keras_bridge import KerasModule
from neumap.training import Plan
from neumap.training.last_layer import LastLayer, find_last_layer
from neumap.training.muon import Matrix

__all__ = ["last_layer", "matrices_of", "normalises_batches", "read_columns", "shortened"]

# Operations of one row, forward, up to which a training has its full length. A network of three
# layers of 100 on images of 28 x 28 has 200,000.
CHEAP = 350_000.0
# On a card a step of 1,000 rows takes longer to launch than to compute up to about this number.
CHEAP_ON_CARD = 3e7
# A more expensive one trains in inverse proportion, but for no less than this share of the steps.
SHORTEST = 1 / 3
# If fewer steps than this remain, twice as many with half the edges reach further, and no fewer
# than these: at 2,000 rows the worst of eight seeds was .65 with 600 steps and .73 with 840.
FEW_STEPS = 1_000
FEWEST_HALVED = 840


def matrices_of(network: nn.Module, *, decodes: bool = False) -> list[Matrix]:
    """Return the parameters that get orthogonal steps.

    Those of a decoder have a length by the number of outputs. At first all numbers that it gives
    are wrong in one direction. Steps that grow with the inputs of a wide kernel then drive the
    inputs of its ReLUs below zero, from where they do not come back: with squared error the decoder
    of umap-learn's page gave zeros for every position. Encoders of images were better with the
    longer steps.

    These are all matrices and kernels, except for tables of embeddings. A network with batch
    normalisation has none: it does not depend on the scale of a matrix in front of a normalisation,
    and was worse with orthogonal steps than with Adam's.
    """
    parts = _parts(network)
    if any(map(_normalises_batches, parts)):
        return []
    find = _of_keras if isinstance(network, KerasModule) else _of_torch
    found = {id(matrix.parameter): matrix for part in parts for matrix in find(part)}
    return [replace(matrix, by_outputs=decodes) for matrix in found.values()]


def normalises_batches(network: nn.Module) -> bool:
    """Whether what the network returns for a row in training depends on the rows beside it."""
    return any(map(_normalises_batches, _parts(network)))


def _parts(network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network of PyTorch or Keras."""
    if isinstance(network, KerasModule):
        return list(network.model._flatten_layers())
    return list(network.modules())


def _normalises_batches(part: nn.Module) -> bool:
    names = {kind.__name__ for kind in type(part).__mro__}
    return not names.isdisjoint({"_BatchNorm", "BatchNormalization"})


def _of_torch(part: nn.Module) -> Iterator[Matrix]:
    if isinstance(part, nn.Embedding | nn.EmbeddingBag):
        return
    for parameter in part.parameters(recurse=False):
        if parameter.ndim == 2 or (parameter.ndim > 2 and isinstance(part, _ConvNd)):
            yield Matrix(parameter)


def _of_keras(layer: nn.Module) -> Iterator[Matrix]:
    for name in ("kernel", "recurrent_kernel"):
        value = getattr(getattr(layer, name, None), "value", None)
        if isinstance(value, nn.Parameter) and value.ndim >= 2:
            yield Matrix(value, outputs_last=True)


def last_layer(network: nn.Module, probe: Tensor) -> LastLayer | None:
    """Return the linear layer that computes the output of a network; None if there is none."""
    parts = _parts(network)
    if any(map(_is_compiled, parts)):
        return None  # watching a layer would compile its network a second time
    return find_last_layer(network, list(filter(_is_linear, parts)), probe)


def _is_linear(part: nn.Module) -> bool:
    """Whether a part is a layer of torch, or one of Keras without an activation."""
    activation = getattr(part, "activation", None)
    is_of_keras = any(kind.__name__ == "Dense" for kind in type(part).__mro__)
    is_plain = getattr(activation, "__name__", None) == "linear"
    return isinstance(part, nn.Linear) or (is_of_keras and is_plain)


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


def shortened(
    plan: Plan, flops: float | None, *, has_batch_size: bool, on_card: bool = False
) -> Plan:
    """Return a plan with fewer encoded rows if a network is expensive.

    Parameters
    ----------
    plan : Plan
        Of a cheap network.
    flops : float or None
        Operations of the network for one row, forward; None where they cannot be counted.
    has_batch_size : bool
        Whether the user chose the edges per step, which then stay.
    on_card : bool, default=False
        Whether it trains on a CUDA device, for which more operations are cheap.
    """
    if flops is None:
        return plan
    cheap = CHEAP_ON_CARD if on_card else CHEAP
    share = min(1.0, max(SHORTEST, cheap / max(flops, 1.0)))
    n_steps = max(1, round(share * plan.n_steps))
    if share == 1.0 or has_batch_size or n_steps >= FEW_STEPS or plan.batch_edges < 2:
        return replace(plan, n_steps=n_steps)
    halved = max(2 * n_steps, min(FEWEST_HALVED, plan.n_steps))
    return replace(plan, n_steps=halved, batch_edges=plan.batch_edges // 2)
