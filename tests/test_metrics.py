"""The scores against scikit-learn, brute force, closed forms and cases worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import procrustes
from scipy.spatial.distance import cdist
from scipy.stats import pearsonr, spearmanr
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.metrics import r2_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from neumap import metrics


@pytest.fixture
def clusters():
    """Rows in five overlapping clusters, a lossy two-dimensional map of them, and labels."""
    rng = np.random.default_rng(7)
    labels = rng.integers(5, size=300)
    X = rng.normal(size=(300, 12)) + 3 * rng.normal(size=(5, 12))[labels]
    embedding = X @ rng.normal(size=(12, 2)) + 0.5 * rng.normal(size=(300, 2))
    return X, embedding, labels


def neighbor_sets(queries, reference, k, exclude_self):
    distances = cdist(queries, reference)
    if exclude_self:
        np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1)[:, :k], np.argsort(np.argsort(distances, axis=1)) + 1


# Neighbourhoods


@pytest.mark.parametrize("k", [1, 5, 15])
def test_trustworthiness_and_continuity_equal_scikit_learn(clusters, k):
    X, embedding, _ = clusters
    ours = metrics.trustworthiness(X, embedding, n_neighbors=k, n_samples=None)
    assert ours == pytest.approx(sklearn_trustworthiness(X, embedding, n_neighbors=k), abs=1e-12)
    mirrored = metrics.continuity(X, embedding, n_neighbors=k, n_samples=None)
    assert mirrored == pytest.approx(
        sklearn_trustworthiness(embedding, X, n_neighbors=k), abs=1e-12
    )


def test_trustworthiness_of_held_out_rows_equals_ranks_from_full_sorts(clusters):
    X, embedding, _ = clusters
    k, m = 7, 200
    _, ranks = neighbor_sets(X[m:], X[:m], k, exclude_self=False)
    on_map, _ = neighbor_sets(embedding[m:], embedding[:m], k, exclude_self=False)
    excess = np.maximum(0, np.take_along_axis(ranks, on_map, axis=1) - k).sum()
    expected = 1 - 2 * excess / (100 * k * (2 * m - 3 * k + 1))
    ours = metrics.trustworthiness(
        X[m:],
        embedding[m:],
        n_neighbors=k,
        X_reference=X[:m],
        embedding_reference=embedding[:m],
    )
    assert ours == pytest.approx(expected, abs=1e-12)


def test_rank_scores_reach_zero_for_the_worst_map():
    # Nearest on the map is farthest in the data, for the one query: excess 3 - 1, the largest.
    query, reference = [[0.0]], [[1.0], [2.0], [3.0]]
    shown = [[3.0], [2.0], [1.0]]
    for score in (metrics.trustworthiness, metrics.continuity):
        value = score(query, query, n_neighbors=1, X_reference=reference, embedding_reference=shown)
        assert value == 0.0


def test_neighborhood_scores_of_five_points_by_hand():
    # On a line: 0 1 3 7 15, shown with the ends of the first gap exchanged: 1 0 3 7 15.
    X = np.array([0.0, 1, 3, 7, 15])[:, None]
    embedding = np.array([1.0, 0, 3, 7, 15])[:, None]
    # Nearest in the data: 1 0 1 2 3; on the map: 1 0 0 2 3. Row 2 takes row 0 (rank 2) instead of
    # row 1, an excess of 1 out of at most 5 * (2 * 4 - 3 + 1) / 2 = 15.
    trust, continuity, recall = metrics.neighborhood_scores(X, embedding, n_neighbors=1)
    assert trust == pytest.approx(1 - 1 / 15)
    assert continuity == pytest.approx(1 - 1 / 15)
    assert recall == pytest.approx(4 / 5)


def test_knn_recall_equals_brute_force(clusters):
    X, embedding, _ = clusters
    near, _ = neighbor_sets(X, X, 15, exclude_self=True)
    shown, _ = neighbor_sets(embedding, embedding, 15, exclude_self=True)
    expected = np.mean([len(set(a) & set(b)) / 15 for a, b in zip(near, shown, strict=True)])
    assert metrics.knn_recall(X, embedding) == pytest.approx(expected)


def test_knn_recall_of_held_out_rows_equals_brute_force(clusters):
    X, embedding, _ = clusters
    near, _ = neighbor_sets(X[200:], X[:200], 10, exclude_self=False)
    shown, _ = neighbor_sets(embedding[200:], embedding[:200], 10, exclude_self=False)
    expected = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, shown, strict=True)])
    held_out = {"X_reference": X[:200], "embedding_reference": embedding[:200]}
    ours = metrics.knn_recall(X[200:], embedding[200:], n_neighbors=10, **held_out)
    assert ours == pytest.approx(expected)


def test_one_pass_equals_the_three_scores(clusters, monkeypatch):
    X, embedding, _ = clusters
    monkeypatch.setattr(metrics.tiles, "TILE_BYTES", 8 * 300 * 7)  # 7 queries a tile, 100 = 14*7+2
    options = {"n_neighbors": 9, "n_samples": 100, "random_state": 3}
    together = metrics.neighborhood_scores(X, embedding, **options)
    assert together.trustworthiness == metrics.trustworthiness(X, embedding, **options)
    assert together.continuity == metrics.continuity(X, embedding, **options)
    assert together.recall == metrics.knn_recall(X, embedding, **options)


def test_tiles_do_not_change_scores(clusters, monkeypatch):
    X, embedding, labels = clusters
    whole = metrics.scores(X, embedding, labels=labels)
    monkeypatch.setattr(metrics.tiles, "TILE_BYTES", 1)
    monkeypatch.setattr(metrics.large_scale, "CHUNK_BYTES", 8 * 12 * 1000)
    assert metrics.scores(X, embedding, labels=labels) == pytest.approx(whole, abs=1e-12)


def test_a_collapsed_map_scores_as_chance(clusters):
    X, _, _ = clusters
    collapsed = np.zeros((300, 2))
    trust, continuity, recall = metrics.neighborhood_scores(X, collapsed)
    # Mean rank excess of a random row over the largest possible one, near one half.
    ranks = np.arange(1, 300)
    chance = 1 - np.maximum(0, ranks - 15).mean() * 2 / (2 * 299 - 3 * 15 + 1)
    assert continuity == pytest.approx(chance)
    assert trust < 0.6
    assert recall < 0.2


def test_ties_average_over_the_orders_of_tied_rows():
    # Neighbour ranks on the map from row 0: row 1 first, rows 2 and 3 share ranks 2 and 3.
    query, reference, shown = [[0.0]], [[9.0], [1.0], [5.0]], [[1.0], [2.0], [2.0]]
    # The nearest in the data is row 1, so tied: its mean excess over k = 1 is (1 + 2) / 2 of 2.
    value = metrics.continuity(
        query, query, n_neighbors=1, X_reference=reference, embedding_reference=shown
    )
    assert value == pytest.approx(1 - 1.5 / 2)


def test_data_far_from_the_origin_keep_their_neighbors(clusters):
    X, embedding, _ = clusters
    near_origin = metrics.trustworthiness(X.astype(np.float32), embedding)
    shifted = (X + 3000).astype(np.float32)
    assert metrics.trustworthiness(shifted, embedding) == pytest.approx(near_origin, abs=2e-3)


def test_pixels_score_like_the_same_values_as_floats(clusters):
    _, embedding, _ = clusters
    pixels = np.random.default_rng(0).integers(256, size=(300, 4, 5), dtype=np.uint8)
    flat = pixels.reshape(300, 20).astype(np.float64)
    assert metrics.trustworthiness(pixels, embedding) == pytest.approx(
        metrics.trustworthiness(flat, embedding), abs=1e-3
    )


def test_a_sample_of_rows_is_near_the_score_of_all(clusters):
    X, embedding, _ = clusters
    everything = metrics.trustworthiness(X, embedding, n_samples=None)
    sampled = [
        metrics.trustworthiness(X, embedding, n_samples=60, random_state=seed) for seed in range(20)
    ]
    assert np.mean(sampled) == pytest.approx(everything, abs=0.01)
    assert len(set(sampled)) > 1
    again = metrics.trustworthiness(X, embedding, n_samples=60, random_state=19)
    assert again == sampled[-1]


# Classes


@pytest.mark.parametrize("k", [1, 5])
def test_knn_accuracy_of_test_rows_equals_scikit_learn(clusters, k):
    _, embedding, labels = clusters
    classifier = KNeighborsClassifier(k).fit(embedding[:200], labels[:200])
    ours = metrics.knn_accuracy(
        embedding[:200],
        labels[:200],
        embedding_test=embedding[200:],
        labels_test=labels[200:],
        n_neighbors=k,
    )
    assert ours == pytest.approx(classifier.score(embedding[200:], labels[200:]))


def test_knn_accuracy_leaves_each_row_out(clusters):
    _, embedding, labels = clusters
    hits = []
    for row in range(100):
        others = np.delete(np.arange(100), row)
        classifier = KNeighborsClassifier(5).fit(embedding[others], labels[others])
        hits.append(classifier.predict(embedding[[row]])[0] == labels[row])
    ours = metrics.knn_accuracy(embedding[:100], labels[:100])
    assert ours == pytest.approx(np.mean(hits))


def test_knn_accuracy_counts_unseen_classes_as_wrong():
    train, test = np.array([[0.0], [1.0]]), np.array([[0.1], [0.9]])
    accuracy = metrics.knn_accuracy(
        train, ["a", "b"], embedding_test=test, labels_test=["a", "c"], n_neighbors=1
    )
    assert accuracy == 0.5


def test_silhouette_equals_scikit_learn(clusters):
    _, embedding, labels = clusters
    labels = labels.copy()
    labels[0] = 99  # a class of one
    ours = metrics.silhouette(embedding, labels, n_samples=None)
    assert ours == pytest.approx(silhouette_score(embedding, labels), abs=1e-7)


def test_silhouette_of_four_points_by_hand():
    # Rows 0 and 1 against 10 and 11: (9.5+10.5)/2 etc.; by symmetry two kinds of rows.
    outer, inner = (10.5 - 1) / 10.5, (9.5 - 1) / 9.5
    value = metrics.silhouette([[0.0], [1.0], [10.0], [11.0]], ["a", "a", "b", "b"])
    assert value == pytest.approx((outer + inner) / 2)
    assert metrics.silhouette(np.zeros((4, 2)), [0, 0, 1, 1]) == 0.0


def test_silhouette_of_a_sample_compares_with_all_rows(clusters):
    _, embedding, labels = clusters
    sampled = [
        metrics.silhouette(embedding, labels, n_samples=100, random_state=s) for s in range(30)
    ]
    assert np.mean(sampled) == pytest.approx(silhouette_score(embedding, labels), abs=0.01)


def test_knc_by_hand():
    centers = np.array([0.0, 1, 3, 7])
    labels = np.repeat(["a", "b", "c", "d"], 2)
    X = np.repeat(centers, 2)[:, None] + np.tile([-0.2, 0.2], 4)[:, None]
    # The nearest centres are b a b c.
    exchanged = X[[0, 1, 2, 3, 6, 7, 4, 5]]
    assert metrics.knc(X, X, labels, n_neighbors=1) == 1.0
    # Positions a 0, b 1, c 7, d 3: nearest of a b c d are b a d b; kept for a and b only.
    assert metrics.knc(X, exchanged, labels, n_neighbors=1) == 0.5


# Large scale


def test_distance_correlation_approaches_the_one_over_all_pairs(clusters):
    X, embedding, _ = clusters
    upper = np.triu_indices(300, 1)
    in_data, on_map = cdist(X, X)[upper], cdist(embedding, embedding)[upper]
    options = {"n_pairs": 200_000}
    assert metrics.distance_correlation(X, embedding, **options) == pytest.approx(
        spearmanr(in_data, on_map).statistic, abs=0.01
    )
    assert metrics.distance_correlation(X, embedding, method="pearson", **options) == pytest.approx(
        pearsonr(in_data, on_map).statistic, abs=0.01
    )


def test_distance_correlation_ranks_only_the_order():
    X = np.array([0.0, 1, 3, 7])[:, None]
    stretched = np.array([0.0, 1, 30, 700])[:, None]
    assert metrics.distance_correlation(X, stretched) > 0.98
    assert metrics.distance_correlation(X, stretched, method="pearson") < 0.97
    assert metrics.distance_correlation(X, np.zeros((4, 2))) == 0.0


def test_random_triplet_accuracy_approaches_the_one_over_all_triplets(clusters):
    X, embedding = clusters[0][:40], clusters[1][:40]
    in_data, on_map = cdist(X, X), cdist(embedding, embedding)
    kept = [
        (in_data[i, j] < in_data[i, k]) == (on_map[i, j] < on_map[i, k])
        for i in range(40)
        for j in range(40)
        for k in range(40)
        if len({i, j, k}) == 3
    ]
    ours = metrics.random_triplet_accuracy(X, embedding, n_triplets=200_000)
    assert ours == pytest.approx(np.mean(kept), abs=0.005)
    assert metrics.random_triplet_accuracy(X, np.zeros((40, 2))) == 0.5


def test_sampled_pairs_and_triplets_hold_different_rows_uniformly():
    rng = np.random.default_rng(0)
    triplets = np.stack(metrics.large_scale._different_rows(rng, 4, 48_000, 3), axis=1)
    assert all(len(set(triplet)) == 3 for triplet in triplets[:1000].tolist())
    _, counts = np.unique(triplets, axis=0, return_counts=True)
    assert len(counts) == 24  # all ordered triplets of four rows
    assert np.abs(counts / 2000 - 1).max() < 0.12  # five standard errors


def test_procrustes_disparity_equals_scipy(clusters):
    _, embedding, _ = clusters
    other = np.random.default_rng(1).normal(size=embedding.shape) + 0.3 * embedding
    expected = procrustes(embedding, other)[2]
    assert metrics.procrustes_disparity(embedding, other) == pytest.approx(expected)
    mirrored = embedding * [-2.0, 2.0] + [5.0, 1.0]
    assert metrics.procrustes_disparity(embedding, mirrored) == pytest.approx(0, abs=1e-12)


# Objective


def cross_entropy_by_loops(embedding, graph, a, b, m):
    """Attraction, and repulsion over all ordered pairs weighted by the degree of the first."""
    n = len(embedding)
    q = 1 / (1 + a * cdist(embedding, embedding) ** (2 * b))
    attraction = -(graph * np.log(q)).sum() / graph.sum()
    degree = graph.sum(axis=1) / graph.sum()
    repulsion = sum(
        degree[i] * -np.log(max(1 - q[i, j], 1e-4)) / (n - 1)
        for i in range(n)
        for j in range(n)
        if i != j
    )
    return attraction, repulsion, attraction + m * repulsion


def random_graph(n, rng):
    weights = rng.random((n, n)) * (rng.random((n, n)) < 0.3)
    weights = np.triu(weights, 1)
    return weights + weights.T


def test_cross_entropy_equals_loops_over_all_pairs():
    rng = np.random.default_rng(2)
    embedding, graph = rng.normal(size=(30, 2)), random_graph(30, rng)
    expected = cross_entropy_by_loops(embedding, graph, 1.577, 0.895, 3)
    terms = metrics.umap_cross_entropy_terms(
        embedding, sparse.csr_array(graph), 1.577, 0.895, negative_sample_rate=3
    )
    assert terms.attraction == pytest.approx(expected[0], rel=1e-12)
    assert terms.repulsion == pytest.approx(expected[1], rel=5e-3)
    assert terms.total == pytest.approx(expected[2], rel=5e-3)


def test_cross_entropy_of_four_points_by_hand():
    # a = b = 1, so q = 1 / (1 + d^2). A square of side 1 whose four sides are the edges.
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    sides = sparse.coo_array(([1.0] * 4, ([0, 1, 2, 3], [1, 2, 3, 0])), shape=(4, 4))
    terms = metrics.umap_cross_entropy_terms(square, sides, 1.0, 1.0)
    assert terms.attraction == pytest.approx(np.log(2))
    # Each corner sees two others at distance 1 (1 - q = 1/2) and one at sqrt 2 (1 - q = 2/3).
    assert terms.repulsion == pytest.approx((2 * np.log(2) + np.log(1.5)) / 3, rel=2e-3)


def test_cross_entropy_is_the_same_for_every_form_of_graph():
    rng = np.random.default_rng(3)
    embedding, graph = rng.normal(size=(20, 3)), random_graph(20, rng)
    upper = sparse.coo_array(np.triu(graph))
    edges = SimpleNamespace(
        heads=upper.row, tails=upper.col, weights=upper.data.astype(np.float32), n_vertices=20
    )
    values = [
        metrics.umap_cross_entropy(embedding, form, 1.2, 0.9)
        for form in (sparse.csr_array(graph), sparse.csc_matrix(graph), upper, edges)
    ]
    assert values == pytest.approx([values[0]] * 4, rel=1e-6)


@pytest.mark.parametrize(("scale", "b"), [(0.0, 0.895), (1e-200, 0.895), (1e120, 2.0), (1e200, 1)])
def test_cross_entropy_is_finite_for_collapsed_and_exploded_maps(scale, b):
    rng = np.random.default_rng(4)
    graph = sparse.csr_array(random_graph(10, rng))
    embedding = scale * rng.normal(size=(10, 2))
    assert np.isfinite(metrics.umap_cross_entropy(embedding, graph, 1.577, b))
    at_a_point = metrics.umap_cross_entropy_terms(np.zeros((10, 2)), graph, 1.577, 0.895)
    assert at_a_point.attraction == 0
    assert at_a_point.repulsion == pytest.approx(-np.log(1e-4))


def test_cross_entropy_repeats_with_its_seed():
    rng = np.random.default_rng(5)
    graph, embedding = sparse.csr_array(random_graph(50, rng)), rng.normal(size=(50, 2))
    first, again, other = (
        metrics.umap_cross_entropy(embedding, graph, 1.0, 1.0, seed=s) for s in (0, 0, 1)
    )
    assert first == again != other


# Reconstruction


def test_reconstruction_scores_equal_formulas(clusters):
    X, _, _ = clusters
    rebuilt = X + np.random.default_rng(0).normal(size=X.shape)
    assert metrics.reconstruction_error(X, rebuilt) == pytest.approx(np.mean((X - rebuilt) ** 2))
    expected = r2_score(X, rebuilt, multioutput="variance_weighted")
    assert metrics.reconstruction_r2(X, rebuilt) == pytest.approx(expected)
    mean_row = np.broadcast_to(X.mean(axis=0), X.shape)
    assert metrics.reconstruction_r2(X, mean_row) == pytest.approx(0, abs=1e-12)


# The table


def test_scores_holds_each_score_under_its_name(clusters):
    X, embedding, labels = clusters
    train, test = slice(None, 200), slice(200, None)
    table = metrics.scores(
        X[train],
        embedding[train],
        labels=labels[train],
        X_test=X[test],
        embedding_test=embedding[test],
        labels_test=labels[test],
    )
    names = [
        "trustworthiness",
        "continuity",
        "recall@15",
        "distance_correlation",
        "distance_correlation_pearson",
        "knn_accuracy",
        "silhouette",
    ]
    assert list(table) == names + [f"test_{name}" for name in names]
    assert all(type(value) is float for value in table.values())
    reference = {"X_reference": X[train], "embedding_reference": embedding[train]}
    assert table["trustworthiness"] == metrics.trustworthiness(X[train], embedding[train])
    assert table["test_continuity"] == metrics.continuity(X[test], embedding[test], **reference)
    assert table["test_recall@15"] == metrics.knn_recall(X[test], embedding[test], **reference)
    assert table["test_silhouette"] == metrics.silhouette(embedding[test], labels[test])
    assert table["test_knn_accuracy"] == metrics.knn_accuracy(
        embedding[train],
        labels[train],
        embedding_test=embedding[test],
        labels_test=labels[test],
    )


def test_scores_needs_neither_labels_nor_test_rows(clusters):
    X, embedding, _ = clusters
    table = metrics.scores(X, embedding)
    assert "knn_accuracy" not in table
    assert not any(name.startswith("test_") for name in table)


def test_scores_names_the_neighborhood_a_small_set_allows():
    X = np.random.default_rng(0).normal(size=(11, 3))
    table = metrics.scores(X, X[:, :2], labels=[0] * 11, X_test=X[:1], embedding_test=X[:1, :2])
    assert "recall@5" in table
    assert "silhouette" not in table


# What is refused


rows = np.arange(40.0).reshape(20, 2)
with_nan = np.where(rows == 4, np.nan, rows)
edges = sparse.csr_array(np.ones((20, 20)))


@pytest.mark.parametrize(
    ("score", "arguments", "options", "message"),
    [
        (metrics.trustworthiness, (rows, rows[:9]), {}, r"same rows.*20 and 9"),
        (metrics.trustworthiness, (rows, rows), {"n_neighbors": 10}, r"between 1 and 9.*got 10"),
        (
            metrics.trustworthiness,
            (with_nan, rows),
            {},
            r"finite, got NaN or infinity in 1 of 20 rows",
        ),
        (metrics.trustworthiness, (rows, rows), {"X_reference": rows}, "given together"),
        (metrics.trustworthiness, (rows[:, 0], rows), {}, r"got shape \(20,\)"),
        (metrics.trustworthiness, (rows, rows), {"n_samples": 0}, "n_samples must be between 1"),
        (
            metrics.trustworthiness,
            (rows, rows),
            {"X_reference": rows[:, :1], "embedding_reference": rows},
            "same number of columns, got 2 and 1",
        ),
        (metrics.continuity, (rows, rows), {"n_neighbors": 0}, "n_neighbors must be between"),
        (metrics.knn_recall, (rows, rows), {"n_neighbors": 20}, r"between 1 and 19.*got 20"),
        (metrics.neighborhood_scores, (rows[:0], rows[:0]), {}, r"at least one.*\(0, 2\)"),
        (metrics.knn_accuracy, (rows, [1, 2]), {}, r"shape \(20,\), got shape \(2,\)"),
        (metrics.knn_accuracy, (rows, [1] * 20), {"labels_test": [1]}, "given together"),
        (metrics.silhouette, (rows, [3] * 20), {}, "two classes, got only"),
        (metrics.knc, (rows, rows, [0, 1] * 10), {}, "n_neighbors must be between 1 and 0"),
        (metrics.distance_correlation, (rows, rows), {"method": "kendall"}, "got 'kendall'"),
        (metrics.distance_correlation, (rows[:2], rows[:2]), {}, "at least 3 rows, got 2"),
        (metrics.procrustes_disparity, (rows, rows[:, :1]), {}, "same shape"),
        (metrics.procrustes_disparity, (rows, np.ones((20, 2))), {}, "got 20 rows at one position"),
        (metrics.umap_cross_entropy, (rows[:9], edges, 1, 1), {}, "20 vertices and 9 rows"),
        (metrics.umap_cross_entropy, (rows, edges, 0, 1), {}, "a=0"),
        (metrics.umap_cross_entropy, (rows, -edges, 1, 1), {}, "not negative"),
        (metrics.umap_cross_entropy, (rows, edges[:, :9], 1, 1), {}, "square"),
        (metrics.umap_cross_entropy, (rows, 0 * edges, 1, 1), {}, "at least one edge"),
        (metrics.umap_cross_entropy, (rows, edges, 1, 1, -1), {}, "negative_sample_rate"),
        (metrics.reconstruction_error, (rows, rows[:, :1]), {}, "same shape"),
        (metrics.reconstruction_r2, (np.ones((3, 1)), np.ones((3, 1))), {}, "got 3 equal rows"),
        (metrics.scores, (rows, rows), {"X_test": rows}, "X_test and embedding_test"),
        (metrics.scores, (rows, rows), {"labels_test": [1]}, "labels_test must be given together"),
    ],
)
def test_unusable_input_is_refused(score, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        score(*arguments, **options)


def test_input_of_the_wrong_kind_is_refused():
    with pytest.raises(TypeError, match=r"dense numeric.*csr_array.*toarray"):
        metrics.trustworthiness(edges, rows)
    with pytest.raises(TypeError, match=r"sparse matrix.*got ndarray"):
        metrics.umap_cross_entropy(rows, np.ones((20, 20)), 1, 1)


# Manners


def test_global_random_state_is_untouched(clusters, global_random_state_untouched):
    X, embedding, labels = clusters
    metrics.scores(X, embedding, labels=labels, n_samples=50)
    metrics.random_triplet_accuracy(X, embedding)
    metrics.umap_cross_entropy(embedding, sparse.eye_array(300, k=1).tocsr(), 1, 1)


def test_inputs_are_not_changed(clusters):
    X, embedding, labels = clusters
    before = X.copy(), embedding.copy(), labels.copy()
    metrics.scores(X, embedding, labels=labels)
    for now, then in zip((X, embedding, labels), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_importing_metrics_loads_neither_torch_nor_scikit_learn():
    code = (
        "import sys, neumap.metrics; "
        "print({'torch', 'sklearn', 'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_memory_stays_bounded_on_many_rows():
    code = """
import resource, numpy as np
from neumap import metrics
rng = np.random.default_rng(0)
X = rng.random((60_000, 784), dtype=np.float32)
embedding = rng.normal(size=(60_000, 2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
metrics.scores(X, embedding, labels=rng.integers(10, size=60_000), n_samples=300)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kibibytes = int(done.stdout)
    # One float32 copy of the data (188 MB) and tiles of 64 MiB; an n by n matrix would be 14 GB.
    assert kibibytes < 600 * 1024
