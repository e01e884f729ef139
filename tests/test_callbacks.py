"""Callbacks are driven here by a scripted run: known losses, weights that name their epoch."""

from __future__ import annotations

import copy
import importlib
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neumap.archive import ArchiveError, write_archive
from neumap.callbacks import (
    Callback,
    CallbackList,
    Checkpoint,
    EarlyStopping,
    LambdaCallback,
    ProgressBar,
    ScalarLogger,
    Snapshots,
    TimeBudget,
    TrainingRun,
    load_checkpoint,
)

STEPS_PER_EPOCH = 4
SECONDS_PER_STEP = 0.5


class ScriptedRun:
    """A run whose logs are given; during epoch e the encoder's weight is e + step / 100."""

    def __init__(self, logs: Sequence[dict[str, float]]) -> None:
        self.script = logs
        self.n_epochs, self.n_steps = len(logs), len(logs) * STEPS_PER_EPOCH
        self.epoch = self.step = 0
        self.logs: dict[str, float] = {}
        self.stop_training = False
        self.encoder = nn.Linear(1, 1, bias=False)
        self.decoder = None
        self.set_weight(-1.0)

    @property
    def seconds(self) -> float:
        return self.step * SECONDS_PER_STEP

    def set_weight(self, value: float) -> None:
        with torch.no_grad():
            self.encoder.weight.fill_(value)

    @property
    def weight(self) -> float:
        return self.encoder.weight.item()

    def embed(self) -> np.ndarray:
        return self.encoder.weight.detach().numpy()  # a view, as a careless run would give

    def state_dict(self) -> dict[str, Any]:
        return {"encoder": self.encoder.state_dict(), "counters": {"n_seen": self.step}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.encoder.load_state_dict(state["encoder"])

    def checkpoint(self) -> dict[str, Any]:
        weights = self.state_dict()
        return {"weights": weights, "epoch": self.epoch, "step": self.step, "logs": self.logs}

    def train(self, *callbacks: Callback) -> ScriptedRun:
        hooks = CallbackList(callbacks)
        hooks.on_fit_start(self)
        for epoch, logs in enumerate(self.script):
            self.epoch = epoch
            hooks.on_epoch_start(self)
            for _ in range(STEPS_PER_EPOCH):
                self.step += 1
                self.set_weight(self.epoch)
                if hooks.wants_steps:
                    hooks.on_step_end(self)
                if self.stop_training:
                    break
            self.logs = logs
            hooks.on_epoch_end(self)
            if self.stop_training:
                break
        hooks.on_fit_end(self)
        return self


def run_with_losses(*losses: float) -> ScriptedRun:
    return ScriptedRun([{"loss": loss} for loss in losses])


def test_scripted_run_fulfils_the_protocol():
    assert isinstance(run_with_losses(1.0), TrainingRun)


def test_hooks_are_called_in_the_documented_order():
    calls: list[str] = []
    names = ["on_fit_start", "on_epoch_start", "on_step_end", "on_epoch_end", "on_fit_end"]
    hooks = {name: lambda run, name=name: calls.append(f"{name}@{run.step}") for name in names}
    run_with_losses(1.0, 0.5).train(LambdaCallback(**hooks))
    epochs = [
        "on_epoch_start@0", *[f"on_step_end@{s}" for s in (1, 2, 3, 4)], "on_epoch_end@4",
        "on_epoch_start@4", *[f"on_step_end@{s}" for s in (5, 6, 7, 8)], "on_epoch_end@8",
    ]  # fmt: skip
    assert calls == ["on_fit_start@0", *epochs, "on_fit_end@8"]


# --- the list -------------------------------------------------------------------------------


def test_list_wants_steps_only_when_a_callback_overrides_the_hook():
    assert not CallbackList().wants_steps
    assert not CallbackList([EarlyStopping(), Snapshots(), ProgressBar(enabled=False)]).wants_steps
    assert not CallbackList([LambdaCallback(on_epoch_end=print)]).wants_steps
    assert CallbackList([EarlyStopping(), TimeBudget(1.0)]).wants_steps
    assert CallbackList([CallbackList([LambdaCallback(on_step_end=print)])]).wants_steps


def test_who_may_read_gradients():
    """Steps are replayed with a progress bar, but not with a callback that may read gradients."""
    own = [EarlyStopping(), TimeBudget(1.0), ProgressBar(enabled=True), Snapshots()]
    assert not CallbackList([CallbackList(own)]).wants_gradients
    assert CallbackList([*own, LambdaCallback(on_step_end=print)]).wants_gradients


def test_list_calls_in_order_and_steps_only_where_wanted():
    calls: list[str] = []
    first = LambdaCallback(on_epoch_end=lambda run: calls.append("first"))
    second = LambdaCallback(
        on_epoch_end=lambda run: calls.append("second"),
        on_step_end=lambda run: calls.append("step"),
    )
    run_with_losses(1.0).train(first, second)
    assert calls == ["step"] * STEPS_PER_EPOCH + ["first", "second"]


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (EarlyStopping, r"Pass an instance: EarlyStopping\("),
        (lambda run: None, r"LambdaCallback\(on_epoch_end"),
        (3, r"Derive its class"),
    ],
)
def test_list_says_what_to_do_with_something_else(wrong, remedy):
    with pytest.raises(TypeError, match=rf"as item 1\. .*{remedy}"):
        CallbackList([Callback(), wrong])


