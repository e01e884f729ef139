"""Rows in batches: a uniform sample of them is kept, positions stay, labels may come later."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from neumap import UMAP, ParametricUMAP
from neumap.data import row_count
from neumap.estimators.growing import Stream, labels_after

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])


def make(kind: type[UMAP], **parameters: Any) -> Any:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    return kind(random_state=0, **{"n_epochs": 3, **preset, **parameters})


def test_every_row_of_the_stream_is_kept_equally_often() -> None:
    """Simulate five calls of 30, 10, 50, 20 and 40 rows with 20 kept, over 4,000 seeds."""
    batches, bound, n_seeds = (30, 10, 50, 20, 40), 20, 4000
    counts = np.zeros(sum(batches))
    for seed in range(n_seeds):
        held, stream = np.arange(batches[0]), Stream(batches[0], batches[0], bound)
        for n_added in batches[1:]:
            kept = held[stream.kept(len(held), seed)]
            assert len(kept) == bound
            held = np.r_[kept, stream.n_seen : stream.n_seen + n_added]
            stream = stream.after(n_added)
        counts[held[stream.kept(len(held), seed)]] += 1
    expected = n_seeds * bound / sum(batches)
    spread = np.sqrt(expected * (1 - bound / sum(batches)))  # of a binomial count
    assert np.abs(counts - expected).max() < 4.5 * spread
    for start, end in zip(np.cumsum((0, *batches)), np.cumsum(batches), strict=False):
        assert counts[start:end].mean() == pytest.approx(expected, rel=0.05)


def test_few_rows_are_all_kept_and_the_bound_may_change() -> None:
    np.testing.assert_array_equal(Stream(20, 10, None).kept(20, 0), np.arange(20))
    np.testing.assert_array_equal(Stream(20, 10, 20).kept(20, 0), np.arange(20))
    raised = Stream(1000, 30, 45).kept(50, 0)  # 20 earlier rows are left of 970
    assert len(raised) == len(set(raised.tolist())) == 45


def test_a_generator_is_drawn_from_only_for_a_sample() -> None:
    generator, same = np.random.default_rng(0), np.random.default_rng(0)
    Stream(20, 10, None).kept(20, generator)
    assert generator.integers(1 << 60) == same.integers(1 << 60)
    first = Stream(200, 50, 20).kept(100, generator)
    assert not np.array_equal(first, Stream(200, 50, 20).kept(100, generator))


@BOTH
def test_partial_fit_with_a_bound_holds_that_many_earlier_rows(kind: type[UMAP]) -> None:
    model = make(kind)
    for call in range(4):
        rows = X[100 * call : 100 * call + 100]
        assert model.partial_fit(rows, **({"max_rows": 60} if call == 0 else {})) is model
        n_earlier = 0 if call == 0 else 60
        assert model.embedding_.shape == (n_earlier + 100, 2)
        assert row_count(model._raw_data) == n_earlier + 100
        np.testing.assert_array_equal(model._raw_data[n_earlier:], rows)
        noted = {"n_seen": 100 * (call + 1), "n_added": 100, "max_rows": 60}
        assert model.report_["partial_fit"] == noted
        assert len(pickle.dumps(model)) < 900_000
    seen = {row.tobytes() for row in X[:300]}
    assert all(row.tobytes() in seen for row in model._raw_data[:60])


@BOTH
def test_earlier_rows_stay_where_they_were(kind: type[UMAP]) -> None:
    settings = {"n_epochs": None} if kind is ParametricUMAP else {"n_epochs": 100}
    model = make(kind, **settings).partial_fit(X[:300], max_rows=150)
    place_of = dict(zip((row.tobytes() for row in X[:300]), model.embedding_, strict=True))
    model.partial_fit(X[300:450])
    old = np.array([place_of[row.tobytes()] for row in model._raw_data[:150]])
    moved = np.linalg.norm(model.embedding_[:150] - old, axis=1)
    extent = np.sqrt(((old - old.mean(0)) ** 2).sum(1).mean())
    assert moved.mean() < 0.05 * extent
    assert model.report_["landmark_drift"]["n_landmarks"] == 150
    assert model.report_["landmark_drift"]["mean"] == pytest.approx(moved.mean(), rel=1e-4)


def test_calls_repeat_with_a_seed_and_differ_without_the_bound() -> None:
    def positions(**bound: Any) -> Any:
        model = make(ParametricUMAP)
        for start in (0, 80, 160):
            model.partial_fit(X[start : start + 80], **bound)
        return model.embedding_

    np.testing.assert_array_equal(positions(max_rows=50), positions(max_rows=50))
    assert positions().shape == (240, 2)


@BOTH
def test_labels_may_come_in_every_call(kind: type[UMAP]) -> None:
    model = make(kind).partial_fit(X[:100], Y[:100], max_rows=50)
    model.partial_fit(X[100:200], Y[100:200])
    plain = make(kind).partial_fit(X[:100], Y[:100], max_rows=50)
    plain.partial_fit(X[100:200], np.full(100, -1))
    assert (model.graph_ != plain.graph_).nnz > 0  # labels act
    model.partial_fit(X[200:250], ["none"] * 50)  # names after numbers: the earlier are not kept
    with pytest.raises(ValueError, match="y must be given for a second partial_fit"):
        model.partial_fit(X[250:300])


def test_labels_of_earlier_rows_are_unknown() -> None:
    column = labels_after(["a", "b"], 3, 2)
    assert column.unlabelled().tolist() == [True, True, True, False, False]
    assert column.values[3:].tolist() == ["a", "b"]


def test_what_cannot_be_added_says_so() -> None:
    with pytest.raises(ValueError, match="max_rows must be an integer of at least 2"):
        make(UMAP).partial_fit(X[:50], max_rows=1)
    labelled = make(ParametricUMAP, classifier_loss_weight=1.0).partial_fit(X[:100], Y[:100])
    with pytest.raises(ValueError, match="classifier_loss_weight must be 0 for a second"):
        labelled.partial_fit(X[100:150], Y[100:150])
    numbers = make(UMAP, target_metric="euclidean").partial_fit(X[:100], X[:100, :2])
    with pytest.raises(ValueError, match="target_metric must be one for labels"):
        numbers.partial_fit(X[100:150], X[100:150, :2])
    distances = np.abs(X[:60, None, 20] - X[None, :60, 20])
    given = make(UMAP, metric="precomputed").partial_fit(distances)
    with pytest.raises(ValueError, match="metric must be one of rows for a second partial_fit"):
        given.partial_fit(distances)
    with pytest.raises(ValueError, match="partial_fit needs the training rows"):
        make(UMAP, unique=True).partial_fit(X[:60]).partial_fit(X[60:90])
