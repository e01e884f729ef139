"""The loop, its plan, its embedders and its optimisers, driven by terms with known values."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from neumap import _device, _workers
from neumap._device import torch_threads
from neumap._modes import evaluating
from neumap.callbacks import Callback, Checkpoint, EarlyStopping, TimeBudget
from neumap.data import DenseRows
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.losses import Kernel
from neumap.losses.terms import Batch, Softening, UmapTerm
from neumap.neighbors import find_neighbors
from neumap.networks import MLP
from neumap.sampling import EdgeSampler
from neumap.similarity import find_ab
from neumap.training import (
    AutogradStep,
    EncoderEmbedder,
    FreeEmbedder,
    Plan,
    TrainingDivergedError,
    choose_step,
    loop,
    noise,
    optimizer_factory,
    precision,
    train,
)
from neumap.training.embedders import encode_rows, encoded_parts
from neumap.training.mlp_step import MLPStep
from neumap.training.noise import InputNoise

N_ROWS = 12


@pytest.fixture(autouse=True)
def _float32_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in float32 wherever the tests run; those about bfloat16 ask for it."""
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.float32)


def ring(n_vertices: int = N_ROWS) -> FuzzyGraph:
    heads = np.r_[np.arange(n_vertices - 1), 0]
    tails = np.r_[np.arange(1, n_vertices), n_vertices - 1]
    return FuzzyGraph(heads, tails, np.ones(n_vertices, dtype=np.float32), n_vertices)


def sampler(seed: int = 0) -> EdgeSampler:
    return EdgeSampler(ring(), seed=seed)


def free(seed: int = 0) -> FreeEmbedder:
    return FreeEmbedder(np.random.default_rng(seed).normal(size=(N_ROWS, 2)))


def features(n_rows: int = N_ROWS, n_features: int = 5, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_rows, n_features)).astype(np.float32)


@dataclass
class Scripted:
    """A term whose k-th value is ``script(k)``; it pulls every coordinate towards 0."""

    script: Callable[[int], float]
    name: str = "scripted_loss"
    weight: float = 1.0
    modules: dict[str, nn.Module] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Tensor:
        value = self.script(len(self.batches))
        self.batches.append(batch)
        pull = 1e-3 * batch.coordinates.square().sum()
        return pull - pull.detach() + value


@dataclass
class Clock:
    """Time that passes only when a test says so."""

    now: float = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=stopped.perf_counter))
    return stopped


class Recorder(Callback):
    """Keeps the order of the hooks and what the run looked like."""

    def __init__(self, stop_at_step: int | None = None) -> None:
        self.events: list[tuple[str, int, int]] = []
        self.logs: list[dict[str, float]] = []
        self.learning_rates: list[float] = []
        self.stop_at_step = stop_at_step

    def names(self) -> list[str]:
        return [name for name, _, _ in self.events]

    def _note(self, name: str, run: Any) -> None:
        self.events.append((name, run.epoch, run.step))

    def on_fit_start(self, run: Any) -> None:
        self._note("fit_start", run)

    def on_epoch_start(self, run: Any) -> None:
        self._note("epoch_start", run)

    def on_step_end(self, run: Any) -> None:
        self._note("step", run)
        self.learning_rates.append(run.optimizer.param_groups[0]["lr"])
        if run.step == self.stop_at_step:
            run.stop_training = True

    def on_epoch_end(self, run: Any) -> None:
        self._note("epoch_end", run)
        self.logs.append(dict(run.logs))

    def on_fit_end(self, run: Any) -> None:
        self._note("fit_end", run)


# --- the loop ---


def test_hooks_come_in_the_documented_order() -> None:
    seen = Recorder()
    train(free(), [Scripted(float)], sampler(), Plan(3, 2, 4), seed=0, callbacks=[seen])
    assert seen.events == [
        ("fit_start", 0, 0),
        ("epoch_start", 0, 0),
        ("step", 0, 1),
        ("epoch_end", 0, 1),
        ("epoch_start", 1, 1),
        ("step", 1, 2),
        ("step", 1, 3),
        ("epoch_end", 1, 3),
        ("fit_end", 1, 3),
    ]


def test_history_holds_means_over_the_steps_of_each_epoch() -> None:
    seen = Recorder()
    terms = [Scripted(float, "first", weight=2.0), Scripted(lambda k: 10.0 * k, "second", 0.5)]
    history = train(free(), terms, sampler(), Plan(7, 3, 4), seed=0, callbacks=[seen])
    first = [np.mean([0, 1]), np.mean([2, 3]), np.mean([4, 5, 6])]
    assert history["first"] == pytest.approx(first)
    assert history["second"] == pytest.approx([10 * mean for mean in first])
    assert history["loss"] == pytest.approx([2.0 * mean + 0.5 * 10 * mean for mean in first])
    assert [logs["loss"] for logs in seen.logs] == history["loss"]
    assert all(type(value) is float for value in history["loss"])


