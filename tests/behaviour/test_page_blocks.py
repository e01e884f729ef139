"""The code of umap-learn's pages on Parametric UMAP, block by block, with neumap in its place.

Pages: "Parametric (neural network) Embedding" and "Transforming New Data with Parametric UMAP".
The calls and names are theirs, the networks and data are small. Each block runs with networks of
Keras and of PyTorch.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
from neumap import ParametricUMAP, load_ParametricUMAP, metrics, plots

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")

N_COMPONENTS = 2
LIBRARIES = ("keras", "pytorch")


def keras_on_torch() -> Any:
    keras = pytest.importorskip("keras")
    if keras.config.backend() != "torch":
        pytest.skip("Keras runs on another backend here")
    return keras


@dataclass(frozen=True)
class Networks:
    """What a block needs of a library, made anew for each test."""

    encoder: Any
    decoder: Any
    dims: tuple[int, ...]
    mean_squared_error: Any
    cross_entropy_of_logits: Any
    adam: Any


def keras_networks() -> Networks:
    keras = keras_on_torch()
    layers, dims = keras.layers, (28, 28, 1)
    encoder = keras.Sequential(
        [
            layers.InputLayer(shape=dims),
            layers.Conv2D(filters=4, kernel_size=3, strides=(2, 2), activation="relu"),
            layers.Conv2D(
                filters=8, kernel_size=3, strides=(2, 2), activation="relu", padding="same"
            ),
            layers.Flatten(),
            layers.Dense(units=32, activation="relu"),
            layers.Dense(units=N_COMPONENTS),
        ]
    )
    decoder = keras.Sequential(
        [
            layers.InputLayer(shape=(N_COMPONENTS,)),
            layers.Dense(units=32, activation="relu"),
            layers.Dense(units=7 * 7 * 8, activation="relu"),
            layers.Reshape(target_shape=(7, 7, 8)),
            layers.UpSampling2D(2),
            layers.Conv2D(filters=4, kernel_size=3, padding="same", activation="relu"),
            layers.UpSampling2D(2),
            layers.Conv2D(filters=1, kernel_size=3, padding="same"),
        ]
    )
    return Networks(
        encoder,
        decoder,
        dims,
        keras.losses.MeanSquaredError(),
        keras.losses.BinaryCrossentropy(from_logits=True),
        keras.optimizers.Adam(1e-3),
    )


def torch_networks() -> Networks:
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 8, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 7 * 7, 32),
        nn.ReLU(),
        nn.Linear(32, N_COMPONENTS),
    )
    decoder = nn.Sequential(
        nn.Linear(N_COMPONENTS, 32),
        nn.ReLU(),
        nn.Linear(32, 7 * 7 * 8),
        nn.ReLU(),
        nn.Unflatten(1, (8, 7, 7)),
        nn.ConvTranspose2d(8, 4, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 1, kernel_size=4, stride=2, padding=1),
    )
    return Networks(
        encoder,
        decoder,
        (1, 28, 28),
        nn.MSELoss(),
        nn.BCEWithLogitsLoss(),
        lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    )


@pytest.fixture(params=LIBRARIES)
def networks(request: pytest.FixtureRequest) -> Networks:
    return {"keras": keras_networks, "pytorch": torch_networks}[request.param]()


@pytest.fixture(scope="module")
def mnist() -> SimpleNamespace:
    """Stands in for `mnist.load_data()`: 28x28 images, flattened and scaled as on the page."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:400]
    small = X[order].reshape(-1, 8, 8).astype(np.float32)
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    flat = images.reshape((images.shape[0], -1)) / 16.0
    y = y[order]
    return SimpleNamespace(
        train_images=flat[:300], Y_train=y[:300], test_images=flat[300:], Y_test=y[300:]
    )


# 300 rows at 15 epochs of UMAP and 75 edges: about 400 steps.
SHORT: dict[str, Any] = {"n_epochs": 15, "batch_size": 75, "random_state": 0}


