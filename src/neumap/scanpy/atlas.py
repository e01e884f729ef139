"""A published map of cells that takes new ones: the network behind it, and how to place a query.

A reference AnnData has a map in ``obsm`` and what the map was computed from. :func:`from_atlas`
learns the network from the second to the first. :func:`place` brings the genes of new cells into
the same coordinates, places the cells, and writes the result where scanpy looks for it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from neumap._atomic import replacing
from neumap._random import RandomState
from neumap._warnings import warn_user
from neumap.archive import ArchiveError
from neumap.data.anndata import check_anndata, storable_params
from neumap.estimators import ParametricUMAP, load_ParametricUMAP
from neumap.scanpy.projection import Missing, Projection, loadings_key

__all__ = ["Atlas", "from_atlas", "load_atlas", "place"]

READ_CELLS = "Read the cells first, for example with anndata.read_h5ad(file)."
CONFIDENCE = "neumap_confidence"
MODEL_FILE, GENES_FILE = "model.neumap", "genes.npz"


@dataclass(frozen=True)
class Atlas:
    """A map of reference cells that takes new cells; :func:`from_atlas` makes one.

    Attributes
    ----------
    model : ParametricUMAP
        From coordinates of cells to positions. ``model.report_["landmark_drift"]`` says how far its
        positions of the reference cells are from the published ones.
    basis : str
        Key of the map in ``obsm``.
    use_rep : str
        What the map was computed from: a key of ``obsm``, or ``"X"``.
    projection : Projection or None
        From genes to these coordinates; None for a representation that a query brings along.
    """

    model: ParametricUMAP
    basis: str
    use_rep: str
    projection: Projection | None

    @overload
    def place(
        self,
        query: Any,
        *,
        key_added: str | None = ...,
        layer: str | None = ...,
        missing: Missing = ...,
        confidence: bool = ...,
        copy: Literal[False] = ...,
    ) -> None: ...
    @overload
    def place(
        self,
        query: Any,
        *,
        key_added: str | None = ...,
        layer: str | None = ...,
        missing: Missing = ...,
        confidence: bool = ...,
        copy: Literal[True],
    ) -> Any: ...
    def place(
        self,
        query: Any,
        *,
        key_added: str | None = None,
        layer: str | None = None,
        missing: Missing = "error",
        confidence: bool = True,
        copy: bool = False,
    ) -> Any:
        """Place new cells on the map.

        Parameters
        ----------
        query : anndata.AnnData
            New cells, processed as those of the reference were (normalised, and scaled if they
            were); changed in place unless `copy` is set.
        key_added : str, optional
            The positions go to ``obsm[key_added]`` and the parameters to ``uns[key_added]``. By
            default they go where the reference has them, such as ``obsm["X_umap"]`` and
            ``uns["umap"]``, so that ``scanpy.pl.umap`` draws the query.
        layer : str, optional
            Layer of the query with its genes; by default ``X``.
        missing : {"error", "mean"}, default="error"
            What to do if genes of the reference are missing: raise, or let the reference's mean
            stand for each of them, with a warning that says how many there are and what share of
            the principal components' loadings they have.
        confidence : bool, default=True
            Write ``obs["neumap_confidence"]``, the score of
            :meth:`neumap.ParametricUMAP.confidence`: below 0.05 for cells unlike those of the
            reference. It takes a search among the reference cells.
        copy : bool, default=False
            Return a changed copy and leave `query` as it is.

        Returns
        -------
        None, or AnnData with ``copy=True``
            A cell's position is the same whatever cells come with it.

        Raises
        ------
        TypeError
            If `query` is not an AnnData.
        KeyError
            If it lacks the representation or the layer.
        ValueError
            If it lacks genes, its representation has another width, or `layer` or `missing` are
            given for an atlas that is not computed from genes.
        """
        check_anndata(query, READ_CELLS, "query")
        if missing not in ("error", "mean"):
            raise ValueError(f"missing must be 'error' or 'mean', got {missing!r}. Change missing.")
        coordinates = self._coordinates(query, layer, missing)
        positions = self.model.transform(coordinates)
        doubt = self.model.confidence(coordinates).score if confidence else None
        cells = query.copy() if copy else query
        cells.obsm[self.basis if key_added is None else key_added] = positions
        key = self.basis.removeprefix("X_") if key_added is None else key_added
        params = {"use_rep": self.use_rep, **storable_params(self.model), "method": "neumap"}
        cells.uns[key] = {"params": params}
        if doubt is not None:
            cells.obs[CONFIDENCE] = doubt
        return cells if copy else None

    def _coordinates(self, query: Any, layer: str | None, missing: Missing) -> Any:
        if self.projection is not None:
            return self.projection(query, layer, missing)
        if missing == "mean":
            raise ValueError(
                f"missing must be 'error' for an atlas of {self.use_rep!r}, which is not computed "
                "from genes here, got 'mean'. Leave missing out."
            )
        if layer is not None:
            raise ValueError(
                f"layer must be None for an atlas of {self.use_rep!r}, which is not computed from "
                f"genes here, got {layer!r}. Leave layer out."
            )
        if self.use_rep not in query.obsm:
            raise KeyError(
                f"query must have the representation of the reference, {self.use_rep!r}, in obsm, "
                f"got {sorted(query.obsm)}. Compute it with the model that made it for the "
                "reference, such as that of scvi-tools."
            )
        return np.asarray(query.obsm[self.use_rep])

    def save(self, folder: str | os.PathLike[str], *, keep_data: bool = True) -> Path:
        """Write the atlas to a folder; :func:`load_atlas` reads it. No code is stored.

        Parameters
        ----------
        folder : path-like
            Gets the files ``model.neumap`` and, with a projection, ``genes.npz``.
        keep_data : bool, default=True
            Whether the coordinates of the reference cells are stored, which ``confidence`` needs.

        Returns
        -------
        Path
            The folder.
        """
        target = Path(folder)
        with replacing(target / GENES_FILE) as draft, draft.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self._arrays())
        self.model.save(target / MODEL_FILE, keep_data=keep_data)
        return target

    def _arrays(self) -> dict[str, NDArray[Any]]:
        found = {"basis": np.array(self.basis), "use_rep": np.array(self.use_rep)}
        if self.projection is None:
            return found
        parts = {
            name: np.asarray(value)
            for name, value in vars(self.projection).items()
            if value is not None
        }
        return {**found, **parts}


def load_atlas(folder: str | os.PathLike[str]) -> Atlas:
    """Read what :meth:`Atlas.save` wrote.

    Parameters
    ----------
    folder : path-like
        The folder.

    Returns
    -------
    Atlas

    Raises
    ------
    ArchiveError
        If a file is missing, damaged or of another kind. It is a ``ValueError``.
    """
    path = Path(folder) / GENES_FILE
    model = load_ParametricUMAP(Path(folder) / MODEL_FILE)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        basis, use_rep = str(arrays["basis"]), str(arrays["use_rep"])
        projection = _read_projection(arrays) if "genes" in arrays else None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArchiveError(
            f"{path} must be a file of a saved atlas, got one that cannot be read ({error}). Save "
            "the atlas again."
        ) from error
    if projection is not None and not _is_whole(projection):
        raise ArchiveError(
            f"{path} must have a mean and a loading for each gene, got arrays of other lengths. "
            "Save the atlas again."
        )
    return Atlas(model, basis, use_rep, projection)


def _read_projection(arrays: Mapping[str, NDArray[Any]]) -> Projection:
    parts = (arrays["genes"], arrays.get("loadings"), arrays["means"], arrays["offset"])
    return Projection(*parts)


def _is_whole(projection: Projection) -> bool:
    n_genes, loadings = len(projection.genes), projection.loadings
    wide = n_genes if loadings is None else loadings.shape[-1]
    has_loadings = loadings is None or loadings.shape == (n_genes, wide)
    return has_loadings and (projection.means.shape, projection.offset.shape) == (
        (n_genes,),
        (wide,),
    )


def from_atlas(
    adata_ref: Any,
    basis: str = "X_umap",
    use_rep: str | None = "X_pca",
    *,
    layer: str | None = None,
    random_state: RandomState = 0,
    **parameters: Any,
) -> Atlas:
    """Learn the network of a map that was published as an AnnData.

    Parameters
    ----------
    adata_ref : anndata.AnnData
        Reference cells with the map; it stays as it is.
    basis : str, default="X_umap"
        Key of the map in ``obsm``, with or without ``"X_"``. Any map will do, of UMAP or not. Cells
        with NaN have no position.
    use_rep : str or None, default="X_pca"
        What the map was computed from: ``"X_pca"`` (a query is rotated by the reference's
        ``varm["PCs"]`` and means, and its genes are matched by name), another key of ``obsm`` such
        as ``"X_scVI"`` (a query brings it along), or ``"X"`` for the genes themselves. None takes
        ``"X_pca"`` if there is one, otherwise ``"X"``.
    layer : str, optional
        Layer of the reference that the principal components were computed from; by default ``X``.
    random_state : int, numpy generator or None, default=0
        Seed of the training.
    **parameters
        Parameters of :class:`neumap.ParametricUMAP`, such as `preset`. By default a, b, the number
        of neighbours and the metric are those in ``uns``, where scanpy noted them.

    Returns
    -------
    Atlas
        ``atlas.place(query)`` places new cells.

    Raises
    ------
    TypeError
        If `adata_ref` is not an AnnData.
    KeyError
        If it lacks the map, the representation or the layer.
    ValueError
        If its matrix is not the one that the principal components were computed from.

    Examples
    --------
    >>> import anndata
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> pixels = load_digits().data
    >>> pca = PCA(20, random_state=0).fit(pixels[:300])
    >>> reference = anndata.AnnData(pixels[:300])
    >>> reference.obsm["X_pca"] = pca.transform(pixels[:300])
    >>> reference.varm["PCs"] = pca.components_.T
    >>> reference.obsm["X_umap"] = reference.obsm["X_pca"][:, :2]  # some map
    >>> atlas = from_atlas(reference, preset="fast", n_epochs=5)
    >>> query = anndata.AnnData(pixels[300:320])
    >>> atlas.place(query)
    >>> query.obsm["X_umap"].shape, "neumap_confidence" in query.obs
    ((20, 2), True)
    """
    check_anndata(adata_ref, READ_CELLS, "adata_ref")
    key = _map_key(adata_ref, basis)
    rep = _representation(adata_ref, use_rep)
    projection = None
    if rep == "X" or loadings_key(adata_ref, rep) is not None:
        projection = Projection.of(adata_ref, rep, layer)
    elif layer is not None:
        raise ValueError(
            f"layer must be None for use_rep={rep!r}, which is not computed from genes here, got "
            f"{layer!r}. Leave layer out."
        )
    if rep == "X" and projection is not None:
        rows: Any = projection(adata_ref, layer, "error")
    else:
        rows = np.asarray(adata_ref.obsm[rep])
    model = ParametricUMAP.from_embedding(
        rows,
        np.asarray(adata_ref.obsm[key]),
        random_state=random_state,
        **{**_settings_of(adata_ref, key), **parameters},
    )
    return Atlas(model, key, rep, projection)


def _map_key(adata: Any, basis: str) -> str:
    for key in (basis, f"X_{basis}"):
        if key in adata.obsm:
            return key
    raise KeyError(
        f"basis must be a key of obsm, one of {sorted(adata.obsm)}, got {basis!r}. Pass the key "
        "of the map."
    )


def _representation(adata: Any, use_rep: str | None) -> str:
    if use_rep is None:
        return "X_pca" if "X_pca" in adata.obsm else "X"
    if use_rep == "X" or use_rep in adata.obsm:
        if use_rep == "X_pca" and loadings_key(adata, use_rep) is None:
            warn_user(
                "adata_ref has no varm['PCs'], so the genes of new cells cannot be rotated. A "
                "query must bring obsm['X_pca'] in the coordinates of the reference."
            )
        return use_rep
    raise KeyError(
        f"use_rep must be 'X' or a key of obsm, one of {sorted(adata.obsm)}, got {use_rep!r}. Pass "
        "what the map was computed from."
    )


def _settings_of(adata: Any, key: str) -> dict[str, Any]:
    """Return what scanpy noted of the map and of the neighbour graph."""
    of_map = _params(adata.uns, key.removeprefix("X_"))
    of_graph = _params(adata.uns, "neighbors")
    found: dict[str, Any] = {}
    if "a" in of_map and "b" in of_map:
        found |= {name: float(of_map[name]) for name in ("a", "b")}
    if "n_neighbors" in of_graph:
        found["n_neighbors"] = int(of_graph["n_neighbors"])
    if isinstance(of_graph.get("metric"), str):
        found["metric"] = of_graph["metric"]
    return found


def _params(uns: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    noted = uns.get(key)
    params = noted.get("params") if isinstance(noted, Mapping) else None
    return params if isinstance(params, Mapping) else {}


def place(atlas: Any, query: Any, **arguments: Any) -> Any:
    """Place new cells on the map of an atlas; see :meth:`Atlas.place`.

    Parameters
    ----------
    atlas : Atlas or anndata.AnnData
        An AnnData is a reference, whose network is learned first as by :func:`from_atlas`. To place
        several queries, learn it once.
    query : anndata.AnnData
        New cells.
    **arguments
        Those of :meth:`Atlas.place`, such as `key_added`, `missing` and `copy`.

    Returns
    -------
    None, or AnnData with ``copy=True``
    """
    known = atlas if isinstance(atlas, Atlas) else from_atlas(atlas)
    return known.place(query, **arguments)