@pytest.mark.parametrize(("n_steps", "n_reports", "reports"), [(3, 10, 3), (10, 1, 1), (5, 5, 5)])
def test_number_of_reports(n_steps: int, n_reports: int, reports: int) -> None:
    term = Scripted(float)
    history = train(free(), [term], sampler(), Plan(n_steps, n_reports, 4), seed=0)
    assert len(history["loss"]) == reports
    assert len(term.batches) == n_steps


def test_batches_are_edges_of_the_asked_number() -> None:
    term = Scripted(float)
    train(free(), [term], sampler(seed=3), Plan(4, 2, batch_edges=5), seed=0)
    same = sampler(seed=3)
    for step, batch in enumerate(term.batches):
        assert torch.equal(batch.indices, same.draw(5))
        assert batch.n_edges == 5
        assert batch.progress == step / 4


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_stop_within_an_epoch_closes_it_with_the_steps_done(stop_at: int) -> None:
    seen = Recorder(stop_at_step=stop_at)
    history = train(free(), [Scripted(float)], sampler(), Plan(8, 2, 4), seed=0, callbacks=[seen])
    assert seen.names().count("step") == stop_at
    assert seen.names().count("epoch_end") == seen.names().count("epoch_start") == -(-stop_at // 4)
    last = range(4 * (stop_at // 4), stop_at)
    assert history["loss"][-1] == pytest.approx(np.mean(last))
    assert seen.names()[-1] == "fit_end"


def test_stop_before_the_first_step_trains_nothing() -> None:
    class Stop(Callback):
        def on_fit_start(self, run: Any) -> None:
            run.stop_training = True

    embedder = free()
    before = embedder.embed_all()
    assert train(embedder, [Scripted(float)], sampler(), Plan(4), seed=0, callbacks=[Stop()]) == {}
    assert np.array_equal(embedder.embed_all(), before)


def test_early_stopping_ends_the_loop() -> None:
    rising = Scripted(lambda k: 1.0 + k)
    stopper = EarlyStopping(monitor="loss", patience=2)
    history = train(free(), [rising], sampler(), Plan(20, 20, 4), seed=0, callbacks=[stopper])
    assert len(history["loss"]) == 3


def test_checkpoints_are_numbered_by_epoch(tmp_path: Any) -> None:
    saver = Checkpoint(str(tmp_path / "{epoch}.safetensors"), every=2)
    train(free(), [Scripted(float)], sampler(), Plan(5, 5, 4), seed=0, callbacks=[saver])
    assert len(saver.saved_paths) == 3  # after the second, the fourth and the last
    assert len({path.name for path in saver.saved_paths}) == 3


def test_validation_joins_the_report() -> None:
    calls: list[int] = []

    def validate() -> dict[str, float]:
        calls.append(1)
        return {"val_loss": 10.0 + len(calls)}

    seen = Recorder()
    history = train(
        *(free(), [Scripted(float)], sampler(), Plan(6, 3, 4)),
        seed=0,
        callbacks=[seen],
        validate=validate,
    )
    assert history["val_loss"] == [11.0, 12.0, 13.0]
    assert [logs["val_loss"] for logs in seen.logs] == history["val_loss"]


def test_run_gives_callbacks_state_and_positions() -> None:
    states: list[dict[str, Any]] = []

    class Rewind(Callback):
        def on_fit_start(self, run: Any) -> None:
            states.append({name: value.clone() for name, value in run.state_dict().items()})
            assert (run.n_epochs, run.n_steps, run.logs) == (2, 4, {})
            assert run.decoder is decoder
            assert run.encoder is None
            assert np.array_equal(run.embed(), embedder.embed_all())

        def on_fit_end(self, run: Any) -> None:
            assert not torch.equal(run.state_dict()["embedder.positions"], initial)
            run.load_state_dict(states[0])

    embedder, decoder = free(), nn.Linear(2, 5)
    initial = embedder.positions.detach().clone()
    term = Scripted(float, modules={"decoder": decoder})
    train(embedder, [term], sampler(), Plan(4, 2, 4), seed=0, callbacks=[Rewind()])
    assert states[0].keys() == {"embedder.positions", "decoder.weight", "decoder.bias"}
    assert torch.equal(embedder.positions, initial)


@pytest.mark.parametrize(
    ("is_free", "cores", "threads"), [(True, 16, 4), (True, 2, 1), (False, 16, 8), (False, 6, 3)]
)
def test_training_leaves_cores_to_others(
    monkeypatch: pytest.MonkeyPatch, is_free: bool, cores: int, threads: int
) -> None:
    class Watch(Callback):
        def on_step_end(self, run: Any) -> None:
            seen.append(torch.get_num_threads())

    seen: list[int] = []
    monkeypatch.setattr(_device, "usable_cores", lambda: cores)
    own = EncoderEmbedder(nn.Linear(5, 2), DenseRows(features()))
    with torch_threads(16):
        train(
            free() if is_free else own,
            [Scripted(float)],
            sampler(),
            Plan(2, 1, 4, 1e-3),
            seed=0,
            callbacks=[Watch()],
        )
    assert seen == [threads, threads]


def test_modules_train_in_training_mode_and_end_in_evaluation() -> None:
    modes: list[tuple[bool, bool]] = []
    encoder, decoder = nn.Sequential(nn.Linear(5, 2), nn.Dropout()), nn.Linear(2, 5)
    embedder = EncoderEmbedder(encoder, DenseRows(features()))

    def note(step: int) -> float:
        modes.append((encoder[1].training, decoder.training))
        return 0.0

    term = Scripted(note, modules={"decoder": decoder})
    for module in (embedder, decoder):
        module.eval()  # as an earlier training leaves them
    train(embedder, [term], sampler(), Plan(2, 1, 4), seed=0)
    assert modes == [(True, True)] * 2
    assert not any(module.training for module in (encoder, encoder[1], decoder))


# --- time ---


def test_time_limit_anneals_to_the_end(clock: Clock) -> None:
    def one_second(step: int) -> float:
        clock.now += 1.0
        return 0.0

    seen, term = Recorder(), Scripted(one_second)
    plan = Plan(10_000, 5, 4, peak_learning_rate=0.1, warm_up=0.0, max_time=40.0)
    history = train(free(), [term], sampler(), plan, seed=0, callbacks=[seen])
    assert [batch.progress for batch in term.batches] == pytest.approx([k / 40 for k in range(40)])
    expected = [0.05 * (1 + math.cos(math.pi * k / 40)) for k in range(40)]
    assert seen.learning_rates == pytest.approx(expected)
    assert seen.learning_rates[-1] < 0.001
    assert len(history["loss"]) == 1  # the first report was due after 2,000 steps
    assert seen.names()[-2:] == ["epoch_end", "fit_end"]


def test_enough_time_changes_nothing(clock: Clock) -> None:
    term = Scripted(float)
    train(free(), [term], sampler(), Plan(6, 2, 4, max_time=1e6), seed=0)
    assert len(term.batches) == 6


def test_time_spent_between_epochs_leaves_no_empty_report(clock: Clock) -> None:
    class SlowSave(Recorder):
        def on_epoch_end(self, run: Any) -> None:
            super().on_epoch_end(run)
            clock.now += 30.0

    seen = SlowSave()
    callbacks = [seen, EarlyStopping(monitor="loss")]  # it raises where there is no loss
    plan = Plan(100, 10, 4, max_time=50.0)
    history = train(free(), [Scripted(float)], sampler(), plan, seed=0, callbacks=callbacks)
    assert seen.names().count("epoch_start") == seen.names().count("epoch_end") == 2
    assert len(history["loss"]) == 2
    assert all("loss" in logs for logs in seen.logs)


def test_time_spent_before_the_first_step_still_takes_one(clock: Clock) -> None:
    class SlowStart(Callback):
        def on_epoch_start(self, run: Any) -> None:
            clock.now += 100.0

    plan = Plan(100, 10, 4, max_time=50.0)
    term = Scripted(lambda k: 3.0)
    history = train(free(), [term], sampler(), plan, seed=0, callbacks=[SlowStart()])
    assert history["loss"] == [3.0]


def test_time_budget_callback_stops_within_an_epoch(clock: Clock) -> None:
    def one_second(step: int) -> float:
        clock.now += 1.0
        return 0.0

    term = Scripted(one_second)
    train(free(), [term], sampler(), Plan(50, 1, 4), seed=0, callbacks=[TimeBudget(7.0)])
    assert len(term.batches) == 7


# --- divergence ---


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_divergence_is_an_error_that_names_the_step(value: float) -> None:
    term = Scripted(lambda k: value if k == 6 else 1.0)
    with pytest.raises(TrainingDivergedError, match=rf"{value} at step 7 of 10\. .*learning_rate"):
        train(free(), [term], sampler(), Plan(10, 10, 4), seed=0)


def test_divergence_is_noticed_long_before_the_report() -> None:
    term = Scripted(lambda k: math.nan if k >= 37 else 1.0)
    with pytest.raises(TrainingDivergedError, match=r"nan at step 100 of 5000"):
        train(free(), [term], sampler(), Plan(5000, 1, 4), seed=0)


def test_one_bad_step_that_heals_is_noticed_at_the_report() -> None:
    term = Scripted(lambda k: math.nan if k == 3 else 1.0, name="landmark_loss", weight=0.0)
    with pytest.raises(TrainingDivergedError, match="nan at step 10 of 20"):
        train(free(), [term], sampler(), Plan(20, 2, 4), seed=0)


# --- randomness ---


def weights_after_training(seed: int) -> Tensor:
    torch.manual_seed(1)  # the same initial weights
    encoder = nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.5), nn.Linear(16, 2))
    embedder = EncoderEmbedder(encoder, DenseRows(features()))
    train(embedder, [UmapTerm(Kernel(1.5, 0.9))], sampler(), Plan(20, 2, 8), seed=seed)
    return encoder[0].weight.detach()


def test_dropout_draws_from_the_seed() -> None:
    first, again, other = (weights_after_training(seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_the_global_generators_alone(
    global_random_state_untouched: None,
) -> None:
    with torch.random.fork_rng():  # building a layer draws, as everywhere in torch
        encoder = nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 2, bias=False))
    embedder = EncoderEmbedder(encoder, DenseRows(features()))
    noisy = EncoderEmbedder(encoder, DenseRows(features()), InputNoise(0.1, seed=0))
    for trained in (embedder, noisy):
        train(trained, [UmapTerm(Kernel(1.5, 0.9))], sampler(), Plan(5, 2, 8), seed=0)


# --- the plan ---


def test_learning_rate_rises_then_falls_to_zero() -> None:
    plan = Plan(n_steps=1000, peak_learning_rate=0.2, warm_up=0.1)
    rates = [plan.learning_rate(step / 1000) for step in range(1001)]
    cosine = [0.1 * (1 + math.cos(math.pi * step / 1000)) for step in range(1001)]
    rise = [min(1.0, (step + 1) / 100) for step in range(1001)]
    assert rates == pytest.approx([r * c for r, c in zip(rise, cosine, strict=True)])
    assert rates[0] == pytest.approx(0.002)  # the first step moves already
    assert rates[-1] == pytest.approx(0.0, abs=1e-15)
    assert max(rates) == rates[99]


def test_no_warm_up_starts_at_the_peak() -> None:
    assert Plan(10, peak_learning_rate=0.2, warm_up=0.0).learning_rate(0.0) == 0.2


def test_no_schedule_leaves_the_optimisers_rate() -> None:
    seen = Recorder()
    plan = Plan(5, 1, 4, peak_learning_rate=None)
    assert plan.learning_rate(0.5) is None
    train(
        *(free(), [Scripted(float)], sampler(), plan),
        seed=0,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.123),
        callbacks=[seen],
    )
    assert seen.learning_rates == [0.123] * 5


