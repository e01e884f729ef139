"""The arithmetic of a network, counted: what decides where a measured time would not repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neumap._modes import evaluating
from neumap._random import torch_seeded

__all__ = ["counted_flops", "forward_flops"]


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

    # Without gradients a block of a transformer is one operation that the counter does not know. So
    # is a recurrent layer with cuDNN.
    with (
        FlopCounterMode(display=False, custom_mapping=_formulas()) as counter,
        evaluating(module, to_be_trained=True),
        torch.enable_grad(),
        torch.backends.cudnn.flags(enabled=False),
    ):
        # What torch.compile wraps, since the counter would make it compile once more, and warn.
        getattr(module, "_orig_mod", module)(rows.clone())
    return float(counter.get_total_flops()) / len(rows)


def counted_flops(module: nn.Module, rows: Tensor) -> float | None:
    """Return what :func:`forward_flops` counts, or None for a network that cannot be counted.

    Random numbers that the network draws are not those of a training.
    """
    try:
        with torch_seeded(0, "operations"):
            return forward_flops(module, rows)
    except Exception:  # of any kind: torch's counter meets layers of the user
        return None


def _formulas() -> dict[Any, Any]:
    """Return formulas for what torch's counter leaves out on a processor."""
    known = {
        "mkldnn_rnn_layer": _of_recurrent_layer,
        "_scaled_dot_product_flash_attention_for_cpu": _of_attention,
    }
    operations = {getattr(torch.ops.aten, name, None): known[name] for name in known}
    return {operation: formula for operation, formula in operations.items() if operation}


def _of_recurrent_layer(
    inputs: Sequence[int], of_inputs: Sequence[int], of_states: Sequence[int], *_: Any, **__: Any
) -> int:
    """Return the operations of a layer from the shapes of its inputs and of its two matrices."""
    n_steps, n_rows, _width = inputs
    return 2 * n_steps * n_rows * (math.prod(of_inputs) + math.prod(of_states))


def _of_attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """Return the operations of the two products, from shapes (..., length, width)."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
