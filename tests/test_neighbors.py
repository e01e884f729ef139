"""Neighbour search: every backend against scipy's distances, metrics against umap-learn's."""

import logging

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from scipy.spatial.distance import cdist

from neumap import _device
from neumap.neighbors import (
    METRICS,
    CellBackend,
    DescentBackend,
    ExactBackend,
    HnswBackend,
    NeighborGraph,
    NeighborSearch,
    SparseBackend,
    descent,
    disconnection_distance_of,
    exact,
    find_neighbors,
    hnsw,
    neighbors_from_distances,
    neighbors_from_knn,
    query_neighbors,
    resolve_metric,
    sparse,
    units,
)
from neumap.neighbors.exact import smallest
from neumap.neighbors.graph import own_row_first
from neumap.neighbors.hnsw import found_share

EUCLIDEAN = ["euclidean", "sqeuclidean", "cosine", "correlation"]

BACKENDS = [
    pytest.param(ExactBackend(), id="exact"),
    pytest.param(HnswBackend(n_jobs=1), id="hnsw"),
    pytest.param(CellBackend(n_jobs=1), id="cells"),
    pytest.param(SparseBackend(), id="sparse"),
    pytest.param(DescentBackend(n_jobs=1), id="pynndescent", marks=pytest.mark.slow),
]


