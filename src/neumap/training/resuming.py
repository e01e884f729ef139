"""The state of a training: what a checkpoint keeps of it, and how a training takes it over.

In: what is trained. Out: nested values with tensors in them, and back. A state that comes from a
file is compared with what it is to replace before anything is changed by it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neumap._random import torch_generator
from neumap.archive import ArchiveError, check_like
from neumap.archive.schema import check, misfit, nullable
from neumap.callbacks import Callback, TrainingRun
from neumap.losses.terms import Term
from neumap.sampling import EdgeSampler, block_size
from neumap.training.adam import FusedAdam
from neumap.training.guide import Later
from neumap.training.muon import Muon
from neumap.training.optimizers import Optimizer
from neumap.training.precision import VerifiedStep

__all__ = ["ADVICE", "Training", "callback_states", "resume_callbacks"]

ADVICE = "Pass the file that Checkpoint wrote in this very fit."


@dataclass(frozen=True)
class Training:
    """Everything that changes while a training runs.

    Attributes
    ----------
    modules : mapping of str to nn.Module
        What is trained, by name.
    terms : sequence of Term
        Those with a method ``state`` change as well.
    step : Step
        Has ``sources`` of random numbers.
    optimizer : Optimizer
    sampler : EdgeSampler
    batch_edges : int
        Edges per step.
    draws : bool
        Whether modules draw from torch's global generators.
    """

    modules: Mapping[str, nn.Module]
    terms: Sequence[Term]
    step: Any
    optimizer: Optimizer
    sampler: EdgeSampler
    batch_edges: int
    draws: bool

    def weights(self) -> dict[str, Any]:
        """Return the state of the modules, one name for each tensor."""
        return {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`weights` returned."""
        for name, module in self.modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )

    def state(self) -> dict[str, Any]:
        """Return the state of all parts; tensors are those that the training goes on to change."""
        guide, verified = self._guide, self._verified
        return {
            "weights": self.weights(),
            "guide": None if guide is None else dict(guide.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state(),
            "sources": [source.state() for source in self._sources],
            "precision": None if verified is None else verified.state(),
            "generators": _generator_states() if self.draws else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; torch's global generators are left to :meth:`load_generators`.

        Raises
        ------
        ArchiveError
            If the state is not one of this training.
        """
        check(state, dict.fromkeys(self.state(), lambda value, where: None), "checkpoint")
        check_like(dict(state["weights"]), self.weights(), "weights", ADVICE)
        _check_sampler(state["sampler"], self.sampler, self.batch_edges)
        guide, verified = self._guide, self._verified
        with _as_archive_error("weights"):
            self.load_weights(state["weights"])
        if guide is not None:
            check_like(state["guide"], dict(guide.state_dict()), "guide", ADVICE)
            guide.load_state_dict(state["guide"])
        if verified is not None:
            check_like(state["precision"], verified.state(), "precision", ADVICE)
            verified.set_state(state["precision"])
        _load_optimizer(self.optimizer, state["optimizer"])
        with _as_archive_error("sampler"):
            self.sampler.set_state(state["sampler"])
        check(state["sources"], (list,), "sources")
        with _as_archive_error("sources"):
            for source, given in zip(self._sources, state["sources"], strict=True):
                source.set_state(given)

    def load_generators(self, state: Mapping[str, Any], seed: int, rank: int) -> None:
        """Let torch's global generators go on as well, where modules draw from them.

        Those of other processes than the first were not kept, and begin a stream of their own.
        """
        check(state["generators"], (list, type(None)), "generators")
        if not self.draws:
            return
        if rank:
            stream = f"modules of process {rank} from step {state['step']}"
            torch.manual_seed(torch_generator(seed, stream).initial_seed())
        elif state["generators"]:
            with _as_archive_error("generators"):
                first, *others = state["generators"]
                torch.set_rng_state(first)
                if others:
                    torch.cuda.set_rng_state_all(others)

    @property
    def _guide(self) -> nn.Module | None:
        guide: nn.Module | None = getattr(self.modules["embedder"], "guide", None)
        return guide

    @property
    def _verified(self) -> VerifiedStep | None:
        return self.step if isinstance(self.step, VerifiedStep) else None

    @property
    def _sources(self) -> list[Any]:
        plain = [term.term if isinstance(term, Later) else term for term in self.terms]
        return [*self.step.sources, *(term for term in plain if hasattr(term, "set_state"))]


def _generator_states() -> list[Tensor]:
    on_cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *on_cards]


@contextmanager
def _as_archive_error(where: str) -> Any:
    """Turn whatever a state of a file makes a part raise into an ArchiveError."""
    try:
        yield
    except ArchiveError:
        raise
    except Exception as error:  # of any kind: the parts check their states themselves
        raise misfit(
            where, "that of this training", f"{type(error).__name__}: {error}", ADVICE
        ) from error


def _check_sampler(given: Any, sampler: EdgeSampler, batch_edges: int) -> None:
    check_like(given, sampler.state(), "sampler", ADVICE)
    n_drawn, position = given["n_drawn"], given["position"]
    if n_drawn not in (0, block_size(batch_edges)) or not 0 <= position <= n_drawn:
        raise misfit("sampler", f"at a place among {n_drawn} edges", position, ADVICE)


def _load_optimizer(optimizer: Optimizer, given: Any) -> None:
    """Load the state of an optimiser of the package, of torch or of the user."""
    if isinstance(optimizer, FusedAdam | Muon):
        check_like(given, optimizer.state_dict(), "optimizer", ADVICE)
    with _as_archive_error("optimizer"):
        optimizer.load_state_dict(given)
        if type(optimizer).__module__.startswith("torch.optim"):
            _try_step(optimizer)


def _try_step(optimizer: Optimizer) -> None:
    """Take a step with a copy: torch loads a state of any content."""
    trial = copy.deepcopy(optimizer)
    for group in trial.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    trial.step()


# ---- callbacks ----------------------------------------------------------------------------------


def callback_states(callbacks: Sequence[Callback]) -> list[Any]:
    """Return class name and state of the callbacks that have one."""
    states = [(type(callback).__name__, callback.state()) for callback in callbacks]
    return [[name, state] for name, state in states if state is not None]


def resume_callbacks(callbacks: Sequence[Callback], states: Any, run: TrainingRun) -> None:
    """Give each callback the state of the next one of its class; others begin anew.

    Raises
    ------
    ArchiveError
        If a callback cannot take its state.
    """
    check(states, [nullable(list)], "callbacks")
    left = [state for state in states if len(state) == 2]
    for callback in callbacks:
        name = type(callback).__name__
        found = next((item for item in left if item[0] == name), None)
        if found is None or callback.state() is None:
            continue
        left = [item for item in left if item is not found]  # tensors have no ==
        with _as_archive_error(f"callbacks.{name}"):
            callback.resume(found[1], run)
