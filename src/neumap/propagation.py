"""Spread a few labels over the graph: from the classes of some rows to a class for every row.

Poisson learning (Calder, Cook, Thorpe & Slepcev 2020): each label is a source that flows along the
edges of the graph, and a row gets the class of the largest flow. Averaging labels over neighbours,
the older rule, is nearly constant away from the labels where there are only a few.

The edges of UMAP's graph between two classes are as strong as those within, but their ends have few
neighbours in common. So labels flow by ``(w J)^4``, where w is the strength of an edge and J the
share of neighbours that its ends have in common (Jarvis & Patrick 1973, "Clustering using a
similarity measure based on shared near neighbors"). High powers favour the path whose weakest edge
is strongest (Couprie, Grady, Najman & Talbot 2011, "Power watershed").

A small part of the flow is lost at each edge. Without a loss, two groups of rows that are hardly
connected would differ so much in flow that one class could take a whole group.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from neumap._labels import UNLABELLED
from neumap.fuzzy import FuzzyGraph

__all__ = ["spread_labels"]

# Power of w J. See "Few labels" in docs/decisions.md.
POWER = 4
# Steps that a label's flow makes before it is lost, for each row that the label has to name.
STEPS_PER_ROW = 10
# Of the solution by conjugate gradients: most steps, and the residual as a share of the sources.
MAX_STEPS = 1000
TOLERANCE = 1e-4
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
        Share of each class's rows that stay -1: those whose neighbours have, in the mean, the most
        similar flows of their class and another. A larger share makes the classes purer and leaves
        more rows at their borders unlabelled.

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
    spread[_least_sure(weights, flow, spread, leave_out)] = UNLABELLED
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
    shares = scipy.sparse.vstack(parts, format="csr")
    strengths = shares.astype(np.float64).multiply(weights)  # float32 would end at 1e-10 each
    return scipy.sparse.csr_matrix(strengths.power(POWER))


def _flow(
    weights: scipy.sparse.csr_matrix, classes: NDArray[np.int64], labelled: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Solve ``((1 + loss) D - W) u = source``, divided by each class's share of labels.

    D is the diagonal of the degrees. Returns (n, n_classes); -inf for classes without a label.
    """
    n, n_classes = len(classes), int(classes.max()) + 1
    share = np.bincount(classes[labelled], minlength=n_classes) / len(labelled)
    source = np.zeros((n, n_classes))
    source[labelled, classes[labelled]] = 1.0
    source[labelled] -= share
    degrees = np.asarray(weights.sum(axis=1)).ravel()
    roots = np.sqrt(np.where(degrees > 0.0, degrees, 1.0))[:, None]
    scale = scipy.sparse.diags(1.0 / roots.ravel())
    loss = len(labelled) / (STEPS_PER_ROW * n)
    walk = (scale @ weights @ scale).tocsr().astype(np.float32)  # symmetric, as CG needs it
    flow = _conjugate_gradients(walk, 1.0 + loss, (source / roots).astype(np.float32))
    flow /= (roots * np.where(share > 0.0, share, 1.0)).astype(np.float32)
    return np.where(share > 0.0, flow, np.float32(-np.inf))


def _conjugate_gradients(
    walk: scipy.sparse.csr_matrix, diagonal: float, right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Solve ``(diagonal I - walk) x = right`` for all columns at once, each with its own steps."""
    tiny = np.finfo(np.float32).tiny
    solution: NDArray[np.float32] = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    squared = np.square(residual).sum(axis=0)
    enough = TOLERANCE**2 * squared
    for _ in range(MAX_STEPS):
        if (squared <= enough).all():
            break
        image = np.float32(diagonal) * direction - walk @ direction
        step = squared / np.maximum((direction * image).sum(axis=0), tiny)
        solution += step * direction
        residual -= step * image
        before, squared = squared, np.square(residual).sum(axis=0)
        direction = residual + (squared / np.maximum(before, tiny)) * direction
    return solution


def _reached(weights: scipy.sparse.csr_matrix, labelled: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row is in one connected component with a label."""
    _, parts = scipy.sparse.csgraph.connected_components(weights, directed=False)
    return np.asarray(np.isin(parts, parts[labelled]))


def _least_sure(
    weights: scipy.sparse.csr_matrix,
    flow: NDArray[np.float32],
    spread: NDArray[np.int64],
    share: float,
) -> NDArray[np.int64]:
    """Row numbers of this share of each class, by what the neighbours say of it.

    The edges of UMAP's graph lead over borders that the flow hardly crosses. The mean flow of a
    row's neighbours there is of several classes, whatever the row's own is.
    """
    if share == 0.0 or np.isfinite(flow[0]).sum() < 2:
        return np.zeros(0, dtype=np.int64)
    degrees = np.asarray(weights.sum(axis=1)).ravel()[:, None]
    around = (weights @ flow) / np.maximum(degrees, np.finfo(np.float32).tiny)
    unsure = []
    for label in np.unique(spread[spread > UNLABELLED]):
        rows = np.flatnonzero(spread == label)
        others = np.delete(around[rows], label, axis=1).max(axis=1)
        by_lead = rows[np.argsort(around[rows, label] - others, kind="stable")]
        unsure.append(by_lead[: int(share * len(rows))])
    return np.concatenate(unsure)
