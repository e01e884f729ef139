"""Global structure: distances in the embedding should grow with distances in the data.

In: the rows and coordinates of a batch. Out: minus the Pearson correlation between input
distances and output distances over pairs of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neumap.data import RowStore
from neumap.losses.terms import Batch, rows_of

__all__ = ["CorrelationTerm", "pearson"]

# Added to squared distances, so the gradient of the root is zero, not NaN, for coincident points.
SMALLEST_SQUARED_DISTANCE = 1e-12

# Variance added relative to the mean square, so the correlation of constant distances is 0.
RELATIVE_VARIANCE = 1e-8


@dataclass(frozen=True)
class CorrelationTerm:
    """Minus the correlation of distances in the data with distances in the embedding.

    The pairs are row ``r`` with rows ``r + 1 ... r + n_shifts``, cyclically: the batch is in
    random order, so these are random pairs. umap-learn only uses consecutive rows, one shift. Eight
    shifts lower the variance of the estimate and take little time.

    Parameters
    ----------
    weight : float
        Factor in the total. 0.1 improves the arrangement of clusters; at 1 the term competes with
        the neighbourhoods.
    n_shifts : int, default=8
        Pairs per row. Time is proportional to it and to the number of features.
    rows : RowStore, optional
        The rows, if positions are free and the batch has none.
    """

    weight: float
    n_shifts: int = 8
    rows: RowStore | None = None
    name: str = field(default="global_correlation_loss", init=False)
    modules: dict[str, nn.Module] = field(default_factory=dict, init=False)

    def __call__(self, batch: Batch) -> Tensor:
        """Return minus the correlation, between -1 (best) and 1."""
        rows = rows_of(batch, self.rows, type(self).__name__)
        n_rows = len(batch.coordinates)
        shifts = max(
            1, min(self.n_shifts, n_rows // 2 - 1)
        )  # fewer than reach a row's own neighbour
        with torch.no_grad():
            inputs = _cyclic_distances(rows.flatten(1).float(), shifts)
        return -pearson(inputs, _cyclic_distances(batch.coordinates, shifts))


def _cyclic_distances(points: Tensor, n_shifts: int) -> Tensor:
    """Return the distance of every point to those after it, (n_shifts * n_points,)."""
    return torch.cat(
        [
            (points - points.roll(-shift, dims=0))
            .square()
            .sum(1)
            .add(SMALLEST_SQUARED_DISTANCE)
            .sqrt()
            for shift in range(1, n_shifts + 1)
        ]
    )


def pearson(
    x: Tensor, y: Tensor, *, weights: Tensor | None = None, variance_shift: float = 0.0
) -> Tensor:
    """Return the correlation of two vectors; 0 with a finite gradient if one is constant.

    Parameters
    ----------
    x, y : Tensor of shape (n,)
    weights : Tensor of shape (n,), optional
        Non-negative; equal by default.
    variance_shift : float, default=0.0
        Added to the variance of `y`, as in densMAP, which rewards a larger spread of `y`.
    """
    fractions = torch.full_like(x, 1.0 / len(x)) if weights is None else weights / weights.sum()
    x_centred, y_centred = x - (fractions * x).sum(), y - (fractions * y).sum()
    covariance = (fractions * x_centred * y_centred).sum()
    x_variance = _variance(x, x_centred, fractions)
    y_variance = _variance(y, y_centred, fractions) + variance_shift
    return covariance / (x_variance.sqrt() * y_variance.sqrt())


def _variance(values: Tensor, centred: Tensor, fractions: Tensor) -> Tensor:
    smallest = RELATIVE_VARIANCE * (fractions * values.square()).sum().detach()
    return (fractions * centred.square()).sum() + smallest + torch.finfo(values.dtype).tiny
