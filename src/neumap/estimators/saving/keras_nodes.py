"""Keras models, optimizers and losses as bytes and configs, and back.

A model becomes the content of a ``.keras`` file where Keras can read that back, and its weights
alone where it cannot; then a ready model has to be passed when it is loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from neumap.archive import ArchiveError, bounded, fits_json
from neumap.keras_bridge import KerasModule, is_keras_model
from neumap.keras_bridge.allowed import check_config, names_own_objects, registered_names
from neumap.keras_bridge.backend import keras_on_torch

__all__ = ["PackedNetwork", "config_of", "from_config", "pack_network", "unpack_network"]


@dataclass(frozen=True)
class PackedNetwork:
    """A Keras network in parts that a file can hold.

    Attributes
    ----------
    facts : dict
        ``input_shape``, ``training``, ``wrapped`` (whether it was a :class:`KerasModule`), or
        ``config`` of a model that has no weights yet.
    content : bytes or None
        A ``.keras`` file.
    state : dict of str to Tensor
        The weights, where there is no file.
    """

    facts: dict[str, Any]
    content: bytes | None = None
    state: dict[str, Tensor] = field(default_factory=dict)


def pack_network(network: Any, row_shape: tuple[int, ...] | None) -> PackedNetwork | None:
    """Take a Keras model or a :class:`KerasModule` apart; None if Keras cannot write it.

    Parameters
    ----------
    network : KerasModule or Keras model
        Left as it is.
    row_shape : tuple of int or None
        Shape of its rows, where known; a model that is built knows it itself.
    """
    wrapped = isinstance(network, KerasModule)
    shape = network.input_shape if wrapped else row_shape or _built_shape(network)
    if shape is None:
        config = config_of(network)
        return None if config is None else PackedNetwork({"config": config})
    module = network if wrapped else KerasModule(network, shape)
    facts = {"input_shape": tuple(shape), "training": network.training, "wrapped": wrapped}
    try:
        return PackedNetwork(facts, content=module.to_bytes())
    except ValueError:  # its classes lack a get_config, for example
        state = {key: value.detach() for key, value in module.state_dict().items()}
        return PackedNetwork(facts, state=state)


def unpack_network(packed: PackedNetwork, named: Mapping[str, Any], given: Any, role: str) -> Any:
    """Put a network together again.

    Parameters
    ----------
    packed : PackedNetwork
    named : mapping of str to class
        The user's own that occur in it.
    given : Keras model or None
        A ready model of the same structure. It is copied, or lends the classes of its layers.
    role : str
        The argument by which it is passed, for messages.

    Raises
    ------
    ArchiveError
        If Keras does not know a class, or the weights do not fit `given`.
    """
    if given is not None and not is_keras_model(given):
        raise ArchiveError(
            f"Expected {role}=<a Keras model>, as the one in the file; got "
            f"{type(given).__name__}. Pass a model of the same structure."
        )
    known = {**named, **_own_classes(given)}
    if "config" in packed.facts:
        return from_config(packed.facts["config"], known, role)
    if packed.content is not None:
        try:
            module = KerasModule.from_bytes(packed.content, known)
        except ValueError as error:
            raise ArchiveError(
                f"Expected to rebuild the Keras model of the file's {role}. Pass classes=[...] "
                f"with its own classes, or {role}=<a model made of them>. {error}"
            ) from error
    else:
        module = _filled(packed, given, role)
    module.train(packed.facts["training"])
    return module if packed.facts["wrapped"] else module.model


def _filled(packed: PackedNetwork, given: Any, role: str) -> KerasModule:
    """Return a copy of the given model with the stored weights."""
    if given is None:
        raise ArchiveError(
            f"Expected {role}=<a Keras model of the same structure>: the file has the weights of "
            "the model, but Keras could not write how it is made, since get_config of its classes "
            "does not return their arguments."
        )
    module = KerasModule(given, packed.facts["input_shape"])
    own = module.state_dict()
    if {key: value.shape for key, value in own.items()} != {
        key: value.shape for key, value in packed.state.items()
    }:
        raise ArchiveError(
            f"Expected {role} to have the {len(packed.state)} variables of the model in the file; "
            f"it has {len(own)}, or others in shape. Pass a model of the structure that was saved."
        )
    module.load_state_dict(packed.state)
    return module


def config_of(value: Any) -> dict[str, Any] | None:
    """Return the config of a Keras object, or None where a load could not rebuild an equal one."""
    try:
        config = keras_on_torch().saving.serialize_keras_object(value)
        if not isinstance(config, dict) or not fits_json(config):
            return None
        rebuilt = from_config(config, registered_names(config), "model")
    except Exception:  # Keras raises many kinds
        return None
    # Some losses lack a setting in their config, such as Huber its delta.
    is_equal = getattr(rebuilt, "_fn_kwargs", None) == getattr(value, "_fn_kwargs", None)
    return config if is_equal else None


def from_config(config: dict[str, Any], named: Mapping[str, Any], where: str) -> Any:
    """Rebuild a Keras object from a checked config.

    Raises
    ------
    ArchiveError
        If the config names a class or function that is neither on the list nor in `named`, asks
        for weights, which a config has none of, or Keras cannot use it.
    """
    check_config(config, named, where)
    limits = nullcontext() if names_own_objects(config, named) else bounded(0, where)
    try:
        with limits:
            return keras_on_torch().saving.deserialize_keras_object(
                copy.deepcopy(config), dict(named), safe_mode=True
            )
    except Exception as error:  # Keras raises many kinds, some of the caller's classes
        raise ArchiveError(
            f"The {where} of the file must be an object that Keras can build, got {error!s:.500}. "
            "Update Keras, or pass classes=[...] with its own classes."
        ) from error


def _built_shape(model: Any) -> tuple[int, ...] | None:
    """Shape of a row a Keras model was built for; None if it is not built."""
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if shape is None or not all(isinstance(size, int) for size in shape[1:]):
        return None
    return tuple(shape[1:])


def _own_classes(model: Any) -> dict[str, Any]:
    """Classes of a model's layers that are not Keras's own, by name."""
    if model is None:
        return {}
    layers: list[nn.Module] = model._flatten_layers()
    kinds = {type(layer) for layer in layers}
    return {kind.__name__: kind for kind in kinds if not kind.__module__.startswith("keras.")}
