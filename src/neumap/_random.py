"""Random numbers: one seed and independent named streams.

Nothing in the package draws from the global generators of Python, numpy or torch. ``fit``
resolves ``random_state`` once to an integer, and every user of random numbers has its own stream.
An additional draw in one module therefore does not change the numbers of another.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

if TYPE_CHECKING:
    import torch

__all__ = [
    "layers_seeded",
    "numpy_generator",
    "resolve_seed",
    "torch_generator",
    "torch_seeded",
]

RandomState = int | np.integer | np.random.RandomState | np.random.Generator | None


def resolve_seed(random_state: RandomState) -> int:
    """Turn scikit-learn's ``random_state`` into one integer seed.

    ``None`` takes entropy from the operating system, not from numpy's global generator, which a fit
    must not change. From a generator object one number is drawn, so two fits with the same object
    differ, as in scikit-learn.

    Raises
    ------
    ValueError
        If `random_state` is of another type, or a negative integer.
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


# Code that draws from torch's global generators runs in one thread at a time, so that fits in
# several threads do not take each other's numbers.
_GLOBAL_GENERATORS = threading.RLock()


@contextmanager
def torch_seeded(seed: int, stream: str) -> Iterator[None]:
    """Seed torch's global generators for code of the user that draws from them, such as dropout.

    Their states are restored afterwards. Meanwhile other fits that need them wait. Other code that
    draws from torch's global generators in another thread at the same time disturbs both; the
    package's own layers use :func:`layers_seeded` and are not affected.
    """
    import torch

    with _GLOBAL_GENERATORS, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(_stream_seed(seed, stream))
        yield


@contextmanager
def layers_seeded(seed: int, stream: str) -> Iterator[None]:
    """Initialise layers of ``torch.nn`` on the CPU from a named stream."""
    from torch import Tensor
    from torch.nn import init
    from torch.overrides import TorchFunctionMode

    # What the constructors of layers draw with; the initialisers call the methods of Tensor.
    drawing = {init.kaiming_uniform_, init.uniform_, init.normal_, Tensor.uniform_, Tensor.normal_}
    generator = torch_generator(seed, stream)

    class WithGenerator(TorchFunctionMode):
        """Passes the stream's generator; a mode holds for the calling thread only."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            given = kwargs or {}
            if func in drawing and given.get("generator") is None:
                given = {**given, "generator": generator}
            return func(*args, **given)

    with WithGenerator():
        yield
