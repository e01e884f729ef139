"""What gives positions: an encoder applied to rows, or a free table.

Row numbers in, coordinates out. Losses, sampling and the loop do not know which of the two they
train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neumap._device import fast_dtype
from neumap.data import RowStore
from neumap.networks import MLP, ConvDecoder, ConvEncoder, Standardize
from neumap.training.noise import InputNoise
from neumap.training.spare import SpareDimensions

__all__ = [
    "Embedder",
    "EncoderEmbedder",
    "TableEmbedder",
    "encode_rows",
    "evaluating",
    "rows_to_write_on",
]

# Rows encoded at once outside training: a multiple of every GEMM tile, small enough that the
# activations of a 1,000-wide layer stay in a few MB. Of wide rows fewer: those of a sparse matrix
# are made dense slice by slice, and the front of a network makes copies of them.
ENCODE_ROWS = 4096
ENCODE_BYTES = 2**26
SMALLEST_SLICE = 64

# These read their rows only. A user's network may begin with an operation in place.
READERS = (MLP, ConvEncoder, ConvDecoder)


class Embedder(Protocol):
    """A module from row numbers to coordinates."""

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        ...

    @property
    def encoder(self) -> nn.Module | None:
        """The network, or None for a free table."""
        ...

    def locate(self, indices: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return network inputs (None for a table) and coordinates of these rows."""
        ...

    def embed(self) -> np.ndarray:
        """Return the positions of all rows, (n_rows, n_components) float32."""
        ...


@contextmanager
def evaluating(module: nn.Module, *, to_be_trained: bool = False) -> Iterator[None]:
    """Switch a module to evaluation without gradients, and put every part's mode back after.

    With `to_be_trained`, what lazy layers build meanwhile can be trained afterwards; tensors made
    in torch's inference mode cannot.
    """
    modes = [(part, part.training) for part in module.modules()]
    # Compiled by TorchScript for training, a module keeps tensors for backward whatever the mode.
    is_scripted = any(isinstance(part, torch.jit.ScriptModule) for part, _ in modes)
    module.eval()
    try:
        with torch.no_grad() if to_be_trained or is_scripted else torch.inference_mode():
            yield
    finally:
        for part, was_training in modes:
            part.training = was_training


def rows_to_write_on(module: nn.Module, rows: Tensor) -> Tensor:
    """Return rows that a network may change: a copy, unless it is known not to change any.

    Rows of a store may be views of the caller's array, which is not always writable, and the rows
    of a batch are needed after the network has read them.
    """
    return rows if type(module) in READERS else rows.clone()


def encode_rows(module: nn.Module, rows: RowStore, batch_rows: int | None = None) -> np.ndarray:
    """Apply a module to all rows in order, in batches, without gradients.

    Returns
    -------
    ndarray of shape (n_rows, ...), float32
        Outputs, on the CPU.
    """
    size = _slice_rows(rows) if batch_rows is None else batch_rows
    # One array to write into: a list of outputs would leave holes between them in which the
    # layers' memory is never given back.
    outputs: np.ndarray | None = None
    start = 0
    with evaluating(module):
        for part in rows.slices(size):
            placed = module(rows_to_write_on(module, part)).float().cpu().numpy()
            check_row_count(len(placed), len(part))
            if outputs is None:
                outputs = np.empty((rows.n_rows, *placed.shape[1:]), dtype=np.float32)
            outputs[start : start + len(placed)] = placed
            start += len(placed)
    assert outputs is not None, "a row store has at least one row"
    return outputs


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


class EncoderEmbedder(nn.Module):
    """Positions are the encoder's output at the rows of a store.

    Parameters
    ----------
    encoder : nn.Module
        Maps (batch, *row_shape) float32 to (batch, n_components).
    rows : RowStore
        The training rows.
    noise : InputNoise, optional
        Added to the inputs of the encoder by :meth:`locate`, in units of the rows in the form in
        which the encoder reads them.
    spare : SpareDimensions, optional
        More dimensions, for :meth:`locate_wide`. Only for encoders of the package, which give
        away the features that they place.
    """

    def __init__(
        self,
        encoder: nn.Module,
        rows: RowStore,
        noise: InputNoise | None = None,
        spare: SpareDimensions | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = rows
        self.noise = noise
        self.spare = spare
        # The package's MLP keeps its last layer in float32; other networks decide themselves. Not
        # convolutions: torch 2.13 returns garbage for some bfloat16 weight gradients on CPUs.
        self.mixed = isinstance(encoder, MLP) and fast_dtype(rows.device) == torch.bfloat16

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        return self.rows.n_rows

    def locate(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Gather and encode rows.

        Where a batch is at least as long as the data set, each row is encoded once and the
        coordinates are gathered instead.
        """
        inputs = self.rows.gather(indices)
        return inputs, self._each_once(self._place, inputs, indices)

    def _place(self, seen: Tensor) -> Tensor:
        placed: Tensor = self.encoder(rows_to_write_on(self.encoder, seen))
        check_row_count(len(placed), len(seen))
        return placed.float()

    def spare_share(self, progress: float) -> float | None:
        """Return the factor on the spare coordinates; None where there are none, or none left."""
        return None if self.spare is None else self.spare.share(progress) or None

    def locate_wide(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gather and encode rows; return inputs, coordinates and spare coordinates."""
        assert self.spare is not None
        inputs = self.rows.gather(indices)
        wide = self._each_once(self._place_wide, inputs, indices)
        coordinates, spare = wide.tensor_split([-self.spare.n_spare], dim=1)
        return inputs, coordinates, spare

    def _place_wide(self, seen: Tensor) -> Tensor:
        assert isinstance(self.encoder, MLP | ConvEncoder)
        assert self.spare is not None
        features = self.encoder.features(seen)
        with torch.autocast(features.device.type, enabled=False):
            spare = self.spare(features)
        return torch.cat([self.encoder.place(features), spare], dim=1)

    def _each_once(
        self, place: Callable[[Tensor], Tensor], inputs: Tensor, indices: Tensor
    ) -> Tensor:
        if len(indices) < self.n_rows:
            return self._encode(place, inputs)
        everything = torch.arange(self.n_rows, device=indices.device)
        return self._encode(place, self.rows.gather(everything)).index_select(0, indices)

    def _encode(self, place: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        seen = inputs if self.noise is None else self.noise.add_(self._as_read(inputs))
        with torch.autocast(seen.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            return place(seen)

    def _as_read(self, inputs: Tensor) -> Tensor:
        """Return a copy of the rows in the encoder's form; reading this again changes nothing."""
        front = getattr(self.encoder, "standardize", None)
        if not isinstance(front, Standardize) or front.rows == "raw":
            return inputs.clone()
        return front.form(inputs.flatten(1)).view(inputs.shape)

    def embed(self) -> np.ndarray:
        """Return the positions of all rows, (n_rows, n_components) float32."""
        return encode_rows(self.encoder, self.rows)


class TableEmbedder(nn.Module):
    """Positions are free parameters: plain UMAP.

    Parameters
    ----------
    initial : ndarray of shape (n_rows, n_components)
        Positions to start from; copied.
    """

    encoder: None = None

    def __init__(self, initial: np.ndarray) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.tensor(initial, dtype=torch.float32))

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        return int(self.positions.shape[0])

    def locate(self, indices: Tensor) -> tuple[None, Tensor]:
        """Look positions up."""
        return None, functional.embedding(indices, self.positions)

    def embed(self) -> np.ndarray:
        """Return the positions of all rows, (n_rows, n_components) float32."""
        return self.positions.detach().cpu().numpy().copy()
