"""Describe how to build a network, as a tree that JSON can hold.

A node is a layer of torch.nn from a fixed list, a plain container, a class of neumap
(``type(m)(**m.config)``), or a class of the user, recorded by name and, if it has a ``config``
property, by its arguments. The description also lists what no constructor knows: which tensors are
tied, which parameters are frozen, and which modules are in evaluation mode.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from neumap.archive.encoding import fits_json
from neumap.archive.errors import ArchiveError
from neumap.archive.layers import CONTAINERS, LAYERS, layer_arguments
from neumap.archive.specs import check_spec

__all__ = [
    "describe_module",
    "describe_node",
    "pack_module",
    "public_name",
    "tensor_state",
    "uncompiled",
]


def pack_module(module: nn.Module, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return description and tensors of a network, for an archive's metadata and tensors.

    Parameters
    ----------
    module : nn.Module
        Any network. A compiled one is stored as the network inside.
    name : str
        Prefix of the tensors' names, such as ``"encoder"``.

    Returns
    -------
    spec : dict
        As returned by :func:`describe_module`.
    tensors : dict of str to Tensor
        The state, each tied tensor once. They share memory with the module.

    Raises
    ------
    ArchiveError
        If the state holds something that is not a tensor.

    Notes
    -----
    A lazy layer that has not seen a batch is described without tensors, and lazy when it is read.

    Examples
    --------
    >>> spec, tensors = pack_module(nn.Sequential(nn.Linear(4, 2), nn.Tanh()), "encoder")
    >>> sorted(tensors)
    ['encoder.0.bias', 'encoder.0.weight']
    >>> from neumap.archive import unpack_module
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
    check_spec(spec, name, len(kept))  # what cannot be read is not written
    return spec, {f"{name}.{key}": value for key, value in kept.items()}


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Describe how to build a network, in values that JSON can hold.

    Returns
    -------
    dict
        ``root``: the tree of classes and arguments; ``tied``: state name to the name of the first
        tensor that is the same object; ``frozen``: parameters without gradient; ``eval``: modules
        in evaluation mode.
    """
    inner = uncompiled(module)
    return {
        "root": describe_node(inner, "", {}),
        "tied": _tied(tensor_state(inner)),
        "frozen": [
            key
            for key, parameter in inner.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad
        ],
        "eval": [path for path, part in inner.named_modules() if not part.training],
    }


def describe_node(module: nn.Module, path: str, seen: dict[int, str]) -> dict[str, Any]:
    """Describe a module and its parts; `seen` maps ids of modules to their paths."""
    if id(module) in seen:
        return {"same_as": seen[id(module)]}
    seen[id(module)] = path
    cls = type(module)
    is_plain = not _is_altered(module)
    if is_plain and CONTAINERS.get(cls.__name__) is cls:
        children = module._modules.items()  # named_children() skips a child that occurs twice
        return {
            "container": cls.__name__,
            "children": [
                [key, describe_node(child, f"{path}.{key}".lstrip("."), seen)]
                for key, child in children
                if child is not None
            ],
        }
    if is_plain and LAYERS.get(cls.__name__) is cls:
        return {"layer": cls.__name__, "config": layer_arguments(module)}
    return {"class": public_name(cls), "config": _config(module) if is_plain else None}


def _is_altered(module: nn.Module) -> bool:
    """Return whether hooks or a patched forward, which no constructor restores, are present."""
    n_own = int(isinstance(module, LazyModuleMixin))  # the hook that makes its tensors
    n_hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
    return n_hooks > n_own or "forward" in vars(module)


def _config(module: nn.Module) -> dict[str, Any] | None:
    config = getattr(module, "config", None)
    if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
        return None
    # A class without arguments is recorded by name; reading it needs a ready module.
    return dict(config) if fits_json(config) else None


def public_name(cls: type) -> str:
    """Return the dotted name, the shortest for neumap's classes, so that its files can move."""
    parts = cls.__module__.split(".")
    if parts[0] == "neumap":
        for n_parts in range(2, len(parts)):
            module = ".".join(parts[:n_parts])
            if getattr(sys.modules.get(module), cls.__name__, None) is cls:
                return f"{module}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the network inside a compiled one."""
    inner = getattr(module, "_orig_mod", module)  # set by torch.compile
    return inner if isinstance(inner, nn.Module) else module


def tensor_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state with the tensors themselves: tied ones are the same object.

    Lazy layers that have not seen a batch have none.
    """
    state = module.state_dict(keep_vars=True)
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise ArchiveError(
                f"The state of the network must hold tensors, got a {type(value).__name__} in "
                f"{key!r}. Keep it in a buffer or in the config property."
            )
    return {key: value for key, value in state.items() if not nn.parameter.is_lazy(value)}


def _tied(state: Mapping[str, Tensor]) -> dict[str, str]:
    first: dict[int, str] = {}
    names = {key: first.setdefault(id(value), key) for key, value in state.items()}
    return {key: name for key, name in names.items() if key != name}
