"""UMAP's cross entropy on a batch of sampled edges, with its gradient in closed form.

In: the coordinates of a batch, heads first and tails after them. Out: the two halves of the loss
and the gradient with respect to the coordinates. Encoders of any kind train through
:func:`umap_cross_entropy`, which hands that gradient to autograd; the hand-written step of
:mod:`neumap.training` calls :func:`umap_forces` itself.

One family covers the objectives in use (Damrich et al., ICLR 2023). With ``s = a d^(2b)`` the
modelled probability of an edge is ``p = 1 / (1 + eps + s)``:

* ``eps = 0`` is UMAP as published;
* ``eps = 1`` is what umap-learn's ParametricUMAP has optimised since 0.5.4, which bounds both
  forces: easier to follow early in training, blind to the near field late.

Both terms come from ``log1p`` of positive numbers, never from a difference of logarithms, and
``d^2`` has a floor, so that coincident points give finite values and a zero gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Kernel", "UmapForces", "umap_cross_entropy", "umap_forces"]

# Squared distances below this count as this: far below float32's resolution of a layout of
# extent 10, far above where d^(2b) underflows.
SMALLEST_SQUARED_DISTANCE = 1e-8

# Smallest eps: keeps log(1 + 1/(eps + s)) below 7 for coincident negatives, whose gradient
# in the exact loss grows like 1/d.
SMALLEST_EPS = 1e-3


@dataclass(frozen=True)
class Kernel:
    """The family of low-dimensional similarities and the weight of repulsion.

    Parameters
    ----------
    a, b : float
        Curve of ``s = a d^(2b)``.
    repulsion : float
        Weight of the repulsive half: ``negative_sample_rate * repulsion_strength``.
    """

    a: float
    b: float
    repulsion: float = 5.0


@dataclass(frozen=True)
class UmapForces:
    """Loss and gradient of one batch.

    Attributes
    ----------
    attraction : Tensor
        Scalar, mean over edges of ``log(1 + eps + s)``.
    repulsion : Tensor
        Scalar, mean over partner pairs of ``log(1 + 1 / (eps + s))``, times the weight.
    gradient : Tensor of shape (2 n_edges, n_components)
        Derivative of ``attraction + repulsion`` with respect to the coordinates.
    """

    attraction: Tensor
    repulsion: Tensor
    gradient: Tensor


def umap_forces(
    coordinates: Tensor, kernel: Kernel, eps: float | Tensor, n_partners: int
) -> UmapForces:
    """Return the loss of a batch of edges and its gradient.

    Negatives come from the batch itself: row ``r`` of the ``2 n_edges`` rows is repelled by the
    rows ``r + 1 ... r + n_partners``, cyclically. The batch is in random order, so these are
    independent draws, every row has ``2 n_partners`` partners, and because ``n_partners`` stays
    below ``n_edges`` no row meets its own neighbour. All pairs are views of one padded array:
    nothing is gathered. The number of partners only lowers the variance; the weight of
    repulsion is ``kernel.repulsion`` whatever it is.

    Parameters
    ----------
    coordinates : Tensor of shape (2 n_edges, n_components)
        Heads in the first half, their tails in the second.
    kernel : Kernel
        Similarity and weight of repulsion.
    eps : float or scalar Tensor
        Softening, 1 (bounded) down to 0 (UMAP); values below 1e-3 count as 1e-3.
    n_partners : int
        Negatives per row, cut to ``n_edges - 1``.

    Returns
    -------
    UmapForces
        Loss halves and gradient.
    """
    n_edges = coordinates.shape[0] // 2
    softening = _floored(eps)
    attraction, pull = _attract(coordinates[:n_edges], coordinates[n_edges:], kernel, softening)
    gradient = torch.cat([pull, -pull])
    partners = min(n_partners, n_edges - 1)
    if partners < 1 or kernel.repulsion == 0.0:
        return UmapForces(attraction, torch.zeros_like(attraction), gradient)
    repulsion = _repel(coordinates, kernel, softening, partners, gradient)
    return UmapForces(attraction, repulsion, gradient)


def _floored(eps: float | Tensor) -> float | Tensor:
    # ``max`` would read a tensor, that is wait for its device.
    return eps.clamp_min(SMALLEST_EPS) if isinstance(eps, Tensor) else max(eps, SMALLEST_EPS)


def _attract(
    heads: Tensor, tails: Tensor, kernel: Kernel, eps: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Mean attraction, and its gradient at the heads (the tails feel the opposite)."""
    difference = heads - tails  # (n_edges, n_components)
    squared = difference.square().sum(1).clamp_min_(SMALLEST_SQUARED_DISTANCE)  # (n_edges,)
    s = _scaled_power(squared, kernel)
    u = s + eps
    slope = s.mul(2.0 * kernel.b / heads.shape[0]).div_(squared).div_(1.0 + u)
    return torch.log1p(u).mean(), slope[:, None] * difference


