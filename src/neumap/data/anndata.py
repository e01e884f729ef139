"""Embed the cells of an AnnData in place, as scanpy's functions do."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neumap._labels import UNLABELLED
from neumap._optional import require
from neumap.data.containers import open_container
from neumap.data.kinds import is_a

__all__ = ["check_anndata", "embed_anndata", "storable_params"]

STORABLE = (bool, int, float, str)  # what an .h5ad file can hold as a parameter


class _Embedder(Protocol):
    def fit_transform(self, X: Any, y: Any = None) -> Any: ...


def embed_anndata(
    adata: Any,
    estimator: _Embedder,
    *,
    use_rep: str = "X_pca",
    key_added: str | None = None,
    labels: str | None = None,
) -> None:
    """Embed the rows of an AnnData and write the result into it.

    Parameters
    ----------
    adata : anndata.AnnData
        Annotated matrix; changed in place.
    estimator : object with fit_transform
        A `ParametricUMAP`, say. It is fitted, and afterwards places new cells with
        ``estimator.transform(other.obsm[use_rep])``.
    use_rep : str, default="X_pca"
        The representation to embed: a key of ``obsm``, or ``"X"`` for the matrix itself.
    key_added : str, optional
        The embedding goes to ``obsm[key_added]``, the parameters to ``uns[key_added]``; by default
        to ``obsm["X_neumap"]`` and ``uns["neumap"]``, as scanpy does with its own names.
    labels : str, optional
        Column of ``obs`` that supervises the embedding: numbers, or names of classes. Missing
        names count as unknown.

    Raises
    ------
    TypeError
        If `adata` is not an AnnData.
    KeyError
        If `adata` has no such representation or column of labels.

    Examples
    --------
    >>> import anndata
    >>> from sklearn.decomposition import PCA
    >>> cells = anndata.AnnData(np.eye(5, 4, dtype=np.float32))
    >>> embed_anndata(cells, PCA(n_components=2), use_rep="X", key_added="X_map")
    >>> cells.obsm["X_map"].shape
    (5, 2)
    """
    check_anndata(adata, "For arrays and tables call estimator.fit_transform(X).")
    values = open_container(adata, use_rep).values
    if labels is None:
        result = estimator.fit_transform(values)
    else:
        result = estimator.fit_transform(values, _label_column(adata, labels))
    adata.obsm["X_neumap" if key_added is None else key_added] = _embedding(result, len(adata))
    params = {"use_rep": use_rep, **storable_params(estimator)}
    adata.uns["neumap" if key_added is None else key_added] = {"params": params}


def check_anndata(adata: Any, advice: str, name: str = "adata") -> None:
    """Raise TypeError if it is no AnnData; `advice` ends the message."""
    if not is_a(adata, "anndata", "AnnData"):
        raise TypeError(f"{name} must be an anndata.AnnData, got {type(adata).__name__}. {advice}")


def _label_column(adata: Any, labels: str) -> Any:
    """Return numbers as they are, everything else as names with -1 for an unknown label."""
    if labels not in adata.obs:
        raise KeyError(
            f"labels must be a column of adata.obs, one of {list(adata.obs.columns)}, got "
            f"{labels!r}. Pass one of these."
        )
    column = adata.obs[labels]
    types = require("pandas", extra="tables").api.types
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        return column.to_numpy()
    known = column.notna().to_numpy()
    # Names, so that classes_ and predict speak of cell types and not of codes.
    names = column.astype(object).to_numpy(dtype=object, copy=True)
    if known.all():
        return np.array(names.tolist())
    names[~known] = UNLABELLED
    return names


def _embedding(result: Any, n_rows: int) -> NDArray[Any]:
    shape = getattr(result, "shape", None)  # a tuple of several results has none
    if shape is None or len(shape) != 2 or shape[0] != n_rows:
        raise ValueError(
            f"estimator must return one position per row, an array ({n_rows}, n_components), "
            f"got {type(result).__name__} of shape {shape}. Turn off options that return more or "
            "other results, such as output_dens."
        )
    return np.asarray(result)


def storable_params(estimator: Any) -> dict[str, Any]:
    """Return the parameters that an .h5ad file can hold, with a and b of the similarity."""
    params = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    # Those of a fit, under umap-learn's names; the parameters are None by default.
    fitted = {name: getattr(estimator, f"_{name}", None) for name in ("a", "b")}
    known = {**params, **{name: float(v) for name, v in fitted.items() if v is not None}}
    return {name: value for name, value in known.items() if isinstance(value, STORABLE)}
