"""Networks as lists of layers that a page evaluates without PyTorch.

In: a trained module. Out: :class:`Layers`, each a name with its settings, and their weights. A
multilayer perceptron of the package has such layers, and so has a user's ``nn.Sequential`` of
linear layers with ReLU. Whoever uses the layers compares :meth:`Layers.apply` with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from neumap._card import in_form
from neumap.networks import MLP, Standardize

__all__ = ["Layer", "Layers", "layers_of"]

Layer = dict[str, Any]


@dataclass(frozen=True)
class Layers:
    """A network in the order of its layers.

    Attributes
    ----------
    layers : tuple of dict
        ``{"op": name, ...}`` with settings and with weights as float32 arrays.
    """

    layers: tuple[Layer, ...]

    def apply(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Evaluate rows (n, n_inputs) in float64, as the page does."""
        x = np.asarray(rows, dtype=np.float64)
        for layer in self.layers:
            x = _applied(layer, x)
        return x

    def followed_by(self, op: str) -> Layers:
        """Return the same network with one more layer that has no weights."""
        return Layers((*self.layers, {"op": op}))


def layers_of(network: Any) -> Layers | None:
    """Return the layers of a network, or None if it has others than these.

    Parameters
    ----------
    network : nn.Module or None

    Examples
    --------
    >>> [layer["op"] for layer in layers_of(MLP(4, 2, hidden=(3,))).layers]
    ['form', 'standardize', 'linear', 'linear']
    >>> layers_of(nn.Sequential(nn.Conv1d(1, 1, 3))) is None
    True
    """
    if isinstance(network, MLP):
        return Layers(tuple(_mlp_layers(network)))
    if not isinstance(network, nn.Sequential):
        return None
    found: list[Layer] = []
    for module in network:
        if isinstance(module, nn.Flatten | nn.Identity | nn.Dropout):
            continue
        layer = _simple_layer(module)
        if layer is None:
            return None
        found.append(layer)
    return Layers(tuple(found))


def _mlp_layers(network: MLP) -> list[Layer]:
    found = _standardized(network.standardize)
    if network.basis is not None:
        found.append(_linear(network.basis, None))
    last = len(network.layers) - 1
    for at, layer in enumerate(network.layers):
        assert isinstance(layer, nn.Linear)
        is_square = layer.in_features == layer.out_features
        residual = network.residual and at < last and is_square
        found.append(_linear(layer.weight, layer.bias, relu=at < last, residual=residual))
    return found


def _standardized(front: Standardize) -> list[Layer]:
    return [
        {"op": "form", "rows": front.rows},
        {"op": "standardize", "mean": _array(front.mean), "scale": float(front.scale)},
    ]


def _simple_layer(module: nn.Module) -> Layer | None:
    if isinstance(module, nn.Linear):
        return _linear(module.weight, module.bias)
    if isinstance(module, nn.ReLU):
        return {"op": "relu"}
    return {"op": "sigmoid"} if isinstance(module, nn.Sigmoid) else None


def _linear(
    weight: Tensor, bias: Tensor | None, *, relu: bool = False, residual: bool = False
) -> Layer:
    return {
        "op": "linear",
        "weight": _array(weight),
        "bias": None if bias is None else _array(bias),
        "relu": relu,
        "residual": residual,
    }


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def _applied(layer: Layer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    match layer["op"]:
        case "form":
            return np.asarray(in_form(x, layer["rows"]), dtype=np.float64)
        case "standardize":
            return np.asarray((x - layer["mean"]) / layer["scale"])
        case "relu":
            return np.maximum(x, 0.0)
        case "sigmoid":
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))  # exp would overflow
        case _:
            return _linear_applied(layer, x)


def _linear_applied(layer: Layer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    y = x @ layer["weight"].T.astype(np.float64)
    if layer["bias"] is not None:
        y = y + layer["bias"]
    if layer["relu"]:
        y = np.maximum(y, 0.0)
    return np.asarray(x + y if layer["residual"] else y)
