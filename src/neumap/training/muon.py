"""Muon for the matrices of a network, Adam for everything else.

A hidden layer's gradient has nearly low rank: Adam moves the layer along a few directions again
and again. Muon (Jordan et al. 2024) uses the orthogonal matrix nearest to the momentum as the step,
so all directions move alike. On this objective it saves a third of the steps, and new rows get
better positions at any number of steps ("Optimiser" in docs/decisions.md). The orthogonal matrix is
computed by three iterations of an odd polynomial with the coefficients of Polar Express (Amsel et
al. 2025), for all matrices of one size at once. Of built-in networks it is used, on a processor,
from the next step on, so that a core that the step leaves idle can compute it meanwhile.

Of the built-in networks only the square matrices are stepped this way. Of a user's network all are,
kernels of convolutions flattened to (outputs, rest).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neumap._device import fast_dtype
from neumap._workers import usable_threads
from neumap.training.adam import FusedAdam

__all__ = ["Matrix", "Muon", "orthogonalize"]

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

# The same for stacks of so many numbers, whose steps wait for memory more than for products.
LARGE = 1_000_000
LARGE_RENEWED_EVERY = 4

# From this ratio of columns to rows on, iterating on the small Gram matrix takes less arithmetic.
WIDE = 2

# Whether a processor uses the orthogonal matrices of square ones a step late. Networks of the user,
# which name their matrices, leave no core idle where that would matter.
LATE_ON_PROCESSORS = True

# A smaller matrix has too few directions for this to matter.
SMALLEST_MATRIX = 16


@dataclass(frozen=True, eq=False)
class Matrix:
    """A parameter read as a matrix.

    Parameters
    ----------
    parameter : nn.Parameter
        With two axes or more.
    outputs_last : bool, default=False
        Whether the last axis counts the outputs, as in Keras, and not the first. The other axes
        are flattened.
    by_outputs : bool, default=False
        Whether the length of a step grows with the number of outputs, and not with the longer side.
        The outputs of every layer then change alike, whatever the number of its inputs.
    """

    parameter: nn.Parameter
    outputs_last: bool = False
    by_outputs: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix. A kernel has its axes of inputs flattened."""
        n_rows, n_columns = self.read(self.parameter).shape
        return n_rows, n_columns

    @property
    def length(self) -> float:
        """Singular values of a step, in units of the learning rate."""
        n_outputs = self.parameter.shape[-1 if self.outputs_last else 0]
        return STEP_SIZE * math.sqrt(n_outputs if self.by_outputs else max(self.shape))

    @property
    def can_be_orthogonal(self) -> bool:
        """Whether it has enough rows and columns for an orthogonal step to differ from others."""
        is_large = self.parameter.ndim >= 2 and min(self.shape) >= SMALLEST_MATRIX
        return is_large and self.parameter.dtype == torch.float32

    def read(self, values: Tensor) -> Tensor:
        """Return values of the parameter's shape as a matrix."""
        return values.flatten(0, -2) if self.outputs_last else values.flatten(1)

    def write(self, matrix: Tensor) -> Tensor:
        """Return a matrix in the shape of the parameter."""
        return matrix.reshape(self.parameter.shape)


class Muon:
    """Orthogonal steps for matrices, Adam's for other parameters.

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
    matrices : sequence of Matrix, optional
        Those of the parameters that get orthogonal steps; by default the square ones. The first of
        several for one parameter counts, as where two networks share it.

    Attributes
    ----------
    stacks : list of MatrixStack
        The matrices, grouped by size.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        matrices: Sequence[Matrix] | None = None,
    ) -> None:
        trained = list(parameters)
        chosen = [Matrix(p) for p in trained if _is_square(p)] if matrices is None else matrices
        ids = {id(p) for p in trained}
        by_id = {id(m.parameter): m for m in reversed(chosen) if m.can_be_orthogonal}
        stepped = [m for m in chosen if by_id.get(id(m.parameter)) is m and id(m.parameter) in ids]
        own = {id(matrix.parameter) for matrix in stepped}
        self._adam = FusedAdam([p for p in trained if id(p) not in own], lr=lr, betas=betas)
        self.param_groups = self._adam.param_groups
        self.param_groups[0]["momentum"] = momentum
        alike: dict[tuple[int, int, float], list[Matrix]] = {}
        for matrix in stepped:
            alike.setdefault((*matrix.shape, matrix.length), []).append(matrix)
        beside = _Beside() if matrices is None else None
        self.stacks = [MatrixStack(one, beside) for one in alike.values()]

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


class _Beside:
    """Computes beside the training where torch may use a core that the training does not.

    It is made before the training limits torch's threads, and used within the training.
    """

    def __init__(self) -> None:
        self._n_threads = usable_threads()
        self._pool: ThreadPoolExecutor | None = None  # ends with this object

    def submit(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return what waits for the result; it is computed at once where no core is idle."""
        if self._pool is None and torch.get_num_threads() < self._n_threads:
            self._pool = ThreadPoolExecutor(1, "neumap-muon", torch.set_num_threads, (1,))
        if self._pool is None:
            known = compute()
            return lambda: known
        pending: Future[Tensor] = self._pool.submit(compute)
        return pending.result


