"""Memory that the allocator keeps goes back to the system between the stages of a fit."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

__all__ = ["give_back"]


@cache
def _trim() -> Any:
    """Return glibc's ``malloc_trim``, None where the allocator is another."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return free pages of the heap to the system; do nothing without glibc.

    What a neighbour search or the start of a training has freed stays with the process, in pieces
    between what is still used, and arrays of the next stage do not fit them: the peak of a fit
    then depends on the order in which threads took and freed memory.

    Examples
    --------
    >>> give_back()
    """
    trim = _trim()
    if trim is not None:
        trim(0)
