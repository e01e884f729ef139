"""Recorded steps against the same steps taken one operation at a time.

A recording on a graphics card repeats operations with the Python numbers they had then, on the
memory they used then. ``make_fx`` records the same way on any machine: a number that a card would
keep from the recorded step, because it was left to Python, is kept here as well.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from neumap import ParametricUMAP
from neumap.callbacks import Callback
from neumap.data import DenseRows, as_rows
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.losses import Kernel
from neumap.losses.correlation import CorrelationTerm
from neumap.losses.reconstruction import ReconstructionTerm, reconstruction_loss
from neumap.losses.terms import Softening, UmapTerm
from neumap.neighbors import find_neighbors
from neumap.networks import MLP
from neumap.sampling import EdgeSampler
from neumap.training import (
    AutogradStep,
    AuxiliaryDimensions,
    EncoderEmbedder,
    InputNoise,
    Muon,
    Plan,
    loop,
    muon,
    precision,
    replay,
    train,
)
from neumap.training.adam import FusedAdam
from neumap.training.guide import GuidedEmbedder, RowsBetween, guided_terms
from neumap.training.mlp_step import MLPStep
from neumap.training.optimizers import Optimizer
from neumap.training.replay import Recorder, Replay, choose_replay
from neumap.training.steps import Step, record_step

Work = Callable[[], dict[str, Tensor]]
Pair = tuple[Step, Optimizer]

N_STEPS = 40
N_BRANCHES = 4  # auxiliary dimensions or not, Muon's directions renewed or not
TERM = UmapTerm(Kernel(1.577, 0.895), Softening(start=1.0, end=0.01, hold=0.2), n_negatives=8)


class StandIn:
    """Records operations with Python numbers as they are and tensors by reference."""

    def __init__(self) -> None:
        self.n_runs = self.n_recordings = self.n_replays = 0

    def run(self, work: Work) -> dict[str, Tensor]:
        self.n_runs += 1
        return work()

    def record(self, work: Work) -> Work:
        self.n_recordings += 1
        owner = work.func.__self__  # type: ignore[attr-defined]
        before = owner._state()
        recorded = make_fx(work)()
        owner._restore(before)  # a card does nothing while it records, make_fx does everything
        memory: dict[str, Tensor] = {}  # as on a card, the next losses come into the same memory

        def repeat() -> dict[str, Tensor]:
            self.n_replays += 1
            with torch.no_grad():
                for name, value in recorded().items():
                    memory.setdefault(name, torch.empty_like(value)).copy_(value)
            return memory

        return repeat


def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(c, 1.0, (60, 9)) for c in (0.0, 4.0)]).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> FuzzyGraph:
    return fuzzy_simplicial_set(find_neighbors(blobs(), 10))


def embedder_of(rows: Any, device: str = "cpu") -> EncoderEmbedder:
    """Return the same network at each call, with noise and auxiliary dimensions."""
    torch.manual_seed(5)
    network, auxiliary = MLP(9, 2, (24, 24, 24)), AuxiliaryDimensions(24, n_auxiliary=2, until=0.5)
    network.standardize.set(torch.full((9,), 2.0), 2.0)
    return EncoderEmbedder(network, rows, InputNoise(0.3, seed=3), auxiliary).to(device)


Course = tuple[list[Tensor], dict[str, list[float]]]


def course(
    monkeypatch: pytest.MonkeyPatch,
    graph: FuzzyGraph,
    pair: Callable[[Any, Any], Pair],
    *,
    optimizer: Any = Muon,
    dtype: torch.dtype = torch.float32,
    callbacks: list[Callback] | None = None,
    device: str = "cpu",
) -> Course:
    """Train with these steps; return weights and history."""
    monkeypatch.setattr(loop, "choose_step", lambda e, terms: MLPStep(e, terms[0], dtype))
    monkeypatch.setattr(loop, "record_step", lambda step, o, **_: pair(step, o))
    embedder = embedder_of(DenseRows(blobs(), device=device), device)
    sampler = EdgeSampler(graph, seed=0, device=device)
    plan = Plan(N_STEPS, 3, batch_edges=32, peak_learning_rate=1e-2)
    history = train(
        embedder, [TERM], sampler, plan, seed=0, optimizer=optimizer, callbacks=callbacks or ()
    )
    return [p.detach().cpu() for p in embedder.parameters()], history


def replayed_pair(step: Any, optimizer: Any, recorder: Recorder | None) -> Pair:
    replay = Replay(step, optimizer, recorder)
    return replay, replay.optimizer


def by(recorder: Recorder | None) -> Callable[[Any, Any], Pair]:
    return lambda step, optimizer: replayed_pair(step, optimizer, recorder)


def assert_same(found: Course, expected: Course) -> None:
    assert all(map(torch.equal, found[0], expected[0]))
    assert found[1] == expected[1]


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@DTYPES
@pytest.mark.parametrize(("optimizer", "n_branches"), [(Muon, N_BRANCHES), (FusedAdam, 2)])
def test_replayed_steps_equal_direct_ones(
    monkeypatch: pytest.MonkeyPatch,
    graph: FuzzyGraph,
    optimizer: Any,
    n_branches: int,
    dtype: torch.dtype,
) -> None:
    """Noise, softening, learning rate, auxiliary scale, Muon's branch and the batch vary."""
    recorder, how = StandIn(), {"optimizer": optimizer, "dtype": dtype}
    replayed = course(monkeypatch, graph, by(recorder), **how)
    assert_same(replayed, course(monkeypatch, graph, by(None), **how))
    assert recorder.n_recordings == n_branches
    assert recorder.n_runs == 2 * n_branches  # one to begin with, one to compare
    assert recorder.n_replays == N_STEPS - n_branches


