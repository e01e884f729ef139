"""Global structure: distances in the map should grow with distances in the data.

In: the rows and coordinates of a batch. Out: minus the Pearson correlation between input
distances and output distances over pairs of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neumap.data import RowStore
from neumap.losses._rows import rows_of
from neumap.losses.terms import Batch

__all__ = ["CorrelationTerm", "pearson"]

# Added to squared distances: the gradient of the root is zero, not NaN, where points coincide.
SMALLEST_SQUARED_DISTANCE = 1e-12

# Variance added relative to the mean square: constant distances correlate with nothing.
RELATIVE_VARIANCE = 1e-8


@dataclass(frozen=True)
class CorrelationTerm:
    """Minus the correlation of distances in the data with distances in the map.

    The pairs are row ``r`` with rows ``r + 1 ... r + n_shifts``, cyclically: the batch is in
    random order, so these are random pairs. umap-learn uses the consecutive rows alone, one
    shift; eight of them lower the variance of the estimate for little time.

    Parameters
    ----------
    weight : float
        Factor in the total. 0.1 mends the arrangement of clusters; at 1 it competes with the
        neighbourhoods.
    n_shifts : int, default=8
        Pairs per row. Time grows in proportion, with the number of features too.
    rows : RowStore, optional
        Source of the rows where the embedder is a free table, which has none.
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
        shifts = max(1, min(self.n_shifts, n_rows // 2 - 1))  # short of a row's own neighbour
        with torch.no_grad():
            inputs = _cyclic_distances(rows.flatten(1).float(), shifts)
        return -pearson(inputs, _cyclic_distances(batch.coordinates, shifts))


def _cyclic_distances(points: Tensor, n_shifts: int) -> Tensor:
    """Distance of every point to the ones after it, (n_shifts * n_points,)."""
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
    """Return the correlation of two vectors; 0 with a finite gradient where one is constant.

    Parameters
    ----------
    x, y : Tensor of shape (n,)
    weights : Tensor of shape (n,), optional
        Non-negative; equal by default.
    variance_shift : float, default=0.0
        Added to the variance of `y`, as densMAP does, so that spreading `y` out pays.
    """
    share = torch.full_like(x, 1.0 / len(x)) if weights is None else weights / weights.sum()
    x_centred, y_centred = x - (share * x).sum(), y - (share * y).sum()
    covariance = (share * x_centred * y_centred).sum()
    x_variance = _variance(x, x_centred, share)
    y_variance = _variance(y, y_centred, share) + variance_shift
    return covariance / (x_variance.sqrt() * y_variance.sqrt())


def _variance(values: Tensor, centred: Tensor, share: Tensor) -> Tensor:
    smallest = RELATIVE_VARIANCE * (share * values.square()).sum().detach()
    return (share * centred.square()).sum() + smallest + torch.finfo(values.dtype).tiny
