"""How long and how fast: steps, batch size, and learning rate as a function of progress."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The schedule of one training.

    Everything that changes during training is a function of *progress*, the fraction of the
    training that is done. Progress is counted in steps, or in seconds if `max_time` runs out
    first. A fit with a time limit therefore anneals its learning rate to the end as well.

    Parameters
    ----------
    n_steps : int
        Optimiser steps.
    n_reports : int, default=10
        Reports, each one line of the history; at most `n_steps`.
    batch_edges : int, default=512
        Edges per step; each edge has two rows.
    peak_learning_rate : float or None, default=1e-2
        Peak of the schedule; None leaves the optimiser's own learning rate unchanged.
    warm_up : float, default=0.05
        Fraction of the training over which the learning rate rises from zero.
    max_time : float or None, default=None
        Seconds after which training ends.
    """

    n_steps: int
    n_reports: int = 10
    batch_edges: int = 512
    peak_learning_rate: float | None = 1e-2
    warm_up: float = 0.05
    max_time: float | None = None

    def progress(self, step: int, seconds: float) -> float:
        """Return the fraction of the training that is done, 0 to 1."""
        done = step / self.n_steps
        if self.max_time is not None:
            done = max(done, seconds / self.max_time)
        return min(done, 1.0)

    def learning_rate(self, progress: float) -> float | None:
        """Return the learning rate: linear warm-up, then a half cosine down to zero."""
        if self.peak_learning_rate is None:
            return None
        rise = min(1.0, (progress + 1.0 / self.n_steps) / self.warm_up) if self.warm_up else 1.0
        return self.peak_learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * progress))

    def report_steps(self) -> list[int]:
        """Return the numbers of steps after which there is a report."""
        n_reports = min(self.n_reports, self.n_steps)
        return [(i + 1) * self.n_steps // n_reports for i in range(n_reports)]
