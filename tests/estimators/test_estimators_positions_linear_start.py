"""The start of a training at the principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

from neumap import ParametricUMAP
from neumap.data import as_rows
from neumap.estimators.positions.linear_start import start_linear
from neumap.estimators.positions.networks import prepare_encoder
from neumap.networks import MLP

GENERATOR = np.random.default_rng(0)
MIXED = GENERATOR.normal(size=(12, 12))
X = (GENERATOR.normal(size=(300, 12)) * np.geomspace(8, 0.1, 12) @ MIXED).astype(np.float32)


def started(hidden: tuple[int, ...], n_outputs: int = 2, seed: int = 0) -> tuple[MLP, bool]:
    torch.manual_seed(0)
    network = MLP(12, n_outputs, hidden)
    return network, start_linear(network, torch.from_numpy(X - X.mean(0)), seed)


@pytest.mark.parametrize("hidden", [(64,), (64, 64), (64,) * 6, (64, 40, 100), (8, 8, 8)])
@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_the_network_gives_the_principal_components(hidden: Any, n_outputs: int) -> None:
    network, was_set = started(hidden, n_outputs)
    assert was_set
    with torch.no_grad():
        positions = network(torch.from_numpy(X - X.mean(0))).numpy()
    expected = PCA(n_outputs).fit_transform(X.astype(np.float64))
    expected /= expected[:, 0].std()  # the first component has extent 1
    signs = np.sign((positions * expected).sum(0))
    np.testing.assert_allclose(positions * signs, expected, atol=1e-4)


def test_units_still_differ() -> None:
    network, _ = started((64, 64))
    for layer in network.layers:
        assert len(torch.unique(layer.weight, dim=0)) == len(layer.weight)  # type: ignore[arg-type]


def test_seeds_give_other_weights_and_the_same_map() -> None:
    one, again, other = (started((64, 64), seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one.layers[1].weight, again.layers[1].weight)  # type: ignore[arg-type]
    assert not torch.equal(one.layers[1].weight, other.layers[1].weight)  # type: ignore[arg-type]
    rows = torch.from_numpy(X - X.mean(0))
    torch.testing.assert_close(one(rows), other(rows), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("network", "rows"),
    [
        (MLP(12, 2, (64, 64), residual=True), X),
        (MLP(12, 2, (64, 33)), X),  # an odd width
        (MLP(12, 3, (64, 4)), X),  # no room for three pairs
        (MLP(12, 2, ()), X),
        (MLP(12, 2, (64,)), X[:1]),  # a point
        (MLP(12, 2, (64,)), np.outer(np.arange(9), X[0]).astype(np.float32)),  # a line
    ],
)
def test_other_networks_keep_their_weights(network: MLP, rows: np.ndarray) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert not start_linear(network, torch.from_numpy(rows), 0)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_an_untrained_model_shows_principal_components(metric: str) -> None:
    model = ParametricUMAP(n_neighbors=5, n_epochs=0, metric=metric, random_state=0).fit(X)
    read = X if metric == "euclidean" else X / np.linalg.norm(X, axis=1, keepdims=True)
    expected = PCA(2).fit_transform(read.astype(np.float64))
    for mine, theirs in zip(model.embedding_.T, expected.T, strict=True):
        assert abs(np.corrcoef(mine, theirs)[0, 1]) > 0.999


@pytest.mark.parametrize("n_features", [12, 200])
def test_rows_with_missing_values_take_no_part(n_features: int) -> None:
    rows = np.random.default_rng(0).normal(size=(60, n_features)).astype(np.float32)
    gaps = np.concatenate([rows, rows[:9]])
    gaps[-9:, 3] = np.nan
    network = prepare_encoder(None, as_rows(gaps), 2, (64, 64), 0, subspace=n_features // 2)
    with torch.no_grad():
        assert network(torch.from_numpy(rows)).isfinite().all()


def test_groups_of_groups_keep_their_distances() -> None:
    """Centres of centres: what a network from random weights loses (.54 for this seed)."""
    generator = np.random.default_rng(1)
    groups = generator.normal(size=(4, 30)) * 20
    centres = (groups[:, None] + generator.normal(size=(4, 4, 30)) * 6).reshape(16, 30)
    labels = np.arange(16).repeat(30)
    rows = (centres[labels] + generator.normal(size=(480, 30))).astype(np.float32)
    model = ParametricUMAP(n_neighbors=10, random_state=0).fit(rows)
    places = np.array([model.embedding_[labels == c].mean(0) for c in range(16)])
    assert np.corrcoef(pdist(centres), pdist(places))[0, 1] > 0.68