class Rounded(FusedAdam):
    """Adam with its learning rate in float32, as a GPU holds it."""

    def step(self) -> None:
        self.param_groups[0]["lr"] = float(np.float32(self.param_groups[0]["lr"]))
        super().step()


def test_numbers_on_the_device_are_those_of_the_plain_loop(
    monkeypatch: pytest.MonkeyPatch, graph: FuzzyGraph
) -> None:
    replayed = course(monkeypatch, graph, by(StandIn()), optimizer=FusedAdam)
    plain = course(monkeypatch, graph, lambda step, o: (step, o), optimizer=Rounded)
    assert_same(replayed, plain)


@pytest.mark.parametrize("optimizer", [Muon, FusedAdam])
def test_a_learning_rate_on_the_device_moves_as_far(
    optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "LATE_ON_PROCESSORS", False)  # a card uses directions at once
    moved = []
    for learning_rate in (0.01, torch.tensor(0.01)):
        weights = [nn.Parameter(torch.ones(20, 20)), nn.Parameter(torch.ones(3, 20))]
        made = optimizer(weights)
        for seed in range(3):
            torch.manual_seed(seed)
            for weight in weights:
                weight.grad = torch.randn(weight.shape)
            made.param_groups[0]["lr"] = learning_rate
            made.step()
        moved.append([weight.detach() - 1.0 for weight in weights])
    for number, tensor in zip(*moved, strict=True):
        torch.testing.assert_close(number, tensor, rtol=1e-4, atol=1e-6)
        assert number.abs().max() > 1e-3


def test_seeds_repeat(monkeypatch: pytest.MonkeyPatch, graph: FuzzyGraph) -> None:
    assert_same(*(course(monkeypatch, graph, by(StandIn())) for _ in range(2)))


def test_no_gradients_of_a_recording_are_left(
    monkeypatch: pytest.MonkeyPatch, graph: FuzzyGraph
) -> None:
    steps: list[MLPStep] = []

    def keep(step: Any, optimizer: Any) -> Pair:
        steps.append(step)
        return replayed_pair(step, optimizer, StandIn())

    course(monkeypatch, graph, keep)
    assert all(p.grad is None for p in steps[0].parameters())


# --- what callbacks may change between epochs ---


