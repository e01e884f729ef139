"""Starts of a free layout: eigenvectors against dense solvers, scaling, components, failures."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.layout import (
    initial_positions,
    laplacian_eigenvectors,
    principal_positions,
    spectral,
    spectral_positions,
)
from neumap.layout.spectral import by_commute_time


def knn_graph(points: np.ndarray, n_neighbors: int = 10) -> FuzzyGraph:
    """Symmetric k-neighbour graph with Gaussian weights, written independently of the package."""
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    order = squared.argsort(axis=1)[:, 1 : n_neighbors + 1]
    n = len(points)
    matrix = np.zeros((n, n))
    rows = np.repeat(np.arange(n), n_neighbors)
    scale = np.median(np.take_along_axis(squared, order, 1))
    matrix[rows, order.ravel()] = np.exp(-squared[rows, order.ravel()] / scale)
    return FuzzyGraph.from_matrix(scipy.sparse.csr_matrix(np.maximum(matrix, matrix.T)))


def sheet(n: int, seed: int = 0) -> np.ndarray:
    """Rows on a 2-by-1 rectangle."""
    return np.random.default_rng(seed).uniform(size=(n, 2)) * [2.0, 1.0]


def exact_eigenvectors(graph: FuzzyGraph, n_vectors: int) -> np.ndarray:
    weights = graph.to_csr().toarray().astype(np.float64)
    degrees = np.diag(weights.sum(1))
    _, vectors = scipy.linalg.eigh(degrees - weights, degrees)
    return vectors[:, 1 : n_vectors + 1]


@pytest.mark.parametrize("dense_vertices", [1000, 0], ids=["dense", "filtered"])
def test_eigenvectors_agree_with_a_dense_solver(
    dense_vertices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectral, "DENSE_VERTICES", dense_vertices)
    graph = knn_graph(sheet(700))
    expected = exact_eigenvectors(graph, 3)
    found = laplacian_eigenvectors(graph.to_csr(), 3, generator=np.random.default_rng(1))
    assert found.shape == (700, 3)
    assert found.dtype == np.float32
    degrees = graph.degrees()[:, None]
    overlap = np.abs((found * degrees * expected).sum(0))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-3)
    np.testing.assert_allclose(found.T @ (degrees * found), np.eye(3), atol=1e-4)
    assert (found.max(0) >= -found.min(0)).all()  # the largest entry is positive


def test_a_start_that_is_the_answer_saves_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "DENSE_VERTICES", 0)
    graph = knn_graph(sheet(700))
    answer = exact_eigenvectors(graph, 2)
    degrees: list[int] = []
    plain = spectral._chebyshev

    def counting(adjacency: object, block: np.ndarray, degree: int, edge: float) -> np.ndarray:
        degrees.append(degree)
        return plain(adjacency, block, degree, edge)

    monkeypatch.setattr(spectral, "_chebyshev", counting)
    laplacian_eigenvectors(graph.to_csr(), 2, generator=np.random.default_rng(0))
    cold = sum(degrees)
    degrees.clear()
    laplacian_eigenvectors(graph.to_csr(), 2, generator=np.random.default_rng(0), start=answer)
    assert sum(degrees) < cold


def test_work_is_bounded_on_a_graph_that_nearly_falls_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n = 5000  # a path: the lowest eigenvalues are 2e-7 apart, far below what is resolved
    path = FuzzyGraph(np.arange(n - 1), np.arange(1, n), np.ones(n - 1, dtype=np.float32), n)
    products = 0
    plain = spectral._chebyshev

    def counting(adjacency: object, block: np.ndarray, degree: int, edge: float) -> np.ndarray:
        nonlocal products
        products += degree
        return plain(adjacency, block, degree, edge)

    monkeypatch.setattr(spectral, "WORK", 300 * n)
    monkeypatch.setattr(spectral, "_chebyshev", counting)
    found = laplacian_eigenvectors(path.to_csr(), 2, generator=np.random.default_rng(0))
    assert products <= 300
    assert np.isfinite(found).all()
    # Still smooth: neighbours on the path lie far closer than strangers.
    assert np.abs(np.diff(found, axis=0)).mean() < 0.05 * found.std()


@pytest.mark.parametrize("kind", ["dense", "uint8", "sparse", "images"])
def test_principal_positions_agree_with_scikit_learn(kind: str) -> None:
    rng = np.random.default_rng(3)
    rows = np.abs(rng.normal(size=(400, 3)) * [90, 50, 20] @ rng.normal(size=(3, 60)))
    rows = np.clip(rows, 0, 255).astype(np.uint8)
    expected = PCA(2, svd_solver="full").fit_transform(rows.astype(np.float64))
    given = {
        "dense": rows.astype(np.float32),
        "uint8": rows,
        "sparse": scipy.sparse.csr_matrix(rows.astype(np.float32)),
        "images": rows.reshape(400, 10, 6),
    }[kind]
    found = principal_positions(given, 2, generator=np.random.default_rng(0))
    for column in range(2):
        assert abs(np.corrcoef(found[:, column], expected[:, column])[0, 1]) > 0.9999
        np.testing.assert_allclose(found[:, column].std(), expected[:, column].std(), rtol=1e-3)
        np.testing.assert_allclose(found[:, column].mean(), 0.0, atol=1e-2)


def test_principal_positions_do_not_mind_where_the_origin_is() -> None:
    rows = np.random.default_rng(0).normal(size=(20_000, 10)) * np.linspace(3, 1, 10)
    near, far = (
        principal_positions(rows + offset, 2, generator=np.random.default_rng(0))
        for offset in (0.0, 10_000.0)
    )
    for column in range(2):
        assert np.corrcoef(near[:, column], far[:, column])[0, 1] > 0.999


def test_axes_the_data_do_not_have_are_zero() -> None:
    line = np.linspace(0, 1, 30)[:, None] * np.ones((1, 4))
    found = principal_positions(line, 3, generator=np.random.default_rng(0))
    assert np.ptp(found[:, 0]) == pytest.approx(2.0, rel=1e-5)
    np.testing.assert_array_equal(found[:, 1:], 0.0)


@pytest.mark.parametrize("init", ["spectral", "tswspectral", "pca", "random"])
def test_every_start_begins_at_zero_and_follows_the_seed(
    init: str, global_random_state_untouched: None
) -> None:
    points = sheet(300)
    graph = knn_graph(points)
    first, again, other = (
        initial_positions(init, graph=graph, X_matrix=points, n_components=2, seed=seed)
        for seed in (4, 4, 5)
    )
    assert first.shape == (300, 2)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first.min(0), 0.0, atol=1e-6)
    if init == "random":
        np.testing.assert_allclose(first.max(0), 10.0, atol=1e-5)
    else:
        assert first.max() == pytest.approx(20.0, abs=1e-5)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    if init != "random":  # the seed decides the noise, not the picture
        np.testing.assert_allclose(first, other, atol=4e-3)


@pytest.mark.parametrize("init", ["spectral", "tswspectral", "pca"])
def test_a_start_is_as_long_and_thin_as_the_data(init: str) -> None:
    strip = sheet(600) * [8.0, 1.0]
    graph = knn_graph(strip, 10)
    found = initial_positions(init, graph=graph, X_matrix=strip, n_components=2, seed=0)
    # By commute time the second function of a long strip is half as long as the first (as a
    # string's overtone); the principal axes have the lengths of the strip itself.
    ratio = np.ptp(found[:, 0]) / np.ptp(found[:, 1])
    assert ratio == pytest.approx(16.0 if init == "pca" else 2.0, rel=0.2)


def test_a_part_that_hangs_by_a_thread_does_not_start_as_a_point() -> None:
    points = np.concatenate([sheet(150), sheet(150, 1) + [1.95, 0.0]])
    points[150:, 0] += 30.0
    joined = knn_graph(points).to_csr().tolil()
    joined[10, 200] = joined[200, 10] = 1e-4
    graph = FuzzyGraph.from_matrix(joined.tocsr())
    found = initial_positions("spectral", graph=graph, X_matrix=points, n_components=2, seed=0)
    # The second function tells rows of one part apart; by commute time it would span 0.1.
    assert np.ptp(found[:, 1]) > 3.0


def test_distances_between_scaled_functions_are_commute_times() -> None:
    heads, tails = np.array([0, 0, 1, 2, 3, 3]), np.array([1, 2, 2, 3, 4, 5])
    weights = np.array([1.0, 0.5, 0.2, 0.7, 0.9, 0.4], dtype=np.float32)
    graph = FuzzyGraph(heads, tails, weights, 6).to_csr().astype(np.float64)
    degrees = np.asarray(graph.sum(1)).ravel()
    laplacian = np.diag(degrees) - graph.toarray()
    _, functions = scipy.linalg.eigh(laplacian, np.diag(degrees))
    scaled = by_commute_time(functions[:, 1:], graph)
    squared = np.square(scaled[:, None] - scaled[None]).sum(2)
    inverse = np.linalg.pinv(laplacian)
    resistance = np.diag(inverse)[:, None] + np.diag(inverse)[None] - 2 * inverse
    np.testing.assert_allclose(degrees.sum() * squared, degrees.sum() * resistance, rtol=1e-5)


def test_spectral_start_unrolls_what_principal_components_cannot() -> None:
    angle, height = np.pi * (1 + 1.5 * sheet(600)[:, 0]), 25 * sheet(600)[:, 1]
    unrolled = np.column_stack([angle**2 / 2, height])
    roll = np.column_stack([angle * np.cos(angle), height, angle * np.sin(angle)])
    graph = knn_graph(roll)
    scores = {
        init: trustworthiness(
            unrolled, initial_positions(init, graph=graph, X_matrix=roll, n_components=2, seed=0)
        )
        for init in ("spectral", "pca", "random")
    }
    assert scores["spectral"] > 0.93, scores
    assert scores["spectral"] > scores["pca"] + 0.03, scores
    assert scores["pca"] > scores["random"] + 0.2, scores


def test_few_components_stand_apart() -> None:
    points = np.concatenate([sheet(100, seed) + 100.0 * seed for seed in range(3)])
    found = initial_positions(
        "spectral", graph=knn_graph(points), X_matrix=points, n_components=2, seed=0
    )
    parts = found.reshape(3, 100, 2)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        axis = parts[i].mean(0) - parts[j].mean(0)  # a straight line across it separates them
        assert np.linalg.norm(axis) > 3.0
        assert (parts[i] @ axis).min() > (parts[j] @ axis).max()


def test_many_components_stand_where_their_rows_lie() -> None:
    corners = np.array([[0, 0], [100, 0], [0, 70], [100, 70], [50, 35], [50, 105], [150, 35]])
    points = np.concatenate([sheet(40, seed) + corner for seed, corner in enumerate(corners)])
    rough = spectral_positions(
        knn_graph(points, 6), 2, X=points, generator=np.random.default_rng(0)
    )
    centres = rough.reshape(7, 40, 2).mean(1)
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    expected = np.linalg.norm((corners[:, None] - corners[None]).astype(float), axis=-1)
    upper = np.triu_indices(7, 1)
    assert np.corrcoef(distances[upper], expected[upper])[0, 1] > 0.98
    nearest = np.linalg.norm(rough[:, None] - centres[None], axis=-1).argmin(1)
    np.testing.assert_array_equal(nearest, np.repeat(np.arange(7), 40))


def test_tiny_components_and_isolated_vertices_get_finite_positions() -> None:
    big = knn_graph(sheet(100))
    heads = np.concatenate([big.heads, [100, 102, 103]])
    tails = np.concatenate([big.tails, [101, 103, 104]])
    weights = np.concatenate([big.weights, np.ones(3, dtype=np.float32)])
    graph = FuzzyGraph(heads, tails, weights, n_vertices=110)  # 105..109 have no edge
    found = initial_positions("spectral", graph=graph, X_matrix=None, n_components=2, seed=0)
    assert found.shape == (110, 2)
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == 110
    # The isolated ones take no room from the others.
    np.testing.assert_allclose([found[:105].min(), found[:105].max()], [0.0, 20.0], atol=1e-3)


def test_array_is_stretched_copied_and_left_without_noise() -> None:
    given = sheet(50) * 7 - 3
    before = given.copy()
    found = initial_positions(
        given, graph=knn_graph(sheet(50)), X_matrix=None, n_components=2, seed=0
    )
    expected = 10 * (given - given.min(0)) / (given.max(0) - given.min(0))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found[:] = 0
    np.testing.assert_array_equal(given, before)


def test_equal_rows_of_an_array_are_parted() -> None:
    given = np.repeat(sheet(25), 2, axis=0)
    graph = knn_graph(sheet(50))
    found = initial_positions(given, graph=graph, X_matrix=None, n_components=2, seed=0)
    assert len(np.unique(found, axis=0)) == 50
    pairs = np.abs(found[::2] - found[1::2]).max()
    assert 0 < pairs < 0.1


def test_axis_without_extent_stays_finite() -> None:
    given = np.column_stack([np.arange(50.0), np.full(50, 3.0)])
    graph = knn_graph(sheet(50))
    found = initial_positions(given, graph=graph, X_matrix=None, n_components=2, seed=0)
    np.testing.assert_allclose(found[:, 0], np.linspace(0, 10, 50), atol=1e-5)
    np.testing.assert_array_equal(found[:, 1], 5.0)


def test_array_that_is_one_point_becomes_many() -> None:
    graph = knn_graph(sheet(50))
    found = initial_positions(np.zeros((50, 2)), graph=graph, X_matrix=None, n_components=2, seed=0)
    assert len(np.unique(found, axis=0)) == 50


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("sectral", "one of .*'spectral'.*got 'sectral'"),
        (np.zeros((49, 2)), r"shape \(50, 2\), got \(49, 2\)"),
        (np.zeros((50, 3)), r"shape \(50, 2\), got \(50, 3\)"),
        (
            np.where(np.arange(100).reshape(50, 2) < 3, np.nan, 1.0),
            "got NaN or infinity in 2 of 50 rows",
        ),
        ("pca", "needs the rows of X"),
    ],
)
def test_impossible_starts_are_refused(init: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initial_positions(init, graph=knn_graph(sheet(50)), X_matrix=None, n_components=2, seed=0)


@pytest.mark.parametrize("with_rows", [True, False])
def test_a_graph_without_edges_starts_elsewhere_with_a_warning(with_rows: bool) -> None:
    none = np.zeros(0, dtype=np.int64)
    graph = FuzzyGraph(none, none, np.zeros(0, dtype=np.float32), 20)
    rows = sheet(20) if with_rows else None
    expected = "principal components" if with_rows else "random positions"
    with pytest.warns(UserWarning, match=f"no edges.*{expected}"):
        found = initial_positions("spectral", graph=graph, X_matrix=rows, n_components=2, seed=0)
    assert np.isfinite(found).all()


def test_a_solver_that_fails_is_replaced_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> np.ndarray:
        raise np.linalg.LinAlgError("no convergence")

    monkeypatch.setattr("neumap.layout.components.laplacian_eigenvectors", fails)
    points = sheet(60)
    with pytest.warns(UserWarning, match="no convergence"):
        found = initial_positions(
            "spectral", graph=knn_graph(points), X_matrix=points, n_components=2, seed=0
        )
    assert trustworthiness(points, found) > 0.95  # principal components of a plane


@pytest.mark.reference
def test_more_trustworthy_than_the_spectral_start_of_umap_learn() -> None:
    from sklearn.datasets import load_digits
    from umap.spectral import spectral_layout

    from neumap.neighbors import NeighborGraph

    rows = load_digits().data.astype(np.float32)
    distances, order = NearestNeighbors(n_neighbors=15).fit(rows).kneighbors(rows)
    neighbors = NeighborGraph(
        order, distances.astype(np.float32), backend="numpy", recall=1.0, seconds=0.0
    )
    graph = fuzzy_simplicial_set(neighbors)
    found = initial_positions("spectral", graph=graph, X_matrix=rows, n_components=2, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = spectral_layout(rows, graph.to_csr(), 2, np.random.RandomState(0))
    assert trustworthiness(rows, found) > trustworthiness(rows, theirs) + 0.05