def test_progress_is_the_larger_share_of_steps_and_seconds() -> None:
    plan = Plan(n_steps=100, max_time=20.0)
    assert plan.progress(50, seconds=1.0) == 0.5
    assert plan.progress(50, seconds=15.0) == 0.75
    assert plan.progress(100, seconds=0.0) == plan.progress(3, seconds=99.0) == 1.0
    assert Plan(n_steps=100).progress(50, seconds=1e9) == 0.5


@pytest.mark.parametrize(
    ("n_steps", "n_epochs", "ends"),
    [(10, 5, [2, 4, 6, 8, 10]), (7, 3, [2, 4, 7]), (3, 10, [1, 2, 3]), (9, 1, [9]), (0, 5, [])],
)
def test_reports_are_spread_evenly(n_steps: int, n_epochs: int, ends: list[int]) -> None:
    assert Plan(n_steps, n_epochs).report_steps() == ends


# --- optimisers ---


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3, 2))]


def test_default_optimizer_is_adam_without_decay() -> None:
    own, reference = parameters(), parameters()
    made = optimizer_factory(None)(own)
    adam = torch.optim.Adam(reference, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(20):
        made.zero_grad()
        assert own[0].grad is None
        for parameter in (*own, *reference):
            parameter.grad = torch.sin(torch.arange(6.0) + step).reshape(3, 2)
        for optimizer in (made, adam):
            optimizer.param_groups[0]["lr"] = 1e-3 * (1 + step)
            optimizer.step()
    assert (own[0] - 1).abs().min() > 1e-3
    torch.testing.assert_close(own[0], reference[0], rtol=1e-6, atol=1e-7)


def test_default_optimizer_goes_on_from_its_state() -> None:
    def move(optimizer: Any, parameter: nn.Parameter, gradient: float) -> None:
        parameter.grad = torch.full((3, 2), gradient)
        optimizer.step()

    (first,), (second,) = parameters(), parameters()
    made, resumed = (optimizer_factory(None)([p]) for p in (first, second))
    move(made, first, 2.0)
    second.data.copy_(first.data)
    resumed.load_state_dict(copy.deepcopy(made.state_dict()))
    move(made, first, -0.5)
    move(resumed, second, -0.5)
    assert torch.equal(first, second)


def test_default_optimizer_leaves_what_has_no_gradient() -> None:
    (untouched,) = parameters()
    optimizer_factory(None)([untouched]).step()
    assert torch.equal(untouched, torch.ones(3, 2))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", "Adam"), ("SGD", "SGD"), ("AdamW", "AdamW"), ("rmsprop", "RMSprop")],
)
def test_optimizer_by_name(name: str, kind: str) -> None:
    made = optimizer_factory(name)(parameters())
    assert type(made) is getattr(torch.optim, kind)


