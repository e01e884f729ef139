"""bfloat16 for networks that autograd trains: which train in it, and that it is safe.

The right values are those of float32, and of the operations written out by hand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import ParametricUMAP
from neumap.callbacks import LambdaCallback
from neumap.data import DenseRows
from neumap.losses import Kernel
from neumap.losses.terms import UmapTerm
from neumap.networks import MLP, ConvDecoder, ConvEncoder
from neumap.training import EncoderEmbedder, InputNoise, TrainingDivergedError, precision
from neumap.training.flops import forward_flops
from neumap.training.precision import (
    LARGEST_DIFFERENCE,
    VerifiedStep,
    choose_precision,
)
from neumap.training.steps import AutogradStep, choose_step

TERM = UmapTerm(Kernel(1.577, 0.895), n_negatives=8)


@pytest.fixture(autouse=True)
def _bfloat16_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every processor computes bfloat16, if not as fast."""
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)


def images(n_rows: int = 96) -> np.ndarray:
    """Images with a bright spot, (n, 1, 12, 12)."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(2, 10, (2, n_rows, 1, 1))
    grid = np.arange(12)
    spots = np.exp(-((grid[:, None] - x) ** 2 + (grid[None] - y) ** 2) / 4)
    return (spots + 0.1 * rng.random((n_rows, 12, 12)))[:, None].astype(np.float32)


def conv_net(*middle: nn.Module, tail: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), *middle, nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 2)),
        *tail,
    )


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cells, self.head = kind(12, 64, batch_first=True), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        placed: Tensor = self.head(self.cells(x[:, 0])[0][:, -1])
        return placed


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front, self.head = nn.Linear(12, 96), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.front(x).chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        placed: Tensor = self.head(mixed.mean((1, 2)))
        return placed


class TwoHeads(nn.Module):
    """The first head runs in bfloat16 and only the second one is the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(144, 512), nn.ReLU())
        self.first, self.second = nn.Linear(512, 1), nn.Linear(512, 1)

    def forward(self, x: Tensor) -> Tensor:
        body = self.body(x)
        return torch.cat([self.first(body), self.second(body)], dim=1)