def blobs(n=300, n_columns=8, seed=0, shift=0.0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(scale=3, size=(5, n_columns))
    rows = centres[generator.integers(5, size=n)] + generator.normal(size=(n, n_columns))
    return (rows + shift).astype(np.float32)


def true_distances(rows, queries, metric, k):
    matrix = cdist(queries.astype(np.float64), rows.astype(np.float64), metric)
    return np.sort(matrix, axis=1)[:, :k]


# The contract, for every backend


class TestContract:
    """What a backend promises, whichever it is."""

    @pytest.fixture(params=BACKENDS)
    def backend(self, request):
        return request.param

    @pytest.fixture
    def rows(self, backend):
        rows = blobs()
        return scipy.sparse.csr_matrix(rows) if backend.name == "exact-sparse" else rows

    @pytest.mark.parametrize("metric", EUCLIDEAN)
    def test_finds_the_neighbours(self, backend, rows, metric):
        graph = find_neighbors(rows, 10, metric=metric, backend=backend)
        truth = true_distances(blobs(), blobs(), metric, 10)
        assert graph.indices.dtype == np.int64
        assert graph.distances.dtype == np.float32
        assert found_share(graph.distances, truth) >= (1.0 if backend.exact else 0.98)
        assert graph.recall is not None
        assert graph.recall >= 0.98

    @pytest.mark.parametrize("metric", ["euclidean", "correlation"])
    def test_distances_are_those_of_the_indices(self, backend, rows, metric):
        graph = find_neighbors(rows, 6, metric=metric, backend=backend)
        matrix = cdist(blobs().astype(float), blobs().astype(float), metric)
        expected = np.take_along_axis(matrix, graph.indices, axis=1)
        np.testing.assert_allclose(graph.distances, expected, rtol=2e-4, atol=2e-5)

    def test_own_row_comes_first_and_distances_rise(self, backend, rows):
        graph = find_neighbors(rows, 7, backend=backend)
        np.testing.assert_array_equal(graph.indices[:, 0], np.arange(300))
        assert (graph.distances[:, 0] == 0).all()
        assert (np.diff(graph.distances, axis=1) >= 0).all()
        assert all(len(set(row)) == 7 for row in graph.indices)

    def test_duplicates_keep_their_own_row_first(self, backend, rows):
        doubled = rows[np.repeat(np.arange(15), 20)]
        graph = find_neighbors(doubled, 5, backend=backend)
        np.testing.assert_array_equal(graph.indices[:, 0], np.arange(300))
        np.testing.assert_allclose(graph.distances, 0, atol=1e-3)

    def test_query_agrees_with_brute_force(self, backend, rows):
        new = blobs()[:40] + np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
        given = scipy.sparse.csr_matrix(new) if scipy.sparse.issparse(rows) else new
        indices, distances = query_neighbors(rows, given, 5, metric="cosine", backend=backend)
        truth = true_distances(blobs(), new, "cosine", 5)
        assert indices.shape == distances.shape == (40, 5)
        assert found_share(distances, truth) >= (1.0 if backend.exact else 0.97)

    def test_same_seed_same_answer(self, backend, rows):
        first = find_neighbors(rows, 8, backend=backend)
        second = find_neighbors(rows, 8, backend=backend)
        np.testing.assert_array_equal(first.indices, second.indices)
        np.testing.assert_array_equal(first.distances, second.distances)

    def test_data_and_global_random_state_stay_as_they_were(self, backend, rows):
        before, state = rows.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
        find_neighbors(rows, 5, backend=backend)
        assert abs(rows - before).max() == 0
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


# Metrics


@pytest.mark.reference
@pytest.mark.parametrize(
    "metric",
    ["braycurtis", "canberra", "chebyshev", "cosine", "correlation", "dice", "euclidean", "hamming",
     "haversine", "hellinger", "jaccard", "kulsinski", "l1", "l2", "linf", "ll_dirichlet",
     "manhattan", "matching", "minkowski", "poincare", "rogerstanimoto", "russellrao",
     "softmax_hellinger", "sokalmichener", "sokalsneath", "symmetric_kl", "yule"],
)  # fmt: skip
def test_named_metric_equals_umap_learn(metric):
    named = pytest.importorskip("umap.distances").named_distances[metric]
    generator = np.random.default_rng(3)
    rows = {
        "haversine": generator.uniform(-1.5, 1.5, size=(25, 2)),
        "hellinger": generator.gamma(1.0, size=(25, 6)),
        "symmetric_kl": generator.dirichlet(np.ones(6), size=25),
        "ll_dirichlet": generator.poisson(4, size=(25, 6)) + 1,
        "poincare": generator.uniform(-0.3, 0.3, size=(25, 6)),
    }.get(metric, generator.integers(0, 3, size=(25, 6)))
    rows = rows.astype(np.float32)
    if metric not in ("haversine", "poincare", "symmetric_kl", "ll_dirichlet"):
        rows[:2] = 0  # rows without length
    graph = find_neighbors(rows, 25, metric=metric, backend="exact")
    pairs = [(rows[i].copy(), rows[j].copy()) for i in range(25) for j in graph.indices[i]]
    expected = np.reshape([named(*pair) for pair in pairs], (25, 25))
    tolerance = 5e-3 if metric == "ll_dirichlet" else 2e-5  # the original uses Stirling's formula
    np.testing.assert_allclose(graph.distances[:, 1:], expected[:, 1:], atol=tolerance)
    assert (np.diff(graph.distances, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("metric", "kwds", "scipy_metric", "scipy_kwds"),
    [
        ("minkowski", {"p": 3}, "minkowski", {"p": 3}),
        ("minkowski", {"p": 2}, "euclidean", {}),
        ("wminkowski", {"w": [1, 2, 3, 4], "p": 3}, "minkowski", {"w": [1, 2, 3, 4], "p": 3}),
        ("wminkowski", {"w": [1, 2, 3, 4], "p": 2}, "minkowski", {"w": [1, 2, 3, 4], "p": 2}),
        ("seuclidean", {"sigma": [1, 2, 3, 4]}, "seuclidean", {"V": [1, 2, 3, 4]}),
        ("seuclidean", {"V": [1, 2, 3, 4]}, "seuclidean", {"V": [1, 2, 3, 4]}),
        ("mahalanobis", {"vinv": np.diag([1, 2, 3, 4]) + 0.5}, "mahalanobis",
         {"VI": np.diag([1, 2, 3, 4]) + 0.5}),
    ],
)  # fmt: skip
def test_metric_with_arguments(metric, kwds, scipy_metric, scipy_kwds):
    rows = blobs(50, 4)
    graph = find_neighbors(rows, 5, metric=metric, metric_kwds=kwds)
    matrix = cdist(rows.astype(float), rows.astype(float), scipy_metric, **scipy_kwds)
    np.testing.assert_allclose(graph.distances, np.sort(matrix, axis=1)[:, :5], rtol=1e-4)


def test_function_as_metric_may_return_its_gradient():
    def city(x, y):
        return np.abs(x - y).sum(), np.sign(x - y)

    rows = blobs(40)
    graph = find_neighbors(rows, 5, metric=city)
    np.testing.assert_allclose(
        graph.distances, find_neighbors(rows, 5, metric="l1").distances, rtol=1e-5
    )


def test_zero_rows_have_no_direction():
    rows = np.array([[0, 0], [0, 0], [1, 0], [2, 0], [-1, 0]], dtype=np.float32)
    for backend in ("exact", "cells", "hnsw"):
        graph = find_neighbors(rows, 5, metric="cosine", backend=backend)
        np.testing.assert_allclose(graph.distances[0], [0, 0, 1, 1, 1], atol=1e-6)
        np.testing.assert_allclose(graph.distances[2], [0, 0, 1, 1, 2], atol=1e-6)


def test_constant_rows_have_no_correlation():
    rows = np.array([[0.1] * 7, [0.3] * 7, range(7)], dtype=np.float32)
    graph = find_neighbors(rows, 3, metric="correlation")
    np.testing.assert_allclose(graph.distances, [[0, 0, 1], [0, 0, 1], [0, 1, 1]], atol=1e-6)


def test_distances_survive_a_large_offset():
    rows = blobs(400, 20)
    far = find_neighbors(rows + np.float32(4096), 10)
    matrix = cdist(rows.astype(float), rows.astype(float))
    expected = np.sort(matrix, axis=1)[:, :10]
    np.testing.assert_allclose(far.distances, expected, atol=2e-3)


@pytest.mark.parametrize("n_per_cluster", [9, 60])
def test_tight_clusters_far_apart(n_per_cluster):
    generator = np.random.default_rng(0)
    centres = generator.normal(scale=500, size=(8, 1, 6))
    rows = centres + generator.normal(scale=0.02, size=(8, n_per_cluster, 6))
    rows = rows.reshape(-1, 6).astype(np.float32)
    graph = find_neighbors(rows, 5, backend="exact")
    np.testing.assert_allclose(
        graph.distances, true_distances(rows, rows, "euclidean", 5), rtol=1e-4
    )


def test_extra_candidates_repair_the_ranking():
    generator = np.random.default_rng(0)  # neighbours closer than the product resolves well
    rows = generator.normal(scale=30, size=(40, 1, 8)) + generator.normal(
        scale=0.15, size=(40, 10, 8)
    )
    rows = rows.reshape(-1, 8).astype(np.float32)
    graph = find_neighbors(rows, 4, backend="exact")
    matrix = cdist(rows.astype(float), rows.astype(float))
    np.testing.assert_array_equal(graph.indices, np.argsort(matrix, axis=1)[:, :4])


def test_disconnection_distances():
    assert disconnection_distance_of("correlation") == 2
    assert disconnection_distance_of("dice") == disconnection_distance_of("hellinger") == 1
    assert disconnection_distance_of("manhattan") == np.inf
    assert disconnection_distance_of(lambda x, y: 0.0) == np.inf


@pytest.mark.parametrize("backend", ["exact", "hnsw"])
@pytest.mark.parametrize("metric", ["hellinger", "cosine", "correlation"])
def test_rows_with_nothing_in_common_are_at_the_bound(metric, backend):
    """Else rounding decides which of them a graph cuts off."""
    generator = np.random.default_rng(0)
    halves = generator.random((2, 20, 301)).astype(np.float32) + 0.1
    if metric == "hellinger":
        rows = scipy.linalg.block_diag(*halves).astype(np.float32)
    else:
        rows = np.concatenate([halves[0], -halves[0]])
    graph = find_neighbors(rows, 40, metric=metric, backend=backend)
    opposite = (np.arange(40)[:, None] + 20) % 40 == graph.indices
    assert opposite.sum() == 40
    assert (graph.distances[opposite] == disconnection_distance_of(metric)).all()
    assert (graph.distances <= disconnection_distance_of(metric)).all()


@pytest.mark.reference
def test_every_name_of_umap_learn_is_known():
    umap = pytest.importorskip("umap.distances")
    targets = {"categorical", "count", "hierarchical_categorical", "myers", "ordinal", "string"}
    assert set(umap.named_distances) - targets <= set(METRICS)


# Errors


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (np.ones((4, 3)), {"metric": "nearest"}, "one of .*euclidean.*got 'nearest'"),
        (np.ones((4, 3)), {"metric": "haversine"}, "two columns.*got 3"),
        (-np.ones((4, 3)), {"metric": "hellinger"}, "must not be negative.*hellinger.*-1.0"),
        (np.ones((4, 3)), {"metric_kwds": {"p": 3}}, "arguments of metric 'euclidean'.*'p'"),
        (np.ones((4, 3)), {"metric": "seuclidean"}, "exactly one of sigma and V"),
        (np.ones((4, 3)), {"n_jobs": 0}, "n_jobs must be positive.*got 0"),
        (np.ones((4, 3)), {"backend": "kd-tree"}, "backend must be .*got 'kd-tree'"),
        (np.ones((4, 3)), {"metric": "l1", "backend": "cells"}, "reduce to Euclidean.*manhattan"),
        (np.ones((4, 3)), {"metric": "l1", "backend": "hnsw"}, "reduce to Euclidean.*manhattan"),
        (np.ones((4, 3)), {"metric": "tsss", "backend": "exact"}, "pynndescent"),
        (
            np.ones((4, 3)),
            {"metric": "ll_dirichlet", "backend": "pynndescent"},
            "one that pynndescent has",
        ),
        (np.ones(4), {}, "n_features.*got shape"),
        (np.ones((0, 3)), {}, "at least one row"),
    ],
)
def test_errors_say_what_they_got(rows, arguments, message):
    with pytest.raises(ValueError, match=message):
        find_neighbors(rows, 2, **arguments)