def test_optimizer_class_and_function() -> None:
    assert type(optimizer_factory(torch.optim.Adagrad)(parameters())) is torch.optim.Adagrad
    made = optimizer_factory(lambda p: torch.optim.SGD(p, lr=7.0))(parameters())
    assert made.param_groups[0]["lr"] == 7.0


OPTIMIZERS = [
    kind
    for kind in vars(torch.optim).values()
    if isinstance(kind, type)
    and issubclass(kind, torch.optim.Optimizer)
    and kind is not torch.optim.Optimizer
]


@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_optimizer_instance_lends_class_and_settings(kind: type[torch.optim.Optimizer]) -> None:
    instance = kind(parameters(), lr=0.0321)
    own = parameters()
    made = optimizer_factory(instance)(own)
    assert type(made) is kind
    assert made is not instance
    assert made.param_groups[0]["params"] == own
    expected = {k: v for k, v in instance.param_groups[0].items() if k != "params"}
    assert {k: v for k, v in made.param_groups[0].items() if k != "params"} == expected


def test_unknown_optimizer_name() -> None:
    with pytest.raises(ValueError, match=r"one of \['adam', .*got 'adamm'.*pass its class"):
        optimizer_factory("adamm")


@pytest.mark.parametrize("wrong", [0.01, ["adam"]])
def test_wrong_kind_of_optimizer(wrong: object) -> None:
    with pytest.raises(
        TypeError, match=rf"optimizer must be None, a name.*got {type(wrong).__name__}"
    ):
        optimizer_factory(wrong)


