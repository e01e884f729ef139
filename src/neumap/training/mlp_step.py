"""The training step of a plain MLP in closed form: the same arithmetic without an autograd graph.

It computes what :class:`~neumap.training.steps.AutogradStep` computes for an :class:`MLP` encoder
with the UMAP term alone. It saves the graph with its small kernels, the allocation of memory at
every product and, if the processor multiplies bfloat16 tiles in hardware, most of the time for
matrix products: rows, hidden layers and their gradients are bfloat16 there. The last layer, the
coordinates, the loss and the weights that the optimiser updates stay float32, since eight
significant bits would quantise the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from neumap._device import fast_dtype, training_threads
from neumap._workers import in_order
from neumap.data import DenseRows, RowStore
from neumap.losses import umap_forces
from neumap.losses.terms import UmapTerm
from neumap.networks import MLP, Standardize
from neumap.training.embedders import EncoderEmbedder
from neumap.training.noise import InputNoise
from neumap.training.recordable import StepInputs
from neumap.training.sharing import sum_gradients

__all__ = ["MLPStep"]

# Rows, and their numbers, converted at once when the copy in the network's form is made.
CONVERT_ROWS = 4096
CONVERT_NUMBERS = 2**20

# Largest copy in a subspace, in numbers: half a gigabyte of bfloat16.
LARGEST_TABLE = 2**28


class MLPStep:
    """Losses and gradients of one batch for an MLP, all in closed form.

    Parameters
    ----------
    embedder : EncoderEmbedder
        With an encoder for which :meth:`serves` is true.
    term : UmapTerm
        The only term of the objective.
    dtype : torch.dtype, optional
        Of rows and hidden layers; by default the fastest on this machine.
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
        self._encoder = encoder
        self._noise: InputNoise | None = None
        if embedder.noise is not None:  # its scale is in units of rows that are not standardised
            self._noise = embedder.noise.divided_by(float(encoder.standardize.scale))

    @cached_property
    def _gather(self) -> _Resident | _Batchwise:
        # At the first step: a checkpoint may bring other statistics of the input until then.
        return _row_source(self.embedder.rows, self._encoder, self.dtype)

    @property
    def sources(self) -> list[InputNoise]:
        """What batches draw random numbers from."""
        return [] if self._noise is None else [self._noise]

    @property
    def n_threads(self) -> int:
        """Few threads: products of this size gain little from more."""
        return training_threads(is_small=True)

    @property
    def device(self) -> torch.device:
        """Device on which the step is computed."""
        return self.embedder.rows.device

    @property
    def is_known(self) -> bool:
        """Nothing of the user's is in it."""
        return True

    def changing(self) -> list[Tensor]:
        """Return nothing: a step changes the parameters alone."""
        return []

    def python_state(self) -> tuple[()]:
        """Return nothing: the modules keep no numbers in Python."""
        return ()

    def is_resident_on(self, kind: str) -> bool:
        """Whether rows and weights are on a device of this type, so a step needs no host work."""
        return isinstance(self.embedder.rows, DenseRows) and self.device.type == kind

    @staticmethod
    def serves(embedder: EncoderEmbedder) -> bool:
        """Whether the encoder is an MLP as the package builds it, with all parameters trained."""
        encoder = embedder.encoder
        return (
            type(encoder) is MLP
            and not encoder.residual
            and encoder.output_shape is None
            and len(encoder.hidden) > 0
            and type(encoder.standardize) is Standardize
            and all(map(_is_plain_linear, encoder.layers))
            and not any(map(_has_hooks, encoder.modules()))
        )

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the encoder, and of auxiliary dimensions if there are any."""
        return list(self.embedder.parameters())

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Compute the losses of these rows and leave new gradients in the parameters."""
        return self.compute(indices, self.inputs(progress))

    def inputs(self, progress: float) -> StepInputs:
        """Return the other inputs of the next step; draws where the noise starts."""
        starts = None if self._noise is None else self._noise.draw_starts()
        scale = self.embedder.auxiliary_scale(progress)
        return StepInputs(self.term.softening(progress), scale, starts)

    def compute(self, indices: Tensor, given: StepInputs) -> dict[str, Tensor]:
        """Do the arithmetic of a step, without waiting for the device or drawing a number."""
        ranks, n_batch = self.embedder.ranks, len(indices)
        share = ranks.share(n_batch)
        own = indices[share]
        with torch.no_grad():
            rows = self._gather(own, self._hidden.input_buffer(len(own)))
            if self._noise is not None:
                self._noise.add_(rows, own, given.noise_starts, (share.start, n_batch))
            features = self._hidden.forward(rows).float()  # (batch, hidden[-1])
            weight, bias = self._last_layer(given.auxiliary_scale)
            forces = umap_forces(
                ranks.gather(torch.addmm(bias, features, weight.t()), n_batch),
                self.term.kernel,
                given.softening,
                self.term.n_negatives,
            )
            gradient = forces.gradient[share]
            self._store_last(gradient, features, given.auxiliary_scale)
            self._hidden.backward(gradient.to(self.dtype) @ weight.to(self.dtype))
            if not ranks.is_alone:
                sum_gradients(ranks, self.parameters())
        loss = forces.attraction + forces.repulsion
        return {"loss": loss, self.term.name: loss}

    def _last_layer(self, scale: float | Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the layer that computes all coordinates."""
        weight, bias = self._last.weight, self._last.bias
        if scale is None:
            return weight, bias
        assert self.embedder.auxiliary is not None
        return self.embedder.auxiliary.extend(weight, bias, scale)

    def _store_last(self, gradient: Tensor, features: Tensor, scale: float | Tensor | None) -> None:
        """Store the gradients of the last layer and of the auxiliary one."""
        of_weight, of_bias = gradient.t() @ features, gradient.sum(0)
        n_components = len(self._last.bias)
        self._last.weight.grad, self._last.bias.grad = (
            of_weight[:n_components],
            of_bias[:n_components],
        )
        if self.embedder.auxiliary is not None:
            layer = self.embedder.auxiliary.layer
            layer.weight.grad = None if scale is None else of_weight[n_components:] * scale
            layer.bias.grad = None if scale is None else of_bias[n_components:] * scale

    def finish(self) -> None:
        """Do nothing: the optimiser updates the encoder's own parameters."""


class _HiddenLayers:
    """Linear layers with ReLU, forward and backward, in memory that is allocated once.

    Weights and gradients exist twice: in float32 for the optimiser, and in the dtype of the
    products. They are converted in one call each.
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
        """Return the buffer for the rows of a batch, (n_rows, n_inputs)."""
        if not self._buffers or len(self._buffers[0]) != n_rows:
            first, *_ = weights = self.parameters[::2]
            widths = [first.shape[1], *(len(weight) for weight in weights)]
            empty = [first.new_empty(n_rows, width, dtype=self.dtype) for width in widths]
            self._buffers = empty
            self._flowing = [torch.empty_like(buffer) for buffer in empty[1:-1]]
        return self._buffers[0]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the last hidden layer's output for the input buffer (batch, n_inputs)."""
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
        """Backpropagate the gradient at the output into the ``grad`` of every parameter."""
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
    """Whether a layer is only ``x W + b``, with trained float32 parameters and no hooks."""
    return type(layer) is nn.Linear and all(
        isinstance(p, nn.Parameter)
        and p.requires_grad
        and p.dtype == torch.float32
        and not p._backward_hooks
        for p in (layer.weight, layer.bias)
    )


def _has_hooks(module: nn.Module) -> bool:
    """Whether the module has hooks, which a closed form would not call."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


# ReLU on the bits of a float, read as a signed integer: both have the same sign bit, so a negative
# float is a negative integer, and 0 has the same bits. This is five times as fast in bfloat16, for
# which torch's CPU kernels convert to float32. A NaN with its sign bit set becomes 0 here, so the
# training loop checks the weights themselves at every report.
BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


def _relu_(x: Tensor) -> Tensor:
    """ReLU in place."""
    x.view(BITS[x.dtype]).clamp_(min=0)
    return x


def _through_relu_(gradient: Tensor, output: Tensor) -> Tensor:
    """Set a gradient to zero, in place, where the output of ReLU is zero."""
    kind = BITS[gradient.dtype]
    gradient.view(kind).mul_(torch.sign(output.view(kind)))  # sign is 0 or 1 here
    return gradient


class _Batchwise:
    """Rows that are gathered from a store and brought into the network's form batch by batch."""

    def __init__(self, rows: RowStore, encoder: MLP) -> None:
        self.rows = rows
        self.encoder = encoder

    def __call__(self, indices: Tensor, out: Tensor) -> Tensor:
        return out.copy_(self.encoder.inputs(self.rows.gather(indices)))


class _Resident:
    """What the first layer reads of every row, computed once: compact, or in a subspace."""

    def __init__(self, rows: RowStore, encoder: MLP, dtype: torch.dtype) -> None:
        shape = (rows.n_rows, encoder.n_read)
        self.table = torch.empty(shape, dtype=dtype, device=rows.device)
        size = max(1, min(CONVERT_ROWS, CONVERT_NUMBERS // rows.n_features))
        parts = in_order(torch.no_grad()(encoder.inputs), rows.slices(size), rows.device)
        for place, part in zip(torch.split(self.table, size), parts, strict=True):
            place.copy_(part)

    def __call__(self, indices: Tensor, out: Tensor) -> Tensor:
        return torch.index_select(self.table, 0, indices, out=out)


def _row_source(rows: RowStore, encoder: MLP, dtype: torch.dtype) -> _Resident | _Batchwise:
    """Compute the network's input once where that is smaller than the rows, else by the batch."""
    in_subspace = encoder.basis is not None and rows.n_rows * encoder.n_read <= LARGEST_TABLE
    is_compact = isinstance(rows, DenseRows) and dtype != torch.float32
    return (
        _Resident(rows, encoder, dtype) if in_subspace or is_compact else _Batchwise(rows, encoder)
    )
