"""Supervised graphs against umap-learn's functions and against the rule they state."""

import numpy as np
import pytest
import scipy.sparse

from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.fuzzy.algebra import intersect_directed
from neumap.neighbors import METRICS, find_neighbors
from neumap.neighbors.metrics import ONLY_IN_PYNNDESCENT
from neumap.supervision import (
    categorical_intersection,
    discrete_intersection,
    metric_intersection,
    supervise,
)

N = 200


@pytest.fixture(scope="module")
def umap():
    return pytest.importorskip("umap.umap_")


@pytest.fixture(scope="module")
def graph():
    rows = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
    return fuzzy_simplicial_set(find_neighbors(rows, 10))


def assert_equal_graphs(ours, theirs, atol=1e-5):
    assert abs(ours.to_csr() - scipy.sparse.csr_matrix(theirs)).max() <= atol


def labels(with_unknown=True):
    generator = np.random.default_rng(1)
    return generator.integers(-1 if with_unknown else 0, 4, size=N)


@pytest.mark.reference
@pytest.mark.parametrize("target_weight", [0.0, 0.3, 0.5, 0.9, 0.99, 1.0])
def test_categories_equal_umap_learn(umap, graph, target_weight):
    far = 2.5 / (1 - target_weight) if target_weight < 1 else 1e12
    theirs = umap.discrete_metric_simplicial_set_intersection(
        graph.to_csr(), labels(), far_dist=far
    )
    assert_equal_graphs(supervise(graph, labels(), target_weight=target_weight), theirs)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("ordinal", np.random.default_rng(2).integers(0, 9, size=N)),
        ("count", np.random.default_rng(2).poisson(6, size=N) + 1),
        ("string", np.random.default_rng(2).choice(["cat", "cats", "house", "mouse", "o"], N)),
    ],
)
def test_discrete_targets_equal_umap_learn(umap, graph, metric, values):
    from umap.distances import get_discrete_params

    theirs = umap.discrete_metric_simplicial_set_intersection(
        graph.to_csr(), values, metric=metric,
        metric_kws=get_discrete_params(values, metric), metric_scale=5.0,
    )  # fmt: skip
    assert_equal_graphs(supervise(graph, values, target_metric=metric), theirs)
    assert_equal_graphs(discrete_intersection(graph, values, metric), theirs)


SPECIES = np.random.default_rng(2).choice(["cat", "dog", "oak", "elm"], N)
HIERARCHY = [
    {"cat": 0, "dog": 1, "oak": 2, "elm": 3},
    {"cat": "animal", "dog": "animal", "oak": "tree", "elm": "tree"},
    dict.fromkeys(["cat", "dog", "oak"], "in the garden") | {"elm": "outside"},
]


@pytest.mark.reference
@pytest.mark.parametrize("target_weight", [0.0, 0.5, 1.0])
def test_grouped_classes_equal_umap_learns_distance(umap, graph, target_weight):
    from umap.distances import hierarchical_categorical_distance

    # Its estimator never hands the hierarchy over, so the distance itself is the reference.
    distance = hierarchical_categorical_distance.py_func
    matrix = graph.to_csr().tocoo()
    far = 2.5 / (1 - target_weight) if target_weight < 1 else 1e12
    apart = [
        distance(SPECIES[i], SPECIES[j], HIERARCHY) for i, j in zip(*matrix.coords, strict=True)
    ]
    matrix.data = matrix.data * np.exp(-far * np.array(apart)).astype(np.float32)
    theirs = umap.reset_local_connectivity(matrix)
    settings = {"target_metric": "hierarchical_categorical", "target_weight": target_weight}
    ours = supervise(graph, SPECIES, target_metric_kwds={"cat_hierarchy": HIERARCHY}, **settings)
    assert_equal_graphs(ours, theirs)


def test_one_level_of_classes_is_categorical_and_minus_one_unknown(graph):
    known = labels()
    levels = [{i: i for i in range(4)}]
    settings = {"target_metric": "hierarchical_categorical"}
    grouped = supervise(graph, known, target_metric_kwds={"cat_hierarchy": levels}, **settings)
    assert_equal_graphs(grouped, supervise(graph, known).to_csr())


