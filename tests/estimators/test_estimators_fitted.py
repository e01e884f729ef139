"""What a fit learned: a frozen value, and the attributes that read it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from neumap.data import check_input
from neumap.estimators.fitted import FIELDS, Fitted, Learned, check_rows, device_of
from neumap.estimators.new_rows.training_rows import TrainingRows

X = np.arange(15, dtype=np.float32).reshape(5, 3)
EMBEDDING = np.arange(10, dtype=np.float32).reshape(5, 2)
RADII = np.arange(5, dtype=np.float32)
MODEL = Fitted(
    n_features=3,
    n_components=2,
    input_shape=(3,),
    row_shape=(3,),
    graph=scipy.sparse.csr_matrix(np.ones((5, 5)) - np.eye(5)),
    embedding=EMBEDDING,
    rad_orig=RADII,
    rad_emb=-RADII,
    training=TrainingRows(X),
)


def doubling() -> nn.Linear:
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    return layer


# ------------------------------------------------------------------ the value


def test_a_fitted_model_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        MODEL.n_features = 4  # type: ignore[misc]


def test_fields_are_listed_in_order() -> None:
    assert tuple(field.name for field in fields(Fitted)) == FIELDS


def test_positions_are_those_of_all_rows() -> None:
    assert MODEL.positions is EMBEDDING


def test_positions_of_distinct_rows_are_their_first() -> None:
    model = replace(MODEL, distinct=np.array([0, 3]))
    np.testing.assert_array_equal(model.positions, EMBEDDING[[0, 3]])


def test_a_graph_alone_has_no_positions() -> None:
    with pytest.raises(NotFittedError, match="Set transform_mode='embedding' and fit again"):
        _ = replace(MODEL, embedding=None).positions


# ------------------------------------------------------------------ cut to the first rows


def test_the_head_cuts_everything_that_has_rows() -> None:
    head = MODEL.first_rows(3)
    np.testing.assert_array_equal(head.graph.toarray(), np.ones((3, 3)) - np.eye(3))
    np.testing.assert_array_equal(head.positions, EMBEDDING[:3])
    np.testing.assert_array_equal(head.rad_orig, RADII[:3])
    np.testing.assert_array_equal(head.rad_emb, -RADII[:3])
    np.testing.assert_array_equal(head.training_rows("x").rows, X[:3])


def test_the_head_keeps_what_has_no_rows() -> None:
    model = replace(MODEL, encoder=doubling(), report={"n_steps": 3})
    head = model.first_rows(3)
    assert head.encoder is model.encoder
    assert head.report is model.report
    assert (head.n_features, head.row_shape) == (3, (3,))


def test_the_head_of_a_model_without_rows_has_none() -> None:
    bare = replace(MODEL, embedding=None, rad_orig=None, rad_emb=None, training=None)
    head = bare.first_rows(3)
    assert (head.embedding, head.rad_orig, head.rad_emb, head.training) == (None,) * 4


@pytest.mark.parametrize("n_rows", [5, 6])
def test_the_head_of_all_rows_is_the_model(n_rows: int) -> None:
    assert MODEL.first_rows(n_rows) is MODEL


# ------------------------------------------------------------------ training rows


def test_a_pickle_drops_training_rows_only_with_an_encoder() -> None:
    assert MODEL.for_pickle() is MODEL
    kept = replace(MODEL, encoder=doubling()).for_pickle()
    assert kept.training is None
    assert kept.embedding is EMBEDDING


def test_missing_training_rows_say_what_needs_them() -> None:
    with pytest.raises(ValueError, match=r"^Dancing needs the training rows.*keep='data'"):
        replace(MODEL, training=None).training_rows("Dancing")


def test_training_rows_come_back_as_checked_data() -> None:
    names = np.array(["a", "b", "c"], dtype=object)
    data = replace(MODEL, feature_names=names).data("x")
    assert data.X is X
    assert data.feature_names is names
    assert (data.n_features, data.row_shape) == (3, (3,))


# ------------------------------------------------------------------ new rows


def test_new_rows_need_the_width_of_the_fit() -> None:
    assert MODEL.check_new(X[:1], True, "UMAP").X.shape == (1, 3)
    with pytest.raises(ValueError, match="2 features, but UMAP is expecting 3 features"):
        MODEL.check_new(X[:, :2], True, "UMAP")


def test_new_rows_need_the_columns_of_the_fit() -> None:
    pandas = pytest.importorskip("pandas")
    model = replace(MODEL, feature_names=np.array(["a", "b", "c"], dtype=object))
    model.check_new(pandas.DataFrame(X, columns=["a", "b", "c"]), True, "UMAP")
    with pytest.raises(ValueError, match="feature names"):
        model.check_new(pandas.DataFrame(X, columns=["a", "c", "b"]), True, "UMAP")


def test_missing_values_are_refused_unless_allowed() -> None:
    holes = X.copy()
    holes[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        MODEL.check_new(holes, True, "UMAP")
    assert np.isnan(MODEL.check_new(holes, "allow-nan", "UMAP").X[0, 0])


def test_a_fit_needs_two_rows() -> None:
    assert check_rows(X[:2], True, "UMAP").n_features == 3
    with pytest.raises(ValueError, match="1 sample"):
        check_rows(X[:1], True, "UMAP")


@pytest.mark.parametrize("batch_rows", [None, 2])
def test_rows_are_encoded_in_order(batch_rows: int | None) -> None:
    model = replace(MODEL, encoder=doubling())
    np.testing.assert_array_equal(model.embed(check_input(X), batch_rows), 2 * X[:, :2])


def test_rows_get_the_shape_of_the_encoder() -> None:
    model = replace(MODEL, encoder=doubling(), row_shape=(3, 1))
    assert model.network_rows(check_input(X)).row_shape == (3, 1)


def test_the_device_is_that_of_the_first_tensor() -> None:
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
    assert device_of(nn.BatchNorm1d(1, affine=False, device="meta")) == torch.device("meta")
    assert device_of(nn.ReLU()) == torch.device("cpu")


# ------------------------------------------------------------------ attributes


class Estimator:
    embedding_ = Learned[Any]("embedding")
    decoder_ = Learned[Any]("decoder")


def estimator(fitted: Fitted | None = None) -> Estimator:
    made = Estimator()
    if fitted is not None:
        vars(made)["_fitted"] = fitted
    return made


def test_an_attribute_reads_its_field() -> None:
    assert estimator(MODEL).embedding_ is EMBEDDING


def test_an_attribute_does_not_exist_before_a_fit() -> None:
    assert not hasattr(estimator(), "embedding_")
    with pytest.raises(AttributeError, match="'embedding_': this model is not fitted"):
        _ = estimator().embedding_


def test_an_attribute_that_was_not_learned_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="did not learn it with these parameters"):
        _ = estimator(MODEL).decoder_


def test_setting_an_attribute_replaces_the_field_of_this_model_only() -> None:
    one, other = estimator(MODEL), estimator(MODEL)
    one.embedding_ = X
    assert one.embedding_ is X
    assert other.embedding_ is EMBEDDING
    assert MODEL.embedding is EMBEDDING


def test_an_attribute_cannot_be_set_before_a_fit() -> None:
    with pytest.raises(AttributeError, match="embedding_ can be set after fit only"):
        estimator().embedding_ = X


def test_the_class_gives_the_attribute_itself() -> None:
    assert isinstance(Estimator.embedding_, Learned)
    assert Estimator.embedding_.field == "embedding"
