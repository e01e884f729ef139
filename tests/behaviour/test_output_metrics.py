"""Maps that are not flat, from the constructor to new rows."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import pairwise_distances

import neumap
from neumap import UMAP, ParametricUMAP
from neumap.losses import resolve_output_metric

KINDS = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
SIZES = {"haversine": 2, "hyperboloid": 2, "gaussian_energy": 5, "manhattan": 2}
IRIS = load_iris().data.astype(np.float32)
NEW = np.arange(150) % 4 == 0
SOME, OTHERS = IRIS[~NEW], IRIS[NEW]


def make(kind: type[UMAP], metric: Any, **parameters: Any) -> Any:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    size = SIZES.get(metric, 2) if isinstance(metric, str) else 2
    settings = {"n_neighbors": 10, "min_dist": 0.01, "random_state": 42, "n_components": size}
    return kind(output_metric=metric, **{**settings, **preset, **parameters})


def trust(rows: Any, positions: NDArray[np.float32], metric: Any, k: int = 10) -> float:
    """Trustworthiness by the distances of the map's own metric."""
    space = resolve_output_metric(metric, None)
    assert space is not None
    on_map = space.between(positions[:, None], positions[None])
    np.fill_diagonal(on_map, np.inf)
    in_data = pairwise_distances(rows)
    np.fill_diagonal(in_data, -1.0)
    ranks = in_data.argsort(1).argsort(1)
    near = on_map.argsort(1)[:, :k]
    n = len(rows)
    intruders = np.clip(np.take_along_axis(ranks, near, 1) - k, 0, None).sum()
    return float(1 - 2 * intruders / (n * k * (2 * n - 3 * k - 1)))


@KINDS
@pytest.mark.parametrize("metric", SIZES)
def test_neighbours_stay_together_and_new_rows_find_them(kind: type[UMAP], metric: str) -> None:
    model = make(kind, metric).fit(SOME)
    assert trust(SOME, model.embedding_, metric) >= (0.85 if metric == "haversine" else 0.95)
    placed = model.transform(OTHERS)
    assert placed.shape == (len(OTHERS), SIZES[metric])
    assert trust(OTHERS, placed, metric) >= 0.8
    np.testing.assert_allclose(model.transform(OTHERS[3:5]), placed[3:5], atol=1e-4)
    np.testing.assert_array_equal(make(kind, metric).fit_transform(SOME), model.embedding_)


@pytest.mark.parametrize("metric", ["hyperboloid", "haversine"])
def test_new_rows_lie_among_training_rows_as_these_do(metric: str) -> None:
    model = make(UMAP, metric).fit(SOME)
    positions = np.concatenate([model.embedding_, model.transform(OTHERS)])
    of_all = trust(np.concatenate([SOME, OTHERS]), positions, metric)
    assert of_all >= trust(SOME, model.embedding_, metric) - 0.01


def test_rows_of_data_for_positions() -> None:
    model = make(UMAP, "haversine").fit(SOME)
    back = model.inverse_transform(model.embedding_[:20] + np.float32([0.0, 2 * np.pi]))
    error = np.linalg.norm(back - SOME[:20], axis=1).mean()
    usual = np.linalg.norm(SOME[:20] - SOME.mean(0), axis=1).mean()
    assert error < 0.15 * usual


def test_a_decoder_reads_the_coordinates() -> None:
    settings = {"parametric_reconstruction": True, "autoencoder_loss": True}
    model = make(ParametricUMAP, "hyperboloid", **settings, n_epochs=20).fit(SOME)
    assert model.inverse_transform(model.embedding_).shape == SOME.shape
    assert np.isfinite(model.history_["reconstruction_loss"]).all()


@KINDS
def test_torch_functions(kind: type[UMAP]) -> None:
    def around_a_torus(x: torch.Tensor, y: torch.Tensor, width: float = 1.0) -> torch.Tensor:
        apart = (x - y).abs() % width
        shorter = torch.minimum(apart, width - apart)
        return (shorter.square().sum(-1) + 1e-12).sqrt()

    model = make(kind, around_a_torus, output_metric_kwds={"width": 12.0}, n_epochs=60)
    model.fit(SOME)
    other = make(kind, around_a_torus, output_metric_kwds={"width": 6.0}, n_epochs=60).fit(SOME)
    assert np.isfinite(model.transform(OTHERS)).all()
    assert not np.array_equal(model.embedding_, other.embedding_)


