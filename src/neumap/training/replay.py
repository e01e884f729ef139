"""Training steps that are recorded once as CUDA graphs and then replayed.

A step consists of about a hundred small operations. A GPU takes microseconds for each of them, and
launching them one by one from Python takes longer than the work. A CUDA graph is a list of
operations that is launched at once. It repeats exactly these operations on exactly this memory, so
every number that differs between steps must be in device memory, and each branch of the Python code
needs a recording of its own. :class:`Replay` manages both. In: a step and its optimiser. Out: an
object that is called like the step and has updated the weights when it returns.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neumap._warnings import warn_user
from neumap.training.adam import FusedAdam
from neumap.training.muon import Muon
from neumap.training.recordable import Recordable, StepInputs

__all__ = ["CudaRecorder", "Recorder", "Replay", "choose_replay"]

logger = logging.getLogger(__name__)

Losses = dict[str, Tensor]
Work = Callable[[], Losses]

# Device type on which launching an operation takes longer than the operation.
DEVICE = "cuda"

# Shorter trainings are not recorded, since recording takes time as well. The value is a guess.
FEWEST_STEPS = 300

# Largest accepted difference between a replayed step and the same step run directly, relative to
# the size of the step. A different order of summation may flip the sign of some of Adam's first
# steps; a wrong input flips most of them.
LARGEST_DIFFERENCE = 0.05


class Recorder(Protocol):
    """Turns work on tensors into something that can be replayed."""

    def run(self, work: Work) -> Losses:
        """Run the work where it will be recorded, so that everything created lazily exists."""
        ...

    def record(self, work: Work) -> Work:
        """Return a function that repeats the work on the same memory, without running it now.

        The function may return the same tensors each time, with new values.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs that share one memory pool.

    Parameters
    ----------
    device : torch.device
        The GPU that does the work.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The work is first run on the stream that records it: cuBLAS has a workspace per stream.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, work: Work) -> Losses:
        """Run the work on the side stream, ordered with the current stream."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = work()
        current.wait_stream(self._stream)
        return losses

    def record(self, work: Work) -> Work:
        """Return the replay of a CUDA graph of this work."""
        graph = torch.cuda.CUDAGraph()
        # "thread_local": GPU work in other threads of the user must not abort the recording.
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with torch.cuda.device(self.device), recording:
            losses = work()

        def replay() -> Losses:
            graph.replay()
            return losses

        return replay


class _DeviceScalar:
    """A number in device memory that the host overwrites without waiting."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._tensor = torch.zeros((), dtype=dtype, device=device)
        self._value: float = 0.0

    def set(self, value: float) -> Tensor:
        """Write the number if it has changed, and return the tensor that holds it."""
        if value != self._value:
            self._tensor.fill_(value)
            self._value = value
        return self._tensor


class _DeviceInputs:
    """The inputs of all steps in the same tensors: row numbers, learning rate, step inputs."""

    def __init__(self, device: torch.device) -> None:
        self._indices = torch.empty(0, dtype=torch.int64, device=device)
        self._learning_rate = _DeviceScalar(torch.float32, device)
        self._softening = _DeviceScalar(torch.float32, device)
        self._auxiliary_scale = _DeviceScalar(torch.float32, device)
        self._noise_starts = (
            _DeviceScalar(torch.int64, device),
            _DeviceScalar(torch.int64, device),
        )
        self._between_start = _DeviceScalar(torch.int64, device)

    def set_batch(self, indices: Tensor, learning_rate: float) -> tuple[Tensor, Tensor]:
        """Return row numbers and learning rate in device memory."""
        if len(indices) != len(self._indices):
            self._indices = torch.empty_like(indices)
        return self._indices.copy_(indices), self._learning_rate.set(learning_rate)

    def set_inputs(self, inputs: StepInputs) -> StepInputs:
        """Return the step inputs with their numbers in device memory."""
        scale, starts = inputs.auxiliary_scale, inputs.noise_starts
        between = inputs.between_start
        return StepInputs(
            self._softening.set(float(inputs.softening)),
            None if scale is None else self._auxiliary_scale.set(float(scale)),
            None if starts is None else self._set_starts(int(starts[0]), int(starts[1])),
            None if between is None else self._between_start.set(int(between)),
        )

    def _set_starts(self, first: int, second: int) -> tuple[Tensor, Tensor]:
        return self._noise_starts[0].set(first), self._noise_starts[1].set(second)


