"""Callbacks that end a training: when it no longer improves, or after a given time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from neumap.callbacks.base import Callback, TrainingRun

__all__ = ["EarlyStopping", "TimeBudget"]


class EarlyStopping(Callback):
    """Stops the training when a logged value no longer improves.

    Parameters
    ----------
    monitor : str, default="loss"
        Name in ``run.logs``. ``"val_loss"`` exists when the training has validation data.
    min_delta : float, default=0.0
        Only a change larger than this counts as an improvement. Losses of sampled batches are
        noisy; about a thousandth of the loss is enough to ignore the noise.
    patience : int, default=3
        Epochs (reports) without improvement before the training stops; at least 1.
    mode : {"min", "max"}, default="min"
        Whether smaller or larger is better.
    restore_best : bool, default=True
        Restore the modules of the best epoch when the training ends, whether this callback stops
        it or not. Keeps one copy of their state during training.

    Attributes
    ----------
    best_score : float or None
        Best value in the last training; None before the first.
    best_epoch : int or None
        Epoch of that value, from 0.
    stopped_epoch : int or None
        Epoch after which this callback stopped the training; None if it did not.

    Raises
    ------
    ValueError
        At construction if a setting is out of range; in the training if ``monitor`` is not logged.

    Examples
    --------
    >>> EarlyStopping(monitor="val_loss", patience=5).patience
    5
    """

    def __init__(
        self,
        monitor: str = "loss",
        *,
        min_delta: float = 0.0,
        patience: int = 3,
        mode: Literal["min", "max"] = "min",
        restore_best: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}. Use 'min' for losses.")
        if patience < 1:
            raise ValueError(f"patience must be at least 1 epoch, got {patience}. Use 1 or more.")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be at least 0, got {min_delta}. Use 0 or more.")
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = patience
        self.mode = mode
        self.restore_best = restore_best
        self._reset()

    def _reset(self) -> None:
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_state: dict[str, Any] | None = None
        self._n_without_progress = 0

    def on_fit_start(self, run: TrainingRun) -> None:
        self._reset()

    def state(self) -> dict[str, Any]:
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "n_without_progress": self._n_without_progress,
            "best_state": self._best_state,
        }

    def resume(self, state: Any, run: TrainingRun) -> None:
        from neumap.archive import check_like
        from neumap.archive.schema import check, nullable, size

        whole = nullable(size)
        schema = {
            "best_score": (int, float, type(None)),
            "best_epoch": whole,
            "stopped_epoch": whole,
            "n_without_progress": size,
            "best_state": (dict, type(None)),
        }
        check(state, schema, "callbacks.EarlyStopping")
        if state["best_state"] is not None:
            where = "callbacks.EarlyStopping.best_state"
            check_like(state["best_state"], run.state_dict(), where)
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self.stopped_epoch = state["stopped_epoch"]
        self._n_without_progress = state["n_without_progress"]
        self._best_state = state["best_state"] if self.restore_best else None

    def on_epoch_end(self, run: TrainingRun) -> None:
        score = logged(run, self.monitor, asked_by=f"EarlyStopping(monitor={self.monitor!r})")
        if self._is_better(score):
            self.best_score, self.best_epoch = score, run.epoch
            self._n_without_progress = 0
            if self.restore_best:
                self._best_state = copy_state(run.state_dict())
            return
        self._n_without_progress += 1
        if self._n_without_progress >= self.patience:
            self.stopped_epoch = run.epoch
            run.stop_training = True

    def on_fit_end(self, run: TrainingRun) -> None:
        if self._best_state is not None and self.best_epoch != run.epoch:
            run.load_state_dict(self._best_state)
        self._best_state = None  # the user may keep the callback, which should not hold the weights

    def _is_better(self, score: float) -> bool:
        if math.isnan(score):
            return False
        if self.best_score is None:
            return True
        gain = self.best_score - score if self.mode == "min" else score - self.best_score
        return gain > self.min_delta


class TimeBudget(Callback):
    """Stops the training after a given time.

    The time of the run is checked after each step, so the training ends within one step of the
    budget. Neighbour search and graph construction come before the training and are not counted.

    Parameters
    ----------
    max_time_seconds : float
        Training time in seconds, larger than 0.

    Attributes
    ----------
    stopped_step : int or None
        Step after which this callback stopped the last training; None if it did not.

    Examples
    --------
    >>> TimeBudget(60.0).max_time_seconds
    60.0
    """

    def __init__(self, max_time_seconds: float) -> None:
        if not max_time_seconds > 0:
            raise ValueError(
                f"max_time_seconds must be positive, got {max_time_seconds}. Pass seconds, e.g. 60."
            )
        self.max_time_seconds = max_time_seconds
        self.stopped_step: int | None = None

    def on_fit_start(self, run: TrainingRun) -> None:
        self.stopped_step = None

    @property
    def wants_gradients(self) -> bool:
        return False

    def on_step_end(self, run: TrainingRun) -> None:
        self._stop_when_spent(run)

    def on_epoch_end(self, run: TrainingRun) -> None:
        self._stop_when_spent(run)  # for loops that do not stop within an epoch

    def _stop_when_spent(self, run: TrainingRun) -> None:
        if run.seconds >= self.max_time_seconds:
            self.stopped_step = run.step
            run.stop_training = True


def logged(run: TrainingRun, name: str, *, asked_by: str) -> float:
    """Return the value of ``name`` in the run's logs.

    Raises
    ------
    ValueError
        If there is none; the message lists the names there are.
    """
    if name in run.logs:
        return float(run.logs[name])
    known = ", ".join(sorted(run.logs)) or "nothing yet"
    hint = " 'val_loss' needs reconstruction_validation." if name == "val_loss" else ""
    raise ValueError(
        f"The value of {asked_by} must be in the logs of the training, got {name!r}, but they "
        f"have: {known}. Choose one of these names.{hint}"
    )


def copy_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a state dict, nested or flat, so that later training steps do not change it."""
    return {name: _copy_value(value) for name, value in state.items()}


def _copy_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return copy_state(value)
    if hasattr(value, "detach"):  # a tensor; torch itself need not be imported here
        return value.detach().clone()
    return value