# --- early stopping -------------------------------------------------------------------------


def test_early_stopping_stops_after_patience_and_restores_the_best_epoch():
    stopping = EarlyStopping(patience=2)
    run = run_with_losses(3.0, 1.0, 2.0, 1.5, 0.1).train(stopping)
    assert run.epoch == 3  # two epochs in a row without progress
    assert (stopping.best_score, stopping.best_epoch, stopping.stopped_epoch) == (1.0, 1, 3)
    assert run.weight == 1.0


def test_early_stopping_counts_epochs_in_a_row():
    run = run_with_losses(3.0, 3.0, 2.0, 2.0, 1.0).train(EarlyStopping(patience=2))
    assert run.epoch == 4
    assert not run.stop_training


def test_early_stopping_restores_even_when_it_did_not_stop():
    assert run_with_losses(1.0, 2.0).train(EarlyStopping(patience=9)).weight == 0.0
    kept = run_with_losses(1.0, 2.0).train(EarlyStopping(patience=9, restore_best=False))
    assert kept.weight == 1.0


def test_early_stopping_min_delta_is_the_smallest_progress():
    losses = [1.0, 0.95, 0.9, 0.85]
    assert run_with_losses(*losses).train(EarlyStopping(patience=2, min_delta=0.2)).epoch == 2
    assert run_with_losses(*losses).train(EarlyStopping(patience=2, min_delta=0.01)).epoch == 3


def test_early_stopping_max_mode_and_monitor():
    script = [{"loss": 1.0 / (e + 1), "val_loss": s} for e, s in enumerate([0.5, 0.9, 0.7, 0.6])]
    stopping = EarlyStopping("val_loss", mode="max", patience=2)
    run = ScriptedRun(script).train(stopping)
    assert (run.weight, stopping.best_score) == (1.0, 0.9)


def test_early_stopping_takes_nan_as_no_progress():
    stopping = EarlyStopping(patience=2)
    run = run_with_losses(1.0, float("nan"), float("nan"), 0.5).train(stopping)
    assert run.epoch == 2
    assert stopping.best_score == 1.0
    assert run_with_losses(float("nan"), 1.0).train(EarlyStopping()).weight == 1.0


def test_early_stopping_names_the_logs_there_are():
    run = ScriptedRun([{"loss": 1.0, "umap_loss": 1.0}])
    with pytest.raises(ValueError, match=r"'val_loss'.*they have: loss, umap_loss"):
        run.train(EarlyStopping("val_loss"))


@pytest.mark.parametrize(
    "settings", [{"mode": "auto"}, {"patience": 0}, {"min_delta": -1.0}, {"min_delta": np.nan}]
)
def test_early_stopping_refuses_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        EarlyStopping(**settings)


def test_a_second_training_starts_afresh():
    stopping, budget, snapshots = EarlyStopping(patience=1), TimeBudget(1.6), Snapshots()
    first = run_with_losses(1.0, 0.5).train(stopping, budget, snapshots)
    second = run_with_losses(9.0, 8.0).train(stopping, budget, snapshots)
    assert first.step == second.step == budget.stopped_step == 4
    assert stopping.best_score == 9.0
    assert [snapshot.step for snapshot in snapshots.snapshots] == [0, 4]


# --- time, snapshots ------------------------------------------------------------------------


def test_time_budget_stops_within_a_step():
    budget = TimeBudget(2.9)
    run = run_with_losses(1.0, 1.0, 1.0).train(budget)
    assert budget.stopped_step == run.step == 6  # 6 steps of half a second
    assert run.logs == {"loss": 1.0}  # the epoch that was cut is reported


def test_time_budget_wants_a_positive_time():
    with pytest.raises(ValueError, match="max_time_seconds must be positive, got 0"):
        TimeBudget(0)


