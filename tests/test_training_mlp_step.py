"""The hand-written step against autograd, and the cases it must leave to autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn

from neumap.callbacks import Callback, TrainingRun
from neumap.data import DenseRows, RowStore, as_rows
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.losses import Kernel
from neumap.losses.terms import Softening, UmapTerm
from neumap.neighbors import find_neighbors
from neumap.networks import MLP
from neumap.sampling import EdgeSampler
from neumap.training import (
    AutogradStep,
    AuxiliaryDimensions,
    EncoderEmbedder,
    Plan,
    loop,
    precision,
    train,
)
from neumap.training.mlp_step import MLPStep, _relu_, _through_relu_
from neumap.training.noise import InputNoise

TERM = UmapTerm(Kernel(1.577, 0.895), Softening(), n_negatives=8)


@pytest.fixture(autouse=True)
def _autograd_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to compare with, wherever the tests run."""
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.float32)


def data(n_rows: int = 200, n_features: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, (n_rows, n_features)).astype(np.float32)


def mlp(hidden: tuple[int, ...] = (16,), n_outputs: int = 2, n_inputs: int = 9) -> MLP:
    """The same network at each call, its biases and statistics not those of a new one."""
    torch.manual_seed(5)
    made = MLP(n_inputs, n_outputs, hidden)
    for layer in made.layers:
        nn.init.normal_(layer.bias, std=0.1)
    made.standardize.set(torch.full((n_inputs,), 2.5), 2.0)
    return made


