"""Reconstruction as the estimator sees it: the range of the data and the loss that fits."""

from __future__ import annotations

from typing import Any

from neumap._warnings import warn_user
from neumap.data import RowStore
from neumap.keras_bridge import is_keras_loss, loss_function
from neumap.losses.reconstruction import ReconstructionLoss, reconstruction_loss

__all__ = ["choose_loss", "data_range"]


def data_range(rows: RowStore, batch_rows: int = 4096) -> tuple[float, float]:
    """Return the smallest and the largest number in the data."""
    lows, highs = [], []
    for part in rows.slices(batch_rows):
        lows.append(float(part.min()))
        highs.append(float(part.max()))
    return min(lows), max(highs)


def choose_loss(given: Any, rows: RowStore) -> ReconstructionLoss:
    """Return the reconstruction loss for what the user named.

    Cross entropy of data outside [0, 1] has no minimum where it should; a loss that was chosen by
    hand is used, with a warning.
    """
    span = data_range(rows)
    if not is_keras_loss(given):
        return reconstruction_loss(given, span)
    loss = reconstruction_loss(loss_function(given), span)
    if "crossentropy" in type(given).__name__.lower() and (span[0] < 0.0 or span[1] > 1.0):
        warn_user(
            f"{type(given).__name__} needs data in [0, 1], but X spans [{span[0]:.4g}, "
            f"{span[1]:.4g}]. Scale X, or leave the loss at None to have the squared error chosen.",
        )
    return loss
