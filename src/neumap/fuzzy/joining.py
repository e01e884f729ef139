"""One undirected edge for each pair of rows that are neighbours in either direction."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neumap._device import is_on_card

__all__ = ["join_directions"]


def join_directions(
    indices: Tensor, strengths: Tensor, set_op_mix_ratio: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Heads, tails and weights of the undirected edges, sorted by head, then by tail.

    Parameters
    ----------
    indices : tensor of shape (n, k)
        Neighbours; -1 where there is none.
    strengths : tensor of shape (n, k), float32
    set_op_mix_ratio : float
        Share of the union in the mix with the intersection.
    """
    n = len(indices)
    rows = torch.arange(n, device=indices.device)[:, None]
    is_edge = (indices >= 0) & (indices != rows) & (strengths > 0)
    sources, targets = rows.expand_as(indices)[is_edge], indices[is_edge]
    # The lowest bit of a key tells the direction.
    lower = torch.minimum(sources, targets)
    keys = ((lower * n + torch.maximum(sources, targets)) << 1) | (sources > targets)
    del sources, targets, lower
    keys, given = _sorted_with(keys, strengths[is_edge])
    pairs = keys >> 1
    is_first = torch.ones_like(pairs, dtype=torch.bool)
    torch.ne(pairs[1:], pairs[:-1], out=is_first[1:])
    place = is_first.cumsum(0).sub_(1)
    pairs = pairs[is_first]
    forward, backward = given.new_zeros(len(pairs)), given.new_zeros(len(pairs))
    is_backward = (keys & 1).bool()
    forward.index_add_(0, place, given.masked_fill(is_backward, 0))
    backward.index_add_(0, place, given.masked_fill(~is_backward, 0))
    both = forward * backward
    weights = set_op_mix_ratio * (forward + backward - both) + (1 - set_op_mix_ratio) * both
    kept = weights > 0
    if not kept.all():
        pairs, weights = pairs[kept], weights[kept]
    heads = torch.div(pairs, n, rounding_mode="floor")
    return heads, pairs - heads * n, weights


def _sorted_with(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys in rising order, and the values in the order of their keys."""
    if not is_on_card(keys):  # numpy's sort is vectorised
        order = torch.from_numpy(np.argsort(keys.numpy()))
        return keys[order], values[order]
    result = keys.sort()
    return result.values, values[result.indices]
