"""The training step of a plain MLP written by hand: the same arithmetic without an autograd graph.

It computes what :class:`~neumap.training.steps.AutogradStep` computes for an :class:`MLP` encoder
and the UMAP term alone. What it saves: the graph and its small kernels, and, where the processor
multiplies bfloat16 tiles in hardware, most of the matrix time: rows, hidden layers and their
gradients are bfloat16 there. The last layer, the coordinates, the loss and the optimiser's
weights stay float32, since eight significant bits would quantise the map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neumap._device import fast_dtype
from neumap.data import DenseRows, RowStore
from neumap.losses import umap_forces
from neumap.losses.terms import UmapTerm
from neumap.networks import MLP, Standardize
from neumap.training.embedders import EncoderEmbedder
from neumap.training.noise import InputNoise

__all__ = ["MLPStep"]

# Rows converted at once when the standardised copy is made.
CONVERT_ROWS = 4096


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
        self.layers: list[nn.Linear] = list(encoder.layers)  # type: ignore[arg-type]
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
        """The weights and biases of the encoder."""
        return list(self.embedder.encoder.parameters())

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Leave fresh gradients in the parameters; return detached scalars by name."""
        with torch.no_grad():
            weights = [layer.weight.to(self.dtype) for layer in self.layers[:-1]]
            inputs = self._gather(indices)
            if self._noise is not None:
                self._noise.add_(inputs)
            activations, coordinates = self._forward(inputs, weights)
            forces = umap_forces(
                coordinates,
                self.term.kernel,
                self.term.softening(progress),
                self.term.n_partners,
            )
            self._backward(forces.gradient, activations, weights)
        loss = forces.attraction + forces.repulsion
        return {"loss": loss, self.term.name: loss}

    def _forward(self, inputs: Tensor, weights: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the input of every layer, and the coordinates."""
        activations = [inputs]  # (batch, width) each
        for layer, weight in zip(self.layers, weights, strict=False):
            bias = layer.bias.to(self.dtype)
            activations.append(_relu_(torch.addmm(bias, activations[-1], weight.t())))
        last = self.layers[-1]
        return activations, torch.addmm(last.bias, activations[-1].float(), last.weight.t())

    def _backward(self, gradient: Tensor, activations: list[Tensor], weights: list[Tensor]) -> None:
        """Send the gradient at the coordinates down through the layers."""
        last = self.layers[-1]
        _store(last, gradient, activations[-1].float())
        flowing = gradient.to(self.dtype) @ last.weight.to(self.dtype)  # (batch, hidden[-1])
        for depth in range(len(weights) - 1, -1, -1):
            flowing = _through_relu_(flowing, activations[depth + 1])
            _store(self.layers[depth], flowing, activations[depth])
            if depth:
                flowing = flowing @ weights[depth]

    def finish(self) -> None:
        """Nothing is kept elsewhere: the optimiser works on the encoder's own parameters."""


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


def _store(layer: nn.Linear, gradient: Tensor, inputs: Tensor) -> None:
    """Write the gradients of a layer's weight and bias."""
    layer.weight.grad = (gradient.t() @ inputs).to(layer.weight.dtype)
    layer.bias.grad = gradient.sum(0).to(layer.bias.dtype)


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

    def __call__(self, indices: Tensor) -> Tensor:
        flat = self.standardize.form(self.rows.gather(indices).flatten(1))
        return flat.sub_(self.standardize.mean).div_(self.standardize.scale).to(self.dtype)


class _Resident:
    """Rows standardised once and kept in a compact dtype, half the size of float32 data."""

    def __init__(self, rows: DenseRows, standardize: Standardize, dtype: torch.dtype) -> None:
        self.table = torch.empty(rows.n_rows, rows.n_features, dtype=dtype, device=rows.device)
        start = 0
        for part in rows.slices(CONVERT_ROWS):
            self.table[start : start + len(part)] = standardize(part.flatten(1))
            start += len(part)

    def __call__(self, indices: Tensor) -> Tensor:
        return torch.index_select(self.table, 0, indices)


def _row_source(
    rows: RowStore, standardize: Standardize, dtype: torch.dtype
) -> _Resident | _Standardized:
    """Keep a compact copy of dense rows; convert other rows, and float32 ones, by the batch."""
    if isinstance(rows, DenseRows) and dtype != torch.float32:
        return _Resident(rows, standardize, dtype)
    return _Standardized(rows, standardize, dtype)
