"""Build a network from its description, and fill it with the stored tensors.

Layers and containers come from a fixed list, classes of neumap from ``neumap.networks``. Any other
class or a ready module comes from the caller. No name in a file is imported.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neumap.archive.describe import describe_node, public_name, tensor_state, uncompiled
from neumap.archive.errors import ArchiveError
from neumap.archive.layers import CONTAINERS, LAYERS
from neumap.archive.specs import check_arguments, check_spec

__all__ = ["build_module", "fill_module", "unpack_module"]

# Rooms whose classes a file can name.
NETWORKS = ("neumap.networks",)


def unpack_module(
    spec: Mapping[str, Any],
    tensors: Mapping[str, Any],
    name: str,
    *,
    classes: Sequence[type[nn.Module]] = (),
    module: nn.Module | None = None,
) -> nn.Module:
    """Rebuild the network of :func:`pack_module` on the CPU, with the stored tensors.

    The shapes that the description asks for are compared with the stored tensors before memory is
    allocated for them.

    Parameters
    ----------
    spec, tensors, name
        As given to and returned by :func:`pack_module`. Other tensors are ignored.
    classes : sequence of nn.Module classes, optional
        Your own classes that the network uses. Their constructors get the arguments in the file,
        whose size nothing bounds.
    module : nn.Module, optional
        A ready network of the same structure. It is filled and returned.

    Raises
    ------
    ArchiveError
        If the description is not valid, a class is not known, or network and tensors do not fit
        together.
    """
    prefix = f"{name}."
    state = {
        key.removeprefix(prefix): torch.as_tensor(value)
        for key, value in tensors.items()
        if key.startswith(prefix)
    }
    check_spec(spec, name, len(state))
    state |= {key: state[first] for key, first in spec["tied"].items() if first in state}
    if module is None:
        _check_sizes(spec, state, classes, name)
    built = build_module(spec, classes=classes, module=module, name=name)
    fill_module(built, state, name)
    return built


def build_module(
    spec: Mapping[str, Any],
    *,
    classes: Sequence[type[nn.Module]] = (),
    module: nn.Module | None = None,
    name: str = "module",
) -> nn.Module:
    """Build the network of :func:`describe_module`, with fresh weights, on the CPU.

    The global random state is unchanged, although constructors draw from it.

    Parameters
    ----------
    spec : mapping
        As returned by :func:`describe_module`.
    classes : sequence of nn.Module classes, optional
        Your own classes that the network uses. They are matched by full name, then by the short
        name, so that a class can move to another file.
    module : nn.Module, optional
        Use this module instead of building one. Its arguments, if known, must agree.
    name : str
        Name of the network and of the argument to pass in messages, such as ``"encoder"``.
    """
    check_spec(spec, name)
    if module is None:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            built = _Builder(classes, name).build(spec["root"], "")
    else:
        built = uncompiled(module)
        _check_same_arguments(spec["root"], built, name)
    _tie(built, spec["tied"], name)
    frozen, evaluated = set(spec["frozen"]), set(spec["eval"])
    for key, parameter in built.named_parameters(remove_duplicate=False):
        parameter.requires_grad = key not in frozen  # lazy ones have no requires_grad_
    for path, part in built.named_modules():
        part.training = path not in evaluated
    return built


def _check_sizes(
    spec: Mapping[str, Any],
    state: Mapping[str, Tensor],
    classes: Sequence[type[nn.Module]],
    name: str,
) -> None:
    """Raise if the network does not have the shapes of the state; allocates no memory for it.

    Classes of the caller are left out. Their constructors may need real tensors, or keep what they
    computed for the next object.
    """
    builder = _Builder(classes, name, n_tensors=len(state), is_sketch=True)
    with warnings.catch_warnings(), torch.device("meta"), _WithoutNormal():
        warnings.simplefilter("ignore")  # of layers without weights, which the state rules out
        sketch = builder.build(spec["root"], "")
    own = tensor_state(sketch)
    _check_fit(builder.without_unknown(own), builder.without_unknown(state), name)


class _WithoutNormal(TorchFunctionMode):
    """Skips ``normal_``, for which the meta device imports torch's compiler, about 2 seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call any other function of torch as it is."""
        named = kwargs or {}
        if getattr(func, "__name__", "") == "normal_":
            return args[0] if args else named["tensor"]
        return func(*args, **named)


