"""The training step of a plain MLP written by hand: the same arithmetic without an autograd graph.

It computes what :class:`~neumap.training.steps.AutogradStep` computes for an :class:`MLP` encoder
and the UMAP term alone. What it saves: the graph and its small kernels, fresh memory at every
product, and, where the processor multiplies bfloat16 tiles in hardware, most of the matrix time:
rows, hidden layers and their gradients are bfloat16 there. The last layer, the coordinates, the
loss and the optimiser's weights stay float32, since eight significant bits would quantise the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neumap._device import fast_dtype
from neumap.data import DenseRows, RowStore
from neumap.losses import umap_forces
from neumap.losses.terms import UmapTerm
from neumap.networks import MLP, Standardize
from neumap.training.embedders import EncoderEmbedder
from neumap.training.noise import InputNoise, Places

__all__ = ["MLPStep", "Moment"]

# Rows converted at once when the standardised copy is made.
CONVERT_ROWS = 4096


class Moment(NamedTuple):
    """What a step depends on besides its batch and the weights.

    Numbers, or scalars on the device in their place: a recorded step reads those anew each time.

    Attributes
    ----------
    softening : float or Tensor
        The eps of the kernel.
    spare_share : float, Tensor or None
        Factor on the spare coordinates; None where there are none.
    noise_places : Places or None
        Where the noise is read; None without noise.
    """

    softening: float | Tensor
    spare_share: float | Tensor | None
    noise_places: Places | None


class MLPStep:
    """Losses and gradients of one batch for an MLP, in closed form throughout.

    Parameters
    ----------
    embedder : EncoderEmbedder
        With an encoder that :meth:`serves` accepts.
    term : UmapTerm
        The whole objective.
    dtype : torch.dtype, optional
        Of rows and hidden layers; by default the machine's fast one.
    """

    def __init__(
        self, embedder: EncoderEmbedder, term: UmapTerm, dtype: torch.dtype | None = None
    ) -> None:
        encoder = embedder.encoder
        assert isinstance(encoder, MLP)
        self.embedder = embedder
        self.term = term
        self.dtype = fast_dtype(embedder.rows.device) if dtype is None else dtype
        layers: list[nn.Linear] = list(encoder.layers)  # type: ignore[arg-type]
        self._last = layers[-1]
        self._hidden = _HiddenLayers(layers[:-1], self.dtype)
        self._gather = _row_source(embedder.rows, encoder.standardize, self.dtype)
        self._noise = None
        if embedder.noise is not None:  # rows are standardised here, the noise is in their units
            scale = embedder.noise.scale / float(encoder.standardize.scale)
            self._noise = InputNoise(scale, embedder.noise.seed)

    @property
    def n_threads(self) -> int | None:
        """Half of torch's threads, four at most.

        Products this small gain little from more: 15 % from the second of two. With a thread on
        every core, one other busy process makes each of a step's 60 operations wait for it: twenty
        times slower on two cores.
        """
        return max(1, min(4, torch.get_num_threads() // 2))

    @property
    def device(self) -> torch.device:
        """Where the step is computed."""
        return self.embedder.rows.device

    def is_resident_on(self, kind: str) -> bool:
        """Whether rows and weights lie on a device of this kind, so that the host takes no part."""
        return isinstance(self.embedder.rows, DenseRows) and self.device.type == kind

    @staticmethod
    def serves(embedder: EncoderEmbedder) -> bool:
        """Whether the encoder is an MLP as the package builds it, all of it to be trained."""
        encoder = embedder.encoder
        return (
            type(encoder) is MLP
            and not encoder.residual
            and encoder.output_shape is None
            and len(encoder.hidden) > 0
            and type(encoder.standardize) is Standardize
            and all(map(_is_plain_linear, encoder.layers))
            and not any(map(_is_watched, encoder.modules()))
        )

    def parameters(self) -> list[nn.Parameter]:
        """The weights and biases of the encoder, and of spare dimensions if there are any."""
        return list(self.embedder.parameters())

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Leave fresh gradients in the parameters; return detached scalars by name."""
        return self.at(indices, self.moment(progress))

    def moment(self, progress: float) -> Moment:
        """Return what the next step depends on besides its batch; draws the noise's places."""
        places = None if self._noise is None else self._noise.draw_places()
        return Moment(self.term.softening(progress), self.embedder.spare_share(progress), places)

    def at(self, indices: Tensor, moment: Moment) -> dict[str, Tensor]:
        """Do the arithmetic of a step; nothing in it waits for the device or draws a number."""
        with torch.no_grad():
            inputs = self._gather(indices, self._hidden.input_buffer(len(indices)))
            if self._noise is not None:
                self._noise.add_(inputs, moment.noise_places)
            features = self._hidden.forward(inputs).float()  # (batch, hidden[-1])
            weight, bias = self._last_layer(moment.spare_share)
            forces = umap_forces(
                torch.addmm(bias, features, weight.t()),
                self.term.kernel,
                moment.softening,
                self.term.n_partners,
            )
            self._store_last(forces.gradient, features, moment.spare_share)
            self._hidden.backward(forces.gradient.to(self.dtype) @ weight.to(self.dtype))
        loss = forces.attraction + forces.repulsion
        return {"loss": loss, self.term.name: loss}

    def _last_layer(self, share: float | Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the layer that gives all coordinates."""
        weight, bias = self._last.weight, self._last.bias
        if share is None:
            return weight, bias
        assert self.embedder.spare is not None
        return self.embedder.spare.widen(weight, bias, share)

    def _store_last(self, gradient: Tensor, features: Tensor, share: float | Tensor | None) -> None:
        """Write the gradients of the last layer, and of the spare one beside it."""
        of_weight, of_bias = gradient.t() @ features, gradient.sum(0)
        n_components = len(self._last.bias)
        self._last.weight.grad, self._last.bias.grad = (
            of_weight[:n_components],
            of_bias[:n_components],
        )
        if self.embedder.spare is not None:
            layer = self.embedder.spare.layer
            layer.weight.grad = None if share is None else of_weight[n_components:] * share
            layer.bias.grad = None if share is None else of_bias[n_components:] * share

    def finish(self) -> None:
        """Nothing is kept elsewhere: the optimiser works on the encoder's own parameters."""


class _HiddenLayers:
    """Linear layers with ReLU, forward and backward, in memory that is set aside once.

    Weights and gradients are held in the dtype of the products beside the float32 ones that the
    optimiser sees, and move between the two in one call each.
    """

    def __init__(self, layers: Sequence[nn.Linear], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        self.gradients = [torch.zeros_like(p) for p in self.parameters]
        self.is_compact = dtype != torch.float32
        self.compact = [torch.empty_like(p, dtype=dtype) for p in self.parameters * self.is_compact]
        self.compact_gradients = [torch.empty_like(c) for c in self.compact]
        self._buffers: list[Tensor] = []

    def input_buffer(self, n_rows: int) -> Tensor:
        """Return memory for the rows of a batch, (n_rows, n_inputs)."""
        if not self._buffers or len(self._buffers[0]) != n_rows:
            first, *_ = weights = self.parameters[::2]
            widths = [first.shape[1], *(len(weight) for weight in weights)]
            empty = [first.new_empty(n_rows, width, dtype=self.dtype) for width in widths]
            self._buffers = empty
            self._flowing = [torch.empty_like(buffer) for buffer in empty[1:-1]]
        return self._buffers[0]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the last layer's output for inputs (batch, n_inputs), a buffer."""
        if self.is_compact:
            torch._foreach_copy_(self.compact, self.parameters)
        numbers = self.compact if self.is_compact else self.parameters
        self._inputs = [inputs, *self._buffers[1:]]  # of every layer, and the output of the last
        self._weights = numbers[::2]
        for depth, (weight, bias) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
            output = self._inputs[depth + 1]
            torch.addmm(bias, self._inputs[depth], weight.t(), out=output)
            _relu_(output)
        return self._inputs[-1]

    def backward(self, flowing: Tensor) -> None:
        """Send the gradient at the output down; leave every parameter's in its ``grad``."""
        gradients = self.compact_gradients if self.is_compact else self.gradients
        for depth in range(len(self._weights) - 1, -1, -1):
            _through_relu_(flowing, self._inputs[depth + 1])
            torch.mm(flowing.t(), self._inputs[depth], out=gradients[2 * depth])
            torch.sum(flowing, 0, out=gradients[2 * depth + 1])
            if depth:
                flowing = torch.mm(flowing, self._weights[depth], out=self._flowing[depth - 1])
        if self.is_compact:
            torch._foreach_copy_(self.gradients, self.compact_gradients)
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient


def _is_plain_linear(layer: nn.Module) -> bool:
    """Whether a layer is just ``x W + b`` with trained float32 numbers and nothing attached."""
    return type(layer) is nn.Linear and all(
        isinstance(p, nn.Parameter)
        and p.requires_grad
        and p.dtype == torch.float32
        and not p._backward_hooks
        for p in (layer.weight, layer.bias)
    )


def _is_watched(module: nn.Module) -> bool:
    """Whether hooks expect to be called when the module runs."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


# ReLU on the bits of a float read as a signed integer: the sign bit is the same in both, so a
# negative float is a negative integer, and 0 the same pattern. Five times as fast in bfloat16,
# for which torch's CPU kernels go through float32. A NaN with its sign bit set becomes 0 here; the
# loop therefore looks at the weights themselves at every report.
BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


def _relu_(x: Tensor) -> Tensor:
    """ReLU in place."""
    x.view(BITS[x.dtype]).clamp_(min=0)
    return x


def _through_relu_(gradient: Tensor, output: Tensor) -> Tensor:
    """Zero a gradient in place where ReLU's output was zero."""
    kind = BITS[gradient.dtype]
    gradient.view(kind).mul_(torch.sign(output.view(kind)))  # sign is 0 or 1 here
    return gradient


class _Standardized:
    """Rows gathered from a store and standardised batch by batch."""

    def __init__(self, rows: RowStore, standardize: Standardize, dtype: torch.dtype) -> None:
        self.rows = rows
        self.standardize = standardize
        self.dtype = dtype

    def __call__(self, indices: Tensor, out: Tensor) -> Tensor:
        flat = self.standardize.form(self.rows.gather(indices).flatten(1))
        return out.copy_(flat.sub_(self.standardize.mean).div_(self.standardize.scale))


class _Resident:
    """Rows standardised once and kept in a compact dtype, half the size of float32 data."""

    def __init__(self, rows: DenseRows, standardize: Standardize, dtype: torch.dtype) -> None:
        self.table = torch.empty(rows.n_rows, rows.n_features, dtype=dtype, device=rows.device)
        start = 0
        for part in rows.slices(CONVERT_ROWS):
            self.table[start : start + len(part)] = standardize(part.flatten(1))
            start += len(part)

    def __call__(self, indices: Tensor, out: Tensor) -> Tensor:
        return torch.index_select(self.table, 0, indices, out=out)


def _row_source(
    rows: RowStore, standardize: Standardize, dtype: torch.dtype
) -> _Resident | _Standardized:
    """Keep a compact copy of dense rows; convert other rows, and float32 ones, by the batch."""
    if isinstance(rows, DenseRows) and dtype != torch.float32:
        return _Resident(rows, standardize, dtype)
    return _Standardized(rows, standardize, dtype)
