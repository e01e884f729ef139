"""What users of UMAP rely on, with the thresholds that umap-learn's own tests hold it to.

Trustworthiness is scikit-learn's, of the map against the data, over ten neighbours.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, make_blobs, make_moons
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score, pairwise_distances
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph

from neumap import UMAP, ParametricUMAP

BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
K = 10
# An epoch of the encoder is many steps: its map is ready long before that of free positions.
ENOUGH = {UMAP: 60, ParametricUMAP: 15}


def make(kind: type[UMAP], **parameters: Any) -> Any:
    """Return an estimator as the reference thresholds assume it."""
    small = {"preset": "fast"} if kind is ParametricUMAP else {}
    base = {"n_neighbors": K, "min_dist": 0.01, "random_state": 42}
    return kind(**{**base, **small, **parameters})


def without_ties(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows with distances that rounding does not reorder."""
    noise = np.random.default_rng(8).normal(scale=0.02, size=rows.shape)
    return (rows + noise).astype(np.float32)


def trust(data: Any, placed: NDArray[np.float32], metric: str = "euclidean") -> float:
    return float(trustworthiness(data, placed, n_neighbors=K, metric=metric))


@pytest.fixture(scope="module")
def iris() -> NDArray[np.float32]:
    return load_iris().data.astype(np.float32)


@pytest.fixture(scope="module")
def species() -> NDArray[np.int64]:
    return load_iris().target


