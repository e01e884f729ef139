"""Gaussian noise on a network's inputs while it trains.

Noise a few per cent of the data's scale keeps a network from remembering single rows: new rows are
placed better, training rows a little less exactly. Drawing a number per input would cost more
than encoding the batch, and adding stored ones as much as a layer. So each row's noise is a random
mixture of a few random directions, new ones at every step: one thin matrix product.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from neumap._random import torch_generator

__all__ = ["InputNoise", "Places"]

# Where a batch starts reading the two pools, in units of ALIGNMENT: numbers, or whole numbers
# held on the device, which a recorded step reads anew each time.
Places = tuple[int, int] | tuple[Tensor, Tensor]

# Directions mixed at one step. Over steps the noise of a row reaches every direction alike.
DIRECTIONS = 16

# Numbers drawn beyond those of one batch: that many places to start reading from, in steps that
# keep what is read aligned.
SPARE_NUMBERS = 2**20
ALIGNMENT = 32


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
        self._pools = {"mixture": torch.empty(0), "directions": torch.empty(0)}

    def draw_places(self) -> tuple[int, int]:
        """Return where the next batch starts reading."""
        n_places = SPARE_NUMBERS // ALIGNMENT
        return self._starts.randrange(n_places), self._starts.randrange(n_places)

    def add_(self, rows: Tensor, places: Places | None = None) -> Tensor:
        """Add noise to contiguous rows (batch, ...) in place, read from new places by default."""
        flat = rows.view(len(rows), -1)
        first, second = self.draw_places() if places is None else places
        mixture = self._read("mixture", (len(flat), DIRECTIONS), flat, first)
        directions = self._read("directions", (DIRECTIONS, flat.shape[1]), flat, second)
        flat.addmm_(mixture, directions, alpha=self.scale / math.sqrt(DIRECTIONS))
        return rows

    def _read(self, name: str, shape: tuple[int, int], like: Tensor, place: int | Tensor) -> Tensor:
        """Return the normal numbers that stand at a place of a pool."""
        n_numbers = shape[0] * shape[1]
        pool = self._pools[name]
        if pool.dtype != like.dtype or len(pool) < n_numbers + SPARE_NUMBERS:
            generator = torch_generator(self.seed, f"noise {name}", like.device)
            drawn = torch.randn(n_numbers + SPARE_NUMBERS, generator=generator, device=like.device)
            pool = self._pools[name] = drawn.to(like.dtype)
        if isinstance(place, Tensor):
            windows = pool.unfold(0, n_numbers, ALIGNMENT)  # a view, one window per place
            return windows.index_select(0, place).view(shape)
        start = place * ALIGNMENT
        return pool[start : start + n_numbers].view(shape)
