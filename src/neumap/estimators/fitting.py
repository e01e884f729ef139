"""What one fit works on, and small steps of it that need no estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d
from torch import nn

from neumap._random import numpy_generator
from neumap.callbacks import Callback, TrainingRun
from neumap.data import RowStore
from neumap.estimators.graphs import Graph
from neumap.estimators.landmarks import Memory
from neumap.fuzzy import edge_distances, fuzzy_simplicial_set, local_radii
from neumap.keras_bridge import is_keras_optimizer, keras_optimizer_factory
from neumap.metrics import distance_correlation
from neumap.neighbors import find_neighbors
from neumap.training import optimizer_factory
from neumap.training.loop import History
from neumap.training.optimizers import OptimizerFactory

__all__ = [
    "Classes",
    "DistinctRows",
    "Fit",
    "StepCounter",
    "check_positions",
    "check_targets",
    "device_of",
    "distinct_rows",
    "embedded_radii",
    "encode_classes",
    "joined_histories",
    "reached_correlation",
    "resolve_optimizer",
    "row_count",
    "same_rows",
]


UNLABELLED = -1


@dataclass(frozen=True)
class DistinctRows:
    """Which rows differ: ``X[first]`` are the distinct ones, ``X[first][inverse]`` all of them."""

    first: NDArray[np.int64]
    inverse: NDArray[np.int64]


@dataclass(frozen=True)
class Fit:
    """Data, graph and seed of one fit, handed from step to step.

    Attributes
    ----------
    rows : RowStore
        What the network reads; only distinct rows where ``unique=True``.
    graph : Graph
        What is trained on.
    seed : int
        Resolved from ``random_state``.
    device : torch.device
        Where training runs.
    distinct : DistinctRows or None
        How to get from distinct rows back to all rows.
    targets : ndarray or None
        Labels or values of the rows.
    memory : Memory or None
        What an earlier fit learned and this one should keep.
    """

    rows: RowStore
    graph: Graph
    seed: int
    device: torch.device
    distinct: DistinctRows | None = None
    targets: NDArray[Any] | None = None
    memory: Memory | None = None

    @property
    def goes_on(self) -> bool:
        """Whether training continues from what an earlier fit learned."""
        memory = self.memory
        return memory is not None and (memory.encoder is not None or memory.initial is not None)

    def expand(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return one value per row passed to ``fit`` from one per distinct row."""
        return values if self.distinct is None else values[self.distinct.inverse]


class StepCounter(Callback):
    """Knows after training how many steps were taken; a callback or the time may end it early."""

    def __init__(self) -> None:
        self.n_steps = 0

    def on_fit_end(self, run: TrainingRun) -> None:
        self.n_steps = run.step


def distinct_rows(X: Any) -> DistinctRows:
    """Find the distinct rows of an array or sparse matrix, in order of first appearance.

    Raises
    ------
    ValueError
        For data that are not in memory.
    """
    if scipy.sparse.issparse(X):
        rows: Any = X
        return _distinct(_row_texts(rows.tocsr()))
    if not isinstance(X, np.ndarray | torch.Tensor):
        raise ValueError(
            f"unique=True needs an array or a sparse matrix, got {type(X).__name__}. Load the data "
            "into memory, or leave unique=False."
        )
    flat = np.ascontiguousarray(np.asarray(X)).reshape(len(X), -1)
    as_bytes = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    return _distinct(as_bytes)


def _row_texts(X: Any) -> NDArray[Any]:
    """Return each sparse row's columns and values as one comparable object."""
    X.sum_duplicates()
    bounds = zip(X.indptr[:-1], X.indptr[1:], strict=True)
    rows = [X.indices[i:j].tobytes() + b"|" + X.data[i:j].tobytes() for i, j in bounds]
    return np.array(rows, dtype=object)


def _distinct(keys: NDArray[Any]) -> DistinctRows:
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return DistinctRows(first[order].astype(np.int64), rank[inverse.ravel()].astype(np.int64))


@dataclass(frozen=True)
class Classes:
    """Distinct labels in order, and the code of each row's label; -1 for unlabelled rows."""

    labels: NDArray[Any]
    codes: NDArray[np.int64]


