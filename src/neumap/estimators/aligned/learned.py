"""What a fit of several data sets learned, as one frozen value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.data import take
from neumap.estimators.aligned.relations import related_pairs
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.training.loop import History

__all__ = ["AlignedFitted", "misalignment"]


@dataclass(frozen=True)
class AlignedFitted:
    """Several maps.

    Attributes
    ----------
    parts : tuple of Fitted
        One per data set with free positions. With a network one for all of them, whose rows are
        those of the data sets one after the other.
    sizes : tuple of int
        Rows of each data set.
    relations : tuple of arrays
        See :mod:`neumap.estimators.aligned.relations`.
    changed : tuple of dict
        Parameters that :meth:`AlignedUMAP.update` was given for a data set; empty for others.
    history, report : dict
        See ``history_`` and ``report_`` of the estimator.
    """

    parts: tuple[Fitted, ...]
    sizes: tuple[int, ...]
    relations: tuple[NDArray[np.int64], ...]
    changed: tuple[dict[str, Any], ...]
    history: History = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def has_network(self) -> bool:
        """Whether one network gives all positions."""
        return self.parts[0].encoder is not None

    @property
    def sets(self) -> tuple[Fitted, ...]:
        """Return the model of each data set."""
        if not self.has_network:
            return self.parts
        ends = np.cumsum(self.sizes).tolist()
        return tuple(
            _rows(self.parts[0], slice(end - size, end))
            for end, size in zip(ends, self.sizes, strict=True)
        )

    def embeddings(self) -> list[NDArray[np.float32]]:
        """Return the positions of the rows of each data set."""
        found = [fitted.embedding for fitted in self.sets]
        return [embedding for embedding in found if embedding is not None]

    def for_pickle(self) -> AlignedFitted:
        """Return what a pickle keeps; see :meth:`Fitted.for_pickle`."""
        return replace(self, parts=tuple(part.for_pickle() for part in self.parts))


def _rows(fitted: Fitted, part: slice) -> Fitted:
    """Return the model of some of the rows, with the same network."""
    training, embedding = fitted.training, fitted.embedding
    return replace(
        fitted,
        graph=fitted.graph[part, part],
        embedding=None if embedding is None else embedding[part],
        training=None if training is None else TrainingRows(take(training.rows, part)),
    )


def misalignment(
    embeddings: Sequence[NDArray[np.float32]], relations: Sequence[NDArray[np.int64]]
) -> float:
    """Return the mean distance of related rows of consecutive maps, relative to the maps' extent.

    The extent is the root mean square distance of the points of all maps from their centre. NaN
    without related rows.
    """
    sizes = [len(embedding) for embedding in embeddings]
    distances = [
        np.linalg.norm(embeddings[i][pairs[:, 0]] - embeddings[j][pairs[:, 1]], axis=1)
        for i, j, pairs in related_pairs(relations, sizes, window=1)
    ]
    moved = np.concatenate([*distances, np.empty(0)])
    everything = np.concatenate(embeddings)
    extent = float(np.sqrt(np.nanvar(everything, axis=0).sum())) or 1.0
    return float(np.nanmean(moved)) / extent if np.isfinite(moved).any() else float("nan")
