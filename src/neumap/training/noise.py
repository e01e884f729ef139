"""Gaussian noise on a network's inputs during training.

Noise of a few per cent of the data's scale keeps a network from memorising single rows: new rows
get better positions, training rows slightly less exact ones. Drawing one number per input would
cost more than encoding the batch, and adding stored numbers as much as a layer. Instead, the noise
of each row is a random mixture of a few random directions, which change at every step. This is one
thin matrix product.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from neumap._random import torch_generator

__all__ = ["InputNoise", "NoiseStarts"]

# Where a batch starts reading the two pools, in units of ALIGNMENT: two integers, or two int64
# device scalars when the step is replayed from a CUDA graph.
NoiseStarts = tuple[int, int] | tuple[Tensor, Tensor]

# Directions mixed at one step. Over many steps the noise of a row covers all directions equally.
DIRECTIONS = 16

# Numbers drawn in addition to those of one batch. They are the possible starts, in steps that keep
# the numbers read aligned in memory.
EXTRA_NUMBERS = 2**20
ALIGNMENT = 32


class InputNoise:
    """Noise of a given standard deviation, added to batches of rows.

    Parameters
    ----------
    scale : float or Tensor of shape (n_rows,)
        Standard deviation, in the units of the rows it is added to: one for all rows, or one for
        each row of the data.
    seed : int
        Seed of the numbers and of the starts.
    basis : Tensor of shape (n_directions, n_inputs), optional
        Orthonormal directions to which the noise is confined; by default all.
    """

    def __init__(self, scale: float | Tensor, seed: int, basis: Tensor | None = None) -> None:
        self.scale = scale
        self.basis = basis
        self.seed = seed
        self._random = random.Random(seed)
        self._pools = {"mixture": torch.empty(0), "directions": torch.empty(0)}

    def draw_starts(self) -> tuple[int, int]:
        """Draw where the next batch starts reading."""
        n_starts = EXTRA_NUMBERS // ALIGNMENT
        return self._random.randrange(n_starts), self._random.randrange(n_starts)

    def add_(self, rows: Tensor, indices: Tensor, starts: NoiseStarts | None = None) -> Tensor:
        """Add noise to contiguous rows (batch, ...) in place, by default from new starts.

        `indices` are the numbers of the rows in the data.
        """
        flat = rows.view(len(rows), -1)
        first, second = self.draw_starts() if starts is None else starts
        mixture = self._read("mixture", (len(flat), DIRECTIONS), flat, first)
        width = flat.shape[1] if self.basis is None else len(self.basis)
        directions = self._read("directions", (DIRECTIONS, width), flat, second)
        if self.basis is not None:
            directions = directions @ self.basis.to(directions.dtype)
        if isinstance(self.scale, Tensor):
            of_rows = self.scale.index_select(0, indices).to(flat.dtype)
            flat.addmm_(mixture * of_rows[:, None], directions, alpha=1.0 / math.sqrt(DIRECTIONS))
        else:
            flat.addmm_(mixture, directions, alpha=self.scale / math.sqrt(DIRECTIONS))
        return rows

    def divided_by(self, unit: float) -> InputNoise:
        """Return the same noise for rows that were divided by `unit` and expressed in the basis."""
        return InputNoise(self.scale / unit, self.seed)

    def _read(self, name: str, shape: tuple[int, int], like: Tensor, start: int | Tensor) -> Tensor:
        """Return normal numbers from a pool, beginning at `start`."""
        n_numbers = shape[0] * shape[1]
        pool = self._pools[name]
        if pool.dtype != like.dtype or len(pool) < n_numbers + EXTRA_NUMBERS:
            generator = torch_generator(self.seed, f"noise {name}", like.device)
            drawn = torch.randn(n_numbers + EXTRA_NUMBERS, generator=generator, device=like.device)
            pool = self._pools[name] = drawn.to(like.dtype)
        if isinstance(start, Tensor):
            windows = pool.unfold(0, n_numbers, ALIGNMENT)  # a view, one window per start
            return windows.index_select(0, start).view(shape)
        first = start * ALIGNMENT
        return pool[first : first + n_numbers].view(shape)