def test_snapshots_are_copies_with_their_steps():
    snapshots = Snapshots(every=2)
    run_with_losses(*range(5)).train(snapshots)
    assert [step for step, _ in snapshots.snapshots] == [0, 8, 16, 20]  # start, every 2, the end
    assert [e.item() for _, e in snapshots.snapshots] == [-1.0, 1.0, 3.0, 4.0]


def test_snapshots_without_start():
    snapshots = Snapshots(every=1, include_start=False)
    run_with_losses(1.0, 1.0).train(snapshots)
    assert [snapshot.step for snapshot in snapshots.snapshots] == [4, 8]


# --- checkpoints ----------------------------------------------------------------------------


def test_checkpoint_round_trip(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path / "deep" / "{epoch:02d}-{loss:.2f}.safetensors", every=2)
    run_with_losses(3.0, 2.0, 1.0).train(checkpoint)
    names = ["01-2.00.safetensors", "02-1.00.safetensors"]  # the last epoch is always saved
    assert [path.name for path in checkpoint.saved_paths] == names
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == names  # nothing temporary left

    state, epoch, step, logs = load_checkpoint(checkpoint.saved_paths[0])
    assert (epoch, step, logs) == (1, 8, {"loss": 2.0})
    assert state["counters"] == {"n_seen": 8}
    later = run_with_losses(1.0)
    later.load_state_dict(state)
    assert later.weight == 1.0


def test_checkpoint_that_fails_leaves_the_earlier_file(tmp_path: Path):
    def save(run: TrainingRun, path: Path) -> None:
        path.write_text(f"epoch {run.epoch}")
        if run.epoch == 1:
            raise OSError("disk full")

    checkpoint = Checkpoint(tmp_path / "state.txt", save=save)
    with pytest.warns(UserWarning, match=r"state.txt' could not be written: disk full"):
        run = run_with_losses(2.0, 1.0).train(checkpoint)
    assert run.step == run.n_steps  # the training goes on
    assert (tmp_path / "state.txt").read_text() == "epoch 0"
    assert [path.name for path in tmp_path.iterdir()] == ["state.txt"]


def test_checkpoint_of_a_path_that_cannot_be_written_loses_no_training(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    checkpoint = Checkpoint(tmp_path / "file" / "state.safetensors")
    with pytest.warns(UserWarning, match="could not be written.*pass another path"):
        run = run_with_losses(2.0, 1.0).train(checkpoint)
    assert (run.step, run.weight) == (run.n_steps, 1.0)
    assert checkpoint.saved_paths == []


def test_checkpoint_on_a_full_disk_loses_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """safetensors reports errors of the file system by an error of its own."""
    from safetensors import SafetensorError

    from neumap.archive import file

    def without_space(tensors: Any, path: Any, **options: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(file, "save_file", without_space)
    with pytest.warns(UserWarning, match="could not be written: .*No space left"):
        run = run_with_losses(2.0, 1.0).train(Checkpoint(tmp_path / "state"))
    assert run.step == run.n_steps
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_tied_weights(tmp_path: Path):
    class Tied(ScriptedRun):
        def state_dict(self):
            return {"a": self.encoder.weight, "b": self.encoder.weight, "none": {}}

    path = tmp_path / "tied.safetensors"
    Tied([{"loss": 1.0}]).train(Checkpoint(path))
    state = load_checkpoint(path).state
    assert state["a"].item() == state["b"].item() == 0.0
    assert state["none"] == {}


def test_checkpoint_names_the_fields_there_are(tmp_path: Path):
    with pytest.raises(ValueError, match=r"got 'accuracy' in .*Use one of: epoch, loss, step"):
        run_with_losses(1.0).train(Checkpoint(tmp_path / "{accuracy}.safetensors"))


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path: Path):
    from safetensors.torch import save_file

    run_with_losses(1.0).train(Checkpoint(tmp_path / "good"))
    content = (tmp_path / "good").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-2])
    (tmp_path / "flipped").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign")
    write_archive(tmp_path / "model.neumap", tensors={}, metadata={"estimator": {}})
    for name, reason in [
        ("cut", "damaged"),
        ("flipped", "checksum of 'weights.encoder.weight' differs"),
        ("foreign", "safetensors file of another program"),
        ("model.neumap", r"must be a checkpoint, got .* contains estimator"),
        ("missing", "got nothing there"),
    ]:
        with pytest.raises(ArchiveError, match=reason):
            load_checkpoint(tmp_path / name)


