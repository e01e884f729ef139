"""What a step must offer to be replayed from CUDA graphs.

A recorded step repeats its operations with the Python numbers it had then. Whatever differs from
step to step therefore passes through :class:`StepInputs`, as Python numbers or, when it is
recorded, as scalars in device memory.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from neumap.training.noise import NoiseStarts

__all__ = ["Recordable", "StepInputs"]


class StepInputs(NamedTuple):
    """What a step depends on in addition to its batch and the weights.

    The values are Python numbers, or device scalars when the step is replayed from a CUDA graph.

    Attributes
    ----------
    softening : float or Tensor
        The eps of the kernel.
    auxiliary_scale : float, Tensor or None
        Scale of the auxiliary coordinates; None if there are none.
    noise_starts : NoiseStarts or None
        Where the noise is read; None without noise.
    between_start : int, Tensor or None
        Where the places between the ends of edges are read; None unless a guide leads.
    """

    softening: float | Tensor
    auxiliary_scale: float | Tensor | None
    noise_starts: NoiseStarts | None
    between_start: int | Tensor | None = None

    @property
    def branch(self) -> tuple[bool, ...]:
        """Which way the Python code of a step takes."""
        return self.auxiliary_scale is None, self.between_start is None


class Recordable(Protocol):
    """A step of which single parts can be called."""

    @property
    def device(self) -> torch.device:
        """Device on which the step is computed."""
        ...

    @property
    def n_threads(self) -> int: ...

    @property
    def sources(self) -> Sequence[Any]: ...

    @property
    def is_known(self) -> bool:
        """Whether it is made of the package's own parts only, so that a recording must work."""
        ...

    def is_resident_on(self, kind: str) -> bool:
        """Whether rows and weights are on a device of this type, so a step needs no host work."""
        ...

    def parameters(self) -> list[nn.Parameter]: ...

    def changing(self) -> list[Tensor]:
        """Return what a step changes besides the parameters, such as running means."""
        ...

    def python_state(self) -> Hashable:
        """Return the numbers that the modules keep in Python, where a recording misses them."""
        ...

    def inputs(self, progress: float) -> StepInputs:
        """Return the other inputs of the next step; draws where random numbers are read."""
        ...

    def compute(self, indices: Tensor, given: StepInputs) -> dict[str, Tensor]:
        """Do the arithmetic of a step, without waiting for the device or drawing a number."""
        ...
