"""The contract of the two estimators: scikit-learn's rules, and that a fit is a pure function."""

from __future__ import annotations

import copy
import inspect
import random
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from neumap import UMAP, ParametricUMAP
from neumap.callbacks import Callback

QUICK: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 5, "random_state": 0}
BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
TRANSFORM = 1e-5  # of positions about 10 wide: BLAS sums in another order for another batch shape


def quick(kind: type[UMAP], **parameters: Any) -> Any:
    """Return an estimator that fits in a tenth of a second."""
    smallest = {"preset": "fast"} if kind is ParametricUMAP else {}
    return kind(**{**QUICK, **smallest, **parameters})


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    """Three clusters of distinct rows."""
    generator = np.random.default_rng(7)
    centres = generator.normal(scale=4.0, size=(3, 6))
    return (centres[np.arange(90) % 3] + generator.normal(size=(90, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def y() -> NDArray[np.int64]:
    return np.arange(90) % 3


# ------------------------------------------------------------------ scikit-learn's own checks

LABELS_ONCE = (
    "the check calls fit(X, y) and then partial_fit(X, y) on the same object; partial_fit adds "
    "rows to a fitted map, and a classifier needs the labels of the earlier ones"
)
NEIGHBORS_TAKEN = (
    "the check wants repeated rows and weighted ones to be the same to rounding; a repeated row "
    "takes places among the neighbours of others, and one of weight 0 keeps its place"
)
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": NEIGHBORS_TAKEN,
    "check_sample_weight_equivalence_on_sparse_data": NEIGHBORS_TAKEN,
}

NO_CLASSES = (
    "the check passes partial_fit the argument classes; a classifier learns the classes of one fit"
)
MINUS_ONE = (
    "the check uses -1 as a class, which marks a row without a label here, as in the classifiers "
    "of sklearn.semi_supervised"
)
WITH_CLASSIFIER = {
    "check_fit_score_takes_y": LABELS_ONCE,
    "check_n_features_in_after_fitting": NO_CLASSES,
    "check_estimators_partial_fit_n_features": NO_CLASSES,
    "check_classifiers_classes": MINUS_ONE,
}


@pytest.mark.filterwarnings("ignore:y holds one class")  # of check_classifiers_classes
@parametrize_with_checks(
    [
        quick(UMAP),
        quick(ParametricUMAP),
        quick(ParametricUMAP, classifier_loss_weight=1.0, batch_size=64),
    ],
    expected_failed_checks=lambda model: {
        **WEIGHTS,
        **(WITH_CLASSIFIER if is_classifier(model) else {}),
    },
)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


# ------------------------------------------------------------------ parameters


def parameters_of(kind: type[UMAP]) -> list[str]:
    return list(inspect.signature(kind).parameters)


@BOTH
def test_constructor_names_every_parameter(kind: type[UMAP]) -> None:
    assert sorted(kind().get_params(deep=False)) == sorted(parameters_of(kind))


@pytest.mark.parametrize(
    ("kind", "name"), [(k, name) for k in (UMAP, ParametricUMAP) for name in parameters_of(k)]
)
def test_clone_and_set_params_keep_a_parameter(kind: type[UMAP], name: str) -> None:
    value = np.array([[1.0, 2.0]])  # compared by identity, so that no default can pass for it
    model = kind().set_params(**{name: value})
    assert model.get_params()[name] is value
    copied = clone(model).get_params()
    np.testing.assert_array_equal(copied.pop(name), value)
    defaults = kind().get_params()
    del defaults[name]
    assert copied == defaults


@BOTH
def test_clone_keeps_the_neighbours(kind: type[UMAP]) -> None:
    assert clone(kind(n_neighbors=50)).n_neighbors == 50


def test_repr_shows_what_was_set() -> None:
    assert repr(ParametricUMAP(n_neighbors=50)) == "ParametricUMAP(n_neighbors=50)"


def test_unknown_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="n_neighbours"):
        ParametricUMAP(n_neighbours=5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="Invalid parameter 'n_neighbours'"):
        ParametricUMAP().set_params(n_neighbours=5)


@BOTH
def test_fit_leaves_constructor_attributes_alone(kind: type[UMAP], X: Any) -> None:
    model = quick(kind)
    before = dict(model.get_params(deep=False))
    assert model.fit(X) is model
    model.transform(X[:3])
    after = model.get_params(deep=False)
    assert all(after[name] is before[name] for name in before)


# ------------------------------------------------------------------ a fit is a pure function


@BOTH
def test_second_fit_equals_a_fresh_one(kind: type[UMAP], X: Any, y: Any) -> None:
    used = quick(kind, n_components=3).fit(X[:40, :4], y[:40])
    used.set_params(n_components=2).fit(X)
    np.testing.assert_array_equal(used.embedding_, quick(kind).fit(X).embedding_)


def learned(model: UMAP) -> set[str]:
    """Names of the attributes that a fit gave the model."""
    return {name for name in dir(model) if name.endswith("_") and name[0] != "_"} & {
        name for name in dir(model) if hasattr(model, name)
    }


def test_second_fit_leaves_nothing_of_the_first(X: Any, y: Any) -> None:
    model = quick(ParametricUMAP, parametric_reconstruction=True, classifier_loss_weight=1.0)
    model.fit(pd.DataFrame(X, columns=list("abcdef")), y)
    assert {"decoder_", "classifier_", "classes_", "feature_names_in_"} <= learned(model)
    model.set_params(parametric_reconstruction=False, classifier_loss_weight=0.0).fit(X)
    assert learned(model) == learned(quick(ParametricUMAP).fit(X))
    assert set(vars(model)) == set(vars(quick(ParametricUMAP).fit(X)))


def test_encoder_does_not_outlive_a_change_to_free_positions(X: Any) -> None:
    model = quick(ParametricUMAP).fit(X).set_params(parametric_embedding=False).fit(X)
    fresh = quick(ParametricUMAP, parametric_embedding=False).fit(X)
    assert learned(model) == learned(fresh)
    assert "encoder_" not in learned(model)


@BOTH
def test_same_seed_gives_the_same_map(kind: type[UMAP], X: Any) -> None:
    expected = quick(kind, random_state=3).fit_transform(X)
    np.testing.assert_array_equal(quick(kind, random_state=np.int64(3)).fit_transform(X), expected)
    assert not np.allclose(quick(kind, random_state=4).fit_transform(X), expected)


@BOTH
@pytest.mark.parametrize("generator", [np.random.RandomState, np.random.default_rng])
def test_generators_are_seeds_too(kind: type[UMAP], generator: Any, X: Any) -> None:
    first = quick(kind, random_state=generator(5)).fit_transform(X)
    second = quick(kind, random_state=generator(5)).fit_transform(X)
    other = quick(kind, random_state=generator(6)).fit_transform(X)
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other)