def test_myers_is_the_edit_distance_by_another_name(graph):
    named = supervise(graph, SPECIES, target_metric="myers")
    assert_equal_graphs(named, supervise(graph, SPECIES, target_metric="string").to_csr())


COMPUTED_HERE = sorted(set(METRICS) - set(ONLY_IN_PYNNDESCENT) - {"precomputed"})
NEEDED = {
    "weighted_minkowski": {"w": [1.0, 3.0]},
    "wminkowski": {"w": [1.0, 3.0]},
    "seuclidean": {"V": [1.0, 3.0]},
    "standardised_euclidean": {"sigma": [1.0, 3.0]},
    "mahalanobis": {"VI": [[2.0, 0.5], [0.5, 1.0]]},
}


@pytest.mark.parametrize("metric", [*COMPUTED_HERE, lambda one, other: abs(one - other).max()])
def test_every_metric_serves_for_targets(graph, metric):
    values = np.random.default_rng(3).random((N, 2)).astype(np.float32)
    values[:, 0] *= np.random.default_rng(4).random(N) < 0.5  # something for the metrics of sets
    if metric == "poincare":
        values /= 2  # into the unit ball, where this distance is defined
    kwds = NEEDED.get(metric)
    ours = supervise(graph, values, target_metric=metric, target_metric_kwds=kwds)
    assert np.isfinite(ours.weights).all()
    assert abs(ours.to_csr() - graph.to_csr()).max() > 0.1


def test_distances_between_targets_replace_them(graph):
    values = np.random.default_rng(3).normal(size=(N, 2)).astype(np.float32)
    apart = np.linalg.norm(values[:, None] - values, axis=2)
    given = supervise(graph, apart, target_metric="precomputed")
    assert_equal_graphs(given, supervise(graph, values, target_metric="l2").to_csr(), atol=1e-4)


@pytest.mark.reference
@pytest.mark.parametrize("target_weight", [0.2, 0.5, 0.8])
def test_continuous_targets_equal_umap_learn(umap, graph, target_weight):
    values = np.random.default_rng(3).normal(size=(N, 2)).astype(np.float32)
    near = find_neighbors(values, 12)
    target, _, _ = umap.fuzzy_simplicial_set(
        values, 12, None, "euclidean", knn_indices=near.indices, knn_dists=near.distances,
        apply_set_operations=False,
    )  # fmt: skip
    met = umap.general_simplicial_set_intersection(graph.to_csr(), target, target_weight)
    theirs = umap.reset_local_connectivity(met)
    settings = {"target_weight": target_weight, "target_metric": "l2", "target_n_neighbors": 12}
    assert_equal_graphs(supervise(graph, values, **settings), theirs)
    ours = metric_intersection(graph, values, target_weight=target_weight, n_neighbors=12)
    assert_equal_graphs(ours, theirs)


def test_one_column_of_values(graph):
    values = np.random.default_rng(3).normal(size=N)
    flat = supervise(graph, values, target_metric="euclidean")
    column = supervise(graph, values[:, None], target_metric="euclidean")
    np.testing.assert_array_equal(flat.weights, column.weights)


def test_multi_label_targets_take_a_metric_of_sets(graph):
    sets = np.random.default_rng(4).integers(0, 2, size=(N, 6))
    pulled = supervise(graph, sets, target_metric="jaccard", target_weight=0.9)
    agreement = (sets[pulled.heads] == sets[pulled.tails]).mean(axis=1)
    before = (sets[graph.heads] == sets[graph.tails]).mean(axis=1)
    weighted = np.average(agreement, weights=pulled.weights)
    assert weighted > np.average(before, weights=graph.weights) + 0.05


