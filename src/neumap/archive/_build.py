"""Build a network from its description, and put stored numbers into it.

Layers and containers come from a fixed list, classes of neumap from this package; any other class
or a ready module comes from the caller. Nothing is imported because a file names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neumap.archive._describe import describe_node, public_name, tensor_state, uncompiled
from neumap.archive._errors import ArchiveError
from neumap.archive._layers import CONTAINERS, LAYERS

__all__ = ["build_module", "fill_module"]


def build_module(
    spec: Mapping[str, Any],
    *,
    classes: Sequence[type[nn.Module]] = (),
    module: nn.Module | None = None,
    name: str = "module",
) -> nn.Module:
    """Build the network of :func:`describe_module`, with fresh weights, on the CPU.

    Global random state is as before afterwards, though constructors draw from it.

    Parameters
    ----------
    spec : mapping
        Result of :func:`describe_module`.
    classes : sequence of nn.Module classes, optional
        Your own classes that occur in the network. They are matched by full name, then by the
        name alone, so that a class may move to another file.
    module : nn.Module, optional
        Use this one instead of building one; its recorded arguments must agree where it has any.
    name : str
        How messages call the network and the argument to pass, for example ``"encoder"``.
    """
    if module is None:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            built = _Builder(classes, name).build(spec["root"], "")
    else:
        built = uncompiled(module)
        _check_same_arguments(spec["root"], built, name)
    _tie(built, spec["tied"], name)
    frozen, evaluated = set(spec["frozen"]), set(spec["eval"])
    for key, parameter in built.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(key not in frozen)
    for path, part in built.named_modules():
        part.training = path not in evaluated
    return built


class _Builder:
    """Builds the tree, remembering each module by its path for those that occur twice."""

    def __init__(self, classes: Sequence[type[nn.Module]], name: str) -> None:
        self.classes = list(classes)
        self.name = name
        self.built: dict[str, nn.Module] = {}

    def build(self, node: Mapping[str, Any], path: str) -> nn.Module:
        if "same_as" in node:
            return self.built[node["same_as"]]
        if "container" in node:
            module = self._container(node, path)
        elif "layer" in node:
            module = self._call(self._layer(node["layer"]), node["config"], path)
        else:
            module = self._call(self._class(node, path), node["config"] or {}, path)
        self.built[path] = module
        return module

    def _container(self, node: Mapping[str, Any], path: str) -> nn.Module:
        module = CONTAINERS[node["container"]]()
        for key, child in node["children"]:
            module.add_module(key, self.build(child, f"{path}.{key}".lstrip(".")))
        return module

    def _layer(self, name: str) -> type[nn.Module]:
        if name not in LAYERS:
            raise ArchiveError(
                f"Expected layers that torch {torch.__version__} has and neumap rebuilds; the "
                f"file's {self.name} holds {name!r}. Update torch and neumap, or pass "
                f"{self.name}=<the module>."
            )
        return LAYERS[name]

    def _class(self, node: Mapping[str, Any], path: str) -> type[nn.Module]:
        full = node["class"]
        short = full.rpartition(".")[2]
        for matches in (
            [cls for cls in self.classes if public_name(cls) == full],
            [cls for cls in self.classes if cls.__name__ == short],
        ):
            if matches:
                return matches[0]
        own = _class_of_neumap(full)
        if own is not None:
            return own
        how = (
            f"Pass classes=[{short}], or {self.name}=<a module of the same structure>."
            if node["config"] is not None
            else f"Pass {self.name}=<a module of the same structure>; or give {short} a config "
            "property with its constructor's arguments, save again, and pass "
            f"classes=[{short}]."
        )
        raise ArchiveError(
            f"Expected to know the class {full} of the file's {self.name}"
            f"{f' (part {path!r})' if path else ''}; it is neither in torch.nn nor in neumap, "
            f"and no code is imported because a file names it. {how}"
        )

    def _call(self, cls: type[nn.Module], arguments: Mapping[str, Any], path: str) -> nn.Module:
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise ArchiveError(
                f"Expected {cls.__name__}(**{dict(arguments)}) to build part {path!r} of the "
                f"file's {self.name}; it raised {type(error).__name__}: {error}. "
                f"Pass {self.name}=<a ready module>, or the class as it was when saved."
            ) from error


def _class_of_neumap(full: str) -> type[nn.Module] | None:
    """A network class of this package; names of anything else are never imported."""
    place, _, name = full.rpartition(".")
    if not place.startswith("neumap."):
        return None
    try:
        found = getattr(importlib.import_module(place), name, None)
    except ModuleNotFoundError:
        return None
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        return None
    return found if found.__module__.startswith("neumap.") else None  # what a file here imports


def _tie(module: nn.Module, tied: Mapping[str, str], name: str) -> None:
    """Make the tensors named in ``tied`` the same objects again."""
    for key, first in tied.items():
        owner_path, _, attribute = key.rpartition(".")
        first_path, _, first_attribute = first.rpartition(".")
        try:
            owner = module.get_submodule(owner_path)
            original = getattr(module.get_submodule(first_path), first_attribute)
            if getattr(owner, attribute) is not original:
                setattr(owner, attribute, original)
        except AttributeError as error:
            raise ArchiveError(
                f"Expected the {name} to have {first!r} and {key!r}, which are one tensor in the "
                f"file; it has not ({error}). Pass {name}=<a module of the same structure>."
            ) from error


def _check_same_arguments(node: Mapping[str, Any], module: nn.Module, name: str) -> None:
    """Refuse a ready module that says of itself that it was made otherwise."""
    recorded, given = _arguments(node), _arguments(describe_node(module, "", {}))
    if recorded is not None and given is not None and recorded != given:
        raise ArchiveError(
            f"Expected the {name} passed to be made as the one in the file, {recorded}; it is made "
            f"as {given}. Make it with the recorded arguments."
        )


def _arguments(node: Mapping[str, Any]) -> Any:
    """Layers and arguments without names of classes, which may change; None where not recorded."""
    if "children" in node:
        parts = {key: _arguments(child) for key, child in node["children"]}
        return None if None in parts.values() else parts
    if "layer" in node:
        return {node["layer"]: node["config"]}
    return node["config"] if "class" in node else dict(node)


def fill_module(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    own = tensor_state(module)
    problems = [f"no tensor for {key!r}" for key in own if key not in state]
    problems += [f"no place for {key!r}" for key in state if key not in own]
    problems += [
        f"{key!r} has shape {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} here"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ArchiveError(
            f"Expected the {name} to fit the tensors in the file; {'; '.join(problems[:4])}{more}. "
            f"Pass {name}=<a module of the structure that was saved>."
        )
    for key, value in state.items():
        if own[key].dtype != value.dtype:
            own[key].data = own[key].data.to(value.dtype)  # in place: ties and references stay
    module.load_state_dict(dict(state))