@BOTH
def test_seed_is_taken_at_fit_and_not_at_construction(kind: type[UMAP], X: Any) -> None:
    first, second = quick(kind), quick(kind)
    np.testing.assert_array_equal(first.fit_transform(X), second.fit_transform(X))


@BOTH
def test_without_a_seed_fits_differ(kind: type[UMAP], X: Any) -> None:
    maps = [quick(kind, random_state=None, init=start(kind)).fit_transform(X) for _ in range(2)]
    assert not np.allclose(*maps)


def start(kind: type[UMAP]) -> str:
    return "auto" if kind is ParametricUMAP else "random"


@BOTH
def test_global_random_state_is_left_alone(
    kind: type[UMAP], X: Any, y: Any, global_random_state_untouched: None
) -> None:
    settings: dict[str, Any] = {"force_approximation_algorithm": True, "random_state": None}
    if kind is ParametricUMAP:
        settings |= {"parametric_reconstruction": True, "global_correlation_loss_weight": 0.1}
        settings |= {"classifier_loss_weight": 1.0, "encoder": with_dropout()}
    model = quick(kind, **settings).fit(X, y)
    model.transform(X[:5] + 0.1)
    model.inverse_transform(model.embedding_[:5])


@BOTH
def test_global_random_state_does_not_matter(kind: type[UMAP], X: Any) -> None:
    encoder = {"encoder": with_dropout()} if kind is ParametricUMAP else {}
    maps = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the state under test
        torch.manual_seed(seed)
        maps.append(quick(kind, **encoder).fit_transform(X))
    np.testing.assert_array_equal(*maps)


def with_dropout() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(16, 2)
        )


