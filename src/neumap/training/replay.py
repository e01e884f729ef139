"""Training steps that are recorded once and replayed, for graphics cards.

A step is about a hundred small operations. A card does each in microseconds, and starting them one
by one from Python takes longer than the work. A CUDA graph is the list of them, started at once;
it repeats the very same operations on the very same memory. So everything that differs between
steps has to lie in memory of the card, and everything Python decides needs a recording of its own:
:class:`Replay` owns both. In: a step and an optimiser. Out: one callable for the loop, with the
losses of the batch as its result and the weights moved.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from neumap.training.adam import FusedAdam
from neumap.training.mlp_step import MLPStep, Moment
from neumap.training.muon import Muon
from neumap.training.optimizers import Optimizer
from neumap.training.steps import Step

__all__ = ["Advance", "CudaRecorder", "Recorder", "Replay", "choose_advance"]

logger = logging.getLogger(__name__)

Losses = dict[str, Tensor]
Work = Callable[[], Losses]
Advance = Callable[[Tensor, float], Losses]

# Devices on which starting an operation takes longer than doing it.
DEVICE = "cuda"

# Trainings shorter than this are not recorded: recordings have a cost of their own. A guess.
FEWEST_STEPS = 300

# Largest difference between a replayed step and the same step taken directly, relative to the
# step. Another order of sums may turn some of Adam's first steps around; a wrong input turns most.
LARGEST_DIFFERENCE = 0.05


class Recorder(Protocol):
    """Makes something that can be replayed of work on tensors."""

    def run(self, work: Work) -> Losses:
        """Do the work where it will be recorded, so that whatever is made at first use exists."""
        ...

    def record(self, work: Work) -> Work:
        """Return what repeats the work on the same memory; the work itself is not done.

        The losses it returns may be the same tensors each time, with new values.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs, all in one pool of memory.

    Parameters
    ----------
    device : torch.device
        The card that does the work.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # Work is prepared on the stream on which it is recorded: cuBLAS keeps memory per stream.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, work: Work) -> Losses:
        """Do the work on the side stream, in order with what the current one does."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = work()
        current.wait_stream(self._stream)
        return losses

    def record(self, work: Work) -> Work:
        """Return the replay of a CUDA graph of this work."""
        graph = torch.cuda.CUDAGraph()
        # "thread_local": what other threads of the user do on the card must not end a recording.
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with torch.cuda.device(self.device), recording:
            losses = work()

        def replay() -> Losses:
            graph.replay()
            return losses

        return replay


class _Held:
    """A number in memory of the device, which the host overwrites without waiting."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._tensor = torch.zeros((), dtype=dtype, device=device)
        self._value: float = 0.0

    def hold(self, value: float) -> Tensor:
        """Write the number, where it is a new one, and return the memory."""
        if value != self._value:
            self._tensor.fill_(value)
            self._value = value
        return self._tensor


class _Memory:
    """The same tensors for every step: its batch, its learning rate and its moment."""

    def __init__(self, device: torch.device) -> None:
        self._indices = torch.empty(0, dtype=torch.int64, device=device)
        self._learning_rate = _Held(torch.float32, device)
        self._softening = _Held(torch.float32, device)
        self._spare_share = _Held(torch.float32, device)
        self._noise_places = (_Held(torch.int64, device), _Held(torch.int64, device))

    def hold_batch(self, indices: Tensor, learning_rate: float) -> tuple[Tensor, Tensor]:
        """Return row numbers and learning rate in memory of the device."""
        if len(indices) != len(self._indices):
            self._indices = torch.empty_like(indices)
        return self._indices.copy_(indices), self._learning_rate.hold(learning_rate)

    def hold_moment(self, moment: Moment) -> Moment:
        """Return the moment with its numbers in memory of the device."""
        share, places = moment.spare_share, moment.noise_places
        return Moment(
            self._softening.hold(float(moment.softening)),
            None if share is None else self._spare_share.hold(float(share)),
            None if places is None else self._hold_places(int(places[0]), int(places[1])),
        )

    def _hold_places(self, first: int, second: int) -> tuple[Tensor, Tensor]:
        return self._noise_places[0].hold(first), self._noise_places[1].hold(second)


@dataclass
class _Recording:
    """What repeats one kind of step, and whether it was compared with the step itself."""

    replay: Work
    is_checked: bool = False


