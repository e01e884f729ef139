"""Anchors: a sample of rows whose neighbours, among all rows, train the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from tasks import task_of

from neumap import UMAP, ParametricUMAP, load
from neumap.estimators import anchors as room
from neumap.fuzzy import FuzzyGraph, reset_local_connectivity
from neumap.metrics import knn_accuracy
from neumap.neighbors import find_neighbors
from neumap.supervision import supervise

DIGITS = load_digits()
X = (DIGITS.data / 16.0).astype(np.float32)
Y = DIGITS.target
SOME, LABELS = X[:400], Y[:400]
QUICK: dict[str, Any] = {"preset": "fast", "n_epochs": 3, "random_state": 0, "device": "cpu"}


def rows_with_edges(model: ParametricUMAP) -> np.ndarray:
    return np.flatnonzero(np.asarray(model.graph_.sum(axis=1)).ravel())


def anchors_of(model: ParametricUMAP, n_neighbors: int = 15) -> np.ndarray:
    """Rows with all edges to their nearest rows, found from the graph alone."""
    known = find_neighbors(SOME, n_neighbors).indices[:, 1:]
    graph = model.graph_.toarray()
    return np.flatnonzero([(graph[row, near] > 0).all() for row, near in enumerate(known)])


# The graph


def test_the_graph_holds_the_edges_of_the_anchors() -> None:
    some = ParametricUMAP(n_anchors=100, **QUICK).fit(SOME)
    everything = ParametricUMAP(n_anchors=None, **QUICK).fit(SOME)
    assert some.report_["n_anchors"] == 100
    assert everything.report_["n_anchors"] is None
    assert some.graph_.shape == everything.graph_.shape == (400, 400)
    assert some.embedding_.shape == (400, 2)
    assert np.isfinite(some.embedding_).all()
    ours, theirs = some.graph_.toarray(), everything.graph_.toarray()
    assert (theirs[ours > 0] > 0).all()  # no other edges
    anchors = anchors_of(some)
    assert 100 <= len(anchors) <= 110  # others are surrounded by chance
    # Between two anchors both directions are known, as in the graph of all rows.
    both = np.ix_(anchors, anchors)
    agree = np.isclose(ours[both], theirs[both], atol=1e-6)
    assert agree.mean() > 0.999
    assert some.graph_.nnz < 0.5 * everything.graph_.nnz


def test_a_seed_decides_and_a_clone_repeats() -> None:
    first = ParametricUMAP(n_anchors=80, **QUICK).fit(SOME)
    again = clone(first).fit(SOME)
    other = ParametricUMAP(n_anchors=80, **{**QUICK, "random_state": 1}).fit(SOME)
    np.testing.assert_array_equal(first.embedding_, again.embedding_)
    assert (first.graph_ != again.graph_).nnz == 0
    assert (first.graph_ != other.graph_).nnz > 0


@pytest.mark.parametrize("n_anchors", [400, 10**9])
def test_as_many_as_there_are_rows_is_every_row(n_anchors: int) -> None:
    with_number = ParametricUMAP(n_anchors=n_anchors, **QUICK).fit(SOME)
    without = ParametricUMAP(n_anchors=None, **QUICK).fit(SOME)
    assert with_number.report_["n_anchors"] is None
    np.testing.assert_array_equal(with_number.embedding_, without.embedding_)


def test_equal_rows_are_one_candidate_with_unique() -> None:
    doubled = np.concatenate([SOME, SOME])
    model = ParametricUMAP(n_anchors=100, unique=True, **QUICK).fit(doubled)
    once = ParametricUMAP(n_anchors=100, **QUICK).fit(SOME)
    assert model.graph_.shape == (400, 400)
    np.testing.assert_array_equal(model.embedding_[:400], model.embedding_[400:])
    assert (model.graph_ != once.graph_).nnz == 0


# The automatic number


def chosen(rows: Any, y: Any = None, **settings: Any) -> np.ndarray | None:
    """Return the anchors of a fit without fitting."""
    recipe = ParametricUMAP(random_state=0, device="cpu", **settings)._recipe()
    task = task_of(rows, y)
    return room.choose_anchors(task, recipe)


MANY = np.zeros((300_001, 1), dtype=np.uint8)


def test_auto_takes_every_row_of_few_and_a_sample_of_many() -> None:
    assert ParametricUMAP().n_anchors == "auto"
    assert chosen(MANY[:-1]) is None
    for preset, number in (
        ("default", 146_286),
        ("best", 253_562),
        ("fast", 100_000),
    ):
        anchors = chosen(MANY, preset=preset)
        assert anchors is not None
        # 6,000 (10,400, 2,400) steps of 512 edges draw each of the 14 edges of a row 1.5 times.
        assert len(anchors) == number
        assert (np.diff(anchors) > 0).all()
    twice = chosen(MANY, n_training_epochs=2)
    assert twice is not None
    assert len(twice) == 292_572
    assert chosen(MANY, n_training_epochs=3) is None
    fewer_edges = chosen(MANY, n_neighbors=30)
    assert fewer_edges is not None
    assert len(fewer_edges) == 100_000  # not fewer


@pytest.mark.parametrize(
    "settings",
    [
        {"n_epochs": 3},
        {"transform_mode": "graph"},
        {"parametric_embedding": False},
        {"set_op_mix_ratio": 0.5},
        {"precomputed_knn": (np.zeros((300_001, 15), np.int8), np.zeros((300_001, 15), np.int8))},
        {"classifier_loss_weight": 1.0},
        {"target_metric": "euclidean"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_auto_takes_every_row_where_it_is_needed(settings: dict[str, Any]) -> None:
    y = np.where(np.arange(len(MANY)) < 50, np.arange(len(MANY)) % 3, -1)
    assert chosen(MANY, y, **settings) is None
    assert chosen(MANY, y) is not None


def test_what_was_not_passed_needs_nothing() -> None:
    y = np.arange(len(MANY)) % 3
    nothing = (None, None, None)  # umap-learn's default
    for settings in ({"precomputed_knn": nothing}, {"classifier_loss_weight": 1.0}):
        assert chosen(MANY, y, **settings) is not None
    assert chosen(MANY, target_metric="euclidean") is not None


# Lists of few anchors are joined

# 600 steps of 32 edges would draw each of the 14 edges of an anchor 17 times.
JOINED: dict[str, Any] = {
    **{**QUICK, "n_epochs": None},
    "batch_size": 32,
    "n_anchors": 80,
    "max_time": 0.01,
}
# No two distances are equal.
APART = SOME + np.random.default_rng(0).normal(scale=1e-3, size=SOME.shape).astype(np.float32)


@pytest.fixture(scope="module")
def joined() -> ParametricUMAP:
    return ParametricUMAP(**JOINED).fit(APART)


@pytest.fixture(scope="module")
def of_joined(joined: ParametricUMAP) -> np.ndarray:
    """Return the anchors of that fit."""
    anchors = room.choose_anchors(task_of(APART), joined._recipe())
    assert anchors is not None
    assert len(anchors) == 80
    return anchors


def joins(rows: Any, **settings: Any) -> bool:
    recipe = ParametricUMAP(random_state=0, device="cpu", **settings)._recipe()
    task = task_of(rows)
    return room.joins_lists(task, recipe, room.choose_anchors(task, recipe))


def test_lists_are_joined_where_their_edges_are_drawn_often() -> None:
    assert not joins(MANY)  # 1.5 times
    # 6,000 steps of 512 edges are 4 draws of each of the 14 edges of 54,857 anchors.
    assert joins(MANY, n_anchors=54_857)
    assert not joins(MANY, n_anchors=54_858)
    assert joins(MANY, n_anchors=54_858, n_training_epochs=2)
    assert joins(SOME, n_anchors=399)
    assert not joins(SOME)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_epochs": 3, "n_anchors": 5, "n_neighbors": 2},
        {"n_neighbors": 1},
        {"transform_mode": "graph"},
        {"metric": "manhattan"},
        {"metric": lambda a, b: float(abs(a - b).sum())},
    ],
    ids=["n_epochs", "n_neighbors", "transform_mode", "manhattan", "function"],
)
def test_lists_are_not_joined_where_that_gives_nothing(settings: dict[str, Any]) -> None:
    assert joins(SOME, n_anchors=50)
    assert not joins(SOME, **{"n_anchors": 50, **settings})


def test_lists_of_sparse_rows_are_not_joined() -> None:
    rows = scipy.sparse.csr_matrix(SOME)
    assert not joins(rows, n_anchors=50)
    model = ParametricUMAP(**JOINED).fit(rows)
    assert model.report_["n_joined"] == 0


def test_rows_in_the_lists_get_edges_to_their_nearest_there(
    joined: ParametricUMAP, of_joined: np.ndarray
) -> None:
    distances = np.linalg.norm(APART[:, None] - APART[None], axis=2)
    lists = distances.argsort(axis=1)[of_joined, :30]
    others = np.setdiff1d(lists, of_joined)
    assert joined.report_["n_joined"] == len(others) > 80
    expected = np.zeros((400, 400), dtype=bool)
    expected[of_joined[:, None], lists[:, 1:15]] = True
    for row in others:
        near = np.setdiff1d(lists[(lists == row).any(axis=1)], row)
        expected[row, near[np.argsort(distances[row, near])[:5]]] = True
    np.testing.assert_array_equal(joined.graph_.toarray() > 0, expected | expected.T)


def test_joined_lists_leave_the_edges_of_the_anchors(
    joined: ParametricUMAP, of_joined: np.ndarray
) -> None:
    """Those between anchors are known from both ends, and no list says anything else of them."""
    plain = ParametricUMAP(**{**JOINED, "n_epochs": 1}).fit(APART)
    assert plain.report_["n_joined"] == 0
    assert plain.report_["n_anchors"] == joined.report_["n_anchors"] == 80
    few, more = plain.graph_.toarray(), joined.graph_.toarray()
    both = np.ix_(of_joined, of_joined)
    np.testing.assert_array_equal(few[both], more[both])
    assert (few <= more + 1e-6).all()  # rounding of unions
    again = ParametricUMAP(**JOINED).fit(APART)
    assert (again.graph_ != joined.graph_).nnz == 0


def test_labels_reset_the_strength_of_joined_rows() -> None:
    model = ParametricUMAP(**JOINED).fit(SOME, LABELS)
    largest = model.graph_.max(axis=1).toarray().ravel()
    np.testing.assert_allclose(largest[largest > 0], 1.0, rtol=1e-5)
    assert (largest > 0).sum() == 80 + model.report_["n_joined"]


def test_radii_of_anchors_know_the_edges_of_joined_rows(of_joined: np.ndarray) -> None:
    model = ParametricUMAP(**JOINED, densmap=True, output_dens=True).fit(APART)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(model.rad_orig_)), of_joined)
    squared = np.linalg.norm(APART[of_joined, None] - APART[None], axis=2) ** 2
    weights = model.graph_.toarray()[of_joined]
    expected = np.log(1e-8 + (weights * squared).sum(axis=1) / weights.sum(axis=1))
    np.testing.assert_allclose(model.rad_orig_[of_joined], expected, rtol=1e-4)


def test_update_joins_the_lists_of_new_rows() -> None:
    model = ParametricUMAP(**JOINED).fit(SOME)
    model.update(X[400:440])
    assert model.report_["n_anchors"] == 80
    assert model.report_["n_joined"] > 80


# What needs every row, before the search


@pytest.mark.parametrize(
    ("settings", "y", "named"),
    [
        ({"parametric_embedding": False}, None, "parametric_embedding=False"),
        ({"set_op_mix_ratio": 0.9}, None, "set_op_mix_ratio below 1"),
        ({"precomputed_knn": (np.zeros((400, 15), int), np.zeros((400, 15)))}, None, "precomputed"),
        ({"target_metric": "euclidean"}, SOME[:, 0], r"target_metric='euclidean'"),
    ],
)
def test_a_number_is_refused_by_name(
    settings: dict[str, Any], y: Any, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_search(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the search began")

    monkeypatch.setattr("neumap.neighbors.NeighborSearch.find", no_search)
    model = ParametricUMAP(n_anchors=50, **{**QUICK, **settings})
    with pytest.raises(ValueError, match=rf"n_anchors must be 'auto' or None with {named}.*got 50"):
        model.fit(SOME, y)


def test_a_number_is_refused_for_distances() -> None:
    distances = np.linalg.norm(SOME[:60, None] - SOME[None, :60], axis=2)
    model = ParametricUMAP(n_anchors=20, metric="precomputed", **QUICK)
    with pytest.raises(ValueError, match=r"None with metric='precomputed', which needs the neigh"):
        model.fit(SOME[:60], precomputed_distances=distances)


@pytest.mark.parametrize("value", [0, -1, 2.5, "all", True])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"n_anchors must be an integer of at least 1, or one of"):
        ParametricUMAP(n_anchors=value).fit(SOME)


def test_free_positions_have_no_such_parameter() -> None:
    with pytest.raises(TypeError, match="n_anchors"):
        UMAP(n_anchors=50)  # type: ignore[call-arg]


# Labels, landmarks, densities


def test_labels_reset_the_strength_of_anchors_alone() -> None:
    """Rows 0 and 3 asked; 1, 2 and 4 are known by one direction of their edges."""
    graph = FuzzyGraph(
        np.array([0, 0, 0, 2, 3]),
        np.array([1, 2, 3, 3, 4]),
        np.array([0.8, 0.4, 0.6, 1.0, 0.5], dtype=np.float32),
        5,
    )
    anchors = np.array([0, 3])
    reset = reset_local_connectivity(graph, anchors)
    # Row 0 has .8 at most, row 3 has 1; the edge between them is known from both ends.
    pair = 0.75 + 0.6 - 0.75 * 0.6
    np.testing.assert_allclose(reset.weights, [1.0, 0.5, pair, 1.0, 0.5], rtol=1e-6)
    labels = np.array([0, 0, 1, 0, 1])
    far = np.exp(-2.5 / 0.5)
    weakened = supervise(graph, labels, anchors=anchors)
    pair = 0.75 + 0.6 / 0.6 - 0.75 * 0.6 / 0.6
    expected = [1.0, 0.5 * far, pair, far / 0.6, 0.5 * far / 0.6]
    np.testing.assert_allclose(weakened.weights, expected, rtol=1e-5)


def test_labels_separate_classes() -> None:
    model = ParametricUMAP(n_anchors=300, preset="fast", random_state=0, device="cpu")
    model.fit(X[:1200], Y[:1200])
    placed = model.transform(X[1200:])
    assert knn_accuracy(model.embedding_, Y[:1200], n_neighbors=5) > 0.97
    assert knn_accuracy(placed, Y[1200:], n_neighbors=5) > 0.88


def test_rows_with_labels_are_anchors_of_a_classifier() -> None:
    labels = np.where(np.arange(400) % 10 == 3, LABELS, -1)
    settings = {**QUICK, "n_epochs": 1}
    model = ParametricUMAP(n_anchors=100, classifier_loss_weight=1.0, **settings)
    model.fit(SOME, labels)
    assert np.isin(np.flatnonzero(labels >= 0), rows_with_edges(model)).all()
    crowded = clone(model).set_params(n_anchors=50).fit(SOME, labels)
    assert crowded.report_["n_anchors"] == 50  # half of them at most are chosen by their labels


def test_landmarks_are_anchors_and_stay() -> None:
    given = np.full((400, 2), np.nan, dtype=np.float32)
    given[:30] = ParametricUMAP(n_anchors=None, **QUICK).fit(SOME).embedding_[:30]
    settings = {**QUICK, "n_epochs": 30}
    model = ParametricUMAP(n_anchors=100, landmark_loss_weight=5.0, **settings)
    model.fit(SOME, landmark_positions=given)
    assert np.isin(np.arange(30), rows_with_edges(model)).all()
    assert model.report_["landmark_drift"]["mean_share_of_extent"] < 0.2


def test_update_makes_the_new_rows_anchors_and_keeps_the_old_in_place() -> None:
    model = ParametricUMAP(n_anchors=150, **{**QUICK, "n_epochs": 30}).fit(SOME)
    model.update(X[400:440])
    assert model.report_["n_anchors"] == 150
    assert model.graph_.shape == (440, 440)
    assert np.isin(np.arange(400, 440), rows_with_edges(model)).all()
    assert model.report_["landmark_drift"]["mean_share_of_extent"] < 0.2


def test_radii_are_those_of_anchors() -> None:
    some = ParametricUMAP(n_anchors=100, densmap=True, output_dens=True, **QUICK).fit(SOME)
    everything = ParametricUMAP(densmap=True, output_dens=True, **QUICK).fit(SOME)
    known = np.isfinite(some.rad_orig_)
    assert known.sum() == 100
    assert np.isfinite(some.rad_emb_).all()
    correlation = np.corrcoef(some.rad_orig_[known], everything.rad_orig_[known])[0, 1]
    assert correlation > 0.97  # edges that only the other end knows are missing


# Other ways to use a model


def test_memberships_of_new_rows_are_among_all_rows() -> None:
    some = ParametricUMAP(n_anchors=100, transform_mode="graph", **QUICK).fit(SOME)
    everything = ParametricUMAP(transform_mode="graph", **QUICK).fit(SOME)
    assert some.graph_.nnz < everything.graph_.nnz
    assert (some.transform(X[400:420]) != everything.transform(X[400:420])).nnz == 0


def test_models_of_anchors_are_not_combined() -> None:
    some = ParametricUMAP(n_anchors=100, **QUICK).fit(SOME)
    everything = ParametricUMAP(n_anchors=None, **QUICK).fit(SOME)
    for one, other in ((some, everything), (everything, some)):
        with pytest.raises(ValueError, match=r"neighbours of every row in graph_, got one with th"):
            _ = one + other


def test_a_file_keeps_the_number_and_the_small_graph(tmp_path: Any) -> None:
    some = ParametricUMAP(n_anchors=50, **QUICK).fit(SOME)
    path = some.save(tmp_path / "some.neumap")
    loaded = load(path)
    assert loaded.n_anchors == 50
    assert loaded.report_["n_anchors"] == 50
    assert (loaded.graph_ != some.graph_).nnz == 0
    with pytest.raises(ValueError, match="neighbours of every row"):
        _ = loaded * loaded
    everything = ParametricUMAP(n_anchors=None, **QUICK).fit(SOME)
    larger = everything.save(tmp_path / "everything.neumap")
    saved = 8 * (everything.graph_.nnz - some.graph_.nnz)  # a column and a strength for each
    assert larger.stat().st_size - path.stat().st_size == pytest.approx(saved, rel=0.05)


def test_own_networks_a_guide_and_an_embedding_that_exists() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    own = ParametricUMAP(n_anchors=60, encoder=network, **QUICK).fit(SOME)
    guided = ParametricUMAP(n_anchors=60, encoder=network, guide=own, **QUICK).fit(SOME)
    copied = ParametricUMAP.from_embedding(SOME, own.embedding_, n_anchors=60, **QUICK)
    for model in (own, guided, copied):
        assert model.report_["n_anchors"] == 60
        assert np.isfinite(model.embedding_).all()


# What is learned


def test_a_quarter_of_the_rows_gives_the_accuracy_of_all() -> None:
    held_out = {}
    for n_anchors in (None, 350):
        model = ParametricUMAP(preset="fast", random_state=0, device="cpu", n_anchors=n_anchors)
        model.fit(X[:1400])
        held_out[n_anchors] = knn_accuracy(model.transform(X[1400:]), Y[1400:], n_neighbors=5)
    assert held_out[350] > held_out[None] - 0.03


def test_rare_groups_do_not_vanish() -> None:
    """Groups of 20 to 200 rows among 8,000, with a fifth of the rows as anchors."""
    generator = np.random.default_rng(0)
    sizes = [20] * 4 + [50] * 4 + [200] * 2
    labels = np.repeat(np.arange(1, 11), sizes)
    labels = np.concatenate([np.zeros(8000 - len(labels), dtype=int), labels])
    large = generator.integers(5, size=8000)
    centres = generator.normal(scale=3, size=(15, 10))
    group = np.where(labels == 0, large, labels + 4)
    rows = (centres[group] + generator.normal(size=(8000, 10))).astype(np.float32)
    model = ParametricUMAP(preset="fast", random_state=0, device="cpu", n_anchors=1600).fit(rows)
    near = find_neighbors(model.embedding_, 6).indices[:, 1:]
    same = (group[near] == group[:, None]).mean(axis=1)
    shares = np.array([same[labels == rare].mean() for rare in range(1, 11)])
    assert (shares > 0.5).all(), shares  # most neighbours of a row are of its group
