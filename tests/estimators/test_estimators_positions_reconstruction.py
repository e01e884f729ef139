"""Reconstruction: the range of the data, and the loss that fits it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from torch import nn

from neumap import ParametricUMAP, load
from neumap.data import as_rows
from neumap.estimators.positions.reconstruction import (
    choose_loss,
    data_range,
    suited_to,
    warn_of_units,
)
from neumap.losses.reconstruction import reconstruction_loss

UNIT = as_rows(np.array([[0.0, 1.0], [0.5, 0.25]], dtype=np.float32))
WIDE = as_rows(np.array([[0.0, 1.0], [-3.0, 255.0]], dtype=np.float32))
KERAS_WARNINGS = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")


@pytest.mark.parametrize("batch_rows", [1, 3, 4096])
@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
def test_the_range_is_the_smallest_and_largest_number(container: Any, batch_rows: int) -> None:
    values = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    found = data_range(as_rows(container(values)), batch_rows)
    assert found == (values.min(), values.max())


def test_numbers_that_a_sparse_matrix_does_not_store_count() -> None:
    rows = scipy.sparse.csr_matrix(np.array([[0.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    assert data_range(as_rows(rows)) == (0.0, 4.0)


@pytest.mark.parametrize(("rows", "name"), [(UNIT, "bce"), (WIDE, "mse")])
def test_the_loss_follows_the_range_where_none_is_named(rows: Any, name: str) -> None:
    assert choose_loss(None, rows).name == name


def test_a_named_loss_is_used() -> None:
    assert choose_loss("mae", WIDE).name == "mae"


def test_cross_entropy_by_name_needs_data_in_its_range() -> None:
    with pytest.raises(ValueError, match=r"within \[0, 1\].*from -3 to 255"):
        choose_loss("bce", WIDE)


def test_a_function_gets_the_rows_first() -> None:
    loss = choose_loss(lambda y_true, y_pred: y_true - 2 * y_pred, WIDE)
    assert float(loss(torch.full((2, 2), 10.0), torch.ones(2, 2))) == 8.0


@KERAS_WARNINGS
def test_a_keras_loss_is_computed_by_keras() -> None:
    keras = pytest.importorskip("keras")
    loss = choose_loss(keras.losses.MeanAbsoluteError(), WIDE)
    assert loss.name == "custom"
    assert float(loss(torch.zeros(2, 2), torch.full((2, 2), 3.0))) == pytest.approx(3.0)


@KERAS_WARNINGS
def test_keras_cross_entropy_of_data_outside_its_range_warns_and_is_used() -> None:
    keras = pytest.importorskip("keras")
    given = keras.losses.BinaryCrossentropy()
    with pytest.warns(UserWarning, match=r"needs data in \[0, 1\], but X spans \[-3, 255\]"):
        assert choose_loss(given, WIDE).name == "custom"
    assert choose_loss(given, UNIT).name == "custom"  # no warning


@KERAS_WARNINGS
def test_keras_losses_of_logits_get_the_sigmoid() -> None:
    keras = pytest.importorskip("keras")
    logits = keras.losses.BinaryCrossentropy(from_logits=True)
    assert choose_loss(logits, UNIT).activation is torch.sigmoid


CPU = torch.device("cpu")


def decoder_of(*last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 64), *last)


def test_cross_entropy_of_fractions_is_that_of_their_logits() -> None:
    loss = reconstruction_loss("bce", (0.0, 1.0))
    rows, logits = torch.rand(4, 3), 4 * torch.randn(4, 3)
    of_fractions = loss.of_fractions()
    torch.testing.assert_close(of_fractions(rows, logits.sigmoid()), loss(rows, logits))
    assert of_fractions(torch.ones(1, 2), torch.tensor([[0.0, 1.0]])).isfinite()
    assert torch.equal(of_fractions.activation(logits), logits)


@pytest.mark.parametrize(
    ("decoder", "is_of_fractions"),
    [
        (decoder_of(), False),
        (decoder_of(nn.Tanh()), False),
        (decoder_of(nn.ReLU()), False),
        (decoder_of(nn.Sigmoid()), True),
        (decoder_of(nn.Dropout(0.5), nn.Hardsigmoid()), True),
        (nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 1)), False),
    ],
)
def test_a_loss_reads_what_the_decoder_ends_in(decoder: nn.Module, is_of_fractions: bool) -> None:
    before = torch.get_rng_state()
    for name in ("bce", "mse"):
        loss = reconstruction_loss(name, (0.0, 1.0))
        found = suited_to(loss, decoder, 2, CPU)
        assert (found is not loss) == (is_of_fractions and name == "bce")
    assert decoder.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sigmoid_of_the_user_is_not_applied_twice(tmp_path: Any) -> None:
    X = (load_digits().data[:300] / 16).astype(np.float32)
    errors = {}
    for name, decoder in {"logits": decoder_of(), "fractions": decoder_of(nn.Sigmoid())}.items():
        model = ParametricUMAP(
            decoder=decoder, parametric_reconstruction=True, preset="fast", random_state=0
        ).fit(X)
        decoded = model.inverse_transform(model.embedding_)
        errors[name] = float(np.square(decoded - X).mean())
        same = load(model.save(tmp_path / f"{name}.neumap"))
        np.testing.assert_array_equal(same.inverse_transform(model.embedding_), decoded)
        assert decoded.min() < 0.01  # a second sigmoid gives 0.5 and more
    assert errors["fractions"] < 1.1 * errors["logits"]
    assert errors["fractions"] < 0.5 * X.var(0).mean()


def test_a_loss_of_the_user_on_logits_warns_of_a_sigmoid() -> None:
    loss = reconstruction_loss(nn.BCEWithLogitsLoss(), (0.0, 1.0))
    with pytest.warns(UserWarning, match=r"should return logits .* from 0 to 1 for every position"):
        assert suited_to(loss, decoder_of(nn.Sigmoid()), 2, CPU) is loss
    assert suited_to(loss, decoder_of(), 2, CPU) is loss  # no warning


def test_held_out_rows_of_another_scale_are_told() -> None:
    X = np.random.default_rng(0).random((60, 5)).astype(np.float32)
    model = ParametricUMAP(
        parametric_reconstruction=True, preset="fast", n_epochs=1, random_state=0
    )
    model.set_params(reconstruction_validation=255 * X[:9])
    with pytest.warns(UserWarning, match=r"reconstruction_validation should lie within \[0, 1\]"):
        model.fit(X)
    model.fit(255 * X)  # with squared error there is nothing to tell
    model.set_params(reconstruction_validation=X[:9]).fit(X)


NORMAL = np.random.default_rng(0).normal(size=(400, 30))


@pytest.mark.parametrize("rows", [NORMAL + 100.0, NORMAL * 1e10, 1e-3 * NORMAL - 1.0])
def test_rows_that_a_decoder_does_not_reach_are_told(rows: Any) -> None:
    with pytest.warns(UserWarning, match=r"around 0 and of ordinary size.*Standardise X"):
        warn_of_units(choose_loss(None, as_rows(rows.astype(np.float32))), as_rows(rows), 0)


@pytest.mark.parametrize("rows", [NORMAL, NORMAL + 5.0, NORMAL * 1e4, np.full((9, 3), 7.0)])
def test_rows_of_ordinary_size_and_losses_of_logits_or_of_the_user_are_not(rows: Any) -> None:
    warn_of_units(choose_loss(None, as_rows(rows)), as_rows(rows), 0)
    far = as_rows((NORMAL * 1e-4 + 0.5).astype(np.float32))
    assert choose_loss(None, far).name == "bce"
    warn_of_units(choose_loss(None, far), far, 0)
    warn_of_units(choose_loss(lambda y_true, y_pred: y_true - y_pred, far), far, 0)


def test_standardised_rows_have_a_decoder_that_learns() -> None:
    """The advice works: far rows are told of, and decoded once they are standardised."""
    clusters = np.repeat(np.random.default_rng(1).normal(size=(3, 8)), 40, axis=0)
    rows = clusters * 1e10 + np.random.default_rng(2).normal(size=(120, 8)) * 1e9
    model = ParametricUMAP(
        parametric_reconstruction=True, n_neighbors=10, preset="fast", random_state=0
    )
    shares = []
    for X in (rows, StandardScaler().fit_transform(rows)):
        is_told = pytest.warns(UserWarning, match="Standardise X") if X is rows else nullcontext()
        with is_told:
            model.fit(X)
        left = np.square(model.inverse_transform(model.embedding_) - X).sum()
        shares.append(left / np.square(X - X.mean(0)).sum())
    assert shares[1] < 0.3 < shares[0]
