"""Spread a few labels over the graph: from the classes of some rows to a class for every row.

Poisson learning (Calder, Cook, Thorpe & Slepcev 2020): each label is a source that flows along the
edges of the graph, and a row gets the class of the largest flow. Averaging labels over neighbours,
the older rule, is nearly constant away from the labels where there are only a few.

The edges of UMAP's graph between two classes are as strong as those within, but their ends have few
neighbours in common. So labels flow by ``(w J)^2``, where w is the strength of an edge and J the
share of neighbours that its ends have in common (Jarvis & Patrick 1973, "Clustering using a
similarity measure based on shared near neighbors").
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from neumap._labels import UNLABELLED
from neumap.fuzzy import FuzzyGraph

__all__ = ["spread_labels"]

MAX_STEPS = 500
# Distance of a random walk from its limit below which the flow has reached every row.
MIXED = 1e-3
# Rows whose common neighbours are counted at once: some hundred pairs each.
BLOCK_ROWS = 8192


def spread_labels(
    graph: FuzzyGraph, classes: NDArray[np.int64], *, leave_out: float = 0.0
) -> NDArray[np.int64]:
    """Return a class for every row that a label can reach.

    Parameters
    ----------
    graph : FuzzyGraph
        Neighbours of all rows.
    classes : array of shape (n,), int64
        0 to n_classes - 1, or -1 for rows without a label.
    leave_out : float, default=0.0
        Share of each class's rows that stay -1: those with the most similar flows of two classes.
        A larger share makes the classes purer and leaves more rows at their borders unlabelled.

    Returns
    -------
    array of shape (n,), int64
        Labelled rows keep their class; rows in parts of the graph without any label are -1.

    Raises
    ------
    ValueError
        If no row has a label.

    Examples
    --------
    >>> path = FuzzyGraph(np.arange(3), np.arange(1, 4), np.ones(3, dtype=np.float32), 4)
    >>> spread_labels(path, np.array([0, -1, -1, 1])).tolist()
    [0, 0, 1, 1]
    """
    labelled = np.flatnonzero(classes > UNLABELLED)
    if len(labelled) == 0:
        raise ValueError("classes must hold at least one label, got only -1. Label some rows.")
    weights = graph.to_csr()
    flow = _flow(_within_classes(weights), classes, labelled)
    spread = np.asarray(flow.argmax(axis=1), dtype=np.int64)
    spread[~_reached(weights, labelled)] = UNLABELLED
    spread[_least_sure(flow, spread, leave_out)] = UNLABELLED
    spread[labelled] = classes[labelled]
    return spread


def _within_classes(weights: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Weaken edges whose ends have few neighbours in common, the row itself among them."""
    n = weights.shape[0]
    near = (weights + scipy.sparse.identity(n, dtype=weights.dtype, format="csr")).sign().tocsr()
    degrees = np.diff(near.indptr)
    parts = []
    for start in range(0, n, BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, n))
        common = (near[block] @ near).multiply(weights[block].sign()).tocoo()
        both = degrees[block][common.row] + degrees[common.col]
        share = common.data / (both - common.data)
        parts.append(scipy.sparse.csr_matrix((share, common.coords), shape=common.shape))
    return scipy.sparse.vstack(parts, format="csr").multiply(weights).power(2).tocsr()


def _flow(
    weights: scipy.sparse.csr_matrix, classes: NDArray[np.int64], labelled: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Let the sources flow until a random walk from the labels has mixed, (n, n_classes)."""
    n, n_classes = len(classes), int(classes.max()) + 1
    counts = np.bincount(classes[labelled], minlength=n_classes)
    degrees = np.asarray(weights.sum(axis=1)).ravel()
    inverse = 1.0 / np.maximum(degrees, np.finfo(np.float32).tiny)
    walk = scipy.sparse.diags(inverse) @ weights  # rows sum to one
    back = (weights @ scipy.sparse.diags(inverse)).tocsr()  # columns sum to one
    source = np.zeros((n, n_classes))
    source[labelled, classes[labelled]] = 1.0
    source[labelled] -= (counts / len(labelled))[None, :]
    source *= inverse[:, None]
    walkers: NDArray[np.float64] = np.zeros(n)
    walkers[labelled] = 1.0 / len(labelled)
    limit = degrees / degrees.sum()
    flow: NDArray[np.float64] = np.zeros((n, n_classes))
    for _ in range(MAX_STEPS):
        flow = np.asarray(source + walk @ flow)
        walkers = np.asarray(back @ walkers).ravel()
        if np.abs(walkers - limit).sum() < MIXED:
            break
    share = counts / len(labelled)
    balanced = flow / np.maximum(share, np.finfo(np.float64).tiny)
    return np.where(counts > 0, balanced, -np.inf)  # a class without a label reaches no row


def _reached(weights: scipy.sparse.csr_matrix, labelled: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row is in one connected component with a label."""
    _, parts = scipy.sparse.csgraph.connected_components(weights, directed=False)
    return np.asarray(np.isin(parts, parts[labelled]))


def _least_sure(
    flow: NDArray[np.float64], spread: NDArray[np.int64], share: float
) -> NDArray[np.int64]:
    """Row numbers of this share of each class, by the margin between a row's two largest flows."""
    if share == 0.0 or np.isfinite(flow[0]).sum() < 2:
        return np.zeros(0, dtype=np.int64)
    largest = np.partition(flow, -2, axis=1)[:, -2:]
    margins = largest[:, 1] - largest[:, 0]
    unsure = []
    for label in np.unique(spread[spread > UNLABELLED]):
        rows = np.flatnonzero(spread == label)
        by_margin = rows[np.argsort(margins[rows], kind="stable")]
        unsure.append(by_margin[: int(share * len(rows))])
    return np.concatenate(unsure)