class Turn(Callback):
    """Change the run in some way after the first epoch."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        self.change = change

    def on_epoch_end(self, run: Any) -> None:
        if run.epoch == 0:
            self.change(run)


def slower_momentum(run: Any) -> None:
    run.optimizer.param_groups[0].update(momentum=0.5, betas=(0.5, 0.9))


def halved_weights(run: Any) -> None:
    with torch.no_grad():
        for p in run.encoder.parameters():
            p.mul_(0.5)


def weights_elsewhere(run: Any) -> None:
    run.encoder.layers[0].weight.data = 0.5 * run.encoder.layers[0].weight.data


@pytest.mark.parametrize(
    ("change", "n_recordings"),
    [(slower_momentum, 6), (halved_weights, 4), (weights_elsewhere, 6)],
)
def test_changes_between_epochs_are_seen(
    monkeypatch: pytest.MonkeyPatch,
    graph: FuzzyGraph,
    change: Callable[[Any], None],
    n_recordings: int,
) -> None:
    recorder = StandIn()
    replayed, direct = (
        course(monkeypatch, graph, by(r), callbacks=[Turn(change)]) for r in (recorder, None)
    )
    assert_same(replayed, direct)
    assert recorder.n_recordings == n_recordings
    assert not torch.equal(replayed[0][0], course(monkeypatch, graph, by(None))[0][0])


# --- recordings that fail ---


class Broken(StandIn):
    """Cannot record, or records something else."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def record(self, work: Work) -> Work:
        if self.how == "recording":
            raise RuntimeError("operation not permitted when stream is capturing")
        repeat = super().record(work)
        owner = work.func.__self__  # type: ignore[attr-defined]

        def wrong() -> dict[str, Tensor]:
            losses = repeat()
            if self.how == "replay":
                raise RuntimeError("an illegal memory access")
            with torch.no_grad():
                if self.how == "weights":
                    owner._parameters[0].add_(0.01)
            return {"loss": 1.1 * losses["loss"]} if self.how == "loss" else losses

        return wrong


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("recording", "RuntimeError: operation not permitted"),
        ("replay", "RuntimeError: an illegal memory access"),
        ("weights", r"by [\d.e+]+ in the weights"),
        ("loss", r"0\.1 in the loss"),
    ],
)
def test_failed_recordings_lose_nothing(
    monkeypatch: pytest.MonkeyPatch, graph: FuzzyGraph, how: str, reason: str
) -> None:
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        found = course(monkeypatch, graph, by(Broken(how)))
    assert len(caught) == 1
    assert_same(found, course(monkeypatch, graph, by(None)))


# --- networks of the user ---


class Own(nn.Module):
    """A convolution with a batch normalisation, which keeps running means."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Unflatten(1, (1, 3, 3)), nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(216, 24), nn.ReLU()),
            *(() if middle is None else (middle,)),
            nn.Linear(24, 2),
        )

    def forward(self, rows: Tensor) -> Tensor:
        placed: Tensor = self.net(rows)
        return placed


RECONSTRUCTION = reconstruction_loss("mse", (-10.0, 10.0))


def own_course(
    monkeypatch: pytest.MonkeyPatch,
    graph: FuzzyGraph,
    recorder: Recorder | None,
    *,
    middle: Callable[[], nn.Module] | None = None,
    is_guided: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Course:
    """Train a network of the user and a decoder; return weights, buffers and history."""
    monkeypatch.setattr(precision, "fast_dtype", lambda device: dtype)
    monkeypatch.setattr(precision, "FEWEST_FLOPS", 0)
    monkeypatch.setattr(loop, "record_step", lambda step, o, **_: replayed_pair(step, o, recorder))
    torch.manual_seed(5)
    network, decoder, guide = Own(middle and middle()), nn.Linear(2, 9), nn.Linear(9, 2)
    for module in (network, decoder, guide):
        module.to(device)
    rows = DenseRows(blobs(), device=device)
    embedder: Any = EncoderEmbedder(network, rows, InputNoise(0.3, seed=3))
    terms: list[Any] = [TERM, ReconstructionTerm(decoder, RECONSTRUCTION, joint=True)]
    if is_guided:
        between = RowsBetween(InputNoise(0.2, seed=1), seed=2)
        embedder = GuidedEmbedder(embedder, guide, between, until=0.6)
        terms = guided_terms(embedder, terms, ("reconstruction_loss",))
    sampler = EdgeSampler(graph, seed=0, device=device)
    plan = Plan(N_STEPS, 3, batch_edges=32, peak_learning_rate=1e-2)
    history = train(embedder, terms, sampler, plan, seed=0, optimizer=FusedAdam)
    state = [*network.state_dict().values(), *decoder.state_dict().values()]
    named = {name: [repr(v) for v in curve] for name, curve in history.items()}  # NaN equals NaN
    return [tensor.cpu() for tensor in state], named


@DTYPES
@pytest.mark.parametrize("is_guided", [False, True])
def test_replayed_networks_of_the_user_equal_direct_ones(
    monkeypatch: pytest.MonkeyPatch, graph: FuzzyGraph, is_guided: bool, dtype: torch.dtype
) -> None:
    """Running means are part of what is compared, noise and rows between are drawn anew."""
    recorder, how = StandIn(), {"is_guided": is_guided, "dtype": dtype}
    replayed = own_course(monkeypatch, graph, recorder, **how)
    n_branches = 1 + is_guided  # the guide leads or not
    assert recorder.n_recordings == n_branches
    assert recorder.n_replays == N_STEPS - n_branches
    assert_same(replayed, own_course(monkeypatch, graph, None, **how))


class Counts(nn.Module):
    """Acts differently at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        return x / (1.0 + 0.1 * self.n_calls)


