"""``neumap.scanpy.neumap``: parametric UMAP as a scanpy function that works on an AnnData.

It reads the input of scanpy's neighbour graph, the principal components in ``obsm["X_pca"]``, and
writes where scanpy's plots look for a map. ``scanpy.pl.embedding(adata, basis="neumap")`` draws the
result. Scanpy itself is not required.
"""

from __future__ import annotations

from typing import Any

from neumap.data import embed_anndata
from neumap.estimators import ParametricUMAP

__all__ = ["neumap"]


def neumap(
    adata: Any,
    *,
    use_rep: str = "X_pca",
    key_added: str = "neumap",
    labels: str | None = None,
    **parameters: Any,
) -> ParametricUMAP:
    """Embed the cells of an AnnData in place.

    Parameters
    ----------
    adata : anndata.AnnData
        Annotated matrix; changed in place.
    use_rep : str, default="X_pca"
        The representation to embed: a key of ``obsm``, or ``"X"`` for the matrix itself.
    key_added : str, default="neumap"
        The map goes to ``obsm["X_" + key_added]``, the parameters to ``uns[key_added]``.
    labels : str, optional
        Column of ``obs`` with targets for a supervised map; missing labels count as unknown.
    **parameters
        Parameters of :class:`neumap.ParametricUMAP`.

    Returns
    -------
    ParametricUMAP
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
    model = ParametricUMAP(**parameters)
    embed_anndata(adata, model, use_rep=use_rep, key_added=key_added, labels=labels)
    return model
