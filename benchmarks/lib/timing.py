"""Timing of alternating calls, so that a change in the machine's speed affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def in_turn(
    calls: Mapping[str, Callable[[], Any]], n_repeats: int, n_calls: Mapping[str, int] | int = 1
) -> dict[str, list[float]]:
    """Return the seconds per call, one entry per repeat, after one warm-up repeat.

    Parameters
    ----------
    calls : mapping of str to callable
        Functions to time.
    n_repeats : int
        Rounds; each calls every function.
    n_calls : int or mapping of str to int
        Calls timed together in one round.
    """
    counts = dict.fromkeys(calls, n_calls) if isinstance(n_calls, int) else n_calls
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(-1, n_repeats):
        for name, call in calls.items():
            spent = seconds_of(call, counts[name]) / counts[name]
            if repeat >= 0:
                seconds[name].append(spent)
    return seconds


def seconds_of(call: Callable[[], Any], n_calls: int) -> float:
    """Return the total seconds of `n_calls` calls."""
    began = time.perf_counter()
    for _ in range(n_calls):
        call()
    return time.perf_counter() - began


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return the median, the smallest and the largest value."""
    known = list(values)
    return {
        "median": statistics.median(known),
        "smallest": min(known),
        "largest": max(known),
    }


def ratio(above: Iterable[float], below: Iterable[float]) -> dict[str, float]:
    """Return the spread of the ratios between values of the same repeat."""
    return spread(a / b for a, b in zip(above, below, strict=True))
