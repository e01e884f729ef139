"""One training step of several processes: each encodes a share of the rows of the same batch.

All processes draw the same batch, and each encodes its share of the rows. The coordinates are
gathered, so that every process has those of the whole batch and computes the same loss. Its
backward pass reaches the parameters through the share alone, and the gradients are summed. The
result is the step of one process, up to the order of additions.

Whatever a process computes for the whole batch, such as the output of a decoder, all of them
compute. Its loss is therefore divided by the number of processes before the gradients are summed,
and the gradient of the gathered coordinates is multiplied by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neumap._ranks import Ranks

__all__ = ["encode_share", "sum_gradients"]


def encode_share(ranks: Ranks, encode: Callable[[Tensor], Tensor], own: Tensor, n: int) -> Tensor:
    """Return the codes of all `n` rows of a batch, of which `own` are those of this process."""
    codes = encode(own)
    if ranks.is_alone:
        return codes
    gathered: Tensor = _Gather.apply(codes, ranks, n)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """Gather rows; the gradient is that of the own ones, times the number of processes."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks, n_rows: int) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(own.contiguous(), n_rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ranks: Ranks = ctx.ranks
        return gradient[ranks.share(len(gradient))] * ranks.size, None, None


def sum_gradients(ranks: Ranks, parameters: Sequence[nn.Parameter]) -> None:
    """Sum the gradients over all processes; a parameter without one anywhere has none."""
    if ranks.is_alone:
        return
    there = torch.tensor([float(p.grad is not None) for p in parameters])
    there = there.to(parameters[0].device, torch.float32)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    with torch.no_grad():
        ranks.sum_([*gradients, there])
    for parameter, gradient, count in zip(parameters, gradients, there.tolist(), strict=True):
        parameter.grad = gradient if count else None
