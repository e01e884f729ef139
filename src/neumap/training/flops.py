"""The arithmetic of a network, counted: what decides where a measured time would not repeat."""

from __future__ import annotations

from torch import Tensor, nn

from neumap._modes import evaluating

__all__ = ["forward_flops"]


def forward_flops(module: nn.Module, rows: Tensor) -> float:
    """Return the floating-point operations of a forward pass, per row.

    Products of matrices and convolutions are counted, the operations that torch's counter knows.

    Parameters
    ----------
    module : nn.Module
        On the device of the rows; in evaluation mode during the call.
    rows : Tensor of shape (n, ...)
        A few inputs; the network gets a copy.

    Examples
    --------
    >>> forward_flops(nn.Linear(10, 3), torch.zeros(4, 10))
    60.0
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports sympy on some versions

    with FlopCounterMode(display=False) as counter, evaluating(module, to_be_trained=True):
        module(rows.clone())
    return float(counter.get_total_flops()) / len(rows)