class Replay:
    """A step and its optimiser, replayed from recordings.

    There is one recording for each way through the Python code: with spare dimensions or without,
    with Muon's directions renewed or not. Of each way the first step is taken directly and then
    recorded; the second is taken both ways, from the same weights, and compared; the others are
    replayed. If a recording fails, or differs, a warning says so and all steps are taken directly.
    Replayed or not, the arithmetic is the same.

    Parameters
    ----------
    step : MLPStep
        With rows that are resident on its device.
    optimizer : FusedAdam or Muon
        Made for the step's parameters.
    recorder : Recorder or None
        None takes every step directly.
    """

    def __init__(
        self, step: MLPStep, optimizer: FusedAdam | Muon, recorder: Recorder | None
    ) -> None:
        self._step = step
        self._optimizer = optimizer
        self._recorder = recorder
        self._parameters = step.parameters()
        self._memory = _Memory(step.device)
        self._recordings: dict[Hashable, _Recording] = {}
        self._basis: Hashable = None

    def __call__(self, indices: Tensor, progress: float) -> Losses:
        """Take one step; return its losses, detached scalars by name, until the next step."""
        group = self._optimizer.param_groups[0]
        batch, learning_rate = self._memory.hold_batch(indices, group["lr"])
        moment = self._memory.hold_moment(self._step.moment(progress))
        work = partial(self._work, batch, moment, learning_rate)
        if self._recorder is None:
            losses = work()
        else:
            self._forget_if_outdated(batch, group)
            branch = (moment.spare_share is None, self._optimizer.branch)
            losses = self._take(branch, work, self._recorder)
        self._optimizer.count()
        return losses

    def _work(self, batch: Tensor, moment: Moment, learning_rate: Tensor) -> Losses:
        """Do everything a step does on the device, and nothing else."""
        losses = self._step.at(batch, moment)
        self._optimizer.move(learning_rate)
        return losses

    def _forget_if_outdated(self, batch: Tensor, group: dict[str, Any]) -> None:
        """Drop recordings that hold settings or memory which a callback has replaced since."""
        settings = tuple(v for name, v in group.items() if name not in ("params", "lr"))
        addresses = tuple(parameter.data_ptr() for parameter in self._parameters)
        basis = (batch.data_ptr(), settings, addresses)
        if basis != self._basis:
            self._recordings.clear()
            self._basis = basis

    def _take(self, branch: Hashable, work: Work, recorder: Recorder) -> Losses:
        recording = self._recordings.get(branch)
        if recording is None:
            losses = recorder.run(work)
            self._record(branch, work, recorder)
            return losses
        if not recording.is_checked:
            return self._check(recording, work, recorder)
        return recording.replay()

    def _record(self, branch: Hashable, work: Work, recorder: Recorder) -> None:
        try:
            self._recordings[branch] = _Recording(recorder.record(work))
            failure = None
        except Exception as error:  # whatever it is, the training can go on
            failure = f"{type(error).__name__}: {error}"
        self._optimizer.zero_grad()  # gradients lie in the recording's memory
        if failure is not None:
            self._give_up(failure)

    def _check(self, recording: _Recording, work: Work, recorder: Recorder) -> Losses:
        """Take a step directly and by replay, from the same weights; keep the direct one."""
        before = self._state()
        losses = recorder.run(work)
        after = self._state()
        self._restore(before)
        failure = self._compare(recording.replay, losses["loss"], before[0], after[0])
        self._restore(after)
        self._optimizer.zero_grad()
        recording.is_checked = True
        if failure is not None:
            self._give_up(failure)
        return losses

    def _compare(
        self, replay: Work, loss: Tensor, before: list[Tensor], after: list[Tensor]
    ) -> str | None:
        """Say what is wrong with a replay, which should give this loss and these weights."""
        try:
            found = replay()["loss"]
            missed = _difference(self._state()[0], after, before)
            missed_loss = _difference([found], [loss], [torch.zeros_like(loss)])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if missed > LARGEST_DIFFERENCE or missed_loss > LARGEST_DIFFERENCE:
            return (
                "a replayed step differed from the same step taken directly, relative to its "
                f"length by {missed:.2g} in the weights and {missed_loss:.2g} in the loss"
            )
        return None

    def _state(self) -> tuple[list[Tensor], dict[str, Any]]:
        """Return copies of the weights and of what the optimiser remembers."""
        weights = [parameter.detach().clone() for parameter in self._parameters]
        return weights, copy.deepcopy(self._optimizer.state_dict())

    def _restore(self, state: tuple[list[Tensor], dict[str, Any]]) -> None:
        weights, memory = state
        with torch.no_grad():
            for parameter, weight in zip(self._parameters, weights, strict=True):
                parameter.copy_(weight)
        self._optimizer.load_state_dict(memory)

    def _give_up(self, reason: str) -> None:
        """Take all steps directly from now on."""
        self._recorder = None
        self._recordings.clear()
        warnings.warn(
            "The training steps could not be recorded as CUDA graphs, so they are started one "
            "operation at a time: the same result, but slower. Please report this with the "
            f"versions of torch and of the driver. Reason: {reason}",
            RuntimeWarning,
            stacklevel=2,
        )


def _difference(found: list[Tensor], expected: list[Tensor], start: list[Tensor]) -> float:
    """Return the distance of what was found from what was expected, relative to its way there.

    NaN where weights are no longer numbers, which the loop looks for itself.
    """
    missed, way = _distance(found, expected), _distance(expected, start)
    return missed / way if way else missed


def _distance(these: list[Tensor], those: list[Tensor]) -> float:
    squares = [(a - b).double().square().sum() for a, b in zip(these, those, strict=True)]
    return float(torch.stack(squares).sum().sqrt())


def choose_advance(step: Step, optimizer: Optimizer, *, n_steps: int, is_watched: bool) -> Advance:
    """Return what takes a training step: replayed on a graphics card where that is possible.

    Parameters
    ----------
    step : Step
    optimizer : Optimizer
    n_steps : int
        Steps of the training.
    is_watched : bool
        Whether anyone looks at single steps, and perhaps at gradients, which a replay hides.
    """
    is_ours = type(optimizer) in (FusedAdam, Muon)
    if not (is_ours and isinstance(step, MLPStep) and step.is_resident_on(DEVICE)):
        return partial(_advance, step, optimizer)
    is_recorded = n_steps >= FEWEST_STEPS and not is_watched
    logger.debug("Training steps are %s", "replayed" if is_recorded else "taken one by one")
    recorder = CudaRecorder(step.device) if is_recorded else None
    return Replay(step, optimizer, recorder)  # type: ignore[arg-type]


def _advance(step: Step, optimizer: Optimizer, indices: Tensor, progress: float) -> Losses:
    losses = step(indices, progress)
    optimizer.step()
    return losses
