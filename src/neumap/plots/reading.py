"""The inputs of a picture: positions, a graph, one label or value per row.

Every drawing function takes either plain arrays or a fitted object. This file turns both
into checked NumPy arrays, so that the other files handle arrays only. A fitted object is
anything with an attribute ``embedding_`` (or ``embedding``); ``graph_``, ``_raw_data``,
``n_neighbors``, ``min_dist`` and ``metric`` are read where a picture can use them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from neumap._labels import UNLABELLED, Column, read_column

__all__ = [
    "Categories",
    "caption_of",
    "categories_of",
    "chosen_rows",
    "graph_of",
    "positions_of",
    "raw_data_of",
    "title_of",
    "values_of",
]

MANY_DISTINCT = 256  # fractional "labels" with more distinct entries than this are measurements


def positions_of(source: Any, *, dimensions: tuple[int, ...] = (2, 3)) -> NDArray[Any]:
    """Return the positions of the rows, ``(n_samples, n_components)`` float64.

    Parameters
    ----------
    source : array of shape (n_samples, n_components), or fitted object
        Source of the positions.
    dimensions : tuple of int, default=(2, 3)
        Numbers of components that the picture can show.

    Raises
    ------
    ValueError
        If the array is not two-dimensional, is empty, or has another number of components.
    """
    positions = np.asarray(_attribute(source, "embedding_", "embedding", default=source))
    wanted = " or ".join(str(count) for count in dimensions)
    if positions.ndim != 2 or positions.dtype.kind not in "fiub":
        raise ValueError(
            f"The embedding must be an array of shape (n_samples, {wanted}) or a fitted object "
            f"with `embedding_`, got {type(source).__name__} of shape {positions.shape} and dtype "
            f"{positions.dtype}. Fit the object first (save it with keep='map'), or pass the "
            "array of positions."
        )
    if positions.shape[1] not in dimensions:
        raise ValueError(
            f"The embedding must have {wanted} components, got {positions.shape[1]}. "
            f"Select columns, such as embedding[:, :2], or fit with n_components={dimensions[0]}."
        )
    if not np.isfinite(positions).all(axis=1).any():
        raise ValueError(
            f"At least one row must have finite coordinates, got {positions.shape[0]} rows "
            "without any. Check that the fit converged."
        )
    return positions.astype(np.float64, copy=False)


def graph_of(source: Any, graph: Any, n_samples: int) -> sparse.coo_array:
    """Return the undirected edges of a graph, each once with ``row < col``, as a scipy COO array.

    ``graph`` may be a scipy sparse matrix, an object with ``to_csr()``, or None to take
    ``source.graph_``. If the two directions differ, the larger weight is used.
    """
    found: Any = _attribute(source, "graph_", default=None) if graph is None else graph
    if hasattr(found, "to_csr"):
        found = found.to_csr()
    if not _is_sparse(found):
        raise ValueError(
            f"graph must be a scipy sparse matrix, got {type(found).__name__}. Pass a fitted "
            "object with `graph_` (saved with keep='map'), or the pair (embedding, graph)."
        )
    if found.shape != (n_samples, n_samples):
        raise ValueError(
            f"graph must have shape ({n_samples}, {n_samples}), one row per point, got "
            f"{found.shape}. Pass the graph that this embedding was computed from."
        )
    directed: Any = sparse.csr_array(found)
    return sparse.coo_array(sparse.triu(directed.maximum(directed.T), k=1))


def raw_data_of(source: Any, X: ArrayLike | None, n_samples: int) -> NDArray[Any]:
    """Return the data of the embedding, ``(n_samples, n_features)`` float64, dense."""
    data: Any = _attribute(source, "_raw_data", default=None) if X is None else X
    if data is None:
        raise ValueError(
            f"X must be the data of the map, got None, and {type(source).__name__} does not hold "
            "them. Pass X, the array given to fit."
        )
    dense = np.asarray(data.toarray() if _is_sparse(data) else data, dtype=np.float64)
    if dense.ndim < 2 or dense.shape[0] != n_samples:
        raise ValueError(
            f"X must have shape ({n_samples}, n_features), one row per point, got {dense.shape}. "
            "Pass the rows that this embedding was computed from, in the same order."
        )
    return dense.reshape(n_samples, -1)


def chosen_rows(subset_points: ArrayLike | None, n_samples: int) -> NDArray[Any]:
    """Return the indices of the rows to draw, from a boolean mask or from indices."""
    if subset_points is None:
        return np.arange(n_samples)
    chosen = np.asarray(subset_points)
    if chosen.dtype == bool:
        if chosen.shape != (n_samples,):
            raise ValueError(
                f"A mask `subset_points` must have length {n_samples}, got shape {chosen.shape}. "
                "Give one boolean per point of the whole embedding."
            )
        return np.flatnonzero(chosen)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise ValueError(
            "subset_points must be a boolean mask or a list of row indices, got shape "
            f"{chosen.shape} and dtype {chosen.dtype}. Use mask = labels == 3, for example."
        )
    outside = chosen[(chosen < -n_samples) | (chosen >= n_samples)]
    if outside.size:
        raise ValueError(
            f"subset_points must hold row indices below {n_samples}, got {outside[0]}. "
            "Use indices into the whole embedding."
        )
    rows: NDArray[Any] = np.arange(n_samples)[chosen]
    return rows


@dataclass(frozen=True)
class Categories:
    """Labels as codes.

    Attributes
    ----------
    names : tuple
        The distinct labels, in the order of the legend.
    codes : array of shape (n_samples,), int64
        Index into ``names``; -1 where a row has no label.
    title : str
        Name of the column the labels came from, or an empty string.
    """

    names: tuple[Any, ...]
    codes: NDArray[Any]
    title: str = ""

    def __getitem__(self, rows: NDArray[Any]) -> Categories:
        """Return the same names with other rows."""
        return Categories(self.names, self.codes[rows], self.title)


def categories_of(labels: Any, n_samples: int) -> Categories:
    """Turn labels into categories; -1 and everything that stands for a missing label has none.

    A pandas categorical keeps the order of its categories. Everything else is sorted: numbers and
    dates by size, text with its digits read as numbers ("c2" before "c10").
    """
    column = read_column(labels, "labels")
    _check_length("labels", column.values, n_samples)
    unlabelled = column.unlabelled()
    present = _nameable(column[~unlabelled])
    names = _ordered_names(labels, present)
    position = {name: code for code, name in enumerate(names)}
    codes = np.full(n_samples, UNLABELLED, dtype=np.int64)
    codes[~unlabelled] = [position[entry] for entry in present]
    return Categories(_written(names), codes, title_of(labels))


def values_of(values: Any, n_samples: int) -> NDArray[Any]:
    """Return one number per row as float64; NaN and infinite numbers count as missing."""
    column = read_column(values, "values")
    _check_length("values", column.values, n_samples)
    found = column.numbers()
    if found is None:
        kinds = column.kinds()
        raise ValueError(
            f"values must be numbers, got {' and '.join(sorted(kinds))}. "
            + (
                "Pass the time since the first one: (values - values.min()) / "
                'numpy.timedelta64(1, "D").'
                if "dates" in kinds
                else "Pass names of classes as `labels` instead."
            )
        )
    numbers = np.where(column.missing, np.nan, found)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def caption_of(source: Any, n_undrawn: int) -> str:
    """Return the caption: the settings of the map, and how many points have no position."""
    parts = []
    n_neighbors = _attribute(source, "n_neighbors", default=None)
    min_dist = _attribute(source, "min_dist", default=None)
    if n_neighbors is not None and min_dist is not None:
        metric = _attribute(source, "metric", default="euclidean")
        name = "" if metric == "euclidean" else f"metric={getattr(metric, '__name__', metric)}, "
        parts.append(f"UMAP: {name}n_neighbors={n_neighbors}, min_dist={min_dist}")
    if n_undrawn:
        parts.append(f"{n_undrawn} without position, not drawn")
    return " · ".join(parts)


def title_of(column: Any) -> str:
    """Return the name of a table's column, or an empty string."""
    name = getattr(column, "name", None)
    return name if isinstance(name, str) else ""


