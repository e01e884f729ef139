"""Confidence in new positions: how novel a row is, compared with the training rows.

A network maps any input to some position, even one unlike all training data. Three measures reveal
this: the distance to the nearest training rows, the spread of their positions around that of
the row, and the norm of the network's Jacobian, which tells how far a small change of the row moves
it. Each is compared with the same measure at training rows, which gives a conformal p-value: the
share of training rows that are at least as novel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neumap._device import resolve_device
from neumap._modes import evaluating, own_torch_state
from neumap._random import numpy_generator
from neumap._warnings import warn_user
from neumap.data import RowStore, Validated, row_count, take
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.training_rows import Neighbors
from neumap.estimators.recipe import Recipe

__all__ = ["Confidence", "Novelty", "confidence_of", "jacobian_norms"]

JACOBIAN_ROWS = 1024


def _renamed(name: str, old: str) -> property:
    """Return an attribute under its name of neumap 0.1, which warns."""

    def read(self: Any) -> Any:
        warn_user(f"{old} is now called {name}. Use {name}.", FutureWarning)
        return getattr(self, name)

    return property(read, doc=f"The former name of `{name}`.")


@dataclass(frozen=True)
class Novelty:
    """Three numbers per row.

    As measures, larger is more novel; as p-values, smaller is.

    Attributes
    ----------
    distance : ndarray of shape (n_samples,)
        Mean distance to the nearest training rows, in the units of the data.
    neighbor_spread : ndarray of shape (n_samples,)
        Root mean square distance in the embedding to the positions of those training rows.
    jacobian_norm : ndarray of shape (n_samples,)
        Frobenius norm of the derivative of the position with respect to the row, in units of the
        embedding per unit of the data. NaN for an encoder that has no derivative.
    """

    distance: NDArray[np.float64]
    neighbor_spread: NDArray[np.float64]
    jacobian_norm: NDArray[np.float64]

    disagreement = _renamed("neighbor_spread", "disagreement")
    steepness = _renamed("jacobian_norm", "steepness")


@dataclass(frozen=True)
class Confidence:
    """What :meth:`neumap.ParametricUMAP.confidence` returns.

    Attributes
    ----------
    score : ndarray of shape (n_samples,)
        Between 0 (unlike all training rows) and 1: the mean of the p-values of distance and
        neighbour spread. Do not rely on positions with a score below 0.05.
    measures : Novelty
        The measurements.
    p_values : Novelty
        For each measure, ``(1 + number of training rows that are at least as novel) / (1 + number
        of training rows)``.
    """

    score: NDArray[np.float64]
    measures: Novelty
    p_values: Novelty

    signs = _renamed("measures", "signs")
    shares = _renamed("p_values", "shares")


@own_torch_state()
def confidence_of(
    new: Validated, fitted: Fitted, recipe: Recipe, *, n_calibration: int
) -> Confidence:
    """Return the confidence in the positions of checked rows.

    Raises
    ------
    ValueError
        If the model was saved without its training rows.
    """
    training = fitted.training_rows("confidence")
    settings, device = recipe.graph, resolve_device(recipe.device)
    generator = numpy_generator(recipe.transform_seed, "calibration")
    sample = np.sort(generator.permutation(row_count(training.rows))[:n_calibration])
    known = replace(new, X=take(training.rows, sample))
    of_known = training.nearest_to_sample(known.X, settings, device)
    of_new = training.nearest(new.X, settings, device)
    # A training row is its own nearest neighbour, which is left out of the comparison.
    return _compare(_measure(new, of_new, fitted, 0), _measure(known, of_known, fitted, 1))


def _measure(data: Validated, nearest: Neighbors, fitted: Fitted, skip: int) -> Novelty:
    """Measure rows against their nearest training rows, without the first `skip` of these."""
    assert fitted.encoder is not None
    indices, distances = nearest
    near = slice(skip, indices.shape[1] - 1 + skip)
    neighbors = fitted.positions[indices[:, near]]  # (n, k, n_components)
    squared = np.square(neighbors - fitted.embed(data)[:, None]).sum(2).mean(1)
    return Novelty(
        distances[:, near].mean(1, dtype=np.float64),
        np.sqrt(squared, dtype=np.float64),
        jacobian_norms(fitted.encoder, fitted.network_rows(data)),
    )


def _compare(found: Novelty, usual: Novelty) -> Confidence:
    p_values = Novelty(
        _p_values(found.distance, usual.distance),
        _p_values(found.neighbor_spread, usual.neighbor_spread),
        _p_values(found.jacobian_norm, usual.jacobian_norm),
    )
    return Confidence((p_values.distance + p_values.neighbor_spread) / 2.0, found, p_values)


def _p_values(values: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the conformal p-value of each value among the usual ones; never 0."""
    below = np.searchsorted(np.sort(usual), values, side="left")
    return np.asarray((len(usual) - below + 1) / (len(usual) + 1), dtype=np.float64)


def jacobian_norms(encoder: nn.Module, rows: RowStore) -> NDArray[np.float64]:
    """Return the Frobenius norm of the encoder's Jacobian at every row, (n_rows,) float64.

    Parameters
    ----------
    encoder : nn.Module
        Maps each row to a position on its own.
    rows : RowStore
        Where the norm is wanted.
    """
    parts = [_norms(encoder, part) for part in rows.slices(JACOBIAN_ROWS)]
    return np.concatenate(parts).astype(np.float64)


def _norms(encoder: nn.Module, part: torch.Tensor) -> NDArray[np.float32]:
    with evaluating(encoder), torch.inference_mode(False), torch.enable_grad():
        inputs = part.clone().requires_grad_(True)
        # A copy: an encoder may write on its input, which a leaf of the graph does not allow.
        outputs = encoder(inputs.clone())  # (batch, n_components)
        squared = torch.zeros(len(inputs), device=inputs.device)
        for component in outputs.unbind(1):
            slope = _slope(component.sum(), inputs)
            squared += slope.flatten(1).square().sum(1)
    return squared.sqrt().cpu().numpy()


def _slope(total: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the gradient; NaN where the encoder rounds or detaches its input and there is none."""
    slope = None
    if total.requires_grad:
        (slope,) = torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True)
    return torch.full_like(inputs, torch.nan) if slope is None else slope
