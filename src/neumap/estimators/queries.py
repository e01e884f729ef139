"""Neighbours among the training rows of a fitted model: the search is prepared once.

Building a search may take longer than a fit. What is built stays beside the model, not in it, so
that no pickle, copy or file holds it, and goes when the model goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np

from neumap._device import resolve_device
from neumap.data import as_rows, row_count
from neumap.estimators.graphs import GraphSettings, training_neighbors
from neumap.neighbors import NeighborGraph, NeighborIndex

__all__ = [
    "index_of_training_rows",
    "neighbors_among_training_rows",
    "neighbors_of_sample",
    "neighbors_of_training_rows",
]

T = TypeVar("T")

# Of each model, by name: the objects that a value was made of, and the value.
_BESIDE: WeakKeyDictionary[Any, dict[str, tuple[tuple[Any, ...], Any]]] = WeakKeyDictionary()


def neighbors_among_training_rows(
    model: Any, new: Any, settings: GraphSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and distances of the training rows nearest to each new row.

    Parameters
    ----------
    model : UMAP
        Fitted, with its training rows at hand.
    new : data as checked by the estimator
        Rows to find neighbours of.
    settings : GraphSettings
        How to search.

    Returns
    -------
    indices, distances : arrays of shape (n_new, k)
        With ``n_neighbors`` neighbours, or as many as there are training rows.
    """
    index = index_of_training_rows(model, settings)
    matrix = as_rows(new, device=resolve_device(model.device)).to_matrix()
    return index.query(matrix, min(settings.n_neighbors, index.rows.shape[0]))


def neighbors_of_sample(
    model: Any, sample: Any, settings: GraphSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same for a sample of the training rows that its size and the seed decide."""
    name = f"sample of {row_count(sample)}"
    return _once(
        model, name, settings, lambda: neighbors_among_training_rows(model, sample, settings)
    )


def index_of_training_rows(model: Any, settings: GraphSettings) -> NeighborIndex:
    """Return the search among the training rows of a model."""

    def make() -> NeighborIndex:
        device = resolve_device(model.device)
        training = as_rows(model._raw_data, device=device).to_matrix()
        return settings.search(training, device).index(training)

    return _once(model, "index", settings, make)


def neighbors_of_training_rows(model: Any, settings: GraphSettings) -> NeighborGraph:
    """Return the neighbours that the graph of a model was made of, by the same search again."""

    def make() -> NeighborGraph:
        device = resolve_device(model.device)
        training = as_rows(model._raw_data, device=device).to_matrix()
        return training_neighbors(training, settings, device)

    return _once(model, "neighbors", settings, make)


def _once(model: Any, name: str, settings: GraphSettings, make: Callable[[], T]) -> T:
    """Return what `make` gives, and keep it until rows or settings are other objects.

    Every fit keeps rows of its own.
    """
    made_of = (model._raw_data, model.device, *vars(settings).values())
    kept = _BESIDE.setdefault(model, {})
    before, value = kept.get(name, ((), None))
    if len(before) == len(made_of) and all(map(_is_same, before, made_of)):
        return cast(T, value)
    made = make()
    kept[name] = made_of, made
    return made


def _is_same(one: Any, other: Any) -> bool:
    # Arrays, alone or in a dict, have no truth value to compare by.
    return one is other or (isinstance(one, int | float | str) and bool(one == other))
