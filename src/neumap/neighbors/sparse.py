"""Exact neighbours of sparse rows by sparse products, without a dense copy of the matrix.

A tile of rows times the transposed matrix gives all inner products of the tile. Squared distances
and the counts of binary data follow from them. Products are in float64, where the difference
``|x|^2 - 2 x.y + |y|^2`` keeps enough digits for float32 data. Several threads work on tiles at the
same time: scipy's product uses one thread and releases the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._device import usable_cores
from neumap._ranks import ALONE, Ranks
from neumap.neighbors.exact import by_distance, smallest
from neumap.neighbors.graph import Found, own_row_first
from neumap.neighbors.metrics import EuclideanMetric, Metric, TiledMetric
from neumap.neighbors.shares import answer_shares

__all__ = ["OffsetRows", "SparseBackend", "product_cost", "supports"]

TILE_BYTES = 1 << 25  # of one thread's products, which needs four times this with temporaries
MAX_THREADS = 16


@dataclass(frozen=True)
class OffsetRows:
    """Rows as ``matrix - offsets``: a sparse part, and a shift that would fill the matrix.

    Inner products are ``matrix @ matrix.T - offsets offsets'``.
    """

    matrix: Any  # csr, float64
    offsets: NDArray[Any]  # (n_rows,)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    def squared_norms(self) -> NDArray[Any]:
        """Squared length of each row, shape (n_rows,)."""
        squares = self.matrix.multiply(self.matrix).sum(axis=1)
        norms: NDArray[Any] = np.asarray(squares).reshape(-1) - self.offsets**2
        return norms


@dataclass(frozen=True)
class SparseBackend:
    """Exact search in sparse rows for metrics that follow from inner products.

    Parameters
    ----------
    n_jobs : int, default=-1
        Threads; -1 takes all cores, up to 16.
    ranks : Ranks, optional
        The processes that share a search among the rows themselves; not one for other queries.
    """

    n_jobs: int = -1
    name: str = "exact-sparse"
    exact: bool = True
    ranks: Ranks = ALONE

    def prepare(self, data: Any, metric: Metric) -> OffsetRows:
        """Map the stored entries as the metric requires."""
        maker = PREPARATIONS.get(metric.name, _binary if _is_binary(metric) else None)
        if maker is None:
            raise ValueError(
                f"metric of a search by sparse products must be {', '.join(PREPARATIONS)} or a "
                f"binary metric, got {metric.name!r}. Use backend='exact' or 'pynndescent'."
            )
        return maker(scipy.sparse.csr_matrix(data, dtype=np.float64))

    def search(self, rows: OffsetRows, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each row among all rows, itself first."""

        def answer(part: slice) -> Found:
            own = OffsetRows(rows.matrix[part], rows.offsets[part])
            return self.query(rows, own, n_neighbors, metric)

        tile = self.tile_rows(rows, metric)
        return own_row_first(*answer_shares(answer, len(rows), n_neighbors, tile, self.ranks))

    def tile_rows(self, rows: OffsetRows, metric: Metric) -> int:
        """Queries that are compared at once."""
        return max(1, TILE_BYTES // (8 * len(rows)))

    def build(self, rows: OffsetRows, n_neighbors: int, metric: Metric) -> OffsetRows:
        """Return the rows themselves: a query compares all of them."""
        return rows

    def query(
        self, rows: OffsetRows, queries: OffsetRows, n_neighbors: int, metric: Metric
    ) -> Found:
        """Neighbours of each query among the rows."""
        n_queries = len(queries)
        transposed = rows.matrix.T.tocsr()
        row_norms, query_norms = rows.squared_norms(), queries.squared_norms()
        tile_rows = self.tile_rows(rows, metric)
        indices = np.empty((n_queries, n_neighbors), dtype=np.int64)
        distances = np.empty((n_queries, n_neighbors), dtype=np.float32)

        def search_tile(start: int) -> None:
            part = slice(start, start + tile_rows)
            products = (queries.matrix[part] @ transposed).toarray()
            if rows.offsets.any():
                products -= np.outer(queries.offsets[part], rows.offsets)
            tile = _distances(
                torch.from_numpy(products),
                torch.from_numpy(query_norms[part]),
                torch.from_numpy(row_norms),
                metric,
                rows.matrix.shape[1],
            )
            found, index = smallest(tile, n_neighbors)
            index, found = by_distance(index, found, n_neighbors)
            indices[part], distances[part] = index.numpy(), found.numpy()

        with ThreadPoolExecutor(self._n_threads()) as threads:
            for _ in threads.map(search_tile, range(0, n_queries, tile_rows)):
                pass  # an error in a thread is raised here
        if isinstance(metric, EuclideanMetric):
            distances = metric.finish(np.sqrt(np.maximum(distances, 0)))
        return indices, distances

    def _n_threads(self) -> int:
        return min(MAX_THREADS if self.n_jobs < 0 else self.n_jobs, usable_cores())


def _distances(
    products: Tensor, query_norms: Tensor, row_norms: Tensor, metric: Metric, n_columns: int
) -> Tensor:
    """Squared distances, or binary distances from counts, shape (n_queries, n_rows)."""
    if isinstance(metric, TiledMetric):
        rule = metric.tile.keywords["rule"]  # type: ignore[attr-defined]  # see _is_binary
        return Tensor(rule(products, query_norms[:, None], row_norms, n_columns))
    return products.mul_(-2).add_(query_norms[:, None]).add_(row_norms)


def _is_binary(metric: Metric) -> bool:
    return isinstance(metric, TiledMetric) and "rule" in getattr(metric.tile, "keywords", {})


def supports(metric: Metric) -> bool:
    """Whether the metric follows from inner products."""
    return metric.name in PREPARATIONS or _is_binary(metric)


def product_cost(matrix: Any) -> float:
    """Multiplications in ``matrix @ matrix.T``: the squared entry counts of the columns."""
    per_column = np.bincount(scipy.sparse.csr_matrix(matrix).indices, minlength=matrix.shape[1])
    return float((per_column.astype(np.float64) ** 2).sum())


def _as_is(matrix: Any) -> OffsetRows:
    return OffsetRows(matrix, np.zeros(matrix.shape[0]))


def _binary(matrix: Any) -> OffsetRows:
    ones = matrix.copy()
    ones.eliminate_zeros()
    ones.data[:] = 1
    return _as_is(ones)


def _unit(matrix: Any) -> OffsetRows:
    return _scaled(matrix, np.zeros(matrix.shape[0]))


def _root(matrix: Any) -> OffsetRows:
    if matrix.nnz and matrix.data.min() < 0:
        raise ValueError(
            "X must not be negative where metric='hellinger', which compares distributions, got a "
            f"smallest value of {matrix.data.min()}. Shift or clip X, or choose another metric."
        )
    return _unit(matrix.sqrt())


def _centred(matrix: Any) -> OffsetRows:
    """Centred rows: the mean goes to the offsets, since subtracting it would fill the matrix."""
    n_columns = matrix.shape[1]
    means = np.asarray(matrix.sum(axis=1)).reshape(-1) / n_columns
    return _scaled(matrix, np.sqrt(n_columns) * means)


def _scaled(matrix: Any, offsets: NDArray[Any]) -> OffsetRows:
    """Rows of length one; zero rows get a column of their own (see ``unit_rows``)."""
    squares = np.asarray(matrix.multiply(matrix).sum(axis=1)).reshape(-1)
    squared_norms = squares - offsets**2
    is_zero = squared_norms <= 1e-12 * squares
    scale = 1 / np.sqrt(np.where(is_zero, 1, squared_norms))
    scale[is_zero] = 0
    own_column = scipy.sparse.csr_matrix(is_zero.astype(np.float64)[:, None])
    unit = scipy.sparse.hstack([scipy.sparse.diags(scale) @ matrix, own_column], format="csr")
    return OffsetRows(unit, offsets * scale)


PREPARATIONS: dict[str, Callable[[Any], OffsetRows]] = {
    "euclidean": _as_is,
    "sqeuclidean": _as_is,
    "cosine": _unit,
    "correlation": _centred,
    "hellinger": _root,
}
