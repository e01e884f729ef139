"""Fingerprints of fits: equal for equal ones, and naming what differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from neumap import ParametricUMAP
from neumap.archive import fits_json
from neumap.data import as_rows, check_input
from neumap.estimators import fingerprint as room
from neumap.estimators.fingerprint import _of_rows, _told, differences
from neumap.networks import MLP

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


def changed(array: np.ndarray) -> np.ndarray:
    other = array.copy()
    other.flat[-1] += 1
    return other


def squared(x: Any, y: Any) -> float:
    return float(((x - y) ** 2).sum())


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "numbers": (lambda: (1, 2.5), lambda: (1, 2.6)),
    "arrays": (lambda: X.copy(), lambda: changed(X)),
    "shapes": (lambda: X.copy(), lambda: X.reshape(5, 40)),
    "dtypes": (lambda: np.zeros(4, np.float32), lambda: np.zeros(2, np.float64)),
    "texts": (lambda: np.array(["a", None], object), lambda: np.array(["a", "b"], object)),
    "sparse": (lambda: sparse.csr_array(X), lambda: sparse.csr_array(changed(X))),
    "pairs of arrays": (lambda: (X.copy(), X.copy()), lambda: (X, changed(X))),
    "functions": (lambda: squared, lambda: changed),
    "optimisers": (
        lambda: torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.1),
        lambda: torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.2),
    ),
    "networks": (lambda: nn.Linear(5, 2), lambda: nn.Linear(5, 2, bias=False)),
    "layers": (
        lambda: nn.Sequential(nn.Linear(5, 2), nn.ReLU()),
        lambda: nn.Sequential(nn.Linear(5, 2), nn.Tanh()),
    ),
    "networks of the package": (lambda: MLP(5, 2, (8,)), lambda: MLP(5, 2, (9,))),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_equal_values_are_told_alike_and_others_are_not(kind: str) -> None:
    make, other = PAIRS[kind]
    assert _told(make()) == _told(make())
    assert _told(make()) != _told(other())
    assert fits_json(_told(make()))


def test_all_parameters_can_be_told() -> None:
    model = ParametricUMAP()
    told = _told(model._parameters())
    assert fits_json(told)
    assert told == _told(ParametricUMAP()._parameters())


def test_large_data_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _of_rows(as_rows(X))
    assert whole != _of_rows(as_rows(changed(X)))
    monkeypatch.setattr(room, "NUMBERS", 10)
    monkeypatch.setattr(room, "SAMPLED_ROWS", 4)
    sampled = _of_rows(as_rows(X))
    assert sampled == _of_rows(as_rows(changed(X)))  # rows 0, 10, 20 and 30
    first = X.copy()
    first[10] += 1
    assert sampled != _of_rows(as_rows(first))


def test_other_containers_of_the_same_rows_are_equal() -> None:
    whole = X.round()
    stores = [whole, torch.from_numpy(whole), sparse.csr_matrix(whole), np.asfortranarray(whole)]
    assert len({_of_rows(as_rows(check_input(store).X)) for store in stores}) == 1


def test_names_that_are_missing_differ() -> None:
    expected = ["new (None there, 2 here)", "old (1 there, None here)"]
    assert differences({"old": 1}, {"new": 2}) == expected
