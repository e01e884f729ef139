"""The columns that Apple's Embedding Atlas reads: positions, and the neighbours of each row.

::

    write_parquet("map.parquet", model, table)
    # embedding-atlas map.parquet --x projection_x --y projection_y --neighbors neighbors
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._atomic import replacing
from neumap._optional import require
from neumap.estimators import UMAP

__all__ = ["columns", "write_parquet"]

NAMES = ("projection_x", "projection_y", "projection_z")


def columns(
    model: UMAP,
    X: Any = None,
    *,
    names: tuple[str, ...] = NAMES,
    neighbors: str | None = "neighbors",
) -> dict[str, Any]:
    """Return the columns of a map as arrays of pyarrow.

    Parameters
    ----------
    model : UMAP or ParametricUMAP
        Fitted, with two or three components.
    X : array-like of shape (n_samples, n_features), optional
        Rows to place. By default the training rows at their positions in ``embedding_``.
    names : tuple of str, default=("projection_x", "projection_y", "projection_z")
        Columns of the coordinates, as many as there are components; further names are not used.
    neighbors : str or None, default="neighbors"
        Column of the nearest rows, a struct of ``ids`` (row numbers, the row itself first) and
        ``distances``. They are those of the fit, so there is no such column if `X` is given.

    Returns
    -------
    dict of str to pyarrow.Array
        float64 coordinates and the neighbours.

    Raises
    ------
    ImportError
        If pyarrow is missing.
    ValueError
        If there are fewer names than components, or the training rows are not at hand.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from neumap import ParametricUMAP
    >>> model = ParametricUMAP(preset="fast", n_epochs=1, n_neighbors=4, random_state=0)
    >>> made = columns(model.fit(load_iris().data))
    >>> list(made), len(made["neighbors"][0]["ids"])
    (['projection_x', 'projection_y', 'neighbors'], 4)
    """
    pyarrow = require("pyarrow", extra="tables")
    positions = getattr(model, "embedding_", None) if X is None else model.transform(X)
    if positions is None:
        raise ValueError(
            "X must be given for a model without the positions of its training rows, got None. "
            "Pass the rows to place."
        )
    if len(names) < positions.shape[1]:
        raise ValueError(
            f"names must hold one name per component, got {len(names)} for "
            f"{positions.shape[1]} components. Pass more names."
        )
    found: dict[str, Any] = {
        name: pyarrow.array(coordinate.astype(np.float64))
        for name, coordinate in zip(names, positions.T, strict=False)
    }
    if neighbors is not None and X is None:
        found[neighbors] = _neighbor_column(pyarrow, *_neighbors(model))
    return found


def write_parquet(
    path: str | os.PathLike[str],
    model: UMAP,
    table: Any = None,
    X: Any = None,
    *,
    names: tuple[str, ...] = NAMES,
    neighbors: str | None = "neighbors",
) -> Path:
    """Write a parquet file for Embedding Atlas: the columns of a table, and those of the map.

    Parameters
    ----------
    path : path-like
        File to write, completely or not at all.
    model : UMAP or ParametricUMAP
        Fitted.
    table : pandas.DataFrame, pyarrow.Table or dict of columns, optional
        What else is known about the rows, such as texts and labels, in their order.
    X, names, neighbors
        As in :func:`columns`.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ImportError
        If pyarrow is missing.
    ValueError
        If the table has another number of rows, or columns of these names.
    """
    pyarrow = require("pyarrow", extra="tables")
    made = columns(model, X, names=names, neighbors=neighbors)
    whole = _as_table(pyarrow, {} if table is None else table)
    n_rows = len(next(iter(made.values())))
    if whole.num_columns and whole.num_rows != n_rows:
        raise ValueError(
            f"table must have one row per row of the map, got {whole.num_rows} for {n_rows}. Pass "
            "the rows that were placed, in their order."
        )
    taken = [name for name in made if name in whole.column_names]
    if taken:
        raise ValueError(
            f"table must not have the columns of the map, got {taken}. Rename them, or pass other "
            "names and neighbors."
        )
    for name, column in made.items():
        whole = whole.append_column(name, column)
    with replacing(path) as draft:
        require("pyarrow.parquet", extra="tables").write_table(whole, draft)
    return Path(path)


def _as_table(pyarrow: Any, table: Any) -> Any:
    if isinstance(table, pyarrow.Table):
        return table
    if hasattr(table, "iloc"):  # pandas
        return pyarrow.Table.from_pandas(table, preserve_index=False)
    return pyarrow.table(table)


def _neighbors(model: UMAP) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    try:
        return model._knn_indices, model._knn_dists
    except AttributeError as error:
        raise ValueError(
            "neighbors must be None for a model without its training rows, got a name "
            f"({error}). Pass neighbors=None."
        ) from error


def _neighbor_column(
    pyarrow: Any, indices: NDArray[np.int64], distances: NDArray[np.float32]
) -> Any:
    width = indices.shape[1]
    parts = {
        "ids": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(indices.ravel()), width),
        "distances": pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(distances.ravel().astype(np.float64)), width
        ),
    }
    # Lists of any length are what the viewer's own files have.
    lists = [part.cast(pyarrow.list_(part.type.value_type)) for part in parts.values()]
    return pyarrow.StructArray.from_arrays(lists, names=list(parts))