def test_networks_of_the_user_are_left_alone(X: Any) -> None:
    encoder, decoder = with_dropout(), torch.nn.Linear(2, 6)
    modules = {"encoder": encoder, "decoder": decoder}
    before = copy.deepcopy({name: module.state_dict() for name, module in modules.items()})
    model = quick(ParametricUMAP, parametric_reconstruction=True, **modules).fit(X)
    for name, module in modules.items():
        assert module.training, name
        for key, value in module.state_dict().items():
            assert torch.equal(value, before[name][key]), (name, key)
    trained = model.encoder_.state_dict()
    assert not torch.equal(trained["0.weight"], before["encoder"]["0.weight"])
    assert not model.encoder_.training


@BOTH
def test_data_are_left_alone(kind: type[UMAP], X: Any) -> None:
    data = X.copy()
    quick(kind).fit(data).transform(data)
    np.testing.assert_array_equal(data, X)


# ------------------------------------------------------------------ what is said


@BOTH
def test_verbose_speaks_on_stderr_only_and_changes_nothing(
    kind: type[UMAP], X: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    silent = quick(kind, verbose=0).fit(X)
    assert capfd.readouterr() == ("", "")
    speaking = quick(kind, verbose=1).fit(X)
    out, err = capfd.readouterr()
    assert out == ""
    assert "training" in err
    np.testing.assert_array_equal(silent.embedding_, speaking.embedding_)
    silent.transform(X[:3])
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------ fit and transform


@BOTH
def test_fit_transform_equals_fit_then_transform(kind: type[UMAP], X: Any) -> None:
    placed = quick(kind).fit_transform(X)
    model = quick(kind).fit(X)
    np.testing.assert_array_equal(model.embedding_, placed)
    np.testing.assert_array_equal(model.transform(X), placed)
    np.testing.assert_array_equal(model.transform(X.copy()), placed)


@BOTH
def test_duplicated_training_rows_keep_their_places(kind: type[UMAP], X: Any) -> None:
    twice = np.concatenate([X, X[:10]])
    model = quick(kind).fit(twice)
    np.testing.assert_array_equal(model.transform(twice.copy()), model.embedding_)


def test_a_training_row_alone_goes_to_its_own_position(X: Any) -> None:
    model = quick(UMAP).fit(X)
    np.testing.assert_array_equal(model.transform(X[4:7]), model.embedding_[4:7])


@BOTH
def test_rows_are_placed_one_by_one(kind: type[UMAP], X: Any) -> None:
    model = quick(kind).fit(X)
    new = X + np.float32(0.1)
    together = model.transform(new)
    np.testing.assert_allclose(model.transform(new[10:21]), together[10:21], atol=TRANSFORM)
    np.testing.assert_allclose(model.transform(new[3:4]), together[3:4], atol=TRANSFORM)
    np.testing.assert_allclose(model.transform(new[::-1]), together[::-1], atol=TRANSFORM)
    np.testing.assert_array_equal(model.transform(new), together)


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 90, 1000])
def test_batch_size_of_transform_does_not_matter(batch_rows: int, X: Any) -> None:
    model = quick(ParametricUMAP).fit(X)
    placed = model.transform(X, batch_size=batch_rows)
    np.testing.assert_allclose(placed, model.embedding_, atol=TRANSFORM)


def test_batch_size_of_transform_reaches_the_encoder(X: Any) -> None:
    model = quick(ParametricUMAP).fit(X)
    seen: list[int] = []
    model.encoder_.register_forward_hook(lambda module, rows, _: seen.append(len(rows[0])))
    model.transform(X, 40)
    assert seen == [40, 40, 10]
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1"):
        model.transform(X, batch_size=0)


@BOTH
def test_transform_leaves_the_model_alone(kind: type[UMAP], X: Any) -> None:
    model = quick(kind).fit(X)
    embedding = model.embedding_.copy()
    placed = model.transform(X)
    placed += 1.0
    np.testing.assert_array_equal(model.embedding_, embedding)
    np.testing.assert_array_equal(model.transform(X), embedding)


@BOTH
def test_positions_are_float32_and_c_ordered(kind: type[UMAP], X: Any) -> None:
    model = quick(kind, n_components=3)
    placed = model.fit_transform(X.astype(np.float64))
    for positions in (placed, model.transform(X[:2] + 1.0)):
        assert positions.dtype == np.float32
        assert positions.flags.c_contiguous
        assert positions.shape[1] == 3


