"""The training loop.

In: an embedder, the terms of the objective, a sampler of edges and a plan. Out: the history; the
modules are trained in place. Losses stay tensors until a report is due, so that a loop
on a graphics card never waits for one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neumap._device import torch_threads
from neumap._random import torch_seeded
from neumap.callbacks import Callback, CallbackList
from neumap.losses.terms import Term
from neumap.sampling import EdgeSampler
from neumap.training.embedders import Embedder
from neumap.training.optimizers import Optimizer, OptimizerFactory, default_optimizer
from neumap.training.plan import Plan
from neumap.training.replay import Advance, choose_advance
from neumap.training.steps import choose_step

__all__ = ["History", "TrainingDivergedError", "train"]

History = dict[str, list[float]]
Validation = Callable[[], Mapping[str, float]]

# Steps between two looks at the loss for NaN; a look waits for the device.
DIVERGENCE_CHECK_STEPS = 100


class TrainingDivergedError(RuntimeError):
    """The loss became infinite or not a number."""


class _Run:
    """One training as callbacks see it (:class:`neumap.callbacks.TrainingRun`)."""

    def __init__(self, embedder: Embedder, terms: Sequence[Term], plan: Plan) -> None:
        self.embedder = embedder
        self.modules: dict[str, nn.Module] = {"embedder": embedder}  # type: ignore[dict-item]
        for term in terms:
            self.modules.update(term.modules)
        self.epoch = 0
        self.n_epochs = len(plan.epoch_ends())
        self.step = 0
        self.n_steps = plan.n_steps
        self.logs: dict[str, float] = {}
        self.stop_training = False
        self.optimizer: Optimizer | None = None
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def encoder(self) -> nn.Module | None:
        return self.embedder.encoder

    @property
    def decoder(self) -> nn.Module | None:
        return self.modules.get("decoder")

    def embed(self) -> np.ndarray:
        return self.embedder.embed()

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
        self.n_steps = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        self.n_steps += 1
        for name, value in values.items():
            # A copy: a replayed step writes the next loss into the same memory.
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()

    def means(self) -> dict[str, float]:
        return {name: float(total) / self.n_steps for name, total in self.sums.items()}


def train(  # noqa: PLR0913 - the inputs of a training are what they are
    embedder: Embedder,
    terms: Sequence[Term],
    sampler: EdgeSampler,
    plan: Plan,
    *,
    seed: int,
    optimizer: OptimizerFactory = default_optimizer,
    callbacks: Sequence[Callback] = (),
    validate: Validation | None = None,
) -> History:
    """Train an embedder, and whatever the terms train, on edges of a graph.

    Parameters
    ----------
    embedder : Embedder
        Gives positions; trained in place.
    terms : sequence of Term
        The objective is their weighted sum.
    sampler : EdgeSampler
        Source of batches.
    plan : Plan
        Steps, batch sizes, learning rates, reports.
    seed : int
        For what modules draw while training, such as dropout.
    optimizer : callable, default=fused Adam
        From parameters to an optimiser.
    callbacks : sequence of Callback
        Called as :mod:`neumap.callbacks` describes.
    validate : callable, optional
        Returns further entries of the report, such as ``{"val_loss": ...}``.

    Returns
    -------
    dict of str to list of float
        One value per report for ``"loss"`` and every term: means over the steps of that epoch.

    Raises
    ------
    TrainingDivergedError
        If the loss is no longer finite.
    """
    step = choose_step(embedder, terms)
    run = _Run(embedder, terms, plan)
    run.optimizer = optimizer(step.parameters())
    watchers = CallbackList(callbacks)
    advance = choose_advance(
        step, run.optimizer, n_steps=plan.n_steps, is_watched=watchers.wants_gradients
    )
    history: History = {}
    for module in run.modules.values():
        module.train()
    with torch_seeded(seed, "modules"), torch_threads(step.n_threads):
        watchers.on_fit_start(run)
        for epoch, last_step in enumerate(plan.epoch_ends()):
            if run.stop_training or _time_is_up(run, plan):
                break
            run.epoch = epoch
            _run_epoch(run, last_step, advance, sampler, plan, watchers)
            _check_weights(step.parameters(), run)
            _report(run, history, validate)
            watchers.on_epoch_end(run)
        step.finish()
        watchers.on_fit_end(run)
    for module in run.modules.values():
        module.eval()
    return history


def _run_epoch(
    run: _Run,
    last_step: int,
    advance: Advance,
    sampler: EdgeSampler,
    plan: Plan,
    watchers: CallbackList,
) -> None:
    """Take steps until the next report is due; leave their mean losses in ``run.logs``."""
    assert run.optimizer is not None
    run.logs = {}
    watchers.on_epoch_start(run)
    tally = _Tally()
    while run.step < last_step and not run.stop_training:
        progress = plan.progress(run.step, run.seconds)
        if progress >= 1.0 and tally.n_steps:  # an epoch that has begun takes at least one step
            run.stop_training = True
            break
        _set_learning_rate(run.optimizer, plan.learning_rate(progress))
        losses = advance(sampler.draw(plan.batch_edges), progress)
        run.step += 1
        tally.add(losses)
        if run.step % DIVERGENCE_CHECK_STEPS == 0:
            _check_finite(losses["loss"], run)
        if watchers.wants_steps:
            watchers.on_step_end(run)
    if tally.n_steps:
        run.logs = tally.means()


def _time_is_up(run: _Run, plan: Plan) -> bool:
    """Whether the seconds of the plan are spent; never before the first step."""
    return run.step > 0 and plan.progress(run.step, run.seconds) >= 1.0


def _set_learning_rate(optimizer: Optimizer, learning_rate: float | None) -> None:
    if learning_rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def _report(run: _Run, history: History, validate: Validation | None) -> None:
    """Add one line to the history."""
    if not run.logs:  # stopped in on_epoch_start, before the epoch's first step
        return
    for value in run.logs.values():
        _check_finite(torch.tensor(value), run)
    if validate is not None:
        run.logs = {**run.logs, **validate()}
    for name, value in run.logs.items():
        history.setdefault(name, []).append(value)


def _check_finite(loss: Tensor, run: _Run) -> None:
    if not bool(torch.isfinite(loss)):
        raise _diverged(f"The loss became {float(loss)}", run)


def _check_weights(parameters: Sequence[nn.Parameter], run: _Run) -> None:
    """Look at the weights themselves: a ReLU can hide that some are no longer numbers."""
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        raise _diverged("Weights became infinite or not a number", run)


def _diverged(what: str, run: _Run) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"{what} at step {run.step} of {run.n_steps}. Likely causes: a learning rate too high for "
        "this network (lower learning_rate, or pass an optimizer with a smaller one), inputs of "
        "very large scale (standardise X), or a network or decoder that returns NaN for some row."
    )
