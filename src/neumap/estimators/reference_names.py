"""What programs for umap-learn read of a fitted model, by umap-learn's private names.

``umap.plot`` and its like read attributes that are neither parameters nor documented. Here they are
computed when asked for, so that a model carries nothing for them. An attribute that a model cannot
give does not exist for ``hasattr``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from neumap.estimators.queries import index_of_training_rows, neighbors_of_training_rows
from neumap.neighbors import NeighborGraph, NeighborIndex

__all__ = [
    "a",
    "b",
    "history",
    "knn_dists",
    "knn_indices",
    "knn_search_index",
    "metric_kwds",
    "n_neighbors",
    "small_data",
]

SMALL_ROWS = 4096  # up to here umap-learn compares all pairs of rows, and so do its plots


def history(model: Any) -> Any:
    """``_history``: the losses themselves, one per report."""
    return model.history_


def metric_kwds(model: Any) -> dict[str, Any]:
    """``_metric_kwds``: arguments of the metric."""
    return dict(model.metric_kwds or {})


def n_neighbors(model: Any) -> int:
    """``_n_neighbors``: neighbours that were found, no more than there are rows."""
    check_is_fitted(model, "graph_")
    return int(min(model.n_neighbors, model.graph_.shape[0]))


def a(model: Any) -> float:
    """``_a`` of the similarity ``1 / (1 + a d^(2b))``."""
    check_is_fitted(model, "graph_")
    return float(model._kernel().a)


def b(model: Any) -> float:
    """``_b`` of the similarity ``1 / (1 + a d^(2b))``."""
    check_is_fitted(model, "graph_")
    return float(model._kernel().b)


def small_data(model: Any) -> bool:
    """``_small_data``: whether umap-learn would compare all pairs of rows."""
    check_is_fitted(model, "graph_")
    return bool(model.graph_.shape[0] < SMALL_ROWS and not model.force_approximation_algorithm)


def knn_search_index(model: Any) -> NeighborIndex:
    """``_knn_search_index``: answers ``query(rows, k)``."""
    _check_rows(model)
    return index_of_training_rows(model, model._graph_settings(model.transform_seed))


def knn_indices(model: Any) -> NDArray[np.int64]:
    """``_knn_indices`` of shape (n_samples, k), each row its own first neighbour."""
    return _neighbors(model).indices


def knn_dists(model: Any) -> NDArray[np.float32]:
    """``_knn_dists`` of shape (n_samples, k)."""
    return _neighbors(model).distances


def _neighbors(model: Any) -> NeighborGraph:
    _check_rows(model)
    # The seed of the fit, where it is a number; a generator has moved on since.
    state = model.random_state
    seed = int(state) if isinstance(state, int | np.integer) else None
    return neighbors_of_training_rows(model, model._graph_settings(seed))


def _check_rows(model: Any) -> None:
    check_is_fitted(model, "graph_")
    if not hasattr(model, "_raw_data"):
        raise AttributeError(
            "The neighbours need the training rows, which were not saved with this model. Save it "
            "with keep_data=True."
        )
    if model.metric == "precomputed" and model._raw_data.shape[0] != model._raw_data.shape[1]:
        raise AttributeError("The distances of this fit were given beside its rows, and not kept.")