def held_out_accuracy(embedder: ParametricUMAP, mnist: SimpleNamespace) -> float:
    vote = KNeighborsClassifier(5).fit(embedder.embedding_, mnist.Y_train)
    return float(vote.score(embedder.transform(mnist.test_images), mnist.Y_test))


# ---- basic usage --------------------------------------------------------------------------------


def test_basic_usage(mnist: SimpleNamespace) -> None:
    my_data = mnist.train_images
    embedder = ParametricUMAP()
    embedding = embedder.fit_transform(my_data)
    assert embedding.shape == (300, 2)
    assert held_out_accuracy(embedder, mnist) > 0.7


# ---- defining your own network ------------------------------------------------------------------


def test_own_network(networks: Networks, mnist: SimpleNamespace) -> None:
    embedder = ParametricUMAP(encoder=networks.encoder, dims=networks.dims, **SHORT)
    embedding = embedder.fit_transform(mnist.train_images)
    assert embedding.shape == (300, 2)
    np.testing.assert_allclose(embedder.transform(mnist.train_images), embedding, atol=1e-5)
    assert held_out_accuracy(embedder, mnist) > 0.55


def test_network_of_a_keras_user_can_be_described(capsys: pytest.CaptureFixture[str]) -> None:
    keras_networks().encoder.summary()
    assert "conv2d" in capsys.readouterr().out


# ---- saving and loading your model --------------------------------------------------------------


def test_saving_and_loading(networks: Networks, mnist: SimpleNamespace, tmp_path: Path) -> None:
    embedder = ParametricUMAP(encoder=networks.encoder, dims=networks.dims, n_epochs=2)
    embedding = embedder.fit_transform(mnist.train_images)
    embedder.save(str(tmp_path / "your" / "path"))
    loaded = load_ParametricUMAP(str(tmp_path / "your" / "path"))
    placed = loaded.transform(mnist.test_images)
    np.testing.assert_array_equal(placed, embedder.transform(mnist.test_images))
    np.testing.assert_array_equal(loaded.embedding_, embedding)
    assert loaded._history == embedder._history


# ---- plotting loss ------------------------------------------------------------------------------


def test_plotting_loss(mnist: SimpleNamespace) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    embedder = ParametricUMAP(preset="fast", random_state=0).fit(mnist.train_images)
    assert embedder._history is embedder.history_
    _fig, ax = plt.subplots()
    ax.plot(embedder._history["loss"])
    ax.set_ylabel("Cross Entropy")
    ax.set_xlabel("Epoch")
    ours = plots.loss(embedder)
    assert (ours.get_xlabel(), ours.get_ylabel()) == (ax.get_xlabel(), ax.get_ylabel())
    np.testing.assert_array_equal(ours.lines[0].get_ydata(), ax.lines[0].get_ydata())
    plt.close("all")
    curve = embedder._history["loss"]
    assert len(curve) == 10  # loss_report_frequency reports of one training epoch
    assert curve[-1] < 0.8 * curve[0]


# ---- parametric inverse_transform (reconstruction) ----------------------------------------------


def test_reconstruction(networks: Networks, mnist: SimpleNamespace) -> None:
    validation_images = mnist.test_images
    embedder = ParametricUMAP(
        encoder=networks.encoder,
        decoder=networks.decoder,
        dims=networks.dims,
        parametric_reconstruction=True,
        reconstruction_validation=validation_images,
        verbose=True,
        **SHORT,
    )
    embedder.fit(mnist.train_images)
    assert {"loss", "umap_loss", "reconstruction_loss", "val_loss"} <= embedder._history.keys()
    assert len(embedder._history["val_loss"]) == len(embedder._history["loss"])
    assert embedder._history["val_loss"][-1] < embedder._history["val_loss"][0]
    decoded = embedder.inverse_transform(embedder.transform(validation_images))
    assert decoded.shape == validation_images.shape
    assert decoded.min() >= 0.0  # grey values, not logits
    assert decoded.max() <= 1.0
    assert metrics.reconstruction_r2(validation_images, decoded) > 0.2