def test_n_neighbors_is_cut_to_the_rows():
    with pytest.warns(UserWarning, match="at most the number of rows, 4, got 9"):
        graph = find_neighbors(blobs(4), 9)
    assert graph.indices.shape == (4, 4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        find_neighbors(blobs(4), 0)


def test_query_with_other_columns():
    with pytest.raises(ValueError, match=r"8 columns.*got 5"):
        query_neighbors(blobs(20), blobs(3, 5), 2)


# Choice of backend, threads, copies


def test_choice_by_size_and_metric(monkeypatch):
    monkeypatch.setattr("neumap.neighbors.search.MAX_EXACT_ROWS", 200)
    assert find_neighbors(blobs(150), 5).backend == "exact"
    assert find_neighbors(blobs(), 5).backend == "cells"
    assert find_neighbors(blobs(), 5, metric="l1").backend == "exact"
    assert find_neighbors(scipy.sparse.csr_matrix(blobs()), 5).backend == "exact-sparse"


def test_float32_rows_are_not_copied():
    rows = blobs()
    for backend in (ExactBackend(), CellBackend(), HnswBackend()):
        assert backend.prepare(rows, resolve_metric("euclidean")) is rows


def test_read_only_rows(tmp_path):
    np.save(tmp_path / "rows.npy", blobs())
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        find_neighbors(rows, 5).indices, find_neighbors(blobs(), 5).indices
    )