# --- embedders ---


def test_free_positions_are_looked_up_and_their_gradient() -> None:
    initial = np.random.default_rng(0).normal(size=(6, 3))
    embedder = FreeEmbedder(initial)
    rows, coordinates = embedder.embed(torch.tensor([4, 0, 4]))
    assert rows is None
    np.testing.assert_allclose(coordinates.detach(), initial[[4, 0, 4]], rtol=1e-6)
    coordinates.sum().backward()
    assert embedder.positions.grad is not None
    assert embedder.positions.grad.sum(1).tolist() == [3.0, 0.0, 0.0, 0.0, 6.0, 0.0]
    assert (embedder.n_rows, embedder.encoder) == (6, None)


def test_free_positions_copy_what_goes_in_and_out() -> None:
    initial = np.zeros((3, 2), dtype=np.float32)
    embedder = FreeEmbedder(initial)
    initial += 1.0
    out = embedder.embed_all()
    out += 5.0
    assert embedder.embed_all().dtype == np.float32
    assert np.array_equal(embedder.embed_all(), np.zeros((3, 2)))


@pytest.mark.parametrize("shape", [(5,), (2, 2, 1)])
def test_each_row_encoded_once_gives_the_same(shape: tuple[int, ...]) -> None:
    """A batch longer than the data takes another path to the same coordinates and gradients."""
    data = np.random.default_rng(0).normal(size=(7, *shape)).astype(np.float32)
    encoder = MLP(math.prod(shape), 2, (8,))
    embedder = EncoderEmbedder(encoder, DenseRows(data))
    indices = torch.tensor([3, 1, 1, 6, 0, 3, 3, 2, 5, 4])
    n_encoded: list[int] = []
    encoder.register_forward_pre_hook(lambda module, inputs: n_encoded.append(len(inputs[0])))
    results = []
    for batch in ([indices], [indices[:6], indices[6:]]):
        encoder.zero_grad()
        embedded = [embedder.embed(part) for part in batch]
        rows = torch.cat([inputs for inputs, _ in embedded])
        coordinates = torch.cat([z for _, z in embedded])
        (coordinates * torch.arange(10.0)[:, None]).sum().backward()
        results.append((rows, coordinates, encoder.layers[0].weight.grad.clone()))
    assert n_encoded == [7, 6, 4]
    for at_once, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(at_once, in_parts)
    np.testing.assert_array_equal(results[0][0], data[indices])