class Refuses(nn.Module):
    """Its forward has an operation that another dtype than float32 breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(144, 512), nn.Linear(512, 64))
        self.weight, self.head = nn.Parameter(torch.ones(64, 64)), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        body = self.net(x)
        assert body.dtype == torch.float32
        placed: Tensor = self.head(body)
        return placed


SERVED = {
    "convolutions": conv_net(),
    "batch normalisation": conv_net(nn.BatchNorm2d(16)),
    "activation behind the last layer": conv_net(tail=(nn.Tanh(),)),
    "built in": ConvEncoder((12, 12, 1)),
}
NOT_SERVED = {
    "few operations": nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2)),
    "LSTM": Recurrent(nn.LSTM),
    "GRU": Recurrent(nn.GRU),
    "attention": Attention(),
    "two heads": TwoHeads(),
    "refuses": Refuses(),
    "one layer": nn.Linear(12, 50_000),
    "float64": conv_net().double(),
    "DataParallel": nn.DataParallel(conv_net()),
}


@pytest.mark.parametrize("name", SERVED)
def test_networks_that_train_in_bfloat16(name: str) -> None:
    """Hidden layers compute in it, the last layer gets and gives float32."""
    network, rows = SERVED[name], torch.from_numpy(images())
    found = choose_precision(network, rows)
    assert found is not None
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    parts = [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear)]

    def note(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[part] = inputs[0], output

    hooks = [part.register_forward_hook(note) for part in parts]
    with found():
        network(rows)
    for hook in hooks:
        hook.remove()
    *hidden, last = [seen[part] for part in parts]
    assert {output.dtype for _, output in hidden} == {torch.bfloat16}
    assert {tensor.dtype for tensor in last} == {torch.float32}
    assert hidden[1][0].is_contiguous(memory_format=torch.channels_last)  # of the second layer


@pytest.mark.parametrize("name", NOT_SERVED)
def test_networks_that_train_in_float32(name: str) -> None:
    network = NOT_SERVED[name]
    dtype = next(network.parameters()).dtype
    assert choose_precision(network, torch.from_numpy(images()).to(dtype)) is None


def test_without_fast_bfloat16_everything_trains_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.float32)
    assert choose_precision(conv_net(), torch.from_numpy(images())) is None
    assert choose_precision(MLP(144, 2), torch.from_numpy(images())) is None


def test_a_network_is_as_before_outside_the_block() -> None:
    network, rows = conv_net(), torch.from_numpy(images())
    expected = network(rows)
    found = choose_precision(network, rows)
    assert found is not None
    with found():
        assert not torch.equal(network(rows), expected)
    assert torch.equal(network(rows), expected)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
    assert not torch.is_autocast_enabled("cpu")


def test_an_error_in_the_block_leaves_no_autocast() -> None:
    network, rows = conv_net(), torch.from_numpy(images())
    found = choose_precision(network, rows)
    assert found is not None
    with pytest.raises(RuntimeError, match="channels"), found():
        network(rows.expand(-1, 3, -1, -1))
    assert not torch.is_autocast_enabled("cpu")
    assert not any(part._forward_pre_hooks for part in network.modules())


# ---- the first step ----


def step_of(
    network: nn.Module, noise: InputNoise | None = None, rows: np.ndarray | None = None
) -> tuple[VerifiedStep, Any]:
    store = DenseRows(images() if rows is None else rows)
    embedder = EncoderEmbedder(network.train(), store, noise)
    step = choose_step(embedder, [TERM])
    assert isinstance(step, VerifiedStep)
    return step, embedder


def gradients_in_float32(network: nn.Module, indices: Tensor) -> list[Tensor]:
    embedder = EncoderEmbedder(network.train(), DenseRows(images()))
    embedder.mixed = None
    AutogradStep(embedder, [TERM])(indices, 0.0)
    return [p.grad for p in network.parameters() if p.grad is not None]


BATCH = torch.arange(90) * 7 % 96


def test_the_first_step_leaves_the_gradients_of_bfloat16() -> None:
    expected = gradients_in_float32(conv_net(), BATCH)
    network = conv_net()
    step, _ = step_of(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(BATCH, 0.0)
    assert step.is_mixed
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert not torch.equal(parameter.grad, gradient)
        if parameter.ndim > 1:  # those of a shift of the whole map are rounding errors of zero
            missed = (parameter.grad - gradient).norm() / gradient.norm()
            assert missed < LARGEST_DIFFERENCE


class BrokenBackward(torch.autograd.Function):
    """As torch 2.13's kernel for some bfloat16 convolutions: a gradient that is not one."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.is_short = x.dtype == torch.bfloat16
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (BrokenBackward.factor if ctx.is_short else 1.0)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        passed: Tensor = BrokenBackward.apply(x)
        return passed


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e36, -1.0, 0.0])
def test_wrong_gradients_of_bfloat16_are_never_used(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BrokenBackward, "factor", factor)
    expected = gradients_in_float32(conv_net(Broken()), BATCH)
    network = conv_net(Broken())
    step, embedder = step_of(network)
    with pytest.warns(RuntimeWarning, match="trains in float32, which takes longer"):
        step(BATCH, 0.0)
    found = [parameter.grad for parameter in network.parameters()]
    assert all(map(torch.equal, found, expected))
    assert not step.is_mixed
    assert torch.equal(embedder.embed(BATCH)[1], network(torch.from_numpy(images()[BATCH])))


def test_the_comparison_changes_no_statistics_and_draws_nothing() -> None:
    """A batch normalisation, dropout and noise are as after one step, not after two."""
    states = []
    for compares in (True, False):
        network = conv_net(nn.BatchNorm2d(16), nn.Dropout(0.1))
        noise = InputNoise(0.1, seed=0)
        step, _ = step_of(network, noise)
        step._is_checked = not compares
        torch.manual_seed(3)
        losses = step(BATCH, 0.0)
        buffers = [buffer.clone() for buffer in network.buffers()]
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        states.append([losses["loss"], torch.rand(1), *buffers, *gradients])
        states[-1].append(torch.tensor(noise.draw_starts()))
    assert all(map(torch.equal, *states))


