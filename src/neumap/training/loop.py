"""The training loop.

In: an embedder, the terms of the objective, a sampler of edges and a plan. Out: the history; the
modules are trained in place. Losses stay on the device until a report is due, so the loop does not
wait for a GPU at every step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neumap._device import torch_threads
from neumap._modes import draws_from_torch
from neumap._random import torch_seeded
from neumap._warnings import warn_user
from neumap.callbacks import Callback, CallbackList
from neumap.losses.terms import Term
from neumap.sampling import EdgeSource
from neumap.training.embedders import Embedder
from neumap.training.optimizers import Optimizer, OptimizerFactory, default_optimizer
from neumap.training.plan import Plan
from neumap.training.precision import VerifiedStep
from neumap.training.replay import Replay
from neumap.training.steps import Step, choose_step, record_step

__all__ = ["History", "TrainingDivergedError", "train"]

History = dict[str, list[float]]
Validation = Callable[[], Mapping[str, float]]

# Steps between two checks of the loss for NaN. A check waits for the device.
DIVERGENCE_CHECK_STEPS = 100


class TrainingDivergedError(RuntimeError):
    """The loss or a weight became infinite or NaN."""


class _Run:
    """One training as callbacks see it (:class:`neumap.callbacks.TrainingRun`).

    What callbacks call an epoch is one report of the plan.
    """

    def __init__(
        self, embedder: Embedder, terms: Sequence[Term], plan: Plan, part: tuple[float, float]
    ) -> None:
        self.embedder = embedder
        self.plan = plan
        self.part = part
        self.modules: dict[str, nn.Module] = {"embedder": embedder}  # type: ignore[dict-item]
        for term in terms:
            self.modules.update(term.modules)
        self.epoch = 0
        self.n_epochs = len(plan.report_steps())
        self.step = 0
        self.n_steps = plan.n_steps
        self.logs: dict[str, float] = {}
        self.stop_training = False
        self.optimizer: Optimizer | None = None
        self.replay: Replay | None = None
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def is_replayed(self) -> bool:
        """Whether the steps are replayed from CUDA graphs."""
        return self.replay is not None and self.replay.is_replayed

    @property
    def encoder(self) -> nn.Module | None:
        return self.embedder.encoder

    @property
    def decoder(self) -> nn.Module | None:
        return self.modules.get("decoder")

    @property
    def progress(self) -> float:
        return self.plan.progress(self.step, self.seconds)

    def embed(self) -> np.ndarray:
        return self.embedder.embed_all()

    def state_dict(self) -> dict[str, Any]:
        return {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, module in self.modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )


class _Tally:
    """Running means of the losses since the last report, kept on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}  # not every term takes part in every step
        self.n_steps = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        self.n_steps += 1
        for name, value in values.items():
            # A copy: a replayed step writes its next loss into the same memory.
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}


def train(  # noqa: PLR0913 - each is a separate choice of the caller
    embedder: Embedder,
    terms: Sequence[Term],
    sampler: EdgeSource,
    plan: Plan,
    *,
    seed: int,
    optimizer: OptimizerFactory = default_optimizer,
    callbacks: Sequence[Callback] = (),
    validate: Validation | None = None,
    part: tuple[float, float] = (0.0, 1.0),
) -> History:
    """Train an embedder, and the modules of the terms, on edges of a graph.

    Parameters
    ----------
    embedder : Embedder
        Computes positions; trained in place.
    terms : sequence of Term
        The objective is their weighted sum.
    sampler : EdgeSource
        Source of batches.
    plan : Plan
        Steps, batch sizes, learning rates, reports.
    seed : int
        Seed of random operations in the modules, such as dropout.
    optimizer : callable, default=fused Adam
        Function from parameters to an optimiser.
    callbacks : sequence of Callback
        Called as :mod:`neumap.callbacks` describes. What they call an epoch is one report.
    validate : callable, optional
        Returns additional entries of the report, such as ``{"val_loss": ...}``.
    part : tuple of float, default=(0, 1)
        Where this training begins and ends in the work of several that follow each other, for a
        progress bar that shows all of them.

    Returns
    -------
    dict of str to list of float
        One value per report for ``"loss"`` and every term: the mean over the steps since the
        report before.

    Raises
    ------
    TrainingDivergedError
        If the loss or a weight is no longer finite.
    """
    step = choose_step(embedder, terms)
    begin = partial(
        _train,
        embedder,
        terms,
        sampler,
        plan,
        seed=seed,
        optimizer=optimizer,
        callbacks=callbacks,
        validate=validate,
        part=part,
    )
    if not isinstance(step, VerifiedStep):
        return begin(step)
    start = step.rewind()
    try:
        return begin(step)
    except TrainingDivergedError as error:
        if not step.is_mixed:
            raise
        warn_user(
            f"The training begins again in float32, which takes longer, since in bfloat16 it "
            f"failed: {error}",
            RuntimeWarning,
        )
    start.restore()
    step.use_float32()
    return begin(step)


