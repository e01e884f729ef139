"""Say how to build a network, as a tree that JSON can hold.

A node is a layer of torch.nn from a fixed list, a plain container, a class of neumap
(``type(m)(**m.config)``), or a class of the user's, recorded by name and, if it has a ``config``
property, by its arguments. Beside the tree stand the facts a constructor does not know: which
tensors are tied, which parameters are frozen, and which modules are in evaluation mode.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from neumap.archive._errors import ArchiveError
from neumap.archive._json import fits_json
from neumap.archive._layers import CONTAINERS, LAYERS, layer_arguments

__all__ = ["describe_module", "describe_node", "public_name", "tensor_state", "uncompiled"]


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Say how to build a network, in values that JSON can hold.

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
    """Whether something on the object, which no constructor restores, changes what it computes."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _config(module: nn.Module) -> dict[str, Any] | None:
    config = getattr(module, "config", None)
    if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
        return None
    # Without arguments the class is found by name all the same; reading asks for a ready module.
    return dict(config) if fits_json(config) else None


def public_name(cls: type) -> str:
    """Dotted name; of neumap's own classes the shortest, so that files inside it may move."""
    parts = cls.__module__.split(".")
    if parts[0] == "neumap":
        for n_parts in range(2, len(parts)):
            place = ".".join(parts[:n_parts])
            if getattr(sys.modules.get(place), cls.__name__, None) is cls:
                return f"{place}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def uncompiled(module: nn.Module) -> nn.Module:
    inner = getattr(module, "_orig_mod", module)  # where torch.compile keeps it
    return inner if isinstance(inner, nn.Module) else module


def tensor_state(module: nn.Module) -> dict[str, Tensor]:
    """State with the tensors themselves, so that tied ones are the same object."""
    state = module.state_dict(keep_vars=True)
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise ArchiveError(
                f"Expected the state of the network to hold tensors; {key!r} is a "
                f"{type(value).__name__}. Keep it in a buffer or in the config property."
            )
        if nn.parameter.is_lazy(value):
            raise ArchiveError(
                f"Expected a network whose layers have shapes; {key!r} of a lazy layer has none "
                "yet. Apply the network to a batch first."
            )
    return dict(state)


def _tied(state: Mapping[str, Tensor]) -> dict[str, str]:
    first: dict[int, str] = {}
    names = {key: first.setdefault(id(value), key) for key, value in state.items()}
    return {key: name for key, name in names.items() if key != name}