def _repel(
    coordinates: Tensor, kernel: Kernel, eps: float | Tensor, n_partners: int, gradient: Tensor
) -> Tensor:
    """Mean repulsion of cyclic partners times its weight; its gradient is added to `gradient`."""
    n_rows, n_components = coordinates.shape
    around = torch.cat([coordinates, coordinates[:n_partners]]).t().contiguous()
    width = n_rows + n_partners
    shifted = around.as_strided((n_components, n_partners, n_rows), (width, 1, 1), 1)
    difference = around[:, None, :n_rows] - shifted  # (n_components, n_partners, n_rows)
    squared = difference.square().sum(0).clamp_min_(SMALLEST_SQUARED_DISTANCE)
    s = _scaled_power(squared, kernel)
    u = s + eps
    weight = kernel.repulsion / (n_partners * n_rows)
    loss = torch.log1p(u.reciprocal()).sum() * weight
    slope = s.mul_(-2.0 * kernel.b * weight).div_(squared).div_(u.mul_(1.0 + u))
    force = difference.mul_(slope)
    gradient += (force.sum(1) - _returned_to_partners(force)).t()
    return loss


def _scaled_power(squared: Tensor, kernel: Kernel) -> Tensor:
    """Return ``a (d^2)^b``; as exp and log, since torch's ``pow`` takes four times as long."""
    return squared.log().mul_(kernel.b).add_(math.log(kernel.a)).exp_()


def _returned_to_partners(force: Tensor) -> Tensor:
    """Sum, for each row, the forces that the rows before it exert on it.

    ``force[:, k, r]`` acts back on row ``r + k + 1``. Written into rows padded with zeros and read
    with a stride one short of the row length, the entries that belong to one partner stand
    in one column.
    """
    n_components, n_partners, n_rows = force.shape
    width = n_rows + n_partners
    padded = force.new_zeros(n_components, n_partners, width)
    padded[:, :, :n_rows] = force
    # Column c of the skewed view holds what acts on row c + 1.
    skewed = padded.as_strided(
        (n_components, n_partners, width), (n_partners * width, width - 1, 1)
    )
    sums = skewed.sum(1)  # (n_components, n_rows + n_partners)
    returned = torch.empty_like(force[:, 0])
    returned[:, 1:] = sums[:, : n_rows - 1]
    returned[:, 0] = sums[:, n_rows - 1]
    returned[:, 1 : n_partners + 1] += sums[:, n_rows : n_rows + n_partners]
    return returned


class _ClosedForm(torch.autograd.Function):
    """Hand the closed-form gradient to autograd, scaled by what arrives from above."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        coordinates: Tensor,
        kernel: Kernel,
        eps: float,
        n_partners: int,
    ) -> Tensor:
        forces = umap_forces(coordinates, kernel, eps, n_partners)
        ctx.save_for_backward(forces.gradient)
        return forces.attraction + forces.repulsion

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, outer: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * outer, None, None, None


def umap_cross_entropy(
    coordinates: Tensor, kernel: Kernel, *, eps: float = 0.0, n_partners: int = 32
) -> Tensor:
    """Return the differentiable UMAP cross entropy of a batch of sampled edges.

    ``mean over edges of -log p + repulsion * mean over partners of -log(1 - p)`` with
    ``p = 1 / (1 + eps + a d^(2b))`` (McInnes, Healy & Melville 2018, with negative sampling).

    Parameters
    ----------
    coordinates : Tensor of shape (2 n_edges, n_components)
        Heads in the first half, their tails in the second; float32 or float64.
    kernel : Kernel
        Similarity and weight of repulsion.
    eps : float, default=0.0
        Softening; see :func:`umap_forces`.
    n_partners : int, default=32
        Negatives per row. More lowers the variance of the gradient and costs time.

    Returns
    -------
    Tensor
        Scalar.

    Examples
    --------
    >>> import torch
    >>> heads_then_tails = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.1, 0.0], [4.1, 0.0]])
    >>> loss = umap_cross_entropy(heads_then_tails, Kernel(a=1.0, b=1.0), n_partners=1)
    >>> bool(loss.isfinite())
    True
    """
    loss: Tensor = _ClosedForm.apply(coordinates, kernel, eps, n_partners)  # type: ignore[no-untyped-call]
    return loss
