"""How many rows of a batch a decoder is trained on, decided by counted operations.

A decoder of images can cost many times its encoder. Its gradient is a mean over rows, so fewer of
them make it noisier, not wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from neumap.data import RowStore
from neumap.losses.reconstruction import DecodedRows
from neumap.training.flops import counted_flops

__all__ = ["decoded_rows", "mlp_flops", "some_positions"]

logger = logging.getLogger(__name__)

# Operations of all decoded rows of a batch, relative to those of encoding the batch.
AFFORDABLE = 1.5

# Fewer rows make the reconstruction worse: of very few the gradient is noise, and a row that a
# whole training decodes once or twice is not learned. One in 120 is some twelve times in a training
# of 1,500 steps; see "Decoders" in docs/decisions.md.
FEWEST_ROWS = 32
ROWS_PER_DECODED = 120

COUNTED_ROWS = 2

# Positions to try a decoder on, and the half of their extent.
TRIED = 64
EXTENT = 5.0


def decoded_rows(
    wanted: str | int | None,
    rows: RowStore,
    encoding: float | None,
    decoder: nn.Module,
    positions: Tensor,
    hidden: Sequence[int],
) -> DecodedRows:
    """Return how many rows of a batch are decoded.

    Parameters
    ----------
    wanted : "auto", int or None
        As the user set it; None decodes all.
    rows : RowStore
        The training rows.
    encoding : float or None
        Operations of the encoder for one row; None where they cannot be counted.
    decoder : nn.Module
    positions : Tensor of shape (n, n_components)
        A few, to try the decoder on.
    hidden : sequence of int
        Widths of the preset's MLP. A decoder as large as this one always decodes all rows.
    """
    if wanted is None:
        return DecodedRows()
    if wanted != "auto":
        return DecodedRows(0.0, int(wanted))
    decoding = counted_flops(decoder, positions[:COUNTED_ROWS])
    if decoding is None or encoding is None:
        logger.info("all rows are decoded: the operations cannot be counted")
        return DecodedRows()
    affordable = AFFORDABLE * max(encoding, mlp_flops(rows.n_features, hidden, positions.shape[1]))
    if decoding <= affordable:
        return DecodedRows()
    at_least = max(FEWEST_ROWS, rows.n_rows // ROWS_PER_DECODED)
    return DecodedRows(affordable / decoding, at_least)


def some_positions(n_components: int, device: torch.device) -> Tensor:
    """Return positions to try a decoder on, of the extent of an embedding."""
    line = torch.linspace(-EXTENT, EXTENT, TRIED * n_components, device=device)
    return line.reshape(n_components, TRIED).t().contiguous()


def mlp_flops(n_inputs: int, hidden: Sequence[int], n_outputs: int) -> float:
    """Return the operations of the products of an MLP, per row.

    Examples
    --------
    >>> mlp_flops(784, (192,), 2)
    301824.0
    """
    return 2.0 * sum(a * b for a, b in pairwise((n_inputs, *hidden, n_outputs)))