def test_two_columns_of_labels_average_their_distances():
    # Vertex 0 agrees with 1 in both columns, with 2 in one and with 3 in none.
    weights = np.ones(3, dtype=np.float32)
    star = FuzzyGraph(np.zeros(3, dtype=int), np.array([1, 2, 3]), weights, 4)
    columns = np.array([[0, 0], [0, 0], [0, 1], [1, 1]])
    ours = categorical_intersection(star, columns, target_weight=0.5)
    # Each leaf's only edge is reset to 1, so the centre's view shows in the union: all are 1.
    assert ours.weights.tolist() == [1, 1, 1]
    ring = FuzzyGraph(
        np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 3, 2, 3, 3]), np.ones(6, np.float32), 4
    )
    matrix = categorical_intersection(ring, columns, target_weight=0.5).to_csr().toarray()
    directed = np.exp(-5 * np.array([[0, 0, 0.5, 1], [0, 0, 0.5, 1], [0.5, 0.5, 0, 0.5],
                                     [1, 1, 0.5, 0]]))  # fmt: skip
    np.fill_diagonal(directed, 0)
    directed /= directed.max(axis=1, keepdims=True)
    expected = directed + directed.T - directed * directed.T
    np.testing.assert_allclose(matrix, expected, atol=1e-6)


def test_text_labels(graph):
    names = np.array(["ant", "bee", "cow", "dog"])
    known = labels(with_unknown=False)
    ours = supervise(graph, names[known])
    np.testing.assert_array_equal(ours.weights, supervise(graph, known).weights)
    as_objects = supervise(graph, names[known].astype(object))
    np.testing.assert_array_equal(ours.weights, as_objects.weights)


def test_weight_moves_the_graph_towards_the_labels(graph):
    known = labels(with_unknown=False)
    alike = known[graph.heads] == known[graph.tails]
    shares = []
    for target_weight in (0.0, 0.5, 0.9):
        ours = supervise(graph, known, target_weight=target_weight)
        same = known[ours.heads] == known[ours.tails]
        shares.append(ours.weights[same].sum() / ours.weights.sum())
    assert alike.mean() < shares[0] < shares[1] < shares[2]


def test_direction_without_any_edge_stays_empty():
    # 0 - 1 in the data; the targets say 2 -> 0 only. 0 -> 2 must not appear.
    data = FuzzyGraph(np.array([0]), np.array([1]), np.array([0.5], np.float32), 3)
    indices = np.array([[0, -1], [1, -1], [2, 0]])
    strengths = np.array([[0, 0], [0, 0], [0, 0.8]])
    ours = intersect_directed(data, indices, strengths, 0.5)
    # Rows: 0 -> 1 is the only edge of 0 (1 after the reset), 2 -> 0 the only one of 2.
    assert ours.to_csr().toarray().tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("y", "keywords", "message"),
    [
        (np.zeros(3), {}, f"one entry per row of X, {N}, got 3"),
        (np.zeros(N), {"target_weight": 1.5}, "between 0 and 1, got 1.5"),
        (np.zeros(N), {"target_metric": "nearest"}, "got 'nearest'"),
        (-np.ones(N), {"target_metric": "count"}, "must not be negative .*'count', got -1"),
        (SPECIES, {"target_metric": "hierarchical_categorical"}, r"hold cat_hierarchy, got \[\]"),
        (
            SPECIES,
            {
                "target_metric": "hierarchical_categorical",
                "target_metric_kwds": {"cat_hierarchy": [{"cat": 0, "dog": 1, "oak": 2}]},
            },
            "got one without 'elm'",
        ),
        (np.zeros(N), {"target_metric_kwds": {"p": 3}}, r"hold no arguments, got \['p'\]"),
        (
            np.zeros(N),
            {"target_metric": "ordinal", "target_metric_kwds": {"p": 3}},
            r"of 'ordinal' must hold no arguments, got \['p'\]",
        ),
        (
            np.zeros((N, 2)),
            {"target_metric": "ordinal"},
            r"one value per row .*'ordinal', got shape",
        ),
    ],
)
def test_errors_say_what_they_got(graph, y, keywords, message):
    with pytest.raises(ValueError, match=message):
        supervise(graph, y, **keywords)
