"""One training step of several processes: each encodes a share of the rows of the same batch.

All processes draw the same batch. Where the encoder costs little, each of them takes the whole
step, which is faster than to exchange messages. Otherwise each encodes its share of the rows. The
coordinates are gathered, so that every process has those of the whole batch and computes the same
loss. Its backward pass reaches the parameters through the share alone, and the gradients are
summed. The result is the step of one process, up to the order of additions.

Whatever a process computes for the whole batch, such as the output of a decoder, all of them
compute. Its loss is therefore divided by the number of processes before the gradients are summed,
and the gradient of the gathered coordinates is multiplied by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neumap._ranks import ALONE, Ranks

__all__ = ["encode_share", "sharing_ranks", "sum_gradients"]

# Operations that a process has to save for every number of the gradients, which are exchanged.
# The package's own networks save 3,000 in two processes, the conv net of umap-learn's page 19,000.
WORTH_A_MESSAGE = 10_000.0


def sharing_ranks(ranks: Ranks, flops: float | None, n_rows: int, n_numbers: int) -> Ranks:
    """Return the processes that share each step: all of them, or this one alone.

    Parameters
    ----------
    ranks : Ranks
        All processes of the training.
    flops : float or None
        Operations of one row, forward; None where they could not be counted, which are many.
    n_rows : int
        Rows of a batch.
    n_numbers : int
        Numbers that are trained.

    Examples
    --------
    >>> sharing_ranks(Ranks(1, 2), 3e5, 1024, 160_000)
    Ranks(rank=0, size=1)
    >>> sharing_ranks(Ranks(1, 2), 1e7, 1024, 900_000)
    Ranks(rank=1, size=2)
    """
    if ranks.is_alone or flops is None:
        return ranks
    saved = 3.0 * flops * n_rows * (1.0 - 1.0 / ranks.size)  # forward, and twice that backward
    return ranks if saved >= WORTH_A_MESSAGE * n_numbers else ALONE


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