def test_default_decoder_returns_data(mnist: SimpleNamespace) -> None:
    embedder = ParametricUMAP(parametric_reconstruction=True, preset="fast", random_state=0)
    embedding = embedder.fit_transform(mnist.train_images)
    decoded = embedder.inverse_transform(embedding)
    assert 0.0 <= decoded.min() <= decoded.max() <= 1.0
    assert metrics.reconstruction_r2(mnist.train_images, decoded) > 0.3


@pytest.mark.parametrize("name", ["mean_squared_error", "cross_entropy_of_logits"])
def test_validation_loss_is_the_loss_of_the_decoded_rows(
    name: str, networks: Networks, mnist: SimpleNamespace
) -> None:
    """Against the formula, written out here on what `inverse_transform` returns."""
    embedder = ParametricUMAP(
        decoder=networks.decoder,
        dims=networks.dims,
        parametric_reconstruction=True,
        reconstruction_validation=mnist.test_images,
        parametric_reconstruction_loss_fcn=getattr(networks, name),
        n_epochs=1,
        random_state=0,
    ).fit(mnist.train_images)
    rows = mnist.test_images.astype(np.float64)
    decoded = embedder.inverse_transform(embedder.transform(rows)).astype(np.float64)
    if name == "mean_squared_error":
        expected = np.mean((rows - decoded) ** 2)
    else:
        expected = -np.mean(rows * np.log(decoded) + (1 - rows) * np.log1p(-decoded))
    assert embedder._history["val_loss"][-1] == pytest.approx(expected, rel=1e-4)


# ---- autoencoding UMAP --------------------------------------------------------------------------


def test_autoencoder_loss_decides_whether_the_encoder_feels_the_decoder(
    networks: Networks, mnist: SimpleNamespace
) -> None:
    def embed(**settings: Any) -> np.ndarray:
        embedder = ParametricUMAP(
            encoder=networks.encoder, dims=networks.dims, n_epochs=8, random_state=0, **settings
        )
        embedding: np.ndarray = embedder.fit_transform(mnist.train_images)
        return embedding

    alone = embed()
    decoding = {"decoder": networks.decoder, "parametric_reconstruction": True}
    np.testing.assert_allclose(embed(**decoding), alone, atol=1e-4)
    joint = embed(**decoding, autoencoder_loss=True, parametric_reconstruction_loss_weight=10.0)
    assert np.abs(joint - alone).max() > 0.1


# ---- early stopping and Keras callbacks ---------------------------------------------------------


def test_early_stopping(
    networks: Networks, mnist: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    keras = keras_on_torch()
    keras_fit_kwargs = {
        "callbacks": [
            keras.callbacks.EarlyStopping(
                monitor="loss",
                min_delta=10**-2,
                patience=10,
                verbose=1,
            )
        ]
    }
    embedder = ParametricUMAP(
        encoder=networks.encoder,
        dims=networks.dims,
        keras_fit_kwargs=keras_fit_kwargs,
        n_training_epochs=20,
        optimizer=networks.adam,
        n_epochs=2,
        random_state=0,
    )
    embedder.fit(mnist.train_images)
    curve = np.array(embedder._history["loss"])
    assert 10 < len(curve) < 20 * 10
    # The rule itself: no report of the last ten beats the best one before them by min_delta.
    assert curve[-10:].min() > curve[:-10].min() - 10**-2
    assert "early stopping" in capsys.readouterr().out


# ---- additional important parameters ------------------------------------------------------------


def test_batch_size_sets_the_edges_of_a_step(mnist: SimpleNamespace) -> None:
    steps = [
        ParametricUMAP(n_epochs=2, batch_size=size).fit(mnist.train_images).report_["n_steps"]
        for size in (50, 100)
    ]
    assert steps[0] == pytest.approx(2 * steps[1], abs=2)


def test_training_epochs_multiply_steps_and_reports_divide_them(mnist: SimpleNamespace) -> None:
    def fitted(**settings: Any) -> tuple[int, int]:
        embedder = ParametricUMAP(n_epochs=2, **settings).fit(mnist.train_images)
        return embedder.report_["n_steps"], len(embedder._history["loss"])

    steps, reports = fitted()
    assert reports == 10
    assert fitted(loss_report_frequency=1) == (steps, 1)
    assert fitted(n_training_epochs=3, loss_report_frequency=4) == (3 * steps, 12)


def test_optimizer(networks: Networks, mnist: SimpleNamespace) -> None:
    embedder = ParametricUMAP(optimizer=networks.adam, n_epochs=3, random_state=0)
    embedder.fit(mnist.train_images)
    assert embedder._history["loss"][-1] < embedder._history["loss"][0]


def test_optimizer_of_zero_step_size_trains_nothing(mnist: SimpleNamespace) -> None:
    keras = keras_on_torch()
    maps = [
        ParametricUMAP(optimizer=keras.optimizers.SGD(0.0), n_epochs=n, random_state=0)
        .fit(mnist.train_images)
        .embedding_
        for n in (1, 3)
    ]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-6)


