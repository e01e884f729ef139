"""Embedders: what computes positions, either an encoder or free parameters.

In: row numbers. Out: coordinates. Losses, sampling and the training loop do not know which kind of
embedder they train.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neumap._device import torch_threads
from neumap._modes import evaluating
from neumap._ranks import ALONE, Ranks, telling
from neumap._workers import in_order
from neumap.data import RowStore, first_rows
from neumap.networks import MLP, ConvDecoder, ConvEncoder, Standardize
from neumap.training.auxiliary import AuxiliaryDimensions
from neumap.training.flops import counted_flops
from neumap.training.last_layer import LastLayer
from neumap.training.noise import InputNoise
from neumap.training.precision import Source, choose_precision
from neumap.training.sharing import encode_share

__all__ = [
    "Embedder",
    "EncoderEmbedder",
    "Found",
    "FreeEmbedder",
    "encode_rows",
    "encoded_parts",
    "rows_to_write_on",
]

# Rows encoded at once outside training: a multiple of every GEMM tile, and few enough that the
# activations of a 1,000-wide layer take only a few MB. Fewer if the rows are wide: a sparse matrix
# is made dense slice by slice, and the input layers of a network copy the slice.
ENCODE_ROWS = 4096
ENCODE_BYTES = 2**26
SMALLEST_SLICE = 64

# Rows with which a network is tried in bfloat16.
TRIED = 64

# These read their rows only. A user's network may begin with an operation in place.
READERS = (MLP, ConvEncoder, ConvDecoder)


class Embedder(Protocol):
    """A module that maps row numbers to coordinates.

    Attributes
    ----------
    ranks : Ranks
        The processes that encode a batch together.
    """

    ranks: Ranks

    @property
    def is_sharable(self) -> bool:
        """Whether several processes may each encode a share of the rows of a batch."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        ...

    @property
    def encoder(self) -> nn.Module | None:
        """The network, or None for free positions."""
        ...

    @property
    def flops(self) -> float | None:
        """Operations of one row, forward; None where they cannot be counted."""
        ...

    def embed(self, indices: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return network inputs (None for free positions) and coordinates of these rows."""
        ...

    def embed_all(self, ranks: Ranks = ALONE) -> np.ndarray:
        """Return the positions of all rows, (n_rows, n_components) float32.

        `ranks` are the processes that call it together, each of which encodes a share of the rows.
        """
        ...


def rows_to_write_on(module: nn.Module, rows: Tensor) -> Tensor:
    """Return rows that a network may change: a copy, unless it is known not to change any.

    Rows of a store may be views of the caller's array, which is not always writable, and the rows
    of a batch are needed after the network has read them.
    """
    return rows if type(module) in READERS else rows.clone()


def encode_rows(module: nn.Module, rows: RowStore, batch_rows: int | None = None) -> np.ndarray:
    """Apply a module to all rows in order, in batches, without gradients.

    Parameters
    ----------
    module : nn.Module
        Switched to evaluation during the call.
    rows : RowStore
        Inputs.
    batch_rows : int, optional
        Rows encoded at once; by default at most 4,096, or fewer if the rows are wide.

    Returns
    -------
    ndarray of shape (n_rows, ...), float32
        Outputs, on the CPU.
    """
    return encode_to(module, rows, "cpu", batch_rows).numpy()


def _encode_together(module: nn.Module, rows: RowStore, ranks: Ranks) -> np.ndarray:
    """Return the outputs of :func:`encode_rows`, of which each process computes a share.

    A share is whole slices: the outputs are those of one process to the bit.
    """
    size = _slice_rows(rows)
    starts = range(0, rows.n_rows, size)
    own = starts[ranks.share(len(starts))]
    parts = []
    with telling(ranks) as known:
        with evaluating(module), torch_threads():
            for start in own:
                part = rows.gather(torch.arange(start, min(start + size, rows.n_rows)))
                output = module(part).float()
                check_row_count(len(output), len(part))
                parts.append(output.cpu().numpy())
        known["shape"] = parts[0].shape[1:] if parts else None
    shape = next(note["shape"] for note in known["notes"] if note["shape"] is not None)
    outputs = np.zeros((rows.n_rows, *shape), dtype=np.float32)
    for start, values in zip(own, parts, strict=True):
        outputs[start : start + len(values)] = values
    ranks.add_(torch.from_numpy(outputs))
    return outputs


def encode_to(
    module: nn.Module,
    rows: RowStore,
    device: torch.device | str,
    batch_rows: int | None = None,
) -> Tensor:
    """Return the same outputs as :func:`encode_rows`, as a tensor on a device.

    Parameters
    ----------
    module, rows, batch_rows
        As there.
    device : torch.device or str
        Where the outputs are collected.

    Returns
    -------
    Tensor of shape (n_rows, ...), float32
    """
    # Outputs go into one array. Separate arrays would lie between the layers' buffers in memory,
    # which could then not be returned to the system.
    outputs: Tensor | None = None
    start = 0
    with closing(encoded_parts(module, rows, batch_rows)) as parts:
        for output in parts:
            if outputs is None:
                with torch.inference_mode(False):  # the caller may compute gradients with it
                    outputs = torch.empty(rows.n_rows, *output.shape[1:], device=device)
            outputs[start : start + len(output)] = output
            start += len(output)
    assert outputs is not None, "a row store has at least one row"
    return outputs


def encoded_parts(
    module: nn.Module, rows: RowStore, batch_rows: int | None = None
) -> Generator[Tensor, None, None]:
    """Yield the same outputs as they are computed, (at most `batch_rows`, ...) on their device.

    The module stays in evaluation mode until the generator ends: close it.
    """
    size = _slice_rows(rows) if batch_rows is None else batch_rows

    def encode(part: Tensor) -> Tensor:
        output: Tensor = module(rows_to_write_on(module, part)).float()
        check_row_count(len(output), len(part))
        return output

    if rows.n_rows > size and _encodes_on_threads(module, rows):
        with evaluating(module):
            yield from in_order(torch.inference_mode()(encode), rows.slices(size))
        return
    with evaluating(module), torch_threads():
        yield from map(encode, rows.slices(size))


def _encodes_on_threads(module: nn.Module, rows: RowStore) -> bool:
    """Whether slices may be encoded beside each other: by the package's MLP, which is only read.

    Hooks of the user expect one slice after the other.
    """
    if type(module) is not MLP or rows.device.type != "cpu":
        return False
    return not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def check_row_count(n_outputs: int, n_rows: int) -> None:
    """Raise ValueError unless a network returned one output for each row."""
    if n_outputs != n_rows:
        raise ValueError(
            f"A network must return one output for each row, got {n_outputs} for {n_rows} rows. "
            "Do not add, drop or reshape rows in its forward."
        )


def _slice_rows(rows: RowStore) -> int:
    affordable = ENCODE_BYTES // (4 * rows.n_features)
    return min(ENCODE_ROWS, max(SMALLEST_SLICE, affordable // SMALLEST_SLICE * SMALLEST_SLICE))


@dataclass(frozen=True)
class Found:
    """What was found out about a network of the user.

    Attributes
    ----------
    last_layer : LastLayer or None
        For auxiliary dimensions, where it ends with a linear layer.
    noisy : Tensor of shape row_shape, bool, or None
        Which numbers of a row get noise; None stands for all.
    normalises_batches : bool
        Whether what it returns for a row in training depends on the rows beside it.
    """

    last_layer: LastLayer | None = None
    noisy: Tensor | None = None
    normalises_batches: bool = False


class EncoderEmbedder(nn.Module):
    """Positions are the encoder's output at the rows of a store.

    Parameters
    ----------
    encoder : nn.Module
        Maps (batch, *row_shape) float32 to (batch, n_components).
    rows : RowStore
        The training rows.
    noise : InputNoise, optional
        Added to the inputs of the encoder in training, in units of the rows after the
        normalisation that the encoder applies to each row.
    auxiliary : AuxiliaryDimensions, optional
        Additional dimensions for :meth:`embed_with_auxiliary`.
    found : Found, optional
        What was found out about an encoder of the user. Those of the package are known.
    """

    def __init__(
        self,
        encoder: nn.Module,
        rows: RowStore,
        noise: InputNoise | None = None,
        auxiliary: AuxiliaryDimensions | None = None,
        found: Found | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = rows
        self.noise = noise
        self.auxiliary = auxiliary
        self._found = Found() if found is None else found
        self.ranks = ALONE
        self.mixed = choose_precision(encoder, rows.gather(torch.arange(min(TRIED, rows.n_rows))))

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        return self.rows.n_rows

    @cached_property
    def flops(self) -> float | None:
        """Operations of one row, forward; None where they cannot be counted."""
        return counted_flops(self.encoder, first_rows(self.rows))

    @property
    def is_sharable(self) -> bool:
        """Whether several processes may each encode a share of the rows of a batch."""
        return not self._found.normalises_batches

    @property
    def sources(self) -> list[Source]:
        """What batches draw random numbers from."""
        return [] if self.noise is None else [self.noise]

    def embed(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and coordinates of these rows, with noise if there is any.

        If the batch is at least as long as the data set, each row is encoded once and the
        coordinates are gathered instead.
        """
        inputs = self.rows.gather(indices)
        return inputs, self._each_once(self._place, inputs, indices)

    def encode(self, seen: Tensor) -> Tensor:
        """Return coordinates of rows as they are, in the precision of the training."""
        own = seen[self.ranks.share(len(seen))]
        with nullcontext() if self.mixed is None else self.mixed():
            return encode_share(self.ranks, self._place, own, len(seen))

    def _place(self, seen: Tensor) -> Tensor:
        placed: Tensor = self.encoder(rows_to_write_on(self.encoder, seen))
        check_row_count(len(placed), len(seen))
        return placed.float()

    def auxiliary_scale(self, progress: float) -> float | None:
        """Return the scale of the auxiliary coordinates; None if there are none, or it is zero."""
        return None if self.auxiliary is None else self.auxiliary.scale(progress) or None

    def embed_with_auxiliary(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, coordinates and unscaled auxiliary coordinates of these rows."""
        assert self.auxiliary is not None
        inputs = self.rows.gather(indices)
        extended = self._each_once(self._encode_extended, inputs, indices)
        coordinates, auxiliary = extended.tensor_split([-self.auxiliary.n_auxiliary], dim=1)
        return inputs, coordinates, auxiliary

    def _encode_extended(self, seen: Tensor) -> Tensor:
        assert self.auxiliary is not None
        last_layer = self._found.last_layer
        if last_layer is None:
            assert isinstance(self.encoder, MLP | ConvEncoder)
            features = self.encoder.features(seen)
            placed = self.encoder.head(features)
        else:
            own = rows_to_write_on(self.encoder, seen)
            placed, features = last_layer.run(self.encoder, own)
            check_row_count(len(placed), len(seen))
        with torch.autocast(features.device.type, enabled=False):
            auxiliary = self.auxiliary(features)
        return torch.cat([placed.float(), auxiliary], dim=1)

    def _each_once(
        self, encode: Callable[[Tensor], Tensor], inputs: Tensor, indices: Tensor
    ) -> Tensor:
        if len(indices) < self.n_rows:
            return self._encode(encode, inputs, indices)
        everything = torch.arange(self.n_rows, device=indices.device)
        each = self._encode(encode, self.rows.gather(everything), everything)
        return each.index_select(0, indices)

    def _encode(
        self, encode: Callable[[Tensor], Tensor], inputs: Tensor, indices: Tensor
    ) -> Tensor:
        n_batch = len(inputs)
        share = self.ranks.share(n_batch)
        own = seen = inputs[share]
        if self.noise is not None:
            among = (share.start, n_batch)
            seen = self.noise.add_(self._as_read(own), indices[share], among=among)
        if self._found.noisy is not None:
            seen = torch.where(self._found.noisy, seen, own)
        with nullcontext() if self.mixed is None else self.mixed():
            return encode_share(self.ranks, encode, seen, n_batch)

    def _as_read(self, inputs: Tensor) -> Tensor:
        """Return a copy of the rows, normalised as the encoder normalises each row.

        The encoder normalises its input again, which does not change normalised rows.
        """
        front = getattr(self.encoder, "standardize", None)
        if not isinstance(front, Standardize) or front.rows == "raw":
            return inputs.clone()
        return front.form(inputs.flatten(1)).view(inputs.shape)

    def embed_all(self, ranks: Ranks = ALONE) -> np.ndarray:
        """Return the positions of all rows, (n_rows, n_components) float32."""
        if ranks.is_alone:
            return encode_rows(self.encoder, self.rows)
        return _encode_together(self.encoder, self.rows, ranks)


class FreeEmbedder(nn.Module):
    """Positions are free parameters, as in non-parametric UMAP.

    Parameters
    ----------
    initial : ndarray of shape (n_rows, n_components)
        Initial positions; copied.
    """

    encoder: None = None
    flops = 0.0
    ranks = ALONE
    is_sharable = False  # there is nothing to encode

    def __init__(self, initial: np.ndarray) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.tensor(initial, dtype=torch.float32))

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        return int(self.positions.shape[0])

    def embed(self, indices: Tensor) -> tuple[None, Tensor]:
        """Return None and the positions of these rows."""
        return None, functional.embedding(indices, self.positions)

    def embed_all(self, ranks: Ranks = ALONE) -> np.ndarray:
        """Return the positions of all rows, (n_rows, n_components) float32."""
        return self.positions.detach().cpu().numpy().copy()
