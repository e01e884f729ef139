"""Exact searches of several processes, each of which answers for a share of the queries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from neumap._ranks import Ranks, telling
from neumap.neighbors.graph import Found

__all__ = ["answer_shares"]


def answer_shares(
    answer: Callable[[slice], Found], n_queries: int, n_neighbors: int, tile: int, ranks: Ranks
) -> Found:
    """Return the answers to all queries.

    Parameters
    ----------
    answer : callable
        Returns those to a range of the queries.
    n_queries, n_neighbors : int
        Shape of the answers.
    tile : int
        Queries that are compared at once. A share is whole tiles: products of other shapes may
        round otherwise, and all processes together should find what one finds.
    ranks : Ranks
        The processes.

    Examples
    --------
    >>> from neumap._ranks import ALONE
    >>> answer_shares(lambda part: (np.zeros((2, 1)), np.ones((2, 1))), 2, 1, 8, ALONE)[1].tolist()
    [[1.0], [1.0]]
    """
    if ranks.is_alone:
        return answer(slice(0, n_queries))
    tiles = ranks.share(-(-n_queries // tile))
    own = slice(tiles.start * tile, min(tiles.stop * tile, n_queries))
    indices = np.zeros((n_queries, n_neighbors), dtype=np.int64)
    distances = np.zeros((n_queries, n_neighbors), dtype=np.float32)
    with telling(ranks):
        if own.start < own.stop:
            indices[own], distances[own] = answer(own)
    for part in (indices, distances):
        ranks.add_(torch.from_numpy(part))
    return indices, distances
