"""The layers of torch.nn that can be rebuilt from their attributes, and their arguments."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from neumap.archive.errors import ArchiveError

__all__ = ["CONTAINERS", "LAYERS", "NOT_RECORDED", "layer_arguments"]

# A file can only name these. Each keeps its constructor's arguments as attributes.
NAMES = """
Identity Linear Bilinear Embedding Flatten Unflatten
Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d
LayerNorm GroupNorm RMSNorm LocalResponseNorm
Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout
ReLU ReLU6 LeakyReLU PReLU RReLU ELU CELU SELU GELU SiLU Mish GLU Tanh Sigmoid LogSigmoid
Hardtanh Hardsigmoid Hardswish Softplus Softsign Softshrink Hardshrink Tanhshrink Threshold
Softmax LogSoftmax Softmax2d
MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d
AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d
Upsample UpsamplingNearest2d UpsamplingBilinear2d PixelShuffle PixelUnshuffle ChannelShuffle
ConstantPad1d ConstantPad2d ConstantPad3d ZeroPad1d ZeroPad2d ZeroPad3d
ReflectionPad1d ReflectionPad2d ReflectionPad3d
ReplicationPad1d ReplicationPad2d ReplicationPad3d CircularPad1d CircularPad2d CircularPad3d
LazyLinear LazyConv1d LazyConv2d LazyConv3d
LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d
LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d
LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d
"""

LAYERS: dict[str, type[nn.Module]] = {
    name: getattr(nn, name) for name in NAMES.split() if hasattr(nn, name)
}

CONTAINERS: dict[str, type[nn.Module]] = {
    "Sequential": nn.Sequential,
    "ModuleList": nn.ModuleList,
    "ModuleDict": nn.ModuleDict,
}

# The stored tensors determine device and dtype. The others are deprecated or private.
NOT_RECORDED = frozenset({"device", "dtype", "min_value", "max_value", "_weight", "_freeze"})


def layer_arguments(layer: nn.Module) -> dict[str, Any]:
    """Return the constructor arguments of a layer, without those that have default values.

    Without the defaults an older torch, whose constructor lacks the newest argument, can read the
    file.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(layer)).parameters.items():
        if name in NOT_RECORDED or parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        ):
            continue
        value = _read(layer, name)
        if parameter.default is inspect.Parameter.empty or value != parameter.default:
            arguments[name] = value
    return arguments


def _read(layer: nn.Module, name: str) -> Any:
    if not hasattr(layer, name):
        raise ArchiveError(
            f"{type(layer).__name__} must keep its argument {name!r} as an attribute, got none in "
            f"torch {torch.__version__}. Wrap it in your own module with a config property."
        )
    value = getattr(layer, name)
    if name == "bias":  # a flag in the constructor, the vector or None as attribute
        return value is not None if value is None or isinstance(value, Tensor) else value
    return tuple(value) if isinstance(value, torch.Size) else value
