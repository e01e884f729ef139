"""From the genes of new cells to the coordinates in which a reference was mapped.

The reference has principal components in ``varm`` and the coordinates of its cells in ``obsm``, but
not the means that were subtracted. These follow from both: whatever they were, the cells' genes
times the components differ from the coordinates by one constant row. That the difference *is*
constant shows that the matrix is the one that the components were computed from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neumap._warnings import warn_user

__all__ = ["Missing", "Projection", "loadings_key", "matrix_of"]

Missing = Literal["error", "mean"]

CHECKED_CELLS = 2000
LARGEST_DIFFERENCE = 0.01  # of the spread of the coordinates; rounding of float32 is far below


@dataclass(frozen=True)
class Projection:
    """A linear map from genes to coordinates, ``x @ loadings - offset``.

    Attributes
    ----------
    genes : array of shape (n_genes,) of str
        Genes that take part, those with a loading.
    loadings : array of shape (n_genes, n_coordinates), float64, or None
        None passes the genes on as they are.
    means : array of shape (n_genes,), float64
        Of the reference; they stand for missing genes.
    offset : array of shape (n_coordinates,), float64
        Coordinates of the means that were subtracted.
    """

    genes: NDArray[Any]
    loadings: NDArray[np.float64] | None
    means: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def of(cls, adata: Any, use_rep: str, layer: str | None) -> Projection:
        """Return the projection of a reference.

        Raises
        ------
        ValueError
            If the matrix is not the one that the components were computed from.
        """
        _check_names(adata.var_names, "adata_ref")
        matrix, names = matrix_of(adata, layer), np.asarray(adata.var_names, dtype=str)
        key = loadings_key(adata, use_rep)
        if key is None:
            return cls(names, None, _column_means(matrix), np.zeros(len(names)))
        loadings = np.asarray(adata.varm[key], dtype=np.float64)
        used = np.flatnonzero(loadings.any(axis=1))
        loadings, genes = loadings[used], matrix[:, used]
        known = np.asarray(adata.obsm[use_rep], dtype=np.float64)
        if known.shape[1] != loadings.shape[1]:
            raise ValueError(
                f"obsm[{use_rep!r}] and varm[{key!r}] must have as many components, got "
                f"{known.shape[1]} and {loadings.shape[1]}. Compute both again with "
                "scanpy.pp.pca(adata_ref)."
            )
        some = np.unique(np.linspace(0, len(known) - 1, CHECKED_CELLS).astype(np.int64))
        difference = np.asarray(genes[some] @ loadings) - known[some]
        offset = difference.mean(axis=0)
        _check_constant(difference - offset, known[some], key, use_rep)
        return cls(names[used], loadings, _column_means(genes), offset)

    def __call__(self, adata: Any, layer: str | None, missing: Missing) -> NDArray[np.float32]:
        """Return the coordinates of other cells, (n_cells, n_coordinates).

        Raises
        ------
        ValueError
            If genes are missing and nothing may stand for them, or all are.
        """
        _check_names(adata.var_names, "query")
        where = adata.var_names.get_indexer(self.genes)
        there = where >= 0
        if not there.all():
            self._say_what_is_missing(there, missing)
        found = matrix_of(adata, layer)[:, where[there]]
        if self.loadings is not None:
            constant = self.means[~there] @ self.loadings[~there] - self.offset
            return np.asarray(found @ self.loadings[there] + constant, dtype=np.float32)
        dense = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        whole = np.tile(self.means.astype(np.float32), (len(dense), 1))
        whole[:, there] = dense
        return whole

    def _say_what_is_missing(self, there: NDArray[np.bool_], missing: Missing) -> None:
        absent = self.genes[~there]
        what = f"{len(absent)} of the {len(self.genes)} genes of the reference"
        if self.loadings is not None:
            lost, whole = np.square(self.loadings[~there]).sum(), np.square(self.loadings).sum()
            what += f", with {lost / whole:.0%} of its squared loadings"
        what += f", such as {absent[:3].tolist()}"
        if missing == "error" or not there.any():
            remedy = "Pass missing='mean' to let the reference's means stand for them."
            if not there.any():
                remedy = "Give both the same kind of var_names, such as gene symbols."
            raise ValueError(
                "query must have the genes of the reference in var_names, got one that lacks "
                f"{what}. {remedy}"
            )
        warn_user(f"query lacks {what}. The means of the reference stand for them.")


def loadings_key(adata: Any, use_rep: str) -> str | None:
    """Return the key of ``varm`` with the components of a representation, by scanpy's names."""
    key = "PCs" if use_rep == "X_pca" else use_rep
    return key if use_rep != "X" and key in adata.varm else None


def matrix_of(adata: Any, layer: str | None) -> Any:
    """Return the matrix of cells and genes in memory.

    Raises
    ------
    KeyError
        If there is no such layer, or no matrix.
    """
    if layer is not None and layer not in adata.layers:
        raise KeyError(
            f"layer must be one of {sorted(adata.layers)} or None for X, got {layer!r}. Pass one "
            "of these."
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise KeyError(
            f"X must hold the genes of the cells, got None. Pass layer, one of "
            f"{sorted(adata.layers)}, or a representation in obsm as use_rep."
        )
    # An AnnData opened in backed mode holds its matrix in the file.
    return matrix.to_memory() if hasattr(matrix, "to_memory") else matrix[:]


def _column_means(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.mean(axis=0), dtype=np.float64).ravel()


def _check_names(var_names: Any, name: str) -> None:
    if not var_names.is_unique:
        repeated = var_names[var_names.duplicated()].unique()
        raise ValueError(
            f"The var_names of {name} must be unique, got {list(repeated[:5])} more than once. "
            "Call var_names_make_unique() on it first."
        )


def _check_constant(
    rest: NDArray[np.float64], known: NDArray[np.float64], key: str, use_rep: str
) -> None:
    spread = float(np.square(known - known.mean(axis=0)).sum()) or 1.0
    share = float(np.sqrt(np.square(rest).sum() / spread))
    if share > LARGEST_DIFFERENCE:
        raise ValueError(
            f"adata_ref.X must be the matrix that varm[{key!r}] was computed from, got one that "
            f"gives other coordinates than obsm[{use_rep!r}] (they differ by {share:.0%} of their "
            "spread). Pass the layer with the values that scanpy.pp.pca saw (normalised, and "
            "scaled if they were), or pass layer and use_rep of another representation."
        )