def test_images_of_several_channels_lose_the_same_numbers_to_dropout() -> None:
    """Dropout draws in the order of memory, which in bfloat16 is channels-last."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(16, 16, 3), nn.ReLU())
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 2))
    step, _ = step_of(network, rows=np.concatenate([images()] * 3, axis=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(BATCH, 0.0)
    assert step.is_mixed


def test_activations_and_their_gradients_are_in_the_order_of_the_convolutions() -> None:
    """Images of one channel are in both orders at once, and gradients of flat rows in another."""
    network, orders = conv_net(), []

    def note(values: Tensor) -> None:
        orders.append(values.is_contiguous(memory_format=torch.channels_last))

    class Watch(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            if values.requires_grad:
                note(values)
                values.register_hook(note)  # after the one of the layer before
            return values

    network.insert(2, Watch())
    network.insert(5, Watch())
    step, _ = step_of(network)
    orders.clear()  # of its trials
    step(BATCH, 0.0)
    assert step.is_mixed
    assert len(orders) >= 8  # two layers, in float32 and in bfloat16, both ways
    assert all(orders)


class Functional(nn.Module):
    """The network of :func:`conv_net` with functions for its activations."""

    def __init__(self, act: Callable[[Tensor], Tensor], note: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.parts, self.act, self.note = conv_net(), act, note

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts[:-3]:
            if isinstance(part, nn.Conv2d):
                x = self.act(part(x))
                if x.requires_grad:
                    self.note(x)
                    x.register_hook(self.note)
        placed: Tensor = self.parts[-3:](x.flatten(1))
        return placed


@pytest.mark.parametrize(
    "act", [nn.functional.relu, torch.tanh, Tensor.relu], ids=["function", "of torch", "method"]
)
def test_gradients_of_functions_are_in_the_order_of_the_convolutions(act: Any) -> None:
    orders: list[bool] = []
    network = Functional(
        act, lambda x: orders.append(x.is_contiguous(memory_format=torch.channels_last))
    )
    step, _ = step_of(network)
    orders.clear()  # of its trials
    step(BATCH, 0.0)
    assert step.is_mixed
    assert len(orders) == 8  # two layers, in float32 and in bfloat16, both ways
    assert all(orders)


def test_the_order_of_gradients_changes_no_number() -> None:
    found = []
    for keeps_order in (True, False):
        network = Functional(nn.functional.relu, lambda x: None)
        step, embedder = step_of(network)
        assert embedder.mixed._keeps_order
        embedder.mixed._keeps_order = keeps_order
        step(BATCH, 0.0)
        found.append([p.grad for p in network.parameters() if p.grad is not None])
    assert len(found[0]) == 8
    assert all(map(torch.equal, *found))


def test_inexact_gradients_are_not_used_either(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(BrokenBackward, "factor", 1.5)
    step, _ = step_of(conv_net(Broken()))
    with caplog.at_level("INFO", logger="neumap"):
        step(BATCH, 0.0)
    assert not step.is_mixed
    assert "training in float32: gradients in bfloat16 differ by 0.5" in caplog.text


class Counting(nn.Module):
    """Gives other numbers at each call, so no precision can be compared with another."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += self.training
        return x * (1.0 + self.n_calls)


def test_a_network_that_does_not_repeat_stays_in_float32_without_a_warning() -> None:
    step, _ = step_of(conv_net(Counting()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(BATCH, 0.0)
    assert not step.is_mixed


# ---- whole fits ----

FEW_STEPS: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 6, "random_state": 0, "device": "cpu"}


def test_a_fit_says_its_precision_and_places_rows_in_float32() -> None:
    X = images()
    model = ParametricUMAP(encoder=conv_net(), **FEW_STEPS).fit(X)
    assert model.report_["precision"] == "bfloat16"
    with torch.no_grad():
        expected = model.encoder_(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(model.embedding_, expected, atol=1e-4)
    one_by_one = [model.transform(X[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(np.concatenate(one_by_one), model.transform(X)[:5], atol=1e-4)
    again = ParametricUMAP(encoder=conv_net(), **FEW_STEPS).fit(X)
    np.testing.assert_array_equal(again.embedding_, model.embedding_)


def test_a_fit_that_fails_in_bfloat16_begins_again_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights are those of a training that never left float32."""
    X, steps = images(), []

    def poison(run: Any) -> None:
        if run.step == 5 and not steps:
            steps.append(run.step)
            next(run.encoder.parameters()).data.fill_(torch.nan)

    with pytest.warns(RuntimeWarning, match="begins again in float32.* at step"):
        model = ParametricUMAP(
            encoder=conv_net(), callbacks=[LambdaCallback(on_step_end=poison)], **FEW_STEPS
        ).fit(X)
    assert steps == [5]
    assert model.report_["precision"] == "float32"
    assert np.isfinite(model.embedding_).all()


def test_a_fit_that_diverges_in_float32_as_well_raises() -> None:
    def poison(run: Any) -> None:
        next(run.encoder.parameters()).data.fill_(torch.nan)

    with (
        pytest.warns(RuntimeWarning, match="begins again in float32"),
        pytest.raises(TrainingDivergedError),
    ):
        ParametricUMAP(
            encoder=conv_net(), callbacks=[LambdaCallback(on_step_end=poison)], **FEW_STEPS
        ).fit(images())


def test_decoders_train_in_bfloat16() -> None:
    X = images().reshape(96, 144)
    model = ParametricUMAP(
        preset="fast",
        dims=(12, 12, 1),
        decoder=ConvDecoder((12, 12, 1)),
        parametric_reconstruction=True,
        autoencoder_loss=True,
        **FEW_STEPS,
    ).fit(X)
    assert model.report_["precision"] == "bfloat16"
    assert np.square(model.inverse_transform(model.embedding_) - X).mean() < 2 * X.var()


# ---- counted operations ----


def test_operations_are_those_of_the_formula() -> None:
    rows = torch.from_numpy(images())
    by_hand = 2 * (6 * 6 * 16 * 9 + 3 * 3 * 32 * 16 * 9 + 288 * 64 + 64 * 2)
    assert forward_flops(conv_net(), rows) == by_hand