def test_threads_are_restored():
    import faiss
    import torch

    before = faiss.omp_get_max_threads(), torch.get_num_threads()
    find_neighbors(blobs(), 5, backend="hnsw", n_jobs=2)
    find_neighbors(blobs(), 5, backend="exact", n_jobs=2)
    find_neighbors(blobs(), 5, backend="cells", n_jobs=2)
    assert (faiss.omp_get_max_threads(), torch.get_num_threads()) == before


@pytest.mark.parametrize("block_bytes", [1 << 22, 16])
def test_the_largest_value_is_found_whatever_its_block_and_type(block_bytes, monkeypatch):
    monkeypatch.setattr(units, "BLOCK_BYTES", block_bytes)
    rows = np.random.default_rng(0).normal(size=(50, 3))
    assert units.largest_value(rows) == np.abs(rows).max()
    assert units.largest_value(scipy.sparse.csr_matrix(rows)) == np.abs(rows).max()
    for dtype in (np.int64, np.uint16, np.float32):
        values = np.arange(40, dtype=dtype)[:, None] * np.ones(3, dtype=dtype)
        assert units.largest_value(values) == 39
    assert units.largest_value(np.array([[np.iinfo(np.int64).min], [1]])) == 2.0**63
    rows[20, 1] = np.nan
    assert np.isnan(units.largest_value(rows))
    assert units.largest_value(np.zeros((9, 2), dtype=np.uint8)) == 0


