"""Read an AnnData file (``.h5ad``): its matrix or a representation, with labels from ``obs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neumap._optional import require
from neumap.cli.errors import CommandError
from neumap.cli.table import Selection, Table, listed

__all__ = ["read_h5ad"]


def read_h5ad(file: Path, selection: Selection) -> Table:
    """Read cells: the matrix ``X`` with the names of its variables, or ``--key`` of ``obsm``.

    Labels and ids are columns of ``obs``; the ids are the names of the cells by default.
    """
    anndata = require("anndata", extra="cells")
    try:
        adata = anndata.read_h5ad(file)
    except Exception as error:  # h5py, zarr and anndata raise errors of many kinds
        raise CommandError(
            f"{file}: not a readable .h5ad file ({error}). Write it again with anndata."
        ) from error
    rows, columns = _rows(adata, selection, file)
    return Table(
        rows,
        columns=columns,
        labels=None if selection.label is None else _of_cells(adata, selection.label, file),
        ids=_of_cells(adata, selection.id, file),
        label_name=selection.label or "label",
        id_name=selection.id or "cell",
        kept={str(name): _of_cells(adata, name, file) for name in adata.obs}
        if selection.keeps
        else None,
    )


def _rows(adata: Any, selection: Selection, file: Path) -> tuple[Any, list[str] | None]:
    key = selection.key or "X"
    if key != "X":
        if key not in adata.obsm:
            raise CommandError(
                f"{file}: --key must be X or one of {listed(list(adata.obsm))}, got {key!r}. "
                "Choose one of these."
            )
        return np.asarray(adata.obsm[key]), None
    if adata.X is None:
        raise CommandError(
            f"{file}: the file must have a matrix X, got none. Choose one of "
            f"{listed(list(adata.obsm))} with --key."
        )
    names = list(map(str, adata.var_names))
    if len(set(names)) < len(names):
        raise CommandError(
            f"{file}: var_names must be unique, got some twice. Call var_names_make_unique()."
        )
    kept = list(selection.wanted or [name for name in names if name not in selection.ignored])
    absent = [name for name in [*kept, *selection.ignored] if name not in set(names)]
    if absent:
        raise CommandError(
            f"{file}: columns must be among {listed(names)}, got {listed(absent)}. Choose from "
            "these."
        )
    position = {name: at for at, name in enumerate(names)}
    matrix: Any = adata.X[:, [position[name] for name in kept]]
    is_sparse: bool = sparse.issparse(matrix)
    return matrix.tocsr() if is_sparse else np.asarray(matrix), kept


def _of_cells(adata: Any, name: str | None, file: Path) -> NDArray[Any]:
    if name is None:
        return np.asarray(adata.obs_names, dtype=str)
    if name not in adata.obs:
        raise CommandError(
            f"{file}: the column must be one of {listed(list(adata.obs))} in obs, got {name!r}. "
            "Choose one of these."
        )
    column = adata.obs[name]
    if getattr(column.dtype, "kind", "O") in "fiub":
        return np.asarray(column)
    return np.array(
        [
            "" if missing else str(value)
            for value, missing in zip(column, column.isna(), strict=True)
        ]
    )
