"""The card of a fit: when it was made, the extent of its map, and measurements of its rows."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neumap._card import Card, RowStatistics, row_statistics
from neumap._random import numpy_generator
from neumap.data import row_count
from neumap.data.kinds import is_dataset
from neumap.estimators.recipe import Recipe
from neumap.estimators.task import Task
from neumap.networks import Standardize

__all__ = ["card_of_a_fit", "extent_of"]

# Rows that are measured: as many numbers at most, but some rows however wide they are.
MOST_ROWS, FEWEST_ROWS, MOST_NUMBERS = 1000, 64, 2**20
FORMS = {"cosine": "unit", "correlation": "centred unit"}


def card_of_a_fit(task: Task, recipe: Recipe, encoder: nn.Module | None) -> Card:
    """Return the card of a fit, whose extent is not yet known."""
    return Card(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=_version(),
        n_rows=row_count(task.data.X),
        rows=_statistics(task, recipe, encoder),
    )


def extent_of(positions: NDArray[np.float32]) -> tuple[tuple[float, float], ...] | None:
    """Return smallest and largest coordinate of each dimension of a map."""
    is_placed = np.isfinite(positions).all(axis=1)
    placed = positions if is_placed.all() else positions[is_placed]
    if not len(placed):
        return None
    sides = zip(placed.min(axis=0), placed.max(axis=0), strict=True)
    return tuple((float(low), float(high)) for low, high in sides)


def _statistics(task: Task, recipe: Recipe, encoder: nn.Module | None) -> RowStatistics | None:
    """Measure a sample of the rows; not of distances, nor of a Dataset, which may be slow."""
    metric = recipe.graph.metric
    if is_dataset(task.X) or (isinstance(metric, str) and metric == "precomputed"):
        return None
    n_rows = task.rows.n_rows
    size = min(MOST_ROWS, max(FEWEST_ROWS, MOST_NUMBERS // task.rows.n_features), n_rows)
    chosen = np.sort(numpy_generator(task.seed, "card").choice(n_rows, size, replace=False))
    rows = task.rows.gather(torch.from_numpy(chosen)).flatten(1).cpu().numpy()
    return row_statistics(rows, _form(metric, encoder))


def _form(metric: object, encoder: nn.Module | None) -> str:
    """Return how rows are normalised before they are placed: what that ignores is not measured."""
    front = getattr(encoder, "standardize", None)
    if isinstance(front, Standardize):
        return front.rows
    is_searched = encoder is None and isinstance(metric, str)
    return FORMS.get(str(metric), "raw") if is_searched else "raw"


def _version() -> str:
    try:
        return metadata.version("neumap")
    except metadata.PackageNotFoundError:  # from a folder of sources
        return "unknown"