def test_encoding_in_batches_equals_encoding_at_once() -> None:
    rows = DenseRows(features(23))
    encoder = MLP(5, 3, (8,))
    expected = encoder(torch.from_numpy(features(23))).detach().numpy()
    for batch_rows in (1, 5, 23, 100):
        found = encode_rows(encoder, rows, batch_rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(EncoderEmbedder(encoder, rows).embed_all(), expected, rtol=1e-5)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_slices_are_encoded_on_several_threads_to_the_same_bits(
    n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, encoder, seen = DenseRows(features(400)), MLP(5, 3, (64,)), []
    monkeypatch.setattr(_workers, "usable_cores", lambda: 8)
    forward = MLP.forward

    def watched(self: MLP, part: torch.Tensor) -> torch.Tensor:
        seen.append((threading.current_thread(), torch.get_num_threads()))
        assert not torch.is_grad_enabled()
        return forward(self, part)

    with torch.no_grad():
        expected = torch.cat([encoder(part) for part in rows.slices(7)]).numpy()
    monkeypatch.setattr(MLP, "forward", watched)
    with torch_threads(n_threads):
        found = encode_rows(encoder, rows, 7)
        assert torch.get_num_threads() == n_threads
    assert np.array_equal(found, expected)
    assert len(seen) == 58
    assert {number for _, number in seen} == {1}  # threads of torch, of each operation
    is_beside = {thread is not threading.current_thread() for thread, _ in seen}
    assert is_beside == {n_threads > 1}


def test_hooks_of_the_user_see_one_slice_after_the_other() -> None:
    rows, encoder, seen = DenseRows(features(400)), MLP(5, 3, (64,)), []
    encoder.layers[0].register_forward_hook(
        lambda *call: seen.append((threading.current_thread(), call[1][0][0, 0].item()))
    )
    with torch_threads(3):
        encode_rows(encoder, rows, 50)
    assert {thread for thread, _ in seen} == {threading.current_thread()}
    first = [encoder.inputs(part)[0, 0].item() for part in rows.slices(50)]
    assert [value for _, value in seen] == pytest.approx(first)


def test_an_error_on_a_thread_reaches_the_caller_and_modes_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, encoder = DenseRows(features(400)), MLP(5, 3, (64,))
    monkeypatch.setattr(_workers, "usable_cores", lambda: 8)
    monkeypatch.setattr(MLP, "forward", lambda self, part: part[1:])
    with torch_threads(3), pytest.raises(ValueError, match="got 49 for 50 rows"):
        encode_rows(encoder, rows, 50)
    assert encoder.training
    with torch_threads(3):
        parts = encoded_parts(encoder.eval(), rows, 50)
        with pytest.raises(ValueError, match="got 49 for 50 rows"):
            next(parts)


def test_encoding_switches_dropout_off_and_puts_every_mode_back() -> None:
    encoder = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(5), nn.Linear(5, 2))
    encoder.train()
    encoder[1].eval()  # a part its owner keeps frozen
    rows = DenseRows(features())
    first, second = encode_rows(encoder, rows), encode_rows(encoder, rows)
    assert np.array_equal(first, second)
    assert [part.training for part in (encoder, *encoder)] == [True, True, False, True]


def test_modes_come_back_after_an_error() -> None:
    encoder = nn.Linear(5, 2)

    def fail() -> Iterator[None]:
        with evaluating(encoder):
            assert not encoder.training
            assert not torch.is_grad_enabled()
            encoder(torch.ones(1, 4))

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fail()
    assert encoder.training
    assert torch.is_grad_enabled()


# --- bfloat16 hidden layers ---


@pytest.fixture
def bfloat16_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)


def embedded(encoder: nn.Module, data: np.ndarray) -> tuple[Tensor, list[Tensor]]:
    """Coordinates of some rows, and the gradients of one step."""
    embedder = EncoderEmbedder(encoder, DenseRows(data))
    indices = torch.arange(len(data) - 1)
    _, coordinates = embedder.embed(indices)
    AutogradStep(embedder, [UmapTerm(Kernel(1.5, 0.9))])(indices, progress=0.5)
    gradients = [p.grad for p in encoder.parameters() if p.dim() > 1]
    return coordinates.detach(), [g for g in gradients if g is not None]


