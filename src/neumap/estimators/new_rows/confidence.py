"""Confidence in new positions: how novel a row is, compared with the training rows.

A network maps any input to some position, even one unlike all training data. Two measures reveal
this and make the score: the distance to the nearest training rows relative to their own distances,
and the spread of these rows' features around those of the row in the middle layer of the network.
Three more are reported. Each measure is compared with the same measure at training rows, which
gives a conformal p-value: the share of training rows that are at least as novel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neumap._device import resolve_device
from neumap._modes import own_torch_state
from neumap._random import numpy_generator
from neumap._warnings import warn_user
from neumap.data import Validated, row_count, take
from neumap.estimators.fitted import Fitted
from neumap.estimators.graph import GraphSettings
from neumap.estimators.new_rows.hidden import hidden_directions
from neumap.estimators.new_rows.jacobian import jacobian_norms
from neumap.estimators.new_rows.training_rows import Neighbors, TrainingRows
from neumap.estimators.recipe import Recipe
from neumap.losses.output_metrics import OutputMetric

__all__ = ["Confidence", "Novelty", "confidence_of"]

# Neighbours of the score's measures: fewer than for the graph, since they are to be close.
N_NEAREST = 5
# Rows whose features are compared at once: hidden layers of images may have 50,000 values per row.
FEATURE_ROWS = 64


def _renamed(name: str, old: str) -> property:
    """Return an attribute under its name of neumap 0.1, which warns."""

    def read(self: Any) -> Any:
        warn_user(f"{old} is now called {name}. Use {name}.", FutureWarning)
        return getattr(self, name)

    return property(read, doc=f"The former name of `{name}`.")


@dataclass(frozen=True)
class Novelty:
    """Five numbers per row.

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
    relative_distance : ndarray of shape (n_samples,)
        Mean distance to the 5 nearest training rows, divided by the mean distance of these to
        their own 5 nearest. Near 1 for rows like the training rows, in dense and sparse regions.
    feature_spread : ndarray of shape (n_samples,)
        Root mean square distance to the features of the same 5 training rows in the middle hidden
        layer of the network, scaled to length 1; 0 to 2. For a network without hidden layers that
        PyTorch can see, such as a Keras model, the distance in the embedding.
    """

    distance: NDArray[np.float64]
    neighbor_spread: NDArray[np.float64]
    jacobian_norm: NDArray[np.float64]
    relative_distance: NDArray[np.float64]
    feature_spread: NDArray[np.float64]

    disagreement = _renamed("neighbor_spread", "disagreement")
    steepness = _renamed("jacobian_norm", "steepness")


@dataclass(frozen=True)
class Confidence:
    """What :meth:`neumap.ParametricUMAP.confidence` returns.

    Attributes
    ----------
    score : ndarray of shape (n_samples,)
        Between 0 (unlike all training rows) and 1: the conformal p-value of the product of the
        p-values of relative distance and feature spread. About 5 % of new rows like the training
        rows have a score below 0.05; do not rely on such positions.
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
    reference = _Reference(fitted, training, settings, device, recipe.objective.metric)
    # A training row is its own nearest neighbour, which is left out of the comparison.
    return _compare(reference.measure(new, of_new, 0), reference.measure(known, of_known, 1))


@dataclass(frozen=True)
class _Reference:
    """What rows are measured against."""

    fitted: Fitted
    training: TrainingRows
    settings: GraphSettings
    device: torch.device
    metric: OutputMetric | None = None

    def measure(self, data: Validated, nearest: Neighbors, skip: int) -> Novelty:
        """Measure rows against their nearest training rows, without the first `skip` of these."""
        encoder = self.fitted.encoder
        assert encoder is not None
        near = slice(skip, nearest[0].shape[1] - 1 + skip)
        indices, distances = nearest[0][:, near], nearest[1][:, near]
        neighbors = self.fitted.positions[indices]  # (n, k, n_components)
        squared = self._squared_distances(neighbors, self.fitted.embed(data)[:, None]).mean(1)
        few = indices[:, :N_NEAREST]
        return Novelty(
            distances.mean(1, dtype=np.float64),
            np.sqrt(squared, dtype=np.float64),
            jacobian_norms(encoder, self.fitted.network_rows(data)),
            self._relative_distance(few, distances[:, :N_NEAREST]),
            self._feature_spread(data, few),
        )

    def _squared_distances(
        self, x: NDArray[np.float32], y: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return squared distances in the embedding."""
        if self.metric is None:
            return np.asarray(np.square(x - y).sum(2))
        return np.square(self.metric.between(x, y))

    def _relative_distance(
        self, indices: NDArray[np.int64], distances: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        found = distances.mean(1, dtype=np.float64)
        own = self.training.own_distances(indices, N_NEAREST, self.settings, self.device)
        usual = own.mean(1)
        # Training rows that repeat five times are at distance 0 of each other.
        ratio = np.where(found > 0.0, np.inf, 0.0)
        np.divide(found, usual, out=ratio, where=usual > 0.0)
        return ratio

    def _feature_spread(self, data: Validated, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        starts = range(0, len(indices), FEATURE_ROWS)
        parts = [slice(start, start + FEATURE_ROWS) for start in starts]
        squared = [self._squared_spread(take(data.X, part), indices[part], data) for part in parts]
        return np.sqrt(np.concatenate(squared), dtype=np.float64)

    def _squared_spread(
        self, rows: Any, indices: NDArray[np.int64], like: Validated
    ) -> NDArray[np.float32]:
        """Return the mean squared distance of rows' features to those of training rows."""
        numbers, where = np.unique(indices, return_inverse=True)
        own = self._features(replace(like, X=rows))  # (n, n_values)
        theirs = self._features(replace(like, X=take(self.training.rows, numbers)))
        differences = theirs[where.reshape(indices.shape)] - own[:, None]  # (n, k, n_values)
        return np.asarray(np.square(differences).sum(2).mean(1))

    def _features(self, data: Validated) -> NDArray[np.float32]:
        assert self.fitted.encoder is not None
        return hidden_directions(self.fitted.encoder, self.fitted.network_rows(data))


def _compare(found: Novelty, usual: Novelty) -> Confidence:
    p_values = _p_values_of(found, usual)
    # Fisher's combination, calibrated by the same of the training rows since the two depend on
    # each other. The mean of p-values would let one ordinary measure hide an extraordinary one.
    score = _p_values(_surprise(p_values), _surprise(_p_values_of(usual, usual)))
    return Confidence(score, found, p_values)


def _surprise(p_values: Novelty) -> NDArray[np.float64]:
    return -np.log(p_values.relative_distance) - np.log(p_values.feature_spread)


def _p_values_of(found: Novelty, usual: Novelty) -> Novelty:
    measures = (field.name for field in fields(Novelty))
    return Novelty(*(_p_values(getattr(found, name), getattr(usual, name)) for name in measures))


def _p_values(values: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the conformal p-value of each value among the usual ones; never 0."""
    below = np.searchsorted(np.sort(usual), values, side="left")
    return np.asarray((len(usual) - below + 1) / (len(usual) + 1), dtype=np.float64)