class _Counters:
    """The step counters that Muon keeps in Python, where a recording does not see them."""

    def __init__(self, optimizer: FusedAdam | Muon) -> None:
        self._stacks = optimizer.stacks if isinstance(optimizer, Muon) else []

    @property
    def branch(self) -> tuple[bool, ...]:
        """Which matrices the next step renews the directions of."""
        return tuple(stack.is_due for stack in self._stacks)

    def read(self) -> list[int]:
        return [stack.n_steps for stack in self._stacks]

    def write(self, counts: list[int]) -> None:
        for stack, count in zip(self._stacks, counts, strict=True):
            stack.n_steps = count


@dataclass
class _Recording:
    """A recorded step.

    Attributes
    ----------
    replay : callable
        Repeats the step.
    counted : list of int
        What the step adds to the counters of the optimiser.
    is_checked : bool
        Whether a replay was compared with the step itself.
    """

    replay: Work
    counted: list[int]
    is_checked: bool = False


class _UpdatedOptimizer:
    """The optimiser that belongs to a :class:`Replay`, which updates the weights itself."""

    def __init__(self, optimizer: FusedAdam | Muon) -> None:
        self._optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def step(self) -> None:
        """Do nothing: the step has updated the weights already."""

    def zero_grad(self) -> None:
        self._optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state_dict)


class Replay:
    """A step and its optimiser, replayed from recordings.

    There is one recording for each branch of the Python code: with auxiliary dimensions or without,
    with Muon's directions renewed or not. In each branch the first step is run directly and then
    recorded. The second is run both ways, from the same weights, and compared. All further steps
    are replayed. If a recording fails or gives another result, all steps are run directly from then
    on, with a warning where all parts of the step are the package's own. The arithmetic is the same
    either way.

    Calling it runs the step and the optimiser. :attr:`optimizer` stands for the optimiser in the
    training loop; its ``step`` has nothing left to do.

    Parameters
    ----------
    step : Recordable
        With rows in the memory of its device.
    optimizer : FusedAdam or Muon
        Of the step's parameters.
    recorder : Recorder or None
        None runs every step directly.
    """

    def __init__(
        self, step: Recordable, optimizer: FusedAdam | Muon, recorder: Recorder | None
    ) -> None:
        self.optimizer = _UpdatedOptimizer(optimizer)
        self._step = step
        self._optimizer = optimizer
        self._counters = _Counters(optimizer)
        self._recorder = recorder
        self._parameters = step.parameters()
        self._changing = step.changing()
        self._inputs = _DeviceInputs(step.device)
        self._recordings: dict[Hashable, _Recording] = {}
        self._basis: Hashable = None

    @property
    def n_threads(self) -> int:
        """Those of the step."""
        return self._step.n_threads

    @property
    def sources(self) -> Sequence[Any]:
        """Those of the step."""
        return self._step.sources

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the step."""
        return self._step.parameters()

    @property
    def is_replayed(self) -> bool:
        """Whether steps are replayed, as far as that is known."""
        return self._recorder is not None

    @property
    def _tensors(self) -> list[Tensor]:
        """All that a step changes."""
        return [*self._parameters, *self._changing]

    def finish(self) -> None:
        """Do nothing: all weights are in the modules."""

    def __call__(self, indices: Tensor, progress: float) -> Losses:
        """Run one step and the optimiser; return losses, which are valid until the next call."""
        group = self._optimizer.param_groups[0]
        batch, learning_rate = self._inputs.set_batch(indices, group["lr"])
        inputs = self._inputs.set_inputs(self._step.inputs(progress))
        work = partial(self._work, batch, inputs, learning_rate)
        if self._recorder is None:
            return work()
        self._forget_if_outdated(batch, group)
        branch = (inputs.branch, self._counters.branch)
        return self._take(branch, work, self._recorder)

    def _work(self, batch: Tensor, inputs: StepInputs, learning_rate: Tensor) -> Losses:
        """Do everything that a step does on the device."""
        losses = self._step.compute(batch, inputs)
        group = self._optimizer.param_groups[0]
        number = group["lr"]
        group["lr"] = learning_rate  # a number would be part of the recording
        try:
            self._optimizer.step()
        finally:
            group["lr"] = number
        return losses

    def _forget_if_outdated(self, batch: Tensor, group: dict[str, Any]) -> None:
        """Drop recordings of settings or memory that a callback has replaced since."""
        settings = tuple(v for name, v in group.items() if name not in ("params", "lr"))
        addresses = tuple(parameter.data_ptr() for parameter in self._parameters)
        basis = (batch.data_ptr(), settings, addresses)
        if basis != self._basis:
            self._recordings.clear()
            self._basis = basis

    def _take(self, branch: Hashable, work: Work, recorder: Recorder) -> Losses:
        recording = self._recordings.get(branch)
        if recording is None:
            return self._record(branch, work, recorder)
        if not recording.is_checked:
            return self._check(recording, work, recorder)
        losses = recording.replay()
        counts = zip(self._counters.read(), recording.counted, strict=True)
        self._counters.write([count + added for count, added in counts])
        return losses

    def _record(self, branch: Hashable, work: Work, recorder: Recorder) -> Losses:
        """Run a step directly, then record the same branch."""
        before, watched = self._counters.read(), self._watched()
        losses = recorder.run(work)
        after = self._counters.read()
        if self._watched() != watched:
            self._give_up("a network draws random numbers or counts its calls")
            return losses
        self._counters.write(before)  # they select the branch that is recorded
        try:
            counted = [new - old for new, old in zip(after, before, strict=True)]
            self._recordings[branch] = _Recording(recorder.record(work), counted)
            failure = None
        except Exception as error:  # of any kind: training can go on without recordings
            failure = f"{type(error).__name__}: {error}"
        self._counters.write(after)
        self._optimizer.zero_grad()  # the gradients are in the memory of the recording
        if failure is not None:
            self._give_up(failure)
        return losses

    def _check(self, recording: _Recording, work: Work, recorder: Recorder) -> Losses:
        """Run a step directly and by replay, from the same weights; keep the direct result."""
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
        """Describe how a replay differs from this loss and these weights; None if it does not."""
        try:
            found = replay()["loss"]
            missed = _difference(self._state()[0], after, before)
            missed_loss = _difference([found], [loss], [torch.zeros_like(loss)])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if missed > LARGEST_DIFFERENCE or missed_loss > LARGEST_DIFFERENCE:
            return (
                "a replayed step differed from the same step run directly, relative to the size "
                f"of the step by {missed:.2g} in the weights and {missed_loss:.2g} in the loss"
            )
        return None

    def _watched(self) -> Hashable:
        """Return what a recording would not change: random generators and numbers in Python."""
        device = self._step.device
        drawn = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
        return bytes(drawn.numpy()), self._step.python_state()

    def _state(self) -> tuple[list[Tensor], dict[str, Any]]:
        """Return copies of the weights and of the optimiser's state."""
        weights = [tensor.detach().clone() for tensor in self._tensors]
        return weights, copy.deepcopy(self._optimizer.state_dict())

    def _restore(self, state: tuple[list[Tensor], dict[str, Any]]) -> None:
        weights, of_optimizer = state
        with torch.no_grad():
            for tensor, weight in zip(self._tensors, weights, strict=True):
                tensor.copy_(weight)
        self._optimizer.load_state_dict(of_optimizer)

    def _give_up(self, reason: str) -> None:
        """Run all steps directly from now on."""
        self._recorder = None
        self._recordings.clear()
        if not self._step.is_known:
            logger.info("training steps are not replayed: %s", reason)
            return
        warn_user(
            "The training steps could not be recorded as CUDA graphs, so their operations are "
            "launched one by one: the result is the same, but training is slower. Please report "
            f"this with the versions of torch and of the GPU driver. Reason: {reason}",
            RuntimeWarning,
        )


