"""One training step: forward and backward for a batch, then the optimiser.

A step takes row numbers and returns losses, with the gradients left in the parameters.
``AutogradStep`` handles every network and every set of terms. ``MLPStep`` (``mlp_step``) computes
the same in closed form for the default case. :func:`choose_step` selects one of them.
:func:`record_step` replaces step and optimiser by a CUDA graph where that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from neumap._device import training_threads
from neumap.losses.terms import Batch, Term, UmapTerm
from neumap.training.embedders import Embedder, EncoderEmbedder
from neumap.training.mlp_step import MLPStep
from neumap.training.optimizers import Optimizer
from neumap.training.replay import choose_replay

__all__ = ["AutogradStep", "Step", "choose_step", "record_step"]


class Step(Protocol):
    """Losses and gradients of one batch."""

    @property
    def n_threads(self) -> int:
        """Number of torch threads to run the step with."""
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

    @property
    def n_threads(self) -> int:
        """Few threads for free positions, more for networks; see :func:`training_threads`."""
        return training_threads(is_small=self.embedder.encoder is None)

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the embedder and of the terms."""
        modules = [self.embedder, *(m for term in self.terms for m in term.modules.values())]
        found: dict[int, nn.Parameter] = {}
        for module in modules:
            assert isinstance(module, nn.Module)
            for parameter in module.parameters():
                if parameter.requires_grad:
                    found[id(parameter)] = parameter
        return list(found.values())

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Compute the losses of these rows and leave new gradients in the parameters."""
        for parameter in self.parameters():
            parameter.grad = None
        batch = self._embed(indices, progress)
        values = {term.name: term(batch) for term in self.terms}
        total = sum((t.weight * values[t.name] for t in self.terms), start=torch.zeros(()))
        total.backward()  # type: ignore[no-untyped-call]
        return {"loss": total.detach(), **{k: v.detach() for k, v in values.items()}}

    def _embed(self, indices: Tensor, progress: float) -> Batch:
        """Return the embedded batch, with auxiliary coordinates while their scale is not zero."""
        embedder = self.embedder
        if isinstance(embedder, EncoderEmbedder):
            scale = embedder.auxiliary_scale(progress)
            if scale is not None:
                rows, coordinates, auxiliary = embedder.embed_with_auxiliary(indices)
                return Batch(indices, rows, coordinates, progress, scale * auxiliary)
        return Batch(indices, *embedder.embed(indices), progress)

    def finish(self) -> None:
        """Do nothing: all weights are in the modules."""


def choose_step(embedder: Embedder, terms: Sequence[Term]) -> Step:
    """Return the closed-form step where it applies, otherwise the general one."""
    # By exact type: a subclass may embed or weigh differently, which only its methods know.
    only_umap = len(terms) == 1 and type(terms[0]) is UmapTerm and terms[0].weight == 1.0
    if only_umap and type(embedder) is EncoderEmbedder and MLPStep.serves(embedder):
        return MLPStep(embedder, terms[0])  # type: ignore[arg-type]
    return AutogradStep(embedder, terms)


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
