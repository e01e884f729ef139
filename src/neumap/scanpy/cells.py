"""Parametric UMAP as a scanpy function that works on an AnnData."""

from __future__ import annotations

from typing import Any, Literal, overload

from neumap._random import RandomState
from neumap.data import embed_anndata
from neumap.data.anndata import check_anndata
from neumap.estimators import ParametricUMAP

__all__ = ["neumap"]


@overload
def neumap(
    adata: Any,
    *,
    use_rep: str = ...,
    key_added: str | None = ...,
    labels: str | None = ...,
    random_state: RandomState = ...,
    copy: Literal[False] = ...,
    **parameters: Any,
) -> ParametricUMAP: ...
@overload
def neumap(
    adata: Any,
    *,
    use_rep: str = ...,
    key_added: str | None = ...,
    labels: str | None = ...,
    random_state: RandomState = ...,
    copy: Literal[True],
    **parameters: Any,
) -> tuple[Any, ParametricUMAP]: ...
def neumap(
    adata: Any,
    *,
    use_rep: str = "X_pca",
    key_added: str | None = None,
    labels: str | None = None,
    random_state: RandomState = 0,
    copy: bool = False,
    **parameters: Any,
) -> ParametricUMAP | tuple[Any, ParametricUMAP]:
    """Embed the cells of an AnnData.

    It reads the input of scanpy's neighbour graph and writes where scanpy's plots look for a map:
    ``scanpy.pl.embedding(adata, basis="neumap")`` draws the result. Scanpy is not required.

    Parameters
    ----------
    adata : anndata.AnnData
        Annotated matrix; changed in place unless `copy` is set.
    use_rep : str, default="X_pca"
        The representation to embed: a key of ``obsm``, or ``"X"`` for the matrix itself.
    key_added : str, optional
        The map goes to ``obsm[key_added]``, the parameters (with a and b) to ``uns[key_added]``. By
        default they go to ``obsm["X_neumap"]`` and ``uns["neumap"]``.
    labels : str, optional
        Column of ``obs`` with targets for a supervised map; missing labels count as unknown.
    random_state : int, numpy generator or None, default=0
        Seed, as of :class:`neumap.ParametricUMAP`; 0 as in scanpy, so that results repeat.
    copy : bool, default=False
        Leave `adata` as it is, and return a copy with the map as well.
    **parameters
        Parameters of :class:`neumap.ParametricUMAP`.

    Returns
    -------
    ParametricUMAP, or (AnnData, ParametricUMAP) with ``copy=True``
        The fitted model. It embeds new cells with ``model.transform(other.obsm[use_rep])``.

    Raises
    ------
    TypeError
        If `adata` is not an AnnData, or a parameter does not exist.
    KeyError
        If the representation or the label column is missing.

    Examples
    --------
    >>> import anndata
    >>> from sklearn.datasets import load_digits
    >>> cells = anndata.AnnData(load_digits().data[:200])
    >>> model = neumap(cells, use_rep="X", n_epochs=5, random_state=0)
    >>> cells.obsm["X_neumap"].shape, cells.uns["neumap"]["params"]["n_epochs"]
    ((200, 2), 5)
    """
    check_anndata(adata, "For arrays and tables call estimator.fit_transform(X).")
    cells = adata.copy() if copy else adata
    model = ParametricUMAP(random_state=random_state, **parameters)
    embed_anndata(cells, model, use_rep=use_rep, key_added=key_added, labels=labels)
    return (cells, model) if copy else model
