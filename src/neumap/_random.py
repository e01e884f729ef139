"""Randomness as a value: one seed in, independent named streams handed down.

Nothing in the package draws from the global generators of Python, numpy or torch. ``fit``
resolves ``random_state`` once to an integer, and every consumer asks for its own stream, so
that adding a draw in one room never shifts the draws of another.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_random_state

if TYPE_CHECKING:
    import torch

__all__ = ["numpy_generator", "resolve_seed", "torch_generator", "torch_seeded"]

RandomState = int | np.integer | np.random.RandomState | np.random.Generator | None


def resolve_seed(random_state: RandomState) -> int:
    """Turn scikit-learn's ``random_state`` into one integer seed.

    ``None`` takes fresh entropy from the operating system rather than from numpy's global
    generator, which a fit must not advance. A generator object is drawn from once, so two fits
    with the same object differ, as scikit-learn's users expect.

    Raises
    ------
    ValueError
        If `random_state` is none of the accepted kinds, or a negative integer.
    """
    if random_state is None:
        return int(np.random.SeedSequence().entropy) % 2**63  # type: ignore[arg-type]
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63 - 1))
    if isinstance(random_state, int | np.integer):
        if random_state < 0:
            raise ValueError(
                f"random_state must be a non-negative integer, got {random_state}. "
                "Pass 0 or more, a numpy generator, or None for a fresh seed."
            )
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _stream_seed(seed: int, stream: str) -> int:
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(stream.encode()),))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def numpy_generator(seed: int, stream: str) -> np.random.Generator:
    """Return the numpy generator of a named stream."""
    return np.random.default_rng(_stream_seed(seed, stream))


def torch_generator(seed: int, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the torch generator of a named stream, on `device`."""
    import torch

    return torch.Generator(device=device).manual_seed(_stream_seed(seed, stream))


@contextmanager
def torch_seeded(seed: int, stream: str) -> Iterator[None]:
    """Run code that draws from torch's global generator (dropout, layer initialisation) seeded.

    The states of the CPU and CUDA generators are put back afterwards.
    """
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(_stream_seed(seed, stream))
        yield