@pytest.mark.parametrize(
    "encoder",
    [MLP(48, 2, (64, 64)), MLP(48, 2, (64, 64), residual=True)],
    ids=["plain", "residual"],
)
def test_own_encoders_train_in_bfloat16_with_float32_coordinates(
    encoder: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = features(101, 48)
    single, single_gradients = embedded(encoder, data)
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)
    mixed, mixed_gradients = embedded(encoder, data)
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, mixed.bfloat16().float())  # the map is not quantised
    error = (mixed - single).abs().max()
    assert 0 < error < 0.05 * single.std()
    for m, s in zip(mixed_gradients, single_gradients, strict=True):
        assert m.dtype == torch.float32
        assert torch.cosine_similarity(m.flatten(), s.flatten(), dim=0) > 0.99


def test_positions_are_computed_in_float32(bfloat16_machine: None) -> None:
    encoder, data = MLP(5, 2), features()
    expected = encoder(torch.from_numpy(data)).detach().numpy()
    found = EncoderEmbedder(encoder, DenseRows(data)).embed_all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_other_encoders_keep_their_precision(bfloat16_machine: None) -> None:
    encoder, data = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)), features()
    _, coordinates = EncoderEmbedder(encoder, DenseRows(data)).embed(torch.arange(4))
    assert torch.equal(coordinates, encoder(torch.from_numpy(data[:4])))


# --- steps ---


def test_step_trains_modules_of_terms_each_once() -> None:
    decoder = nn.Linear(2, 5)
    decoder.bias.requires_grad_(False)
    terms = [
        Scripted(float, modules={"decoder": decoder}),
        Scripted(float, "b", modules={"d": decoder}),
    ]
    embedder = free()
    found = AutogradStep(embedder, terms).parameters()
    assert [id(p) for p in found] == [id(embedder.positions), id(decoder.weight)]


def test_step_leaves_the_gradient_of_the_weighted_sum() -> None:
    embedder = free()
    terms = [Scripted(float, "a", weight=2.0), Scripted(float, "b", weight=0.5)]
    step = AutogradStep(embedder, terms)
    indices = torch.tensor([0, 1, 2, 2])
    for _ in range(2):  # the second call does not add to the first
        losses = step(indices, progress=0.0)
    counts = torch.tensor([1.0, 1.0, 2.0])[:, None]
    expected = 2.5 * 2e-3 * counts * embedder.positions.detach()[:3]
    torch.testing.assert_close(embedder.positions.grad[:3], expected)
    assert {name: value.item() for name, value in losses.items()} == {"loss": 2.5, "a": 1, "b": 1}
    assert not any(value.requires_grad for value in losses.values())