def test_optimizer_class_of_torch(mnist: SimpleNamespace) -> None:
    embedder = ParametricUMAP(optimizer=torch.optim.AdamW, n_epochs=5, random_state=0)
    assert np.isfinite(embedder.fit_transform(mnist.train_images)).all()


def test_non_parametric_embedding(mnist: SimpleNamespace) -> None:
    embedder = ParametricUMAP(parametric_embedding=False, random_state=0)
    embedding = embedder.fit_transform(mnist.train_images)
    assert embedding.shape == (300, 2)
    assert not hasattr(embedder, "encoder_")
    assert metrics.trustworthiness(mnist.train_images, embedding) > 0.94
    assert held_out_accuracy(embedder, mnist) > 0.8


def test_global_correlation_loss(mnist: SimpleNamespace) -> None:
    reached = {}
    for weight in (0, 1):
        embedder = ParametricUMAP(
            global_correlation_loss_weight=weight, preset="fast", random_state=0
        ).fit(mnist.train_images)
        placed = embedder.transform(mnist.test_images)
        reached[weight] = metrics.distance_correlation(mnist.test_images, placed, method="pearson")
    assert reached[1] > reached[0] + 0.02
    curve = embedder._history["global_correlation_loss"]  # minus the correlation
    assert -1.0 < curve[-1] < curve[0]


@pytest.mark.parametrize("name", ["run_eagerly", "n_training_epoch"])
def test_what_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        ParametricUMAP(**{name: True})


# ---- transforming new data with parametric UMAP -------------------------------------------------

N = 2  # the digit that the first partition lacks


@pytest.fixture(scope="module")
def halves() -> SimpleNamespace:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(X))[:900]
    X, y = X[order].astype(np.float32), y[order]
    x1, x2, y1, y2 = X[:450], X[450:], y[:450], y[450:]
    return SimpleNamespace(x1=x1[y1 != N], y1=y1[y1 != N], x2=x2, y2=y2)


@pytest.fixture(scope="module")
def fitted_once(halves: SimpleNamespace) -> ParametricUMAP:
    return ParametricUMAP(preset="fast", random_state=0).fit(halves.x1)


@pytest.fixture
def p_embedder(fitted_once: ParametricUMAP) -> ParametricUMAP:
    return copy.deepcopy(fitted_once)  # the tests train it further


