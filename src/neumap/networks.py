"""Networks that come with the package: a multilayer perceptron and small conv nets.

In: sizes. Out: ``torch.nn.Module`` objects that take float32 rows ``(batch, *row_shape)``. Every
class has a ``config`` that JSON can store: the keyword arguments that rebuild it. A saved model is
therefore loaded without executing code. Any other module can be used instead of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

__all__ = ["MLP", "ConvDecoder", "ConvEncoder", "RowForm", "Standardize"]

RowForm = Literal["raw", "unit", "centred unit"]
ROUNDING = 1e-6
LARGE, SMALL = 2.0**42, 2.0**-40
SMALLEST = torch.finfo(torch.float32).tiny


class Standardize(nn.Module):
    """Subtract a mean row and divide by a scale; the fixed input layer of a network.

    All features have the same scale, so relative distances between rows, on which the neighbour
    graph is built, do not change. The statistics are state, not configuration: they are saved with
    the weights.

    Parameters
    ----------
    n_inputs : int
        Width of a flattened row.
    rows : {"raw", "unit", "centred unit"}, default="raw"
        ``"unit"`` first divides each row by its length. ``"centred unit"`` subtracts the mean of
        each row before that. Cosine and correlation distances ignore length and mean, and with
        these settings the network ignores them as well. A row of length zero stays zero. Mean and
        scale are those of the normalised rows.

    Examples
    --------
    >>> import torch
    >>> Standardize(2)(torch.tensor([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
    >>> Standardize(2, rows="unit")(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).round(decimals=1)
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_inputs: int, rows: RowForm = "raw") -> None:
        super().__init__()
        if rows not in get_args(RowForm):
            raise ValueError(
                f"rows must be one of {list(get_args(RowForm))}, got {rows!r}. Choose one of these."
            )
        self.n_inputs = n_inputs
        self.rows = rows
        self.register_buffer("mean", torch.zeros(n_inputs))
        self.register_buffer("scale", torch.ones(()))

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild the module."""
        return {"n_inputs": self.n_inputs, "rows": self.rows}

    def form(self, rows: Tensor) -> Tensor:
        """Normalise flat rows (batch, n_inputs) as `rows` says; return them unchanged if raw."""
        if self.rows == "raw":
            return rows
        rows = _of_ordinary_size(rows)
        if self.rows == "unit":
            lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            return torch.where(lengths > 0.0, rows / lengths.clamp_min(SMALLEST), 0.0)
        means = rows.mean(dim=1, keepdim=True)
        centred = rows - means
        lengths = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        # After centring, a constant row holds only rounding errors. The neighbour search treats it
        # as zero, too.
        is_constant = lengths <= means.abs() * (ROUNDING * math.sqrt(self.n_inputs))
        return torch.where(is_constant, 0.0, centred / lengths.clamp_min(SMALLEST))

    def set(self, mean: Tensor, scale: float) -> None:
        """Replace the statistics."""
        self.mean.copy_(mean)
        self.scale.fill_(scale)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (batch, n_inputs) to standardised rows of the same shape."""
        standard: Tensor = (self.form(rows) - self.mean) / self.scale
        return standard


def _of_ordinary_size(rows: Tensor) -> Tensor:
    """Multiply very large and very small rows by a power of two: squares stay in float32."""
    size = rows.abs().amax(dim=1, keepdim=True)
    factor = torch.ones_like(size).masked_fill(size > LARGE, LARGE**-2)
    return rows * factor.masked_fill(size < SMALL, LARGE**2)


class MLP(nn.Module):
    """Fully connected network with ReLU, flat rows in, flat rows (or ``output_shape``) out.

    The first layer is :class:`Standardize`. It does nothing until it gets statistics; a fit sets
    those of the training rows.

    Parameters
    ----------
    n_inputs : int
        Width of a flattened row.
    n_outputs : int
        Number of outputs; for an encoder, the number of components.
    hidden : sequence of int, default=(100, 100, 100)
        Widths of the hidden layers. Wider layers resolve finer structure and take time in
        proportion to the products of the widths; 100 to 512 is a sensible range.
    residual : bool, default=False
        Add each hidden layer's input to its output where the widths are equal. Helps with four
        layers or more.
    output_shape : sequence of int, optional
        Shape of one output row, with product `n_outputs`; flat by default.
    rows : {"raw", "unit", "centred unit"}, default="raw"
        Normalisation of each row; see :class:`Standardize`.
    subspace : int, optional
        Number of fixed directions onto which standardised rows are projected before the first
        layer; a fit of a network built by name sets them to principal directions. None, the
        default, keeps all of a row.

    Examples
    --------
    >>> import torch
    >>> MLP(784, 2)(torch.zeros(5, 28, 28)).shape
    torch.Size([5, 2])
    """

    basis: Tensor | None

    def __init__(  # noqa: PLR0913 - the settings of one network
        self,
        n_inputs: int,
        n_outputs: int,
        hidden: Sequence[int] = (100, 100, 100),
        *,
        residual: bool = False,
        output_shape: Sequence[int] | None = None,
        rows: RowForm = "raw",
        subspace: int | None = None,
    ) -> None:
        super().__init__()
        if subspace is not None and not 1 <= subspace <= n_inputs:
            raise ValueError(
                f"subspace must be None or between 1 and n_inputs={n_inputs}, got {subspace!r}. "
                "Change subspace."
            )
        if output_shape is not None and math.prod(output_shape) != n_outputs:
            raise ValueError(
                f"output_shape must have n_outputs={n_outputs} elements, got "
                f"{tuple(output_shape)} with {math.prod(output_shape)}. Change one of the two."
            )
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs
        self.hidden = tuple(hidden)
        self.residual = residual
        self.output_shape = None if output_shape is None else tuple(output_shape)
        self.standardize = Standardize(n_inputs, rows)
        self.subspace = subspace
        self.register_buffer("basis", None if subspace is None else torch.eye(subspace, n_inputs))
        widths = [self.n_read, *self.hidden, n_outputs]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        for index, layer in enumerate(self.layers):
            _initialise(layer, last=index == len(self.layers) - 1)  # type: ignore[arg-type]

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild the module."""
        config = {
            "n_inputs": self.n_inputs,
            "n_outputs": self.n_outputs,
            "hidden": list(self.hidden),
            "residual": self.residual,
            "output_shape": None if self.output_shape is None else list(self.output_shape),
            "rows": self.standardize.rows,
        }
        if self.subspace is not None:  # version 0.1 reads networks without
            config["subspace"] = self.subspace
        return config

    @property
    def n_read(self) -> int:
        """Width of what the first layer reads."""
        return self.n_inputs if self.subspace is None else self.subspace

    @property
    def _last_dtype(self) -> torch.dtype:
        last: nn.Linear = self.layers[-1]  # type: ignore[assignment]
        return last.weight.dtype

    def inputs(self, rows: Tensor) -> Tensor:
        """Return what the first layer reads: standardised rows, in the subspace if there is one."""
        x: Tensor = self.standardize(rows.flatten(1))
        return x if self.basis is None else nn.functional.linear(x, self.basis)

    def features(self, rows: Tensor) -> Tensor:
        """Return the last hidden layer's output, (batch, hidden[-1])."""
        x = self.inputs(rows)
        for layer in self.layers[:-1]:
            y = torch.relu(layer(x))
            x = x + y if self.residual and x.shape == y.shape else y
        return x

    def head(self, features: Tensor) -> Tensor:
        """Apply the last layer, (batch, hidden[-1]) to (batch, n_outputs)."""
        # Under autocast the hidden layers may be bfloat16, whose eight significant bits would
        # quantise the embedding.
        with torch.autocast(features.device.type, enabled=False):
            y: Tensor = self.layers[-1](features.to(self._last_dtype))
        return y

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (batch, ...) to outputs (batch, n_outputs) or ``(batch, *output_shape)``."""
        y = self.head(self.features(rows))
        return y if self.output_shape is None else y.reshape(len(rows), *self.output_shape)


def _initialise(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, *, last: bool) -> None:
    """He initialisation for ReLU layers; unit gain and zero bias for the last one."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if last else "relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _image_shape(dims: Sequence[int]) -> tuple[int, int, int]:
    """Read ``(height, width)`` or ``(height, width, channels)`` as channels-last sizes."""
    if len(dims) == 2:
        return int(dims[0]), int(dims[1]), 1
    if len(dims) == 3:
        return int(dims[0]), int(dims[1]), int(dims[2])
    raise ValueError(
        f"dims must be (height, width) or (height, width, channels), got {tuple(dims)}. Pass the "
        "shape of one image, channels last."
    )


class ConvEncoder(nn.Module):
    """Small convolutional encoder: two strided convolutions, one hidden layer, linear output.

    Parameters
    ----------
    dims : sequence of int
        ``(height, width)`` or ``(height, width, channels)``, channels last as in umap-learn's
        pages.
    n_outputs : int, default=2
        Number of components.
    channels : sequence of int, default=(32, 64)
        Channels of the two convolutions.
    hidden : int, default=256
        Width of the hidden layer.
    rows : {"raw", "unit", "centred unit"}, default="raw"
        Form in which images, as flat rows, are read; see :class:`Standardize`.

    Examples
    --------
    >>> import torch
    >>> ConvEncoder((28, 28, 1))(torch.zeros(3, 28, 28, 1)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        dims: Sequence[int],
        n_outputs: int = 2,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        rows: RowForm = "raw",
    ) -> None:
        super().__init__()
        self.dims = tuple(dims)
        self.n_outputs = n_outputs
        self.channels = tuple(channels)
        self.hidden = hidden
        height, width, depth = _image_shape(dims)
        sizes = [depth, *self.channels]
        self.standardize = Standardize(height * width * depth, rows)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size=3, stride=2, padding=1) for i, o in pairwise(sizes)
        )
        for _ in self.channels:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.dense = nn.Linear(self.channels[-1] * height * width, hidden)
        self.output = nn.Linear(hidden, n_outputs)
        for layer in (*self.convolutions, self.dense):
            _initialise(layer, last=False)
        _initialise(self.output, last=True)

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild the module."""
        return {
            "dims": list(self.dims),
            "n_outputs": self.n_outputs,
            "channels": list(self.channels),
            "hidden": self.hidden,
            "rows": self.standardize.rows,
        }

    def features(self, rows: Tensor) -> Tensor:
        """Return the hidden layer's output, (batch, hidden)."""
        height, width, depth = _image_shape(self.dims)
        x = self.standardize(rows.flatten(1))
        x = x.reshape(-1, height, width, depth).permute(0, 3, 1, 2)  # to channels first
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
        return torch.relu(self.dense(x.flatten(1)))

    def head(self, features: Tensor) -> Tensor:
        """Apply the last layer, (batch, hidden) to (batch, n_outputs)."""
        with torch.autocast(features.device.type, enabled=False):  # as in MLP
            y: Tensor = self.output(features.to(self.output.weight.dtype))
        return y

    def forward(self, rows: Tensor) -> Tensor:
        """Map images ``(batch, *dims)`` to (batch, n_outputs)."""
        return self.head(self.features(rows))


class ConvDecoder(nn.Module):
    """Mirror of :class:`ConvEncoder`: coordinates in, images (as logits or values) out.

    Parameters
    ----------
    dims : sequence of int
        ``(height, width)`` or ``(height, width, channels)`` of the images to produce.
    n_inputs : int, default=2
        Number of components.
    channels : sequence of int, default=(64, 32)
        Channels before each of the two upsamplings.
    hidden : int, default=256
        Width of the hidden layer.

    Examples
    --------
    >>> import torch
    >>> ConvDecoder((28, 28, 1))(torch.zeros(3, 2)).shape
    torch.Size([3, 28, 28, 1])
    """

    def __init__(
        self,
        dims: Sequence[int],
        n_inputs: int = 2,
        channels: Sequence[int] = (64, 32),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.dims = tuple(dims)
        self.n_inputs = n_inputs
        self.channels = tuple(channels)
        self.hidden = hidden
        height, width, depth = _image_shape(dims)
        factor = 2 ** len(self.channels)
        self.grid = (math.ceil(height / factor), math.ceil(width / factor))
        self.dense = nn.Linear(n_inputs, hidden)
        self.unfold = nn.Linear(hidden, self.channels[0] * math.prod(self.grid))
        sizes = [*self.channels, depth]
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(i, o, kernel_size=4, stride=2, padding=1) for i, o in pairwise(sizes)
        )
        for layer in (self.dense, self.unfold, *self.convolutions):
            _initialise(layer, last=layer is self.convolutions[-1])

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild the module."""
        return {
            "dims": list(self.dims),
            "n_inputs": self.n_inputs,
            "channels": list(self.channels),
            "hidden": self.hidden,
        }

    def forward(self, coordinates: Tensor) -> Tensor:
        """Map coordinates (batch, n_inputs) to images ``(batch, *dims)``."""
        height, width, _ = _image_shape(self.dims)
        x = torch.relu(self.dense(coordinates))
        x = torch.relu(self.unfold(x)).reshape(-1, self.channels[0], *self.grid)
        for index, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if index < len(self.convolutions) - 1:
                x = torch.relu(x)
        images = x[:, :, :height, :width].permute(0, 2, 3, 1)  # back to channels last
        return images.reshape(-1, *self.dims)