@pytest.fixture(scope="module")
def chosen(iris: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which three quarters of the rows are trained on."""
    return np.random.default_rng(42).random(len(iris)) < 0.75


# ------------------------------------------------------------------ quality


@BOTH
def test_iris(kind: type[UMAP], iris: Any) -> None:
    assert trust(iris, make(kind).fit_transform(iris)) >= 0.97


@pytest.mark.parametrize("init", ["spectral", "pca", "random", "tswspectral"])
def test_iris_from_any_start(init: str, iris: Any) -> None:
    assert trust(iris, make(UMAP, init=init).fit_transform(iris)) >= 0.97


def test_iris_from_given_positions(iris: Any) -> None:
    assert trust(iris, make(UMAP, init=iris[:, 2:]).fit_transform(iris)) >= 0.97


@BOTH
@pytest.mark.parametrize("form", ["float32", "float64", "sparse"])
def test_held_out_iris(kind: type[UMAP], form: str, iris: Any, chosen: Any) -> None:
    data = scipy.sparse.csr_matrix(iris) if form == "sparse" else iris.astype(form)
    model = make(kind).fit(data[chosen])
    assert trust(iris[~chosen], model.transform(data[~chosen])) >= 0.85


@BOTH
def test_random_rows_without_structure(kind: type[UMAP]) -> None:
    rows = np.random.default_rng(3).random((500, 5)).astype(np.float32)
    approximate = make(kind, force_approximation_algorithm=True)
    assert trust(rows, approximate.fit_transform(rows)) >= 0.80
    assert approximate.report_["neighbor_recall"] > 0.95


@BOTH
def test_moons_stay_apart(kind: type[UMAP]) -> None:
    rows, moon = make_moons(200, noise=0.03, random_state=1)
    placed = make(kind, n_neighbors=15, min_dist=0.1).fit_transform(rows)
    assert placed.shape == (200, 2)
    assert KNeighborsClassifier(5).fit(placed, moon).score(placed, moon) >= 0.98


@BOTH
def test_five_blobs_are_five_clusters(kind: type[UMAP]) -> None:
    rows, blob = make_blobs(200, n_features=10, centers=5, cluster_std=0.5, random_state=42)
    placed = make(kind, n_neighbors=15, min_dist=0.1).fit_transform(rows)
    found = KMeans(5, n_init=10, random_state=0).fit_predict(placed)
    assert adjusted_rand_score(blob, found) == 1.0


def digits(split: int) -> tuple[Any, Any, Any, Any]:
    X, y = load_digits(return_X_y=True)
    return tuple(train_test_split(X, y, test_size=0.2, random_state=split, stratify=y))


@pytest.mark.slow
def test_digits_with_an_encoder() -> None:
    scores = []  # on 360 held-out rows one score may be off by .02
    for split in range(6):
        train, test, train_digit, test_digit = digits(split)
        model = ParametricUMAP(random_state=split).fit(train)
        assert trust(train, model.embedding_) >= 0.97
        classifier = KNeighborsClassifier(5).fit(model.embedding_, train_digit)
        scores.append(classifier.score(model.transform(test), test_digit))
    assert np.mean(scores) >= 0.95


def test_digits_with_free_positions() -> None:
    train, test, train_digit, test_digit = digits(0)
    model = UMAP(random_state=0).fit(train)
    classifier = KNeighborsClassifier(5).fit(model.embedding_, train_digit)
    assert trust(train, model.embedding_) >= 0.97
    assert classifier.score(model.transform(test), test_digit) >= 0.95


# ------------------------------------------------------------------ labels


@BOTH
def test_labels_pull_classes_together(kind: type[UMAP], iris: Any, species: Any) -> None:
    placed = make(kind).fit_transform(iris, species)
    assert trust(iris, placed) >= 0.95
    if kind is UMAP:  # an encoder cannot part rows that lie close: see classifier_loss_weight
        found = KMeans(3, n_init=10, random_state=0).fit_predict(placed)
        assert adjusted_rand_score(species, found) >= 0.95


@BOTH
def test_some_labels(kind: type[UMAP], iris: Any, species: Any) -> None:
    some = np.where((np.arange(150) >= 25) & (np.arange(150) < 75), -1, species)
    assert trust(iris, make(kind).fit_transform(iris, some)) >= 0.95


TARGETS = {
    "l1": lambda iris, species: iris[:, 2],
    "euclidean": lambda iris, species: iris[:, :2],
    "ordinal": lambda iris, species: species,
    "count": lambda iris, species: species + 1,
    "string": lambda iris, species: load_iris().target_names[species],
    "hierarchical_categorical": lambda iris, species: species,
}
GROUPS = {"cat_hierarchy": [{0: 0, 1: 1, 2: 2}, {0: "small", 1: "large", 2: "large"}]}


@BOTH
@pytest.mark.parametrize("target_metric", TARGETS)
def test_other_targets(kind: type[UMAP], target_metric: str, iris: Any, species: Any) -> None:
    y = TARGETS[target_metric](iris, species)
    kwds = GROUPS if target_metric == "hierarchical_categorical" else None
    model = make(kind, target_metric=target_metric, target_metric_kwds=kwds)
    placed = model.fit_transform(iris, y)
    # A graph of numeric targets takes over some neighbours, so free positions keep fewer of the
    # data's; umap-learn 0.5.12 keeps .88 on these rows with target_metric="l1".
    numeric = kind is UMAP and target_metric in ("l1", "euclidean")
    assert trust(iris, placed) >= (0.93 if numeric else 0.95)


# ------------------------------------------------------------------ density


@functools.cache
def agreement_without_density(kind: type[UMAP]) -> float:
    plain = make(kind, output_dens=True).fit(load_iris().data.astype(np.float32))
    return float(np.corrcoef(plain.rad_orig_, plain.rad_emb_)[0, 1])


@BOTH
@pytest.mark.parametrize("labelled", [False, True])
def test_density(kind: type[UMAP], labelled: bool, iris: Any, species: Any) -> None:
    model = make(kind, densmap=True, output_dens=True)
    placed, original, embedded = model.fit_transform(iris, species if labelled else None)
    assert trust(iris, placed) >= 0.97
    agreement = np.corrcoef(original, embedded)[0, 1]
    assert agreement > agreement_without_density(kind) + 0.05
    assert agreement > (0.85 if kind is UMAP else 0.75)


@pytest.mark.parametrize("seed", range(5))
def test_density_whatever_the_seed(seed: int, iris: Any) -> None:
    for kind, least in ((UMAP, 0.85), (ParametricUMAP, 0.75)):
        model = make(kind, densmap=True, output_dens=True, random_state=seed).fit(iris)
        assert trust(iris, model.embedding_) >= 0.97
        assert np.corrcoef(model.rad_orig_, model.rad_emb_)[0, 1] > least


def test_density_of_rows_that_fill_five_dimensions() -> None:
    """No map keeps all neighbours here; umap-learn's correlation is .75, trustworthiness .91."""
    rows = np.random.default_rng(0).random((500, 5)).astype(np.float32)
    settings: dict[str, Any] = {"n_neighbors": 10, "min_dist": 0.01, "random_state": 0}
    model = UMAP(densmap=True, output_dens=True, **settings).fit(rows)
    assert np.corrcoef(model.rad_orig_, model.rad_emb_)[0, 1] > 0.85
    assert trust(rows, model.embedding_) > 0.93


# ------------------------------------------------------------------ distances and neighbours given


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_precomputed_distances(form: str, iris: Any, chosen: Any) -> None:
    distances = pairwise_distances(iris[chosen])
    if form == "sparse":
        near = kneighbors_graph(iris[chosen], 30, mode="distance")
        distances = near.maximum(near.T)
    model = make(UMAP, metric="precomputed").fit(distances)
    assert trust(iris[chosen], model.embedding_) >= 0.95
    new = pairwise_distances(iris[~chosen], iris[chosen])
    placed = model.transform(scipy.sparse.csr_matrix(new) if form == "sparse" else new)
    assert trust(iris[~chosen], placed) >= 0.85


def test_precomputed_distances_with_rows_for_the_encoder(iris: Any, chosen: Any) -> None:
    rows = without_ties(iris)
    model = make(ParametricUMAP, metric="precomputed")
    distances = pairwise_distances(rows[chosen], metric="manhattan")
    placed = model.fit_transform(rows[chosen], precomputed_distances=distances)
    by_metric = make(ParametricUMAP, metric="manhattan", n_epochs=2).fit(rows[chosen])
    np.testing.assert_allclose(model.graph_.toarray(), by_metric.graph_.toarray(), atol=1e-4)
    assert trust(rows[chosen], placed) >= 0.97
    np.testing.assert_array_equal(model.transform(rows[chosen]), placed)
    assert trust(rows[~chosen], model.transform(rows[~chosen])) >= 0.85
    with pytest.raises(ValueError, match="need metric='precomputed'"):
        make(ParametricUMAP).fit(rows[chosen], precomputed_distances=distances)


@BOTH
def test_precomputed_neighbours_give_the_same_graph(kind: type[UMAP], iris: Any) -> None:
    order = np.argsort(pairwise_distances(iris.astype(float)), axis=1, kind="stable")[:, :20]
    distances = np.take_along_axis(pairwise_distances(iris.astype(float)), order, axis=1)
    given = make(kind, precomputed_knn=(order, distances), n_epochs=2).fit(iris)
    searched = make(kind, n_epochs=2).fit(iris)
    difference = (given.graph_ - searched.graph_).toarray()
    assert np.sqrt(np.mean(difference**2)) < 0.005
    assert given.report_["neighbors"] == "precomputed"
    assert np.isfinite(given.transform(iris[:3] + 0.1)).all()


@pytest.mark.parametrize(
    ("shape", "message"), [((100, 15), "one row for each"), ((150, 5), "at least n_neighbors=10")]
)
def test_unfit_neighbours_are_searched_for_with_a_warning(
    shape: tuple[int, int], message: str, iris: Any
) -> None:
    knn = np.zeros(shape, dtype=int), np.zeros(shape)
    with pytest.warns(UserWarning, match=message):
        model = make(UMAP, precomputed_knn=knn, n_epochs=2).fit(iris)
    assert (model.graph_ != make(UMAP, n_epochs=2).fit(iris).graph_).nnz == 0


def test_no_precomputed_neighbours_in_the_words_of_umap_learn(iris: Any) -> None:
    model = make(UMAP, precomputed_knn=(None, None, None), n_epochs=2).fit(iris)
    assert model.report_["neighbors"] == "exact"


# ------------------------------------------------------------------ duplicates and isolated rows


@BOTH
@pytest.mark.parametrize("form", ["dense", "sparse", "binary"])
def test_unique_gives_equal_rows_one_place(kind: type[UMAP], form: str) -> None:
    generator = np.random.default_rng(5)
    distinct = generator.normal(size=(40, 8)).astype(np.float32)
    if form == "binary":
        distinct = (distinct > 0).astype(np.float32) * 1.0
    rows: Any = np.concatenate([distinct, distinct[:25], distinct[:5]])
    metric = "hamming" if form == "binary" else "euclidean"
    data = scipy.sparse.csr_matrix(rows) if form == "sparse" else rows
    placed = make(kind, unique=True, n_epochs=20, metric=metric).fit_transform(data)
    assert placed.shape == (70, 2)
    np.testing.assert_array_equal(placed[40:65], placed[:25])
    np.testing.assert_array_equal(placed[65:], placed[:5])
    assert len(np.unique(placed, axis=0)) == len(np.unique(rows, axis=0))


def test_landmarks_of_unique_rows(iris: Any) -> None:
    landmarks = np.full((150, 2), np.nan)
    landmarks[:20] = 3.0
    model = make(ParametricUMAP, unique=True, n_epochs=5).fit(iris, landmark_positions=landmarks)
    assert model.report_["landmark_drift"]["n_landmarks"] == 20


def test_isolated_rows_have_no_place(iris: Any) -> None:
    rows = np.concatenate([iris, [[50, 50, 50, 50], [90, 90, 90, 0]]]).astype(np.float32)
    model = make(UMAP, disconnection_distance=3.0)
    with pytest.warns(UserWarning, match="got 2 of 152 rows without one"):
        placed = model.fit_transform(rows)
    np.testing.assert_array_equal(np.isnan(placed).all(axis=1), np.arange(152) >= 150)
    np.testing.assert_array_equal(model.transform(rows), placed)
    assert trust(iris, placed[:150]) >= 0.97


def test_isolated_rows_are_where_the_encoder_puts_them(iris: Any) -> None:
    rows = np.concatenate([iris, [[50, 50, 50, 50]]]).astype(np.float32)
    model = make(ParametricUMAP, disconnection_distance=3.0, n_epochs=5)
    with pytest.warns(UserWarning, match="got 1 of 151 rows without one"):
        placed = model.fit_transform(rows)
    assert np.isfinite(placed).all()
    np.testing.assert_array_equal(model.transform(rows), placed)


# ------------------------------------------------------------------ graphs and metrics


@BOTH
def test_graph_instead_of_positions(kind: type[UMAP], iris: Any) -> None:
    model = make(kind, transform_mode="graph")
    graph = model.fit_transform(iris)
    assert scipy.sparse.issparse(graph)
    assert graph.shape == (150, 150)
    new = model.transform(iris[:7] + 0.05)
    assert scipy.sparse.issparse(new)
    assert new.shape == (7, 150)
    assert np.diff(new.tocsr().indptr).max() <= K
    assert not hasattr(model, "embedding_")


@BOTH
@pytest.mark.parametrize("metric", ["cosine", "correlation", "manhattan", "chebyshev", "canberra"])
def test_metrics_of_rows(kind: type[UMAP], metric: str, iris: Any) -> None:
    placed = make(kind, metric=metric, n_epochs=ENOUGH[kind]).fit_transform(iris)
    assert trust(iris, placed, metric=metric) >= 0.90


@BOTH
@pytest.mark.parametrize("metric", ["hamming", "jaccard", "dice"])
def test_metrics_of_binary_rows(kind: type[UMAP], metric: str) -> None:
    generator = np.random.default_rng(0)
    group = np.arange(120) % 3
    chance = np.where(np.arange(30) // 10 == group[:, None], 0.8, 0.1)
    rows = generator.random((120, 30)) < chance
    placed = make(kind, metric=metric, n_epochs=ENOUGH[kind]).fit_transform(rows)
    assert KNeighborsClassifier(5).fit(placed, group).score(placed, group) >= 0.93


@BOTH
def test_haversine(kind: type[UMAP]) -> None:
    generator = np.random.default_rng(1)
    centres = np.array([[0.0, 3.1], [0.5, -1.0], [-1.0, 1.0]])  # the first lies on the date line
    place = np.arange(150) % 3
    rows = centres[place] + generator.normal(scale=0.05, size=(150, 2))
    rows[:, 1] = (rows[:, 1] + np.pi) % (2 * np.pi) - np.pi
    model = make(kind, metric="haversine", n_epochs=5).fit(rows)
    between = model.graph_.tocoo()
    assert (place[between.row] == place[between.col]).all()
    with pytest.raises(ValueError, match=r"two columns.*haversine"):
        make(kind, metric="haversine").fit(np.zeros((20, 3)))


def test_a_function_as_metric(iris: Any) -> None:
    def city(one: Any, other: Any) -> float:
        return float(np.abs(one - other).sum())

    by_function = make(UMAP, metric=city, n_epochs=2).fit(iris).graph_
    by_name = make(UMAP, metric="manhattan", n_epochs=2).fit(iris).graph_
    np.testing.assert_allclose(by_function.toarray(), by_name.toarray(), atol=1e-4)


def test_angles_do_not_depend_on_length(iris: Any) -> None:
    rows = np.random.default_rng(2).normal(size=(100, 8)).astype(np.float32)
    scaled = rows * np.random.default_rng(3).uniform(0.1, 10.0, size=(100, 1)).astype(np.float32)
    one, other = (make(UMAP, metric="cosine", n_epochs=2).fit(X).graph_ for X in (rows, scaled))
    np.testing.assert_allclose(one.toarray(), other.toarray(), atol=1e-3)


# ------------------------------------------------------------------ algebra and later rows


@BOTH
def test_models_combine(kind: type[UMAP], iris: Any) -> None:
    one = make(kind, n_epochs=ENOUGH[kind] // 2).fit(iris)
    other = make(kind, n_neighbors=30, n_epochs=ENOUGH[kind] // 2).fit(iris)
    for model, least in ((one * other, 0.82), (one + other, 0.80), (one - other, 0.75)):
        assert type(model) is kind
        assert trust(iris, model.embedding_) >= least
        np.testing.assert_array_equal(model.transform(iris), model.embedding_)
    shorter = make(kind, n_epochs=2).fit(iris[:100])
    with pytest.raises(ValueError, match="same samples"):
        one + shorter


@BOTH
def test_later_rows_join_the_map(kind: type[UMAP], iris: Any, chosen: Any, species: Any) -> None:
    model = make(kind).fit(iris[chosen])
    before = model.embedding_.copy()
    model.update(iris[~chosen])
    both = np.concatenate([iris[chosen], iris[~chosen]])
    assert model.embedding_.shape == (150, 2)
    assert trust(both, model.embedding_) >= 0.95
    np.testing.assert_array_equal(model.transform(both), model.embedding_)
    moved = np.linalg.norm(model.embedding_[: len(before)] - before, axis=1)
    assert moved.mean() < 1.0  # on a map about 20 wide
    with pytest.raises(ValueError, match="supervised"):
        make(kind, n_epochs=2).fit(iris, species).update(iris[:9])
    with pytest.raises(ValueError, match="precomputed"):
        make(kind, n_epochs=2, metric="precomputed").fit(pairwise_distances(iris)).update(
            pairwise_distances(iris)
        )


# ------------------------------------------------------------------ decoding


def test_inverse_without_a_decoder_lands_among_the_rows(iris: Any) -> None:
    model = make(UMAP).fit(iris)
    back = model.inverse_transform(model.embedding_)
    assert np.sqrt(np.mean((back - iris) ** 2)) < 0.5 * iris.std(axis=0).mean()


def test_inverse_with_a_decoder_is_in_data_space(iris: Any) -> None:
    scaled = (iris - iris.min(0)) / np.ptp(iris, axis=0)
    model = make(ParametricUMAP, parametric_reconstruction=True).fit(scaled)
    back = model.inverse_transform(model.embedding_)
    assert back.shape == scaled.shape
    assert (back >= 0).all()
    assert (back <= 1).all()
    assert np.mean((back - scaled) ** 2) < 0.3 * scaled.var(axis=0).mean()


# ------------------------------------------------------------------ what is refused

REFUSED: list[tuple[str, Any, str]] = [
    ("set_op_mix_ratio", -1.0, "set_op_mix_ratio must be a number between 0.0 and 1.0"),
    ("set_op_mix_ratio", 1.5, "set_op_mix_ratio must be a number between 0.0 and 1.0"),
    ("min_dist", 2.0, "min_dist must be at most spread"),
    ("min_dist", -1.0, "min_dist must be a number at least 0"),
    ("n_components", -1, "n_components must be an integer of at least 1"),
    ("n_components", 1.5, "n_components must be an integer of at least 1"),
    ("n_components", "45", "n_components must be an integer of at least 1"),
    ("n_neighbors", 0.5, "n_neighbors must be an integer of at least 2"),
    ("n_neighbors", 1, "n_neighbors must be an integer of at least 2"),
    ("n_neighbors", "5", "n_neighbors must be an integer of at least 2"),
    ("metric", "foobar", "metric must be a function of two rows or one of"),
    ("metric", 45, "metric must be a function of two rows or one of"),
    ("metric", "hellinger", "must not be negative.*hellinger"),
    ("metric_kwds", 3, "metric_kwds must be a dict"),
    ("learning_rate", -1.5, "learning_rate must be a number at least 0"),
    ("repulsion_strength", -0.5, "repulsion_strength must be a number at least 0"),
    ("negative_sample_rate", -1, "negative_sample_rate must be a number at least 0"),
    ("init", "foobar", "init must be one of"),
    ("init", 42, "init must be one of"),
    ("init", np.zeros((30, 3)), r"shape \(30, 2\), got \(30, 3\)"),
    ("n_epochs", -2, "n_epochs must be an integer of at least 0, or None"),
    ("n_epochs", 4.5, "n_epochs must be an integer of at least 0, or None"),
    ("n_epochs", [2, 4], "n_epochs must be an integer of at least 0, or None"),
    ("target_n_neighbors", 1, "target_n_neighbors must be an integer of at least 2, or -1"),
    ("target_weight", 2.0, "target_weight must be a number between 0.0 and 1.0"),
    ("output_metric", "foobar", r"output_metric must be one of \['euclidean'"),
    ("output_metric", "precomputed", r"output_metric must be one of \['euclidean'"),
    ("dens_lambda", -1.0, "dens_lambda must be a number at least 0"),
    ("dens_frac", 2.0, "dens_frac must be a number between 0.0 and 1.0"),
    ("dens_var_shift", -1.0, "dens_var_shift must be a number at least 0"),
    ("n_jobs", 0, "n_jobs must be a positive integer, or -1"),
    ("n_jobs", -2, "n_jobs must be a positive integer, or -1"),
    ("local_connectivity", -1.0, "local_connectivity must be a number at least 0"),
    ("transform_mode", "picture", "transform_mode must be one of"),
    ("transform_seed", -1, "transform_seed must be an integer of at least 0"),
    ("random_state", -1, "random_state must be an integer of at least 0, or a numpy generator"),
    ("batch_size", 0, "batch_size must be an integer of at least 1, or None"),
    ("n_training_epochs", 0, "n_training_epochs must be an integer of at least 1"),
    ("loss_report_frequency", 0, "loss_report_frequency must be an integer of at least 1"),
    ("max_time", -1.0, "max_time must be a number above 0"),
    ("disconnection_distance", -1.0, "disconnection_distance must be a number at least 0"),
    ("precomputed_knn", 3, r"precomputed_knn must be \(indices, distances\)"),
    ("optimizer", "gradient", "optimizer must be one of"),
    ("device", "abacus", "device must be 'auto'"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_impossible_parameters_are_refused_at_fit(name: str, value: Any, message: str) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 4))
    model = UMAP(**{"n_neighbors": 5, "n_epochs": 2, name: value})  # a constructor only stores
    with pytest.raises(ValueError, match=message):
        model.fit(rows)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("preset", "slow", "preset must be one of"),
        ("dims", (5,), r"dims must fit the rows of X.* got \(5,\) \(5 values\)"),
        ("encoder", "transformer", "encoder must be one of"),
        ("global_correlation_loss_weight", -1.0, "global_correlation_loss_weight must be a number"),
        ("landmark_loss_weight", -1.0, "landmark_loss_weight must be a number at least 0"),
        ("landmark_loss_fn", 3, "landmark_loss_fn must be a function"),
        ("classifier_loss_weight", -1.0, "classifier_loss_weight must be a number at least 0"),
        ("classifier_loss_weight", 1.0, "classifier_loss_weight needs labels"),
        ("parametric_reconstruction_loss_weight", -1.0, "loss_weight must be a number at least 0"),
        ("keras_fit_kwargs", {"epochs": 3}, "use n_training_epochs"),
    ],
)
def test_impossible_parameters_of_the_parametric_class(name: str, value: Any, message: str) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 4))
    model = ParametricUMAP(**{"n_neighbors": 5, "n_epochs": 2, "preset": "fast", name: value})
    with pytest.raises(ValueError, match=message):
        model.fit(rows)


def test_unique_rows_of_distances_are_refused(iris: Any) -> None:
    with pytest.raises(ValueError, match="unique=True finds equal rows"):
        UMAP(unique=True, metric="precomputed").fit(pairwise_distances(iris))


def test_given_curve_is_used_as_it_is(iris: Any) -> None:
    one = make(UMAP, a=1.57694346, b=0.89506088, n_epochs=10).fit_transform(iris)
    other = make(UMAP, min_dist=0.1, spread=1.0, n_epochs=10).fit_transform(iris)
    np.testing.assert_allclose(one, other, atol=0.05)
