"""Sparse rows: a CSR matrix of which only the rows of one batch are made dense at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from neumap.data.moments import matrix_moments, sample_rows
from neumap.data.rows import Matrix, RowMoments, resolve_row_shape

__all__ = ["CsrRows"]


class CsrRows:
    """Rows of a sparse matrix, made dense one batch at a time.

    Parameters
    ----------
    X : scipy sparse matrix or array of shape (n_rows, n_features)
        Any format. CSR with float32 values and no duplicate entries is viewed, not copied.
    dims : tuple of int, optional
        Shape of one row; by default ``(n_features,)``.
    device : torch.device or str, default="cpu"
        Where the matrix is kept and rows are returned.

    Attributes
    ----------
    n_rows, row_shape, n_features, device
        As in `RowStore`.

    Examples
    --------
    >>> rows = CsrRows(sparse.eye(3, format="csr"))
    >>> rows.gather(torch.tensor([1]))
    tensor([[0., 1., 0.]])
    """

    def __init__(
        self,
        X: Any,
        *,
        dims: tuple[int, ...] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._matrix = _canonical_csr(X)
        self.n_rows, self.n_features = self._matrix.shape
        self.row_shape = resolve_row_shape((self.n_features,), dims)
        self.device = torch.device(device)
        self._starts = torch.from_numpy(self._matrix.indptr).to(self.device)
        self._columns = torch.from_numpy(self._matrix.indices).to(self.device)
        self._values = torch.from_numpy(self._matrix.data).to(self.device)

    def gather(self, indices: Tensor) -> Tensor:
        """Return the rows with these numbers, dense float32 (batch, *row_shape)."""
        index = indices.to(self.device)
        shape = (len(index), *self.row_shape)
        result = torch.zeros(shape, dtype=torch.float32, device=self.device)
        first = self._starts[index].long()
        counts = self._starts[index + 1].long() - first  # (batch,) entries of each row
        row = torch.repeat_interleave(torch.arange(len(index), device=self.device), counts)
        # Entry e of the batch is entry e - (entries before its row) of its row, counted from first.
        offset = first - (counts.cumsum(0) - counts)
        entry = torch.arange(len(row), device=self.device).add_(offset.index_select(0, row))
        position = row.mul_(self.n_features).add_(self._columns.index_select(0, entry))
        result.view(-1).scatter_(0, position, self._values.index_select(0, entry))
        return result

    def slices(self, batch_rows: int) -> Iterator[Tensor]:
        """Yield all rows in order, each slice dense in new memory."""
        for start in range(0, self.n_rows, batch_rows):
            yield self.gather(torch.arange(start, min(start + batch_rows, self.n_rows)))

    def to_matrix(self) -> Matrix:
        """Return the CSR matrix itself."""
        return self._matrix

    def mean_and_scale(
        self, *, max_rows: int = 10_000, seed: int | np.random.Generator = 0
    ) -> RowMoments:
        """Estimate the mean and the scale from a random sample of sparse rows."""
        rng = np.random.default_rng(seed)
        chosen = sample_rows(self.n_rows, max_rows, rng)
        sample = self._matrix if len(chosen) == self.n_rows else self._matrix[chosen]
        return matrix_moments(sample, rng, self.device)


def _canonical_csr(X: Any) -> sparse.csr_matrix[Any]:
    """CSR with float32 values, each entry once; shares the memory of `X` where it is that already.

    ``csr_matrix`` rather than ``csr_array``: libraries for neighbour search accept only the former.
    """
    csr = X.tocsr()
    values: NDArray[np.float32] = csr.data.astype(np.float32, copy=False)
    matrix = sparse.csr_matrix((values, csr.indices, csr.indptr), shape=csr.shape, copy=False)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()  # summing works in place, and the arrays may be the caller's
        matrix.sum_duplicates()
    return matrix
