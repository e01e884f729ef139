"""What the pages of umap-learn's documentation do, on small data, with neumap imported instead.

One test for each page. ``docs/from_umap_learn.md`` lists the blocks that need another line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN
from sklearn.datasets import load_digits, load_iris
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.svm import SVC

import neumap as umap
import neumap.plots
from neumap.neighbors import find_neighbors

N_ROWS = 400
DIGITS = load_digits()
ROWS, DIGIT = DIGITS.data[:N_ROWS], DIGITS.target[:N_ROWS]
QUICK = {"n_epochs": 60}


@pytest.fixture(autouse=True)
def _close_figures() -> Any:
    yield
    plt.close("all")


def test_basic_usage() -> None:
    reducer = umap.UMAP(random_state=42, **QUICK)
    reducer.fit(ROWS)
    embedding = reducer.transform(ROWS)
    assert np.all(embedding == reducer.embedding_)
    plt.scatter(embedding[:, 0], embedding[:, 1], c=DIGIT, cmap="Spectral", s=5)


def test_parameters() -> None:
    numba = pytest.importorskip("numba")

    @numba.njit()
    def of_the_first(a: Any, b: Any) -> Any:
        return np.abs(a[0] - b[0])

    colours = np.random.default_rng(42).random((200, 4))
    for parameters in (
        {"n_neighbors": 2},
        {"n_neighbors": 200},
        {"min_dist": 0.0},
        {"min_dist": 0.99},
        {"n_components": 1},
        {"n_components": 3},
        {"metric": of_the_first},
    ):
        embedding = umap.UMAP(**parameters, **QUICK).fit_transform(colours)
        assert embedding.shape == (200, parameters.get("n_components", 2))
        assert np.isfinite(embedding).all()


def test_transform() -> None:
    parts = train_test_split(ROWS, DIGIT, stratify=DIGIT, random_state=42)
    X_train, X_test, y_train, y_test = parts
    for n_components, least in ((2, 0.85), (10, 0.85)):
        trans = umap.UMAP(n_neighbors=5, n_components=n_components, random_state=42).fit(X_train)
        for classifier in (SVC(), KNeighborsClassifier()):
            classifier.fit(trans.embedding_, y_train)
            assert classifier.score(trans.transform(X_test), y_test) > least


def test_supervised() -> None:
    masked = DIGIT.copy().astype(np.int8)
    masked[np.random.default_rng(0).choice(N_ROWS, 60, replace=False)] = -1
    for labels in (DIGIT, masked):
        embedding = umap.UMAP(random_state=42).fit_transform(ROWS, y=labels)
        near = KNeighborsClassifier(5).fit(embedding, DIGIT)
        assert near.score(embedding, DIGIT) > 0.95
    mapper = umap.UMAP(n_neighbors=10, **QUICK).fit(ROWS[:300], DIGIT[:300])
    assert mapper.transform(ROWS[300:]).shape == (100, 2)


def test_clustering() -> None:
    embedding = umap.UMAP(n_neighbors=30, min_dist=0.0, random_state=42).fit_transform(ROWS)
    labels = HDBSCAN(min_samples=5, min_cluster_size=15, copy=True).fit_predict(embedding)
    clustered = labels >= 0
    assert clustered.mean() > 0.8
    assert adjusted_rand_score(DIGIT[clustered], labels[clustered]) > 0.7


def test_outliers() -> None:
    rows = np.concatenate([ROWS, np.random.default_rng(0).uniform(0, 16, (4, 64))])
    mapper = umap.UMAP(set_op_mix_ratio=0.25, random_state=42).fit(rows)
    found = LocalOutlierFactor(contamination=0.03).fit_predict(mapper.embedding_)
    assert found.shape == (N_ROWS + 4,)
    assert 0 < (found == -1).sum() < 20


def test_inverse_transform() -> None:
    mapper = umap.UMAP(random_state=42, **QUICK).fit(ROWS)
    corners = mapper.embedding_[[0, 1, 2, 3]]
    between = np.array([[x * corners[0] + (1 - x) * corners[1]] for x in np.linspace(0, 1, 5)])
    back = mapper.inverse_transform(between.reshape(-1, 2))
    assert back.shape == (5, 64)
    assert np.linalg.norm(back[-1] - ROWS[0]) < np.linalg.norm(back[-1] - ROWS[1])


def test_densmap() -> None:
    dens_mapper = umap.UMAP(densmap=True, random_state=42, **QUICK).fit(ROWS)
    assert not np.array_equal(
        dens_mapper.embedding_, umap.UMAP(random_state=42, **QUICK).fit_transform(ROWS)
    )
    embedding, r_orig, r_emb = umap.UMAP(
        densmap=True, dens_lambda=2.0, n_neighbors=30, output_dens=True, **QUICK
    ).fit_transform(ROWS)
    assert len(embedding) == len(r_orig) == len(r_emb)


def test_sparse() -> None:
    factors = scipy.sparse.lil_matrix((300, 60), dtype=np.float32)
    for number in range(2, 300):
        for divisor in range(2, 60):
            if number % divisor == 0:
                factors[number, divisor] = 1
    mapper = umap.UMAP(metric="cosine", random_state=42, low_memory=True, **QUICK).fit(factors)
    assert mapper.embedding_.shape == (300, 2)
    np.testing.assert_array_equal(mapper.transform(factors), mapper.embedding_)
    assert np.isfinite(mapper.transform(factors[4:9])).all()


def test_document_embedding() -> None:
    generator = np.random.default_rng(0)
    words = [f"word{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
    topic = np.arange(150) % 5
    texts = [" ".join(generator.choice(words[20 * t : 20 * t + 20], 30)) for t in topic]
    for vectorizer in (CountVectorizer(min_df=2), TfidfVectorizer(min_df=2)):
        matrix = vectorizer.fit_transform(texts)
        mapper = umap.UMAP(n_components=2, metric="hellinger", random_state=42, **QUICK).fit(matrix)
        near = KNeighborsClassifier(5).fit(mapper.embedding_, topic)
        assert near.score(mapper.embedding_, topic) > 0.95
        neumap.plots.points(mapper, labels=[f"topic {t}" for t in topic])


def test_composing_models() -> None:
    top, bottom = (umap.UMAP(random_state=42, **QUICK).fit(h) for h in (ROWS[:, :32], ROWS[:, 32:]))
    for composed in (top * bottom, top + bottom, top - bottom):
        neumap.plots.points(composed, labels=DIGIT, width=500, height=500)
        assert composed.embedding_.shape == (N_ROWS, 2)
    chained = umap.UMAP(random_state=42, n_neighbors=60, **QUICK).fit(ROWS) * (top + bottom)
    neumap.plots.points(chained, values=ROWS.mean(axis=1), cmap="viridis")


def test_plotting() -> None:
    mapper = umap.UMAP(**QUICK).fit(ROWS)
    neumap.plots.points(mapper)
    neumap.plots.points(mapper, labels=DIGIT, theme="fire")
    neumap.plots.points(mapper, values=ROWS.mean(axis=1), theme="fire")
    neumap.plots.points(mapper, labels=DIGIT, color_key_cmap="Paired", background="black")
    neumap.plots.connectivity(mapper, show_points=True)
    neumap.plots.connectivity(mapper, edge_bundling="hammer")
    for kind in ("pca", "ica", "vq", "local_dim", "neighborhood"):
        neumap.plots.diagnostic(mapper, diagnostic_type=kind)


def test_precomputed_neighbours() -> None:
    found = find_neighbors(ROWS.astype(np.float32), 50)
    knn = (found.indices, found.distances, None)
    graphs = [umap.UMAP(n_neighbors=k, precomputed_knn=knn, **QUICK).fit(ROWS) for k in (5, 30)]
    assert graphs[0].graph_.nnz < graphs[1].graph_.nnz
    state = np.random.RandomState(12)
    again = umap.UMAP(n_neighbors=30, precomputed_knn=knn, random_state=state, **QUICK).fit(ROWS)
    assert abs(again.graph_ - graphs[1].graph_).max() < 1e-6


def test_reproducibility() -> None:
    mapper3, mapper4 = (umap.UMAP(random_state=42, **QUICK).fit(ROWS) for _ in range(2))
    assert np.all(mapper3.embedding_ == mapper4.embedding_)
    mapper1, mapper2 = (umap.UMAP(**QUICK).fit(ROWS) for _ in range(2))
    assert not np.all(mapper1.embedding_ == mapper2.embedding_)


def near_kept(positions: NDArray[Any]) -> float:
    classes = KNeighborsClassifier(5).fit(positions, DIGIT)
    return float(classes.score(positions, DIGIT))


def test_embedding_spaces() -> None:
    numba = pytest.importorskip("numba")
    t, f = umap.UMAP(output_metric="haversine", random_state=42).fit(ROWS).embedding_.T
    sphere = np.stack([np.sin(t) * np.cos(f), np.sin(t) * np.sin(f), np.cos(t)], axis=1)
    assert near_kept(sphere) > 0.9

    @numba.njit(fastmath=True)
    def torus(x: Any, y: Any, around: Any = (2 * np.pi, 2 * np.pi)) -> Any:
        total = 0.0
        slope = np.zeros_like(x)
        for i in range(x.shape[0]):
            apart = (x[i] - y[i]) % around[i]
            if 2 * apart > around[i]:
                apart -= around[i]
            total += apart**2
            slope[i] = apart
        distance = np.sqrt(total)
        return distance, slope / (1e-6 + distance)

    u, v = umap.UMAP(output_metric=torus, random_state=42, n_epochs=100).fit(ROWS).embedding_.T
    ring = np.stack([np.cos(u), np.sin(u), np.cos(v), np.sin(v)], axis=1)
    assert near_kept(ring) > 0.85

    gaussians = umap.UMAP(output_metric="gaussian_energy", n_components=5, random_state=42)
    placed = gaussians.fit(ROWS).embedding_
    assert near_kept(placed[:, :2]) > 0.9
    assert (placed[:, 2:4] >= 0).all()

    flat = umap.UMAP(output_metric="hyperboloid", random_state=42).fit(ROWS).embedding_
    disc = flat / (1 + np.sqrt(1 + (flat**2).sum(axis=1, keepdims=True)))
    assert (np.linalg.norm(disc, axis=1) < 1).all()
    assert near_kept(disc) > 0.9


def test_aligned_maps_of_other_parameters() -> None:
    rows = load_iris().data
    relations = [{row: row for row in range(150)} for _ in range(2)]
    mapper = umap.AlignedUMAP(
        n_neighbors=[3, 7, 16, 54],  # one more than there are data sets, as on the page
        min_dist=[0.01, 0.1, 0.45],
        alignment_window_size=2,
        alignment_regularisation=1e-3,
        **QUICK,
    ).fit([rows] * 3, relations=relations)
    paths = np.stack(mapper.embeddings_)
    assert paths.shape == (3, 150, 2)
    steps = np.linalg.norm(np.diff(paths, axis=0), axis=2).mean()
    assert steps < 0.5 * paths.std()  # of unrelated maps twice as much and more


def test_landmarks() -> None:
    new = DIGIT == 2
    x1, x2 = ROWS[~new][:150], ROWS[150:300]
    embedder = umap.ParametricUMAP(preset="fast", random_state=42, **QUICK)
    before = embedder.fit_transform(x1)
    chosen = np.arange(0, 150, 15)
    wanted = np.full((len(x2) + len(chosen), 2), np.nan, dtype=np.float32)
    wanted[len(x2) :] = before[chosen]
    embedder.landmark_loss_weight = 1.0
    embedder.fit(np.concatenate([x2, x1[chosen]]), landmark_positions=wanted)
    after = embedder.transform(x1[chosen])
    assert np.linalg.norm(after - before[chosen], axis=1).mean() < 0.3 * before.std()
