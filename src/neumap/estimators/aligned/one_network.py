"""One network for several data sets with the same columns.

A network gives equal rows of two data sets one position, so its maps are aligned by construction.
Rows that are related but not equal are joined by an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from neumap.data import Validated, like, row_count, stack, take
from neumap.estimators.aligned.relations import related_pairs
from neumap.estimators.aligned.together import Alignment
from neumap.estimators.fitted import Fitted
from neumap.estimators.fitting import fit_map
from neumap.estimators.landmarks import WarmStart
from neumap.estimators.recipe import Recipe
from neumap.fuzzy import FuzzyGraph

__all__ = ["fit_one_network"]

# From the weight of a squared distance to that of an edge; the default, 0.01, is a whole edge.
EDGE_WEIGHT = 100.0


def fit_one_network(
    data: Sequence[Validated],
    graphs: Sequence[Any],
    relations: Sequence[NDArray[np.int64]],
    alignment: Alignment,
    recipe: Recipe,
    warm_start: WarmStart | None = None,
) -> Fitted:
    """Train a network on the rows of all data sets.

    Parameters
    ----------
    data : sequence of Validated
        Data sets with the same columns.
    graphs : sequence of CSR matrices
        The fuzzy graph of each.
    relations : sequence of arrays
        Between consecutive data sets.
    alignment : Alignment
        Its weight times 100, at most 1, is that of the edge between related rows.
    recipe : Recipe
    warm_start : WarmStart, optional
        What it continues.
    """
    rows = data[0].X
    for other in data[1:]:
        rows = stack(rows, like(other.X, rows))
    joined = _joined(rows, [row_count(part.X) for part in data], graphs, relations, alignment)
    return fit_map(
        replace(data[0], X=rows),
        recipe,
        graph=FuzzyGraph.from_matrix(joined),
        warm_start=warm_start,
    )


def _joined(
    rows: Any,
    sizes: Sequence[int],
    graphs: Sequence[Any],
    relations: Sequence[NDArray[np.int64]],
    alignment: Alignment,
) -> Any:
    """Return the graph of all rows: the graphs one after the other, and edges between them."""
    before = np.cumsum([0, *sizes])
    joined = scipy.sparse.block_diag(graphs, format="csr", dtype=np.float32)
    weight = min(1.0, EDGE_WEIGHT * alignment.weight)
    for first, second, pairs in related_pairs(relations, sizes, alignment.window):
        heads, tails = before[first] + pairs[:, 0], before[second] + pairs[:, 1]
        apart = _differ(take(rows, heads), take(rows, tails))
        heads, tails = heads[apart], tails[apart]
        pull = np.full(len(heads), weight * 0.5 ** (second - first - 1), dtype=np.float32)
        edges = scipy.sparse.csr_matrix((pull, (heads, tails)), shape=joined.shape)
        joined = joined + edges + edges.T
    return joined


def _differ(ours: Any, theirs: Any) -> NDArray[np.bool_]:
    """Whether two rows differ; equal ones need no edge, the network gives them one place."""
    if scipy.sparse.issparse(ours):
        return np.asarray(np.diff((ours != theirs).tocsr().indptr) > 0)
    different = np.asarray(ours) != np.asarray(theirs)
    return np.asarray(different.any(axis=tuple(range(1, different.ndim))))
