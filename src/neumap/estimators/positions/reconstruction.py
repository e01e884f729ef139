"""Reconstruction as the estimator sees it: the range of the data and the loss that fits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neumap._modes import evaluating
from neumap._random import torch_seeded
from neumap._warnings import warn_user
from neumap.data import RowStore
from neumap.data.moments import sample_rows
from neumap.estimators.positions.trial import TRIAL_ROWS
from neumap.keras_bridge import is_keras_loss, loss_function
from neumap.losses.reconstruction import ReconstructionLoss, reconstruction_loss

__all__ = ["choose_loss", "data_range", "suited_to", "warn_of_held_out", "warn_of_units"]

# Losses in the units of the data.
OF_DIFFERENCES = ("mse", "mae", "huber")
# A decoder starts at numbers around 0 and of size 1. Rows farther from 0, in standard deviations of
# a number, or larger than this it does not reach; see "Units of a decoder" in docs/decisions.md.
FARTHEST, LARGEST = 20.0, 1e6
SAMPLED_ROWS = 1000

# Half of the extents in which a decoder is asked for what it gives: that of a map, and far outside,
# where numbers without a bound leave [0, 1].
EXTENTS = (1.0, 100.0, 10_000.0)


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


def suited_to(
    loss: ReconstructionLoss, decoder: nn.Module, n_components: int, device: torch.device
) -> ReconstructionLoss:
    """Return a loss for what a decoder of the user ends in: a linear layer, or a sigmoid.

    Cross entropy is computed from logits. Of a decoder that ends in a sigmoid already, a second one
    would make numbers between 0.5 and 0.73.

    Parameters
    ----------
    loss : ReconstructionLoss
        As the user named it.
    decoder : nn.Module
    n_components : int
        Size of its inputs.
    device : torch.device
        Of the decoder.
    """
    if not loss.takes_logits or not _gives_fractions(decoder, n_components, device):
        return loss
    if loss.name != "custom":
        return loss.of_fractions()
    warn_user(
        "decoder should return logits for a parametric_reconstruction_loss_fcn that takes them, "
        "got numbers from 0 to 1 for every position, as behind a sigmoid. Leave out its last "
        "activation, or leave parametric_reconstruction_loss_fcn at None."
    )
    return loss


def _gives_fractions(decoder: nn.Module, n_components: int, device: torch.device) -> bool:
    """Whether a decoder gives numbers in [0, 1], however far away the positions are."""
    line = torch.linspace(-1.0, 1.0, 2 * TRIAL_ROWS * n_components, device=device)
    near = line.reshape(2 * TRIAL_ROWS, n_components)
    with torch.no_grad(), torch_seeded(0, "fractions"), evaluating(decoder, to_be_trained=True):
        found = torch.cat([decoder(near * extent).float().flatten() for extent in EXTENTS])
    return bool(((found >= 0.0) & (found <= 1.0)).all())


def warn_of_held_out(loss: ReconstructionLoss, held_out: RowStore) -> None:
    """Warn if held-out rows lie where cross entropy, chosen for the training rows, says nothing."""
    low, high = data_range(held_out)
    if loss.name == "bce" and (low < 0.0 or high > 1.0):
        warn_user(
            "reconstruction_validation should lie within [0, 1] as X does, since its cross entropy "
            f"has no smallest value elsewhere, got numbers from {low:.4g} to {high:.4g}. Scale it "
            "as X, or pass parametric_reconstruction_loss_fcn='mse'."
        )


def warn_of_units(loss: ReconstructionLoss, rows: RowStore, seed: int) -> None:
    """Warn if the rows lie so far from 0, or are so large, that a built-in decoder learns little.

    Parameters
    ----------
    loss : ReconstructionLoss
        Those in units of the data can be far from their minimum at the start.
    rows : RowStore
        The training rows, of which a sample is read.
    seed : int
        Of the sample.
    """
    if loss.name not in OF_DIFFERENCES:
        return
    chosen = sample_rows(rows.n_rows, SAMPLED_ROWS, seed, 8 * rows.n_features)
    sample = rows.gather(torch.from_numpy(chosen)).flatten(1).double()
    sample = sample[sample.isfinite().all(1)]
    if len(sample) < 2:
        return
    mean = sample.mean(0)
    spread = float((sample - mean).square().mean().sqrt())
    offset = float(mean.square().mean().sqrt())
    if spread > 0.0 and (offset > FARTHEST * spread or spread > LARGEST):
        warn_user(
            "X should have numbers around 0 and of ordinary size for a decoder of neumap, got "
            f"means of about {offset:.3g} and standard deviations of about {spread:.3g}: the "
            "decoded rows will be far from those of X. Standardise X, for example with "
            "sklearn.preprocessing.StandardScaler, before fit and before transform."
        )