def test_few_queries_and_many_get_the_same_neighbours(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    few = exact.euclidean_neighbors(rows, rows[:40], 7)
    monkeypatch.setattr(exact, "TILE_ROWS", 16)  # the rows are read once for every 16 queries
    many = exact.euclidean_neighbors(rows, rows[:40], 7)
    np.testing.assert_array_equal(few[0], many[0])
    np.testing.assert_array_equal(few[1], many[1])


@pytest.mark.parametrize(("n_jobs", "cores", "threads"), [(-1, 1, 1), (4, 2, 2), (1, 2, 1)])
def test_searches_take_no_more_threads_than_cores(monkeypatch, n_jobs, cores, threads):
    """A container's quota, say, below the number of threads that the libraries start with."""
    import faiss
    import torch

    def searched(*_):
        seen.append(torch.get_num_threads())
        return np.zeros((2, 1), dtype=np.int64), np.zeros((2, 1), dtype=np.float32)

    seen = []
    monkeypatch.setattr(exact, "euclidean_neighbors", searched)
    for module in (_device, descent, exact, hnsw, sparse):
        monkeypatch.setattr(module, "usable_cores", lambda: cores)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(4)
    with _device.torch_threads(4):
        ExactBackend(n_jobs=n_jobs).query(blobs(), blobs(2), 1, resolve_metric("euclidean"))
    with hnsw._faiss_threads(n_jobs):
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)
    assert seen == [threads]
    assert SparseBackend(n_jobs=n_jobs)._n_threads() == threads


@pytest.mark.parametrize(("n_jobs", "cores", "started", "asked"), [(-1, 2, 8, 2), (-1, 8, 4, 4)])
def test_descent_asks_numba_for_threads_that_it_has(monkeypatch, n_jobs, cores, started, asked):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", started)
    monkeypatch.setattr(descent, "usable_cores", lambda: cores)
    assert descent._numba_threads(n_jobs) == asked


