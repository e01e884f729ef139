"""Which rows count as unlabelled, in every container and for every room."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_blobs

import neumap
from neumap import UMAP, ParametricUMAP, metrics
from neumap._labels import read_column
from neumap.plots.reading import categories_of, values_of

X, CODES = make_blobs(90, n_features=4, centers=3, cluster_std=3.0, random_state=1)
UNKNOWN = np.random.default_rng(0).random(90) < 0.4
NAMES = np.array(["cat", "dog", "oak"])
CODED = np.where(UNKNOWN, -1, CODES)


def network(**parameters: Any) -> ParametricUMAP:
    settings = {"preset": "fast", "n_epochs": 2, "n_neighbors": 8, "random_state": 0}
    return ParametricUMAP(**{**settings, **parameters})


def names(mark: Any) -> list[Any]:
    """Names of classes, and a mark where there is none."""
    return [mark if u else str(n) for u, n in zip(UNKNOWN, NAMES[CODES], strict=True)]


def numbers(mark: Any) -> list[Any]:
    return [mark if u else int(n) for u, n in zip(UNKNOWN, CODES, strict=True)]


def objects(entries: list[Any]) -> NDArray[Any]:
    result = np.empty(len(entries), dtype=object)
    result[:] = entries
    return result


# By its name: labels with unknown ones, and the classes that they should have.
TEXT, WHOLE = ["cat", "dog", "oak"], [0, 1, 2]
MARKED: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "list of numbers, -1": (lambda: numbers(-1), WHOLE),
    "list of numbers, None": (lambda: numbers(None), WHOLE),
    "tuple of numbers, NaN": (lambda: tuple(numbers(np.nan)), WHOLE),
    "list of numbers, NA": (lambda: numbers(pd.NA), WHOLE),
    "list of names, -1": (lambda: names(-1), TEXT),
    "list of names, '-1'": (lambda: names("-1"), TEXT),
    "list of names, None": (lambda: names(None), TEXT),
    "list of names, NaN": (lambda: names(float("nan")), TEXT),
    "list of names, NaT": (lambda: names(pd.NaT), TEXT),
    "text made of names and -1": (lambda: np.array(names(-1)), TEXT),
    "text made of names and NaN": (lambda: np.array(names(np.nan)), TEXT),
    "bytes": (lambda: np.array(names(-1)).astype("S"), [b"cat", b"dog", b"oak"]),
    "text of variable length": (lambda: np.array(names("-1"), np.dtypes.StringDType()), TEXT),
    "objects, -1": (lambda: objects(names(-1)), TEXT),
    "objects, None": (lambda: objects(names(None)), TEXT),
    "objects, numbers": (lambda: objects(numbers(None)), WHOLE),
    "float NaN": (lambda: np.where(UNKNOWN, np.nan, CODES), WHOLE),
    "float32 -1": (lambda: CODED.astype(np.float32), WHOLE),
    "int8": (lambda: CODED.astype(np.int8), WHOLE),
    "decimals": (lambda: [decimal.Decimal(code) for code in CODED.tolist()], WHOLE),
    "column": (lambda: pd.DataFrame({"kind": names(None)}), TEXT),
    "pandas objects": (lambda: pd.Series(names(None), index=[7] * 90), TEXT),
    "pandas Categorical": (lambda: pd.Categorical(names(None)), TEXT),
    "pandas categories": (lambda: pd.Series(names(None), dtype="category"), TEXT),
    "pandas numbers as categories": (lambda: pd.Categorical(numbers(None)), WHOLE),
    "pandas Int64": (lambda: pd.Series(numbers(None), dtype="Int64"), WHOLE),
    "pandas Float64": (lambda: pd.array(numbers(None), dtype="Float64"), WHOLE),
    "pandas string": (lambda: pd.Series(names(None), dtype="string"), TEXT),
    "pandas arrow": (lambda: pd.Series(numbers(None), dtype="int64[pyarrow]"), WHOLE),
    "pandas Index": (lambda: pd.Index(names(None)), TEXT),
    "polars text": (lambda: pl.Series(names(None)), TEXT),
    "polars numbers": (lambda: pl.Series(numbers(None)), WHOLE),
    "polars Categorical": (lambda: pl.Series(names(None), dtype=pl.Categorical), TEXT),
    "polars table": (lambda: pl.DataFrame({"kind": names(None)}), TEXT),
    "arrow": (lambda: pa.chunked_array([names(None)]), TEXT),
    "arrow numbers": (lambda: pa.array(numbers(None)), WHOLE),
    "masked numbers": (lambda: np.ma.masked_array(CODES, mask=UNKNOWN), WHOLE),
    "masked text": (lambda: np.ma.masked_array(NAMES[CODES], mask=UNKNOWN), TEXT),
    "tensor": (lambda: torch.from_numpy(CODED), WHOLE),
    "bfloat16 tensor": (lambda: torch.from_numpy(CODED).to(torch.bfloat16), WHOLE),
    "dates": (
        lambda: np.where(UNKNOWN, np.datetime64("NaT"), np.datetime64("2020-01-01") + CODES),
        [datetime.date(2020, 1, day) for day in (1, 2, 3)],
    ),
    "pandas dates": (
        lambda: pd.Series(pd.Timestamp("2020", tz="UTC") + pd.to_timedelta(CODES, "D")).where(
            ~UNKNOWN
        ),
        [pd.Timestamp(2020, 1, day, tz="UTC") for day in (1, 2, 3)],
    ),
}
EACH = pytest.mark.parametrize("what", MARKED)


@pytest.fixture(scope="module")
def right() -> ParametricUMAP:
    """The model that numbers with -1 give."""
    return network(classifier_loss_weight=1.0).fit(X, CODED)


# ------------------------------------------------------------------ one meaning everywhere


@EACH
def test_codes_are_those_of_minus_one(what: str) -> None:
    make, classes = MARKED[what]
    found = read_column(make()).classes()
    assert found.labels.tolist() == classes
    np.testing.assert_array_equal(found.codes, CODED)


@EACH
def test_graph_classifier_and_map_are_those_of_minus_one(what: str, right: Any) -> None:
    make, classes = MARKED[what]
    model = network(classifier_loss_weight=1.0).fit(X, make())
    assert abs(model.graph_ - right.graph_).max() == 0
    np.testing.assert_array_equal(model.embedding_, right.embedding_)
    assert model.classes_.tolist() == classes
    np.testing.assert_array_equal(model.predict(X), model.classes_[right.predict(X)])
    assert model.score(X, make()) == right.score(X, CODED)


@EACH
def test_scores_are_those_of_the_labelled_rows(what: str) -> None:
    Z = X[:, :2]
    alone = metrics.scores(X[~UNKNOWN], Z[~UNKNOWN], labels=CODES[~UNKNOWN])
    found = metrics.scores(
        X, Z, labels=MARKED[what][0](), X_test=X, embedding_test=Z, labels_test=MARKED[what][0]()
    )
    for name in ("knn_accuracy", "silhouette"):
        assert found[name] == pytest.approx(alone[name], abs=1e-12)
    # Each test row has itself among the five training rows that vote.
    voters = metrics.knn_accuracy(
        Z[~UNKNOWN], CODES[~UNKNOWN], embedding_test=Z[~UNKNOWN], labels_test=CODES[~UNKNOWN]
    )
    assert found["test_knn_accuracy"] == voters
    assert found["test_silhouette"] == found["silhouette"]


@EACH
def test_pictures_show_no_label(what: str) -> None:
    found = categories_of(MARKED[what][0](), 90)
    np.testing.assert_array_equal(found.codes, CODED)
    assert len(found.names) == 3


def test_class_centres_are_those_of_the_labelled_rows() -> None:
    rows = np.array([[100.0], [0.0], [1.0], [3.0], [7.0]])
    shown = np.array([[2.0], [0.0], [1.0], [9.0], [7.0]])
    # Nearest in the data: 1, 0, 1, 2; on the map 1, 0, 3, 2.
    assert metrics.knc(rows, shown, [-1, 0, 1, 2, 3], n_neighbors=1) == 0.75
    assert metrics.knc(rows, shown, [0, 1, 2, 3, 4], n_neighbors=1) < 0.75


def test_false_is_a_label_and_so_is_the_largest_byte() -> None:
    assert read_column([False, True, None]).classes().codes.tolist() == [0, 1, -1]
    assert read_column(np.array([255, 0], np.uint8)).classes().codes.tolist() == [1, 0]


def test_labels_of_several_columns_are_unknown_one_by_one() -> None:
    """By hand: the rule of the page, for one edge."""
    table = pd.DataFrame({"kind": names(None), "size": pd.Series(numbers(None), dtype="Int64")})
    graph = network().fit(X, table).graph_
    assert abs(graph - network().fit(X, np.stack([CODED, CODED], axis=1)).graph_).max() == 0
    assert abs(graph - network().fit(X, CODED).graph_).max() == 0
    with pytest.raises(ValueError, match=r"one label per row for a classifier, got shape \(90, 2"):
        network(classifier_loss_weight=1.0).fit(X, table)


def test_unknown_names_of_a_hierarchy() -> None:
    levels = [
        {"cat": 0, "dog": 1, "oak": 2},
        {"cat": "animal", "dog": "animal", "oak": "plant"},
    ]
    settings: dict[str, Any] = {"target_metric": "hierarchical_categorical"}
    by_number = [{i: level[name] for i, name in enumerate(TEXT)} for level in levels]
    expected = network(**settings, target_metric_kwds={"cat_hierarchy": by_number}).fit(X, CODED)
    for mark in (None, -1, np.nan):
        model = network(**settings, target_metric_kwds={"cat_hierarchy": levels})
        assert abs(model.fit(X, names(mark)).graph_ - expected.graph_).max() == 0
    one_level = network(**settings, target_metric_kwds={"cat_hierarchy": levels[:1]})
    as_categories = network().fit(X, CODED).graph_
    assert abs(one_level.fit(X, names(None)).graph_ - as_categories).max() < 1e-6
    none_known = network(**settings, target_metric_kwds={"cat_hierarchy": levels})
    plain = network().fit(X, np.full(90, -1)).graph_
    assert abs(none_known.fit(X, [None] * 90).graph_ - plain).max() == 0
    model = network(**settings, target_metric_kwds={"cat_hierarchy": "animals"})
    with pytest.raises(ValueError, match=r"cat_hierarchy must be a list of dicts .* got 'animals'"):
        model.fit(X, names(None))


# ------------------------------------------------------------------ values that are no labels


@pytest.mark.parametrize(
    ("metric", "y", "message"),
    [
        ("l2", np.where(UNKNOWN, np.nan, CODES), r"='l2', got a missing one in row 1 \(3\d in all"),
        ("l2", numbers(None), "got a missing one in row 1"),
        ("l2", np.where(UNKNOWN, np.inf, CODES), "got an infinite one in row 1"),
        ("l2", np.ma.masked_array(CODES, mask=UNKNOWN), "got a missing one in row 1"),
        ("ordinal", numbers(pd.NA), "='ordinal', got a missing one in row 1"),
        ("count", np.where(UNKNOWN, np.nan, CODES), "='count', got a missing one in row 1"),
        ("string", names(None), "='string', got a missing one in row 1"),
        ("string", CODES, "must hold text where target_metric='string', got numbers, such as"),
        ("l2", NAMES[CODES], "must hold numbers where target_metric='l2', got text, such as"),
        ("l2", names("-1"), "must hold numbers where target_metric='l2', got text"),
        ("ordinal", NAMES[CODES], "must hold numbers where target_metric='ordinal', got text"),
        ("l2", np.datetime64("2020-01-01") + CODES, "must hold numbers .* got dates, such as"),
        ("l2", CODES + 1j, "must hold numbers where target_metric='l2', got numbers, such as"),
        (
            "l2",
            np.where(np.arange(180).reshape(90, 2) == 3, np.nan, 1.0),
            "a missing one in row 1, column 1",
        ),
    ],
)  # fmt: skip
def test_values_must_be_complete_numbers(metric: str, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UMAP(n_epochs=1, target_metric=metric).fit(X, y)


def test_advice_on_incomplete_values_works() -> None:
    y = np.where(UNKNOWN, np.nan, X[:, 0])
    with pytest.raises(ValueError, match="Leave these rows out, or use target_metric='categorica"):
        UMAP(n_epochs=1, target_metric="l2").fit(X, y)
    UMAP(n_epochs=1, n_neighbors=8, target_metric="l2").fit(X[~UNKNOWN], y[~UNKNOWN])
    UMAP(n_epochs=1, n_neighbors=8).fit(X, y)


def test_values_of_any_container_are_numbers() -> None:
    expected = UMAP(n_epochs=1, target_metric="l2", random_state=0).fit(X, X[:, 0]).graph_
    column = X[:, 0].tolist()
    for y in (column, pd.Series(column, dtype="Float64"), pl.Series(column), objects(column),
              torch.tensor(column, dtype=torch.float64), pd.DataFrame({"y": column})):  # fmt: skip
        graph = UMAP(n_epochs=1, target_metric="l2", random_state=0).fit(X, y).graph_
        assert abs(graph - expected).max() == 0
    flags = UMAP(n_epochs=1, target_metric="l2", random_state=0).fit(X, CODES > 0).graph_
    ones = UMAP(n_epochs=1, target_metric="l2", random_state=0).fit(X, (CODES > 0) * 1.0).graph_
    assert abs(flags - ones).max() == 0


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([1, "1"] * 45, ValueError, r"labels of one kind, got numbers and text, such as .*1"),
        (objects([1, "1"] * 45), ValueError, "labels of one kind, got numbers and text"),
        (objects([["a"], ["b"]] * 45), ValueError, "one label per row, got list in row 0"),
        (objects([{"a": 1}, "b"] * 45), ValueError, "one label per row, got dict in row 0"),
        ([object() for _ in range(90)], ValueError, "labels that can be put in order"),
        ([[1], [1, 2]] * 45, ValueError, "rows of unequal length"),
        (np.where(UNKNOWN, np.inf, CODES), ValueError, "finite labels, got infinity in row 1"),
        ((code for code in CODES), TypeError, r"got a generator\. Make a list of it: list\(y\)"),
        ({"label": CODES}, TypeError, r'got a dict\. Pass one of its values, such as y\["label"\]'),
        (set(CODES.tolist()), TypeError, "got a set. Pass a list"),
        (scipy.sparse.csr_matrix(CODES[:, None]), TypeError, r"got a csr_matrix. Pass y\.toarray"),
        (scipy.sparse.dok_array(CODES[:, None]), TypeError, r"got a dok_array. Pass y\.toarray"),
        (
            np.array([(1, 2.0)] * 90, dtype=[("a", "i4"), ("b", "f4")]),
            TypeError,
            r'the fields \(\'a\', \'b\'\)\. Pass one field, such as y\["a"\]',
        ),
        ("abc", ValueError, r"one entry per row of X: expected 90, got shape \(\)"),
        (3, ValueError, r"one entry per row of X: expected 90, got shape \(\)"),
    ],
)
def test_what_is_no_label_is_refused(y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network().fit(X, y)


def test_advice_on_containers_works() -> None:
    expected = network().fit(X, CODES).embedding_
    sparse = scipy.sparse.csr_matrix(CODES[:, None])
    fields = np.array([(code, 2.0) for code in CODES], dtype=[("a", "i4"), ("b", "f4")])
    with pytest.warns(UserWarning, match="column-vector y was passed"):
        np.testing.assert_array_equal(network().fit(X, sparse.toarray()).embedding_, expected)
    for y in (list(iter(CODES)), {"label": CODES}["label"], fields["a"], list(map(str, CODES))):
        np.testing.assert_array_equal(network().fit(X, y).embedding_, expected)


def test_measurements_are_no_classes() -> None:
    y = np.where(UNKNOWN, -1, X[:, 0])
    n = int((~UNKNOWN).sum())
    message = f"must hold classes for a classifier, got {n} different fractional numbers in {n} lab"
    with pytest.raises(ValueError, match=message):
        network(classifier_loss_weight=1.0).fit(X, y)
    halves = network(classifier_loss_weight=1.0).fit(X, CODES / 2)
    assert halves.classes_.tolist() == [0.0, 0.5, 1.0]
    bins = np.digitize(X[:, 0], [-5.0, 0.0, 5.0])
    network(classifier_loss_weight=1.0).fit(X, bins)


def test_a_class_of_minus_one_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"one class, .*1.*, besides -1.* such as 0"):
        network(classifier_loss_weight=1.0).fit(X, np.where(CODES == 0, -1, 1))


@pytest.mark.parametrize("mark", [-1, None, np.nan])
def test_no_label_at_all(mark: Any) -> None:
    nothing = [mark] * 90
    with pytest.raises(ValueError, match=r"got -1 \(unlabelled\) in every row. Label some"):
        network(classifier_loss_weight=1.0).fit(X, nothing)
    with pytest.raises(ValueError, match=r"labels must hold the label of at least one row"):
        metrics.scores(X, X[:, :2], labels=nothing)
    expected = network().fit(X, np.full(90, -1)).embedding_
    np.testing.assert_array_equal(network().fit(X, nothing).embedding_, expected)


def test_one_label_is_too_few_for_scores() -> None:
    with pytest.raises(ValueError, match="labels of at least two rows, got one"):
        metrics.scores(X, X[:, :2], labels=["a"] + [None] * 89)


def test_scores_compare_labels_of_one_kind() -> None:
    text = CODES.astype(str)
    with pytest.raises(ValueError, match=r"labels_test must be of the same kind .* text with num"):
        metrics.knn_accuracy(X, CODES, embedding_test=X, labels_test=text)
    assert metrics.knn_accuracy(X, text, embedding_test=X, labels_test=text) > 0.5
    model = network(classifier_loss_weight=1.0).fit(X, CODES)
    with pytest.raises(ValueError, match="labels as they were in fit, numbers, got text"):
        model.score(X, text)
    with pytest.raises(ValueError, match="label of at least one row"):
        model.score(X, [None] * 90)


# ------------------------------------------------------------------ further rooms


@pytest.mark.parametrize(
    "labels",
    [NAMES[CODES], NAMES[CODES].astype(object), CODES.astype(np.uint8), CODES > 0, names(None)],
    ids=["text", "objects", "uint8", "bool", "names and None"],
)
def test_landmarks_are_unlabelled(labels: Any) -> None:
    known = read_column(labels).classes()
    maps = []
    for y in (labels, known.codes):
        model = network(classifier_loss_weight=1.0).fit(X, y)
        model.add_landmarks(X, sample_pct=0.3)
        model.fit(X + 0.5, y)
        assert len(model.classes_) == len(known.labels)
        maps.append(model.embedding_)
    np.testing.assert_array_equal(*maps)


def test_landmarks_have_no_values() -> None:
    model = network(target_metric="l2").fit(X, X[:, 0]).add_landmarks(X, sample_pct=0.3)
    with pytest.raises(ValueError, match=r"where landmarks are part.* got 'l2'\. Call remove_land"):
        model.fit(X, X[:, 0])
    model.remove_landmarks().fit(X, X[:, 0])
    model.fit(X, X[:, 0], landmark_positions=model.embedding_)


def test_unique_rows_keep_their_labels() -> None:
    twice = np.concatenate([X, X])
    model = network(unique=True, classifier_loss_weight=1.0).fit(twice, names(None) * 2)
    once = network(classifier_loss_weight=1.0).fit(X, CODED)
    np.testing.assert_array_equal(model.embedding_[:90], once.embedding_)


def test_names_survive_a_file(tmp_path: Path) -> None:
    model = network(classifier_loss_weight=1.0).fit(X, pd.Series(names(None)))
    loaded = neumap.load(model.save(tmp_path / "model.neumap"))
    assert loaded.classes_.tolist() == TEXT
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_pictures_write_dates() -> None:
    days = pd.Series(pd.to_datetime(["2020-03-01", None, "2019-12-31"]))
    found = categories_of(days, 3)
    assert (found.names, found.codes.tolist()) == (("2019-12-31", "2020-03-01"), [1, -1, 0])
    hours = np.array(["2020-03-01T08", "2020-03-01T09"], dtype="datetime64[ns]")
    assert categories_of(hours, 2).names == ("2020-03-01 08:00", "2020-03-01 09:00")
    spans = np.array([90, 10], dtype="timedelta64[m]")
    assert categories_of(spans, 2).names == ("0:10:00", "1:30:00")
    declared = pd.Categorical(days, categories=days[[0, 2]], ordered=True)
    assert categories_of(declared, 3).names == ("2020-03-01", "2019-12-31")
    zones = pd.Series(pd.to_datetime(["2020-03-01"], utc=True))
    assert list(map(str, categories_of(zones, 1).names)) == ["2020-03-01 00:00:00+00:00"]


def test_dates_are_no_values_for_colours() -> None:
    days = np.array(["2020-03-01", "2020-03-11"], dtype="datetime64[ns]")
    with pytest.raises(
        ValueError, match=r"values must be numbers, got dates\. Pass the time since"
    ):
        values_of(days, 2)
    assert values_of((days - days.min()) / np.timedelta64(1, "D"), 2).tolist() == [0.0, 10.0]
    missing = values_of(pd.Series([1, None], dtype="Int64"), 2)
    np.testing.assert_array_equal(missing, [1.0, np.nan])
    with pytest.raises(ValueError, match=r"values must be numbers, got text\. Pass names"):
        values_of(["a", "b"], 2)