def _difference(found: list[Tensor], expected: list[Tensor], start: list[Tensor]) -> float:
    """Return the distance between found and expected values, relative to that from the start.

    NaN where weights are NaN, which the training loop checks itself.
    """
    missed, way = _distance(found, expected), _distance(expected, start)
    return missed / way if way else missed


def _distance(these: list[Tensor], those: list[Tensor]) -> float:
    squares = [(a - b).double().square().sum() for a, b in zip(these, those, strict=True)]
    return float(torch.stack(squares).sum().sqrt())


def choose_replay(step: Any, optimizer: object, *, n_steps: int, is_watched: bool) -> Replay | None:
    """Return the replayed form of a step and its optimiser, or None where there is none.

    Parameters
    ----------
    step, optimizer : object
        Only a step with its rows on a GPU can be replayed, and only with one of the package's own
        optimisers.
    n_steps : int
        Steps of the training; a short one is not worth a recording.
    is_watched : bool
        Whether a callback may read gradients after single steps. A replayed step leaves none.
    """
    if not (hasattr(step, "is_resident_on") and step.is_resident_on(DEVICE)):
        return None
    # By exact type: a subclass may do something that a recording would leave out.
    if not (isinstance(optimizer, FusedAdam | Muon) and type(optimizer) in (FusedAdam, Muon)):
        return None
    is_recorded = n_steps >= FEWEST_STEPS and not is_watched
    logger.debug("Training steps are %s", "replayed" if is_recorded else "run one by one")
    return Replay(step, optimizer, CudaRecorder(step.device) if is_recorded else None)
