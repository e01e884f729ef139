"""Attributes that programs for umap-learn read of a fitted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neumap import UMAP, ParametricUMAP, load
from neumap.neighbors import find_neighbors
from neumap.similarity import find_ab

BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
NAMES = ["_a", "_b", "_n_neighbors", "_small_data", "_knn_indices", "_knn_dists"]
NAMES += ["_knn_search_index", "_history"]


def fitted(kind: Any, **parameters: Any) -> Any:
    return kind(**{"n_neighbors": 7, "n_epochs": 2, "random_state": 1000, **parameters}).fit(X)


@BOTH
def test_they_hold_what_umap_learn_keeps_there(kind: Any) -> None:
    model = fitted(kind, metric="cosine", min_dist=0.3)
    truth = find_neighbors(X, 7, metric="cosine")
    np.testing.assert_array_equal(model._knn_indices, truth.indices)
    np.testing.assert_array_equal(model._knn_dists, truth.distances)
    assert (model._a, model._b) == pytest.approx(find_ab(1.0, 0.3))
    assert (model._n_neighbors, model._small_data, model._metric_kwds) == (7, True, {})
    assert model._history is model.history_
    indices, distances = model._knn_search_index.query(X[:4], k=9)
    assert indices.shape == distances.shape == (4, 9)
    np.testing.assert_array_equal(indices[:, 0], np.arange(4))
    np.testing.assert_array_equal(model._raw_data, X)
    assert model.embedding_.shape == (60, 2)
    assert model.graph_.shape == (60, 60)


@pytest.mark.slow  # numba compiles the descent
@pytest.mark.reference
def test_umap_learn_has_them_in_the_same_form() -> None:
    reference = pytest.importorskip("umap").UMAP
    # With few rows umap-learn keeps no neighbours unless it searched for them.
    searched = {"force_approximation_algorithm": True}
    theirs = fitted(reference, n_jobs=1, **searched)
    ours = fitted(UMAP, **searched)
    assert ours._knn_indices.shape == theirs._knn_indices.shape
    np.testing.assert_array_equal(ours._knn_indices, theirs._knn_indices)
    np.testing.assert_allclose(ours._knn_dists, theirs._knn_dists, atol=1e-4)
    assert (ours._a, ours._b) == pytest.approx((theirs._a, theirs._b), abs=1e-4)
    for name in ("_n_neighbors", "_small_data", "_metric_kwds"):
        assert getattr(ours, name) == getattr(theirs, name)


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_there_are_none_before_a_fit(kind: Any, name: str) -> None:
    assert not hasattr(kind(), name)


def test_neighbours_are_searched_for_once_and_again_after_a_fit(monkeypatch: Any) -> None:
    from neumap.estimators.new_rows import training_rows as queries

    searches = []
    search = queries.training_neighbors
    monkeypatch.setattr(
        queries, "training_neighbors", lambda *args: (searches.append(1), search(*args))[1]
    )
    model = fitted(UMAP)
    for _ in range(2):
        assert model._knn_indices.shape == model._knn_dists.shape == (60, 7)
    assert len(searches) == 1
    assert model.fit(X[:40])._knn_indices.shape == (40, 7)
    assert len(searches) == 2


def test_neighbours_given_by_the_user_are_theirs() -> None:
    found = find_neighbors(X, 9, metric="manhattan")
    model = fitted(UMAP, precomputed_knn=(found.indices, found.distances))
    np.testing.assert_array_equal(model._knn_indices, found.indices[:, :7])


def test_a_model_without_training_rows_has_no_neighbours(tmp_path: Path) -> None:
    again = load(fitted(ParametricUMAP).save(tmp_path / "model.neumap"))
    assert not hasattr(again, "_knn_indices")
    assert not hasattr(again, "_knn_search_index")
    assert again._n_neighbors == 7


def test_distances_passed_with_rows_are_not_kept() -> None:
    apart = np.linalg.norm(X[:, None] - X, axis=2)
    model = ParametricUMAP(n_neighbors=7, n_epochs=2, metric="precomputed")
    assert not hasattr(model.fit(X, precomputed_distances=apart), "_knn_indices")
    own = UMAP(n_neighbors=7, n_epochs=2, metric="precomputed").fit(apart)
    np.testing.assert_array_equal(own._knn_indices, find_neighbors(X, 7).indices)
