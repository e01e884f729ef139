"""UMAP's cross entropy for a map with another metric than the Euclidean one.

The formula and the choice of negatives are those of ``neumap.losses.umap_forces``; the gradient
is autograd's. With Euclidean distance both give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neumap.losses.output_metrics import OutputMetric
from neumap.losses.terms import Batch, Softening
from neumap.losses.umap import SMALLEST_EPS, SMALLEST_SQUARED_DISTANCE, Kernel

__all__ = ["MetricUmapTerm", "metric_umap_loss"]


def metric_umap_loss(
    coordinates: Tensor,
    kernel: Kernel,
    metric: OutputMetric,
    *,
    eps: float = 0.0,
    n_negatives: int = 32,
    auxiliary: Tensor | None = None,
) -> Tensor:
    """Return the UMAP cross entropy of a batch of edges for any metric, differentiable.

    Parameters
    ----------
    coordinates : Tensor of shape (2 n_edges, n_components)
        Heads in the first half, their tails in the second.
    kernel : Kernel
        Similarity and weight of repulsion.
    metric : OutputMetric
        Distance of two points.
    eps : float, default=0.0
        Softening; see ``neumap.losses.umap_forces``.
    n_negatives : int, default=32
        Negatives per row, the rows that follow it in the batch, at most ``n_edges - 1``.
    auxiliary : Tensor of shape (2 n_edges, n_auxiliary), optional
        Coordinates in further dimensions, which are flat and at right angles to the map: their
        squared distance is added to that of the metric.

    Returns
    -------
    Tensor
        Scalar.

    Examples
    --------
    >>> from neumap.losses.output_metrics import OUTPUT_METRICS
    >>> sphere = OUTPUT_METRICS["haversine"]
    >>> edges = torch.tensor([[1.0, 0.0], [2.0, 1.0], [1.0, 0.1], [2.0, 1.1]])
    >>> loss = metric_umap_loss(edges, Kernel(a=1.0, b=1.0), sphere, n_negatives=1)
    >>> bool(loss.isfinite())
    True
    """
    n_edges, softening = len(coordinates) // 2, max(eps, SMALLEST_EPS)

    def power(take_x: Tensor, take_y: Tensor) -> Tensor:
        squared = metric(coordinates[take_x], coordinates[take_y]).square()
        if auxiliary is not None:
            squared = squared + (auxiliary[take_x] - auxiliary[take_y]).square().sum(-1)
        return kernel.power(squared.clamp_min(SMALLEST_SQUARED_DISTANCE))

    rows = torch.arange(2 * n_edges, device=coordinates.device)
    loss = torch.log1p(power(rows[:n_edges], rows[n_edges:]) + softening).mean()
    n_repelled = min(n_negatives, n_edges - 1)
    if n_repelled < 1 or kernel.repulsion == 0.0:
        return loss
    others = (rows[:, None] + rows[1 : n_repelled + 1]) % len(rows)  # (2 n_edges, n_repelled)
    u = power(rows[:, None].expand_as(others), others) + softening
    return loss + kernel.repulsion * torch.log1p(u.reciprocal()).mean()


@dataclass(frozen=True)
class MetricUmapTerm:
    """The cross entropy of a batch under an output metric; see :func:`metric_umap_loss`.

    It is no ``UmapTerm``, for which steps have shortcuts in closed form.
    """

    kernel: Kernel
    metric: OutputMetric
    softening: Softening = field(default_factory=Softening)
    n_negatives: int = 32
    name: str = "umap_loss"
    weight: float = 1.0
    modules: dict[str, nn.Module] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the cross entropy of the batch."""
        return metric_umap_loss(
            batch.coordinates,
            self.kernel,
            self.metric,
            eps=self.softening(batch.progress),
            n_negatives=self.n_negatives,
            auxiliary=batch.auxiliary,
        )
