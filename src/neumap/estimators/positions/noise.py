"""How much noise the inputs of a network get: each row in proportion to its distance to neighbours.

A row and its neighbours should differ by more than the noise, or the network cannot tell them
apart; a new row differs from its neighbours by about as much as they do from each other. Both ask
for noise on the scale of that distance, which in dense regions is small.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from neumap._random import numpy_generator
from neumap.data import RowStore
from neumap.fuzzy import FuzzyGraph
from neumap.networks import Standardize
from neumap.training import InputNoise

__all__ = ["input_noise", "neighbor_distances"]

EDGES_PER_ROW = 3
PAIRS_AT_ONCE = 2**24  # numbers of one slice of pairs
# Noise of a given length moves a row further along the few directions of narrow data than along
# those of wide data. Below this many features it shrinks.
ORDINARY_FEATURES = 16


def input_noise(
    encoder: nn.Module, relative: float, rows: RowStore, graph: FuzzyGraph, seed: int
) -> InputNoise | None:
    """Return noise for an encoder that standardises its input, None for other networks.

    A user network may read images, counts or codes, for which noise of one scale makes no sense.

    Parameters
    ----------
    encoder : nn.Module
        The network.
    relative : float
        Length of the noise relative to a row's distance to its neighbours, for rows of at least
        ``ORDINARY_FEATURES`` features.
    rows : RowStore
        The training rows.
    graph : FuzzyGraph
        Their neighbours.
    seed : int
        Of the noise, and of the edges that are measured.
    """
    front = getattr(encoder, "standardize", None)
    if not isinstance(front, Standardize) or relative == 0.0:
        return None
    basis: Tensor | None = getattr(encoder, "basis", None)
    lengths = neighbor_distances(rows, graph, front, basis, seed)
    width = max(rows.n_features if basis is None else len(basis), ORDINARY_FEATURES)
    return InputNoise(lengths * (relative / width**0.5), seed, basis)


def neighbor_distances(
    rows: RowStore, edges: FuzzyGraph, front: Standardize, basis: Tensor | None, seed: int
) -> Tensor:
    """Return the mean Euclidean distance of each row to its neighbours, as the network reads rows.

    It is estimated from a few edges of each row; a row without any gets the median of the others.
    """
    n_sampled = min(len(edges.weights), EDGES_PER_ROW * rows.n_rows)
    generator = numpy_generator(seed, "noise")
    chosen = np.arange(len(edges.weights))
    if n_sampled < len(chosen):
        chosen = np.sort(generator.choice(len(chosen), n_sampled, replace=False))
    heads = torch.from_numpy(edges.heads[chosen]).to(rows.device)
    tails = torch.from_numpy(edges.tails[chosen]).to(rows.device)
    size = max(1, PAIRS_AT_ONCE // rows.n_features)
    lengths = torch.cat(
        [
            _lengths(rows, front, basis, heads[i : i + size], tails[i : i + size])
            for i in range(0, len(heads), size)
        ]
    )
    ends = torch.cat([heads, tails])
    total = torch.zeros(rows.n_rows, device=rows.device).index_add_(0, ends, lengths.repeat(2))
    count = torch.zeros_like(total).index_add_(0, ends, torch.ones_like(ends, dtype=total.dtype))
    means = total / count
    return torch.where(count > 0, means, means[count > 0].median())


def _lengths(
    rows: RowStore, front: Standardize, basis: Tensor | None, heads: Tensor, tails: Tensor
) -> Tensor:
    first = front.form(rows.gather(heads).flatten(1))
    difference = first - front.form(rows.gather(tails).flatten(1))
    if basis is not None:
        difference = difference @ basis.t()
    lengths: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return lengths
