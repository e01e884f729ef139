"""Neighbours of rows that did not ask, found in the lists of those that did.

The rows of one list are near the same row, and therefore each other: those that share a list with a
row are candidates for its neighbours. This is one round of nearest-neighbour descent (Dong, Moses
and Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", 2011),
which begins at true lists instead of random ones. Products of the rows of each list choose, and the
distances of those chosen are computed from differences. Lists do not depend on each other, so that
the answer is the same with any number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._workers import workers
from neumap.neighbors.graph import Found
from neumap.neighbors.mapped import MappedRows, on_device
from neumap.neighbors.partition import sorted_keys

__all__ = ["nearest_in_lists"]

BLOCK_NUMBERS = 1 << 20  # of rows that are read at once
PART_ROWS = 1 << 17  # whose candidates are sorted at once
OF_ROW = 0xFFFFFFFF  # bits of a key that are the number of a row; the others are its score


@torch.no_grad()
def nearest_in_lists(
    rows: NDArray[np.float32] | MappedRows,
    lists: NDArray[np.int64],
    n_near: int,
    *,
    n_jobs: int = -1,
    device: str = "cpu",
) -> tuple[NDArray[np.int64], Found]:
    """Nearest of the rows that share a list with each row that is not the first of a list.

    Parameters
    ----------
    rows : array of shape (n, n_features), float32
        Compared by Euclidean distance.
    lists : array of shape (n_lists, k), int64
        Numbers of rows, different ones in a list. The first ones of all lists are those that asked.
    n_near : int
        How many to find; fewer where lists are shorter.
    n_jobs : int, default=-1
        Threads; they do not change the answer.
    device : str, default="cpu"
        Where products are computed.

    Returns
    -------
    numbers : array of shape (n_found,), int64
        Of the rows in the lists that did not ask, rising.
    indices, distances : arrays of shape (n_found, n_near + 1), int64 and float32
        The row itself and its nearest, by rising distance.

    Examples
    --------
    >>> line = np.array([[0.0], [1.0], [3.0], [7.0]], dtype=np.float32)
    >>> numbers, (indices, distances) = nearest_in_lists(line, np.array([[0, 1, 2], [3, 2, 1]]), 1)
    >>> indices.tolist(), distances.tolist()
    ([[1, 0], [2, 1]], [[0.0, 1.0], [0.0, 2.0]])
    """
    here = on_device(rows, device)
    members = torch.from_numpy(lists).to(here.device)
    n_lists, k = lists.shape
    n_near = min(n_near, k - 1)
    keys = torch.empty(n_lists, k, n_near, dtype=torch.int64, device=here.device)
    n_features = here.shape[1]
    with workers(n_jobs, device) as run:

        def compare(start: int) -> None:
            part = slice(start, start + list_step)
            keys[part] = _nearest_of_each(here, members[part], n_near)

        list_step = max(1, BLOCK_NUMBERS // (k * n_features))
        run(compare, range(0, n_lists, list_step))
        sources, targets = _best_of_all(lists, keys.cpu().numpy(), len(rows), n_near)
        exact = torch.empty(targets.shape, dtype=torch.int64, device=here.device)
        asking, asked = (torch.from_numpy(part).to(here.device) for part in (sources, targets))

        def measure(start: int) -> None:
            part = slice(start, start + pair_step)
            exact[part] = _exact_keys(here, asking[part], asked[part])

        pair_step = max(1, BLOCK_NUMBERS // (n_near * n_features))
        run(measure, range(0, len(sources), pair_step))
    found = exact.cpu().numpy()
    distances = np.sqrt((found >> 32).astype(np.int32).view(np.float32))
    return sources, (
        np.concatenate([sources[:, None], found & OF_ROW], axis=1),
        np.concatenate([np.zeros((len(sources), 1), dtype=np.float32), distances], axis=1),
    )


def _nearest_of_each(rows: Tensor | MappedRows, members: Tensor, n_near: int) -> Tensor:
    """Keys of the rows nearest to each member of each list among its others, (n, k, n_near)."""
    around = rows[members.flatten()].view(*members.shape, -1)
    # Rows less their mean are about as long as the distances between them, so that the product
    # keeps the digits of these.
    around = around - around.mean(dim=1, keepdim=True)
    norms = around.square().sum(2)
    squared = torch.bmm(around, around.mT).mul_(-2).add_(norms[:, :, None]).add_(norms[:, None])
    squared.clamp_min_(0).diagonal(dim1=1, dim2=2).fill_(torch.inf)
    n, k = members.shape
    others = members[:, None].expand(n, k, k).reshape(n * k, k)
    return sorted_keys(squared.view(torch.int32).view(n * k, k), others, n_near).view(n, k, n_near)


def _best_of_all(
    lists: NDArray[np.int64], keys: NDArray[np.int64], n_rows: int, n_near: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join what the lists say about each row: numbers (n_found,), and nearest (n_found, n_near)."""
    is_new = ~np.isin(lists, lists[:, 0])
    numbers = np.unique(lists[is_new])
    nearest = np.empty((len(numbers), n_near), dtype=np.int64)
    for start in range(0, len(numbers), PART_ROWS):
        part = numbers[start : start + PART_ROWS]
        chosen = is_new & (lists >= part[0]) & (lists <= part[-1])
        nearest[start : start + PART_ROWS] = _best(lists[chosen], keys[chosen], n_rows)
    return numbers, nearest


def _best(rows: NDArray[np.int64], keys: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
    """Nearest of each different row, (n_different, n_near), of those that its lists have named.

    The same pair of rows has scores in several lists, which differ by rounding.
    """
    pairs = (rows[:, None] * n_rows + (keys & OF_ROW)).ravel()
    pairs, first = np.unique(pairs, return_index=True)
    scores = (keys >> 32).astype(np.int32).ravel()[first]
    sources, targets = np.divmod(pairs, n_rows)
    order = np.argsort(scores, kind="stable")
    order = order[np.argsort(sources[order], kind="stable")]
    starts = np.unique(sources, return_index=True)[1]
    # Each list has named at least this many for each of its rows.
    nearest: NDArray[np.int64] = targets[order][starts[:, None] + np.arange(keys.shape[1])]
    return nearest


def _exact_keys(rows: Tensor | MappedRows, asking: Tensor, asked: Tensor) -> Tensor:
    """Keys of pairs of rows by their differences, (n, n_near), rising along each row."""
    near = rows[asked.flatten()].view(*asked.shape, -1)
    near = near - rows[asking][:, None]
    squared = torch.linalg.vector_norm(near, dim=2).square_()
    return sorted_keys(squared.view(torch.int32), asked, asked.shape[1])