@pytest.mark.parametrize("middle", [Counts, lambda: nn.Dropout(0.5)])
def test_networks_that_differ_from_step_to_step_are_not_replayed(
    monkeypatch: pytest.MonkeyPatch,
    graph: FuzzyGraph,
    caplog: pytest.LogCaptureFixture,
    middle: Callable[[], nn.Module],
) -> None:
    recorder = StandIn()
    with caplog.at_level("INFO", logger="neumap"):
        found = own_course(monkeypatch, graph, recorder, middle=middle)
    assert "not replayed: a network draws random numbers or counts its calls" in caplog.text
    assert recorder.n_recordings == recorder.n_replays == 0
    assert_same(found, own_course(monkeypatch, graph, None, middle=middle))


@pytest.mark.parametrize("how", ["recording", "replay", "weights", "loss"])
def test_a_failed_recording_of_a_network_of_the_user_is_logged(
    monkeypatch: pytest.MonkeyPatch,
    graph: FuzzyGraph,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    with caplog.at_level("INFO", logger="neumap"):
        found = own_course(monkeypatch, graph, Broken(how))
    assert "training steps are not replayed" in caplog.text
    assert_same(found, own_course(monkeypatch, graph, None))


class NotPlain(UmapTerm):
    """Does what a recording cannot know."""


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([TERM], True),
        ([TERM, ReconstructionTerm(nn.Linear(2, 9), RECONSTRUCTION)], True),
        ([NotPlain(TERM.kernel)], False),
        ([TERM, CorrelationTerm(0.1)], False),
        ([TERM, ReconstructionTerm(nn.Linear(2, 9), reconstruction_loss(print, (0, 1)))], False),
    ],
)
def test_which_steps_of_the_user_may_be_replayed(terms: list[Any], expected: bool) -> None:
    embedder = EncoderEmbedder(Own(), DenseRows(blobs()))
    assert AutogradStep(embedder, terms).is_resident_on("cpu") is expected
    assert not AutogradStep(embedder, terms).is_resident_on("cuda")
    assert choose_replay(AutogradStep(embedder, terms), None, n_steps=999, is_watched=False) is None


# --- nothing waits ---


class Waits(TorchDispatchMode):
    """Counts operations that wait for a graphics card, or copy from the host to it."""

    WAITING = (
        torch.ops.aten._local_scalar_dense,  # item, float, bool
        torch.ops.aten.lift_fresh,  # torch.tensor
        torch.ops.aten.nonzero,
        torch.ops.aten.masked_select,
        torch.ops.aten._unique2,
        torch.ops.aten.equal,
    )

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func.overloadpacket in self.WAITING
        return func(*args, **(kwargs or {}))


def test_waits_are_counted() -> None:
    with Waits() as waits:
        float(torch.ones(2).sum())
        torch.ones(3)[torch.tensor([True, False, True])]
    assert waits.n >= 2


@DTYPES
@pytest.mark.parametrize("optimizer", [Muon, FusedAdam])
def test_a_step_never_waits(graph: FuzzyGraph, optimizer: Any, dtype: torch.dtype) -> None:
    step = MLPStep(embedder_of(DenseRows(blobs())), TERM, dtype)
    made = optimizer(step.parameters())
    replay, sampler, tally = Replay(step, made, None), EdgeSampler(graph, seed=0), loop._Tally()
    with Waits() as waits:
        for taken in range(10):
            tally.add(replay(sampler.draw(32), taken / 10))
    assert waits.n == 0
    assert tally.means()["loss"] > 0.0


# --- who is replayed ---


