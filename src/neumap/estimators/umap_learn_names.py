"""Attributes of a fitted model under umap-learn's private names.

``umap.plot`` and similar programs read attributes that are neither parameters nor documented. Here
they are computed when asked for, so a model stores nothing for them. An attribute that a model
cannot give does not exist for ``hasattr``.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neumap._device import resolve_device
from neumap.estimators.fitted import Fitted, left_out
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.estimators.recipe import Recipe
from neumap.neighbors import NeighborGraph, NeighborIndex
from neumap.training.loop import History

__all__ = ["UmapLearnNames"]

SMALL_ROWS = 4096  # up to here umap-learn compares all pairs of rows, and so do its plots


class _Model(Protocol):
    """An estimator, as far as the names need it."""

    def _model(self) -> Fitted: ...
    def _recipe(self) -> Recipe: ...


class UmapLearnNames:
    """Mixin with umap-learn's private names."""

    @property
    def _history(self: _Model) -> History:
        """The losses themselves, one per report."""
        history = self._model().history
        if history is None:
            raise AttributeError("This model was not trained.")
        return history

    @property
    def _raw_data(self: _Model) -> Any:
        """The training rows."""
        return _training(self._model()).rows

    @property
    def _n_neighbors(self: _Model) -> int:
        """Neighbours that were found, no more than there are rows."""
        return int(min(self._recipe().graph.n_neighbors, _n_rows(self._model())))

    @property
    def _metric_kwds(self: _Model) -> dict[str, Any]:
        return dict(self._recipe().graph.metric_kwds or {})

    @property
    def _a(self: _Model) -> float:
        """The parameter of the similarity ``1 / (1 + a d^(2b))``."""
        self._model()
        return self._recipe().kernel.a

    @property
    def _b(self: _Model) -> float:
        """The exponent of the similarity ``1 / (1 + a d^(2b))``."""
        self._model()
        return self._recipe().kernel.b

    @property
    def _small_data(self: _Model) -> bool:
        """Whether umap-learn would compare all pairs of rows."""
        is_forced = self._recipe().graph.force_approximation_algorithm
        return bool(_n_rows(self._model()) < SMALL_ROWS and not is_forced)

    @property
    def _knn_indices(self: _Model) -> NDArray[np.int64]:
        """Of shape (n_samples, k), each row its own first neighbour."""
        return _neighbors(self._model(), self._recipe()).indices

    @property
    def _knn_dists(self: _Model) -> NDArray[np.float32]:
        """Of shape (n_samples, k)."""
        return _neighbors(self._model(), self._recipe()).distances

    @property
    def _knn_search_index(self: _Model) -> NeighborIndex:
        """Answers ``query(rows, k)``."""
        recipe = self._recipe()
        training = _searchable(self._model(), recipe)
        return training.index(recipe.graph, resolve_device(recipe.device))


def _n_rows(fitted: Fitted) -> int:
    if fitted.graph is None:
        raise AttributeError(left_out("The number of training rows"))
    return int(fitted.graph.shape[0])


def _neighbors(fitted: Fitted, recipe: Recipe) -> NeighborGraph:
    training = _searchable(fitted, recipe)
    return training.neighbors(recipe.graph_settings_of_the_fit(), resolve_device(recipe.device))


def _training(fitted: Fitted) -> TrainingRows:
    if fitted.training is None:
        raise AttributeError(
            "The neighbours need the training rows, which were not saved with this model. Save it "
            "with keep='data'."
        )
    return fitted.training


def _searchable(fitted: Fitted, recipe: Recipe) -> TrainingRows:
    training = _training(fitted)
    shape = getattr(training.rows, "shape", (0, 0))
    if recipe.graph.metric == "precomputed" and shape[0] != shape[1]:
        raise AttributeError(
            "The distances of this fit were passed as precomputed_distances and are not kept."
        )
    return training
