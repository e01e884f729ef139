"""Anchors: the rows whose neighbours are searched for, where training does not need those of all.

The steps of a training do not grow with the number of rows beyond 160,000, so that most edges of a
large graph are never drawn. The neighbours of a sample of rows, sought among all rows, give as many
edges as the training draws, at true distances. Which rows are in the sample depends on the seed
alone; rows that the fit has few of (landmarks, labelled rows) are in it first. Where the sample is
small, rows beside it get neighbours too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from neumap._random import numpy_generator
from neumap.estimators.positions import NetworkPositions
from neumap.estimators.recipe import Recipe
from neumap.estimators.task import Task
from neumap.label_distances import DISCRETE_METRICS
from neumap.neighbors import resolve_metric
from neumap.neighbors.metrics import EuclideanMetric

__all__ = ["choose_anchors", "joins_lists"]

# "auto" takes every row up to this number: the search is quick, and the graph small.
ALL_ROWS = 300_000
FEWEST = 100_000
# Times that "auto" lets an edge be drawn: fewer than in a fit of all of 60,000 rows, where it is 3.
# Without joined lists, 7 draws cost .005 of held-out accuracy on MNIST, and 14 cost .012.
DRAWS_OF_AN_EDGE = 1.5
# Share of the anchors that are rows of which there are few, such as landmarks.
LARGEST_SHARE = 0.5
# Draws of an edge from which the lists of the anchors are joined. A fit of all of 10,000 rows draws
# its edges 5 times.
DRAWS_TO_JOIN = 4.0


def choose_anchors(
    task: Task, recipe: Recipe, *, has_distances: bool = False
) -> NDArray[np.int64] | None:
    """Return the numbers of the rows whose neighbours are searched for, rising; None for all rows.

    Raises
    ------
    ValueError
        If a number was passed and a part of the fit needs the neighbours of every row.
    """
    wanted, n_rows = recipe.n_anchors, task.rows.n_rows
    if wanted is None:
        return None
    needed_by = _needed_by(task, recipe, has_distances)
    if not isinstance(wanted, str):
        if needed_by is not None:
            raise ValueError(
                f"n_anchors must be 'auto' or None with {needed_by}, which needs the neighbours of "
                f"every row, got {wanted}. Leave out n_anchors."
            )
        number = int(wanted)
    elif needed_by is not None or _prefers_every_row(task, recipe):
        return None
    else:
        number = _automatic(recipe, n_rows)
    return None if number >= n_rows else _sample(task, recipe, number)


def joins_lists(task: Task, recipe: Recipe, anchors: NDArray[np.int64] | None) -> bool:
    """Whether other rows get neighbours from the lists of the anchors.

    Edges of few anchors are drawn again and again, and most rows take part as an end of theirs
    only. Epochs draw every edge, so that more edges would only make the training longer.
    """
    if anchors is None or recipe.n_epochs is not None or recipe.stops_at_graph:
        return False
    graph = recipe.graph
    metric = resolve_metric(graph.metric, graph.metric_kwds)
    if not isinstance(metric, EuclideanMetric) or scipy.sparse.issparse(task.X):
        return False  # distances of chosen pairs are cheap by products alone
    n_edges = len(anchors) * (graph.n_neighbors - 1)
    plan = recipe.positions.plan(task.rows.n_rows, total_weight=0.0)
    return 0 < DRAWS_TO_JOIN * n_edges < plan.n_steps * plan.batch_edges


def _needed_by(task: Task, recipe: Recipe, has_distances: bool) -> str | None:
    """Return the parameter that needs the neighbours of every row, if there is one."""
    graph, metric = recipe.graph, recipe.targets.metric
    is_discrete = isinstance(metric, str) and metric in ("categorical", *DISCRETE_METRICS)
    needs = {
        "parametric_embedding=False": not isinstance(recipe.positions, NetworkPositions),
        "metric='precomputed'": has_distances
        or (isinstance(graph.metric, str) and graph.metric == "precomputed"),
        "precomputed_knn": not graph.searches,
        "set_op_mix_ratio below 1": graph.set_op_mix_ratio != 1.0,
        f"target_metric={metric!r:.40}": task.targets is not None and not is_discrete,
    }
    return next((name for name, is_needed in needs.items() if is_needed), None)


def _prefers_every_row(task: Task, recipe: Recipe) -> bool:
    """Whether a part of the fit is better with the neighbours of every row, however long it takes.

    Epochs draw every edge, a graph may be the result itself, and few labels spread along edges.
    """
    return (
        recipe.n_epochs is not None
        or recipe.stops_at_graph
        or (recipe.objective.classifier_weight != 0 and _unlabelled(task) is not None)
    )


def _automatic(recipe: Recipe, n_rows: int) -> int:
    """Return the number of anchors whose edges the training draws about one and a half times."""
    if n_rows <= ALL_ROWS:
        return n_rows
    plan = recipe.positions.plan(n_rows, total_weight=0.0)
    n_edges = plan.n_steps * plan.batch_edges / DRAWS_OF_AN_EDGE
    return max(FEWEST, math.ceil(n_edges / max(recipe.graph.n_neighbors - 1, 1)))


def _sample(task: Task, recipe: Recipe, number: int) -> NDArray[np.int64]:
    """Draw anchors without replacement, those that come first among them."""
    generator = numpy_generator(task.seed, "anchors")
    n_rows, first = task.rows.n_rows, _first(task, recipe)
    if len(first) > LARGEST_SHARE * number:
        first = generator.choice(first, math.ceil(LARGEST_SHARE * number), replace=False)
    drawn = generator.permutation(n_rows)
    if len(first):
        drawn = np.concatenate([first, drawn[~np.isin(drawn, first)]])
    return np.sort(drawn[:number]).astype(np.int64)


def _first(task: Task, recipe: Recipe) -> NDArray[Any]:
    """Return the rows that come before others: the fewer of kept and free ones, or those with y."""
    kept = task.warm_positions()
    if kept is not None:
        is_free = np.isnan(kept).any(axis=1)
        is_first = is_free if is_free.mean() <= 0.5 else ~is_free
        return np.flatnonzero(is_first)
    unlabelled = _unlabelled(task) if recipe.objective.classifier_weight else None
    return np.zeros(0, dtype=np.int64) if unlabelled is None else np.flatnonzero(~unlabelled)


def _unlabelled(task: Task) -> NDArray[np.bool_] | None:
    """Return which rows have no label; None where all of them have one."""
    if task.targets is None:
        return None
    unlabelled: NDArray[np.bool_] = task.targets.unlabelled()
    return unlabelled if unlabelled.any() else None
