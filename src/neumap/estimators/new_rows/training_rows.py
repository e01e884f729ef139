"""The training rows of a model, and the neighbour searches among them.

Building a search may take longer than a fit, so each one is built at the first question and kept
with the rows. Pickles, copies and files hold the rows only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from neumap.data import as_rows, row_count, take
from neumap.estimators.graph import GraphSettings, training_neighbors
from neumap.neighbors import NeighborGraph, NeighborIndex

__all__ = ["Neighbors", "TrainingRows"]

T = TypeVar("T")

# Indices and distances of the training rows nearest to each row, (n, k) each.
Neighbors = tuple[NDArray[np.int64], NDArray[np.float32]]


class TrainingRows:
    """Rows by reference, with the searches that were built for them.

    Parameters
    ----------
    rows : array, sparse matrix, Tensor or array on disk of shape (n_rows, ...)
        As checked by the estimator.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        # By name: what a value was made with, and the value.
        self._built: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self.rows, "_built": {}}

    def first_rows(self, n_rows: int) -> TrainingRows:
        """Return the first rows."""
        return TrainingRows(take(self.rows, slice(n_rows)))

    def index(self, settings: GraphSettings, device: torch.device) -> NeighborIndex:
        """Return the search for new rows among the training rows."""

        def make() -> NeighborIndex:
            matrix = as_rows(self.rows, device=device).to_matrix()
            return settings.search(matrix, device).index(matrix)

        return self._once("index", settings, device, make)

    def nearest(self, new: Any, settings: GraphSettings, device: torch.device) -> Neighbors:
        """Return the training rows nearest to each new row.

        Parameters
        ----------
        new : data as checked by the estimator, (n_new, ...)
            Rows to find neighbours of.
        settings : GraphSettings
            How to search.
        device : torch.device
            Where exact searches run.

        Returns
        -------
        indices, distances : arrays of shape (n_new, k)
            With ``n_neighbors`` neighbours, or as many as there are training rows.
        """
        index = self.index(settings, device)
        matrix = as_rows(new, device=device).to_matrix()
        return index.query(matrix, min(settings.n_neighbors, index.rows.shape[0]))

    def nearest_to_sample(
        self, sample: Any, settings: GraphSettings, device: torch.device
    ) -> Neighbors:
        """Return the same for a sample of training rows that its size and the seed determine."""
        name = f"sample of {row_count(sample)}"
        return self._once(name, settings, device, lambda: self.nearest(sample, settings, device))

    def own_distances(
        self,
        numbers: NDArray[np.int64],
        n_nearest: int,
        settings: GraphSettings,
        device: torch.device,
    ) -> NDArray[np.float64]:
        """Return the mean distance of training rows to their nearest other training rows.

        Each row is looked up once and its distance kept.

        Parameters
        ----------
        numbers : array of int of any shape
            Numbers of training rows.
        n_nearest : int
            Neighbours in the mean, or fewer where `settings` ask for fewer.
        settings, device
            How and where to search.

        Returns
        -------
        array of the shape of `numbers`, float64
        """
        n_rows = row_count(self.rows)
        name = f"distances to {n_nearest}"
        known = self._once(name, settings, device, lambda: np.full(n_rows, np.nan))
        missing = np.unique(numbers[np.isnan(known[numbers])])
        if len(missing):
            _, distances = self.nearest(take(self.rows, missing), settings, device)
            # The nearest is the row itself.
            known[missing] = distances[:, 1 : n_nearest + 1].mean(1, dtype=np.float64)
        return np.asarray(known[numbers])

    def neighbors(self, settings: GraphSettings, device: torch.device) -> NeighborGraph:
        """Return the neighbours that the graph was made of, by the same search again."""

        def make() -> NeighborGraph:
            matrix = as_rows(self.rows, device=device).to_matrix()
            found = training_neighbors(matrix, settings, device)
            return replace(found, on_device=None)  # a model that is kept holds no card's memory

        return self._once("neighbors", settings, device, make)

    def _once(
        self, name: str, settings: GraphSettings, device: torch.device, make: Callable[[], T]
    ) -> T:
        """Return what `make` gives, and keep it until the settings are others."""
        made_with = (device, *vars(settings).values())
        before, value = self._built.get(name, ((), None))
        if len(before) == len(made_with) and all(map(_is_same, before, made_with)):
            return cast(T, value)
        made = make()
        self._built[name] = made_with, made
        return made


def _is_same(one: Any, other: Any) -> bool:
    # Arrays, alone or in a dict, have no truth value to compare by.
    return one is other or (
        isinstance(one, int | float | str | torch.device) and bool(one == other)
    )
