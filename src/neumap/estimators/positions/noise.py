"""How much noise the inputs of a network get: each row in proportion to its distance to neighbours.

A row and its neighbours should differ by more than the noise, or the network cannot tell them
apart; a new row differs from its neighbours by about as much as they do from each other. Both ask
for noise on the scale of that distance, which in dense regions is small.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from neumap._random import torch_seeded
from neumap._workers import in_order
from neumap.data import RowStore, first_rows
from neumap.data.moments import sample_rows
from neumap.estimators.positions.own import read_columns
from neumap.fuzzy import FuzzyGraph
from neumap.networks import Standardize
from neumap.training import InputNoise

__all__ = ["input_noise", "neighbor_distances", "own_noise"]

Read = Callable[[Tensor], Tensor]

EDGES_PER_ROW = 3
PAIRS_AT_ONCE = 2**19  # numbers of one slice of pairs, of which there are several copies
# Noise of a given length moves a row further along the few directions of narrow data than along
# those of wide data. Below this many features it shrinks.
ORDINARY_FEATURES = 16
# Longest distance that counts, in medians: noise of an outlier's size would be all that is learned.
LONGEST = 10.0
# Rows that show whether data hold anything but zeros and ones.
BINARY_ROWS = 256


def input_noise(
    encoder: nn.Module, relative: float, rows: RowStore, graph: FuzzyGraph, seed: int
) -> InputNoise | None:
    """Return noise for an encoder of the package; None if it does not standardise its input.

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
        Of the noise.
    """
    front = getattr(encoder, "standardize", None)
    if not isinstance(front, Standardize) or relative == 0.0:
        return None
    basis: Tensor | None = getattr(encoder, "basis", None)

    def read(flat: Tensor) -> Tensor:
        formed = front.form(flat)
        return formed if basis is None else formed @ basis.t().to(formed.dtype)

    lengths = neighbor_distances(rows, graph, read, float(front.scale))
    width = rows.n_features if basis is None else len(basis)
    return InputNoise(lengths.mul_(_per_feature(relative, width)), seed, basis)


def own_noise(
    encoder: nn.Module, relative: float, rows: RowStore, graph: FuzzyGraph, seed: int
) -> tuple[InputNoise | None, Tensor | None]:
    """Return noise for a network of the user, and the numbers of a row that get it (None for all).

    There is none for rows of zeros and ones. Numbers that the network turns into integers stay as
    they are. The parameters are those of :func:`input_noise`.
    """
    probe = first_rows(rows)
    with torch_seeded(seed, "trial"):
        smooth = read_columns(encoder, probe)
    if relative == 0.0 or smooth is None or _is_binary(rows, seed):
        return None, None
    unit = rows.mean_and_scale(seed=seed).scale
    lengths = neighbor_distances(rows, graph, lambda flat: flat, unit)
    lengths = torch.where(lengths.isfinite(), lengths, 0.0)  # of rows with missing values
    noise = InputNoise(lengths * _per_feature(relative, rows.n_features), seed)
    whole = (probe == probe.round()).flatten(1).all(0)
    noisy = smooth | ~whole
    if bool(noisy.all()) or not bool(smooth.any()):
        return noise, None
    return noise, noisy.view(rows.row_shape)


def _per_feature(relative: float, width: int) -> float:
    share: float = relative / max(width, ORDINARY_FEATURES) ** 0.5
    return share


def _is_binary(rows: RowStore, seed: int) -> bool:
    chosen = torch.from_numpy(sample_rows(rows.n_rows, BINARY_ROWS, seed))
    sample = rows.gather(chosen)
    return bool(((sample == 0.0) | (sample == 1.0)).all())


def neighbor_distances(rows: RowStore, edges: FuzzyGraph, read: Read, unit: float) -> Tensor:
    """Return the mean Euclidean distance of each row to its neighbours, (n_rows,).

    `read` brings flat rows into the form in which they are compared, and `unit` is their scale, in
    which squares stay within float32. Distances are estimated from a few edges of each row. A row
    without any gets the median of the others, and one that is very far from all others ten times
    the median; one with missing values gets 0.
    """
    n_edges = len(edges.weights)
    n_sampled = min(n_edges, EDGES_PER_ROW * rows.n_rows)
    # Edges are sorted by their ends, so equal distances among them are spread over all rows.
    chosen = np.arange(n_sampled) * n_edges // n_sampled
    heads = torch.from_numpy(edges.heads[chosen]).to(rows.device)
    tails = torch.from_numpy(edges.tails[chosen]).to(rows.device)
    size = max(1, PAIRS_AT_ONCE // rows.n_features)
    pairs = zip(torch.split(heads, size), torch.split(tails, size), strict=True)
    ends = ((rows.gather(h).flatten(1), rows.gather(t).flatten(1)) for h, t in pairs)
    # Parts that are kept would lie between the pairs in memory, which could then not be used again.
    lengths = torch.empty(n_sampled, device=rows.device)
    parts = in_order(partial(_lengths, read, unit), ends, rows.device)
    for place, part in zip(torch.split(lengths, size), parts, strict=True):
        place.copy_(part)
    known = lengths.isfinite()
    alone = torch.ones(rows.n_rows, dtype=torch.bool, device=rows.device)
    alone[heads] = alone[tails] = False
    means = _sums(lengths.where(known, 0.0), heads, tails, rows.n_rows)
    if not known.any():
        return means
    count = _sums(known.float(), heads, tails, rows.n_rows)
    is_counted = count > 0
    means.div_(count.clamp_min_(1.0))  # in place: the rows may be many
    del count
    median = means[is_counted].median()
    return means.masked_fill_(alone, median).clamp_max_(LONGEST * median).mul_(unit)


def _sums(values: Tensor, heads: Tensor, tails: Tensor, n_rows: int) -> Tensor:
    """Return the sum of the values of the edges at each row."""
    sums = values.new_zeros(n_rows)
    return sums.index_add_(0, heads, values).index_add_(0, tails, values)


@torch.no_grad()
def _lengths(read: Read, unit: float, ends: tuple[Tensor, Tensor]) -> Tensor:
    heads, tails = ends
    lengths: Tensor = torch.linalg.vector_norm((read(heads) - read(tails)) / unit, dim=1)
    return lengths
