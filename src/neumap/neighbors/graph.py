"""The value that neighbour searches return, and the contract of the backends that make it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neumap.neighbors.metrics import EuclideanMetric, Metric, TiledMetric

__all__ = [
    "Found",
    "NeighborBackend",
    "NeighborGraph",
    "check_found",
    "own_row_first",
    "wrong_distance",
]

Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # indices, distances


@dataclass(frozen=True)
class NeighborGraph:
    """The ``k`` nearest neighbours of every row, or of some, the row itself being the first.

    Attributes
    ----------
    indices : array of shape (n, k), int64
        Neighbours by rising distance. Column 0 is the row itself; -1 where there is none.
    distances : array of shape (n, k), float32
        Distances to them, in the units of the metric; infinite where the index is -1.
    backend : str
        Name of the search that found them.
    recall : float or None
        Share of the true neighbours that were found, measured on a sample of rows; 1.0 for an
        exact search, None where it was not measured.
    seconds : float
        Wall time of the search.
    on_device : tuple of tensors or None
        Indices and distances on the card that found them.
    anchors : array of shape (n,), int64, or None
        Numbers of the rows whose neighbours these are, rising; None for all rows.
    n_rows : int or None
        Number of rows among which the neighbours were searched, where there are `anchors`.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    backend: str
    recall: float | None
    seconds: float
    on_device: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)
    anchors: NDArray[np.int64] | None = None
    n_rows: int | None = None

    @property
    def n_vertices(self) -> int:
        """Number of rows of the data."""
        return len(self.indices) if self.n_rows is None else self.n_rows

    def asking(self) -> NDArray[np.int64]:
        """Return the numbers of the rows whose neighbours these are."""
        return np.arange(len(self.indices)) if self.anchors is None else self.anchors


class NeighborBackend(Protocol):
    """A way to search for neighbours; its settings are the attributes of the object.

    ``prepare`` turns data into the rows that the others expect, once for each data set.
    ``search`` answers for the rows themselves and puts each first in its own list. ``build`` makes
    of the rows what ``query`` looks into, once for any number of queries, and ``query`` answers
    for other prepared rows. Answers are int64 indices and float32 distances of the metric, of
    shape (n_queries, n_neighbors), by rising distance.
    """

    @property
    def name(self) -> str:
        """Name for reports."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the answer needs no measurement of recall."""
        ...

    def prepare(self, data: Any, metric: Metric) -> Any:
        """Rows in the form that this backend searches."""
        ...

    def search(self, rows: Any, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each row among all rows, itself first."""
        ...

    def build(self, rows: Any, n_neighbors: int, metric: Metric) -> Any:
        """What ``query`` looks into; the rows themselves where all of them are compared."""
        ...

    def query(self, index: Any, queries: Any, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each query among the rows that the index was built of."""
        ...


def own_row_first(
    indices: NDArray[Any], distances: NDArray[Any], numbers: NDArray[np.int64] | None = None
) -> Found:
    """Move each row's own index to column 0, at distance zero.

    Where duplicates pushed the row out of its own list, it replaces the farthest entry. The lists
    are those of the rows with these `numbers`, by default of all rows in order.

    Examples
    --------
    >>> indices, distances = own_row_first(np.array([[1, 0], [1, 0]]), np.zeros((2, 2)))
    >>> indices.tolist()
    [[0, 1], [1, 0]]
    """
    n, k = indices.shape
    rows = np.arange(n) if numbers is None else numbers
    is_own = indices == rows[:, None]
    position = np.where(is_own.any(axis=1), is_own.argmax(axis=1), k - 1)
    # Entries before that position move one to the right; those after it stay.
    column = np.arange(k)
    source = np.where(column <= position[:, None], column - 1, column).clip(min=0)
    moved_indices = np.take_along_axis(indices, source, axis=1).astype(np.int64, copy=False)
    moved_distances = np.take_along_axis(distances, source, axis=1).astype(np.float32, copy=False)
    moved_indices[:, 0] = rows
    moved_distances[:, 0] = 0.0
    return moved_indices, moved_distances


def check_found(indices: NDArray[Any], distances: NDArray[Any], metric: Metric) -> None:
    """Check the distances that a search found.

    Raises
    ------
    ValueError
        If one is NaN, negative (only pynndescent's similarities are), or infinite for a metric
        that has no infinite distances.
    """
    is_right = ~np.isnan(distances)
    if isinstance(metric, EuclideanMetric | TiledMetric):
        is_right &= distances >= 0
    if isinstance(metric, EuclideanMetric):
        is_right &= np.isfinite(distances)
    if is_right.all():
        return
    row, column = np.argwhere(~is_right)[0]
    raise ValueError(wrong_distance(metric, distances[row, column], row, indices[row, column]))


def wrong_distance(metric: Metric, distance: Any, row: Any, other: Any) -> str:
    """Message about a distance that is none."""
    is_function = isinstance(metric, TiledMetric) and metric.function is not None
    advice = "Correct the function" if is_function else "Rescale X, or choose another metric"
    return (
        f"metric must give numbers of zero or more, got {distance} with {metric.name!r} from row "
        f"{row} to row {other}. {advice}."
    )