class OwnEmbed(EncoderEmbedder):
    def embed(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        inputs, coordinates = super().embed(indices)
        return inputs, 2 * coordinates


@dataclass(frozen=True)
class OwnTerm(UmapTerm):
    def __call__(self, batch: Batch) -> Tensor:
        return 2 * super().__call__(batch)


def test_fast_step_only_where_it_computes_the_same() -> None:
    umap, rows = UmapTerm(Kernel(1.5, 0.9)), DenseRows(features())
    mlp = EncoderEmbedder(MLP(5, 2), rows)
    assert type(choose_step(mlp, [umap])) is MLPStep
    for embedder, terms in [
        (mlp, [umap, Scripted(float)]),
        (mlp, [Scripted(float)]),
        (mlp, [UmapTerm(Kernel(1.5, 0.9), weight=0.5)]),
        (mlp, [OwnTerm(Kernel(1.5, 0.9))]),
        (OwnEmbed(MLP(5, 2), rows), [umap]),
        (EncoderEmbedder(nn.Linear(5, 2), rows), [umap]),
        (free(), [umap]),
    ]:
        assert type(choose_step(embedder, terms)) is AutogradStep


# --- noise ---


def test_noise_has_its_scale_and_depends_on_the_seed() -> None:
    source = InputNoise(0.25, seed=0)
    rows = torch.ones(200, 100)
    each = torch.arange(200)
    added = source.add_(rows, each)
    assert added is rows
    deviations = added - 1.0
    assert deviations.mean().item() == pytest.approx(0.0, abs=5 * 0.25 / math.sqrt(20_000))
    assert deviations.std().item() == pytest.approx(0.25, rel=0.03)
    zeros = lambda: torch.zeros(200, 100)  # noqa: E731
    assert torch.equal(
        InputNoise(0.25, seed=0).add_(zeros(), each), InputNoise(0.25, seed=0).add_(zeros(), each)
    )
    assert not torch.equal(source.add_(zeros(), each), source.add_(zeros(), each))
    assert not torch.equal(InputNoise(0.25, seed=1).add_(zeros(), each), deviations)


def test_each_row_has_noise_of_its_own_scale() -> None:
    source = InputNoise(torch.tensor([0.0, 0.1, 10.0]), seed=0)
    indices = torch.tensor([2, 0, 1, 2]).repeat(500)
    spread = source.add_(torch.zeros(2000, 40), indices).view(500, 4, 40).std(dim=(0, 2))
    np.testing.assert_allclose(spread, [10.0, 0.0, 0.1, 10.0], rtol=0.1)


def test_noise_in_a_basis_stays_there_and_keeps_its_scale() -> None:
    basis = torch.linalg.qr(torch.randn(30, 4, generator=torch.Generator().manual_seed(0))).Q.T
    added = InputNoise(0.5, seed=0, basis=basis).add_(torch.zeros(5000, 30), torch.arange(5000))
    inside = added @ basis.T
    torch.testing.assert_close(inside @ basis, added, atol=1e-5, rtol=0)
    assert inside.std().item() == pytest.approx(0.5, rel=0.3)  # sixteen directions, in four


def test_noise_of_two_seeds_shares_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "EXTRA_NUMBERS", noise.ALIGNMENT)  # one place to read from
    each = torch.arange(100)
    first, again, other = (
        InputNoise(0.25, seed).add_(torch.zeros(100, 10), each) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert torch.isin(first, other).sum() < 10


def test_noise_reaches_every_direction_alike() -> None:
    """One step mixes few directions; over steps a row's noise is white."""
    source = InputNoise(0.5, seed=0)
    each = torch.arange(64)
    drawn = torch.cat([source.add_(torch.zeros(64, 100), each) for _ in range(400)])
    spectrum = torch.linalg.eigvalsh(drawn.T @ drawn / len(drawn)) / 0.5**2
    assert spectrum.min() > 0.6
    assert spectrum.max() < 1.5
    _, *singular = torch.linalg.svdvals(source.add_(torch.zeros(64, 100), each))
    assert singular[noise.DIRECTIONS] < 1e-3 * singular[0]  # what makes it cheap


def test_noise_reaches_the_encoder_alone() -> None:
    data = features()
    embedder = EncoderEmbedder(nn.Identity(), DenseRows(data), InputNoise(0.1, seed=0))
    inputs, coordinates = embedder.embed(torch.arange(4))
    assert np.array_equal(inputs, data[:4])  # what a decoder has to give back
    assert 0.02 < (coordinates - inputs).std().item() < 0.5
    assert np.array_equal(embedder.embed_all(), data)  # none outside training


# --- the whole ---


def three_blobs(n_per_blob: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = 8.0 * np.eye(3, 6)
    X = np.concatenate([rng.normal(c, 1.0, size=(n_per_blob, 6)) for c in centres])
    return X.astype(np.float32), np.repeat(np.arange(3), n_per_blob)


@pytest.mark.parametrize("kind", ["free", "mlp", "autograd mlp"])
def test_three_blobs_separate(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels = three_blobs()
    graph = fuzzy_simplicial_set(find_neighbors(X, 10))
    if kind == "free":
        initial = np.random.default_rng(1).normal(size=(len(X), 2))
        embedder: FreeEmbedder | EncoderEmbedder = FreeEmbedder(initial)
    else:
        embedder = EncoderEmbedder(MLP(6, 2, (32, 32)), DenseRows(X))
    if kind == "autograd mlp":
        monkeypatch.setattr(loop, "choose_step", AutogradStep)
    rate = 1.0 if kind == "free" else 1e-2
    term = UmapTerm(Kernel(*find_ab(1.0, 0.1)), Softening())
    plan = Plan(300, 5, batch_edges=64, peak_learning_rate=rate)
    history = train(embedder, [term], EdgeSampler(graph, seed=0), plan, seed=0)
    Z = embedder.embed_all()
    shuffled = np.random.default_rng(2).permutation(len(Z))
    train_rows, test_rows = shuffled[:60], shuffled[60:]
    classifier = KNeighborsClassifier(5).fit(Z[train_rows], labels[train_rows])
    assert classifier.score(Z[test_rows], labels[test_rows]) == 1.0
    centres = np.stack([Z[labels == c].mean(0) for c in range(3)])
    radius = max(np.linalg.norm(Z[labels == c] - centres[c], axis=1).mean() for c in range(3))
    gaps = [np.linalg.norm(centres[i] - centres[j]) for i, j in [(0, 1), (0, 2), (1, 2)]]
    assert min(gaps) > 2 * radius
    assert len(history["umap_loss"]) == 5
