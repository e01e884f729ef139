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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neumap._random import torch_generator

__all__ = ["InputNoise", "NoiseStarts", "NumberPool", "random_start"]

# Where a batch starts reading the two pools, in units of ALIGNMENT: two integers, or two int64
# device scalars when the step is replayed from a CUDA graph.
NoiseStarts = tuple[int, int] | tuple[Tensor, Tensor]

# Directions mixed at one step. Over many steps the noise of a row covers all directions equally.
DIRECTIONS = 16

# Numbers drawn in addition to those of one batch. They are the possible starts, in steps that keep
# the numbers read aligned in memory.
EXTRA_NUMBERS = 2**20
ALIGNMENT = 32


class NumberPool:
    """Random numbers drawn once, of which every batch reads a part.

    Parameters
    ----------
    draw : callable
        ``torch.rand`` or ``torch.randn``.
    seed : int
    stream : str
        Name of the random numbers.
    """

    def __init__(self, draw: Callable[..., Tensor], seed: int, stream: str) -> None:
        self._draw = draw
        self._seed = seed
        self._stream = stream
        self._numbers = torch.empty(0)

    def read(self, shape: tuple[int, ...], like: Tensor, start: int | Tensor) -> Tensor:
        """Return numbers of the dtype and device of `like`, beginning at `start`."""
        n_numbers = math.prod(shape)
        pool = self._numbers
        if pool.dtype != like.dtype or len(pool) < n_numbers + EXTRA_NUMBERS:
            generator = torch_generator(self._seed, self._stream, like.device)
            size = n_numbers + EXTRA_NUMBERS
            drawn = self._draw(size, generator=generator, device=like.device)
            pool = self._numbers = drawn.to(like.dtype)
        if isinstance(start, Tensor):
            windows = pool.unfold(0, n_numbers, ALIGNMENT)  # a view, one window per start
            return windows.index_select(0, start).view(shape)
        first = start * ALIGNMENT
        return pool[first : first + n_numbers].view(shape)


def random_start(source: random.Random) -> int:
    """Draw where to begin reading a pool."""
    return source.randrange(EXTRA_NUMBERS // ALIGNMENT)


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
        self._mixture = NumberPool(torch.randn, seed, "noise mixture")
        self._directions = NumberPool(torch.randn, seed, "noise directions")
        self._given: NoiseStarts | None = None

    def draw_starts(self) -> tuple[int, int]:
        """Draw where the next batch starts reading."""
        return random_start(self._random), random_start(self._random)

    def start_at(self, starts: NoiseStarts | None) -> None:
        """Let the next batches start here; None draws a start for each again."""
        self._given = starts

    def state(self) -> object:
        """Return what the next starts depend on, for :meth:`set_state`."""
        return self._random.getstate()

    def set_state(self, state: Any) -> None:
        """Draw the same starts again as after :meth:`state`."""
        self._random.setstate(state)

    def add_(
        self,
        rows: Tensor,
        indices: Tensor,
        starts: NoiseStarts | None = None,
        among: tuple[int, int] | None = None,
    ) -> Tensor:
        """Add noise to contiguous rows (batch, ...) in place, by default from new starts.

        `indices` are the numbers of the rows in the data. With `among`, the rows are a part of a
        batch: its place in the batch, and the length of this.
        """
        flat = rows.view(len(rows), -1)
        first, second = starts or self._given or self.draw_starts()
        place, n_batch = (0, len(flat)) if among is None else among
        mixture = self._mixture.read((n_batch, DIRECTIONS), flat, first)
        mixture = mixture[place : place + len(flat)]
        width = flat.shape[1] if self.basis is None else len(self.basis)
        directions = self._directions.read((DIRECTIONS, width), flat, second)
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
