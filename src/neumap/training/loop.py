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
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neumap._device import torch_threads
from neumap._modes import draws_from_torch
from neumap._random import torch_seeded
from neumap._ranks import ALONE, Ranks, current_ranks
from neumap._warnings import warn_user
from neumap.archive.schema import check, mapping_of, misfit
from neumap.callbacks import Callback, CallbackList, Checkpoint
from neumap.losses.terms import Term
from neumap.sampling import EdgeSource
from neumap.training.embedders import Embedder
from neumap.training.optimizers import Optimizer, OptimizerFactory, default_optimizer
from neumap.training.plan import Plan
from neumap.training.precision import VerifiedStep
from neumap.training.replay import Replay
from neumap.training.resuming import ADVICE, Training, callback_states, resume_callbacks
from neumap.training.sharing import sharing_ranks
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
        self,
        embedder: Embedder,
        training: Training,
        plan: Plan,
        part: tuple[float, float],
        origin: Mapping[str, Any],
    ) -> None:
        self.ranks = current_ranks()
        self.agrees_at_steps = False
        self._agreed_seconds = 0.0
        self.embedder = embedder
        self.training = training
        self.modules = training.modules
        self.plan = plan
        self.part = part
        self.origin = origin
        self.callbacks: Sequence[Callback] = ()
        self.history: History = {}
        self.epoch = 0
        self.n_reports = 0
        self.n_epochs = len(plan.report_steps())
        self.step = 0
        self.n_steps = plan.n_steps
        self.logs: dict[str, float] = {}
        self.stop_training = False
        self.optimizer = training.optimizer
        self.replay: Replay | None = None
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._own_seconds if self.ranks.is_alone else self._agreed_seconds

    @property
    def _own_seconds(self) -> float:
        return time.perf_counter() - self._began

    def agree(self) -> None:
        """Let all processes have the time of the first one, and end if one wants to end."""
        if self.ranks.is_alone:
            return
        seconds = self._own_seconds if self.ranks.is_first else 0.0
        self._agreed_seconds, n_stops = self.ranks.sums([seconds, float(self.stop_training)])
        self.stop_training = n_stops > 0.0

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
        return self.training.weights()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.training.load_weights(state)

    def checkpoint(self) -> dict[str, Any]:
        return {
            **self.training.state(),
            "origin": dict(self.origin),
            "callbacks": callback_states(self.callbacks),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "max_time": self.plan.max_time,
            "stopped": self.stop_training,
            "logs": dict(self.logs),
            "history": dict(self.history),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`checkpoint` returned.

        Raises
        ------
        ArchiveError
            If it is not the state of this training.
        """
        schema = {
            "seconds": (int, float),
            "stopped": bool,
            "max_time": (int, float, type(None)),
            "history": mapping_of([(int, float)]),
        }
        check(state, schema, "checkpoint")
        epoch, step, seconds = state["epoch"], state["step"], state["seconds"]
        last_steps = self.plan.report_steps()
        if epoch >= len(last_steps) or not 0 <= step <= last_steps[epoch]:
            raise misfit("step", f"one of {self.n_steps} in {self.n_epochs} epochs", step, ADVICE)
        if not 0 <= seconds < math.inf:
            raise misfit("seconds", "a time", seconds, ADVICE)
        self.training.load(state)
        self.epoch, self.n_reports, self.step = epoch, epoch + 1, step
        self.logs = dict(state["logs"])
        self.history = {name: list(curve) for name, curve in state["history"].items()}
        self.stop_training = state["stopped"]
        self.plan = replace(self.plan, max_time=state["max_time"])
        self._began = time.perf_counter() - seconds


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
    origin: Mapping[str, Any] | None = None,
    resume: Mapping[str, Any] | None = None,
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
    origin : mapping, optional
        What a checkpoint says about data and parameters.
    resume : mapping, optional
        State of a checkpoint (:func:`neumap.callbacks.checkpoint.read_checkpoint`) to go on from.

    Returns
    -------
    dict of str to list of float
        One value per report for ``"loss"`` and every term: the mean over the steps since the
        report before.

    Raises
    ------
    TrainingDivergedError
        If the loss or a weight is no longer finite.
    ArchiveError
        If `resume` is not a state of this training.
    """
    ranks = current_ranks()
    step = choose_step(embedder, terms)
    embedder.ranks = _sharing_ranks(embedder, step, plan, ranks)
    # Networks of the user may begin with other weights in each process.
    ranks.take_first_(_tensors(_modules(embedder, terms)))
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
        origin=origin or {},
    )
    if not isinstance(step, VerifiedStep):
        return begin(step, resume=resume)
    start = step.rewind()
    try:
        return begin(step, resume=resume)
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
    return begin(step, resume=None)


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
    origin: Mapping[str, Any],
    resume: Mapping[str, Any] | None,
) -> History:
    """Train with this step."""
    modules = _modules(embedder, terms)
    draws = any(map(draws_from_torch, modules.values()))
    own, batch_edges = optimizer(step.parameters()), plan.batch_edges
    training = Training(modules, terms, step, own, sampler, batch_edges, draws)
    run = _Run(embedder, training, plan, part, origin)
    ranks = run.ranks
    hooks = _hooks(callbacks, ranks)
    run.callbacks = hooks.callbacks
    run.agrees_at_steps = _agrees_at_steps(callbacks, plan, ranks)
    updater: Optimizer = own
    shared = embedder.ranks
    if shared.is_alone:  # messages between processes are not recorded
        watched = hooks.wants_gradients
        step, updater = record_step(step, own, n_steps=plan.n_steps, is_watched=watched)
    run.replay = step if isinstance(step, Replay) else None
    for module in modules.values():
        module.train()
    stream = "modules" if shared.is_first else f"modules of process {shared.rank}"
    seeded = torch_seeded(seed, stream) if draws else nullcontext()
    with seeded, torch_threads(step.n_threads):
        if resume is not None:
            run.resume(resume)
        hooks.on_fit_start(run)
        if resume is not None:
            resume_callbacks(run.callbacks, resume.get("callbacks"), run)
            training.load_generators(resume, seed, shared.rank)
        _train_reports(run, step, updater, sampler, hooks, validate)
        step.finish()
        hooks.on_fit_end(run)
    ranks.take_first_(_tensors(modules))
    for module in modules.values():
        module.eval()
    return run.history


