"""Common layers of Keras, each computed by one operation of torch.

Keras's torch backend copies an image twice before a convolution, into PyTorch's order of memory and
back into the channels-last one, in which it was, adds the bias in a pass of its own, and gives each
layer float32 where autocast computed bfloat16. That takes longer than the arithmetic. Here torch
gets a view of the image and the bias with it. The numbers are those of Keras but for rounding.

:func:`compute_directly` gives the layers of a copy such a ``call``. What Keras writes of a layer
does not contain it. :func:`keeping_bfloat16` is for a forward pass under autocast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neumap.keras_bridge.backend import keras_on_torch

__all__ = ["compute_directly", "indifferent", "keeping_bfloat16"]

# Layers whose result in bfloat16 is that in float32 but for rounding. Not those that draw random
# numbers: in another dtype they draw others. torch's batch normalisation sums in float32.
INDIFFERENT = """
Dense Conv1D Conv2D Activation ReLU LeakyReLU ELU Softmax Flatten Reshape Permute RepeatVector
ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D UpSampling1D UpSampling2D
MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D BatchNormalization
Add Average Concatenate Maximum Minimum Multiply Subtract
"""


def compute_directly(layers: Iterable[Any]) -> None:
    """Give layers of Keras's own classes a ``call`` of one operation of torch.

    Parameters
    ----------
    layers : iterable of keras.Layer
        Changed in place, for good. Others than those of :data:`DIRECT`, with settings that are not
        served and of derived classes stay as they are.
    """
    known = {_classes().get(name): kind for name, kind in DIRECT.items()}
    for layer in layers:
        kind = known.get(type(layer))
        if kind is not None and kind.serves(layer):
            # Past Keras's own way of setting attributes, which would register it.
            vars(layer)["call"] = kind(layer)


def indifferent(layers: Iterable[Any]) -> list[Any]:
    """Return the layers that may compute in bfloat16, for :func:`keeping_bfloat16`.

    Those with a precision of their own are not among them.
    """
    known = {_classes().get(name) for name in INDIFFERENT.split()}
    return [layer for layer in layers if type(layer) in known and layer.compute_dtype == "float32"]


@contextmanager
def keeping_bfloat16(layers: Iterable[Any]) -> Iterator[None]:
    """Let layers take inputs in bfloat16 as they are in the block.

    Keras casts the input of a layer to the dtype of its weights, and autocast casts it back.
    """
    casting = [layer for layer in layers if layer.autocast]
    for layer in casting:
        vars(layer)["autocast"] = False
    try:
        yield
    finally:
        for layer in casting:
            vars(layer)["autocast"] = True


def _classes() -> dict[str, Any]:
    classes: dict[str, Any] = vars(keras_on_torch().layers)
    return classes


class _Direct:
    """The ``call`` of a layer. An object, so that a copy of the layer has one for the copy."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self._relu = keras_on_torch().activations.relu

    @staticmethod
    def serves(layer: Any) -> bool:
        """Whether the layer's settings are among those that are computed here."""
        return getattr(layer, "data_format", "channels_last") == "channels_last"

    def activated(self, outputs: Tensor, ndim: int | None = None) -> Tensor:
        """Apply the layer's activation to what torch returned and nothing else reads.

        With `ndim`, these are images, of which the rows of Keras are returned.
        """
        activation = self.layer.activation
        if activation is self._relu:  # in place, before the view: later it would cost copies
            outputs, activation = torch.relu_(outputs), None
        rows = outputs if ndim is None else _rows(outputs, ndim)
        activated: Tensor = rows if activation is None else activation(rows)
        return activated


