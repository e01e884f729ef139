"""Training rows near new ones: the search is prepared once per fitted model.

Building a search may take longer than a fit. What is built stays beside the model, not in it, so
that no pickle, copy or file holds it, and goes when the model goes.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from neumap._device import resolve_device
from neumap.data import as_rows
from neumap.estimators.graphs import GraphSettings
from neumap.neighbors import NeighborIndex

__all__ = ["neighbors_among_training_rows"]

# Of each model: the objects that an index was built of, and the index.
_INDICES: WeakKeyDictionary[Any, tuple[tuple[Any, ...], NeighborIndex]] = WeakKeyDictionary()


def neighbors_among_training_rows(
    model: Any, new: Any, settings: GraphSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and distances of the training rows nearest to each new row.

    Parameters
    ----------
    model : UMAP
        Fitted, with its training rows at hand. Every fit keeps other rows, so that an index of
        earlier ones is not used again.
    new : data as checked by the estimator
        Rows to find neighbours of.
    settings : GraphSettings
        How to search.

    Returns
    -------
    indices, distances : arrays of shape (n_new, k)
        With ``n_neighbors`` neighbours, or as many as there are training rows.
    """
    device = resolve_device(model.device)
    # Compared by identity: arrays among the settings have no truth value.
    made_of = (model._raw_data, model.device, *vars(settings).values())
    before, index = _INDICES.get(model, ((), None))
    if index is None or not _same_objects(before, made_of):
        training = as_rows(model._raw_data, device=device).to_matrix()
        index = NeighborIndex(training, **settings.search(training, device))
        _INDICES[model] = made_of, index
    matrix = as_rows(new, device=device).to_matrix()
    return index.query(matrix, min(settings.n_neighbors, index.rows.shape[0]))


def _same_objects(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
