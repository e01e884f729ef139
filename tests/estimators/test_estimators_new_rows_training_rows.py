"""The search among the training rows is built once per fit and kept with them."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from neumap import UMAP, ParametricUMAP
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.neighbors import HnswBackend, NeighborIndex, NeighborSearch, query_neighbors

X = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
NEW = X[:7] + np.float32(0.2)
# An approximate search however few rows there are, since only that builds something.
QUICK: dict[str, Any] = {
    "n_neighbors": 5,
    "n_epochs": 3,
    "random_state": 0,
    "force_approximation_algorithm": True,
}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows of the indices that are built from now on."""
    seen: list[int] = []
    build = HnswBackend.build

    def watched(self: HnswBackend, rows: Any, n_neighbors: int, metric: Any) -> Any:
        seen.append(len(rows))
        return build(self, rows, n_neighbors, metric)

    monkeypatch.setattr(HnswBackend, "build", watched)
    return seen


def test_an_index_is_built_once_and_answers_as_a_single_query(built: list[int]) -> None:
    index = NeighborSearch(metric="cosine", backend="hnsw").index(X)
    answers = [index.query(NEW, 4) for _ in range(3)]
    assert built == [300]
    once = query_neighbors(X, NEW, 4, metric="cosine", backend="hnsw")
    for found in answers:
        np.testing.assert_array_equal(found[0], once[0])
        np.testing.assert_array_equal(found[1], once[1])
    assert index.query(NEW, 6)[0].shape == (7, 6)


def test_transform_builds_its_index_at_the_first_call_only(built: list[int]) -> None:
    model = UMAP(**QUICK).fit(X)
    built.clear()
    first, second = model.transform(NEW), model.transform(NEW)
    assert built == [300]
    np.testing.assert_array_equal(first, second)


def test_confidence_builds_its_index_at_the_first_call_only(built: list[int]) -> None:
    model = ParametricUMAP(preset="fast", **QUICK).fit(X)
    built.clear()
    first, second = model.confidence(NEW), model.confidence(NEW)
    assert built == [300]
    np.testing.assert_array_equal(first.score, second.score)


def test_confidence_looks_up_the_same_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ParametricUMAP(preset="fast", **QUICK).fit(X)
    asked: list[int] = []
    query = NeighborIndex.query
    monkeypatch.setattr(
        NeighborIndex,
        "query",
        lambda self, rows, k: (asked.append(len(rows)), query(self, rows, k))[1],
    )
    first, second = (model.confidence(NEW, n_calibration=50) for _ in range(2))
    # The sample, the new rows, the neighbours of both; then the new rows again.
    assert asked[:2] == [50, 7]
    assert asked[4:] == [7]
    np.testing.assert_array_equal(first.p_values.distance, second.p_values.distance)
    del asked[:]
    # The neighbours of every row become known, and are not asked for again.
    everything = model.confidence(NEW, n_calibration=300)
    model.confidence(NEW, n_calibration=300)
    assert asked[:2] == [300, 7]
    assert asked[3:] == [7]
    del asked[:]
    other_sample = model.confidence(NEW, n_calibration=60)
    assert asked[:2] == [60, 7]
    model.set_params(transform_seed=3).confidence(NEW, n_calibration=60)
    assert sum(size == 60 for size in asked) == 2
    assert len(everything.score) == len(other_sample.score) == 7


def test_own_distances_are_means_without_the_row_and_looked_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training, settings = TrainingRows(X), UMAP(n_neighbors=8)._recipe().graph
    apart = np.linalg.norm(X[:, None] - X, axis=2)
    expected = np.sort(apart, axis=1)[:, 1:5].mean(1)
    asked: list[int] = []
    nearest = TrainingRows.nearest
    monkeypatch.setattr(
        TrainingRows,
        "nearest",
        lambda self, rows, *others: (asked.append(len(rows)), nearest(self, rows, *others))[1],
    )
    for numbers in ([[3, 5], [5, 9]], [[5, 3], [3, 3]], [[9, 11]]):
        found = training.own_distances(np.array(numbers), 4, settings, torch.device("cpu"))
        np.testing.assert_allclose(found, expected[np.array(numbers)], rtol=1e-5)
    assert asked == [3, 1]


def test_a_new_fit_an_update_and_other_settings_build_anew(built: list[int]) -> None:
    model = UMAP(**QUICK).fit(X)
    model.transform(NEW)
    other = UMAP(**QUICK).fit(X[:200] + 1)
    expected = other.transform(NEW)
    np.testing.assert_array_equal(model.fit(X[:200] + 1).transform(NEW), expected)
    model.update(X[200:])
    built.clear()
    model.transform(NEW)
    assert built == [300]
    model.set_params(metric="cosine").transform(NEW)
    assert built == [300, 300]


def test_no_copy_and_no_attribute_holds_the_index(built: list[int]) -> None:
    model = UMAP(**QUICK).fit(X)
    before, size = dict(vars(model)), len(pickle.dumps(model))
    placed = model.transform(NEW)
    assert vars(model).keys() == before.keys()
    assert len(pickle.dumps(model)) == size
    built.clear()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.transform(NEW), placed)
    assert built == [300, 300]


def test_the_index_goes_with_the_model() -> None:
    model = UMAP(**QUICK).fit(X)
    index = weakref.ref(model._knn_search_index)
    gc.collect()
    assert index() is not None
    del model
    gc.collect()
    assert index() is None
