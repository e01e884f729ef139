"""One undirected edge for each pair of rows that are neighbours in either direction."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neumap._device import is_on_card

__all__ = ["join_directions"]

BLOCK_ROWS = 1 << 16


def join_directions(
    sources: Tensor, indices: Tensor, strengths: Tensor, set_op_mix_ratio: float, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Heads, tails and weights of the undirected edges, sorted by head, then by tail.

    Parameters
    ----------
    sources : tensor of shape (n_asking,)
        Numbers of the rows whose neighbours these are.
    indices : tensor of shape (n_asking, k)
        Neighbours; -1 where there is none.
    strengths : tensor of shape (n_asking, k), float32
    set_op_mix_ratio : float
        Share of the union in the mix with the intersection.
    n : int
        Number of all rows.
    """
    # Large intermediate results end early: this is where a fit takes the most memory.
    keys, given = _sorted_with(*_directed_edges(sources, indices, strengths, n))
    is_backward = (keys & 1).bool()
    pairs = keys.bitwise_right_shift_(1)
    is_first = torch.ones_like(is_backward)
    torch.ne(pairs[1:], pairs[:-1], out=is_first[1:])
    place = is_first.cumsum(0, dtype=torch.int32).sub_(1)
    pairs = pairs[is_first]
    del keys, is_first
    forward, backward = given.new_zeros(len(pairs)), given.new_zeros(len(pairs))
    forward.index_add_(0, place, given.masked_fill(is_backward, 0))
    backward.index_add_(0, place, given.masked_fill_(~is_backward, 0))
    del place, given
    both = forward * backward
    either = forward.add_(backward).sub_(both)
    weights = either.mul_(set_op_mix_ratio).add_(both, alpha=1 - set_op_mix_ratio)
    kept = weights > 0
    if not kept.all():
        pairs, weights = pairs[kept], weights[kept]
    heads = torch.div(pairs, n, rounding_mode="floor")
    return heads, pairs.sub_(heads, alpha=n), weights


def _directed_edges(
    asking: Tensor, indices: Tensor, strengths: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """Key and strength of every neighbour of another row.

    The lowest bit of a key tells the direction, the others the pair of rows.
    """
    n_asking, k = indices.shape
    keys = torch.empty(n_asking * k, dtype=torch.int64, device=indices.device)
    given = strengths.new_empty(n_asking * k)
    end = 0
    for start in range(0, n_asking, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        sources, targets, forces = asking[block, None], indices[block], strengths[block]
        is_edge = (targets >= 0) & (targets != sources) & (forces > 0)
        sources, targets = sources.expand_as(targets)[is_edge], targets[is_edge]
        pairs = torch.minimum(sources, targets) * n + torch.maximum(sources, targets)
        part = slice(end, end + len(pairs))
        keys[part] = pairs.bitwise_left_shift_(1).bitwise_or_(sources > targets)
        given[part] = forces[is_edge]
        end = part.stop
    return keys[:end], given[:end]


def _sorted_with(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys in rising order, in the same memory on a host, and the values in their order."""
    if is_on_card(keys):
        result = keys.sort()
        return result.values, values[result.indices]
    array = keys.numpy()  # its sort is vectorised
    values = values[torch.from_numpy(np.argsort(array))]
    array.sort()
    return keys, values