def test_seed_decides_hnsw():
    rows = np.random.default_rng(0).normal(size=(2000, 30)).astype(np.float32)
    low = {"ef_search": 10, "target_recall": 0.0, "ef_construction": 8, "n_links": 4}
    found = [find_low(rows, HnswBackend(seed=seed, **low)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def find_low(rows, backend):
    return backend.search(rows, 5, resolve_metric("euclidean"))[0]


def test_search_widens_until_the_recall_is_met():
    rows = np.random.default_rng(0).normal(size=(3000, 40)).astype(np.float32)
    metric = resolve_metric("euclidean")
    truth = ExactBackend().search(rows, 10, metric)[1]
    narrow = HnswBackend(ef_search=20, target_recall=0.0).search(rows, 10, metric)[1]
    wide = HnswBackend(ef_search=20).search(rows, 10, metric)[1]
    assert found_share(narrow, truth) < 0.95
    assert found_share(wide, truth) >= 0.98


def test_low_recall_is_told():
    rows = np.random.default_rng(0).normal(size=(3000, 60)).astype(np.float32)
    poor = HnswBackend(n_links=4, ef_construction=8, ef_search=10, target_recall=0.0)
    with pytest.warns(UserWarning, match="of the true neighbours.*backend='exact'"):
        graph = find_neighbors(rows, 15, backend=poor)
    exact = find_neighbors(rows, 15, backend="exact")
    assert graph.recall == pytest.approx(found_share(graph.distances, exact.distances), abs=0.05)


def test_verbose_logs_and_changes_nothing(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="neumap.neighbors"):
        loud = find_neighbors(blobs(), 5, verbose=True)
    assert "neighbours by exact" in caplog.text
    np.testing.assert_array_equal(loud.indices, find_neighbors(blobs(), 5).indices)
    assert capsys.readouterr().out == ""


# Pieces


@pytest.mark.parametrize("n_columns", [10, 640, 1000])
def test_smallest_of_groups(n_columns):
    import torch

    scores = torch.rand(20, n_columns, generator=torch.Generator().manual_seed(0))
    values, indices = smallest(scores, 7)
    expected = scores.sort(dim=1).values[:, :7]
    torch.testing.assert_close(values.sort(dim=1).values, expected)
    torch.testing.assert_close(scores.gather(1, indices), values)


def test_blocks_and_tiles_do_not_change_the_answer(monkeypatch):
    rows = blobs(500)
    whole = find_neighbors(rows, 9)
    monkeypatch.setattr("neumap.neighbors.exact.TILE_ROWS", 64)
    monkeypatch.setattr("neumap.neighbors.exact.TILE_COLUMNS", 100)
    monkeypatch.setattr("neumap.neighbors.exact.OTHER_TILE_ROWS", 64)
    tiled = find_neighbors(rows, 9)
    np.testing.assert_array_equal(whole.indices, tiled.indices)
    city = find_neighbors(rows, 9, metric="l1")
    np.testing.assert_allclose(
        city.distances, true_distances(rows, rows, "cityblock", 9), rtol=1e-5
    )


def test_own_row_first_shifts_the_others():
    indices, distances = own_row_first(
        np.array([[3, 0, 2], [1, 0, 2], [0, 1, 3]]), np.array([[0, 0, 5], [0, 1, 2], [1, 2, 3.0]])
    )
    assert indices.tolist() == [[0, 3, 2], [1, 0, 2], [2, 0, 1]]
    assert distances.tolist() == [[0, 0, 5], [0, 1, 2], [0, 1, 2]]


# Settings as one object


def test_one_search_answers_for_its_rows_and_for_new_ones():
    rows = blobs(60)
    search = NeighborSearch(metric="minkowski", metric_kwds={"p": 3}, seed=4)
    settings = {"metric": "minkowski", "metric_kwds": {"p": 3}, "seed": 4}
    found, once = search.find(rows, 6), find_neighbors(rows, 6, **settings)
    np.testing.assert_array_equal(found.indices, once.indices)
    matrix = cdist(rows.astype(np.float64), rows.astype(np.float64), "minkowski", p=3)
    np.testing.assert_allclose(found.distances, np.sort(matrix, axis=1)[:, :6], rtol=1e-5)
    index = search.index(rows[10:])
    for part in (rows[:10], rows[:3]):
        for ours, theirs in zip(
            index.query(part, 4), query_neighbors(rows[10:], part, 4, **settings), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_a_search_refuses_settings_it_does_not_have():
    with pytest.raises(TypeError, match="n_trees"):
        find_neighbors(blobs(20), 5, n_trees=3)


# Sparse rows


@pytest.mark.parametrize("metric", [*EUCLIDEAN, "hellinger", "jaccard", "dice", "l1", "canberra"])
def test_sparse_rows_equal_dense_rows(metric):
    generator = np.random.default_rng(0)
    dense = generator.poisson(0.3, size=(120, 40)).astype(np.float32)
    dense[:3] = 0
    sparse = find_neighbors(scipy.sparse.csr_matrix(dense), 8, metric=metric)
    np.testing.assert_allclose(
        sparse.distances, find_neighbors(dense, 8, metric=metric).distances, atol=1e-5
    )
    new = scipy.sparse.csr_matrix(dense[:9])
    _, distances = query_neighbors(scipy.sparse.coo_matrix(dense), new, 4, metric=metric)
    np.testing.assert_allclose(
        distances, query_neighbors(dense, dense[:9], 4, metric=metric)[1], atol=1e-5
    )


def test_sparse_products_refuse_other_metrics():
    with pytest.raises(ValueError, match="got 'manhattan'"):
        SparseBackend().prepare(scipy.sparse.eye(3), resolve_metric("l1"))


# Distances and neighbours that the user has


def symmetric_distances(n=30, seed=0):
    matrix = cdist(blobs(n, seed=seed), blobs(n, seed=seed))
    np.fill_diagonal(matrix, 0)
    return matrix


def test_precomputed_matrix_equals_the_search():
    graph = find_neighbors(symmetric_distances(), 6, metric="precomputed")
    direct = find_neighbors(blobs(30), 6)
    np.testing.assert_array_equal(graph.indices, direct.indices)
    np.testing.assert_allclose(graph.distances, direct.distances, rtol=1e-4)


def test_sparse_precomputed_matrix():
    full = symmetric_distances()
    graph = find_neighbors(scipy.sparse.csr_matrix(full), 6, metric="precomputed")
    dense = neighbors_from_distances(full, 6)
    np.testing.assert_array_equal(graph.indices, dense.indices)
    np.testing.assert_allclose(graph.distances, dense.distances)


def test_infinite_distances_are_no_neighbours():
    matrix = np.array([[0, 1, np.inf], [1, 0, np.inf], [np.inf, np.inf, 0]])
    graph = neighbors_from_distances(matrix, 3)
    assert graph.indices.tolist() == [[0, 1, -1], [1, 0, -1], [2, -1, -1]]
    assert np.isinf(graph.distances[2, 1:]).all()


def test_query_by_precomputed_distances():
    rows, new = blobs(30), blobs(4, seed=1)
    distances = cdist(new, rows).astype(np.float32)
    expected = query_neighbors(rows, new, 5)
    for given in (distances, scipy.sparse.csr_matrix(distances)):
        indices, found = query_neighbors(rows, given, 5, metric="precomputed")
        np.testing.assert_array_equal(indices, expected[0])
        np.testing.assert_allclose(found, expected[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 4)), "square matrix, .*got shape \\(3, 4\\)"),
        (np.array([[0, -1.0], [1, 0]]), "smallest value of -1.0"),
        (np.array([[0, np.nan], [1, 0]]), "not NaN"),
        (scipy.sparse.csr_matrix([[0, 1.0], [2, 0]]), "symmetric"),
        (scipy.sparse.csr_matrix([[1, 1.0], [1, 0]]), "0 on its diagonal, got 1"),
        (
            scipy.sparse.csr_matrix([[0, 1.0, 0], [1, 0, 0], [0, 0, 0]]),
            "least 1.*got 0 in row 2",
        ),
    ],
)
def test_bad_distance_matrices(matrix, message):
    with pytest.raises(ValueError, match=message):
        neighbors_from_distances(matrix, 2)


