"""What umap-learn's own tests say of an estimator, where neumap once differed or still does.

Each difference that stays is a row of the table "Deliberate differences" in
``docs/from_umap_learn.md``.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.datasets import load_iris
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import FeatureUnion

import neumap
from neumap import UMAP, ParametricUMAP

PAGE = Path(__file__).parents[2] / "docs" / "from_umap_learn.md"
BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
IRIS = load_iris()
CHOSEN = np.random.default_rng(42).random(150) < 0.75
SOME, OTHERS = IRIS.data[CHOSEN], IRIS.data[~CHOSEN]


def make(kind: type[UMAP], **parameters: Any) -> Any:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    settings = {"n_neighbors": 10, "min_dist": 0.01, "random_state": 42, "n_epochs": 20}
    return kind(**{**settings, **preset, **parameters})


def trust(rows: Any, positions: Any) -> float:
    return float(trustworthiness(rows, positions, n_neighbors=10))


# ------------------------------------------------------------------ the same


@pytest.mark.parametrize("seed", [42, 0, 1])
def test_new_rows_are_placed_by_their_distances(seed: int) -> None:
    model = make(UMAP, metric="precomputed", n_epochs=100, random_state=seed)
    model.fit(squareform(pdist(SOME)))
    assert trust(OTHERS, model.transform(cdist(OTHERS, SOME))) >= 0.85


@pytest.mark.parametrize("seed", [42, 0, 1])
def test_a_random_start_ends_near_the_neighbours(seed: int) -> None:
    rows = np.random.default_rng(0).uniform(size=(50, 5))
    short = make(UMAP, init="random", random_state=seed, n_epochs=100).fit_transform(rows)
    assert trust(rows, short) >= 0.75
    usual = make(UMAP, init="random", random_state=seed, n_epochs=None).fit_transform(rows)
    assert trust(rows, usual) >= 0.8


@BOTH
def test_more_neighbours_than_rows_is_a_warning(kind: type[UMAP]) -> None:
    with pytest.warns(UserWarning, match="n_neighbors should be at most the number of rows, 38"):
        placed = make(kind, n_neighbors=55, n_epochs=5).fit_transform(IRIS.data[::4])
    assert np.isfinite(placed).all()


def test_continued_training_on_landmarks_has_finite_losses() -> None:
    model = make(ParametricUMAP, n_epochs=5).fit(SOME)
    model.add_landmarks(SOME, sample_pct=0.2)
    model.fit(OTHERS)
    assert {"loss", "umap_loss", "landmark_loss"} <= set(model.history_)
    n_reports = model.loss_report_frequency  # of the second fit
    assert all(np.isfinite(curve[-n_reports:]).all() for curve in model.history_.values())
    assert np.isfinite(model.history_["loss"]).all()
    assert np.isfinite(model.transform(IRIS.data)).all()


@BOTH
def test_models_of_one_table_compose(kind: type[UMAP]) -> None:
    one = make(kind, n_epochs=60).fit(IRIS.data[:, :2])
    other = make(kind, n_epochs=60).fit(IRIS.data[:, 2:])
    assert trust(IRIS.data, (one + other).embedding_) >= 0.82
    assert trust(IRIS.data, (one * other).embedding_) >= 0.80


# ------------------------------------------------------------------ otherwise, and why


def test_maps_are_aligned_by_landmarks() -> None:
    assert not hasattr(neumap, "AlignedUMAP")
    earlier = make(ParametricUMAP, n_epochs=60).fit(SOME)
    later = make(ParametricUMAP, n_epochs=60)
    both = np.concatenate([SOME, OTHERS])
    kept = np.full((150, 2), np.nan, dtype=np.float32)
    kept[: len(SOME)] = earlier.embedding_
    later.fit(both, landmark_positions=kept)
    extent = earlier.embedding_.std()
    moved = np.linalg.norm(later.embedding_[: len(SOME)] - earlier.embedding_, axis=1)
    assert np.median(moved) < 0.5 * extent


@BOTH
def test_density_maps_place_new_rows(kind: type[UMAP]) -> None:
    placed = make(kind, densmap=True).fit(SOME).transform(OTHERS)
    assert placed.shape == (len(OTHERS), 2)
    assert np.isfinite(placed).all()


def test_the_trained_network_is_encoder_() -> None:
    model = make(ParametricUMAP, n_epochs=2).fit(SOME)
    assert not hasattr(model, "parametric_model")
    assert sum(p.numel() for p in model.encoder_.parameters()) > 1000


@BOTH
def test_maps_are_flat(kind: type[UMAP]) -> None:
    with pytest.raises(ValueError, match=r"output_metric must be 'euclidean'.* got 'haversine'"):
        make(kind, output_metric="haversine").fit(SOME)


@BOTH
def test_given_neighbours_need_no_index(kind: type[UMAP]) -> None:
    distances, indices = NearestNeighbors(n_neighbors=10).fit(SOME).kneighbors(SOME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(kind, precomputed_knn=(indices, distances)).fit(SOME)
        assert np.isfinite(model.transform(OTHERS)).all()


@BOTH
def test_one_row_is_no_map(kind: type[UMAP]) -> None:
    with pytest.raises(ValueError, match=r"1 sample.* a minimum of 2 is required"):
        make(kind).fit([[1.0, 1.0, 1.0, 1.0]])


@pytest.mark.filterwarnings("ignore:n_neighbors should be at most")
@BOTH
def test_few_distinct_rows_are_all_neighbours(kind: type[UMAP]) -> None:
    rows = np.repeat(np.arange(4.0)[:, None] * np.ones((1, 3)), [10, 20, 5, 15], axis=0)
    model = make(kind, unique=True, n_neighbors=6).fit(rows)
    assert model.graph_.shape == (4, 4)
    assert model._n_neighbors == 4  # a row is one of its own neighbours; umap-learn says 3
    assert len(np.unique(model.embedding_, axis=0)) == 4


def test_any_map_without_a_decoder_can_be_inverted() -> None:
    rows = np.abs(SOME)
    for metric, data in (("dice", rows > 3), ("euclidean", scipy.sparse.csr_matrix(rows))):
        model = make(UMAP, metric=metric, n_components=3, n_epochs=5).fit(data)
        back = model.inverse_transform(model.embedding_[:7])
        assert back.shape == (7, 4)
        dense = data.toarray() if scipy.sparse.issparse(data) else data
        # A mean of training rows lies between them.
        assert (back >= dense.min(axis=0) - 1e-5).all()
        assert (back <= dense.max(axis=0) + 1e-5).all()


@pytest.mark.parametrize("init", ["random", "spectral", IRIS.data[:, :2]])
def test_an_encoder_starts_from_its_weights(init: Any) -> None:
    with pytest.raises(ValueError, match="init must be 'auto' for an encoder"):
        make(ParametricUMAP, init=init).fit(IRIS.data)
    free = make(ParametricUMAP, init=init, parametric_embedding=False, n_epochs=100)
    assert trust(IRIS.data, free.fit_transform(IRIS.data)) >= 0.85


@BOTH
def test_columns_are_named_after_the_class(kind: type[UMAP]) -> None:
    union = FeatureUnion([("one", make(kind, n_epochs=2)), ("two", make(kind, n_epochs=2))])
    union.fit(SOME)
    stem = kind.__name__.lower()
    names = [f"{part}__{stem}{number}" for part in ("one", "two") for number in (0, 1)]
    assert union.get_feature_names_out().tolist() == names


def test_disconnected_rows_have_places_by_an_encoder() -> None:
    rows = np.concatenate([SOME, [[90.0, 90.0, 90.0, 90.0]]])
    model = make(ParametricUMAP, disconnection_distance=5.0)
    with pytest.warns(UserWarning, match="got 1 of 118 rows without one"):
        placed = model.fit_transform(rows)
    assert np.isfinite(placed).all()
    assert model.graph_[len(SOME)].nnz == 0


@BOTH
@pytest.mark.parametrize("n_rows", [1, 5])
def test_rows_with_nothing_in_common_are_cut_off(kind: type[UMAP], n_rows: int) -> None:
    """Rows without a word in common with any other: hellinger distance 1 to all."""
    generator = np.random.default_rng(n_rows)
    for _ in range(5):
        joined = generator.random((10, 30)) < 0.4
        joined[:, 0] = True
        rows = scipy.linalg.block_diag(joined, np.eye(n_rows)).astype(bool)
        model = make(kind, n_neighbors=3, metric="hellinger", n_epochs=2)
        with pytest.warns(UserWarning, match=f"must have a neighbour.* got {n_rows} of "):
            model.fit(rows)
        assert (np.diff(model.graph_.indptr) == 0).nonzero()[0].tolist() == [
            *range(10, 10 + n_rows)
        ]


def test_positions_of_another_dtype_serve() -> None:
    model = make(UMAP).fit(SOME)
    before = model.transform(OTHERS)
    model.embedding_ = model.embedding_.astype(np.float64)
    after = model.transform(OTHERS)
    assert after.dtype == np.float32
    np.testing.assert_array_equal(after, before)


def test_labels_move_an_encoder_through_a_classifier() -> None:
    def agreement(model: UMAP) -> float:
        """Share of the ten nearest in the map that have the label of the row."""
        placed = model.fit_transform(IRIS.data, IRIS.target)
        near = NearestNeighbors(n_neighbors=10).fit(placed).kneighbors(return_distance=False)
        return float(np.mean(IRIS.target[near] == IRIS.target[:, None]))

    assert agreement(make(UMAP, n_epochs=100)) >= 0.97
    classified = make(ParametricUMAP, classifier_loss_weight=1.0, n_epochs=None)
    assert agreement(classified) >= 0.95
    assert np.mean(classified.predict(IRIS.data) == IRIS.target) >= 0.95


# From the first cell of each row of the page to the test that shows it.
SHOWN_BY = {
    "`AlignedUMAP`": ("test_maps_are_aligned_by_landmarks"),
    "`transform` of a densMAP raises": ("test_density_maps_place_new_rows"),
    "`parametric_model`, a Keras model": ("test_the_trained_network_is_encoder_"),
    '`output_metric="haversine"` and others': ("test_maps_are_flat"),
    "`precomputed_knn` without a search index warns, and `transform` raises": (
        "test_given_neighbours_need_no_index"
    ),
    "a single row can be fitted": ("test_one_row_is_no_map"),
    "with `unique=True`, `n_neighbors` becomes the number of distinct rows less one": (
        "test_few_distinct_rows_are_all_neighbours"
    ),
    "`inverse_transform` raises for sparse rows and for metrics without a gradient": (
        "test_any_map_without_a_decoder_can_be_inverted"
    ),
    "`init` of `ParametricUMAP` is ignored": ("test_an_encoder_starts_from_its_weights"),
    "columns are named `umap0`, `umap1` for a subclass, too": (
        "test_columns_are_named_after_the_class"
    ),
    "rows without neighbours get NaN, from a network as well": (
        "test_disconnected_rows_have_places_by_an_encoder"
    ),
    '"A few of your vertices were disconnected" and other words of warnings': (
        "test_rows_with_nothing_in_common_are_cut_off"
    ),
    "a network learns from rows with missing values, and its weights become NaN": (
        "test_rows_with_missing_values_are_refused_by_a_network"
    ),
    "labels act on the graph alone": ("test_labels_move_an_encoder_through_a_classifier"),
    "an epoch samples edges one by one": ("test_a_random_start_ends_near_the_neighbours"),
}


def test_rows_with_missing_values_are_refused_by_a_network() -> None:
    def by_the_first(a: NDArray[Any], b: NDArray[Any]) -> float:
        return float(abs(a[0] - b[0]))

    rows = np.arange(100.0).reshape(25, 4)
    rows[3, 1] = np.nan
    model = ParametricUMAP(metric=by_the_first, n_neighbors=5)
    with pytest.raises(ValueError, match="X must hold finite values where this encoder learns"):
        model.fit(rows, ensure_all_finite="allow-nan")
    free = UMAP(metric=by_the_first, n_neighbors=5).fit(rows, ensure_all_finite="allow-nan")
    assert np.isfinite(free.embedding_).all()


def test_every_difference_is_on_the_page_and_has_a_test() -> None:
    section = PAGE.read_text("utf-8").split("\n## Deliberate differences")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[1:]] == list(SHOWN_BY)
    here = Path(__file__).read_text("utf-8")
    assert all(f"def {test}(" in here for test in SHOWN_BY.values())