def share_of_own_kind(embedding: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows of digit N with a majority of N among their five neighbours on the map."""
    is_new = labels == N
    vote = KNeighborsClassifier(6).fit(embedding, is_new)  # the row itself is one of them
    neighbors = vote.kneighbors(embedding[is_new], return_distance=False)
    return float((is_new[neighbors].sum(axis=1) - 1 >= 3).mean())


def extent(embedding: np.ndarray) -> float:
    return float(np.sqrt(((embedding - embedding.mean(axis=0)) ** 2).sum(axis=1).mean()))


def moved(before: np.ndarray, after: np.ndarray) -> float:
    """Mean distance moved, as a share of the map's extent."""
    return float(np.linalg.norm(after - before, axis=1).mean()) / extent(before)


def test_new_class_is_mixed_without_training(
    halves: SimpleNamespace, p_embedder: ParametricUMAP
) -> None:
    assert share_of_own_kind(p_embedder.transform(halves.x2), halves.y2) < 0.7


def test_retraining_with_landmark_positions(
    halves: SimpleNamespace, p_embedder: ParametricUMAP
) -> None:
    x1, x2 = halves.x1, halves.x2
    before = p_embedder.embedding_
    n_before = len(p_embedder._history["loss"])
    rng = np.random.default_rng(0)
    landmark_idx = list(rng.choice(range(x1.shape[0]), int(x1.shape[0] / 10), replace=False))
    x2_lmk = np.concatenate((x2, x1[landmark_idx]))
    landmarks = np.stack(
        [np.array([np.nan, np.nan])] * x2.shape[0] + list(p_embedder.transform(x1[landmark_idx]))
    )
    p_embedder.landmark_loss_weight = 1.0
    p_embedder.fit(x2_lmk, landmark_positions=landmarks)

    p_emb2_x2, p_emb2_x1 = p_embedder.transform(x2), p_embedder.transform(x1)
    assert p_embedder.embedding_.shape == (len(x2_lmk), 2)
    assert share_of_own_kind(p_emb2_x2, halves.y2) > 0.75
    assert moved(before, p_emb2_x1) < 0.25
    drift = p_embedder.report_["landmark_drift"]
    away = np.linalg.norm(p_embedder.embedding_[len(x2) :] - landmarks[len(x2) :], axis=1)
    assert drift["n_landmarks"] == len(landmark_idx)
    assert drift["mean"] == pytest.approx(away.mean(), rel=1e-4)
    assert drift["mean_share_of_extent"] < 0.1
    # The history goes through both trainings, with a jump at the second.
    curve = p_embedder._history["loss"]
    assert len(curve) == 2 * n_before
    assert curve[n_before] > curve[n_before - 1]
    assert np.isnan(p_embedder._history["landmark_loss"][:n_before]).all()
    assert np.isfinite(p_embedder._history["landmark_loss"][n_before:]).all()


def test_add_landmarks(halves: SimpleNamespace, p_embedder: ParametricUMAP) -> None:
    before = p_embedder.embedding_
    p_embedder.add_landmarks(halves.x1, sample_pct=0.1, landmark_loss_weight=1.0)
    embedding = p_embedder.fit_transform(halves.x2)
    assert embedding.shape == (len(halves.x2), 2)  # only the rows passed
    assert p_embedder.graph_.shape == (len(halves.x2), len(halves.x2))
    np.testing.assert_allclose(p_embedder.transform(halves.x2), embedding, atol=1e-4)
    assert share_of_own_kind(embedding, halves.y2) > 0.75
    assert moved(before, p_embedder.transform(halves.x1)) < 0.25
    assert p_embedder.report_["landmark_drift"]["n_landmarks"] == round(0.1 * len(before))


def test_chosen_landmarks_stay_and_nothing_else_has_to(
    halves: SimpleNamespace, p_embedder: ParametricUMAP
) -> None:
    before = p_embedder.embedding_
    chosen = np.flatnonzero(halves.y1 == 0)
    p_embedder.add_landmarks(
        halves.x1, sample_mode="predetermined", idx=chosen, landmark_loss_weight=5.0
    )
    p_embedder.fit(halves.x2)
    after = p_embedder.transform(halves.x1)
    others = np.flatnonzero(halves.y1 != 0)
    assert moved(before[chosen], after[chosen]) * extent(before[chosen]) < 0.2 * extent(before)
    assert p_embedder.report_["landmark_drift"]["n_landmarks"] == len(chosen)
    assert (
        np.linalg.norm(after[others] - before[others], axis=1).mean()
        > np.linalg.norm(after[chosen] - before[chosen], axis=1).mean()
    )


def test_landmark_loss_weight_is_a_trade(
    halves: SimpleNamespace, p_embedder: ParametricUMAP
) -> None:
    positions = p_embedder.embedding_ + np.float32(3.0)  # ask for a shift, which costs UMAP nothing
    drifts = []
    for weight in (0.001, 10.0):
        embedder = ParametricUMAP(preset="fast", landmark_loss_weight=weight, random_state=0)
        embedder.fit(halves.x1, landmark_positions=positions)
        drifts.append(embedder.report_["landmark_drift"]["mean_share_of_extent"])
    assert drifts[1] < 0.5 * drifts[0]


def keras_style(y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
    """A rubber band that snaps: no more pull beyond a distance of 1."""
    return (y_true - y_pred).square().sum(-1).clamp_max(1.0)


def test_landmark_loss_fn(halves: SimpleNamespace, p_embedder: ParametricUMAP) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watching(y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
        seen.append((y_true.detach(), y_pred.detach()))
        return keras_style(y_true, y_pred)

    p_embedder.landmark_loss_fn = watching
    targets = np.full_like(p_embedder.embedding_, np.nan)
    targets[:40] = p_embedder.embedding_[:40]
    p_embedder.fit(halves.x1, landmark_positions=targets)
    assert seen
    allowed = {tuple(row) for row in targets[:40].tolist()}
    for y_true, y_pred in seen:  # only landmarks, never a NaN
        assert {tuple(row) for row in y_true.tolist()} <= allowed
        assert y_true.shape == y_pred.shape
    assert max(p_embedder._history["landmark_loss"][10:]) <= 1.0  # the band snapped


def test_landmarks_with_an_own_network(networks: Networks, mnist: SimpleNamespace) -> None:
    brief = {**SHORT, "n_epochs": 6}
    embedder = ParametricUMAP(encoder=networks.encoder, dims=networks.dims, **brief)
    old, new = mnist.train_images[:200], mnist.train_images[200:]
    before = embedder.fit_transform(old)
    embedder.add_landmarks(old, sample_pct=0.5, landmark_loss_weight=1.0)
    assert embedder.fit_transform(new).shape == (len(new), 2)
    assert embedder.report_["landmark_drift"]["mean_share_of_extent"] < 0.3
    assert moved(before, embedder.transform(old)) < 0.4


def test_remove_landmarks(halves: SimpleNamespace, p_embedder: ParametricUMAP) -> None:
    p_embedder.add_landmarks(halves.x1)
    p_embedder.remove_landmarks()
    embedding = p_embedder.fit_transform(halves.x2)
    fresh = ParametricUMAP(preset="fast", random_state=0).fit_transform(halves.x2)
    np.testing.assert_array_equal(embedding, fresh)
    assert "landmark_drift" not in p_embedder.report_
    assert len(p_embedder._history["loss"]) == 10  # a history of its own


UPDATES: dict[str, Callable[[ParametricUMAP, np.ndarray], Any]] = {
    "update": lambda embedder, rows: embedder.update(rows),
    "partial_fit": lambda embedder, rows: embedder.partial_fit(rows),
}


@pytest.mark.parametrize("method", UPDATES)
def test_history_goes_through_updates(
    method: str, halves: SimpleNamespace, p_embedder: ParametricUMAP
) -> None:
    UPDATES[method](p_embedder, halves.x2[:50])
    lengths = {len(curve) for curve in p_embedder._history.values()}
    assert lengths == {20}


def test_the_correlation_reached_is_reported() -> None:
    X = np.random.default_rng(0).normal(size=(150, 5)).astype(np.float32)
    plain = ParametricUMAP(n_epochs=10, preset="fast", random_state=0).fit(X)
    pulled = ParametricUMAP(
        n_epochs=10, preset="fast", random_state=0, global_correlation_loss_weight=2.0
    ).fit(X)
    assert "distance_correlation" not in plain.report_
    own = np.corrcoef(pdist(X), pdist(pulled.embedding_))[0, 1]
    assert pulled.report_["distance_correlation"] == pytest.approx(own, abs=0.03)
    assert own > np.corrcoef(pdist(X), pdist(plain.embedding_))[0, 1]