def _modules(embedder: Embedder, terms: Sequence[Term]) -> dict[str, nn.Module]:
    """Return what is trained, by name."""
    modules: dict[str, nn.Module] = {"embedder": embedder}  # type: ignore[dict-item]
    for term in terms:
        modules.update(term.modules)
    return modules


def _tensors(modules: Mapping[str, nn.Module]) -> list[Tensor]:
    each = modules.values()
    return [t.detach() for m in each for t in (*m.parameters(), *m.buffers())]


def _hooks(callbacks: Sequence[Callback], ranks: Ranks) -> CallbackList:
    """Return the callbacks of this process; checkpoints last, to keep what the others did."""
    own = [c for c in callbacks if ranks.is_first or not c.on_first_process_only]
    return CallbackList(sorted(own, key=lambda called: isinstance(called, Checkpoint)))


def _agrees_at_steps(callbacks: Sequence[Callback], plan: Plan, ranks: Ranks) -> bool:
    """Whether time or a callback may end the training after any step, in any process."""
    own = any(c.wants_steps for c in callbacks if not c.on_first_process_only)
    (wanted,) = ranks.sums([float(own)])
    return wanted > 0.0 or plan.max_time is not None


def _sharing_ranks(embedder: Embedder, step: Step, plan: Plan, ranks: Ranks) -> Ranks:
    """Return the processes that share each step."""
    if ranks.is_alone or not embedder.is_sharable:
        return ALONE
    n_rows = min(2 * plan.batch_edges, embedder.n_rows)
    n_numbers = sum(parameter.numel() for parameter in step.parameters())
    ranks = sharing_ranks(ranks, embedder.flops, n_rows, n_numbers)
    _check_batch(plan, ranks)
    return ranks


def _check_batch(plan: Plan, ranks: Ranks) -> None:
    if 2 * plan.batch_edges < ranks.size:
        raise ValueError(
            f"batch_size must be at least half of the number of processes, {ranks.size}, got "
            f"{plan.batch_edges}: each needs a row of every batch. Raise batch_size, or launch "
            "fewer processes."
        )


def _train_reports(
    run: _Run,
    step: Step,
    updater: Optimizer,
    sampler: EdgeSource,
    hooks: CallbackList,
    validate: Validation | None,
) -> None:
    """Train from one report to the next."""
    last_steps = run.plan.report_steps()
    for report in range(run.n_reports, len(last_steps)):
        run.agree()
        if run.stop_training or _time_is_up(run):
            break
        run.epoch = report
        _train_until(last_steps[report], run, step, updater, sampler, hooks)
        _check_weights(step.parameters(), run)
        _report(run, validate)
        hooks.on_epoch_end(run)


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
    run.agree()
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
        if run.agrees_at_steps:
            run.agree()
    if tally.n_steps:
        run.logs = tally.means()


def _time_is_up(run: _Run) -> bool:
    """Whether the time limit of the plan is reached; never before the first step."""
    return run.step > 0 and run.progress >= 1.0


def _set_learning_rate(optimizer: Optimizer, learning_rate: float | None) -> None:
    if learning_rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def _report(run: _Run, validate: Validation | None) -> None:
    """Add one line to the history."""
    history = run.history
    if not run.logs:  # stopped in on_epoch_start, before the first step
        return
    for value in run.logs.values():
        _check_finite(torch.tensor(value), run)
    if validate is not None:
        run.logs = {**run.logs, **validate()}
    run.logs = run.ranks.first_numbers(run.logs)
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