@BOTH
@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_unfitted_model_says_so(kind: type[UMAP], method: str, X: Any) -> None:
    with pytest.raises(NotFittedError):
        getattr(quick(kind), method)(X)


# ------------------------------------------------------------------ scikit-learn's furniture


@BOTH
def test_feature_names_out(kind: type[UMAP], X: Any) -> None:
    names = quick(kind, n_components=3).fit(X).get_feature_names_out()
    assert names.tolist() == [f"{kind.__name__.lower()}{i}" for i in range(3)]


@BOTH
def test_set_output_pandas(kind: type[UMAP], X: Any) -> None:
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(90) + 100)
    model = quick(kind).set_output(transform="pandas")
    placed = model.fit_transform(frame)
    assert placed.columns.tolist() == model.get_feature_names_out().tolist()
    assert placed.index.equals(frame.index)
    np.testing.assert_array_equal(placed.to_numpy(), quick(kind).fit_transform(X))
    assert model.feature_names_in_.tolist() == list("abcdef")


@BOTH
def test_column_names_are_compared(kind: type[UMAP], X: Any) -> None:
    model = quick(kind).fit(pd.DataFrame(X, columns=list("abcdef")))
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(pd.DataFrame(X, columns=list("fbcdea")))


@BOTH
def test_pipeline_grid_search_and_feature_union(kind: type[UMAP], X: Any, y: Any) -> None:
    pipeline = make_pipeline(StandardScaler(), quick(kind), KNeighborsClassifier(3))
    name = kind.__name__.lower()
    search = GridSearchCV(pipeline, {f"{name}__n_neighbors": [4, 8]}, cv=2, error_score="raise")
    search.fit(X, y)
    assert search.best_score_ > 0.9  # three clusters far apart
    fitted = search.best_estimator_[name]
    assert fitted.n_neighbors == search.best_params_[f"{name}__n_neighbors"]
    union = FeatureUnion([("scaled", StandardScaler()), ("map", quick(kind))])
    joined = union.fit_transform(X)
    np.testing.assert_array_equal(joined[:, 6:], quick(kind).fit_transform(X))
    assert union.get_feature_names_out()[-2:].tolist() == [f"map__{name}0", f"map__{name}1"]


@BOTH
def test_pipeline_with_a_cache_reuses_the_fit(kind: type[UMAP], X: Any, tmp_path: Any) -> None:
    def placed() -> Any:
        steps = [("map", quick(kind)), ("scale", StandardScaler())]
        return Pipeline(steps, memory=str(tmp_path)).fit_transform(X)

    np.testing.assert_array_equal(placed(), placed())


def test_predict_exists_only_with_a_classifier(X: Any, y: Any) -> None:
    without = quick(ParametricUMAP).fit(X, y)
    assert not hasattr(without, "predict")
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        without.predict(X)
    model = quick(ParametricUMAP, classifier_loss_weight=1.0)
    with pytest.raises(NotFittedError):
        model.predict(X)
    names = np.array(["blue", "green", "red"])
    labels = model.set_params(n_epochs=50).fit(X, names[y]).predict(X)
    assert np.mean(labels == names[y]) > 0.95
    chances = model.predict_proba(X)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(model.classes_[chances.argmax(axis=1)], labels)


def test_a_model_with_a_classifier_is_one_to_scikit_learn(X: Any, y: Any) -> None:
    """Rows sorted by class: without stratified folds no class of a test fold is ever learned."""
    order = np.argsort(y, kind="stable")
    rows, names = X[order], np.array(["blue", "green", "red"])[y[order]]
    model = quick(ParametricUMAP, classifier_loss_weight=1.0, n_epochs=30)
    assert is_classifier(model)
    found = cross_val_score(model, rows, names, cv=3)
    expected = cross_val_score(model, rows, names, cv=StratifiedKFold(3), scoring="accuracy")
    np.testing.assert_array_equal(found, expected)
    assert found.min() > 0.8
    search = GridSearchCV(model, {"n_neighbors": [4, 5]}, cv=2).fit(rows, names)
    assert search.best_score_ > 0.8
    pipeline = make_pipeline(StandardScaler(), model).fit(rows, names)
    assert is_classifier(pipeline)
    assert pipeline.score(rows, names) > 0.9
    assert pipeline.classes_.tolist() == ["blue", "green", "red"]
    assert VotingClassifier([("map", model)]).fit(rows, names).score(rows, names) > 0.9