def test_precomputed_knn_is_cut_sorted_and_starts_with_the_row():
    indices = np.array([[1, 2, 0], [1, 0, 2], [0, 1, 2]])
    distances = np.array([[1.0, 2, 0], [0, 1, 3], [2, 3, 0]])
    graph = neighbors_from_knn((indices, distances, None), n_rows=3, n_neighbors=2)
    assert isinstance(graph, NeighborGraph)
    assert graph.indices.tolist() == [[0, 1], [1, 0], [2, 0]]
    assert graph.distances.tolist() == [[0, 1], [0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("n_rows", "n_neighbors", "message"),
    [(4, 2, "each of the 4 rows.*got 3 rows"), (3, 5, "n_neighbors=5.*got 3")],
)
def test_unfit_precomputed_knn_is_ignored(n_rows, n_neighbors, message):
    knn = np.zeros((3, 3), dtype=int), np.zeros((3, 3))
    with pytest.warns(UserWarning, match=message):
        assert neighbors_from_knn(knn, n_rows, n_neighbors) is None


@pytest.mark.parametrize(
    ("knn", "message"),
    [
        ("knn", "got str"),
        ((np.zeros((2, 2), int), np.zeros((2, 3))), r"\(2, 2\) and \(2, 3\)"),
        ((np.full((2, 2), 7), np.zeros((2, 2))), "from 0 to 1"),
        ((np.zeros((2, 2)), np.zeros((2, 2))), "integer indices.*got float64"),
        ((np.zeros((2, 2), int), np.full((2, 2), np.nan)), "and no NaN, got nan"),
    ],
)
def test_bad_precomputed_knn(knn, message):
    with pytest.raises(ValueError, match=message):
        neighbors_from_knn(knn, 2, 2)


# pynndescent


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["tsss", "jaccard", "wminkowski"])
def test_pynndescent_serves_the_other_metrics(metric):
    kwds = {"w": np.ones(8, dtype=np.float32), "p": 3} if metric == "wminkowski" else None
    graph = find_neighbors(
        blobs() > 0 if metric == "jaccard" else blobs(),
        5, metric=metric, metric_kwds=kwds, backend="pynndescent", n_jobs=1,
    )  # fmt: skip
    assert graph.backend == "pynndescent"
    assert graph.recall is None if metric == "tsss" else graph.recall >= 0.95


