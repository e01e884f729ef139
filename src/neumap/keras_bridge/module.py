"""A Keras model as a torch module.

In: a Keras 3 model and the shape of one row. Out: an ``nn.Module`` with a copy of the model, whose
variables are its parameters. It can be trained, copied, pickled and saved like any other module.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neumap.archive import bounded
from neumap.keras_bridge.allowed import registered_names
from neumap.keras_bridge.backend import global_random_state_kept, keras_on_torch
from neumap.keras_bridge.contents import OWN_ENTRY, Contents, read_contents
from neumap.keras_bridge.copying import copy_keras
from neumap.keras_bridge.detect import is_keras_model
from neumap.keras_bridge.direct import compute_directly, indifferent, keeping_bfloat16

__all__ = ["KerasModule"]

# What reading bytes of another kind raises.
_DAMAGED = (zipfile.BadZipFile, KeyError, EOFError, OSError, json.JSONDecodeError)


class KerasModule(nn.Module):
    """A torch module that computes what a Keras model computes.

    It contains a copy, so training does not change the given model. The copy is built if the model
    is not. Common layers of the copy are computed by one operation of torch each (``direct.py``).

    Parameters
    ----------
    model : keras.Model or keras.Layer
        Sequential, functional or subclassed; one input, one output.
    input_shape : sequence of int
        Shape of one row, without the batch axis; images are channels-last as in Keras.

    Attributes
    ----------
    input_shape : tuple of int
        As given.
    output_shape : tuple of int
        Shape of one row of the output.
    is_regularized : bool
        Whether the model has penalties of its own, see :meth:`regularization`.
    variables : torch.nn.ParameterList
        The model's variables in the model's order; those that are not trained (moving averages,
        seeds of dropout) have ``requires_grad=False``. The keys of the ``state_dict`` are
        positions, not Keras's names, since Keras numbers its layers over the whole process.

    Raises
    ------
    TypeError
        If ``model`` is not a Keras model.
    ValueError
        If it does not accept rows of this shape, or returns more than one tensor.
    RuntimeError
        If Keras is not on its torch backend.
    """

    variables: nn.ParameterList

    def __init__(self, model: Any, input_shape: Sequence[int]) -> None:
        super().__init__()
        if not is_keras_model(model):
            raise TypeError(
                f"model must be a Keras 3 model, got {type(model).__name__}. Pass a "
                "keras.Sequential, a functional or a subclassed keras.Model. A torch module needs "
                "no wrapping."
            )
        self._keras = keras_on_torch()
        own = _without_compile_state(copy_keras(model))
        if not isinstance(own, self._keras.Model):
            own = self._keras.Sequential([own])  # a single layer cannot be saved without a model
        self.input_shape = tuple(int(size) for size in input_shape)
        self.output_shape = _build(self._keras, own, self.input_shape)
        # Not registered as a submodule: Keras registers each variable at several levels, and the
        # state_dict would contain it several times.
        self.__dict__["_model"] = own
        layers = list(own._flatten_layers())
        compute_directly(layers)
        self.__dict__["_indifferent"] = indifferent(layers)
        variables = [*own.weights, *_random_states(own)]
        self.variables = nn.ParameterList([variable.value for variable in variables])
        constrained = [variable for variable in own.weights if variable.constraint is not None]
        self.__dict__["_constrained"] = [(v, v.value._version) for v in constrained]
        self.is_regularized = bool(own.losses) or any(map(_adds_losses, own._flatten_layers()))

    @property
    def model(self) -> Any:
        """The Keras model inside, with the weights of this module."""
        return self.__dict__["_model"]

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the model; its ``training`` argument is ``self.training``.

        Parameters
        ----------
        x : Tensor of shape (batch, *input_shape)
            float32 rows, channels-last.

        Returns
        -------
        Tensor of shape (batch, *output_shape)
        """
        is_mixed = torch.is_autocast_enabled(x.device.type)
        kept = keeping_bfloat16(self.__dict__["_indifferent"]) if is_mixed else nullcontext()
        with self._keras.device(str(x.device)), kept:  # otherwise Keras moves x to any GPU
            self._apply_constraints()
            y: Tensor = self.model(x, training=self.training)
        return y

    def keras_layers(self) -> list[nn.Module]:
        """Return the layers of the model, at all levels; they are torch modules as well."""
        return list(self.model._flatten_layers())

    def regularization(self) -> Tensor:
        """Return the sum of the model's own penalties, a scalar; 0 without any.

        These are its ``kernel_regularizer`` and the like, its ``activity_regularizer`` and what its
        layers pass to ``add_loss``. Penalties of activities are those of the latest ``forward``.
        """
        device = next(self.parameters()).device if len(self.variables) else torch.device("cpu")
        with self._keras.device(str(device)):
            penalties: list[Tensor] = self.model.losses
        total = torch.zeros((), device=device)
        return total + torch.stack([p.sum() for p in penalties]).sum() if penalties else total

    def to_bytes(self) -> bytes:
        """Return the model as the content of a ``.keras`` file, which Keras itself can load.

        Raises
        ------
        ValueError
            If Keras cannot write the model, or reads back a different one.
        """
        self._apply_constraints()
        try:
            data = _add_entry(_saved(self.model), self.input_shape, _random_states(self.model))
            same = _same_model(self, self.from_bytes(data, self._custom_objects(data)))
        except Exception as error:  # of any kind, since the user's layers may raise it
            raise ValueError(f"{self._unsavable()} Keras says: {error}") from error
        if not same:
            raise ValueError(self._unsavable())
        return data

    @classmethod
    def from_bytes(
        cls, data: bytes, custom_objects: Mapping[str, Any] | None = None
    ) -> KerasModule:
        """Read what ``to_bytes`` returned; weights are equal to the bit.

        No code of the file is executed: lambdas raise an error, and so do classes and functions
        that are neither on a list of Keras's own nor passed. The module is on the CPU.

        Parameters
        ----------
        data : bytes
            Content of a ``.keras`` file written by ``to_bytes``.
        custom_objects : mapping of str to class or function, optional
            Custom layers and models by their names.

        Raises
        ------
        ValueError
            If the data are damaged or from another kind of file, or a custom class is missing.
        """
        known = dict(custom_objects or {})
        try:
            contents = read_contents(data, known, "Keras model")
            return _loaded(cls, contents, known)
        except _DAMAGED as error:
            raise ValueError(
                f"data must be bytes written by KerasModule.to_bytes, got {len(data)} bytes that "
                f"cannot be read ({error}). The file is damaged or of another kind. Save it again."
            ) from error
        except Exception as error:  # Keras raises many kinds, and so may the user's layers
            raise ValueError(
                "The Keras model must be one that Keras can rebuild from its file, got an error: "
                f"{error}. Pass its own classes and functions as custom_objects={{'Name': Name}}, "
                "and do not use lambdas in it."
            ) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> KerasModule:
        self._apply_constraints()
        new = type(self)(self.model, self.input_shape).train(self.training)
        memo[id(self)] = new
        memo |= {id(old): own for old, own in zip(self.variables, new.variables, strict=True)}
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        data = self.to_bytes()
        return _unpickle, (type(self), data, self._custom_objects(data), self.training)

    def _apply_constraints(self) -> None:
        # Keras projects a variable after each step. Here this is done before its next use, once per
        # change: torch raises an error if it is written to between two uses in one backward pass.
        constrained: list[tuple[Any, int]] = self.__dict__["_constrained"]
        for position, (variable, seen_version) in enumerate(constrained):
            if variable.value._version != seen_version:
                with torch.no_grad():
                    variable.assign(variable.constraint(variable.value))
                constrained[position] = (variable, variable.value._version)

    def _own_classes(self) -> dict[str, Any]:
        """Return the classes of layers that are not Keras's own, by name."""
        types = {type(layer) for layer in self.model._flatten_layers()}
        return {kind.__name__: kind for kind in types if not kind.__module__.startswith("keras.")}

    def _custom_objects(self, data: bytes) -> dict[str, Any]:
        """Own classes, and what a written model names of the objects registered with Keras."""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return self._own_classes() | registered_names(json.loads(archive.read("config.json")))

    def _unsavable(self) -> str:
        names = ", ".join(sorted(self._own_classes())) or type(self.model).__name__
        return (
            "The Keras model must be one that Keras can save and load unchanged, got one that is "
            "different after loading or cannot be loaded. Let get_config of your classes "
            f"({names}) return all constructor arguments, and use named functions instead of "
            "lambdas."
        )


