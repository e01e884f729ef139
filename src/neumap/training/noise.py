"""Gaussian noise on a network's inputs while it trains.

Noise a few per cent of the data's scale keeps a network from remembering single rows: new rows are
placed better, training rows a little less exactly. The numbers are drawn once; each step reads
them from another place, since drawing a batch anew would cost more than encoding it.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from neumap._random import torch_generator

__all__ = ["InputNoise"]

# Numbers drawn beyond the longest batch: that many places to start reading from.
SPARE_NUMBERS = 2**21


class InputNoise:
    """Noise of one standard deviation, added to batches of rows.

    Parameters
    ----------
    scale : float
        Standard deviation, in the units of the rows it is added to.
    seed : int
        Of the numbers and of where each batch starts reading them.
    """

    def __init__(self, scale: float, seed: int) -> None:
        self.scale = scale
        self.seed = seed
        self._starts = random.Random(seed)
        self._pool = torch.empty(0)

    def add_(self, rows: Tensor) -> Tensor:
        """Add noise to rows in place."""
        n_numbers = rows.numel()
        if self._pool.dtype != rows.dtype or len(self._pool) < n_numbers + SPARE_NUMBERS:
            self._pool = self._draw(n_numbers + SPARE_NUMBERS, rows)
        start = self._starts.randrange(len(self._pool) - n_numbers + 1)
        return rows.add_(self._pool[start : start + n_numbers].view(rows.shape))

    def _draw(self, n_numbers: int, like: Tensor) -> Tensor:
        generator = torch_generator(self.seed, "noise", like.device)
        drawn = torch.randn(n_numbers, generator=generator, device=like.device)
        return drawn.mul_(self.scale).to(like.dtype)
