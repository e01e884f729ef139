"""Rows that arrive in batches: which of the earlier ones a model keeps, and their labels.

``partial_fit`` with `max_rows` keeps a uniform sample of all rows so far (a reservoir). A model
holds the rows that it kept at its last call, a sample of the stream until then, followed by the
rows of that call. The next sample takes as many of each as a sample of the whole stream would.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._labels import Column
from neumap._random import RandomState, numpy_generator, resolve_seed
from neumap.data import row_count, take
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.estimators.targets import check_targets

__all__ = ["Stream", "keep_rows", "labels_after"]


@dataclass(frozen=True)
class Stream:
    """What a model has seen.

    Attributes
    ----------
    n_seen : int
        Rows of all calls.
    n_added : int
        Rows of the last call, the last ones that the model holds.
    max_rows : int or None
        Earlier rows that a call keeps; None keeps all.
    """

    n_seen: int
    n_added: int
    max_rows: int | None = None

    @classmethod
    def of(cls, fitted: Fitted, max_rows: int | None) -> Stream:
        """Return the stream of a model, with a new bound if one is given."""
        n_held = int(fitted.graph.shape[0])
        noted = (fitted.report or {}).get("partial_fit")
        if noted is None:
            return cls(n_held, n_held, max_rows)
        known = cls(**noted)
        return replace(known, max_rows=known.max_rows if max_rows is None else max_rows)

    def kept(self, n_held: int, random_state: RandomState) -> NDArray[np.int64]:
        """Return which of the held rows stay, in ascending order: all, or a uniform sample.

        Parameters
        ----------
        n_held : int
            Rows of the model, the last `n_added` of which are those of the last call.
        random_state : int, numpy generator or None
            With the rows seen, it determines the sample. A generator is drawn from only if there
            is one to take.
        """
        if self.max_rows is None or n_held <= self.max_rows:
            return np.arange(n_held)
        seed = resolve_seed(random_state)
        generator = numpy_generator(seed, f"reservoir after {self.n_seen} rows")
        n_earlier = n_held - self.n_added
        n_recent = int(
            generator.hypergeometric(self.n_added, self.n_seen - self.n_added, self.max_rows)
        )
        # The bound may have been raised, so that fewer earlier rows are left than the draw asks.
        n_recent = max(n_recent, self.max_rows - n_earlier)
        earlier = generator.choice(n_earlier, self.max_rows - n_recent, replace=False)
        recent = n_earlier + generator.choice(self.n_added, n_recent, replace=False)
        return np.sort(np.concatenate([earlier, recent])).astype(np.int64)

    def after(self, n_added: int) -> Stream:
        """Return the stream after one more call."""
        return Stream(self.n_seen + n_added, n_added, self.max_rows)

    def noted_in(self, fitted: Fitted) -> Fitted:
        """Return the model with the stream in its report, from which the next call reads it."""
        return replace(fitted, report={**(fitted.report or {}), "partial_fit": asdict(self)})


def keep_rows(
    fitted: Fitted, rows: NDArray[np.int64] | None
) -> tuple[TrainingRows, NDArray[np.float32]]:
    """Return training rows of a model and their positions, by default all."""
    training, positions = fitted.training_rows("partial_fit"), fitted.positions
    if rows is None or len(rows) == row_count(training.rows):
        return training, positions
    return TrainingRows(take(training.rows, rows)), positions[rows]


def labels_after(y: Any, n_earlier: int, n_new: int) -> Column:
    """Return labels of earlier rows, which are not known, and of new ones."""
    column = check_targets(y, n_new).extended(n_earlier)
    return column[np.r_[n_new : n_new + n_earlier, 0:n_new]]
