"""Transform and its inverse: which way a row takes with each kind of model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neumap.estimators.new_rows.placement as placement
from neumap import UMAP, ParametricUMAP
from neumap.data import Validated, check_input
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.placement import average_neighbors, place_rows
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.estimators.new_rows.transform import embed, invert
from neumap.estimators.recipe import Recipe
from neumap.fuzzy import membership_to_train
from neumap.losses.reconstruction import reconstruction_loss
from neumap.neighbors import query_neighbors

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(30, 4)).astype(np.float32)
NEW = GENERATOR.normal(size=(6, 4)).astype(np.float32)
EMBEDDING = GENERATOR.normal(size=(30, 2)).astype(np.float32)
FREE = Fitted(4, 2, (4,), (4,), None, embedding=EMBEDDING, training=TrainingRows(X))
ENCODER = nn.Linear(4, 2)


def recipe(**parameters: Any) -> Recipe:
    settings = {"n_neighbors": 5, "n_jobs": 1, "device": "cpu", **parameters}
    return UMAP(**settings)._recipe()


def new(rows: Any = NEW) -> Validated:
    return check_input(rows)


def mapped(layer: nn.Linear, rows: np.ndarray) -> np.ndarray:
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    return rows @ weight.T + bias


# ------------------------------------------------------------------ rows to positions


def test_an_encoder_gives_positions_at_once() -> None:
    fitted = replace(FREE, encoder=ENCODER, training=None)
    found = embed(new(), fitted, ParametricUMAP(device="cpu")._recipe())
    np.testing.assert_allclose(found, mapped(ENCODER, NEW), rtol=1e-5, atol=1e-6)


def test_without_an_encoder_rows_are_placed_among_their_neighbors() -> None:
    settings = recipe(min_dist=0.3, local_connectivity=2.0, transform_seed=9)
    found = embed(new(), FREE, settings)
    nearest = query_neighbors(X, NEW, 5)
    expected = place_rows(
        *nearest, EMBEDDING, settings.kernel_of_new_rows, local_connectivity=2.0, seed=9
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_training_rows_get_their_own_positions_even_where_rows_are_equal() -> None:
    twins = X.copy()
    twins[1] = twins[0]
    fitted = replace(FREE, training=TrainingRows(twins))
    found = embed(new(twins.copy()), fitted, recipe())
    np.testing.assert_array_equal(found, EMBEDDING)


def test_positions_of_the_training_rows_are_a_copy() -> None:
    found = embed(new(X), FREE, recipe())
    found[:] = 0.0
    assert EMBEDDING.any()


@pytest.mark.parametrize("encoder", [None, ENCODER])
def test_memberships_are_given_where_the_model_stops_at_the_graph(encoder: Any) -> None:
    fitted = replace(FREE, encoder=encoder)
    settings = recipe(transform_mode="graph", local_connectivity=2.0, disconnection_distance=2.5)
    found = embed(new(), fitted, settings)
    nearest = query_neighbors(X, NEW, 5)
    expected = membership_to_train(*nearest, 30, local_connectivity=2.0, disconnection_distance=2.5)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-5)


def test_memberships_of_the_training_rows_are_memberships_too() -> None:
    found = embed(new(X.copy()), FREE, recipe(transform_mode="graph"))
    assert found.shape == (30, 30)
    np.testing.assert_array_equal(found.diagonal(), np.ones(30))  # each is at distance zero


def test_the_seed_of_transform_chooses_which_rows_repel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "N_REPELLERS", 5)
    one, again, other = (embed(new(), FREE, recipe(transform_seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_placing_needs_the_training_rows() -> None:
    with pytest.raises(ValueError, match="transform without an encoder needs the training rows"):
        embed(new(), replace(FREE, training=None), recipe())


# ------------------------------------------------------------------ positions to rows


@pytest.mark.parametrize(("name", "activation"), [("mse", lambda x: x), ("bce", None)])
def test_a_decoder_gives_rows_through_its_activation(name: str, activation: Any) -> None:
    decoder = nn.Linear(2, 4)
    loss = reconstruction_loss(name, (0.0, 1.0))
    fitted = replace(FREE, decoder=decoder, reconstruction_loss=loss, training=None)
    found = invert(EMBEDDING[:3], fitted, recipe())
    outputs = mapped(decoder, EMBEDDING[:3])
    expected = activation(outputs) if activation else 1.0 / (1.0 + np.exp(-outputs))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_rows_come_back_in_the_shape_of_the_fit() -> None:
    fitted = replace(FREE, input_shape=(2, 2))
    assert invert(EMBEDDING[:3], fitted, recipe()).shape == (3, 2, 2)


def test_without_a_decoder_rows_are_means_of_training_rows() -> None:
    settings = recipe(min_dist=0.4)
    found = invert(EMBEDDING[:3] + 0.1, FREE, settings)
    expected = average_neighbors(
        EMBEDDING[:3] + np.float32(0.1), EMBEDDING, X, settings.kernel, n_neighbors=5
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_decoder_and_training_rows_there_is_no_way_back() -> None:
    with pytest.raises(ValueError, match="fit with parametric_reconstruction=True"):
        invert(EMBEDDING[:3], replace(FREE, training=None), recipe())
    with pytest.raises(ValueError, match="fit with parametric_reconstruction=True"):
        invert(EMBEDDING[:3], FREE, recipe(metric="precomputed"))


@pytest.mark.parametrize("wrong", [np.zeros((3, 3)), np.zeros(2), np.zeros((1, 2, 1))])
def test_positions_of_another_width_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"must have shape \(n_samples, 2\), got"):
        invert(wrong, FREE, recipe())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Positions must be finite"):
        invert([[0.0, value]], FREE, recipe())


def test_a_decoder_is_left_in_its_mode() -> None:
    decoder = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.9)).train()
    loss = reconstruction_loss("mse", (0.0, 2.0))
    fitted = replace(FREE, decoder=decoder, reconstruction_loss=loss)
    expected = decoder[0](torch.from_numpy(EMBEDDING)).detach().numpy()
    np.testing.assert_allclose(invert(EMBEDDING, fitted, recipe()), expected, rtol=1e-5, atol=1e-6)
    assert decoder.training