def test_no_flipped_bit_of_a_checkpoint_gives_other_numbers(tmp_path: Path):
    path = tmp_path / "state"
    run_with_losses(1.0).train(Checkpoint(path))
    whole, good = path.read_bytes(), load_checkpoint(path)
    generator = np.random.default_rng(0)
    refused = 0
    for position in generator.integers(8 * len(whole), size=300).tolist():
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = load_checkpoint(path)
        except ArchiveError:
            refused += 1
            continue
        assert (found.epoch, found.step, found.logs) == (good.epoch, good.step, good.logs)
        assert found.state.keys() == good.state.keys()
        assert all(torch.equal(found.state[key], value) for key, value in good.state.items())
    assert refused > 250


# --- progress bar, copies, imports ----------------------------------------------------------


def test_progress_bar_writes_steps_and_loss_to_stderr(capsys: pytest.CaptureFixture[str]):
    run_with_losses(1.0, 0.123456).train(ProgressBar())
    out, err = capsys.readouterr()
    assert out == ""
    assert "8/8" in err
    assert "loss=0.1235" in err
    run_with_losses(1.0).train(ProgressBar(enabled=False))
    assert capsys.readouterr() == ("", "")


class Limited(ScriptedRun):
    """Has time for half of its steps: progress goes by the clock."""

    @property
    def progress(self) -> float:
        return min(1.0, 2 * self.step / self.n_steps)


def test_with_a_time_limit_the_bar_expects_the_steps_there_is_time_for():
    bar, seen = ProgressBar(), []

    def note(run: Any) -> None:
        assert bar._bar is not None
        seen.append((bar._bar.n, bar._bar.total))
        run.stop_training = run.progress >= 1.0

    Limited([{"loss": 1.0}] * 4).train(bar, LambdaCallback(on_step_end=note))
    assert seen == [(step, 8) for step in range(1, 9)]  # of 16 planned


def test_one_bar_for_trainings_that_follow_each_other(capsys: pytest.CaptureFixture[str]):
    bar, seen = ProgressBar(), []
    look = LambdaCallback(on_step_end=lambda run: seen.append((id(bar._bar), bar._bar.n)))
    for part in ((0.0, 0.25), (0.25, 1.0)):
        run = run_with_losses(0.5)
        run.part = part
        run.train(bar, look)
    assert len({bar_id for bar_id, _ in seen}) == 1
    assert [n for _, n in seen] == [6.25, 12.5, 18.75, 25.0, 43.75, 62.5, 81.25, 100.0]
    assert bar._bar is None
    assert "100%" in capsys.readouterr().err
    run_with_losses(0.5).train(bar)  # a training of its own has a bar of its own
    assert "4/4" in capsys.readouterr().err


def test_callbacks_can_be_copied_and_pickled_after_a_training(tmp_path: Path):
    callbacks = [EarlyStopping(), Snapshots(), TimeBudget(9.0), Checkpoint(tmp_path / "c")]
    callbacks.append(ProgressBar())
    run_with_losses(1.0, 2.0).train(*callbacks)
    for callback in callbacks:
        copied = pickle.loads(pickle.dumps(copy.deepcopy(callback)))
        assert vars(copied).keys() == vars(callback).keys()


def test_importing_the_room_loads_neither_torch_nor_tqdm():
    code = "import sys, neumap.callbacks; sys.exit(bool({'torch', 'tqdm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------ loggers


def test_every_loss_of_every_report_is_handed_over_with_its_step() -> None:
    found: list[tuple[str, float, int]] = []
    logs = [{"loss": 3.0, "umap_loss": 2.0}, {"loss": 2.0, "umap_loss": np.float32(1.5)}]
    logger = ScalarLogger(lambda *call: found.append(call), prefix="map/")
    for _ in range(2):  # one object in two trainings
        found.clear()
        ScriptedRun(logs).train(logger)
        assert found == [
            ("map/loss", 3.0, STEPS_PER_EPOCH),
            ("map/umap_loss", 2.0, STEPS_PER_EPOCH),
            ("map/loss", 2.0, 2 * STEPS_PER_EPOCH),
            ("map/umap_loss", 1.5, 2 * STEPS_PER_EPOCH),
        ]
        assert all(type(value) is float for _, value, _ in found)
    assert not logger.wants_steps


def test_a_logger_may_skip_reports_but_not_the_last() -> None:
    steps: list[int] = []
    logger = ScalarLogger(lambda name, value, step: steps.append(step), every=2)
    ScriptedRun([{"loss": 1.0}] * 5).train(logger)
    assert steps == [2 * STEPS_PER_EPOCH, 4 * STEPS_PER_EPOCH, 5 * STEPS_PER_EPOCH]
    steps.clear()
    ScriptedRun([{"loss": 1.0}] * 4).train(logger)
    assert steps == [2 * STEPS_PER_EPOCH, 4 * STEPS_PER_EPOCH]