@pytest.mark.slow
def test_pynndescent_compiles_functions_and_takes_sparse_rows():
    def city(x, y):
        return np.sum(np.abs(x - y))

    rows = blobs()
    compiled = find_neighbors(rows, 5, metric=city, backend="pynndescent", n_jobs=1)
    truth = find_neighbors(rows, 5, metric="l1").distances
    assert found_share(compiled.distances, truth) >= 0.98
    sparse = scipy.sparse.csr_matrix(rows)
    found = find_neighbors(sparse, 5, metric="l1", backend="pynndescent", n_jobs=1)
    assert found.recall is not None
    assert found.recall >= 0.95


def test_pynndescent_missing_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(ImportError, match=r"neumap\[metrics\]"):
        find_neighbors(blobs(), 5, metric="tsss")


@pytest.mark.gpu
def test_gpu_equals_cpu():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for metric in ("euclidean", "cosine", "l1", "jaccard"):
        on_gpu = find_neighbors(blobs(2000), 10, metric=metric, device="cuda")
        np.testing.assert_allclose(
            on_gpu.distances, find_neighbors(blobs(2000), 10, metric=metric).distances, atol=1e-4
        )


@pytest.mark.parametrize("metric", ["euclidean", "correlation", "jaccard"])
def test_threads_share_out_the_tiles_of_a_sparse_search(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = scipy.sparse.random(300, 50, density=0.2, format="csr", random_state=0)
    whole = find_neighbors(rows, 10, metric=metric, n_jobs=1)
    monkeypatch.setattr("neumap.neighbors.sparse.TILE_BYTES", 8 * 300 * 7)  # tiles of 7 rows
    shared = find_neighbors(rows, 10, metric=metric, n_jobs=4)
    assert shared.backend == "exact-sparse"
    np.testing.assert_array_equal(shared.indices, whole.indices)
    np.testing.assert_array_equal(shared.distances, whole.distances)


# Anchors


@pytest.mark.parametrize(
    ("metric", "backend", "is_sparse"),
    [
        ("euclidean", "exact", False),
        ("euclidean", "exact", True),
        ("cosine", "exact", False),
        ("cosine", "exact", True),
        ("manhattan", "auto", False),
        ("manhattan", "auto", True),
        ("euclidean", "hnsw", False),
        ("precomputed", "auto", False),
        ("precomputed", "auto", True),
    ],
)
def test_anchors_have_the_lists_that_a_search_for_all_rows_gives_them(metric, backend, is_sparse):
    rows = np.abs(np.random.default_rng(0).normal(size=(120, 6))).astype(np.float32)
    if metric == "precomputed":
        rows = cdist(rows, rows).astype(np.float32)
    data = scipy.sparse.csr_matrix(rows) if is_sparse else rows
    search = NeighborSearch(metric=metric, backend=backend)
    anchors = np.arange(3, 120, 4)
    some, everything = search.find(data, 7, anchors=anchors), search.find(data, 7)
    np.testing.assert_array_equal(some.indices, everything.indices[anchors])
    np.testing.assert_allclose(some.distances, everything.distances[anchors], rtol=1e-5)
    np.testing.assert_array_equal(some.asking(), anchors)
    assert some.n_vertices == everything.n_vertices == 120


@pytest.mark.parametrize("anchors", [[], [3, 2], [1, 1], [-1, 4], [0, 50], [0.5], [[1]]])
def test_anchors_that_are_no_rising_row_numbers(anchors):
    with pytest.raises(ValueError, match=r"anchors must be rising row numbers from 0 to 49, got"):
        NeighborSearch().find(np.eye(50), 3, anchors=anchors)
