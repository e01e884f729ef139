"""A trial of the user's loss functions on a few rows, before the neighbour search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap.data import RowStore, first_rows
from neumap.estimators.constraints import short_text
from neumap.estimators.positions.trial import TRIAL_ROWS
from neumap.losses.reconstruction import ReconstructionLoss

__all__ = ["try_landmark_loss", "try_reconstruction_loss"]


def try_reconstruction_loss(loss: ReconstructionLoss, rows: RowStore) -> None:
    """Raise ValueError if the loss of the user cannot be computed or trained.

    Those of the package are known.
    """
    if loss.name == "custom":
        _try("parametric_reconstruction_loss_fcn", loss.function, first_rows(rows))


def try_landmark_loss(
    loss_fn: Callable[[Tensor, Tensor], Any], positions: NDArray[np.float32]
) -> None:
    """Raise ValueError if the loss cannot be computed or trained at the given positions."""
    given = torch.from_numpy(positions[~np.isnan(positions).any(axis=1)])
    if len(given):
        _try("landmark_loss_fn", loss_fn, given[torch.arange(TRIAL_ROWS) % len(given)])


def _try(name: str, loss: Callable[[Tensor, Tensor], Any], truth: Tensor) -> None:
    guess = torch.full_like(truth, 0.5).requires_grad_(True)
    n_rows = len(truth)
    # In a fit under torch.no_grad() gradients are there, too.
    with torch.enable_grad():
        try:
            found = loss(truth, guess.clone())
        except Exception as error:
            raise ValueError(
                f"{name} must be a function (y_true, y_pred) that returns a tensor, got "
                f"{type(error).__name__} for tensors of shape {tuple(truth.shape)}: "
                f"{str(error).rstrip('. ')}. Correct {name}."
            ) from error
    if not isinstance(found, Tensor) or not (
        found.requires_grad or torch.is_inference_mode_enabled()
    ):
        what = short_text(found) if not isinstance(found, Tensor) else "one without a gradient"
        raise ValueError(
            f"{name} must return a tensor computed from y_pred, got {what}. Leave out detach(), "
            "item() and conversions to numpy."
        )
    if found.is_complex() or (found.numel() != 1 and (found.ndim == 0 or len(found) != n_rows)):
        raise ValueError(
            f"{name} must return a number, or real numbers for each of {n_rows} rows, got shape "
            f"{tuple(found.shape)} of {found.dtype}. Average over the other axes."
        )
    if not bool(found.isfinite().all()):
        largest = float(truth.abs().max())
        raise ValueError(
            f"{name} must give finite numbers, got NaN or infinity for y_true with numbers up to "
            f"{largest:.4g} and a y_pred of 0.5. Scale X, or look for divisions by zero, "
            f"logarithms and overflow in {name}."
        )