def indices(n_rows: int = 200, n_edges: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randint(n_rows, (2 * n_edges,), generator=generator)


def gradients(step: MLPStep | AutogradStep, batch: Tensor, progress: float) -> list[Tensor]:
    step(batch, progress)
    return [p.grad.clone() for p in step.parameters() if p.grad is not None]


def assert_same_gradients(embedder: EncoderEmbedder, other: EncoderEmbedder, batch: Tensor) -> None:
    """The float32 step on the first embedder, autograd on the second (they may be one)."""
    fast, plain = MLPStep(embedder, TERM, torch.float32), AutogradStep(other, [TERM])
    for progress in (0.0, 1.0):
        found, expected = (gradients(s, batch, progress) for s in (fast, plain))
        assert len(found) == len(expected) == len(list(embedder.encoder.parameters()))
        # The loss does not change with the last bias: its gradient is rounding of the others'.
        rounding = 1e-6 * max(e.abs().max() for e in expected)
        for f, e in zip(found, expected, strict=True):
            assert (f - e).abs().max() <= 1e-5 * e.abs().max() + rounding


@pytest.mark.parametrize("n_components", [1, 2, 3, 5])
@pytest.mark.parametrize("hidden", [(16,), (1,), (20, 7), (24, 24, 24), (8, 16, 8, 16, 8)])
def test_float32_gradients_equal_autograd(hidden: tuple[int, ...], n_components: int) -> None:
    embedder = EncoderEmbedder(mlp(hidden, n_components), DenseRows(data()))
    assert_same_gradients(embedder, embedder, indices())


@pytest.mark.parametrize(
    "make_rows",
    [
        lambda X: as_rows(sparse.csr_matrix(X)),
        lambda X: DenseRows((40 * X + 128).clip(0, 255).astype(np.uint8)),
        lambda X: DenseRows(X, dims=(3, 3, 1)),
    ],
    ids=["sparse", "bytes", "images"],
)
def test_gradients_from_other_rows(make_rows: Callable[[np.ndarray], RowStore]) -> None:
    embedder = EncoderEmbedder(mlp(), make_rows(data()))
    assert_same_gradients(embedder, embedder, indices())


def test_batch_longer_than_the_data() -> None:
    embedder = EncoderEmbedder(mlp(), DenseRows(data(20)))
    assert_same_gradients(embedder, embedder, indices(20))


def test_the_same_noise_in_other_units() -> None:
    """Autograd adds noise to rows, the fast step to standardised rows."""
    network, rows = mlp(), DenseRows(data())
    clean, fast, plain = (
        EncoderEmbedder(network, rows, noise)
        for noise in (None, InputNoise(0.5, seed=3), InputNoise(0.5, seed=3))
    )
    assert_same_gradients(fast, plain, indices())
    without = gradients(MLPStep(clean, TERM, torch.float32), indices(), 0.0)
    with_noise = gradients(MLPStep(fast, TERM, torch.float32), indices(), 0.0)
    assert (without[0] - with_noise[0]).abs().max() > 1e-3 * without[0].abs().max()


def test_rows_are_not_written_to() -> None:
    X = data()
    embedder = EncoderEmbedder(mlp(), DenseRows(X), InputNoise(0.5, seed=3))
    for dtype in (torch.float32, torch.bfloat16):
        MLPStep(embedder, TERM, dtype)(indices(), 0.0)
    assert np.array_equal(X, data())


@pytest.mark.parametrize("hidden", [(64,), (100, 100, 100)])
def test_bfloat16_gradients_point_the_same_way(hidden: tuple[int, ...]) -> None:
    embedder = EncoderEmbedder(mlp(hidden), DenseRows(data()))
    batch = indices(n_edges=256)
    half = gradients(MLPStep(embedder, TERM, torch.bfloat16), batch, 0.5)
    full = gradients(AutogradStep(embedder, [TERM]), batch, 0.5)
    *half, half_shift = half
    *full, full_shift = full  # the last bias moves the whole map: no gradient
    assert max(half_shift.abs().max(), full_shift.abs().max()) < 1e-5 * full[-1].abs().max()
    for h, f in zip(half, full, strict=True):
        assert h.dtype == torch.float32
        assert torch.cosine_similarity(h.flatten(), f.flatten(), dim=0) > 0.99
        assert h.norm().item() == pytest.approx(f.norm().item(), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_those_of_autograd(dtype: torch.dtype) -> None:
    embedder = EncoderEmbedder(mlp(), DenseRows(data()))
    found = MLPStep(embedder, TERM, dtype)(indices(), 0.25)
    expected = AutogradStep(embedder, [TERM])(indices(), 0.25)
    assert found.keys() == expected.keys() == {"loss", "umap_loss"}
    for name, value in found.items():
        assert not value.requires_grad
        precision = 1e-5 if dtype == torch.float32 else 2e-2
        assert value.item() == pytest.approx(expected[name].item(), rel=precision)


def test_second_call_replaces_the_gradients() -> None:
    embedder = EncoderEmbedder(mlp(), DenseRows(data()))
    step = MLPStep(embedder, TERM, torch.float32)
    first, second = gradients(step, indices(), 0.0), gradients(step, indices(), 0.0)
    assert all(torch.equal(f, s) for f, s in zip(first, second, strict=True))


# --- which encoders it serves ---


class Louder(MLP):
    def forward(self, rows: Tensor) -> Tensor:
        return 2 * super().forward(rows)


def serves(encoder: nn.Module) -> bool:
    return MLPStep.serves(EncoderEmbedder(encoder, DenseRows(data())))


def nothing(*arguments: object) -> None:
    """Watch, change nothing."""


@pytest.mark.parametrize("hidden", [(16,), (4, 5, 6)])
def test_serves_plain_networks(hidden: tuple[int, ...]) -> None:
    assert serves(mlp(hidden))


def test_leaves_other_architectures_to_autograd() -> None:
    assert not serves(MLP(9, 2, (8, 8), residual=True))
    assert not serves(MLP(9, 2, ()))
    assert not serves(MLP(9, 2, (8,), output_shape=(2, 1)))
    assert not serves(Louder(9, 2, (8,)))
    assert not serves(nn.Sequential(nn.Linear(9, 2)))


def test_leaves_frozen_parts_to_autograd() -> None:
    encoder = mlp()
    encoder.layers[0].bias.requires_grad_(False)
    assert not serves(encoder)


@pytest.mark.parametrize("where", ["", "layers.0", "standardize"])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_full_backward_hook"])
def test_leaves_networks_with_hooks_to_autograd(kind: str, where: str) -> None:
    encoder = mlp()
    handle = getattr(encoder.get_submodule(where), kind)(nothing)
    assert not serves(encoder)
    handle.remove()
    assert serves(encoder)


def without_bias(encoder: MLP) -> None:
    encoder.layers[0] = nn.Linear(9, 16, bias=False)


def with_dropout(encoder: MLP) -> None:
    encoder.layers[0] = nn.Sequential(encoder.layers[0], nn.Dropout())


def own_front(encoder: MLP) -> None:
    encoder.standardize = nn.Identity()  # type: ignore[assignment]


ALTERATIONS: dict[str, Callable[[MLP], object]] = {
    "hook before forward": lambda e: e.layers[0].register_forward_pre_hook(nothing),
    "hook before backward": lambda e: e.layers[0].register_full_backward_pre_hook(nothing),
    "hook on a gradient": lambda e: e.layers[0].weight.register_hook(nothing),
    "normed weights": lambda e: nn.utils.parametrizations.weight_norm(e.layers[0]),
    "no bias": without_bias,
    "layer with dropout": with_dropout,
    "front of its own": own_front,
    "float64": lambda e: e.double(),
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS.keys())
def test_leaves_altered_networks_to_autograd(alter: Callable[[MLP], object]) -> None:
    encoder = mlp()
    alter(encoder)
    assert not serves(encoder)


# --- ReLU on bits ---


def awkward_numbers(dtype: torch.dtype) -> Tensor:
    info = torch.finfo(dtype)
    special = [0.0, -0.0, info.tiny, -info.tiny, info.tiny / 4, -info.tiny / 4]
    special += [info.max, info.min, float("inf"), float("-inf"), 1.0, -1.0]
    ordinary = torch.randn(500, generator=torch.Generator().manual_seed(0))
    return torch.cat([torch.tensor(special, dtype=torch.float64).to(dtype), ordinary.to(dtype)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_relu_on_bits_equals_relu(dtype: torch.dtype) -> None:
    x = awkward_numbers(dtype)
    found = _relu_(x.clone())
    assert torch.equal(found, torch.relu(x))
    assert not torch.signbit(found).any()  # -0 would count as a positive number below
    assert torch.isnan(_relu_(torch.tensor([float("nan")], dtype=dtype))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradient_through_relu_equals_autograd(dtype: torch.dtype) -> None:
    x = awkward_numbers(dtype)
    gradient = awkward_numbers(dtype).flip(0)
    output = _relu_(x.clone())
    expected = torch.ops.aten.threshold_backward(gradient, torch.relu(x), 0)
    found = _through_relu_(gradient.clone(), output)
    assert torch.equal(found, expected)
    assert not torch.isnan(found).any()  # as multiplying inf by 0 would give


# --- a whole training ---


def blobs_graph(X: np.ndarray) -> FuzzyGraph:
    return fuzzy_simplicial_set(find_neighbors(X, 10))


@pytest.mark.parametrize("scale", [None, 0.3], ids=["clean", "noise"])
def test_training_with_either_step_ends_at_the_same_loss(
    scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(c, 1.0, (60, 9)) for c in (0.0, 4.0)]).astype(np.float32)
    graph = blobs_graph(X)
    losses, maps = [], []
    for choose in (
        lambda embedder, terms: MLPStep(embedder, terms[0], torch.float32),
        AutogradStep,
    ):
        monkeypatch.setattr(loop, "choose_step", choose)
        noise = None if scale is None else InputNoise(scale, seed=1)
        embedder = EncoderEmbedder(mlp((32, 32)), DenseRows(X), noise)
        plan = Plan(200, 4, batch_edges=40, peak_learning_rate=3e-3)
        history = train(embedder, [TERM], EdgeSampler(graph, seed=0), plan, seed=0)
        losses.append(history["loss"])
        maps.append(embedder.embed_all())
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    centred = [Z - Z.mean(0) for Z in maps]
    assert np.abs(centred[0] - centred[1]).max() < 0.05 * centred[1].std()


class Spoil(Callback):
    """Plant a NaN whose sign bit is set: to ReLU on bits it is a negative number."""

    def on_step_end(self, run: TrainingRun) -> None:
        assert run.encoder is not None
        with torch.no_grad():
            next(iter(run.encoder.parameters())).view(torch.int32)[0, 0] = -0x00400000


def test_training_sees_weights_that_relu_hides() -> None:
    rows = data()
    with pytest.raises(loop.TrainingDivergedError, match="Weights became infinite or NaN"):
        train(
            EncoderEmbedder(mlp(), DenseRows(rows)),
            [TERM],
            EdgeSampler(fuzzy_simplicial_set(find_neighbors(rows, 5)), seed=0),
            Plan(n_steps=4, n_reports=1, batch_edges=8),
            seed=0,
            callbacks=[Spoil()],
        )


# --- auxiliary dimensions ---


def with_auxiliary(network: MLP, rows: RowStore) -> EncoderEmbedder:
    torch.manual_seed(7)
    auxiliary = AuxiliaryDimensions(network.hidden[-1], n_auxiliary=2, until=0.5)
    nn.init.normal_(auxiliary.layer.bias, std=0.1)
    return EncoderEmbedder(network, rows, auxiliary=auxiliary)


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.5, 0.9])
def test_gradients_with_auxiliary_dimensions(progress: float) -> None:
    embedder = with_auxiliary(mlp((16, 8)), DenseRows(data()))
    fast, plain = MLPStep(embedder, TERM, torch.float32), AutogradStep(embedder, [TERM])
    found, expected = (gradients(step, indices(), progress) for step in (fast, plain))
    assert len(found) == len(expected) == (8 if progress < 0.5 else 6)
    rounding = 1e-6 * max(e.abs().max() for e in expected)
    for f, e in zip(found, expected, strict=True):
        assert (f - e).abs().max() <= 1e-5 * e.abs().max() + rounding


def test_auxiliary_dimensions_count_first_and_not_in_the_end() -> None:
    network, rows = mlp((16, 8)), DenseRows(data())
    with_them, without = with_auxiliary(network, rows), EncoderEmbedder(network, rows)
    for progress, same in ((0.0, False), (0.49, False), (0.5, True), (1.0, True)):
        losses = [
            MLPStep(embedder, TERM, torch.float32)(indices(), progress)["loss"]
            for embedder in (with_them, without)
        ]
        assert torch.equal(*losses) == same, progress
