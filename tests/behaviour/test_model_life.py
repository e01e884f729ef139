"""Life after the fit: more rows, combined models, existing maps, doubt about new points."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from neumap import UMAP, ParametricUMAP, load_ParametricUMAP, metrics
from neumap.estimators import PRESETS

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])


def make(kind: type[UMAP], **parameters: Any) -> Any:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {"n_epochs": 100}
    return kind(random_state=0, **{**preset, **parameters})


def extent(positions: NDArray[np.float32]) -> float:
    return float(np.sqrt(((positions - positions.mean(0)) ** 2).sum(1).mean()))


@BOTH
def test_update_adds_rows_and_holds_the_old_ones(kind: type[UMAP]) -> None:
    model = make(kind).fit(X[:400])
    old = model.embedding_.copy()
    assert model.update(X[400:500]) is model
    assert model.embedding_.shape == (500, 2)
    assert model.graph_.shape == (500, 500)
    moved = np.linalg.norm(model.embedding_[:400] - old, axis=1)
    assert moved.mean() < 0.03 * extent(old)
    drift = model.report_["landmark_drift"]
    assert drift["n_landmarks"] == 400
    assert drift["mean"] == pytest.approx(moved.mean(), rel=1e-4)
    assert metrics.trustworthiness(X[:500], model.embedding_) > 0.95


@BOTH
def test_partial_fit_is_fit_and_then_update(kind: type[UMAP]) -> None:
    step_by_step = make(kind, n_epochs=3).partial_fit(X[:200]).partial_fit(X[200:260])
    in_words = make(kind, n_epochs=3).fit(X[:200]).update(X[200:260])
    np.testing.assert_array_equal(step_by_step.embedding_, in_words.embedding_)
    step_by_step.partial_fit(X[260:270], Y[260:270])  # labels may come in any call
    assert step_by_step.embedding_.shape == (270, 2)


@BOTH
def test_update_refuses_what_it_cannot_extend(kind: type[UMAP], tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        make(kind).update(X[:10])
    with pytest.raises(ValueError, match="supervised fit"):
        make(kind, n_epochs=1).fit(X[:100], Y[:100]).update(X[100:110])
    if kind is ParametricUMAP:
        make(kind, n_epochs=1).fit(X[:100]).save(tmp_path / "m.neumap")
        loaded = load_ParametricUMAP(tmp_path / "m.neumap")
        with pytest.raises(ValueError, match="needs the training rows"):
            loaded.update(X[100:110])


# Rows of 0 to 16 and rows of quarters: how they are passed, first and later.
JOINED: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "uint8, float32": (lambda X: X.astype(np.uint8), lambda X: X + np.float32(0.75)),
    "bool, float64": (lambda X: X > 7, lambda X: X.astype(np.float64) / 16),
    "float32, uint8": (lambda X: X / np.float32(16), lambda X: X.astype(np.uint8)),
    "float32, bool": (lambda X: X / np.float32(16), lambda X: X > 7),
    "uint8, int64": (lambda X: X.astype(np.uint8), lambda X: X.astype(np.int64) + 300),
    "bool, uint8": (lambda X: X > 7, lambda X: X.astype(np.uint8)),
    "uint8, sparse": (lambda X: X.astype(np.uint8), lambda X: scipy.sparse.csr_matrix(X / 16)),
    "uint8, tensor": (lambda X: X.astype(np.uint8), lambda X: torch.from_numpy(X / 16)),
    "byte tensor, array": (lambda X: torch.from_numpy(X).byte(), lambda X: X / np.float32(16)),
    "half tensor, int32": (
        lambda X: torch.from_numpy(X).half(),
        lambda X: X.astype(np.int32) + 2049,
    ),
    "bool tensor, tensor": (lambda X: torch.from_numpy(X) > 7, lambda X: torch.from_numpy(X / 16)),
    "table, array": (lambda X: pd.DataFrame(X.astype(np.uint8)), lambda X: X / np.float32(16)),
    "sparse bytes, array": (
        lambda X: scipy.sparse.csr_matrix(X.astype(np.uint8)),
        lambda X: X / np.float32(16),
    ),
    "sparse, bool": (lambda X: scipy.sparse.csr_matrix(X / 16), lambda X: X > 7),
}  # fmt: skip
JOINS = pytest.mark.parametrize("what", JOINED)


def dense(rows: Any) -> NDArray[np.float32]:
    return np.asarray(rows.toarray() if scipy.sparse.issparse(rows) else rows, np.float32)


def joined_rows(what: str) -> tuple[Any, Any, Any, Any]:
    """Return old and new rows as they are passed, and both as float32 numbers."""
    digits = (X * 16).astype(np.float32)
    first, later = JOINED[what]
    parts = first(digits[:120]), later(digits[120:160])
    # Sparse ones stay so: their distances are added in another order.
    plain = [
        scipy.sparse.csr_matrix(dense(part)) if scipy.sparse.issparse(part) else dense(part)
        for part in parts
    ]
    return *parts, *plain


@BOTH
@JOINS
def test_update_joins_rows_without_loss(kind: type[UMAP], what: str) -> None:
    old, new, old_plain, new_plain = joined_rows(what)
    few: dict[str, Any] = {"n_epochs": 2, "n_neighbors": 8}
    model = make(kind, **few).fit(old).update(new)
    expected = np.concatenate([dense(old_plain), dense(new_plain)])
    np.testing.assert_array_equal(dense(model._raw_data), expected)
    right = make(kind, **few).partial_fit(old_plain).partial_fit(new_plain)
    np.testing.assert_array_equal(model.embedding_, right.embedding_)


@JOINS
def test_landmarks_join_rows_without_loss(what: str) -> None:
    old, new, old_plain, new_plain = joined_rows(what)
    maps = []
    for chosen, later in ((new, old), (new_plain, old_plain)):
        model = make(ParametricUMAP, n_epochs=2, n_neighbors=8).fit(chosen)
        maps.append(model.add_landmarks(chosen, sample_pct=0.5).fit(later).embedding_)
    np.testing.assert_array_equal(*maps)


@BOTH
def test_sparse_rows_and_dense_ones_are_placed_alike(kind: type[UMAP]) -> None:
    """Equal training rows included, which have positions of their own."""
    rows = np.concatenate([X[:80], X[:10]])
    forms = (rows, scipy.sparse.csr_matrix(rows))
    for fitted in forms:
        model = make(kind, n_epochs=2, n_neighbors=8).fit(fitted)
        placed = [model.transform(form) for form in (*forms, torch.from_numpy(rows))]
        for positions in placed:
            np.testing.assert_allclose(positions, model.embedding_, atol=1e-4)
        new = X[80:100]
        some = [model.transform(form) for form in (new, scipy.sparse.csc_matrix(new))]
        np.testing.assert_allclose(*some, atol=1e-4)


def test_confidence_reads_sparse_rows() -> None:
    model = make(ParametricUMAP, n_epochs=2).fit(X[:100])
    dense, sparse = (
        model.confidence(rows) for rows in (X[100:120], scipy.sparse.csr_matrix(X[100:120]))
    )
    np.testing.assert_allclose(sparse.score, dense.score, atol=1e-6)


def contents(model: UMAP) -> tuple[bytes, bytes]:
    return model.embedding_.tobytes(), model.graph_.toarray().tobytes()


@functools.cache
def halves(kind: type[UMAP]) -> tuple[Any, Any]:
    """Models of the upper and of the lower halves of images; tests must not change them."""
    return make(kind).fit(X[:300, :32]), make(kind).fit(X[:300, 32:])


@BOTH
@pytest.mark.parametrize(("operation", "least"), [("+", 0.8), ("*", 0.8), ("-", 0.7)])
def test_combined_models_map_the_samples_of_both(
    kind: type[UMAP], operation: str, least: float
) -> None:
    left, right = halves(kind)
    before = contents(left), contents(right)
    model = {"+": lambda: left + right, "*": lambda: left * right, "-": lambda: left - right}[
        operation
    ]()
    assert type(model) is kind
    assert metrics.trustworthiness(X[:300], model.embedding_) > least
    assert model.transform(X[300:305, :32]).shape == (5, 2)
    assert left.graph_.nnz > 0  # the parts are as they were
    assert (contents(left), contents(right)) == before


@BOTH
def test_models_of_other_samples_do_not_combine(kind: type[UMAP]) -> None:
    left, right = (make(kind, n_epochs=1).fit(X[:n]) for n in (100, 90))
    with pytest.raises(ValueError, match="graphs of one size, got 100 and 90"):
        left + right
    with pytest.raises(TypeError):
        left * 2


@functools.cache
def free_positions() -> UMAP:
    return make(UMAP).fit(X[:600])


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_network_learns_a_map_that_exists(scale: float) -> None:
    free = free_positions()
    wanted = scale * free.embedding_
    wanted[:5] = np.nan  # left to the network
    model = ParametricUMAP.from_embedding(X[:600], wanted, free.graph_, random_state=0)
    error = np.linalg.norm(model.embedding_[5:] - wanted[5:], axis=1)
    assert error.mean() < 0.1 * extent(wanted[5:])
    assert np.isfinite(model.embedding_).all()
    vote = metrics.knn_accuracy(
        model.embedding_,
        Y[:600],
        embedding_test=model.transform(X[600:900]),
        labels_test=Y[600:900],
    )
    assert vote > 0.8
    with pytest.raises(ValueError, match="two axes"):
        ParametricUMAP.from_embedding(X[:10], np.zeros(10))
    with pytest.raises(ValueError, match="landmark_positions must have shape"):
        ParametricUMAP.from_embedding(X[:10], np.zeros((9, 2)))


def test_an_existing_map_gets_twice_the_steps_of_a_fit() -> None:
    free = free_positions()
    rows, placed = X[:200], free.embedding_[:200]
    learned = ParametricUMAP.from_embedding(rows, placed, preset="fast", random_state=0)
    assert learned.report_["n_steps"] == 2 * PRESETS["fast"].steps(200)
    assert learned.preset == "fast"
    asked = [
        model.report_["n_steps"]
        for model in (
            ParametricUMAP.from_embedding(rows, placed, n_epochs=3, random_state=0),
            ParametricUMAP(n_epochs=3, random_state=0).fit(rows),
        )
    ]
    assert asked[0] == asked[1]


def test_confidence_tells_an_unseen_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = rng.permutation(np.flatnonzero(Y != 3))
    train, held_out = known[:900], known[900:1100]
    new = np.concatenate([held_out, np.flatnonzero(Y == 3)])
    model = make(ParametricUMAP).fit(X[train])
    found = model.confidence(X[new])
    strange = Y[new] == 3
    assert roc_auc_score(strange, -found.score) > 0.9
    assert roc_auc_score(strange, found.measures.distance) > 0.9
    assert ((found.score > 0) & (found.score <= 1)).all()
    usual = model.confidence(X[train]).score  # training rows are not strange to themselves
    assert np.median(usual) > 0.3
    one = model.confidence(X[new[:1]])
    assert one.score == pytest.approx(found.score[:1], abs=1e-3)
    model.save(tmp_path / "m.neumap")
    with pytest.raises(ValueError, match="confidence needs the training rows"):
        load_ParametricUMAP(tmp_path / "m.neumap").confidence(X[:3])


def test_examples_of_the_page_run(run_page: Callable[[str], int]) -> None:
    assert run_page("new_points.md") > 0
