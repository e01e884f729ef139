"""A trial of a network on a few rows, before the neighbour search.

A network that does not fit is refused at once and by its name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neumap._modes import evaluating
from neumap.training.embedders import rows_to_write_on

__all__ = ["TRIAL_ROWS", "try_network"]

TRIAL_ROWS = 8


def try_network(
    module: nn.Module, probe: Tensor, row_shape: tuple[int, ...], role: str, *, learns: bool = True
) -> None:
    """Apply a network to a few rows, which also builds lazy layers, and check what it returns.

    Parameters
    ----------
    module : nn.Module
        On the device of the rows.
    probe : Tensor of shape (n, ...)
        Rows or positions; may be changed by the network.
    row_shape : tuple of int
        Shape of one output.
    role : {"encoder", "decoder"}
        Its name in messages.
    learns : bool, default=True
        Whether it will be trained, so that gradients have to reach its parameters.

    Raises
    ------
    ValueError
        If it cannot take the rows, or its outputs are not one dense real tensor with one finite
        output per row, on which gradients can be computed.
    """
    is_finite = bool(probe.isfinite().all())
    output = _apply(module, probe, role)
    _check_tensor(output, probe, role)
    _check_shape(tuple(output.shape), (len(probe), *row_shape), role)
    if learns and any(p.requires_grad for p in module.parameters()):
        _check_gradient(output, role)
    if is_finite and not bool(output.isfinite().all()):
        inputs = "finite rows of X" if role == "encoder" else "finite positions"
        raise ValueError(
            f"{role} must give finite numbers, got NaN or infinity for {inputs}. Scale X, or look "
            "for divisions by zero, logarithms and overflow in its forward."
        )


def _apply(module: nn.Module, probe: Tensor, role: str) -> Tensor:
    try:
        # With gradients, to see whether there are any. They do not come from inference mode.
        with evaluating(module, to_be_trained=True), torch.enable_grad():
            output: Tensor = module(rows_to_write_on(module, probe))
    except Exception as error:
        what = "rows" if role == "encoder" else "positions"
        raise ValueError(
            f"{role} must take float32 {what} of shape {tuple(probe.shape[1:])}, got "
            f"{type(error).__name__}: {str(error).rstrip('. ')}. {_remedy(module, role)}"
        ) from error
    return output


def _remedy(module: nn.Module, role: str) -> str:
    others = [p.dtype for p in module.parameters() if p.dtype != torch.float32]
    if others:
        return f"Its parameters are {others[0]}: call {role}.float(), or convert in its forward."
    if role == "decoder":
        return "Change its first layer."
    if any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.modules()):
        return "Turn codes into integers in its forward, with rows.long()."
    return "Pass dims=... if it expects rows of another shape, such as images."


def _check_tensor(output: Tensor, probe: Tensor, role: str) -> None:
    if not isinstance(output, Tensor):
        raise ValueError(
            f"{role} must return one tensor, got {type(output).__name__}. Wrap it in a module that "
            f"returns the {'coordinates' if role == 'encoder' else 'rows'} only."
        )
    if output.device != probe.device:
        raise ValueError(
            f"{role} must return a tensor on the device of its input, {probe.device}, got one on "
            f"{output.device}. Leave out .to(...) and .cuda() in its forward."
        )
    if output.layout != torch.strided or not output.dtype.is_floating_point:
        raise ValueError(
            f"{role} must return a dense tensor of real floating-point numbers, got "
            f"{output.dtype} with layout {output.layout}. Convert it at the end of its forward."
        )


def _check_shape(found: tuple[int, ...], expected: tuple[int, ...], role: str) -> None:
    if found == expected:
        return
    if len(found) == len(expected) and found[1:] == expected[1:]:
        raise ValueError(
            f"{role} must give one output for each row, got {found[0]} for {expected[0]} rows. Do "
            "not add, drop or join rows in its forward."
        )
    n_numbers = expected[-1]
    wanted = f"n_components={n_numbers} numbers per row" if role == "encoder" else "one row of X"
    remedy = ", or dims." if role == "decoder" else "."
    if role == "encoder" and len(found) == 2:
        remedy = f", or set n_components={found[1]}."
    raise ValueError(
        f"{role} must give {wanted}{' per position' if role == 'decoder' else ''}, in shape "
        f"{('n', *expected[1:])}, got {('n', *found[1:])}. Change its last layer{remedy}"
    )


def _check_gradient(output: Tensor, role: str) -> None:
    if output.requires_grad or torch.is_inference_mode_enabled():
        return
    raise ValueError(
        f"{role} must return outputs through which gradients reach its parameters, got outputs "
        "without a gradient. Leave out detach(), torch.no_grad() and conversions to numpy or to "
        "integers in its forward."
    )
