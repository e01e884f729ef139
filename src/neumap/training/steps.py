"""One step: row numbers in, losses out, gradients left in the parameters.

``AutogradStep`` serves every network and every set of terms. ``MLPStep`` (``mlp_step``) does the
same arithmetic by hand for the default case. :func:`choose_step` picks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from neumap.losses.terms import Batch, Term, UmapTerm
from neumap.training.embedders import Embedder, EncoderEmbedder
from neumap.training.mlp_step import MLPStep

__all__ = ["AutogradStep", "Step", "choose_step"]


class Step(Protocol):
    """Losses and gradients of one batch."""

    @property
    def n_threads(self) -> int | None:
        """Threads of torch that serve the step best; None leaves them as they are."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Everything that is trained."""
        ...

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Leave fresh gradients in the parameters; return detached scalars by name.

        ``"loss"`` is the weighted total, beside one entry per term.
        """
        ...

    def finish(self) -> None:
        """Write anything kept elsewhere back into the modules."""
        ...


class AutogradStep:
    """The step as anyone would write it: locate, add up the terms, go backward."""

    n_threads: int | None = None

    def __init__(self, embedder: Embedder, terms: Sequence[Term]) -> None:
        self.embedder = embedder
        self.terms = list(terms)

    def parameters(self) -> list[nn.Parameter]:
        """Everything that is trained: the embedder's parameters and the terms'."""
        modules = [self.embedder, *(m for term in self.terms for m in term.modules.values())]
        found: dict[int, nn.Parameter] = {}
        for module in modules:
            assert isinstance(module, nn.Module)
            for parameter in module.parameters():
                if parameter.requires_grad:
                    found[id(parameter)] = parameter
        return list(found.values())

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Leave fresh gradients in the parameters; return detached scalars by name."""
        for parameter in self.parameters():
            parameter.grad = None
        batch = self._locate(indices, progress)
        values = {term.name: term(batch) for term in self.terms}
        total = sum((t.weight * values[t.name] for t in self.terms), start=torch.zeros(()))
        total.backward()  # type: ignore[no-untyped-call]
        return {"loss": total.detach(), **{k: v.detach() for k, v in values.items()}}

    def _locate(self, indices: Tensor, progress: float) -> Batch:
        """Return the batch where it stands, with spare coordinates while there are any."""
        embedder = self.embedder
        if isinstance(embedder, EncoderEmbedder):
            share = embedder.spare_share(progress)
            if share is not None:
                rows, coordinates, spare = embedder.locate_wide(indices)
                return Batch(indices, rows, coordinates, progress, share * spare)
        return Batch(indices, *embedder.locate(indices), progress)

    def finish(self) -> None:
        """Nothing is kept elsewhere."""


def choose_step(embedder: Embedder, terms: Sequence[Term]) -> Step:
    """Return the hand-written step where it applies, the general one otherwise."""
    # By exact type: a subclass may locate or weigh in its own way, which only its methods know.
    only_umap = len(terms) == 1 and type(terms[0]) is UmapTerm and terms[0].weight == 1.0
    if only_umap and type(embedder) is EncoderEmbedder and MLPStep.serves(embedder):
        return MLPStep(embedder, terms[0])  # type: ignore[arg-type]
    return AutogradStep(embedder, terms)