def encode_classes(y: NDArray[Any]) -> Classes:
    """Number the labels of y; -1 (and NaN) stay unlabelled.

    Raises
    ------
    ValueError
        If y has more than one column or no label at all.
    """
    if y.ndim != 1:
        raise ValueError(f"A classifier needs one label per row, got y of shape {y.shape}.")
    known = np.ones(len(y), dtype=bool)
    if y.dtype.kind in "if":
        known = (y != UNLABELLED) & ~np.isnan(y)
    if not known.any():
        raise ValueError("A classifier needs labels, but every entry of y is -1 (unlabelled).")
    labels, found = np.unique(y[known], return_inverse=True)
    codes = np.full(len(y), UNLABELLED, dtype=np.int64)
    codes[known] = found
    return Classes(labels, codes)


def row_count(X: Any) -> int:
    """Return the number of rows of checked data."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def same_rows(X: Any, other: Any) -> bool:
    """Whether two checked inputs in memory hold the same rows in the same order."""
    if X is other:
        return True
    if type(X) is not type(other) or getattr(X, "shape", None) != getattr(other, "shape", ()):
        return False
    if scipy.sparse.issparse(X):
        return bool(abs(X - other).nnz == 0)
    if isinstance(X, torch.Tensor):
        return torch.equal(X, other)
    return isinstance(X, np.ndarray) and np.array_equal(X, other)


def reached_correlation(
    rows: RowStore, positions: NDArray[np.float32], seed: int, max_rows: int = 2000
) -> float:
    """Return the correlation of input and map distances over pairs that were not trained on.

    The pairs are drawn anew among a sample of rows; of the many pairs of a data set, batches
    visit few.
    """
    generator = numpy_generator(seed, "correlation")
    sample = np.sort(generator.permutation(rows.n_rows)[:max_rows])
    inputs = rows.gather(torch.from_numpy(sample)).flatten(1).cpu().numpy()
    return float(
        distance_correlation(inputs, positions[sample], method="pearson", random_state=seed % 2**31)
    )


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's numbers are."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def check_positions(X: Any, n_components: int) -> NDArray[np.float32]:
    """Return positions on the map as float32.

    Raises
    ------
    ValueError
        If they are not of shape (n, n_components) or not finite.
    """
    positions = np.asarray(X, dtype=np.float32)
    if positions.ndim != 2 or positions.shape[1] != n_components:
        raise ValueError(
            f"Positions must have shape (n_samples, {n_components}), got {positions.shape}."
        )
    if not np.isfinite(positions).all():
        raise ValueError("Positions must be finite, but some are NaN or infinite.")
    return positions


def check_targets(y: Any, n_rows: int) -> NDArray[Any]:
    """Return y as an array with one entry per row.

    Raises
    ------
    ValueError
        If its length is another.
    """
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = column_or_1d(values, warn=True)
    if values.ndim == 0 or len(values) != n_rows:
        raise ValueError(
            f"y must have one entry per row of X: expected {n_rows}, got shape {values.shape}. "
            "Mark rows without a label with -1."
        )
    return values


def embedded_radii(positions: NDArray[np.float32], n_neighbors: int) -> NDArray[np.float32]:
    """Return the log local radius of each placed row in the map itself, NaN where it has none."""
    placed = np.isfinite(positions).all(axis=1)
    neighbors = find_neighbors(positions[placed], min(n_neighbors, int(placed.sum())))
    graph = fuzzy_simplicial_set(neighbors)
    radii = np.full(len(positions), np.nan, dtype=np.float32)
    radii[placed] = local_radii(graph, edge_distances(graph, neighbors) ** 2)
    return radii


def resolve_optimizer(optimizer: Any) -> OptimizerFactory:
    """Return a function from parameters to an optimiser; Keras optimisers included."""
    if is_keras_optimizer(optimizer):
        return keras_optimizer_factory(optimizer)
    return optimizer_factory(optimizer)


def joined_histories(before: History, after: History) -> History:
    """Return one history of two fits, the second of which went on from the first.

    A loss that one of them lacks is NaN there, so that all lists have the same length.
    """
    names = [*before, *(name for name in after if name not in before)]
    return {name: [*_curve(before, name), *_curve(after, name)] for name in names}


def _curve(history: History, name: str) -> list[float]:
    n_reports = max((len(curve) for curve in history.values()), default=0)
    return history.get(name, [math.nan] * n_reports)
