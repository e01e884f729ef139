"""UMAP's cross entropy on a batch of sampled edges, with its gradient in closed form.

In: the coordinates of a batch, first the heads, then their tails. Out: the two parts of the loss
and the gradient with respect to the coordinates. General encoders are trained through
:func:`umap_loss`, which passes this gradient to autograd. The closed-form step of
:mod:`neumap.training` calls :func:`umap_forces` directly.

One family contains the objectives in use (Damrich et al., ICLR 2023). With ``s = a d^(2b)`` the
modelled probability of an edge is ``p = 1 / (1 + eps + s)``:

* ``eps = 0`` is UMAP as published;
* ``eps = 1`` is what umap-learn's ParametricUMAP has optimised since 0.5.4. It bounds both forces,
  which makes optimisation easier early in training but cannot resolve small distances later.

Both terms are computed by ``log1p`` of positive numbers, not as a difference of logarithms, and
``d^2`` has a lower bound. Coincident points therefore give finite values and a zero gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Kernel", "UmapForces", "umap_forces", "umap_loss"]

# Lower bound of squared distances: far below float32's resolution of an embedding of extent 10, and
# far above the values at which d^(2b) underflows.
SMALLEST_SQUARED_DISTANCE = 1e-8

# Lower bound of eps: keeps log(1 + 1/(eps + s)) below 7 for coincident negatives, whose gradient in
# the exact loss grows like 1/d.
SMALLEST_EPS = 1e-3


@dataclass(frozen=True)
class Kernel:
    """The family of low-dimensional similarities and the weight of repulsion.

    Parameters
    ----------
    a, b : float
        Curve of ``s = a d^(2b)``.
    repulsion : float
        Weight of the repulsive part: ``negative_sample_rate * repulsion_strength``.
    """

    a: float
    b: float
    repulsion: float = 5.0

    def power(self, squared: Tensor) -> Tensor:
        """Return ``s = a (d^2)^b``, as exp and log: torch's ``pow`` takes four times as long."""
        return squared.log().mul_(self.b).add_(math.log(self.a)).exp_()

    def attraction_slope_(
        self, squared: Tensor, s: Tensor, u: Tensor, weight: float = 1.0
    ) -> Tensor:
        """Return the gradient of ``weight * log(1 + u)`` divided by the difference of two points.

        Parameters
        ----------
        squared : Tensor
            Squared distances.
        s : Tensor
            ``power(squared)``; the result is written into it.
        u : Tensor
            ``s + eps``.
        weight : float, default=1.0
        """
        return s.mul_(2.0 * self.b * weight).div_(squared).div_(1.0 + u)

    def repulsion_slope_(self, squared: Tensor, s: Tensor, u: Tensor, weight: float) -> Tensor:
        """Return the gradient of ``weight * log(1 + 1 / u)`` divided by the difference.

        Parameters
        ----------
        squared, s, u, weight
            As for :meth:`attraction_slope_`; `u` is overwritten as well.
        """
        return s.mul_(-2.0 * self.b * weight).div_(squared).div_(u.mul_(1.0 + u))


@dataclass(frozen=True)
class UmapForces:
    """Loss and gradient of one batch.

    Attributes
    ----------
    attraction : Tensor
        Scalar, mean over edges of ``log(1 + eps + s)``.
    repulsion : Tensor
        Scalar, mean over pairs with negatives of ``log(1 + 1 / (eps + s))``, times the weight.
    gradient : Tensor of shape (2 n_edges, n_components)
        Derivative of ``attraction + repulsion`` with respect to the coordinates.
    """

    attraction: Tensor
    repulsion: Tensor
    gradient: Tensor


def umap_forces(
    coordinates: Tensor, kernel: Kernel, eps: float | Tensor, n_negatives: int
) -> UmapForces:
    """Return the loss of a batch of edges and its gradient.

    Negatives are rows of the same batch: row ``r`` of the ``2 n_edges`` rows is repelled by the
    rows ``r + 1 ... r + n_negatives``, cyclically. The batch is in random order, so these are
    independent draws, and every row takes part in ``2 n_negatives`` pairs. Since ``n_negatives`` is
    smaller than ``n_edges``, no row is repelled by its own neighbour. All pairs are views of one
    padded array; nothing is gathered. More negatives only lower the variance: the weight of
    repulsion is ``kernel.repulsion`` for any number of them.

    Parameters
    ----------
    coordinates : Tensor of shape (2 n_edges, n_components)
        Heads in the first half, their tails in the second.
    kernel : Kernel
        Similarity and weight of repulsion.
    eps : float or scalar Tensor
        Softening, from 1 (bounded) to 0 (UMAP); values below 1e-3 are raised to 1e-3.
    n_negatives : int
        Negatives per row, at most ``n_edges - 1``.

    Returns
    -------
    UmapForces
        Both parts of the loss, and the gradient.
    """
    n_edges = coordinates.shape[0] // 2
    softening = _floored(eps)
    attraction, pull = _attract(coordinates[:n_edges], coordinates[n_edges:], kernel, softening)
    gradient = torch.cat([pull, -pull])
    n_repelled = min(n_negatives, n_edges - 1)
    if n_repelled < 1 or kernel.repulsion == 0.0:
        return UmapForces(attraction, torch.zeros_like(attraction), gradient)
    repulsion = _repel(coordinates, kernel, softening, n_repelled, gradient)
    return UmapForces(attraction, repulsion, gradient)


