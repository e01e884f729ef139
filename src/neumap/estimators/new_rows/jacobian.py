"""How the position of a row moves with each of its features: the Jacobian of an encoder.

In: an encoder and rows. Out: derivatives, a batch of rows at a time, by automatic differentiation
of any network. The encoder places each row on its own, so the gradient of the sum of one component
over a batch holds that of every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neumap._modes import evaluating, own_torch_state
from neumap.data import RowStore
from neumap.estimators.constraints import short_text

__all__ = ["Summary", "explain_rows", "jacobian_norms"]

Summary = Literal["rows", "features"]

JACOBIAN_ROWS = 1024
# Numbers of a batch of Jacobians that is held at once, 64 MB.
BATCH_NUMBERS = 2**24


@own_torch_state()
def explain_rows(
    encoder: nn.Module, rows: RowStore, n_components: int, summary: Summary | None
) -> NDArray[np.float32]:
    """Return the Jacobian of the encoder at every row, or a summary of it.

    Parameters
    ----------
    encoder : nn.Module
        Maps each row to a position on its own.
    rows : RowStore
        Where the derivatives are wanted.
    n_components : int
        Outputs of the encoder.
    summary : {"rows", "features"} or None
        Norms over the components, and also their mean over the rows.

    Returns
    -------
    array of shape (n_rows, n_components, n_features), (n_rows, n_features) or (n_features,),
    float32

    Raises
    ------
    ValueError
        If there is no such summary, or the encoder has no derivative.
    """
    if summary is not None and summary not in get_args(Summary):
        raise ValueError(
            f"summary must be None or one of {list(get_args(Summary))}, got {short_text(summary)}. "
            "Change summary."
        )
    batch_rows = max(1, min(JACOBIAN_ROWS, BATCH_NUMBERS // (n_components * rows.n_features)))
    batches = _batches(encoder, rows, batch_rows)
    if summary is None:
        return np.concatenate([batch.cpu().numpy() for batch in batches])
    norms = (torch.linalg.vector_norm(batch, dim=1) for batch in batches)
    if summary == "rows":
        return np.concatenate([batch.cpu().numpy() for batch in norms])
    total = sum(batch.sum(0, dtype=torch.float64).cpu().numpy() for batch in norms)
    return np.asarray(total / rows.n_rows, dtype=np.float32)


def _batches(encoder: nn.Module, rows: RowStore, batch_rows: int) -> Iterator[Tensor]:
    """Yield Jacobians, (batch, n_components, n_features) float32."""
    for part in rows.slices(batch_rows):
        slopes = _slopes(encoder, part)
        known = [slope for slope in slopes if slope is not None]
        if len(known) < len(slopes):
            raise ValueError(
                "encoder must be differentiable in its input for explain, got one that rounds, "
                "detaches or ignores it. Fit with encoder='mlp', or another network that computes "
                "with the numbers of a row."
            )
        yield torch.stack(known, dim=1)


def _slopes(encoder: nn.Module, part: Tensor) -> list[Tensor | None]:
    """Return the gradient of each component, (batch, n_features); None where there is none."""
    slopes: list[Tensor | None] = []
    with (
        evaluating(encoder),
        # CUDA's recurrent layers go backward in training mode only.
        torch.backends.cudnn.flags(enabled=False),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        inputs = part.clone().requires_grad_(True)
        # A copy: an encoder may write on its input, which a leaf of the graph does not allow.
        for component in encoder(inputs.clone()).unbind(1):  # (batch,)
            slope = None
            if component.requires_grad:
                (slope,) = torch.autograd.grad(
                    component.sum(), inputs, retain_graph=True, allow_unused=True
                )
            slopes.append(None if slope is None else slope.flatten(1))
    return slopes


def jacobian_norms(encoder: nn.Module, rows: RowStore) -> NDArray[np.float64]:
    """Return the Frobenius norm of the encoder's Jacobian at every row, (n_rows,) float64.

    It is NaN where the encoder rounds or detaches its input and there is no derivative.

    Parameters
    ----------
    encoder : nn.Module
        Maps each row to a position on its own.
    rows : RowStore
        Where the norm is wanted.
    """
    parts = [_norms(encoder, part) for part in rows.slices(JACOBIAN_ROWS)]
    return np.concatenate(parts).astype(np.float64)


def _norms(encoder: nn.Module, part: Tensor) -> NDArray[np.float32]:
    squared = torch.zeros(len(part), device=part.device)
    for slope in _slopes(encoder, part):
        squared += torch.nan if slope is None else slope.square().sum(1)
    return squared.sqrt().cpu().numpy()
