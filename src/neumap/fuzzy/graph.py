"""An undirected weighted graph that stores each edge once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from torch import Tensor

from neumap._device import is_on_card
from neumap._structure import check_structure

__all__ = ["FuzzyGraph"]

SYMMETRY = 1e-6  # rounding of float32


@dataclass(frozen=True)
class FuzzyGraph:
    """Undirected edges with membership strengths, each stored once.

    Attributes
    ----------
    heads, tails : arrays of shape (n_edges,), int64
        End points, ``heads < tails``; edges are sorted by head, then by tail.
    weights : array of shape (n_edges,), float32
        Membership strengths in (0, 1].
    n_vertices : int
        Number of rows, including those without an edge.
    on_device : tuple of tensors or None
        Heads, tails and weights on the card that computed them.

    Examples
    --------
    >>> triangle = FuzzyGraph(np.array([0, 0, 1]), np.array([1, 2, 2]),
    ...                       np.array([1.0, 0.5, 0.25], dtype=np.float32), 3)
    >>> triangle.degrees().tolist()
    [1.5, 1.25, 0.75]
    """

    heads: NDArray[np.int64]
    tails: NDArray[np.int64]
    weights: NDArray[np.float32]
    n_vertices: int
    on_device: tuple[Tensor, Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_tensors(
        cls, heads: Tensor, tails: Tensor, weights: Tensor, *, n_vertices: int
    ) -> FuzzyGraph:
        """Take sorted edges that were computed on a device, and keep them there as well."""
        return cls(
            heads.cpu().numpy(),
            tails.cpu().numpy(),
            weights.cpu().numpy(),
            n_vertices,
            (heads, tails, weights) if is_on_card(weights) else None,
        )

    @classmethod
    def from_matrix(cls, matrix: Any) -> FuzzyGraph:
        """Read the upper triangle of a symmetric matrix; explicit zeros are dropped.

        Raises
        ------
        ValueError
            If the matrix is not square and symmetric, or holds other numbers than 0 to 1.
        """
        check_structure(matrix, "graph")
        _check_memberships(matrix)
        upper = scipy.sparse.triu(matrix, k=1, format="csr")
        upper.eliminate_zeros()
        upper.sort_indices()
        edges = upper.tocoo()
        return cls(
            heads=edges.row.astype(np.int64),
            tails=edges.col.astype(np.int64),
            weights=edges.data.astype(np.float32),
            n_vertices=int(matrix.shape[0]),
        )

    def to_csr(self) -> Any:
        """Both directions of every edge as a symmetric matrix of shape (n, n)."""
        n = self.n_vertices
        upper = scipy.sparse.csr_matrix((self.weights, (self.heads, self.tails)), shape=(n, n))
        return (upper + upper.T).tocsr()

    def degrees(self) -> NDArray[np.float32]:
        """Sum of the weights at each vertex, shape (n_vertices,), float32."""
        n = self.n_vertices
        degrees = np.bincount(self.heads, self.weights, n) + np.bincount(
            self.tails, self.weights, n
        )
        return degrees.astype(np.float32)

    def isolated(self) -> NDArray[np.int64]:
        """Indices of the vertices without an edge, int64."""
        return np.flatnonzero(~self.has_edges())

    def has_edges(self) -> NDArray[np.bool_]:
        """Whether each vertex has an edge that weighs something, shape (n_vertices,)."""
        found = np.zeros(self.n_vertices, dtype=bool)
        is_edge = self.weights != 0
        for ends in (self.heads, self.tails):
            found[ends[is_edge]] = True
        return found


def _check_memberships(matrix: Any) -> None:
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(
            f"graph must be a square matrix, from every row of X to every row, got shape {shape}. "
            "Pass the graph_ of a model fitted on these rows."
        )
    values = scipy.sparse.coo_matrix(matrix).data
    if values.size and not (values.min() >= 0 and values.max() <= 1 + SYMMETRY):
        raise ValueError(
            "graph must hold membership strengths between 0 and 1, got values from "
            f"{values.min()} to {values.max()}. Divide them by the largest one."
        )
    if abs(matrix - matrix.T).max() > SYMMETRY:
        raise ValueError(
            "graph must be symmetric, got a matrix that is not. Join both directions, for example "
            "by graph.maximum(graph.T)."
        )
