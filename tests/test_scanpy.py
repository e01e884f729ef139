"""Published maps of cells that take new ones: projection by hand, placement, files, refusals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from neumap.archive import ArchiveError
from neumap.scanpy import Atlas, from_atlas, load_atlas, place
from neumap.scanpy import neumap as embed

anndata = pytest.importorskip("anndata")

PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS = PIXELS.astype(np.float32)
GENES = [f"gene{at}" for at in range(64)]
FAST: dict[str, Any] = {"preset": "fast", "n_epochs": 5}


def cells(rows: slice, order: Any = slice(None)) -> Any:
    var = pd.DataFrame(index=np.array(GENES)[order])
    made = anndata.AnnData(scipy.sparse.csr_matrix(PIXELS[rows][:, order]), var=var)
    made.obs_names = [f"cell{at}" for at in range(made.n_obs)]
    return made


def reference(n_cells: int = 300, centre: bool = True) -> Any:
    """Return cells as scanpy leaves them: components in varm, none of the means, a map."""
    made = cells(slice(n_cells))
    pca = PCA(10, random_state=0).fit(PIXELS[:n_cells])
    loadings = pca.components_.T.copy()
    loadings[GENES.index("gene3")] = 0.0  # not among the highly variable genes
    shift = PIXELS[:n_cells].mean(0) if centre else np.zeros(64)
    made.varm["PCs"] = loadings
    made.obsm["X_pca"] = ((PIXELS[:n_cells] - shift) @ loadings).astype(np.float32)
    made.obsm["X_umap"] = made.obsm["X_pca"][:, :2] * np.float32(0.2)
    made.uns["umap"] = {"params": {"a": 0.58, "b": 1.33}}
    made.uns["neighbors"] = {"params": {"n_neighbors": 12, "metric": "cosine"}}
    return made


@pytest.fixture(scope="module")
def known() -> Any:
    return reference()


@pytest.fixture(scope="module")
def atlas(known: Any) -> Atlas:
    return from_atlas(known, **FAST)


@pytest.mark.parametrize("centre", [True, False])
def test_a_query_is_rotated_by_the_components_and_means_of_the_reference(centre: bool) -> None:
    made = reference(centre=centre)
    atlas = from_atlas(made, preset="fast", n_epochs=0)
    assert atlas.projection is not None
    shift = PIXELS[:300].mean(0) if centre else 0.0
    expected = (PIXELS[300:340] - shift) @ np.asarray(made.varm["PCs"])
    shuffled = np.random.default_rng(0).permutation(64)
    for order in (slice(None), shuffled):
        found = atlas.projection(cells(slice(300, 340), order), None, "error")
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert "gene3" not in atlas.projection.genes


def test_placing_writes_as_scanpy_does(atlas: Atlas, known: Any, tmp_path: Path) -> None:
    query = cells(slice(300, 340))
    assert atlas.place(query) is None
    expected = atlas.model.transform(atlas.projection(query, None, "error"))
    np.testing.assert_array_equal(query.obsm["X_umap"], expected)
    params = query.uns["umap"]["params"]
    assert (params["a"], params["b"]) == (0.58, 1.33)  # of the reference
    assert (params["n_neighbors"], params["metric"], params["use_rep"]) == (12, "cosine", "X_pca")
    assert ((query.obs["neumap_confidence"] > 0) & (query.obs["neumap_confidence"] <= 1)).all()
    query.write_h5ad(tmp_path / "query.h5ad")

    other = cells(slice(300, 340))
    copied = atlas.place(other, key_added="map", confidence=False, copy=True)
    assert (list(other.obsm), list(copied.obsm), list(copied.uns)) == ([], ["map"], ["map"])
    assert "neumap_confidence" not in copied.obs
    np.testing.assert_array_equal(copied.obsm["map"], query.obsm["X_umap"])
    # A cell's place does not depend on the others.
    alone = atlas.place(cells(slice(310, 311)), copy=True)
    np.testing.assert_allclose(alone.obsm["X_umap"][0], query.obsm["X_umap"][10], atol=1e-4)
    assert list(known.obsm) == ["X_pca", "X_umap"]  # the reference stays as it is


def test_placed_cells_are_near_those_of_their_kind() -> None:
    made = reference(900)
    query = cells(slice(900, 1100))
    made.obsm["X_tsne"] = np.stack([np.cos(LABELS[:900]), np.sin(LABELS[:900])], 1) * 10
    atlas = from_atlas(made, "tsne", preset="fast")
    assert atlas.basis == "X_tsne"
    atlas.place(query)
    near = KNeighborsClassifier(15).fit(made.obsm["X_tsne"], LABELS[:900])
    assert near.score(query.obsm["X_tsne"], LABELS[900:1100]) > 0.85
    noise = anndata.AnnData(np.random.default_rng(0).uniform(0, 16, (50, 64)).astype(np.float32))
    noise.var_names = GENES
    atlas.place(noise)
    assert noise.obs["neumap_confidence"].median() < 0.02
    assert query.obs["neumap_confidence"].median() > 0.2


def test_missing_genes_raise_or_get_the_mean_of_the_reference(atlas: Atlas, known: Any) -> None:
    kept = np.setdiff1d(np.arange(64), [20, 42])
    query = cells(slice(300, 340), kept)
    with pytest.raises(ValueError, match=r"lacks 2 of the 57 genes .*gene20.*missing='mean'"):
        atlas.place(query)
    loadings = np.asarray(known.varm["PCs"]) ** 2
    share = f"{loadings[[20, 42]].sum() / loadings.sum():.0%}"
    with pytest.warns(UserWarning, match=f"query lacks 2 of the 57 genes .* with {share}"):
        atlas.place(query, missing="mean")
    filled = cells(slice(300, 340))
    dense = filled.X.toarray()
    dense[:, [20, 42]] = PIXELS[:300, [20, 42]].mean(0)
    filled.X = dense
    atlas.place(filled)
    np.testing.assert_allclose(query.obsm["X_umap"], filled.obsm["X_umap"], atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atlas.place(cells(slice(300, 340), np.setdiff1d(np.arange(64), [3])))  # has no loading
    query.var_names = [f"ENSG{at}" for at in range(62)]
    with pytest.raises(ValueError, match="the same kind of var_names"):
        atlas.place(query, missing="mean")


def test_a_representation_comes_with_the_query(known: Any) -> None:
    made = known.copy()
    made.obsm["X_scVI"] = made.obsm["X_pca"][:, :5]
    atlas = from_atlas(made, use_rep="X_scVI", **FAST)
    assert atlas.projection is None
    query = cells(slice(300, 320))
    with pytest.raises(KeyError, match=r"'X_scVI', in obsm, got \[\]"):
        atlas.place(query)
    query.obsm["X_scVI"] = made.obsm["X_scVI"][:20]
    with pytest.raises(ValueError, match="layer must be None for an atlas of 'X_scVI'"):
        atlas.place(query, layer="counts")
    with pytest.raises(ValueError, match="missing must be 'error' for an atlas of 'X_scVI'"):
        atlas.place(query, missing="mean")
    atlas.place(query)
    np.testing.assert_allclose(
        query.obsm["X_umap"], atlas.model.transform(made.obsm["X_scVI"][:20]), atol=1e-5
    )


def test_genes_themselves_are_matched_by_name(known: Any) -> None:
    made = known.copy()
    del made.obsm["X_pca"]
    atlas = from_atlas(made, use_rep=None, **FAST)
    assert atlas.use_rep == "X"
    straight, shuffled = cells(slice(300, 320)), cells(slice(300, 320), np.arange(64)[::-1])
    atlas.place(straight)
    atlas.place(shuffled)
    np.testing.assert_array_equal(straight.obsm["X_umap"], shuffled.obsm["X_umap"])
    expected = atlas.model.transform(PIXELS[300:320])
    np.testing.assert_allclose(straight.obsm["X_umap"], expected, atol=1e-5)


def test_place_learns_the_network_of_a_reference_first(known: Any, monkeypatch: Any) -> None:
    import neumap.scanpy.atlas as room

    learn = from_atlas
    monkeypatch.setattr(room, "from_atlas", lambda adata: learn(adata, **FAST))
    query, again = cells(slice(300, 320)), cells(slice(300, 320))
    place(known, query)
    place(learn(known, **FAST), again)  # seed 0 repeats
    np.testing.assert_array_equal(query.obsm["X_umap"], again.obsm["X_umap"])


def test_an_atlas_is_saved_and_read(atlas: Atlas, known: Any, tmp_path: Path) -> None:
    assert atlas.save(tmp_path / "atlas") == tmp_path / "atlas"
    query, again = cells(slice(300, 320)), cells(slice(300, 320))
    loaded = load_atlas(tmp_path / "atlas")
    atlas.place(query)
    loaded.place(again)
    np.testing.assert_array_equal(again.obsm["X_umap"], query.obsm["X_umap"])
    np.testing.assert_array_equal(again.obs["neumap_confidence"], query.obs["neumap_confidence"])
    assert (loaded.basis, loaded.use_rep) == ("X_umap", "X_pca")

    atlas.save(tmp_path / "small", keep_data=False)
    small = load_atlas(tmp_path / "small")
    with pytest.raises(ValueError, match="needs the training rows"):
        small.place(again)
    small.place(again, confidence=False)
    file = tmp_path / "small" / "genes.npz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ArchiveError, match=r"genes\.npz must be a file of a saved atlas"):
        load_atlas(tmp_path / "small")
    np.savez(file, basis="X_umap", use_rep="X", genes=GENES, means=np.ones(3), offset=np.ones(64))
    with pytest.raises(ArchiveError, match=r"must have a mean and a loading for each gene"):
        load_atlas(tmp_path / "small")


def test_layers_hold_the_genes_where_they_are_asked_for(known: Any) -> None:
    made = known.copy()
    made.layers["lognorm"] = made.X.copy()
    made.X = made.X * 100.0  # counts, say
    with pytest.raises(ValueError, match=r"adata_ref\.X must be the matrix that varm\['PCs'\] was"):
        from_atlas(made, **FAST)
    atlas = from_atlas(made, layer="lognorm", **FAST)
    query = cells(slice(300, 320))
    query.layers["lognorm"], query.X = query.X.copy(), query.X * 100.0
    plain = cells(slice(300, 320))
    atlas.place(query, layer="lognorm")
    atlas.place(plain)
    np.testing.assert_array_equal(query.obsm["X_umap"], plain.obsm["X_umap"])


def without_components(adata: Any) -> Any:
    made = adata.copy()
    del made.varm["PCs"]
    return made


REFUSED: dict[str, tuple[Callable[[Any, Atlas], Any], type[Exception], str]] = {
    "an array": (lambda ref, at: from_atlas(PIXELS), TypeError, "adata_ref must be an anndata"),
    "a query that is none": (lambda ref, at: at.place(PIXELS), TypeError, "query must be an annda"),
    "no such map": (lambda ref, at: from_atlas(ref, "X_tsne"), KeyError, "basis must be a key of"),
    "no such input": (
        lambda ref, at: from_atlas(ref, use_rep="X_scVI"),
        KeyError,
        r"one of \['X_pca', 'X_umap'\], got 'X_scVI'",
    ),
    "no such layer": (
        lambda ref, at: from_atlas(ref, layer="counts"),
        KeyError,
        r"layer must be one of \[\] or None for X, got 'counts'",
    ),
    "a layer without use": (
        lambda ref, at: from_atlas(ref, use_rep="X_umap", layer="counts"),
        ValueError,
        "layer must be None for use_rep='X_umap'",
    ),
    "another word": (
        lambda ref, at: at.place(cells(slice(300, 310)), missing="zero"),
        ValueError,
        "missing must be 'error' or 'mean', got 'zero'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_placed_says_so(name: str, known: Any, atlas: Atlas) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call(known, atlas)


def test_a_reference_without_components_warns(known: Any) -> None:
    with pytest.warns(UserWarning, match=r"no varm\['PCs'\]"):
        atlas = from_atlas(without_components(known), **FAST)
    assert atlas.projection is None


def test_repeated_gene_names_are_refused(atlas: Atlas) -> None:
    query = cells(slice(300, 310))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's own
        query.var_names = ["gene0", *GENES[:63]]
    with pytest.raises(ValueError, match=r"var_names of query must be unique, got \['gene0'\]"):
        atlas.place(query)


@pytest.mark.integration("scanpy")
def test_scanpys_own_components_are_understood(tmp_path: Path, package: Any) -> None:
    made, query = cells(slice(300)), cells(slice(300, 340))
    for each in (made, query):
        package.pp.normalize_total(each, target_sum=100)
        package.pp.log1p(each)
    package.pp.pca(made, n_comps=12)
    made.obsm["X_umap"] = made.obsm["X_pca"][:, :2]
    made.write_h5ad(tmp_path / "published.h5ad")
    atlas = from_atlas(anndata.read_h5ad(tmp_path / "published.h5ad"), **FAST)
    # As scanpy's pca: the reference's mean is subtracted, then the components are applied.
    means = np.asarray(made.X.mean(0)).ravel()
    expected = (query.X.toarray() - means) @ made.varm["PCs"]
    np.testing.assert_allclose(atlas.projection(query, None, "error"), expected, atol=1e-4)
    atlas.place(query)
    assert query.obsm["X_umap"].shape == (40, 2)


@pytest.mark.integration("scanpy")
@pytest.mark.filterwarnings("ignore:The set_bad function:PendingDeprecationWarning")  # by scanpy
def test_scanpy_draws_the_map(package: Any) -> None:
    made = cells(slice(60))
    embed(made, use_rep="X", **FAST)
    axes = package.pl.embedding(made, basis="neumap", show=False)
    drawn = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(drawn, made.obsm["X_neumap"], rtol=1e-5)


# ------------------------------------------------------------------ the page


def test_examples_of_the_page_run(run_page: Callable[[str], int]) -> None:
    assert run_page("single_cells.md") > 0