def test_score_is_the_accuracy_of_labelled_rows(X: Any, y: Any) -> None:
    model = quick(ParametricUMAP, classifier_loss_weight=1.0).fit(X, y)
    mixed, weights = np.roll(y, 1), np.arange(90) + 1.0
    mixed[:60] = y[:60]
    predicted = model.predict(X)
    assert model.score(X, mixed) == pytest.approx(accuracy_score(mixed, predicted))
    weighted = accuracy_score(mixed, predicted, sample_weight=weights)
    assert model.score(X, mixed, weights) == pytest.approx(weighted)
    assert 0.1 < weighted < 0.9
    some = np.where(np.arange(90) % 2, mixed, -1)
    assert model.score(X, some) == model.score(X[1::2], mixed[1::2])
    of_some = accuracy_score(mixed[1::2], predicted[1::2], sample_weight=weights[1::2])
    assert model.score(X, some, weights) == pytest.approx(of_some)


@pytest.mark.parametrize("weight", [0.0, -1.0, "1", None])
def test_a_model_without_a_classifier_is_none(weight: Any, X: Any, y: Any) -> None:
    model = quick(ParametricUMAP, classifier_loss_weight=weight)
    assert not is_classifier(model)
    assert not hasattr(model, "score")
    assert not hasattr(model, "predict")
    assert not is_classifier(quick(UMAP))
    if weight == 0.0:
        with pytest.raises(AttributeError, match="no attribute 'score'"):
            model.fit(X, y).score(X, y)


# ------------------------------------------------------------------ kinds of input

CONTAINERS = {
    "float64": lambda X: X.astype(np.float64),
    "fortran": np.asfortranarray,
    "list": lambda X: X.tolist(),
    "pandas": lambda X: pd.DataFrame(X, columns=list("abcdef")),
    "polars": lambda X: pl.DataFrame(X, schema=list("abcdef")),
    "arrow": lambda X: pl.DataFrame(X, schema=list("abcdef")).to_arrow(),
    "torch": torch.from_numpy,
    "csr": scipy.sparse.csr_matrix,
    "csc": scipy.sparse.csc_array,
    "coo": scipy.sparse.coo_matrix,
}


@BOTH
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_give_the_same_map(kind: type[UMAP], container: str, X: Any) -> None:
    data = CONTAINERS[container](X)
    model = quick(kind).fit(data)
    # A sparse matrix's distances come from sparse products and are summed in another order.
    tolerance = 0.05 if container in ("csr", "csc", "coo") else 0.0
    np.testing.assert_allclose(model.embedding_, quick(kind).fit_transform(X), atol=tolerance)
    np.testing.assert_allclose(model.transform(data), model.embedding_, atol=TRANSFORM)


# ------------------------------------------------------------------ bad and odd input


@BOTH
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X: np.where(X > 4, np.nan, X), "contains NaN"),
        (lambda X: np.where(X > 4, np.inf, X), "contains infinity"),
        (lambda X: X[0], "Expected 2D array"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X.astype(complex), "[Cc]omplex"),
        (lambda X: X.astype(str).astype(object)[:, :1] + "x", "could not|convert|text"),
    ],
    ids=["nan", "inf", "1d", "empty", "complex", "text"],
)
def test_bad_rows_are_refused(kind: type[UMAP], spoil: Any, message: str, X: Any) -> None:
    bad = spoil(X)
    with pytest.raises(ValueError, match=message):
        quick(kind).fit(bad)
    if bad.ndim == 2 and bad.shape[1] == 6:
        with pytest.raises(ValueError, match=message):
            quick(kind).fit(X).transform(bad)


@BOTH
def test_wrong_width_is_refused(kind: type[UMAP], X: Any) -> None:
    with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 6"):
        quick(kind).fit(X).transform(X[:, :5])


@BOTH
def test_one_row_is_too_few(kind: type[UMAP], X: Any) -> None:
    with pytest.raises(ValueError, match=r"1 sample.* minimum of 2"):
        quick(kind).fit(X[:1])


