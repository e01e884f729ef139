"""Relations between the rows of consecutive data sets.

A relation is kept as an array with one entry per row: the number of the related row of the next
data set, -1 where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "as_dict",
    "check_relation",
    "check_relations",
    "inverse",
    "partners_of",
    "related_pairs",
]

NOTHING = -1


def check_relations(relations: Any, sizes: Sequence[int]) -> tuple[NDArray[np.int64], ...]:
    """Return one array per pair of consecutive data sets.

    Parameters
    ----------
    relations : sequence of dict
        From rows of a data set to rows of the next one.
    sizes : sequence of int
        Rows of each data set.

    Raises
    ------
    ValueError
        If there is not one relation per pair, or one of them is not as it should be.
    """
    is_sequence = isinstance(relations, Sequence) and not isinstance(relations, str | bytes)
    if not is_sequence or len(relations) != len(sizes) - 1:
        got = f"{len(relations)} of them" if is_sequence else type(relations).__name__
        raise ValueError(
            f"relations must be a list of {len(sizes) - 1} dicts for {len(sizes)} data sets, got "
            f"{got}. Pass relations=[...], one dict for each data set and the next one."
        )
    return tuple(
        check_relation(relation, sizes[number], sizes[number + 1], f"relations[{number}]")
        for number, relation in enumerate(relations)
    )


def check_relation(relation: Any, n_from: int, n_to: int, name: str) -> NDArray[np.int64]:
    """Return a relation as an array of shape (n_from,).

    Raises
    ------
    ValueError
        If it is no dict of row numbers, or two rows are related to one.
    """
    pairs = _pairs(relation, name)
    for column, n_rows, side in ((0, n_from, "keys"), (1, n_to, "values")):
        outside = pairs[(pairs[:, column] < 0) | (pairs[:, column] >= n_rows), column]
        if len(outside):
            raise ValueError(
                f"{name} must have {side} from 0 to {n_rows - 1}, got {int(outside[0])}. Use the "
                "row numbers of these two data sets, the earlier one as keys in fit and the new "
                "one in update."
            )
        numbers, counts = np.unique(pairs[:, column], return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"{name} must relate each row to one row, got {side[:-1]} "
                f"{int(numbers[counts > 1][0])} several times. Keep one of them."
            )
    found = np.full(n_from, NOTHING, dtype=np.int64)
    found[pairs[:, 0]] = pairs[:, 1]
    return found


def _pairs(relation: Any, name: str) -> NDArray[np.int64]:
    given = list(relation.items()) if isinstance(relation, Mapping) else relation
    try:
        pairs = np.asarray(given)
        if pairs.size == 0:
            return np.empty((0, 2), dtype=np.int64)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"an array of {pairs.dtype} of shape {pairs.shape}")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a dict from row numbers to row numbers, or an array (n_pairs, 2), got "
            f"{type(relation).__name__} ({error}). Use dict(enumerate(...)) or zip the two columns."
        ) from error
    return pairs.astype(np.int64)


def inverse(relation: NDArray[np.int64], n_to: int) -> NDArray[np.int64]:
    """Return the relation from the second data set, of `n_to` rows, to the first."""
    back = np.full(n_to, NOTHING, dtype=np.int64)
    rows = np.flatnonzero(relation != NOTHING)
    back[relation[rows]] = rows
    return back


def as_dict(relation: NDArray[np.int64]) -> dict[int, int]:
    """Return a relation as a dict."""
    rows = np.flatnonzero(relation != NOTHING)
    return dict(zip(rows.tolist(), relation[rows].tolist(), strict=True))


def related_pairs(
    relations: Sequence[NDArray[np.int64]], sizes: Sequence[int], window: int
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Yield every two data sets at most `window` apart, with the pairs of rows related through.

    Yields
    ------
    first, second : int
        Numbers of the data sets, ``first < second``.
    pairs : array of shape (n_pairs, 2), int64
        Row numbers within them.
    """
    for first in range(len(sizes)):
        carried = np.arange(sizes[first])
        for second in range(first + 1, min(first + window, len(sizes) - 1) + 1):
            step = relations[second - 1]
            carried = np.where(carried == NOTHING, NOTHING, step[np.maximum(carried, 0)])
            rows = np.flatnonzero(carried != NOTHING)
            yield first, second, np.stack([rows, carried[rows]], axis=1)


def partners_of(
    relations: Sequence[NDArray[np.int64]], sizes: Sequence[int], window: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the related rows of every row, and how strongly each pulls.

    Parameters
    ----------
    relations : sequence of arrays
        As :func:`check_relations` returns them.
    sizes : sequence of int
        Rows of each data set.
    window : int
        Data sets that a row looks ahead and back, through the relations in between.

    Returns
    -------
    partners : array of shape (n_rows, 2 window), int64
        Row numbers in the data sets put one after the other, -1 where there is none.
    pulls : array of shape (2 window,), float32
        Half as much for each data set farther away.
    """
    before = np.cumsum([0, *sizes])
    table = np.full((before[-1], 2 * window), NOTHING, dtype=np.int64)
    for first, second, pairs in related_pairs(relations, sizes, window):
        ours, theirs = before[first] + pairs[:, 0], before[second] + pairs[:, 1]
        column = second - first - 1
        table[ours, column] = theirs
        table[theirs, window + column] = ours
    pulls = 0.5 ** np.arange(window)
    return table, np.concatenate([pulls, pulls]).astype(np.float32)
