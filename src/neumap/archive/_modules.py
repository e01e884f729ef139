"""A network as a JSON description plus named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neumap.archive._build import build_module, fill_module
from neumap.archive._describe import describe_module, tensor_state, uncompiled

__all__ = ["pack_module", "unpack_module"]


def pack_module(module: nn.Module, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a network, for the metadata and the tensors of an archive.

    Parameters
    ----------
    module : nn.Module
        Any network. What ``torch.compile`` returns is stored as the network inside.
    name : str
        Prefix of the tensors' names, for example ``"encoder"``.

    Returns
    -------
    spec : dict
        See :func:`describe_module`.
    tensors : dict of str to Tensor
        The state, each tied tensor once; they share memory with the module.

    Raises
    ------
    ArchiveError
        If the state holds something that is not a tensor, or a layer without a shape yet.

    Examples
    --------
    >>> spec, tensors = pack_module(nn.Sequential(nn.Linear(4, 2), nn.Tanh()), "encoder")
    >>> sorted(tensors)
    ['encoder.0.bias', 'encoder.0.weight']
    >>> unpack_module(spec, tensors, "encoder")
    Sequential(
      (0): Linear(in_features=4, out_features=2, bias=True)
      (1): Tanh()
    )
    """
    inner = uncompiled(module)
    spec = describe_module(inner)
    state = tensor_state(inner)
    kept = {key: value.detach() for key, value in state.items() if key not in spec["tied"]}
    return spec, {f"{name}.{key}": value for key, value in kept.items()}


def unpack_module(
    spec: Mapping[str, Any],
    tensors: Mapping[str, Any],
    name: str,
    *,
    classes: Sequence[type[nn.Module]] = (),
    module: nn.Module | None = None,
) -> nn.Module:
    """Rebuild the network of :func:`pack_module`, on the CPU, with the stored numbers in it.

    Parameters
    ----------
    spec, tensors, name
        As given and returned by :func:`pack_module`; other tensors may be among them.
    classes : sequence of nn.Module classes, optional
        Your own classes that occur in the network.
    module : nn.Module, optional
        A ready network of the same structure; it is filled and returned.

    Raises
    ------
    ArchiveError
        If a class is not known, or the network and the tensors do not fit together.
    """
    built = build_module(spec, classes=classes, module=module, name=name)
    prefix = f"{name}."
    state = {
        key.removeprefix(prefix): torch.as_tensor(value)
        for key, value in tensors.items()
        if key.startswith(prefix)
    }
    state |= {key: state[first] for key, first in spec["tied"].items() if first in state}
    fill_module(built, state, name)
    return built
