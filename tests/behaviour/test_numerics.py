"""Any finite numbers: units, offsets, odd sizes and layouts, rows cut off, advice of messages."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import kneighbors_graph

from neumap import UMAP, ParametricUMAP
from neumap.data import check_input
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.neighbors import find_neighbors, query_neighbors, symmetric_distances

CLOUD = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
SCALE_FREE = ["euclidean", "manhattan", "chebyshev", "cosine", "correlation", "canberra"]
SCALE_FREE += ["braycurtis", "hellinger", "sqeuclidean"]
FORMS: dict[str, Callable[[Any], Any]] = {
    "array": np.asarray,
    "sparse": sp.csr_matrix,
    "tensor": torch.from_numpy,
    "frame": pd.DataFrame,
}


def free(**parameters: Any) -> UMAP:
    return UMAP(**{"n_neighbors": 8, "n_epochs": 5, "random_state": 0, **parameters})


def graph_of(X: Any, metric: str) -> FuzzyGraph:
    return fuzzy_simplicial_set(find_neighbors(X, 8, metric=metric))


# ------------------------------------------------------------------------------------ units


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("metric", SCALE_FREE)
def test_the_graph_does_not_depend_on_the_unit(metric: str, form: Any) -> None:
    X = np.abs(CLOUD) if metric in ("hellinger", "braycurtis") else CLOUD
    expected = graph_of(form(X), metric)
    for exponent in (-40, -16, 6, 40, *(() if metric == "sqeuclidean" else (-100, 100))):
        found = graph_of(form(np.ldexp(X, exponent)), metric)
        np.testing.assert_array_equal(found.tails, expected.tails)
        np.testing.assert_array_equal(found.weights, expected.weights)


def test_queries_do_not_depend_on_the_unit() -> None:
    expected = query_neighbors(CLOUD[:50], CLOUD[50:], 5)
    found = query_neighbors(np.ldexp(CLOUD[:50], 90), np.ldexp(CLOUD[50:], 90), 5)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], np.ldexp(expected[1], 90))


def test_new_rows_may_be_much_larger_than_training_rows() -> None:
    _, distances = query_neighbors(CLOUD, np.full((1, 4), 1e30), 5)
    np.testing.assert_allclose(distances, 2e30, rtol=1e-6)


def test_squares_beyond_float32_are_refused() -> None:
    with pytest.raises(ValueError, match=r"between 1e-38 and 3e38.*Divide X by its largest value"):
        find_neighbors(CLOUD * 1e25, 5, metric="sqeuclidean")
    find_neighbors(CLOUD * 1e25 / (CLOUD * 1e25).max(), 5, metric="sqeuclidean")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_network_does_not_depend_on_the_unit(metric: str) -> None:
    def placed(exponent: int) -> Any:
        model = ParametricUMAP(preset="fast", n_epochs=3, random_state=0, metric=metric)
        return model.fit_transform(np.ldexp(CLOUD, exponent))

    for exponent in (-100, 100):
        np.testing.assert_allclose(placed(exponent), placed(0), atol=1e-3)


@pytest.mark.parametrize("init", ["spectral", "pca"])
def test_equal_values_of_any_dtype_give_one_map(init: str) -> None:
    X = np.random.default_rng(1).integers(0, 200, size=(40, 5))
    X[::2] += 50
    expected = free(init=init).fit_transform(X.astype(np.float32))
    for dtype in (np.uint8, np.int64, np.float64, ">f4"):
        np.testing.assert_array_equal(free(init=init).fit_transform(X.astype(dtype)), expected)
    signed = np.where(X % 3 == 0, -0.0, X)
    unsigned = np.where(X % 3 == 0, 0.0, X)
    np.testing.assert_array_equal(free().fit_transform(signed), free().fit_transform(unsigned))


@pytest.mark.parametrize("backend", ["exact", pytest.param("pynndescent", marks=pytest.mark.slow)])
def test_stored_zeros_change_nothing(backend: Any) -> None:
    stored = sp.csr_matrix(np.ones((30, 12), dtype=np.float32))
    stored.data[:] = np.random.default_rng(0).integers(0, 2, size=360)
    absent = stored.copy()
    absent.eliminate_zeros()
    settings_ = {"metric": "jaccard", "backend": backend, "n_jobs": 1}
    np.testing.assert_array_equal(
        find_neighbors(stored, 5, **settings_).distances,
        find_neighbors(absent, 5, **settings_).distances,
    )
    assert stored.nnz == 360  # the caller's matrix is as it was


def test_wide_rows_end_in_seconds() -> None:
    wide = sp.random(20, 200_000, density=1e-3, format="csr", random_state=0)
    for metric in ("euclidean", "canberra"):
        assert np.isfinite(free(metric=metric).fit_transform(wide)).all()


# ------------------------------------------------------------------------- odd finite data


def outlier(size: float) -> Any:
    X = CLOUD[:20].copy()
    X[7] = size
    return X


ODD = {
    "constant columns": np.c_[CLOUD[:20], np.full((20, 2), 7.0)],
    "a huge constant column": np.c_[CLOUD[:20], np.full(20, 1e25)],
    "all rows equal": np.ones((20, 3)),
    "zeros": np.zeros((10, 5)),
    "two rows": CLOUD[:2],
    "two equal rows": np.ones((2, 3)),
    "one outlier": outlier(1e30),
    "subnormal": CLOUD[:20] * 1e-42,
    "tiny": CLOUD[:20] * 1e-30,
    "huge": CLOUD[:20] * 1e30,
    "one feature": CLOUD[:20, :1],
    "wide and huge": np.tile(CLOUD[:20], 20) * 1e30,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ODD)
def test_defaults_never_diverge(what: str) -> None:
    X = ODD[what].astype(np.float32)
    model = ParametricUMAP(random_state=0, n_epochs=20).fit(X)
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite(free().fit(X).embedding_).all()


def test_an_outlier_leaves_the_graph_of_the_others() -> None:
    X = outlier(1e30)
    found = find_neighbors(np.delete(X, 7, axis=0), 5)
    with_it = find_neighbors(X, 5)
    others = np.delete(with_it.indices, 7, axis=0)
    np.testing.assert_array_equal(others - (others > 7), found.indices)


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
def test_a_metric_may_write_to_its_arguments(kind: Any) -> None:
    def scribbles(a: Any, b: Any) -> tuple[float, Any]:
        a[0], b[1] = np.nan, np.inf
        return 0.0, a

    X = np.arange(100, dtype=np.float32).reshape(25, 4)
    placed = kind(metric=scribbles, n_epochs=3, random_state=0).fit_transform(X)
    assert np.isfinite(placed).all()
    np.testing.assert_array_equal(X, np.arange(100).reshape(25, 4))


@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_wrong_distances_of_a_function_are_named(value: float) -> None:
    def metric(a: Any, b: Any) -> float:
        return value if (a[0], b[0]) == (CLOUD[3, 0], CLOUD[5, 0]) else float(abs(a - b).sum())

    with pytest.raises(ValueError, match=rf"got {value} with 'metric' from row 3 to row 5"):
        free(metric=metric).fit(CLOUD)


# ---------------------------------------------------------------------------- lost digits

TIMES = np.c_[CLOUD, 1.7e9 + np.arange(60.0)]


@pytest.mark.parametrize(
    "X",
    [
        TIMES,
        TIMES.tolist(),
        torch.from_numpy(TIMES),
        sp.csr_matrix(TIMES),
        pd.DataFrame(TIMES, columns=[0, 1, 2, 3, 4]),
        np.c_[np.zeros((60, 4), dtype=np.int64), 2**24 + np.arange(60)],
    ],
)
def test_differences_that_float32_loses_are_warned_of(X: Any) -> None:
    with pytest.warns(UserWarning, match=r"got 1 that do not, such as column 4 .*Subtract each"):
        check_input(X)


def test_the_advice_about_lost_digits_works(recwarn: Any) -> None:
    X = 1.7e9 + np.arange(60.0)[:, None]
    with pytest.warns(UserWarning, match="steps of float32"):
        check_input(X)
    recwarn.clear()
    advised = (X - X.mean(axis=0)) / X.std(axis=0)
    assert len(np.unique(check_input(advised).X)) == 60
    assert not recwarn.list


@pytest.mark.parametrize(
    "X",
    [
        CLOUD.astype(np.float64),
        7 + 1e-16 * CLOUD.astype(np.float64),
        np.random.default_rng(0).integers(0, 2**31, size=(100, 2)),
        np.arange(2000, 2020.0)[:, None],
        sp.random(100, 10, 0.3),
    ],
)
def test_ordinary_data_are_not_warned_of(X: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_input(X)


# ---------------------------------------------------------------------------- sparse input


def broken(kind: str, attribute: str, at: int, value: int) -> Any:
    matrix = sp.coo_matrix(CLOUD).asformat(kind)  # type: ignore[call-overload]
    getattr(matrix, attribute)[at] = value
    return matrix


@pytest.mark.parametrize(
    "case",
    [
        ("csr", "indices", 7, 99),
        ("csr", "indices", 7, -1),
        ("csr", "indptr", 5, 10**9),
        ("csr", "indptr", 0, 2),
        ("csc", "indices", 7, 99),
        ("bsr", "indices", 0, 99),
        ("coo", "row", 7, 99),
        ("coo", "col", 7, -5),
    ],
)
def test_entries_outside_a_sparse_matrix_are_refused(case: Any) -> None:
    matrix = broken(*case)
    for use in (check_input, lambda X: find_neighbors(X, 3), free().fit(CLOUD).transform):
        with pytest.raises(ValueError, match=r"X must be a valid \w+ matrix of shape \(60, 4\)"):
            use(matrix)


def test_distances_outside_a_sparse_matrix_are_refused() -> None:
    D = sp.csr_matrix(pairwise_distances(CLOUD))
    D.indices[3] = 10**6
    with pytest.raises(ValueError, match="must be a valid csr matrix"):
        free(metric="precomputed").fit(D)
    with pytest.raises(ValueError, match="must be a valid csr matrix"):
        ParametricUMAP(metric="precomputed").fit(CLOUD, precomputed_distances=D)


def test_the_graph_of_an_embedding_is_checked() -> None:
    positions, graph = free().fit_transform(CLOUD), free().fit(CLOUD).graph_
    directed = sp.triu(graph, format="csr")
    for wrong, message in (
        (graph[:30, :30], "one row and column per row of X, got 30 for 60"),
        (graph[:30], "must be a square matrix"),
        (graph * 5, "between 0 and 1"),
        (directed, "must be symmetric"),
    ):
        with pytest.raises(ValueError, match=message):
            ParametricUMAP.from_embedding(CLOUD, positions, graph=wrong, n_epochs=1)
    advised = FuzzyGraph.from_matrix(directed.maximum(directed.T))
    assert len(advised.weights) == graph.nnz // 2
    largest = (graph * 5).max()
    np.testing.assert_allclose((graph * 5 / largest).max(), 1.0)


@pytest.mark.parametrize("fitted_on", FORMS)
@pytest.mark.parametrize("placed_as", FORMS)
def test_rows_of_any_kind_are_placed(fitted_on: str, placed_as: str) -> None:
    X = np.where(CLOUD > -1, CLOUD, 0).astype(np.float32)
    new = np.where(CLOUD[::-1] > -0.9, CLOUD[::-1], 0).astype(np.float32)[:9]
    expected = free().fit(X).transform(new)
    model = free().fit(FORMS[fitted_on](X))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names of columns
        np.testing.assert_array_equal(model.transform(FORMS[placed_as](X)), model.embedding_)
        np.testing.assert_allclose(model.transform(FORMS[placed_as](new)), expected, atol=1e-2)


# ------------------------------------------------------------------------------ rows cut off


@pytest.mark.filterwarnings("ignore:Every row must have a neighbour")
@pytest.mark.parametrize("init", ["spectral", "pca", "random", "tswspectral"])
def test_one_piece_and_a_row_cut_off(init: str) -> None:
    X = np.vstack([CLOUD, np.full((1, 4), 500.0)]).astype(np.float32)
    model = free(init=init, disconnection_distance=10.0, n_epochs=0).fit(X)
    np.testing.assert_array_equal(np.isnan(model.embedding_).any(axis=1), np.arange(61) == 60)
    # The row that is cut off does not squeeze the others.
    assert (np.ptp(model.embedding_[:60], axis=0) > 5).all()


def test_rows_cut_off_are_warned_of_once() -> None:
    X = np.vstack([CLOUD, np.full((1, 4), 500.0)]).astype(np.float32)
    for model in (free(), ParametricUMAP(preset="fast", n_epochs=1)):
        model.set_params(disconnection_distance=10.0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X)
        found = [w for w in caught if "got 1 of 61 rows without one" in str(w.message)]
        assert len(found) == 1


# ------------------------------------------------------------------------ advice that works


def copies_and_distances() -> tuple[Any, Any]:
    rows = np.repeat(CLOUD, 3, axis=0)
    return rows, kneighbors_graph(rows, 20, mode="distance")


def test_advice_on_sparse_distances_keeps_zeros() -> None:
    rows, D = copies_and_distances()
    model = free(metric="precomputed")
    with pytest.raises(ValueError, match=r"neumap\.neighbors\.symmetric_distances\(D\)"):
        model.fit(D)
    D = symmetric_distances(D)
    expected = free(metric="precomputed").fit(pairwise_distances(rows)).graph_.toarray()
    first, second = np.arange(0, 180, 3), np.arange(1, 180, 3)
    found = model.fit(D).graph_.toarray()
    np.testing.assert_allclose(found[first, second], expected[first, second], atol=1e-4)


def test_infinity_is_advised_and_accepted() -> None:
    D = pairwise_distances(CLOUD).astype(np.float32)
    far = D > 3
    with pytest.raises(ValueError, match=r"zero or more.*Use infinity"):
        free(metric="precomputed").fit(np.where(far, -1, D))
    model = free(metric="precomputed").fit(np.where(far, np.inf, D))
    assert np.isfinite(model.transform(np.where(far, np.inf, D)[:5] + 1e-3)).all()
    network = ParametricUMAP(metric="precomputed", preset="fast", n_epochs=1)
    network.fit(CLOUD, precomputed_distances=np.where(far, np.inf, D))
    with pytest.raises(ValueError, match="infinity"):
        network.fit(np.where(far, np.inf, D))


def with_diagonal() -> Any:
    D = sp.csr_matrix(pairwise_distances(CLOUD))
    D.setdiag(1.0)
    return D


def knn(**changes: Any) -> Any:
    graph = find_neighbors(CLOUD, 8)
    parts = {"indices": graph.indices.copy(), "distances": graph.distances.copy(), **changes}
    return parts["indices"], parts["distances"]


def missing_as_nan() -> Any:
    indices, distances = knn()
    distances[0, 5:] = np.nan
    return indices, distances


def missing_as_advised() -> Any:
    indices, distances = knn()
    indices[0, 5:], distances[0, 5:] = -1, np.inf
    return indices, distances


def zeroed(D: Any) -> Any:
    D.setdiag(0)
    return D


# The message, what raises it, and the same after its advice was followed.
ADVICE: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    (
        r"0 on its diagonal.*Use D.setdiag\(0\)",
        lambda: free(metric="precomputed").fit(with_diagonal()),
        lambda: free(metric="precomputed").fit(zeroed(with_diagonal())),
    ),
    (
        "Store more, or lower n_neighbors",
        lambda: free(metric="precomputed", n_neighbors=8).fit(
            sp.csr_matrix(np.kron(np.eye(12), 1 - np.eye(5)))
        ),
        lambda: free(metric="precomputed", n_neighbors=5).fit(
            sp.csr_matrix(np.kron(np.eye(12), 1 - np.eye(5)))
        ),
    ),
    (
        "Use another metric for rows and columns",
        lambda: free(metric="precomputed").fit(CLOUD),
        lambda: free(metric="euclidean").fit(CLOUD),
    ),
    (
        "with -1 and infinity for missing neighbours",
        lambda: free(precomputed_knn=missing_as_nan()).fit(CLOUD),
        lambda: free(precomputed_knn=missing_as_advised()).fit(CLOUD),
    ),
    (
        "Use distances, such as 1 - similarity",
        lambda: free(precomputed_knn=knn(distances=-knn()[1])).fit(CLOUD),
        lambda: free(precomputed_knn=knn()).fit(CLOUD),
    ),
    (
        "Search again on these rows",
        lambda: free(precomputed_knn=knn(indices=knn()[0] + 5)).fit(CLOUD),
        lambda: free(precomputed_knn=knn()).fit(CLOUD),
    ),
    (
        "Shift or clip X",
        lambda: free(metric="hellinger").fit(CLOUD),
        lambda: free(metric="hellinger").fit(CLOUD.clip(0)),
    ),
    (
        "Select these two columns",
        lambda: free(metric="haversine").fit(CLOUD),
        lambda: free(metric="haversine").fit(CLOUD[:, :2]),
    ),
    (
        "leave low_memory, angular_rp_forest and force_approximation_algorithm at their defaults",
        lambda: free(metric="softmax_hellinger", low_memory=False).fit(CLOUD),
        lambda: free(metric="softmax_hellinger").fit(CLOUD),
    ),
    (
        "Fill them",
        lambda: free(init=np.full((60, 2), np.nan)).fit(CLOUD),
        lambda: free(init=CLOUD[:, :2]).fit(CLOUD),
    ),
    (
        "Clip or rescale X",
        lambda: free().fit(CLOUD * 1e37),
        lambda: free().fit((CLOUD * 1e37).clip(-1e36, 1e36)),
    ),
    (
        "must have at least one edge, got none. Raise n_neighbors or disconnection_distance",
        lambda: free(disconnection_distance=1e-9).fit(CLOUD),
        lambda: free(disconnection_distance=1.0).fit(CLOUD),
    ),
]


@pytest.mark.filterwarnings("ignore:Every row must have a neighbour")
@pytest.mark.filterwarnings("ignore:A spectral start is not possible")
@pytest.mark.parametrize(("message", "wrong", "advised"), ADVICE)
def test_advice_works(message: str, wrong: Any, advised: Any) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
    advised()


def test_advice_on_rows_cut_off_works() -> None:
    X = np.vstack([CLOUD, np.full((1, 4), 50.0)]).astype(np.float32)
    with pytest.warns(UserWarning, match="Raise disconnection_distance"):
        free(disconnection_distance=10.0).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        free(disconnection_distance=200.0).fit(X)


# -------------------------------------------------------------------------------- properties

DTYPES = st.sampled_from(["f2", "f4", "f8", ">f4", ">f8", "i1", "u1", "i4", "i8", ">i2", "?"])
OURS = ("must", "Input X contains", "Found array", "Expected")


@st.composite
def arrays(draw: Any) -> Any:
    """Draw a finite array of any dtype, order and layout."""
    dtype = np.dtype(draw(DTYPES))
    shape = (draw(st.integers(2, 40)), draw(st.integers(1, 10)))
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    X = draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, **finite)))
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "read-only"]))
    if layout == "F":
        return np.asfortranarray(X)
    if layout == "strided":
        return np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2]
    if layout == "reversed":
        return X[::-1, ::-1]
    X.flags.writeable = layout != "read-only"
    return X


PROPERTY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def fitted_or_refused(model: Any, X: Any) -> bool:
    """Fit; return False after a clear error."""
    refusal = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.fit(X)
    except (ValueError, TypeError) as error:
        refusal = str(error)
    assert not refusal or any(word in refusal for word in OURS)
    return not refusal


@PROPERTY
@given(arrays(), st.sampled_from(["euclidean", "cosine", "manhattan"]))
def test_any_finite_array_has_a_finite_map(X: Any, metric: str) -> None:
    before = X.copy()
    model = UMAP(n_neighbors=5, n_epochs=2, random_state=0, metric=metric)
    if not fitted_or_refused(model, X):
        return
    assert np.isfinite(model.embedding_).all()
    placed = model.transform(X)
    np.testing.assert_array_equal(X, before)
    half = model.transform(X[::2] + np.zeros((), dtype=X.dtype))
    assert np.isfinite(half).all()
    assert placed.shape == model.embedding_.shape


@settings(PROPERTY, max_examples=25)
@given(arrays())
def test_any_finite_array_trains_a_network(X: Any) -> None:
    before = X.copy()
    model = ParametricUMAP(n_neighbors=5, n_epochs=1, random_state=0, preset="fast")
    if not fitted_or_refused(model, X):
        return
    placed = model.transform(X)
    assert np.isfinite(placed).all()
    scale = max(1.0, float(np.abs(placed).max()))
    np.testing.assert_allclose(model.transform(X[::3]), placed[::3], atol=1e-5 * scale)
    np.testing.assert_array_equal(X, before)