def test_functions_of_numba_train_as_torch_does() -> None:
    numba = pytest.importorskip("numba")

    @numba.njit(fastmath=True)
    def taxicab(x: Any, y: Any) -> Any:
        distance = 0.0
        slope = np.zeros_like(x)
        for i in range(x.shape[0]):
            distance += abs(x[i] - y[i])
            slope[i] = np.sign(x[i] - y[i])
        return distance, slope

    settings = {"n_epochs": 3, "init": IRIS[~NEW][:, :2] * 4}
    ours = make(UMAP, "manhattan", **settings).fit_transform(SOME)
    theirs = make(UMAP, taxicab, **settings).fit_transform(SOME)
    np.testing.assert_allclose(theirs, ours, atol=1e-3)


@KINDS
def test_landmarks_and_updates_keep_coordinates(kind: type[UMAP]) -> None:
    model = make(kind, "haversine", n_epochs=60).fit(SOME)
    before = model.embedding_.copy()
    model.update(OTHERS)
    assert len(model.embedding_) == 150
    moved = np.linalg.norm(model.embedding_[: len(SOME)] - before, axis=1)
    assert np.median(moved) < 0.5


@KINDS
@pytest.mark.parametrize(
    ("metric", "parameters", "message"),
    [
        ("haversine", {"n_components": 3}, "n_components must be 2 with output_metric='haversine'"),
        ("gaussian_energy", {"n_components": 2}, "n_components must be 5 with output_metric="),
        ("hyperboloid", {"densmap": True}, "densmap must be False for a map with another metric"),
        ("hyperboloid", {"output_dens": True}, "output_dens must be False for a map with another"),
        ("jaccard", {}, "output_metric must be one of"),
        (7, {}, "output_metric must be a name, or a function"),
    ],
)
def test_what_needs_a_flat_map_raises(
    kind: type[UMAP], metric: Any, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(kind, metric, **parameters).fit(SOME)


@KINDS
@pytest.mark.parametrize("metric", ["haversine", "hyperboloid", "manhattan"])
def test_coordinates_that_cannot_be_turned_are_not_moved_into_a_frame(
    kind: type[UMAP], metric: str
) -> None:
    """A rotation of angles is none of the sphere; the sum of differences depends on the axes."""
    frame = np.random.default_rng(0).normal(size=(len(SOME), 2))
    with pytest.raises(ValueError, match=f"align_to must be None .* output_metric='{metric}'"):
        make(kind, metric, n_epochs=2).fit(SOME, align_to=frame)
    assert make(kind, "euclidean", n_epochs=2).fit(SOME, align_to=frame).report_["alignment"]


def test_what_needs_a_flat_map_raises_for_networks() -> None:
    with pytest.raises(ValueError, match="global_correlation_loss_weight must be 0 for a map"):
        make(ParametricUMAP, "haversine", global_correlation_loss_weight=1.0).fit(SOME)
    guide = make(ParametricUMAP, "euclidean", n_epochs=2).fit(SOME)
    with pytest.raises(ValueError, match=r"guide.*output_metric"):
        make(ParametricUMAP, "haversine", guide=guide).fit(SOME)


def test_confidence_measures_along_the_sphere() -> None:
    model = make(ParametricUMAP, "haversine", n_epochs=30).fit(SOME)
    spread = model.confidence(OTHERS, n_calibration=50).measures.neighbor_spread
    assert (spread <= np.pi).all()


@KINDS
def test_models_are_kept(kind: type[UMAP], tmp_path: Path) -> None:
    model = make(kind, "minkowski", output_metric_kwds={"p": 3.0}, n_epochs=5).fit(SOME)
    copy = neumap.load(model.save(tmp_path / "map.neumap"))
    assert copy.output_metric == "minkowski"
    assert copy.output_metric_kwds == {"p": 3.0}
    np.testing.assert_array_equal(copy.transform(OTHERS), model.transform(OTHERS))
    assert clone(model).output_metric_kwds == {"p": 3.0}


def test_a_file_does_not_lose_the_function_that_places_rows(tmp_path: Path) -> None:
    def own(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x - y).square().sum(-1)

    with pytest.raises(ValueError, match="output_metric must be one that a file can hold"):
        make(UMAP, own, n_epochs=2).fit(SOME).save(tmp_path / "map.neumap")
    with pytest.warns(UserWarning, match="output_metric"):
        make(ParametricUMAP, own, n_epochs=2).fit(SOME).save(tmp_path / "map.neumap")


def test_flat_maps_take_the_closed_form() -> None:
    """A name of Euclidean distance changes nothing."""
    usual = make(UMAP, "euclidean", n_epochs=5).fit_transform(SOME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(make(UMAP, "l2", n_epochs=5).fit_transform(SOME), usual)
