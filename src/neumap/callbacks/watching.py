"""Callbacks that only observe: copies of the embedding, logs, a progress bar, your functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neumap.callbacks.base import Callback, TrainingRun

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["LambdaCallback", "ProgressBar", "ScalarLogger", "Snapshot", "Snapshots"]

Hook = Callable[[TrainingRun], object]


class Snapshot(NamedTuple):
    """The embedding at one step of the training."""

    step: int
    """Optimiser steps done."""
    embedding: np.ndarray
    """Positions of all training rows, shape (n_samples, n_components)."""


class Snapshots(Callback):
    """Keeps copies of the embedding during training, to plot or to animate.

    Each copy costs one pass of the encoder over all rows and n_samples * n_components floats.
    Checkpoints do not hold them: after a training that was continued, the first is where it was
    continued.

    Parameters
    ----------
    every : int, default=1
        Epochs (reports) between copies. The last epoch is always kept.
    include_start : bool, default=True
        Whether to keep the embedding before the first step as well.

    Attributes
    ----------
    snapshots : list of Snapshot
        Pairs (step, embedding) of the last training, in order.

    Examples
    --------
    >>> Snapshots(every=2).snapshots
    []
    """

    def __init__(self, every: int = 1, *, include_start: bool = True) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 epoch, got {every}. Use 1 for each epoch.")
        self.every = every
        self.include_start = include_start
        self.snapshots: list[Snapshot] = []

    def on_fit_start(self, run: TrainingRun) -> None:
        self.snapshots = []
        if self.include_start:
            self._copy(run)

    def on_epoch_end(self, run: TrainingRun) -> None:
        if (run.epoch + 1) % self.every == 0:
            self._copy(run)

    def on_fit_end(self, run: TrainingRun) -> None:
        if not self.snapshots or self.snapshots[-1].step != run.step:
            self._copy(run)

    def _copy(self, run: TrainingRun) -> None:
        self.snapshots.append(Snapshot(run.step, np.array(run.embed(), copy=True)))


class LambdaCallback(Callback):
    """Calls plain functions at the hooks.

    Parameters
    ----------
    on_fit_start, on_epoch_start, on_step_end, on_epoch_end, on_fit_end : callable or None
        Each is called with the run. ``on_step_end`` runs after optimiser steps and should be fast.

    Examples
    --------
    >>> losses = []
    >>> keep = LambdaCallback(on_epoch_end=lambda run: losses.append(run.logs["loss"]))
    >>> keep.wants_steps
    False
    """

    def __init__(
        self,
        *,
        on_fit_start: Hook | None = None,
        on_epoch_start: Hook | None = None,
        on_step_end: Hook | None = None,
        on_epoch_end: Hook | None = None,
        on_fit_end: Hook | None = None,
    ) -> None:
        self._hooks = {
            "on_fit_start": on_fit_start,
            "on_epoch_start": on_epoch_start,
            "on_step_end": on_step_end,
            "on_epoch_end": on_epoch_end,
            "on_fit_end": on_fit_end,
        }
        for name, hook in self._hooks.items():
            if hook is not None and not callable(hook):
                raise TypeError(
                    f"{name} must be a function of the run, got {hook!r} of type "
                    f"{type(hook).__name__}. Pass a callable, for example lambda run: ..."
                )

    @property
    def wants_steps(self) -> bool:
        return self._hooks["on_step_end"] is not None

    def on_fit_start(self, run: TrainingRun) -> None:
        self._call("on_fit_start", run)

    def on_epoch_start(self, run: TrainingRun) -> None:
        self._call("on_epoch_start", run)

    def on_step_end(self, run: TrainingRun) -> None:
        self._call("on_step_end", run)

    def on_epoch_end(self, run: TrainingRun) -> None:
        self._call("on_epoch_end", run)

    def on_fit_end(self, run: TrainingRun) -> None:
        self._call("on_fit_end", run)

    def _call(self, name: str, run: TrainingRun) -> None:
        hook = self._hooks[name]
        if hook is not None:
            hook(run)


class ScalarLogger(Callback):
    """Hands the losses of each report to a function, such as those of experiment trackers.

    Parameters
    ----------
    write : callable
        Called as ``write(name, value, step)`` with the name of a loss, a float, and the number of
        optimiser steps so far. ``SummaryWriter().add_scalar`` of TensorBoard and
        ``mlflow.log_metric`` are such functions; for W&B pass
        ``lambda name, value, step: run.log({name: value}, step=step)``.
    every : int, default=1
        Epochs (reports) between calls. The last epoch is always handed over. The estimator's
        `loss_report_frequency` sets the number of reports.
    prefix : str, default=""
        Text before each name, such as ``"neumap/"``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from neumap import ParametricUMAP
    >>> found = []
    >>> logger = ScalarLogger(lambda name, value, step: found.append((name, step)))
    >>> model = ParametricUMAP(preset="fast", n_epochs=20, callbacks=[logger], random_state=0)
    >>> _ = model.fit(load_iris().data)
    >>> len(found) == sum(map(len, model.history_.values())), found[0][0]
    (True, 'loss')
    """

    def __init__(
        self, write: Callable[[str, float, int], object], *, every: int = 1, prefix: str = ""
    ) -> None:
        if not callable(write):
            raise TypeError(
                "write must be a function of name, value and step, got "
                f"{write!r} of type {type(write).__name__}. Pass a callable, for example "
                "SummaryWriter().add_scalar."
            )
        if every < 1:
            raise ValueError(f"every must be at least 1 epoch, got {every}. Use 1 for each epoch.")
        self.write = write
        self.every = every
        self.prefix = prefix
        self._written = -1

    def on_fit_start(self, run: TrainingRun) -> None:
        self._written = -1

    def on_epoch_end(self, run: TrainingRun) -> None:
        if (run.epoch + 1) % self.every == 0:
            self._hand_over(run)

    def on_fit_end(self, run: TrainingRun) -> None:
        if self._written != run.step:
            self._hand_over(run)

    def _hand_over(self, run: TrainingRun) -> None:
        for name, value in run.logs.items():
            self.write(self.prefix + name, float(value), run.step)
        self._written = run.step


PARTS_FORMAT = "{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]"


def _part(run: TrainingRun) -> tuple[float, float]:
    """Return where a training begins and ends among those that follow each other."""
    part: tuple[float, float] = getattr(run, "part", (0.0, 1.0))
    return part


class ProgressBar(Callback):
    """Shows a progress bar over the optimiser steps, with the latest loss, on stderr.

    With a time limit the bar counts the steps that are expected within it. Where a network is
    guided by another one, which is trained first, the bar shows the work of both in per cent.

    Parameters
    ----------
    enabled : bool, default=True
        If False, nothing is shown, and nothing is done at each step.
    monitor : str, default="loss"
        Name in ``run.logs`` of the value shown next to the bar.
    description : str, default="training"
        Text before the bar.
    tqdm_kwds : mapping, optional
        Additional arguments of ``tqdm.tqdm``, such as ``{"ncols": 80}``.

    Examples
    --------
    >>> ProgressBar(enabled=False).wants_steps
    False
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        monitor: str = "loss",
        description: str = "training",
        tqdm_kwds: Mapping[str, Any] | None = None,
    ) -> None:
        self.tqdm_kwds = dict(tqdm_kwds or {})
        self.enabled = enabled
        self.monitor = monitor
        self.description = description
        self._bar: tqdm[Any] | None = None

    @property
    def wants_steps(self) -> bool:
        return self.enabled

    @property
    def on_first_process_only(self) -> bool:
        return True

    def on_fit_start(self, run: TrainingRun) -> None:
        begins, ends = _part(run)
        if begins == 0.0 or self._bar is None:
            self._close()
        if not self.enabled or self._bar is not None:
            return
        from tqdm.auto import tqdm

        shown: dict[str, Any] = {"total": run.n_steps, "desc": self.description, "unit": "step"}
        shown["initial"] = run.step  # of a training that is continued
        if (begins, ends) != (0.0, 1.0):
            # The mean speed since the beginning: a step of one network is not one of another.
            shown |= {
                "initial": 0,
                "total": 100,
                "unit": "%",
                "bar_format": PARTS_FORMAT,
                "smoothing": 0.0,
            }
        self._bar = tqdm(**{**shown, **self.tqdm_kwds})

    @property
    def wants_gradients(self) -> bool:
        return False

    def on_step_end(self, run: TrainingRun) -> None:
        self._show(run)

    def on_epoch_end(self, run: TrainingRun) -> None:
        if self._bar is None:
            return
        if self.monitor in run.logs:
            self._bar.set_postfix({self.monitor: f"{run.logs[self.monitor]:.4g}"}, refresh=False)
        self._show(run)

    def on_fit_end(self, run: TrainingRun) -> None:
        if _part(run)[1] == 1.0:
            self._close()

    def _show(self, run: TrainingRun) -> None:
        if self._bar is None:
            return
        progress = float(getattr(run, "progress", run.step / run.n_steps))
        begins, ends = _part(run)
        if (begins, ends) != (0.0, 1.0):
            done = 100.0 * (begins + (ends - begins) * progress)
        else:
            done = run.step
            # With a time limit fewer steps are expected than planned.
            expected = round(run.step / progress) if progress else run.n_steps
            if self._bar.total != expected and "total" not in self.tqdm_kwds:
                self._bar.total = expected
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None  # an open bar cannot be pickled or copied