def _floored(eps: float | Tensor) -> float | Tensor:
    # ``max`` would read the value of a tensor, which waits for its device.
    return eps.clamp_min(SMALLEST_EPS) if isinstance(eps, Tensor) else max(eps, SMALLEST_EPS)


def _attract(
    heads: Tensor, tails: Tensor, kernel: Kernel, eps: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean attraction and its gradient at the heads; that at the tails is opposite."""
    difference = heads - tails  # (n_edges, n_components)
    squared = difference.square().sum(1).clamp_min_(SMALLEST_SQUARED_DISTANCE)  # (n_edges,)
    s = kernel.power(squared)
    u = s + eps
    slope = kernel.attraction_slope_(squared, s, u, 1.0 / heads.shape[0])
    return torch.log1p(u).mean(), slope[:, None] * difference


def _repel(
    coordinates: Tensor, kernel: Kernel, eps: float | Tensor, n_negatives: int, gradient: Tensor
) -> Tensor:
    """Return the weighted mean repulsion, and add its gradient to `gradient`."""
    n_rows, n_components = coordinates.shape
    around = torch.cat([coordinates, coordinates[:n_negatives]]).t().contiguous()
    width = n_rows + n_negatives
    shifted = around.as_strided((n_components, n_negatives, n_rows), (width, 1, 1), 1)
    difference = around[:, None, :n_rows] - shifted  # (n_components, n_negatives, n_rows)
    squared = difference.square().sum(0).clamp_min_(SMALLEST_SQUARED_DISTANCE)
    s = kernel.power(squared)
    u = s + eps
    weight = kernel.repulsion / (n_negatives * n_rows)
    loss = torch.log1p(u.reciprocal()).sum() * weight
    force = difference.mul_(kernel.repulsion_slope_(squared, s, u, weight))
    gradient += (force.sum(1) - _returned_to_negatives(force)).t()
    return loss


def _returned_to_negatives(force: Tensor) -> Tensor:
    """Sum, for each row, the forces that the rows before it exert on it.

    ``force[:, k, r]`` acts back on row ``r + k + 1``. The forces are written into rows padded with
    zeros and read with a stride that is one less than the row length, which puts all forces on one
    negative into one column.
    """
    n_components, n_negatives, n_rows = force.shape
    width = n_rows + n_negatives
    padded = force.new_zeros(n_components, n_negatives, width)
    padded[:, :, :n_rows] = force
    # Column c of the skewed view holds what acts on row c + 1.
    skewed = padded.as_strided(
        (n_components, n_negatives, width), (n_negatives * width, width - 1, 1)
    )
    sums = skewed.sum(1)  # (n_components, n_rows + n_negatives)
    returned = torch.empty_like(force[:, 0])
    returned[:, 1:] = sums[:, : n_rows - 1]
    returned[:, 0] = sums[:, n_rows - 1]
    returned[:, 1 : n_negatives + 1] += sums[:, n_rows : n_rows + n_negatives]
    return returned


class _ClosedForm(torch.autograd.Function):
    """Pass the closed-form gradient to autograd."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        coordinates: Tensor,
        kernel: Kernel,
        eps: float | Tensor,
        n_negatives: int,
    ) -> Tensor:
        forces = umap_forces(coordinates, kernel, eps, n_negatives)
        ctx.save_for_backward(forces.gradient)
        return forces.attraction + forces.repulsion

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, outer: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * outer, None, None, None


def umap_loss(
    coordinates: Tensor, kernel: Kernel, *, eps: float | Tensor = 0.0, n_negatives: int = 32
) -> Tensor:
    """Return the UMAP cross entropy of a batch of sampled edges, differentiable.

    :func:`neumap.metrics.umap_cross_entropy` scores a whole embedding instead.

    ``mean over edges of -log p + repulsion * mean over negatives of -log(1 - p)`` with
    ``p = 1 / (1 + eps + a d^(2b))`` (McInnes, Healy & Melville 2018, with negative sampling).

    Parameters
    ----------
    coordinates : Tensor of shape (2 n_edges, n_components)
        Heads in the first half, their tails in the second; float32 or float64.
    kernel : Kernel
        Similarity and weight of repulsion.
    eps : float or scalar Tensor, default=0.0
        Softening; see :func:`umap_forces`.
    n_negatives : int, default=32
        Negatives per row. More of them lower the variance of the gradient and take more time.

    Returns
    -------
    Tensor
        Scalar.

    Examples
    --------
    >>> import torch
    >>> heads_then_tails = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.1, 0.0], [4.1, 0.0]])
    >>> loss = umap_loss(heads_then_tails, Kernel(a=1.0, b=1.0), n_negatives=1)
    >>> bool(loss.isfinite())
    True
    """
    loss: Tensor = _ClosedForm.apply(coordinates, kernel, eps, n_negatives)  # type: ignore[no-untyped-call]
    return loss
