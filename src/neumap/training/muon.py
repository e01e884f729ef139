"""Muon for the square matrices of a network, Adam for everything else.

A hidden layer's gradient has nearly low rank: Adam moves the layer along a few directions again
and again. Muon (Jordan et al. 2024) uses the orthogonal matrix nearest to the momentum as the step,
so all directions move alike. On this objective it saves a third of the steps, and new rows get
better positions at any number of steps ("Optimiser" in docs/decisions.md). The orthogonal matrix is
computed by three iterations of an odd polynomial with the coefficients of Polar Express (Amsel et
al. 2025), for all matrices of one size at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neumap._device import fast_dtype
from neumap.training.adam import FusedAdam

__all__ = ["Muon", "orthogonalize"]

# x -> a x + b x^3 + c x^5 on the singular values, one row per iteration. Three iterations map all
# singular values above a hundredth of the norm to between .18 and 1.88. More iterations, which
# bring them closer to 1, did not improve the result.
POLYNOMIALS = (
    (8.2872, -23.5959, 17.3004),
    (4.1071, -2.9478, 0.5448),
    (3.9487, -2.9089, 0.5518),
)
SAFETY = 1.01  # keeps the largest singular value below 1 after rounding

# Root mean square of a matrix's step, in units of the learning rate. Adam's is near 1. Steps that
# move in every direction can be smaller.
STEP_SIZE = 0.4

# Steps between two computations of the orthogonal matrix: the momentum changes slowly, and the
# computation costs half as much as the rest of a training step.
RENEWED_EVERY = 2

# A smaller matrix has too few directions for this to matter.
SMALLEST_MATRIX = 16


class Muon:
    """Orthogonal steps for square matrices, Adam's for other parameters.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        float32, on one device; trained in place.
    lr : float, default=1e-3
        Learning rate, in Adam's units for all parameters. ``param_groups[0]["lr"]`` holds it and
        may be changed between steps, also to a scalar tensor on the device.
    momentum : float, default=0.95
        Decay rate of a matrix's mean gradient.
    betas : tuple of float, default=(0.9, 0.95)
        Adam's decay rates, for the other parameters.

    Attributes
    ----------
    stacks : list of MatrixStack
        The square matrices, grouped by size.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        trained = list(parameters)
        self._adam = FusedAdam([p for p in trained if not _is_square(p)], lr=lr, betas=betas)
        self.param_groups = self._adam.param_groups
        self.param_groups[0]["momentum"] = momentum
        by_width: dict[int, list[nn.Parameter]] = {}
        for parameter in filter(_is_square, trained):
            by_width.setdefault(len(parameter), []).append(parameter)
        self.stacks = [MatrixStack(matrices) for matrices in by_width.values()]

    def zero_grad(self) -> None:
        """Delete all gradients."""
        self._adam.zero_grad()
        for stack in self.stacks:
            for parameter in stack.parameters:
                parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        group = self.param_groups[0]
        self._adam.step()
        for stack in self.stacks:
            stack.step(group["lr"], group["momentum"])

    def state_dict(self) -> dict[str, Any]:
        """Return the running means of the gradients, the step counts and the settings."""
        return {
            "adam": self._adam.state_dict(),
            "stacks": [stack.state() for stack in self.stacks],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._adam.load_state_dict(state_dict["adam"])
        for stack, given in zip(self.stacks, state_dict["stacks"], strict=True):
            stack.load(given)


class MatrixStack:
    """Square matrices of one size, updated together.

    Attributes
    ----------
    n_steps : int
        Steps so far; every ``RENEWED_EVERY``-th of them renews the orthogonal matrices.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters: list[Tensor] = list(parameters)
        first = parameters[0]
        self.momentum = first.new_zeros(len(parameters), *first.shape).detach()
        self._gradients = torch.zeros_like(self.momentum)
        self._directions = torch.zeros_like(self.momentum)
        self.n_steps = 0
        self._dtype = fast_dtype(first.device)

    @property
    def is_due(self) -> bool:
        """Whether the next step renews the orthogonal matrices."""
        return self.n_steps % RENEWED_EVERY == 0

    @torch.no_grad()
    def step(self, lr: float | Tensor, momentum: float) -> None:
        """Update the matrices; do nothing where none of them has a gradient."""
        gradients = self._collect()
        if gradients is None:
            return
        self.momentum.lerp_(gradients, 1.0 - momentum)
        if self.is_due:
            ahead = gradients.lerp_(self.momentum, momentum)  # Nesterov's look ahead
            self._directions.copy_(orthogonalize(ahead, self._dtype))
        size = lr * STEP_SIZE * math.sqrt(self.momentum.shape[-1])
        if isinstance(size, Tensor):  # alpha must be a number, and reading one waits for the device
            torch._foreach_sub_(self.parameters, list((self._directions * size).unbind()))
        else:
            torch._foreach_add_(self.parameters, list(self._directions.unbind()), alpha=-size)
        self.n_steps += 1

    def state(self) -> dict[str, Any]:
        return {
            "momentum": self.momentum,
            "directions": self._directions,
            "n_steps": self.n_steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.momentum.copy_(state["momentum"])
        self._directions.copy_(state["directions"])
        self.n_steps = state["n_steps"]

    def _collect(self) -> Tensor | None:
        """Return all gradients in one tensor; a missing one counts as zero."""
        given = [p.grad for p in self.parameters]
        if all(gradient is None for gradient in given):
            return None
        filled = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return torch.stack(filled, out=self._gradients)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return approximately the nearest orthogonal matrices of shape (k, n, n), in `dtype`.

    The resulting singular values lie between .18 and 1.88, except those that were below a
    hundredth of the matrix's norm, which stay smaller. A zero matrix stays zero.
    """
    norms = torch.linalg.matrix_norm(matrices, keepdim=True)
    x: Tensor = (matrices / (norms * SAFETY + torch.finfo(matrices.dtype).tiny)).to(dtype)
    for a, b, c in POLYNOMIALS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _is_square(parameter: Tensor) -> bool:
    return (
        parameter.ndim == 2
        and parameter.shape[0] == parameter.shape[1] >= SMALLEST_MATRIX
        and parameter.dtype == torch.float32
    )
