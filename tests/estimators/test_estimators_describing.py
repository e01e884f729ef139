"""The card of a fit, made of the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from neumap import ParametricUMAP
from neumap.estimators.describing import MOST_ROWS, extent_of

X = np.random.default_rng(0).normal(size=(1200, 4)).astype(np.float32)


def card_of(X: Any, **settings: Any) -> Any:
    settings = {"preset": "fast", "n_epochs": 1, "random_state": 0, **settings}
    return ParametricUMAP(**settings).fit(X)._model().card


def test_a_sample_is_measured_that_the_seed_determines() -> None:
    one, again, other = card_of(X), card_of(X), card_of(X, random_state=1)
    assert one.n_rows == 1200
    assert one.rows.n_rows == MOST_ROWS
    np.testing.assert_array_equal(one.rows.center, again.rows.center)
    assert (one.rows.center != other.rows.center).any()
    np.testing.assert_allclose(one.rows.center, X.mean(axis=0), atol=0.05)


def test_wide_rows_are_measured_by_fewer() -> None:
    wide = np.random.default_rng(0).normal(size=(90, 20_000)).astype(np.float32)
    assert card_of(wide, n_neighbors=5).rows.n_rows == 64


def test_the_form_is_that_of_the_network() -> None:
    assert card_of(X[:60]).rows.form == "raw"
    assert card_of(X[:60], metric="cosine").rows.form == "unit"
    assert card_of(X[:60], metric="correlation").rows.form == "centred unit"
    assert card_of(X[:60], metric="cosine", encoder=torch.nn.Linear(4, 2)).rows.form == "raw"
    assert card_of(X[:60], metric="cosine", parametric_embedding=False).rows.form == "unit"


class Slow(Dataset[Any]):
    """Rows that may take long to read."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(X[index])


def test_a_dataset_is_not_read_for_it() -> None:
    card = card_of(Slow())
    assert card.rows is None
    assert card.n_rows == 60


def test_the_extent_leaves_out_rows_without_a_position() -> None:
    placed = np.array([[0.0, 1.0], [np.nan, 9.0], [2.0, -1.0]], np.float32)
    assert extent_of(placed) == ((0.0, 2.0), (-1.0, 1.0))
    assert extent_of(placed[1:2]) is None


def test_a_graph_alone_has_no_extent() -> None:
    assert card_of(X[:60], transform_mode="graph").extent is None
