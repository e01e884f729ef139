"""Distances between discrete labels: classes of a hierarchy, ranks, counts and strings.

Each function reads all labels once and returns a distance between two arrays of labels, scaled so
that labels without anything in common have a distance of about 1. The rules are umap-learn's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._labels import UNLABELLED

__all__ = ["DISCRETE_METRICS", "Distance"]

Distance = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def _hierarchical_distance(
    values: NDArray[Any], cat_hierarchy: Sequence[Mapping[Hashable, Any]]
) -> Distance:
    """Share of the levels, from the finest one up, on which two labels differ.

    Each level of `cat_hierarchy` maps every label to its group. Labels in one group on the first
    level are at distance 0, those in one group on the second of three levels at 1/3, those that
    share no group at 1. NaN where a label is -1 and the hierarchy has no such label.
    """
    labels = np.unique(values)
    levels = [_groups(labels, level) for level in cat_hierarchy]
    groups = np.array(levels).reshape(len(levels), len(labels))  # NaN is no group

    def distance(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
        one, other = (groups[:, np.searchsorted(labels, side)] for side in (ours, theirs))
        alike = np.vstack([one == other, np.ones(one.shape[1], dtype=bool)])  # the root holds all
        parted = alike.argmax(axis=0) / len(levels)
        return np.where(np.isnan(one + other).any(axis=0), np.nan, parted)

    return distance


def _groups(labels: NDArray[Any], level: Mapping[Hashable, Any]) -> list[float]:
    """Number the groups of one level, NaN for an unknown label."""
    names = labels.tolist()
    missing = [name for name in names if name not in level and name != UNLABELLED]
    if missing:
        raise ValueError(
            "Each level of cat_hierarchy must map every label to its group, got one without "
            f"{missing[0]!r}. Add it, or mark rows without a label with -1."
        )
    numbers = {group: i for i, group in enumerate(dict.fromkeys(level.values()))}
    return [numbers[level[name]] if name in level else np.nan for name in names]


def _ordinal_distance(values: NDArray[Any]) -> Distance:
    """Difference of ranks over half of their range."""
    half_range = float(values.max() - values.min()) / 2 or 1.0
    return lambda ours, theirs: np.abs(ours - theirs) / half_range


def _count_distance(values: NDArray[Any]) -> Distance:
    """Log-probability of a Poisson variable summed from the smaller to the larger count.

    The mean count is the rate; half of the distance across all counts is the unit.
    """
    if values.min() < 0:
        raise ValueError(
            f"y must not be negative where target_metric='count', got {values.min()}. Use "
            "target_metric='ordinal'."
        )
    lowest, highest = int(values.min()), int(values.max())
    counts = np.arange(lowest, highest)
    log_rate = np.log(values.mean())

    def span(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
        # The factorial starts at that of the smaller count, so each start has its own table.
        result = np.zeros(len(low))
        for start in np.unique(low):
            first = max(int(start), 0)
            steps = counts[counts >= first]
            log_factorial = (
                _log_factorial(first)
                + np.concatenate([[0.0], np.cumsum(np.log(np.maximum(steps[:-1], 1)))])[
                    : len(steps)
                ]
            )
            sums = np.concatenate(
                [[0.0], np.cumsum(steps * log_rate - values.mean() - log_factorial)]
            )
            of_start = low == start
            result[of_start] = sums[high[of_start] - first]
        return result

    unit = float(span(np.array([lowest]), np.array([highest]))[0]) / 2 or 1.0

    def distance(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
        low, high = np.minimum(ours, theirs), np.maximum(ours, theirs)
        return span(low.astype(np.int64), high.astype(np.int64)) / unit

    return distance


def _log_factorial(count: int) -> float:
    """Logarithm of ``count!``, by Stirling's formula from 10 on and in a shorter sum below."""
    if count < 2:
        return 0.0
    if count < 10:
        return float(np.log(np.arange(2, count)).sum())
    n = count + 1
    return float(n * np.log(n) - n + 0.5 * np.log(2 * np.pi / n) + 1 / (12 * n))


def _string_distance(values: NDArray[Any]) -> Distance:
    """Edit distance over a third of the longest string's length, which is also the most."""
    most = max(len(text) for text in values) / 3 or 1.0

    def distance(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
        ours, theirs = ours.astype(str), theirs.astype(str)
        pairs, inverse = np.unique(np.stack([ours, theirs]), axis=1, return_inverse=True)
        edits = np.array([_edit_distance(a, b, most) for a, b in pairs.T])
        return np.asarray(edits[inverse.reshape(-1)] / most)

    return distance


def _edit_distance(a: str, b: str, most: float) -> float:
    """Fewest insertions, deletions and substitutions from a to b; ends early beyond ``most``."""
    if abs(len(a) - len(b)) > most:
        return most
    previous = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        current = [i]
        for j, other in enumerate(b, start=1):
            replaced = previous[j - 1] + (letter != other)
            current.append(min(previous[j] + 1, current[j - 1] + 1, replaced))
        if min(current) > most:
            return most
        previous = current
    return float(previous[-1])


DISCRETE_METRICS: dict[str, Callable[..., Distance]] = {
    "hierarchical_categorical": _hierarchical_distance,
    "ordinal": _ordinal_distance,
    "count": _count_distance,
    "string": _string_distance,
    "myers": _string_distance,  # umap-learn's name for another way to compute the same
}
