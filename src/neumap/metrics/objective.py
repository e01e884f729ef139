"""Is the objective reached? One UMAP cross entropy for the embeddings of every library.

Libraries report losses that differ by constants, weights and even by formula, so their numbers
cannot be compared. This scorer takes only positions and a graph. With the similarity
``q(d) = 1 / (1 + a d^(2b))`` of two points at distance d, edge weights w and m negatives per edge::

    attraction = sum_e w_e * -log q(d_e) / sum_e w_e
    repulsion  = E[-log(1 - q(d_ij))],  i drawn by degree, j uniformly among the other rows
    cross entropy = attraction + m * repulsion

which is the expected value, per sampled edge, of what UMAP's optimiser descends. Attraction is
exact over all edges. Repulsion is the mean over a million sampled pairs. ``1 - q`` is not taken
below 1e-4, so a coincident pair costs 9.21 and the score is finite for every embedding.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from neumap.metrics.checks import Floats, Ints, check_rows

__all__ = ["CrossEntropy", "EdgeGraph", "umap_cross_entropy", "umap_cross_entropy_terms"]

SMALLEST_DISSIMILARITY = 1e-4  # floor of 1 - q
N_PAIRS = 1_000_000  # sampled for the repulsion: its standard error is near 1e-3 of its value
N_CHUNK = 1_000_000  # pairs at once: some 50 MB for two components


@runtime_checkable
class EdgeGraph(Protocol):
    """A weighted graph as a list of edges; ``neumap.fuzzy.FuzzyGraph`` is one."""

    @property
    def heads(self) -> Ints:
        """First end of each edge, shape (n_edges,)."""

    @property
    def tails(self) -> Ints:
        """Second end of each edge, shape (n_edges,)."""

    @property
    def weights(self) -> NDArray[np.float32]:
        """Weight of each edge, shape (n_edges,)."""

    @property
    def n_vertices(self) -> int:
        """Number of vertices."""


class CrossEntropy(NamedTuple):
    """The parts of a cross entropy, each per sampled edge."""

    attraction: float
    repulsion: float
    total: float


def umap_cross_entropy(
    embedding: ArrayLike,
    graph: EdgeGraph | sparse.sparray | sparse.spmatrix,
    a: float,
    b: float,
    negative_sample_rate: float = 5,
    seed: int = 0,
) -> float:
    """Return the UMAP cross entropy of an embedding, the same for every library's.

    Compare embeddings of the same rows on the same graph with the same `a`, `b`, rate and seed.

    Parameters
    ----------
    embedding : array of shape (n_samples, n_components)
        Positions, one per vertex of the graph.
    graph : FuzzyGraph or scipy sparse matrix of shape (n_samples, n_samples)
        Edge weights in [0, 1], for example ``graph_`` of a fitted UMAP. A symmetric matrix that
        holds each edge twice scores the same as the list with each edge once.
    a, b : float
        Parameters of the similarity; 1.577 and 0.895 for the default ``min_dist=0.1``.
    negative_sample_rate : float, default=5
        Weight m of the repulsion. Larger values reward maps that keep unrelated rows apart.
    seed : int, default=0
        Seed of the repelled pairs.

    Returns
    -------
    float
        Smaller is better, never negative, always finite.

    Raises
    ------
    ValueError
        If the graph and the embedding disagree in size, weights are unusable, or a, b are not
        positive.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> chain = sparse.diags_array([np.ones(99), np.ones(99)], offsets=[-1, 1]).tocsr()
    >>> in_order = np.arange(100.0)[:, None]
    >>> shuffled = np.random.default_rng(0).permutation(in_order)
    >>> near, far = (umap_cross_entropy(Z, chain, 1.577, 0.895) for Z in (in_order, shuffled))
    >>> bool(near < far)
    True
    """
    return umap_cross_entropy_terms(embedding, graph, a, b, negative_sample_rate, seed).total


def umap_cross_entropy_terms(
    embedding: ArrayLike,
    graph: EdgeGraph | sparse.sparray | sparse.spmatrix,
    a: float,
    b: float,
    negative_sample_rate: float = 5,
    seed: int = 0,
) -> CrossEntropy:
    """Return attraction, repulsion and their weighted sum; see :func:`umap_cross_entropy`.

    Parameters
    ----------
    embedding, graph, a, b, negative_sample_rate, seed
        As in :func:`umap_cross_entropy`.

    Returns
    -------
    CrossEntropy
        A named tuple with ``total = attraction + negative_sample_rate * repulsion``.

    Raises
    ------
    ValueError
        As :func:`umap_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> graph = sparse.csr_array(np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> terms = umap_cross_entropy_terms(np.array([[0.0], [1.0]]), graph, a=1.0, b=1.0)
    >>> round(terms.attraction, 4), round(terms.repulsion, 4), round(terms.total, 4)
    (0.6931, 0.6931, 4.1589)
    """
    rows = check_rows(embedding, "embedding").astype(np.float64)
    _check_parameters(a, b, negative_sample_rate)
    heads, tails, weights = _edges(graph, len(rows))

    attraction = 0.0
    for start in range(0, len(heads), N_CHUNK):
        chunk = slice(start, start + N_CHUNK)
        u = _scaled_distance(rows, heads[chunk], tails[chunk], a, b)
        attraction += float(weights[chunk] @ np.log1p(u))
    attraction /= float(weights.sum())

    sources, others = _repelled_pairs(heads, tails, weights, len(rows), seed)
    u = _scaled_distance(rows, sources, others, a, b)
    dissimilarity = np.maximum(u / (1.0 + u), SMALLEST_DISSIMILARITY)
    repulsion = -float(np.log(dissimilarity).mean())
    return CrossEntropy(attraction, repulsion, attraction + negative_sample_rate * repulsion)


def _scaled_distance(rows: Floats, heads: Ints, tails: Ints, a: float, b: float) -> Floats:
    """``u = a d^(2b)`` of each pair, so that ``q = 1 / (1 + u)``."""
    differences = rows[heads] - rows[tails]
    with np.errstate(over="ignore"):
        scaled: Floats = a * np.einsum("ij,ij->i", differences, differences) ** b
    # A power that overflows is infinitely far, but inf / inf in 1 - q would not be a number.
    clipped: Floats = np.minimum(scaled, 1e300)
    return clipped


def _repelled_pairs(
    heads: Ints, tails: Ints, weights: Floats, n_vertices: int, seed: int
) -> tuple[Ints, Ints]:
    degrees = np.bincount(heads, weights, n_vertices) + np.bincount(tails, weights, n_vertices)
    cumulative = np.cumsum(degrees)
    rng = np.random.default_rng(seed)
    draws = rng.random(N_PAIRS) * cumulative[-1]
    sources = np.minimum(np.searchsorted(cumulative, draws, side="right"), n_vertices - 1)
    others = (sources + rng.integers(1, n_vertices, size=N_PAIRS)) % n_vertices
    return sources, others


def _edges(
    graph: EdgeGraph | sparse.sparray | sparse.spmatrix, n_rows: int
) -> tuple[Ints, Ints, Floats]:
    heads, tails, weights, n_vertices = _edge_list(graph)
    if n_vertices != n_rows or n_rows < 2:
        raise ValueError(
            "graph must have one vertex per row of the embedding, at least two, "
            f"got {n_vertices} vertices and {n_rows} rows. "
            "Score the positions of the rows the graph was built on."
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            "graph must have finite weights that are not negative, "
            f"got values from {weights.min()} to {weights.max()}. "
            "Pass the fuzzy graph, not a graph of distances."
        )
    joins_two = (heads != tails) & (weights > 0)
    if not joins_two.any():
        raise ValueError(
            f"graph must have at least one edge between two rows, got none over {n_rows} vertices. "
            "Check the metric and n_neighbors it was built with."
        )
    return heads[joins_two], tails[joins_two], weights[joins_two]


def _edge_list(graph: Any) -> tuple[Ints, Ints, Floats, int]:
    if sparse.issparse(graph):
        return _matrix_entries(graph)
    if isinstance(graph, EdgeGraph):
        return (
            np.asarray(graph.heads, dtype=np.int64),
            np.asarray(graph.tails, dtype=np.int64),
            np.asarray(graph.weights, dtype=np.float64),
            int(graph.n_vertices),
        )
    raise TypeError(
        "graph must be a scipy sparse matrix or have heads, tails, weights and n_vertices, "
        f"got {type(graph).__name__}. Use the graph_ attribute of a fitted estimator."
    )


def _matrix_entries(matrix: Any) -> tuple[Ints, Ints, Floats, int]:
    n_rows, n_columns = matrix.shape
    if n_rows != n_columns:
        raise ValueError(
            f"graph must be square, one row and one column per vertex, got {matrix.shape}. "
            "Pass the whole graph of the training rows."
        )
    entries = matrix.tocoo()
    heads, tails = entries.row.astype(np.int64), entries.col.astype(np.int64)
    return heads, tails, entries.data.astype(np.float64), n_rows


def _check_parameters(a: float, b: float, negative_sample_rate: float) -> None:
    if not (a > 0 and b > 0 and np.isfinite([a, b]).all()):
        raise ValueError(
            f"a and b must be positive and finite, got a={a!r}, b={b!r}. "
            "Fit them from min_dist and spread, or use 1.577 and 0.895."
        )
    if not 0 <= negative_sample_rate < np.inf:
        raise ValueError(
            "negative_sample_rate must be finite and not negative, "
            f"got {negative_sample_rate!r}. Use 5, UMAP's default."
        )
