"""Muon for the square matrices of a network, Adam for everything else.

A hidden layer's gradient is nearly of low rank: Adam moves the layer along a few directions again
and again. Muon (Jordan et al. 2024) takes the momentum's nearest orthogonal matrix as the step, so
that all directions move alike. On this objective that is worth a third of the steps, and new rows
are placed better at any number of steps ("Optimiser" in docs/decisions.md). The orthogonal
matrix comes from three iterations of an odd polynomial with the coefficients of Polar
Express (Amsel et al. 2025), on all matrices of one size at once.
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

# x -> a x + b x^3 + c x^5 on the singular values, one row per iteration. Three bring all of them,
# from a hundredth of the norm upward, to between .18 and 1.88; coming closer to 1 gained nothing.
POLYNOMIALS = (
    (8.2872, -23.5959, 17.3004),
    (4.1071, -2.9478, 0.5448),
    (3.9487, -2.9089, 0.5518),
)
SAFETY = 1.01  # keeps the largest singular value below 1 after rounding

# Root mean square of a matrix's step, in units of the learning rate. Adam's is near 1; steps
# that reach every direction need less.
STEP_SIZE = 0.4

# Steps from one orthogonal matrix to the next: the momentum turns slowly, and the products that it
# takes are half as dear as the rest of a training step.
RENEWED_EVERY = 2

# Of fewer rows than this a matrix is cheap and hardly has directions to even out.
SMALLEST_MATRIX = 16


class Muon:
    """Orthogonal steps for square matrices, Adam's for other parameters.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        float32, on one device; trained in place.
    lr : float, default=1e-3
        Step size, in Adam's units for all parameters; ``param_groups[0]["lr"]`` holds it and may
        be changed between steps.
    momentum : float, default=0.95
        Memory of a matrix's mean gradient.
    betas : tuple of float, default=(0.9, 0.95)
        Adam's, for the other parameters.
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
        self._stacks = [_Stack(matrices) for matrices in by_width.values()]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self._adam.zero_grad()
        for stack in self._stacks:
            for parameter in stack.parameters:
                parameter.grad = None

    @property
    def branch(self) -> tuple[bool, ...]:
        """What sets the arithmetic of the next step apart: which stacks renew their directions."""
        return tuple(stack.is_due for stack in self._stacks)

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        self.move(self.param_groups[0]["lr"])
        self.count()

    def move(self, lr: float | Tensor) -> None:
        """Do the arithmetic of a step; `lr` may be a float32 scalar on the device."""
        self._adam.move(lr)
        momentum = self.param_groups[0]["momentum"]
        for stack in self._stacks:
            stack.move(lr, momentum)

    def count(self) -> None:
        """Remember that a step was taken; :meth:`move` has done its arithmetic."""
        for stack in self._stacks:
            stack.n_steps += stack.has_moved

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of the gradients and the settings."""
        return {
            "adam": self._adam.state_dict(),
            "stacks": [stack.state() for stack in self._stacks],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave."""
        self._adam.load_state_dict(state_dict["adam"])
        for stack, given in zip(self._stacks, state_dict["stacks"], strict=True):
            stack.load(given)


class _Stack:
    """Square matrices of one size, moved together."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters: list[Tensor] = list(parameters)
        first = parameters[0]
        self.momentum = first.new_zeros(len(parameters), *first.shape).detach()
        self._gradients = torch.zeros_like(self.momentum)
        self._directions = torch.zeros_like(self.momentum)
        self.n_steps = 0
        self.has_moved = False
        self._dtype = fast_dtype(first.device)

    @property
    def is_due(self) -> bool:
        """Whether the next step renews the directions."""
        return self.n_steps % RENEWED_EVERY == 0

    @torch.no_grad()
    def move(self, lr: float | Tensor, momentum: float) -> None:
        gradients = self._collect()
        self.has_moved = gradients is not None
        if gradients is None:
            return
        self.momentum.lerp_(gradients, 1.0 - momentum)
        if self.is_due:
            ahead = gradients.lerp_(self.momentum, momentum)  # Nesterov's look ahead
            self._directions.copy_(orthogonalize(ahead, self._dtype))
        size = lr * STEP_SIZE * math.sqrt(self.momentum.shape[-1])
        if isinstance(size, Tensor):  # which alpha must not be: it would be read
            torch._foreach_sub_(self.parameters, list((self._directions * size).unbind()))
        else:
            torch._foreach_add_(self.parameters, list(self._directions.unbind()), alpha=-size)

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
        """Return all gradients in one tensor; one that is missing counts as zero."""
        given = [p.grad for p in self.parameters]
        if all(gradient is None for gradient in given):
            return None
        filled = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return torch.stack(filled, out=self._gradients)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return roughly the orthogonal matrices nearest to these, (k, n, n), in `dtype`.

    Singular values end between .18 and 1.88, except those below a hundredth of the matrix's norm,
    which stay smaller. A zero matrix stays zero.
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
