"""Networks as lists of layers that NumPy and the explorer's page evaluate.

In: the settings and the weights of a :class:`neumap.networks.MLP`, or layers made elsewhere. Out:
:class:`Layers`, each a name with its settings and its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._card import in_form

__all__ = ["Layer", "Layers", "linear", "mlp_layers"]

Array = NDArray[np.floating[Any]]
Layer = dict[str, Any]


@dataclass(frozen=True)
class Layers:
    """A network in the order of its layers.

    Attributes
    ----------
    layers : tuple of dict
        ``{"op": name, ...}`` with settings and with weights as arrays.
    """

    layers: tuple[Layer, ...]

    def apply(self, rows: Array) -> Array:
        """Map rows (n, n_inputs) to outputs (n, n_outputs), in the precision of the rows."""
        x = rows
        for layer in self.layers:
            x = _applied(layer, x)
        return x

    def followed_by(self, op: str) -> Layers:
        """Return the same network with one more layer that has no weights."""
        return Layers((*self.layers, {"op": op}))


def mlp_layers(config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Layers:
    """Return the layers of an MLP from its ``config`` and the arrays of its ``state_dict``."""
    found: list[Layer] = [
        {"op": "form", "rows": config["rows"]},
        {
            "op": "standardize",
            "mean": tensors["standardize.mean"],
            "scale": float(tensors["standardize.scale"]),
        },
    ]
    if config.get("subspace") is not None:
        found.append(linear(tensors["basis"], None))
    last = len(config["hidden"])
    for at in range(last + 1):
        weight, bias = tensors[f"layers.{at}.weight"], tensors[f"layers.{at}.bias"]
        residual = config["residual"] and at < last and weight.shape[0] == weight.shape[1]
        found.append(linear(weight, bias, relu=at < last, residual=residual))
    return Layers(tuple(found))


def linear(
    weight: Array, bias: Array | None, *, relu: bool = False, residual: bool = False
) -> Layer:
    """Return a layer ``x @ weight.T + bias``, with ReLU, and with its input added to the result."""
    return {"op": "linear", "weight": weight, "bias": bias, "relu": relu, "residual": residual}


def _applied(layer: Layer, x: Array) -> Array:
    match layer["op"]:
        case "form":
            return in_form(x, layer["rows"])
        case "standardize":
            return np.asarray((x - layer["mean"]) / layer["scale"])
        case "relu":
            return np.maximum(x, 0.0)
        case "sigmoid":
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))  # exp would overflow
        case _:
            return _linear_applied(layer, x)


def _linear_applied(layer: Layer, x: Array) -> Array:
    y: Array = x @ layer["weight"].T
    if layer["bias"] is not None:
        y += layer["bias"]
    if layer["relu"]:
        np.maximum(y, 0.0, out=y)
    return x + y if layer["residual"] else y
