"""Labels that reach the encoder: a classifier trained on the map or on the features below it.

In: a batch and the classes of some rows. Out: cross entropy over the labelled ones and, if asked
for, the disagreement of neighbours of which one has no label. Labels that only change the graph
hardly move an encoder; a loss at its output does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from neumap.losses.terms import Batch

__all__ = ["ClassifierTerm", "Features", "balanced_weights", "coordinates_of", "features_of"]

Features = Callable[[Batch], Tensor]
Locate = Callable[[Tensor], tuple[Tensor | None, Tensor]]

UNLABELLED = -1


def coordinates_of(batch: Batch) -> Tensor:
    """Return the positions, for a classifier that reads the map itself."""
    return batch.coordinates


def features_of(encoder: nn.Module | None) -> Features:
    """Return what a classifier should read: the encoder's last hidden layer if it shows one.

    Encoders with a method ``features(rows)`` (:class:`~neumap.networks.MLP`,
    :class:`~neumap.networks.ConvEncoder`) are run a second time for it; for all others, and for a
    free table, the classifier reads the coordinates.
    """
    hidden = getattr(encoder, "features", None)
    if hidden is None:
        return coordinates_of

    def features(batch: Batch) -> Tensor:
        found: Tensor = hidden(batch.rows)
        return found

    return features


def balanced_weights(classes: Tensor, n_classes: int) -> Tensor:
    """Weight of each class, inversely proportional to its number of labelled rows.

    ``n_labelled / (n_classes * count)``, as scikit-learn's ``class_weight="balanced"``; 0 for a
    class without rows.

    Examples
    --------
    >>> balanced_weights(torch.tensor([0, 0, 0, 1, -1]), 2).tolist()
    [0.6666..., 2.0]
    """
    counts = torch.bincount(classes[classes >= 0], minlength=n_classes)
    weights = counts.sum() / (n_classes * counts.clamp_min(1))
    return torch.where(counts > 0, weights, 0.0)


@dataclass(frozen=True)
class ClassifierTerm:
    """Cross entropy of a classifier trained together with the map.

    Parameters
    ----------
    head : nn.Module
        Maps features (batch, n_features) to logits (batch, n_classes). Trained.
    classes : Tensor of shape (n_rows,), int64
        Class of each training row, 0 to n_classes - 1; -1 where unknown.
    weight : float, default=1.0
        Factor in the total. Larger values separate the classes further.
    features : callable, default=coordinates_of
        What the head reads of a batch: :func:`coordinates_of`, which separates classes
        in the map itself, or ``features_of(encoder)``, which shapes the layer below it.
    class_weights : Tensor of shape (n_classes,), optional
        For classes of unequal size; see :func:`balanced_weights`.
    consistency_weight : float, default=0.0
        Factor of the symmetric Kullback-Leibler divergence between the predictions at the two
        ends of an edge, averaged over edges with an unlabelled end. It carries few labels
        through the graph; 0.1 to 1 is a sensible range.
    locate : callable, optional
        The embedder's ``locate``. With it, `n_visits` labelled rows are encoded at every step
        beside the batch, so that four labels in a thousand rows count in each one; without it
        the labelled rows of the batch serve, and a batch without any counts 0.
    n_visits : int, default=64
        Labelled rows encoded at every step.
    anchors : Tensor of shape (n_anchors,), int64, optional
        Numbers of the rows whose class is certain, where the classes of others are guesses. With
        `locate` these are the rows visited at every step, and their mean counts as much as that
        of the batch.

    Raises
    ------
    ValueError
        If no row is labelled, or, at the first call, if the head has fewer outputs than there
        are classes.
    """

    head: nn.Module
    classes: Tensor
    weight: float = 1.0
    features: Features = coordinates_of
    class_weights: Tensor | None = None
    consistency_weight: float = 0.0
    locate: Locate | None = None
    n_visits: int = 64
    anchors: Tensor | None = None
    name: str = field(default="classifier_loss", init=False)
    n_classes: int = field(init=False)
    labelled: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Find the labelled rows once."""
        labelled = (self.classes > UNLABELLED).nonzero().flatten()
        if len(labelled) == 0:
            raise ValueError(
                f"A classifier needs labelled rows, but all {len(self.classes)} are -1 (unknown). "
                "Label some, or leave the classifier out."
            )
        object.__setattr__(self, "labelled", labelled)
        object.__setattr__(self, "n_classes", int(self.classes.max()) + 1)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The head."""
        return {"classifier": self.head}

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean cross entropy of labelled rows plus the weighted inconsistency."""
        loss = self._supervised(batch)
        if self.consistency_weight:
            loss = loss + self.consistency_weight * self._inconsistency(batch)
        return loss

    def _supervised(self, batch: Batch) -> Tensor:
        if self.locate is None:
            return self._cross_entropy(batch)
        visited = self._cross_entropy(self._visit(batch, self.locate))
        return visited if self.anchors is None else (visited + self._cross_entropy(batch)) / 2.0

    def _visit(self, batch: Batch, locate: Locate) -> Batch:
        """Make a batch of labelled rows.

        The row numbers in a batch are random, so modulo the number of labels they pick labelled
        rows almost uniformly: randomness without a generator of its own.
        """
        choice = self.labelled if self.anchors is None else self.anchors
        picks = choice[batch.indices[: self.n_visits] % len(choice)]
        rows, coordinates = locate(picks)
        return Batch(picks, rows, coordinates, batch.progress)

    def _logits(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.features(batch))
        if logits.shape[1] < self.n_classes:
            raise ValueError(
                f"The classifier must have one output per class, {self.n_classes}, got "
                f"{logits.shape[1]}. Widen its last layer."
            )
        return logits

    def _cross_entropy(self, batch: Batch) -> Tensor:
        """Mean over labelled rows; 0 without any, where torch's own mean is NaN."""
        classes = self.classes.index_select(0, batch.indices)
        total = functional.cross_entropy(
            self._logits(batch),
            classes,
            weight=self.class_weights,
            ignore_index=UNLABELLED,
            reduction="sum",
        )
        counted = (classes > UNLABELLED).to(total.dtype)
        if self.class_weights is not None:
            counted = counted * self.class_weights[classes.clamp_min(0)]
        return total / counted.sum().clamp_min(torch.finfo(total.dtype).tiny)

    def _inconsistency(self, batch: Batch) -> Tensor:
        """Symmetric divergence along edges with an unlabelled end."""
        log_p = self._logits(batch).log_softmax(1)
        heads, tails = log_p[: batch.n_edges], log_p[batch.n_edges :]
        divergence = 0.5 * ((heads.exp() - tails.exp()) * (heads - tails)).sum(1)  # (n_edges,)
        unknown = self.classes.index_select(0, batch.indices) == UNLABELLED
        open_ended = unknown[: batch.n_edges] | unknown[batch.n_edges :]
        return (divergence * open_ended).sum() / open_ended.sum().clamp_min(1)