def _loaded(cls: type[KerasModule], contents: Contents, known: dict[str, Any]) -> KerasModule:
    """Let Keras build a checked model and fill it."""
    keras = keras_on_torch()
    limits = nullcontext() if contents.names_own else bounded(contents.n_weights, "Keras model")
    with tempfile.TemporaryDirectory() as folder, global_random_state_kept(), limits:
        path = Path(folder) / "model.keras"
        path.write_bytes(contents.archive)
        with keras.device("cpu"):
            model = keras.saving.load_model(path, known, compile=False, safe_mode=True)
        new = cls(model, contents.own["input_shape"])
        for variable, state in zip(_random_states(new.model), contents.own["random"], strict=True):
            variable.assign(state)
    return new


def _build(keras: Any, model: Any, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Apply the model to one row of zeros, which builds it; return the shape of the output row."""
    with keras.device("cpu" if not model.variables else str(model.variables[0].value.device)):
        row = torch.zeros((1, *input_shape))
        try:
            with torch.no_grad(), global_random_state_kept():
                if isinstance(model, keras.Sequential) and not model.built:
                    model.build((None, *input_shape))  # otherwise Keras stores a batch of one row
                y = model(row, training=False)
        except Exception as error:  # of any kind, since the user's layers may raise it
            raise ValueError(
                f"The Keras model must accept rows of shape {input_shape}, got an error: {error}. "
                "Pass the shape of one row as dims=..., channels last."
            ) from error
    if not isinstance(y, Tensor):
        raise ValueError(
            f"The Keras model must return one tensor, got {type(y).__name__}. Wrap it in a model "
            "that returns the tensor to train."
        )
    return tuple(y.shape[1:])


def _without_compile_state(model: Any) -> Any:
    """Remove what ``model.compile`` added to a copy: it is not used, and would be saved with it."""
    if getattr(model, "compiled", False):
        vars(model).update(compiled=False, optimizer=None)
    return model


def _adds_losses(layer: Any) -> bool:
    """Whether a method of a custom layer calls ``add_loss``, perhaps only in training."""
    own = [kind for kind in type(layer).__mro__ if not kind.__module__.startswith("keras.")]
    codes = (getattr(method, "__code__", None) for kind in own for method in vars(kind).values())
    return any("add_loss" in code.co_names for code in codes if code is not None)


def _saved(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def _add_entry(data: bytes, input_shape: tuple[int, ...], random_states: list[Any]) -> bytes:
    entry = {
        "input_shape": input_shape,
        "random": [variable.value.tolist() for variable in random_states],
    }
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        # What a .keras file lacks: the shape of a row, and the states of layers such as dropout.
        archive.writestr(OWN_ENTRY, json.dumps(entry))
    return buffer.getvalue()


def _random_states(model: Any) -> list[Any]:
    """Return variables that are neither weights nor metrics: the states of seed generators."""
    others = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in others]


def _same_model(first: KerasModule, second: KerasModule) -> bool:
    pairs = list(zip(first.variables, second.variables, strict=False))
    return len(first.variables) == len(second.variables) and all(
        torch.equal(a.cpu(), b.cpu()) for a, b in pairs
    )


def _unpickle(
    cls: type[KerasModule], data: bytes, custom_objects: dict[str, Any], training: bool
) -> KerasModule:
    return cls.from_bytes(data, custom_objects).train(training)