def _attribute(source: Any, *names: str, default: Any) -> Any:
    for name in names:
        if hasattr(source, name):
            return getattr(source, name)
    return default


def _is_sparse(thing: Any) -> bool:
    return bool(sparse.issparse(thing))  # not a type guard: scipy's narrows to the base class


def _check_length(what: str, entries: NDArray[Any], n_samples: int) -> None:
    if entries.shape != (n_samples,):
        raise ValueError(
            f"{what} must have shape ({n_samples},), one per point, got {entries.shape}. "
            "Give one entry per point of the whole embedding, and choose rows with subset_points."
        )


def _nameable(present: Column) -> list[Any]:
    """Return labels of one kind that can be told apart and put in order."""
    values = present.values
    if len(present.kinds()) > 1:
        return [str(entry) for entry in values.tolist()]
    if values.dtype.kind == "f":
        return cast(list[Any], _whole_numbers(values).tolist())
    # tolist would make numbers of dates: nanoseconds since 1970.
    return list(values) if values.dtype.kind in "mM" else cast(list[Any], values.tolist())


def _written(names: tuple[Any, ...]) -> tuple[Any, ...]:
    """Write dates and durations as people do, dates as short as they can be told apart."""
    if names and isinstance(names[0], np.datetime64):
        texts = np.datetime_as_string(np.array(names), unit="auto").tolist()
        return tuple(text.replace("T", " ") for text in texts)
    if names and isinstance(names[0], np.timedelta64):
        return tuple(str(name.astype("m8[us]").item()) for name in names)
    return names


def _whole_numbers(present: NDArray[Any]) -> NDArray[Any]:
    """Show 3.0 as 3: a column of integers becomes floating as soon as one entry is missing."""
    if (present == np.round(present)).all():
        return present.astype(np.int64)
    n_distinct = np.unique(present).size
    if n_distinct > MANY_DISTINCT:
        raise ValueError(
            f"labels must be names of classes, got {n_distinct} distinct fractional numbers. "
            "Pass them as `values` to colour by value."
        )
    return present


def _ordered_names(labels: Any, present: list[Any]) -> tuple[Any, ...]:
    found = set(present)
    categorical = getattr(labels, "cat", labels)  # a pandas Series, or a Categorical itself
    declared = getattr(categorical, "categories", None)
    if declared is not None and not isinstance(labels, Mapping):
        ordered = np.asarray(declared)
        all_names = list(ordered) if ordered.dtype.kind in "mM" else ordered.tolist()
        return tuple(name for name in all_names if name in found)
    return tuple(sorted(found, key=_natural_order))


def _natural_order(name: Any) -> tuple[Any, ...]:
    """Sort numbers by size before text, and text with its digits as numbers: "c2" before "c10"."""
    if isinstance(name, (bool, int, float, np.datetime64, np.timedelta64)):
        return (0, name)
    pieces = re.split(r"(\d+)", str(name))
    return (1, [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces])