def test_a_logger_of_the_wrong_kind_says_so() -> None:
    with pytest.raises(TypeError, match="write must be a function of name, value and step, got 3"):
        ScalarLogger(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every must be at least 1 epoch, got 0"):
        ScalarLogger(print, every=0)


class Writers:
    """Experiment trackers as they are called: names of the arguments and their order."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        self.tensorboard = (tag, scalar_value, global_step)

    def log_metric(self, key: str, value: float, step: int | None = None) -> None:
        self.mlflow = (key, value, step)

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        self.wandb = (data, step)


def test_loggers_fit_tensorboard_mlflow_and_wandb() -> None:
    to = Writers()
    loggers = (
        ScalarLogger(to.add_scalar),
        ScalarLogger(to.log_metric),
        ScalarLogger(lambda name, value, step: to.log({name: value}, step=step)),
    )
    ScriptedRun([{"loss": 0.5}]).train(*loggers)
    assert to.tensorboard == to.mlflow == ("loss", 0.5, STEPS_PER_EPOCH)
    assert to.wandb == ({"loss": 0.5}, STEPS_PER_EPOCH)


LOGGED = [(STEPS_PER_EPOCH, 3.0), (2 * STEPS_PER_EPOCH, 2.0)]


def train_with(logger: ScalarLogger) -> None:
    ScriptedRun([{"loss": 3.0}, {"loss": 2.0}]).train(logger)


@pytest.mark.integration("tensorboard")
def test_tensorboard_itself_reads_what_was_logged(tmp_path: Path) -> None:
    tensorboard = importlib.import_module("torch.utils.tensorboard")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        train_with(ScalarLogger(writer.add_scalar))
    read = events.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == LOGGED


@pytest.mark.integration("mlflow")
def test_mlflow_itself_reads_what_was_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Any
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "runs").as_uri()
    package.set_tracking_uri(store)
    with package.start_run() as run:
        train_with(ScalarLogger(package.log_metric))
    history = package.MlflowClient(store).get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == LOGGED


BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def wandb_records(written: bytes) -> Iterator[bytes]:
    """Yield the records of a W&B file: LevelDB's log format after a header of 7 bytes."""
    at, record = 7, b""
    while at + 7 <= len(written):
        if BLOCK - at % BLOCK < 7:  # no room for a part: the block ends in zeros
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", written, at)
        assert kind in (FULL, FIRST, MIDDLE, LAST), (kind, at)
        part = written[at + 7 : at + 7 + length]
        if len(part) < length:  # not yet written
            return
        record = part if kind in (FULL, FIRST) else record + part
        if kind in (FULL, LAST):
            yield record
        at += 7 + length


def test_records_that_cross_a_block_are_put_together() -> None:
    def part(kind: int, content: bytes) -> bytes:
        return struct.pack("<IHB", 0, len(content), kind) + content

    long = bytes(range(256)) * 300  # 76,800 bytes, in three blocks
    first = BLOCK - 7 - 7 - 3 - 7  # of block 0: its header, a record of three bytes, its own head
    rest = long[first:]
    parts = part(FULL, b"abc") + part(FIRST, long[:first]) + part(MIDDLE, rest[: BLOCK - 7])
    parts += part(LAST, rest[BLOCK - 7 :])
    gap = BLOCK - (7 + len(parts)) % BLOCK - 5  # leaves 5 bytes of the block, too few for a part
    filling = bytes(gap - 7)
    written = b"header." + parts + part(FULL, filling) + bytes(5) + part(FULL, b"d")
    assert list(wandb_records(written)) == [b"abc", long, filling, b"d"]


@pytest.mark.integration("wandb")
def test_wandb_itself_keeps_what_was_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Any
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    quiet = package.Settings(console="off", silent=True)
    run = package.init(mode="offline", project="maps", dir=tmp_path, settings=quiet)
    train_with(ScalarLogger(lambda name, value, step: run.log({name: value}, step=step)))
    run.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    until = time.monotonic() + 60
    while True:  # another process writes the file, and may be at it when the run has finished
        records = [messages.Record.FromString(each) for each in wandb_records(file.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            break
        assert time.monotonic() < until, "W&B's file is not complete"
        time.sleep(0.1)
    history = [each.history for each in records if each.WhichOneof("record_type") == "history"]
    logged = [
        (row.step.num, float(item.value_json))
        for row in history
        for item in row.item
        if "loss" in (item.key, *item.nested_key)
    ]
    assert logged == LOGGED
