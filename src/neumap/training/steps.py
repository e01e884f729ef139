"""One training step: forward and backward for a batch, then the optimiser.

A step takes row numbers and returns losses, with the gradients left in the parameters.
``AutogradStep`` handles every network and every set of terms. ``MLPStep`` (``mlp_step``) computes
the same in closed form for the default case. :func:`choose_step` selects one of them.
:func:`record_step` replaces step and optimiser by a CUDA graph where that is possible.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, TypeGuard

import torch
from torch import Tensor, nn

from neumap._device import fast_dtype, training_threads
from neumap.data import DenseRows
from neumap.losses.reconstruction import ReconstructionTerm
from neumap.losses.terms import Batch, Term, UmapTerm
from neumap.training.embedders import Embedder, EncoderEmbedder
from neumap.training.guide import GuidedEmbedder, GuideTerm, Later
from neumap.training.mlp_step import MLPStep
from neumap.training.noise import InputNoise, NoiseStarts
from neumap.training.optimizers import Optimizer
from neumap.training.precision import MixedPrecision, Source, VerifiedStep
from neumap.training.recordable import StepInputs
from neumap.training.replay import choose_replay
from neumap.training.sharing import sum_gradients

__all__ = ["AutogradStep", "Step", "choose_step", "record_step", "training_precision"]


# Operations of one row, forward, from which a step uses all cores. The conv net of
# umap-learn's page has 11 million; three layers of 100, with .2 million, gained a tenth.
LONG_STEP = 2e6


class Step(Protocol):
    """Losses and gradients of one batch."""

    @property
    def n_threads(self) -> int:
        """Number of torch threads to run the step with."""
        ...

    @property
    def sources(self) -> Sequence[Source]:
        """What batches draw random numbers from, besides the generators of torch."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Return everything that is trained."""
        ...

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Compute the losses of these rows and leave new gradients in the parameters.

        Returns
        -------
        dict of str to Tensor
            Detached scalars: the weighted total as ``"loss"``, and one entry per term.
        """
        ...

    def finish(self) -> None:
        """Write weights that the step keeps elsewhere back into the modules."""
        ...


class AutogradStep:
    """The general step: embed the batch, sum the terms, backpropagate."""

    def __init__(self, embedder: Embedder, terms: Sequence[Term]) -> None:
        self.embedder = embedder
        self.terms = list(terms)
        self._progress = 0.0

    def modules(self) -> list[nn.Module]:
        """Return the embedder and what the terms train."""
        modules = [self.embedder, *(m for term in self.terms for m in term.modules.values())]
        return [module for module in modules if isinstance(module, nn.Module)]

    @property
    def sources(self) -> Sequence[Source]:
        """What batches draw random numbers from."""
        found: Sequence[Source] = getattr(self.embedder, "sources", ())
        return found

    @property
    def n_threads(self) -> int:
        """Few threads for free positions, more for networks; see :func:`training_threads`."""
        is_long = (self.embedder.flops or 0.0) >= LONG_STEP
        return training_threads(is_small=self.embedder.encoder is None, is_long=is_long)

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the embedder and of the terms."""
        found: dict[int, nn.Parameter] = {}
        for module in self.modules():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    found[id(parameter)] = parameter
        return list(found.values())

    @property
    def device(self) -> torch.device:
        """Device on which the step is computed."""
        return self.parameters()[0].device

    @property
    def is_known(self) -> bool:
        """Whether nothing of the user's is in it: never sure here."""
        return False

    def is_resident_on(self, kind: str) -> bool:
        """Whether a step needs nothing of the host: rows and weights are on such a device.

        The terms have to be those that only read what is in :class:`StepInputs`.
        """
        embedder = self.embedder
        inner = embedder.embedder if isinstance(embedder, GuidedEmbedder) else embedder
        if not (isinstance(inner, EncoderEmbedder) and isinstance(inner.rows, DenseRows)):
            return False
        is_there = all(p.device.type == kind for p in (*self.parameters(), *self.changing()))
        return is_there and all(map(_reads_inputs_only, self.terms))

    def changing(self) -> list[Tensor]:
        """Return buffers and parameters that only a forward pass changes."""
        state = [t for module in self.modules() for t in (*module.buffers(), *module.parameters())]
        return [tensor for tensor in state if not tensor.requires_grad]

    def python_state(self) -> Hashable:
        """Return the plain numbers among the attributes of all modules."""
        parts = [part for module in self.modules() for part in module.modules()]
        return tuple(
            (number, name, value)
            for number, part in enumerate(parts)
            for name, value in vars(part).items()
            if isinstance(value, int | float | str)
        )

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Compute the losses of these rows and leave new gradients in the parameters."""
        return self.compute(indices, self.inputs(progress))

    def inputs(self, progress: float) -> StepInputs:
        """Return the other inputs of the next step; draws where random numbers are read."""
        embedder, noise, between, scale = self.embedder, None, None, None
        if isinstance(embedder, GuidedEmbedder):
            if embedder.leads(progress):
                noise, between = embedder.between.noise, embedder.between.draw_start()
            embedder = embedder.embedder
        if isinstance(embedder, EncoderEmbedder) and between is None:
            noise, scale = embedder.noise, embedder.auxiliary_scale(progress)
        starts = None if noise is None else noise.draw_starts()
        self._progress = progress
        return StepInputs(_softening(self.terms, progress), scale, starts, between)

    def compute(self, indices: Tensor, given: StepInputs) -> dict[str, Tensor]:
        """Do the arithmetic of a step, without drawing a number."""
        for parameter in self.parameters():
            parameter.grad = None
        progress = self._progress
        batch = replace(self._embed(indices, given, progress), softening=given.softening)
        terms = [term for term in self.terms if _acts(term, progress)]
        values = {term.name: term(batch) for term in terms}
        total = sum((t.weight * values[t.name] for t in terms), start=torch.zeros(()))
        ranks = self.embedder.ranks
        if ranks.is_alone:
            total.backward()  # type: ignore[no-untyped-call]
        else:
            (total / ranks.size).backward()  # type: ignore[no-untyped-call]
            sum_gradients(ranks, self.parameters())
        return {"loss": total.detach(), **{k: v.detach() for k, v in values.items()}}

    def _embed(self, indices: Tensor, given: StepInputs, progress: float) -> Batch:
        """Return the embedded batch, with auxiliary coordinates while their scale is not zero."""
        embedder = self.embedder
        if isinstance(embedder, GuidedEmbedder):
            if given.between_start is not None:
                with _starting(embedder.between.noise, given.noise_starts):
                    embedder.between.start_at(given.between_start)
                    return Batch(indices, *embedder.embed_between(indices), progress)
            embedder = embedder.embedder
        if not isinstance(embedder, EncoderEmbedder):
            return Batch(indices, *embedder.embed(indices), progress)
        with _starting(embedder.noise, given.noise_starts):
            if given.auxiliary_scale is None:
                return Batch(indices, *embedder.embed(indices), progress)
            rows, coordinates, auxiliary = embedder.embed_with_auxiliary(indices)
        scaled = given.auxiliary_scale * auxiliary
        return Batch(indices, rows, coordinates, progress, scaled)

    def finish(self) -> None:
        """Do nothing: all weights are in the modules."""


@contextmanager
def _starting(noise: InputNoise | None, starts: NoiseStarts | None) -> Iterator[None]:
    """Let the noise of the block start where it was drawn to start."""
    if noise is None:
        yield
        return
    noise.start_at(starts)
    try:
        yield
    finally:
        noise.start_at(None)


def _softening(terms: Sequence[Term], progress: float) -> float:
    """Return the eps of the UMAP term; 0 without one."""
    plain = [term.term if isinstance(term, Later) else term for term in terms]
    return next((t.softening(progress) for t in plain if isinstance(t, UmapTerm)), 0.0)


def _reads_inputs_only(term: Term) -> bool:
    """Whether a term depends on nothing that changes from step to step without being an input."""
    plain = term.term if isinstance(term, Later) else term
    if type(plain) is ReconstructionTerm:
        return plain.loss.name != "custom"
    return type(plain) in (UmapTerm, GuideTerm)


def _acts(term: Term, progress: float) -> bool:
    """Whether a term takes part at this time; most always do."""
    return not isinstance(term, GuideTerm | Later) or term.acts(progress)


def training_precision(embedder: Embedder, terms: Sequence[Term]) -> str:
    """Return "bfloat16" if some network trains in it, otherwise "float32"."""
    if _is_closed_form(embedder, terms):
        return str(fast_dtype(embedder.rows.device)).removeprefix("torch.")
    is_mixed = any(precision.enabled for precision in _precisions(embedder, terms))
    return "bfloat16" if is_mixed else "float32"


def choose_step(embedder: Embedder, terms: Sequence[Term]) -> Step:
    """Return the closed-form step where it applies, otherwise the general one."""
    if _is_closed_form(embedder, terms):
        return MLPStep(embedder, terms[0])  # type: ignore[arg-type]
    step = AutogradStep(embedder, terms)
    precisions = _precisions(embedder, terms)
    if all(precision.is_known for precision in precisions):
        return step
    return VerifiedStep(step, precisions, step.modules(), step.sources)


def _is_closed_form(embedder: Embedder, terms: Sequence[Term]) -> TypeGuard[EncoderEmbedder]:
    # By exact type: a subclass may embed or weigh differently, which only its methods know.
    only_umap = len(terms) == 1 and type(terms[0]) is UmapTerm and terms[0].weight == 1.0
    return only_umap and type(embedder) is EncoderEmbedder and MLPStep.serves(embedder)


def _precisions(embedder: Embedder, terms: Sequence[Term]) -> list[MixedPrecision]:
    parts: list[object] = [embedder, *terms]
    found = [getattr(part, "mixed", None) for part in parts]
    return [precision for precision in found if precision is not None]


def record_step(
    step: Step, optimizer: Optimizer, *, n_steps: int, is_watched: bool
) -> tuple[Step, Optimizer]:
    """Return a step and an optimiser with the same results, recorded if a GPU gains from it.

    The pair is used as the one passed in: call the step, then ``optimizer.step()``.

    Parameters
    ----------
    step : Step
    optimizer : Optimizer
        Of the step's parameters.
    n_steps : int
        Steps of the training.
    is_watched : bool
        Whether a callback may read gradients after single steps. A replayed step leaves none.
    """
    replay = choose_replay(step, optimizer, n_steps=n_steps, is_watched=is_watched)
    return (step, optimizer) if replay is None else (replay, replay.optimizer)