@BOTH
def test_fewer_rows_than_neighbours(kind: type[UMAP], X: Any) -> None:
    with pytest.warns(UserWarning, match="n_neighbors should be at most"):
        placed = quick(kind, n_neighbors=30).fit_transform(X[:10])
    with pytest.warns(UserWarning, match="n_neighbors should be at most"):
        assert np.isfinite(quick(kind).fit_transform(X[:2])).all()
    assert np.isfinite(placed).all()


@BOTH
@pytest.mark.parametrize(
    "spoil",
    [
        lambda X: np.full_like(X, 3.3),
        lambda X: np.zeros_like(X),
        lambda X: np.repeat(X[:9], 10, axis=0),
        lambda X: X * np.array([1, 0, 1, 0, 1, 0]) + np.array([0, 5, 0, -1, 0, 1e4]),
        lambda X: X * 1e6,
        lambda X: X * 1e-6,
    ],
    ids=["all equal", "all zero", "ten times each", "constant columns", "large", "small"],
)
def test_odd_rows_have_finite_places(kind: type[UMAP], spoil: Any, X: Any) -> None:
    data = spoil(X).astype(np.float32)
    model = quick(kind).fit(data)
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite(model.transform(data + 1.0)).all()
    assert np.isfinite(model.history_["loss"]).all()


@BOTH
@pytest.mark.parametrize("batch_size", [1, 100_000])
def test_any_batch_size_terminates(kind: type[UMAP], batch_size: int, X: Any) -> None:
    model = quick(kind, batch_size=batch_size, n_epochs=2).fit(X)
    assert np.isfinite(model.embedding_).all()
    assert len(model.history_["loss"]) >= 1
    assert batch_size * model.report_["n_steps"] >= model.report_["n_edges"] / 10


@BOTH
def test_no_epochs_gives_the_start(kind: type[UMAP], X: Any) -> None:
    model = quick(kind, n_epochs=0).fit(X)
    assert model.history_ == {}
    assert model.report_["n_steps"] == 0
    if kind is UMAP:
        start = np.random.default_rng(0).uniform(size=(90, 2))
        placed = quick(UMAP, n_epochs=0, init=start).fit_transform(X)
        expected = 10 * (start - start.min(0)) / np.ptp(start, axis=0)
        np.testing.assert_allclose(placed, expected, rtol=1e-5, atol=1e-5)
    else:
        encoder = torch.nn.Linear(6, 2)
        placed = quick(ParametricUMAP, n_epochs=0, encoder=encoder).fit_transform(X)
        expected = encoder(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_allclose(placed, expected, atol=TRANSFORM)


@BOTH
def test_missing_values_pass_if_allowed(kind: type[UMAP], X: Any) -> None:
    holed = X.copy()
    holed[3, 2] = np.inf
    with pytest.raises(ValueError, match="contains infinity"):
        quick(kind).fit(holed, ensure_all_finite="allow-nan")
    with pytest.raises(ValueError, match="ensure_all_finite"):
        quick(kind).fit(X, ensure_all_finite="sometimes")


@BOTH
def test_callbacks_see_the_training_and_can_stop_it(kind: type[UMAP], X: Any) -> None:
    class Stop(Callback):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def on_epoch_end(self, run: Any) -> None:
            self.seen.append(run.epoch)
            run.stop_training = run.epoch == 1

    watcher = Stop()
    model = quick(kind, n_epochs=50, callbacks=[watcher]).fit(X)
    assert watcher.seen == [0, 1]
    planned = quick(kind, n_epochs=50).fit(X).report_["n_steps"]
    assert model.report_["n_steps"] == planned * 2 // 10
    assert len(model.history_["loss"]) == 2


def test_network_of_another_width_is_refused(X: Any) -> None:
    with pytest.raises(ValueError, match=r"n_components=2 numb.*'n', 2.*'n', 3.*n_components=3"):
        quick(ParametricUMAP, encoder=torch.nn.Linear(6, 3)).fit(X)
    with pytest.raises(ValueError, match="must take float32 rows of shape"):
        quick(ParametricUMAP, encoder=torch.nn.Linear(5, 2)).fit(X)
    with pytest.raises(TypeError, match="Pass an instance"):
        quick(ParametricUMAP, encoder=torch.nn.Linear).fit(X)


def test_labels_of_another_length_are_refused(X: Any, y: Any) -> None:
    with pytest.raises(ValueError, match="one entry per row of X: expected 90"):
        quick(ParametricUMAP).fit(X, y[:-1])