class _Builder:
    """Builds the tree and keeps each module by its path, for those that occur twice."""

    def __init__(
        self,
        classes: Sequence[type[nn.Module]],
        name: str,
        *,
        n_tensors: int | None = None,
        is_sketch: bool = False,
    ) -> None:
        self.classes = list(classes)
        self.name = name
        self.n_tensors = n_tensors
        self.is_sketch = is_sketch
        self.built: dict[str, nn.Module] = {}
        self.unknown: list[str] = []  # paths that a sketch leaves out

    def build(self, node: Mapping[str, Any], path: str) -> nn.Module:
        kind = next(iter(node))
        if kind == "same_as":
            return self._again(node["same_as"], path)
        module: nn.Module
        if kind == "container":
            module = self._container(node, path)
        elif kind == "layer":
            module = self._call(self._layer(node["layer"]), node["config"], path)
        else:
            cls = self._class(node, path)
            if self.is_sketch and cls in self.classes:
                self.unknown.append(path)
                module = nn.Identity()
            else:
                module = self._call(cls, node["config"] or {}, path)
        self.built[path] = module
        return module

    def without_unknown(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that a sketch can be compared with."""
        return {
            key: tensor
            for key, tensor in state.items()
            if not any(_is_inside(key, path) for path in self.unknown)
        }

    def _again(self, first: str, path: str) -> nn.Module:
        if first not in self.built:
            raise ArchiveError(
                f"Part {path!r} of the file's {self.name} must be the same as an earlier part, got "
                f"{first!r:.100}. Pass {self.name}=<the module>."
            )
        inside = [other for other in self.unknown if _is_inside(other, first)]
        self.unknown += [path + other[len(first) :] for other in inside]
        return self.built[first]

    def _container(self, node: Mapping[str, Any], path: str) -> nn.Module:
        module = CONTAINERS[node["container"]]()
        for key, child in node["children"]:
            inside = self.build(child, f"{path}.{key}".lstrip("."))
            try:
                module.add_module(key, inside)
            except KeyError as error:  # a dot in the name, or the name of an attribute
                raise ArchiveError(
                    f"Names of parts of the file's {self.name} must be valid, got {key!r:.100} "
                    f"({error}). Pass {self.name}=<the module>."
                ) from error
        return module

    def _layer(self, name: str) -> type[nn.Module]:
        if name not in LAYERS:
            raise ArchiveError(
                f"Layers of the file's {self.name} must be in torch {torch.__version__} and known "
                f"to neumap, got {name!r:.100}. Update torch and neumap, or pass "
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
            check_arguments(node["config"] or {}, f"{self.name}.{short}", self.n_tensors)
            return own
        how = (
            f"Pass classes=[{short}], or {self.name}=<a module of the same structure>."
            if node["config"] is not None
            else f"Pass {self.name}=<a module of the same structure>; or give {short} a config "
            "property with its constructor's arguments, save again, and pass "
            f"classes=[{short}]."
        )
        raise ArchiveError(
            f"The class of the file's {self.name}{f' (part {path!r})' if path else ''} must be in "
            f"torch.nn, in neumap or in classes, got {full}. No name in a file is imported. {how}"
        )

    def _call(self, cls: type[nn.Module], arguments: Mapping[str, Any], path: str) -> nn.Module:
        try:
            return cls(**arguments)
        except Exception as error:  # whatever a constructor raises for the arguments of a file
            raise ArchiveError(
                f"{cls.__name__}(**{dict(arguments)!r:.300}) must build part {path!r} of the "
                f"file's {self.name}, got {type(error).__name__}: {error!s:.300}. "
                f"Pass {self.name}=<a ready module>, or the class as it was when saved."
            ) from error


def _is_inside(path: str, above: str) -> bool:
    return not above or path == above or path.startswith(f"{above}.")


def _class_of_neumap(full: str) -> type[nn.Module] | None:
    """Return a network class of this package, or None for any other name."""
    room, _, name = full.rpartition(".")
    if room not in NETWORKS:
        return None
    found = getattr(importlib.import_module(room), name, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        return None
    # The room imports classes of torch too.
    return found if found.__module__.startswith("neumap.") else None


def _tie(module: nn.Module, tied: Mapping[str, str], name: str) -> None:
    """Make the tensors named in ``tied`` the same objects again."""
    state = tensor_state(module) if tied else {}
    for key, first in tied.items():
        if key not in state or first not in state or state[key].shape != state[first].shape:
            raise ArchiveError(
                f"The {name} must have {first!r:.100} and {key!r:.100}, which are one tensor in "
                f"the file, got other tensors. Pass {name}=<a module of the same structure>."
            )
        owner_path, _, attribute = key.rpartition(".")
        first_path, _, first_attribute = first.rpartition(".")
        try:
            owner = module.get_submodule(owner_path)
            original = getattr(module.get_submodule(first_path), first_attribute)
            if getattr(owner, attribute) is not original:
                setattr(owner, attribute, original)
        except (AttributeError, TypeError) as error:  # a parameter tied to a buffer, for example
            raise ArchiveError(
                f"{key!r:.100} of the {name} must be the tensor {first!r:.100}, got {error}. "
                f"Pass {name}=<a module of the same structure>."
            ) from error


def _check_same_arguments(node: Mapping[str, Any], module: nn.Module, name: str) -> None:
    """Raise if a ready module was built with other arguments."""
    recorded, given = _arguments(node), _arguments(describe_node(module, "", {}))
    if recorded is not None and given is not None and recorded != given:
        raise ArchiveError(
            f"The {name} passed must be built as the one in the file, {recorded}, got {given}. "
            "Build it with the recorded arguments."
        )


def _arguments(node: Mapping[str, Any]) -> Any:
    """Return layers and arguments without names of classes, which can change; None if unknown."""
    if "children" in node:
        parts = {key: _arguments(child) for key, child in node["children"]}
        return None if None in parts.values() else parts
    if "layer" in node:
        return {node["layer"]: node["config"]}
    return node["config"] if "class" in node else dict(node)


def fill_module(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Copy the tensors of a file into a network."""
    own = tensor_state(module)
    _check_fit(own, state, name)
    for key, value in state.items():
        if own[key].dtype != value.dtype:
            own[key].data = own[key].data.to(value.dtype)  # in place: ties and references stay
    module.load_state_dict(dict(state), strict=False)  # lazy layers have nothing to load


def _check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str) -> None:
    problems = [f"no tensor for {key!r}" for key in own if key not in state]
    problems += [f"no place for {key!r}" for key in state if key not in own]
    for key in own.keys() & state.keys():
        here, there = own[key], state[key]
        if here.shape != there.shape:
            shapes = f"{tuple(there.shape)} in the file, {tuple(here.shape)} here"
            problems.append(f"{key!r} has shape {shapes}")
        elif isinstance(here, nn.Parameter) and not there.is_floating_point():
            problems += [f"{key!r} has dtype {there.dtype} in the file"] * here.is_floating_point()
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ArchiveError(
            f"The {name} must fit the tensors in the file, got {'; '.join(problems[:4])}{more}. "
            f"Pass {name}=<a module of the structure that was saved>."
        )