class MatrixStack:
    """Matrices of one size and length of step, updated together.

    Parameters
    ----------
    matrices : sequence of Matrix
    beside : _Beside or None
        Computes orthogonal matrices for the next step; None computes them for each step at once.

    Attributes
    ----------
    n_steps : int
        Steps so far; every second of them renews the orthogonal matrices, of large ones every
        fourth.
    """

    def __init__(self, matrices: Sequence[Matrix], beside: _Beside | None) -> None:
        self.matrices = list(matrices)
        self._beside = beside
        self._awaited: Callable[[], Tensor] | None = None
        self.parameters: list[Tensor] = [matrix.parameter for matrix in matrices]
        first = matrices[0]
        shape = (len(self.matrices), *first.shape)
        self.momentum = first.parameter.new_zeros(shape).detach()
        # A single matrix is read from its gradient.
        self._gradients = torch.zeros_like(self.momentum) if len(self.matrices) > 1 else None
        self._directions = torch.zeros_like(self.momentum)
        self.n_steps = 0
        self._dtype = fast_dtype(first.parameter.device)
        self._length = first.length
        is_large = self.momentum.numel() >= LARGE
        self._renewed_every = LARGE_RENEWED_EVERY if is_large else RENEWED_EVERY

    @property
    def is_due(self) -> bool:
        """Whether the next step renews the orthogonal matrices."""
        return self.n_steps % self._renewed_every == 0

    @torch.no_grad()
    def step(self, lr: float | Tensor, momentum: float) -> None:
        """Update the matrices; do nothing where none of them has a gradient."""
        gradients = self._collect()
        if gradients is None:
            return
        self._take_awaited()
        self.momentum.lerp_(gradients, 1.0 - momentum)
        if self.is_due:
            ahead = torch.lerp(gradients, self.momentum, momentum)  # Nesterov's look ahead
            self._renew(ahead, is_recorded=isinstance(lr, Tensor))
        size = lr * self._length
        if isinstance(size, Tensor):  # alpha must be a number, and reading one waits for the device
            torch._foreach_sub_(self.parameters, self._written(self._directions * size))
        else:
            torch._foreach_add_(self.parameters, self._written(self._directions), alpha=-size)
        self.n_steps += 1

    def _renew(self, ahead: Tensor, *, is_recorded: bool) -> None:
        """Compute new directions, for this step or from the next one on."""
        on_processor = ahead.device.type == "cpu" and not is_recorded
        may_be_late = LATE_ON_PROCESSORS and on_processor and self.n_steps > 0
        if self._beside is not None and may_be_late:
            self._awaited = self._beside.submit(lambda: orthogonalize(ahead, self._dtype))
        else:
            self._directions.copy_(orthogonalize(ahead, self._dtype))

    def _take_awaited(self) -> None:
        if self._awaited is not None:
            self._directions.copy_(self._awaited())
            self._awaited = None

    def state(self) -> dict[str, Any]:
        self._take_awaited()
        return {
            "momentum": self.momentum,
            "directions": self._directions,
            "n_steps": self.n_steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self._awaited = None
        self.momentum.copy_(state["momentum"])
        self._directions.copy_(state["directions"])
        self.n_steps = state["n_steps"]

    def _collect(self) -> Tensor | None:
        """Return all gradients in one tensor; a missing one counts as zero."""
        given = [p.grad for p in self.parameters]
        if all(gradient is None for gradient in given):
            return None
        filled = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        read = [matrix.read(g) for matrix, g in zip(self.matrices, filled, strict=True)]
        return read[0][None] if self._gradients is None else torch.stack(read, out=self._gradients)

    def _written(self, stacked: Tensor) -> list[Tensor]:
        """Return a stack of matrices in the shapes of the parameters."""
        return [m.write(part) for m, part in zip(self.matrices, stacked.unbind(), strict=True)]


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return approximately the nearest orthogonal matrices of shape (k, m, n), in `dtype`.

    Parameters
    ----------
    matrices : Tensor of shape (k, m, n)
        The shorter of rows and columns of the result are orthonormal. No matrix is transposed,
        which for a large one takes longer than the products.
    dtype : torch.dtype, default=torch.float32
        Of the products.

    Returns
    -------
    Tensor of shape (k, m, n)
        With singular values between .18 and 1.88, except those that were below a hundredth of the
        matrix's norm, which stay smaller. A zero matrix stays zero.
    """
    norms = torch.linalg.matrix_norm(matrices, keepdim=True)
    x: Tensor = (matrices / (norms * SAFETY + torch.finfo(matrices.dtype).tiny)).to(dtype)
    shorter, longer = sorted(x.shape[1:])
    # In bfloat16 the Gram matrix alone would lose the small singular values.
    if dtype == torch.float32 and longer >= WIDE * shorter:
        return _orthogonal_by_gram(x)
    for a, b, c in POLYNOMIALS:
        square = _gram(x)
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        left, right = (x, factor) if _is_tall(x) else (factor, x)
        x = torch.baddbmm(x, left, right, beta=a)
    return x


def _orthogonal_by_gram(x: Tensor) -> Tensor:
    """Iterate on the small matrix ``x x'``, or ``x' x``, and multiply by `x` once, at the end.

    Every iterate is ``q x``, or ``x q``, with a symmetric `q` that commutes with the small matrix.
    """
    square = _gram(x)  # (k, shorter, shorter)
    q = torch.eye(square.shape[1], dtype=x.dtype, device=x.device).expand_as(square)
    for a, b, c in POLYNOMIALS:
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        q = factor @ q
        square = factor @ square @ factor
    return x @ q if _is_tall(x) else q @ x


def _gram(x: Tensor) -> Tensor:
    """Return the products of all pairs of rows, or of columns where there are fewer of them."""
    if len(x) == 1:  # the product of two matrices reads a transposed one, that of two stacks copies
        return _gram(x[0])[None]
    return x.mT @ x if _is_tall(x) else x @ x.mT


def _is_tall(x: Tensor) -> bool:
    return x.shape[-2] > x.shape[-1]


def _is_square(parameter: Tensor) -> bool:
    return (
        parameter.ndim == 2
        and parameter.shape[0] == parameter.shape[1] >= SMALLEST_MATRIX
        and parameter.dtype == torch.float32
    )
