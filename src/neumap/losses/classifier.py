"""A classifier that is trained together with the embedding.

In: a batch and the classes of some rows. Out: cross entropy over the labelled rows. Labels that
only change the graph have little effect on an encoder; a loss at its output has more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from neumap._labels import UNLABELLED
from neumap.losses.terms import Batch

__all__ = ["ClassifierTerm"]

Embed = Callable[[Tensor], tuple[Tensor | None, Tensor]]

# Labelled rows that are encoded at every step in addition to the batch, if labels are few.
N_VISITS = 64


@dataclass(frozen=True)
class ClassifierTerm:
    """Cross entropy of a classifier that reads the coordinates.

    Parameters
    ----------
    head : nn.Module
        Maps coordinates (batch, n_components) to logits (batch, n_classes). Trained.
    classes : Tensor of shape (n_rows,), int64
        Class of each training row, 0 to n_classes - 1; -1 where unknown.
    weight : float, default=1.0
        Factor in the total. Larger values separate the classes further.
    embed : callable, optional
        The embedder's ``embed``. If given, 64 labelled rows are embedded at every step in addition
        to the batch, so four labels in a thousand rows act at every step. Otherwise, the labelled
        rows of the batch are used, and the loss of a batch without any is 0.
    anchors : Tensor of shape (n_anchors,), int64, optional
        Numbers of the rows whose class is certain, if the classes of others are guesses. With
        `embed`, these are the rows embedded at every step, and their mean loss counts as much as
        that of the batch.

    Raises
    ------
    ValueError
        If no row is labelled, or, at the first call, if the head has fewer outputs than there
        are classes.
    """

    head: nn.Module
    classes: Tensor
    weight: float = 1.0
    embed: Embed | None = None
    anchors: Tensor | None = None
    name: str = field(default="classifier_loss", init=False)
    n_classes: int = field(init=False)
    labelled: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Find the labelled rows once."""
        labelled = (self.classes > UNLABELLED).nonzero().flatten()
        if len(labelled) == 0:
            raise ValueError(
                f"classes must label at least one row, got {len(self.classes)} rows that are all "
                "-1 (unknown). Label some, or leave the classifier out."
            )
        object.__setattr__(self, "labelled", labelled)
        object.__setattr__(self, "n_classes", int(self.classes.max()) + 1)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The head."""
        return {"classifier": self.head}

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean cross entropy of labelled rows."""
        if self.embed is None:
            return self._cross_entropy(batch)
        visited = self._cross_entropy(self._visit(batch, self.embed))
        return visited if self.anchors is None else (visited + self._cross_entropy(batch)) / 2.0

    def _visit(self, batch: Batch, embed: Embed) -> Batch:
        """Make a batch of labelled rows.

        The row numbers in a batch are random, so modulo the number of labels they select labelled
        rows almost uniformly, without another random generator.
        """
        choice = self.labelled if self.anchors is None else self.anchors
        picks = choice[batch.indices[:N_VISITS] % len(choice)]
        rows, coordinates = embed(picks)
        return Batch(picks, rows, coordinates, batch.progress)

    def _logits(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(batch.coordinates)
        if logits.shape[1] < self.n_classes:
            raise ValueError(
                f"The classifier must have one output per class, {self.n_classes}, got "
                f"{logits.shape[1]}. Widen its last layer."
            )
        return logits

    def _cross_entropy(self, batch: Batch) -> Tensor:
        """Return the mean over labelled rows; 0 without any, where torch's own mean is NaN."""
        classes = self.classes.index_select(0, batch.indices)
        total = functional.cross_entropy(
            self._logits(batch), classes, ignore_index=UNLABELLED, reduction="sum"
        )
        n_labelled = (classes > UNLABELLED).to(total.dtype).sum()
        return total / n_labelled.clamp_min(torch.finfo(total.dtype).tiny)