def _train(  # noqa: PLR0913 - the arguments of train
    embedder: Embedder,
    terms: Sequence[Term],
    sampler: EdgeSource,
    plan: Plan,
    step: Step,
    *,
    seed: int,
    optimizer: OptimizerFactory,
    callbacks: Sequence[Callback],
    validate: Validation | None,
    part: tuple[float, float],
) -> History:
    """Train with this step."""
    run = _Run(embedder, terms, plan, part)
    run.optimizer = optimizer(step.parameters())
    hooks = CallbackList(callbacks)
    step, updater = record_step(
        step, run.optimizer, n_steps=plan.n_steps, is_watched=hooks.wants_gradients
    )
    run.replay = step if isinstance(step, Replay) else None
    history: History = {}
    for module in run.modules.values():
        module.train()
    draws = any(map(draws_from_torch, run.modules.values()))
    seeded = torch_seeded(seed, "modules") if draws else nullcontext()
    with seeded, torch_threads(step.n_threads):
        hooks.on_fit_start(run)
        for report, last_step in enumerate(plan.report_steps()):
            if run.stop_training or _time_is_up(run):
                break
            run.epoch = report
            _train_until(last_step, run, step, updater, sampler, hooks)
            _check_weights(step.parameters(), run)
            _report(run, history, validate)
            hooks.on_epoch_end(run)
        step.finish()
        hooks.on_fit_end(run)
    for module in run.modules.values():
        module.eval()
    return history


def _train_until(
    last_step: int,
    run: _Run,
    step: Step,
    optimizer: Optimizer,
    sampler: EdgeSource,
    hooks: CallbackList,
) -> None:
    """Train until the next report is due, and leave the mean losses in ``run.logs``."""
    run.logs = {}
    hooks.on_epoch_start(run)
    tally = _Tally()
    while run.step < last_step and not run.stop_training:
        progress = run.progress
        if progress >= 1.0 and tally.n_steps:  # each report has at least one step
            run.stop_training = True
            break
        _set_learning_rate(optimizer, run.plan.learning_rate(progress))
        indices = sampler.draw(run.plan.batch_edges)  # (2 n_edges,), heads, then tails
        losses = step(indices, progress)  # forward and backward
        optimizer.step()
        run.step += 1
        tally.add(losses)
        if run.step % DIVERGENCE_CHECK_STEPS == 0:
            _check_finite(losses["loss"], run)
        if hooks.wants_steps:
            hooks.on_step_end(run)
    if tally.n_steps:
        run.logs = tally.means()


def _time_is_up(run: _Run) -> bool:
    """Whether the time limit of the plan is reached; never before the first step."""
    return run.step > 0 and run.progress >= 1.0


def _set_learning_rate(optimizer: Optimizer, learning_rate: float | None) -> None:
    if learning_rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def _report(run: _Run, history: History, validate: Validation | None) -> None:
    """Add one line to the history."""
    if not run.logs:  # stopped in on_epoch_start, before the first step
        return
    for value in run.logs.values():
        _check_finite(torch.tensor(value), run)
    if validate is not None:
        run.logs = {**run.logs, **validate()}
    n_before = max(map(len, history.values()), default=0)
    for name, value in run.logs.items():
        history.setdefault(name, [math.nan] * n_before).append(value)
    for curve in history.values():
        curve.extend([math.nan] * (n_before + 1 - len(curve)))


def _check_finite(loss: Tensor, run: _Run) -> None:
    if not bool(torch.isfinite(loss)):
        raise _diverged(f"The loss became {float(loss)}", run)


def _check_weights(parameters: Sequence[nn.Parameter], run: _Run) -> None:
    """Check the weights themselves: a ReLU can hide a NaN from the loss."""
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        raise _diverged("Weights became infinite or NaN", run)


def _diverged(what: str, run: _Run) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"{what} at step {run.step} of {run.n_steps}. Likely causes: a learning rate too high for "
        "this network (lower learning_rate, or pass an optimizer with a smaller one), inputs of "
        "very large scale (standardise X), or an encoder or decoder that returns NaN for some row."
    )