class LouderMuon(Muon):
    def step(self) -> None:
        super().step()
        super().step()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, StandIn),
        ({"optimizer": FusedAdam}, StandIn),
        ({"n_steps": 10}, type(None)),  # too few to pay
        ({"is_watched": True}, type(None)),  # a replay leaves no gradients to look at
        ({"optimizer": torch.optim.Adam}, None),
        ({"optimizer": LouderMuon}, None),
        ({"rows": as_rows(sparse.csr_matrix(blobs()))}, None),
        ({"device": "elsewhere"}, None),
    ],
)
def test_who_is_replayed(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: type | None
) -> None:
    """On a card; its name is changed here for that of a device there is."""
    case = {"optimizer": Muon, "n_steps": 1000, "is_watched": False, "device": "cpu"} | changes
    monkeypatch.setattr(replay, "DEVICE", case["device"])
    monkeypatch.setattr(replay, "CudaRecorder", lambda device: StandIn())
    step = MLPStep(embedder_of(case.get("rows", DenseRows(blobs()))), TERM, torch.float32)
    optimizer = case["optimizer"](step.parameters(), lr=1e-3)
    how = {name: case[name] for name in ("n_steps", "is_watched")}
    found = choose_replay(step, optimizer, **how)
    assert isinstance(found, Replay) == (expected is not None)
    taken, moving = record_step(step, optimizer, **how)
    assert (taken is step) == (moving is optimizer) == (expected is None)
    if isinstance(found, Replay):
        assert isinstance(found._recorder, expected)


# --- on a card ---


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", [Muon, FusedAdam])
def test_cuda_graphs_equal_direct_steps(
    monkeypatch: pytest.MonkeyPatch, graph: FuzzyGraph, optimizer: Any
) -> None:
    how = {"optimizer": optimizer, "dtype": torch.bfloat16, "device": "cuda:0"}
    recorder = replay.CudaRecorder(torch.device("cuda:0"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, losses = course(monkeypatch, graph, by(recorder), **how)
    expected, others = course(monkeypatch, graph, by(None), **how)
    for f, e in zip(found, expected, strict=True):
        if f.ndim == 2:  # last biases move the map as a whole: their gradients are rounding
            assert torch.cosine_similarity(f.flatten(), e.flatten(), dim=0) > 0.99
    assert losses["loss"] == pytest.approx(others["loss"], rel=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("is_guided", [False, True])
def test_networks_of_the_user_on_a_card_equal_direct_steps(
    monkeypatch: pytest.MonkeyPatch,
    graph: FuzzyGraph,
    caplog: pytest.LogCaptureFixture,
    is_guided: bool,
) -> None:
    how = {"is_guided": is_guided, "dtype": torch.bfloat16, "device": "cuda:0"}
    with caplog.at_level("INFO", logger="neumap"):
        found, _ = own_course(
            monkeypatch, graph, replay.CudaRecorder(torch.device("cuda:0")), **how
        )
    assert "not replayed" not in caplog.text
    expected, _ = own_course(monkeypatch, graph, None, **how)
    for f, e in zip(found, expected, strict=True):
        if f.ndim >= 2:
            assert torch.cosine_similarity(f.flatten(), e.flatten(), dim=0) > 0.99


@pytest.mark.gpu
def test_steps_on_a_card_never_wait(graph: FuzzyGraph) -> None:
    """Two rounds of each branch are recorded and compared, which waits; the others must not."""
    device = torch.device("cuda:0")
    step = MLPStep(embedder_of(DenseRows(blobs(), device=device), "cuda:0"), TERM)
    recorded = Replay(step, Muon(step.parameters()), replay.CudaRecorder(device))
    sampler, tally = EdgeSampler(graph, seed=0, device=device), loop._Tally()
    for progress in (0.0, 0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9):
        recorded(sampler.draw(32), progress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "a prototype feature"
        torch.cuda.set_sync_debug_mode("error")
    try:
        for taken in range(100):
            tally.add(recorded(sampler.draw(32), taken / 100))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert tally.means()["loss"] > 0.0


@pytest.mark.gpu
@pytest.mark.slow
def test_seconds_of_a_fit_of_the_size_of_mnist(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0.0, 3.0, (10, 784))
    X = (centres[rng.integers(10, size=60_000)] + rng.normal(size=(60_000, 784))).astype(np.float32)
    for attempt in ("first", "second"):
        began = time.perf_counter()
        model = ParametricUMAP(device="cuda", random_state=0).fit(X)
        seconds = time.perf_counter() - began
        with capsys.disabled():
            print(f"\n{attempt} fit of 60,000 x 784: {seconds:.1f} s")  # noqa: T201 - its purpose
    assert np.isfinite(model.embedding_).all()
    assert all(isinstance(p, nn.Parameter) and p.is_cuda for p in model.encoder_.parameters())
