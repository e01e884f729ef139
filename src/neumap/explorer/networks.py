"""Networks as lists of layers that a page evaluates without PyTorch.

In: a trained module. Out: :class:`neumap.runtime.layers.Layers`. A multilayer perceptron of the
package has such layers, and so has a user's ``nn.Sequential`` of linear layers with ReLU. Whoever
uses the layers compares what they give with the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from neumap.networks import MLP
from neumap.runtime.layers import Layer, Layers, linear, mlp_layers

__all__ = ["layers_of"]


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
        tensors = {name: _array(tensor) for name, tensor in network.state_dict().items()}
        return mlp_layers(network.config, tensors)
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


def _simple_layer(module: nn.Module) -> Layer | None:
    if isinstance(module, nn.Linear):
        return linear(_array(module.weight), None if module.bias is None else _array(module.bias))
    if isinstance(module, nn.ReLU):
        return {"op": "relu"}
    return {"op": "sigmoid"} if isinstance(module, nn.Sigmoid) else None


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().contiguous().numpy()
