"""Values of an estimator as JSON nodes, tensors and blobs, and back.

A node is a dict whose first key says what it holds: ``{"value": 15}``, ``{"array": name}``,
``{"module": spec, "name": ...}``. So nothing in a value can be mistaken for a node. What cannot
be stored without running code on reading raises :class:`NotStorableError`, and the caller decides.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from neumap.archive import (
    Archive,
    ArchiveError,
    build_module,
    fits_json,
    pack_csr,
    pack_module,
    unpack_csr,
    unpack_items,
    unpack_module,
)
from neumap.estimators.landmarks import Landmarks
from neumap.estimators.saving import keras_nodes
from neumap.keras_bridge import KerasModule, is_keras_loss, is_keras_model, is_keras_optimizer
from neumap.losses.reconstruction import ReconstructionLoss, reconstruction_loss
from neumap.training.optimizers import optimizer_settings

__all__ = ["Node", "NotStorableError", "Packer", "Unpacker"]

Node = dict[str, Any]

# Networks that the caller of a load can pass, so that they need not be built from the file alone.
REPLACEABLE = ("encoder", "decoder")


class NotStorableError(Exception):
    """Why a value cannot be in a file."""


def role_of(name: str) -> str:
    """Return the argument by which a network is passed: ``encoder`` for ``encoder_``."""
    return name.rpartition(".")[2].rstrip("_")


class Packer:
    """Turns values into nodes and collects the tensors and blobs they refer to.

    Parameters
    ----------
    row_shapes : mapping of str to tuple of int or None
        Shape of one input row of ``"encoder"`` and ``"decoder"``, where known; Keras models are
        built for it.
    """

    def __init__(self, row_shapes: Mapping[str, tuple[int, ...] | None]) -> None:
        self.tensors: dict[str, Any] = {}
        self.blobs: dict[str, bytes] = {}
        self.row_shapes = row_shapes
        self._arrays: dict[int, tuple[str, Any]] = {}  # holds the arrays, so that ids stay theirs

    def pack(self, value: Any, name: str) -> Node:
        """Return the node of a value; `name` is the key of its tensors and blobs.

        Raises
        ------
        NotStorableError
            If a file cannot hold the value.
        ArchiveError
            If a network is in a state that cannot be stored, such as one without shapes.
        """
        before = {*self.tensors}, {*self.blobs}
        try:
            return self._pack(value, name)
        except NotStorableError:
            # Nothing stays of a list whose last item was refused.
            self.tensors = {k: v for k, v in self.tensors.items() if k in before[0]}
            self.blobs = {k: v for k, v in self.blobs.items() if k in before[1]}
            self._arrays = {k: v for k, v in self._arrays.items() if v[0] in self.tensors}
            raise

    def _pack(self, value: Any, name: str) -> Node:
        if fits_json(value):
            return {"value": value}
        for matches, pack in self._kinds():
            if matches(value):
                return pack(value, name)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise NotStorableError(f"a file without code cannot hold a {kind}")

    def _kinds(self) -> list[tuple[Callable[[Any], bool], Callable[[Any, str], Node]]]:
        """Kinds of values that are not JSON, the narrower ones first."""
        return [
            (_is(np.ndarray), self._array),
            (_is(Tensor), self._tensor),
            (scipy.sparse.issparse, self._sparse),
            (lambda value: isinstance(value, KerasModule) or is_keras_model(value), self._keras),
            (lambda value: is_keras_optimizer(value) or is_keras_loss(value), self._keras_object),
            (_is(nn.Module), self._module),
            (_is_optimizer, self._optimizer),
            (_is(torch.device), lambda value, name: {"device": str(value)}),
            (_is(Landmarks), self._landmarks),
            (_is(ReconstructionLoss), self._reconstruction_loss),
            (_is(list), lambda value, name: {"list": self._items(value, name)}),
            (_is(tuple), lambda value, name: {"tuple": self._items(value, name)}),
            (_is(dict), self._dict),
        ]

    def _items(self, values: Sequence[Any], name: str) -> list[Node]:
        return [self._pack(value, f"{name}.{index}") for index, value in enumerate(values)]

    def _dict(self, value: dict[Any, Any], name: str) -> Node:
        if not all(isinstance(key, str) for key in value):
            raise NotStorableError("a dict with values that are not JSON needs text as keys")
        return {"dict": {key: self._pack(item, f"{name}.{key}") for key, item in value.items()}}

    def _array(self, value: np.ndarray, name: str) -> Node:
        if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8 and not _is_masked(value):
            return self._tensor(value, name)
        items = value.ravel().tolist()
        if _is_masked(value) or not fits_json(items):
            raise NotStorableError(f"a file cannot hold an array of dtype {value.dtype}")
        return {"items": items, "dtype": value.dtype.str, "shape": list(value.shape)}

    def _tensor(self, value: Any, name: str) -> Node:
        known, _ = self._arrays.setdefault(id(value), (name, value))
        self.tensors[known] = value
        return {"array": known}

    def _sparse(self, value: Any, name: str) -> Node:
        self.tensors |= pack_csr(value, name)
        return {"csr": name}

    def _module(self, value: nn.Module, name: str) -> Node:
        spec, tensors = pack_module(value, name)
        if role_of(name) not in REPLACEABLE:
            try:
                build_module(spec)
            except ArchiveError:
                kind = type(value).__name__
                raise NotStorableError(f"a file without code cannot hold a {kind}") from None
        self.tensors |= tensors
        return {"module": spec, "name": name}

    def _keras(self, value: Any, name: str) -> Node:
        packed = keras_nodes.pack_network(value, self.row_shapes.get(role_of(name)))
        if packed is None:
            raise NotStorableError("Keras cannot write this model before it has been built")
        if packed.content is not None:
            self.blobs[name] = packed.content
        self.tensors |= {f"{name}.{key}": tensor for key, tensor in packed.state.items()}
        return {"keras": packed.facts, "name": name}

    def _keras_object(self, value: Any, name: str) -> Node:
        config = keras_nodes.config_of(value)
        if config is None:
            raise NotStorableError("Keras cannot rebuild it from its config")
        return {"keras_object": config}

    def _optimizer(self, value: Any, name: str) -> Node:
        is_class = isinstance(value, type)
        kind: type[Any] = value if is_class else type(value)
        if getattr(torch.optim, kind.__name__, None) is not kind:
            raise NotStorableError(f"{kind.__name__} is not an optimiser of torch.optim")
        settings = None if is_class else self._pack(optimizer_settings(value), name)
        return {"optimizer": kind.__name__, "settings": settings}

    def _landmarks(self, value: Landmarks, name: str) -> Node:
        return {"landmarks": self._dict(vars(value), name)}

    def _reconstruction_loss(self, value: ReconstructionLoss, name: str) -> Node:
        activation = "sigmoid" if value.activation is torch.sigmoid else "identity"
        probe = torch.tensor([-2.0, 2.0])
        if activation == "identity" and not torch.equal(value.activation(probe), probe):
            raise NotStorableError("its activation is neither the sigmoid nor the identity")
        return {"reconstruction_loss": value.name, "activation": activation}


class Unpacker:
    """Turns the nodes of an archive back into values.

    Parameters
    ----------
    archive : Archive
    classes : sequence of type
        The user's own that occur in networks.
    given : mapping of str to network
        Ready networks by role, ``"encoder"`` and ``"decoder"``; copies of them are filled.
    """

    def __init__(
        self, archive: Archive, classes: Sequence[Any] = (), given: Mapping[str, Any] | None = None
    ) -> None:
        self.archive = archive
        self.classes = list(classes)
        self.given = dict(given or {})

    def unpack(self, node: Node, name: str) -> Any:
        """Return the value of a node.

        Raises
        ------
        ArchiveError
            If it is of a kind that this version does not know, or a network cannot be rebuilt.
        """
        kinds: dict[str, Callable[[Node, str], Any]] = {
            "value": lambda node, name: node["value"],
            "array": lambda node, name: self.archive.tensors[node["array"]],
            "items": unpack_items,
            "csr": lambda node, name: unpack_csr(self.archive.tensors, node["csr"]),
            "module": self._module,
            "keras": self._keras,
            "keras_object": self._keras_object,
            "optimizer": self._optimizer,
            "device": lambda node, name: torch.device(node["device"]),
            "landmarks": lambda node, name: Landmarks(**self.unpack(node["landmarks"], name)),
            "reconstruction_loss": self._reconstruction_loss,
            "first_equal": self._first_equal,
            "list": lambda node, name: [self.unpack(item, name) for item in node["list"]],
            "tuple": lambda node, name: tuple(self.unpack(item, name) for item in node["tuple"]),
            "dict": lambda node, name: {k: self.unpack(v, name) for k, v in node["dict"].items()},
        }
        kind = next(iter(node))
        if kind not in kinds:
            raise ArchiveError(
                f"{name} must be of a kind that this neumap knows, got {kind!r}. "
                'Update with: pip install -U "neumap"'
            )
        try:
            return kinds[kind](node, name)
        except ArchiveError:
            raise
        except Exception as error:  # whatever constructors raise for the arguments of a file
            raise ArchiveError(
                f"{name} must be a {kind} that can be built, got {type(error).__name__}: "
                f"{error!s:.300}. Use a file from a source you trust, or save the model again."
            ) from error

    def _first_equal(self, node: Node, name: str) -> np.ndarray:
        """Return where each row of one array is first found in another (files of version 1)."""
        wanted = self.archive.tensors[node["first_equal"]]
        keys = [row.tobytes() for row in self.archive.tensors[node["among"]]]
        where = {key: index for index, key in reversed(list(enumerate(keys)))}
        return np.array([where[row.tobytes()] for row in wanted], dtype=np.int64)

    def _module(self, node: Node, name: str) -> nn.Module:
        role, prefix = role_of(name), f"{node['name']}."
        given = self.given.get(role)
        if given is not None and (is_keras_model(given) or not isinstance(given, nn.Module)):
            raise ArchiveError(
                f"Expected {role}=<a torch.nn.Module>, as the one in the file; got "
                f"{type(given).__name__}. Pass a module of the same structure."
            )
        tensors = {
            f"{role}.{key.removeprefix(prefix)}": tensor
            for key, tensor in self.archive.tensors.items()
            if key.startswith(prefix)
        }
        kinds = [
            cls for cls in self.classes if isinstance(cls, type) and issubclass(cls, nn.Module)
        ]
        module = copy.deepcopy(given)
        return unpack_module(node["module"], tensors, role, classes=kinds, module=module)

    def _keras(self, node: Node, name: str) -> Any:
        prefix = f"{node['name']}."
        packed = keras_nodes.PackedNetwork(
            facts=node["keras"],
            content=self.archive.blobs.get(node["name"]),
            state={
                key.removeprefix(prefix): tensor
                for key, tensor in self.archive.tensors.items()
                if key.startswith(prefix)
            },
        )
        role = role_of(name)
        return keras_nodes.unpack_network(packed, self._named(), self.given.get(role), role)

    def _keras_object(self, node: Node, name: str) -> Any:
        return keras_nodes.from_config(node["keras_object"], self._named(), name)

    def _named(self) -> dict[str, Any]:
        return {kind.__name__: kind for kind in self.classes}

    def _optimizer(self, node: Node, name: str) -> Any:
        kind = getattr(torch.optim, node["optimizer"], None)
        if not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
            raise ArchiveError(
                f"{name} must be an optimiser of torch {torch.__version__}, got "
                f"{node['optimizer']!r}. Update torch."
            )
        if node["settings"] is None:
            return kind
        known = inspect.signature(kind).parameters
        settings = self.unpack(node["settings"], name)
        # An optimiser belongs to parameters; this one only lends its settings.
        nothing = [nn.Parameter(torch.zeros(0))]
        optimizer: Any = kind
        return optimizer(nothing, **{k: v for k, v in settings.items() if k in known})

    def _reconstruction_loss(self, node: Node, name: str) -> ReconstructionLoss:
        loss_name = node["reconstruction_loss"]
        if loss_name != "custom":
            named = reconstruction_loss(loss_name, (0.0, 1.0))
            of_fractions = named.takes_logits and node["activation"] == "identity"
            return named.of_fractions() if of_fractions else named
        decoded = reconstruction_loss("bce" if node["activation"] == "sigmoid" else "mse", (0, 1))
        return ReconstructionLoss("custom", _not_in_the_file, decoded.activation)


def _not_in_the_file(rows: Tensor, outputs: Tensor) -> Tensor:
    raise ValueError(
        "Expected a loss function, but a saved model does not hold functions. Set "
        "parametric_reconstruction_loss_fcn and fit again."
    )


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _is_optimizer(value: Any) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return issubclass(kind, torch.optim.Optimizer)


def _is_masked(value: np.ndarray) -> bool:
    return isinstance(value, np.ma.MaskedArray)