class _Dense(_Direct):
    def __call__(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        layer = self.layer
        outputs = functional.linear(inputs, _value(layer.kernel).mT, _value(layer.bias))
        return self.activated(outputs)


class _Conv(_Direct):
    @staticmethod
    def serves(layer: Any) -> bool:
        return _Direct.serves(layer) and layer.padding in ("valid", "same")

    def __call__(self, inputs: Tensor) -> Tensor:
        layer = self.layer
        kernel = _kernel(_value(layer.kernel))
        images, padding = _padded(_images(inputs), layer)
        outputs = functional.conv2d(
            images,
            kernel,
            _value(layer.bias),
            stride=_pair(layer.strides),
            padding=padding,
            dilation=_pair(layer.dilation_rate),
            groups=images.shape[1] // kernel.shape[1],
        )
        return self.activated(outputs, inputs.ndim)


class _MaxPooling(_Direct):
    @staticmethod
    def serves(layer: Any) -> bool:
        return _Direct.serves(layer) and layer.padding == "valid"

    def __call__(self, inputs: Tensor) -> Tensor:
        size, strides = _pair(self.layer.pool_size), _pair(self.layer.strides)
        return _rows(functional.max_pool2d(_images(inputs), size, strides), inputs.ndim)


class _AveragePooling(_MaxPooling):
    def __call__(self, inputs: Tensor) -> Tensor:
        size, strides = _pair(self.layer.pool_size), _pair(self.layer.strides)
        return _rows(functional.avg_pool2d(_images(inputs), size, strides), inputs.ndim)


class _BatchNormalization(_Direct):
    @staticmethod
    def serves(layer: Any) -> bool:
        is_special = layer.synchronized or getattr(layer, "renorm", False)
        return layer.axis == -1 and layer.compute_dtype == "float32" and not is_special

    def __call__(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        layer = self.layer
        learns = bool(training and layer.trainable)
        n_values = inputs.shape[:-1].numel() if learns else 0  # an export leaves the rows open
        if mask is not None or n_values == 1:  # torch refuses to normalise a single value
            theirs: Tensor = type(layer).call(layer, inputs, training=training, mask=mask)
            return theirs
        mean, variance = layer.moving_mean.value, layer.moving_variance.value
        if learns:  # with a momentum of 1 torch writes those of the batch here
            mean, variance = torch.empty_like(mean), torch.empty_like(variance)
        is_image = inputs.ndim in (3, 4)
        outputs = functional.batch_norm(
            _images(inputs) if is_image else inputs.movedim(-1, 1),
            mean,
            variance,
            _value(layer.gamma) if layer.scale else None,
            _value(layer.beta) if layer.center else None,
            training=learns,
            momentum=1.0,
            eps=layer.epsilon,
        )
        if learns:
            # torch divides by one less than the number of values, Keras by this number.
            _move(layer.moving_mean, mean, layer.momentum)
            _move(layer.moving_variance, variance * (1 - 1 / n_values), layer.momentum)
        return _rows(outputs, inputs.ndim) if is_image else outputs.movedim(1, -1)


def _move(average: Any, new: Tensor, momentum: float) -> None:
    average.assign(torch.lerp(new, average.value, momentum))


class _UpSampling(_Direct):
    @staticmethod
    def serves(layer: Any) -> bool:
        return _Direct.serves(layer) and layer.interpolation == "nearest"

    def __call__(self, inputs: Tensor) -> Tensor:
        images, size = _images(inputs), self.layer.size
        sizes = [length * times for length, times in zip(images.shape[2:], size, strict=True)]
        return _rows(functional.interpolate(images, sizes, mode="nearest"), inputs.ndim)


DIRECT: dict[str, type[_Direct]] = {
    "Dense": _Dense,
    "Conv1D": _Conv,
    "Conv2D": _Conv,
    "MaxPooling1D": _MaxPooling,
    "MaxPooling2D": _MaxPooling,
    "AveragePooling1D": _AveragePooling,
    "AveragePooling2D": _AveragePooling,
    "UpSampling2D": _UpSampling,
    "BatchNormalization": _BatchNormalization,
}


def _value(variable: Any) -> Any:
    """Return a variable as a tensor. A kernel with an adapter such as LoRA's is one already."""
    return getattr(variable, "value", variable)


# Lines (n, length, channels) are images of height 1.


def _images(rows: Tensor) -> Tensor:
    """Return a view as (n, channels, height, width), as torch counts the axes."""
    return (rows if rows.ndim == 4 else rows[:, None]).permute(0, 3, 1, 2)


def _rows(images: Tensor, ndim: int) -> Tensor:
    """Undo :func:`_images`."""
    rows = images.permute(0, 2, 3, 1)
    return rows if ndim == 4 else rows[:, 0]


def _kernel(values: Tensor) -> Tensor:
    """Return a view as (outputs, inputs, height, width)."""
    return (values if values.ndim == 4 else values[None]).permute(3, 2, 0, 1)


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    height, width = (1, *sizes)[-2:]
    return height, width


def _padded(images: Tensor, layer: Any) -> tuple[Tensor, tuple[int, int]]:
    """Return images with as much padding as torch cannot add itself, and the rest of it."""
    if layer.padding == "valid":
        return images, (0, 0)
    settings = map(_pair, (layer.kernel_size, layer.strides, layer.dilation_rate))
    sizes = zip(images.shape[2:], *settings, strict=True)
    (top, bottom), (left, right) = (_same_padding(*size) for size in sizes)
    if (top, left) == (bottom, right):
        return images, (top, left)
    return functional.pad(images, (left, right, top, bottom)), (0, 0)


def _same_padding(length: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the zeros before and after an axis, of which there is one more after it."""
    n_outputs = -(-length // stride)
    reach = (kernel - 1) * dilation + 1
    total = max(0, (n_outputs - 1) * stride + reach - length)
    return total // 2, total - total // 2
