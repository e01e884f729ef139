"""Weights of rows in a fit, against their definition and against repeated rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from neumap import UMAP, ParametricUMAP
from neumap.callbacks import Checkpoint
from neumap.estimators.graph import Graph
from neumap.estimators.targets import check_sample_weight
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.neighbors import find_neighbors
from neumap.sampling import EdgeSampler

X, Y = load_digits(return_X_y=True)
X = (X[:200] / 16).astype(np.float32)
BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])


def make(kind: type[UMAP], **parameters: Any) -> Any:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    return kind(random_state=0, **{"n_epochs": 5, **preset, **parameters})


def test_an_edge_is_sampled_by_its_strength_times_both_weights() -> None:
    heads, tails = np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3])
    strengths = np.array([1.0, 0.5, 0.8, 0.4], dtype=np.float32)
    graph = Graph(None, FuzzyGraph(heads, tails, strengths, 4))
    weighted = graph.weighted(np.array([1.0, 0.5, 0.25, 0.0]))
    assert (weighted.fuzzy.heads.tolist(), weighted.fuzzy.tails.tolist()) == ([0, 0], [1, 2])
    # 1 x 1 x 0.5 to 0.5 x 1 x 0.25, with the sum of the graph, 2.7.
    np.testing.assert_allclose(weighted.fuzzy.weights, 2.7 * np.array([0.8, 0.2]), rtol=1e-6)
    drawn = EdgeSampler(weighted.fuzzy, seed=0).draw(1000)
    assert set(drawn.tolist()) == {0, 1, 2}
    assert float((drawn == 1).float().mean()) == pytest.approx(0.4, abs=0.02)  # of both ends


def test_weighted_rows_are_sampled_as_often_as_repeated_ones() -> None:
    """The rows of one half twice: by weights, and by repeating them in the data."""
    weights = np.where(np.arange(200) < 100, 2.0, 1.0)
    sums = {}
    for name, rows in (("weighted", X), ("repeated", np.concatenate([X, X[:100]]))):
        # A copy takes a place among the neighbours, so the repeated data need some more of them.
        neighbors = find_neighbors(rows, 15 if name == "weighted" else 23)
        graph = Graph(neighbors, fuzzy_simplicial_set(neighbors))
        if name == "weighted":
            graph = graph.weighted(weights)
        fuzzy = graph.fuzzy
        original = [np.where(ends < 200, ends, ends - 200) for ends in (fuzzy.heads, fuzzy.tails)]
        apart = original[0] != original[1]  # an edge of a row to its own copy moves nothing
        each = sum(np.bincount(o[apart], fuzzy.weights[apart], 200) for o in original)
        sums[name] = each / each.sum()
    assert np.corrcoef(sums["weighted"], sums["repeated"])[0, 1] > 0.85
    # Two thirds where the halves mix. A copy takes one of the log2(23) of a row's strengths.
    for each in sums.values():
        assert each[:100].sum() == pytest.approx(2 / 3, abs=0.04)


@BOTH
def test_equal_weights_of_any_size_change_nothing(kind: type[UMAP]) -> None:
    plain = make(kind).fit_transform(X)
    np.testing.assert_array_equal(make(kind).fit_transform(X, sample_weight=[4.0] * 200), plain)
    np.testing.assert_array_equal(
        make(kind).fit_transform(X, sample_weight=np.full(200, 2.0**-1000)), plain
    )


@BOTH
def test_a_row_of_weight_zero_has_no_part(kind: type[UMAP], monkeypatch: Any) -> None:
    drawn: list[torch.Tensor] = []
    draw = EdgeSampler.draw

    def watched(self: EdgeSampler, n_edges: int) -> torch.Tensor:
        drawn.append(draw(self, n_edges))
        return drawn[-1]

    monkeypatch.setattr(EdgeSampler, "draw", watched)
    weights = np.ones(200)
    weights[50:80] = 0.0
    model = make(kind).fit(X, sample_weight=weights)
    assert not np.isin(torch.cat(drawn).numpy(), np.arange(50, 80)).any()
    is_placed = np.isfinite(model.embedding_).all(1)
    assert is_placed.tolist() == [kind is ParametricUMAP or weight > 0 for weight in weights]
    assert model.graph_[50:80].nnz > 0  # strengths without weights


@BOTH
def test_weights_change_the_map(kind: type[UMAP]) -> None:
    weights = np.where(Y[:200] == 0, 5.0, 1.0)
    assert not np.array_equal(
        make(kind).fit_transform(X, sample_weight=weights), make(kind).fit_transform(X)
    )


def test_equal_rows_add_their_weights_where_distinct_rows_are_trained() -> None:
    rows, weights = np.concatenate([X, X[:50]]), np.ones(250)
    model = make(ParametricUMAP, unique=True)
    doubled = model.fit_transform(rows, sample_weight=weights)
    single = np.r_[np.full(50, 2.0), np.ones(150)]
    expected = make(ParametricUMAP).fit_transform(X, sample_weight=single)
    np.testing.assert_array_equal(doubled[:200], expected)


def test_landmarks_have_the_mean_weight(monkeypatch: Any) -> None:
    model = make(ParametricUMAP).fit(X[:100]).add_landmarks(X[:100], sample_pct=0.1)
    seen: list[Any] = []
    weighted = Graph.weighted
    monkeypatch.setattr(Graph, "weighted", lambda g, w: seen.append(w) or weighted(g, w))
    model.fit(X[100:], sample_weight=np.r_[np.full(50, 2.0), np.full(50, 6.0)])
    np.testing.assert_allclose(seen[0], np.r_[np.full(50, 1 / 3), np.ones(50), np.full(10, 2 / 3)])


WRONG: dict[str, tuple[Any, str]] = {
    "length": (np.ones(3), r"must have shape \(200,\).*got \(3,\)"),
    "negative": (np.r_[-1.0, np.ones(199)], r"of at least 0, got -1\.0 in row 0"),
    "missing": (np.r_[np.ones(199), np.nan], r"got nan in row 199"),
    "text": (["a"] * 200, "must hold numbers, got list"),
    "one row": (np.r_[1.0, np.zeros(199)], "positive for at least two rows, got 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_cannot_be_used_say_so(name: str) -> None:
    weights, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        make(ParametricUMAP).fit(X, sample_weight=weights)


def test_weights_without_an_edge_or_a_training_say_so() -> None:
    with pytest.raises(ValueError, match="positive for two rows that are neighbours"):
        Graph(None, FuzzyGraph(np.array([0]), np.array([1]), np.ones(1, np.float32), 3)).weighted(
            np.array([1.0, 0.0, 1.0])
        )
    with pytest.raises(ValueError, match="transform_mode must be 'embedding' for sample_weight"):
        make(UMAP, transform_mode="graph").fit(X, sample_weight=np.ones(200))
    assert check_sample_weight(None, 5) is None


def test_a_checkpoint_is_of_a_fit_with_these_weights(tmp_path: Path) -> None:
    weights = np.where(Y[:200] == 0, 5.0, 1.0)
    file = tmp_path / "training.neumap"
    whole = make(ParametricUMAP, callbacks=[Checkpoint(file)]).fit(X, sample_weight=weights)
    with pytest.raises(ValueError, match="got one with other sample_weight"):
        make(ParametricUMAP).fit(X, resume_from=file)
    again = make(ParametricUMAP).fit(X, sample_weight=weights, resume_from=file)
    np.testing.assert_array_equal(again.embedding_, whole.embedding_)
