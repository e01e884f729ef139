"""What one fit works on: rows, targets, device and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neumap._device import resolve_device
from neumap._labels import Column
from neumap._random import RandomState, resolve_seed
from neumap._ranks import ALONE, Ranks
from neumap.data import DistinctRows, RowStore, Validated, as_rows, distinct, row_count, take
from neumap.estimators.landmarks import WarmStart
from neumap.estimators.targets import check_sample_weight, check_targets

__all__ = ["Task", "prepare"]


@dataclass(frozen=True)
class Task:
    """Data and seed of one fit, handed from step to step.

    Attributes
    ----------
    data : Validated
        As passed to ``fit``.
    X : array, sparse matrix or other checked container
        The rows to train on; only distinct rows where ``unique=True``.
    rows : RowStore
        These rows in the shape for the network, on the device.
    targets : Column or None
        Labels or values of these rows.
    distinct : DistinctRows or None
        How to get from distinct rows back to all rows.
    warm_start : WarmStart or None
        What the fit takes over from an earlier one.
    seed : int
        Resolved from ``random_state``.
    search_seed : int or None
        Of the neighbour search. Without a seed it may build its index with all threads.
    device : torch.device
        Where training runs.
    row_weights : array of shape (n_rows,), float64, or None
        Weights of these rows; of a distinct row, the sum of those of its copies.
    ranks : Ranks
        The processes that fit together.
    """

    data: Validated
    X: Any
    rows: RowStore
    targets: Column | None
    distinct: DistinctRows | None
    warm_start: WarmStart | None
    seed: int
    search_seed: int | None
    device: torch.device
    row_weights: NDArray[np.float64] | None = None
    ranks: Ranks = ALONE

    def expand(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return one value per row passed to ``fit`` from one per distinct row."""
        return values if self.distinct is None else values[self.distinct.inverse]

    def warm_positions(self) -> NDArray[np.float32] | None:
        """Return the positions that rows should keep, one per row to train on."""
        if self.warm_start is None:
            return None
        positions = self.warm_start.positions
        return positions if self.distinct is None else positions[self.distinct.first]


def prepare(
    data: Validated,
    y: Any,
    *,
    dims: tuple[int, ...] | None,
    unique: bool,
    device: str | torch.device,
    random_state: RandomState,
    warm_start: WarmStart | None = None,
    sample_weight: Any = None,
    is_repeated: bool = False,
) -> Task:
    """Return the task of a fit on checked data.

    With `is_repeated`, the neighbour search has a seed whatever `random_state` is.

    Raises
    ------
    ValueError
        If the device, the seed, `dims`, the weights or the length of y is wrong.
    """
    resolved, seed = resolve_device(device), resolve_seed(random_state)
    targets = None if y is None else check_targets(y, row_count(data.X))
    weights = check_sample_weight(sample_weight, row_count(data.X))
    found = distinct(data.X) if unique else None
    X = data.X if found is None else take(data.X, found.first)
    if targets is not None and found is not None:
        targets = targets[found.first]
    if weights is not None and found is not None:
        weights = np.bincount(found.inverse, weights).astype(np.float64)
    return Task(
        data=data,
        X=X,
        rows=as_rows(X, dims=dims, device=resolved),
        targets=targets,
        distinct=found,
        warm_start=warm_start,
        seed=seed,
        search_seed=None if random_state is None and not is_repeated else seed,
        device=resolved,
        row_weights=weights,
    )
