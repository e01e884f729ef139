"""Distances in maps that are not flat: the sphere, hyperbolic space, normal distributions.

In: two tensors of coordinates, ``(..., n_components)`` each. Out: their distances, ``(...)``,
differentiable. :func:`resolve_output_metric` turns ``output_metric`` and ``output_metric_kwds`` of
the constructor into a value; Euclidean distance is None, since its forces have a closed form
(:mod:`neumap.losses.umap`). All other metrics go by autograd (:mod:`neumap.losses.metric_umap`).
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from neumap._optional import require

__all__ = ["OUTPUT_METRICS", "OutputMetric", "broadcast", "resolve_output_metric"]

# Lower bound under roots: no infinite gradient where two points coincide.
SMALLEST = 1e-12


def broadcast(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tensors in their common shape; functions of users may need equal ones."""
    wide_x, wide_y = torch.broadcast_tensors(x, y)  # type: ignore[no-untyped-call]
    return wide_x, wide_y


def manhattan(x: Tensor, y: Tensor) -> Tensor:
    """Sum of the absolute differences."""
    return (x - y).abs().sum(-1)


def chebyshev(x: Tensor, y: Tensor) -> Tensor:
    """Largest absolute difference."""
    return (x - y).abs().amax(-1)


def minkowski(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """Root of order p of the summed powers of the absolute differences."""
    powers = (x - y).abs().clamp_min(SMALLEST) ** p
    total: Tensor = powers.sum(-1) ** (1.0 / p)
    return total


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of the angle between two vectors from the origin."""
    lengths = (x.square().sum(-1) * y.square().sum(-1)).clamp_min(SMALLEST).sqrt()
    return 1.0 - (x * y).sum(-1) / lengths


def haversine(x: Tensor, y: Tensor) -> Tensor:
    r"""Length of the arc between two points of the unit sphere.

    The coordinates are the angle from the pole ``t`` and the longitude ``f``. The point is
    ``(sin t cos f, sin t sin f, cos t)``, for all real angles, and

    .. math:: \sin^2 (d / 2) = \sin^2 (\Delta t / 2) + \sin t_x \sin t_y \sin^2 (\Delta f / 2)
    """
    half = 0.5 * (x - y)
    around = x[..., 0].sin() * y[..., 0].sin() * half[..., 1].sin().square()
    squared_sine = half[..., 0].sin().square() + around
    # Opposite points have no direction towards each other, and the arcsine no slope there.
    largest = 1.0 - 4.0 * torch.finfo(squared_sine.dtype).eps
    return 2.0 * squared_sine.clamp(SMALLEST, largest).sqrt().asin()


def hyperboloid(x: Tensor, y: Tensor) -> Tensor:
    r"""Distance on the hyperboloid ``z = sqrt(1 + |x|^2)`` above the plane.

    It is ``arcosh(z_x z_y - x y)``. The form below does not subtract large numbers from each other:
    :math:`4 \sinh^2 (d / 2) = |x - y|^2 - (z_x - z_y)^2`.
    """
    height_x = (1.0 + x.square().sum(-1)).sqrt()
    height_y = (1.0 + y.square().sum(-1)).sqrt()
    difference = x - y
    climb = (difference * (x + y)).sum(-1) / (height_x + height_y)  # z_x - z_y
    squared = difference.square().sum(-1) - climb.square()
    return 2.0 * (0.5 * squared.clamp_min(SMALLEST).sqrt()).asinh()


def gaussian_energy(x: Tensor, y: Tensor) -> Tensor:
    """Minus the logarithm of the inner product of two normal densities of the plane.

    The coordinates are the two means, the variances along the two axes of the ellipse, of which
    the absolute values count, and the angle of its first axis. Values below 0, of densities that
    are narrow and close, count as 0.
    """
    (a, b, c), (d, e, f) = _covariance(x), _covariance(y)
    return _energy(x[..., :2] - y[..., :2], a + d, b + e, c + f)


def diagonal_gaussian_energy(x: Tensor, y: Tensor) -> Tensor:
    """The same for two means and two variances, along the axes of the map."""
    variances = x[..., 2:4].abs() + y[..., 2:4].abs()
    across = torch.zeros_like(variances[..., 0])
    return _energy(x[..., :2] - y[..., :2], variances[..., 0], across, variances[..., 1])


def spherical_gaussian_energy(x: Tensor, y: Tensor) -> Tensor:
    """The same for two means and one variance in all directions."""
    variance = x[..., 2].abs() + y[..., 2].abs()
    return _energy(x[..., :2] - y[..., :2], variance, torch.zeros_like(variance), variance)


def _covariance(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the entries xx, xy and yy of the covariance of each ellipse."""
    along, across, angle = x[..., 2].abs(), x[..., 3].abs(), x[..., 4]
    cosine_, sine = angle.cos(), angle.sin()
    return (
        along * cosine_.square() + across * sine.square(),
        (along - across) * sine * cosine_,
        along * sine.square() + across * cosine_.square(),
    )


def _energy(difference: Tensor, xx: Tensor, xy: Tensor, yy: Tensor) -> Tensor:
    """Return minus the log density of a difference under the normal of this covariance."""
    determinant = (xx * yy - xy.square()).clamp_min(SMALLEST)
    east, north = difference[..., 0], difference[..., 1]
    exponent = yy * east.square() - 2.0 * xy * east * north + xx * north.square()
    energy = 0.5 * (exponent / determinant + determinant.log()) + math.log(2.0 * math.pi)
    return energy.clamp_min(0.0)


@dataclass(frozen=True)
class OutputMetric:
    """A metric of the map with what a fit has to know of its coordinates.

    Attributes
    ----------
    name : str
        As passed; of a function its name.
    function : callable
        Of two tensors ``(..., n_components)``, with `kwds` as further arguments.
    kwds : dict
        Further arguments.
    n_components : int or None
        Coordinates that a point must have; None for any number.
    origin : tuple of float
        Point around which maps start. Empty where it is that of the coordinates.
    n_planar : int or None
        How many of the first coordinates a flat layout gives; None for all.
    extent : float or None
        Largest distance from `origin` at the start, in coordinates; None keeps a flat layout's.
    pace : float
        Factor on the step size, below 1 where the whole space is smaller than a flat map.
    n_means : int
        Number of leading coordinates that are followed by variances, 0 where there are none.
    n_variances : int
        Number of these variances.
    """

    name: str
    function: Callable[..., Tensor]
    kwds: Mapping[str, Any] = field(default_factory=dict)
    n_components: int | None = None
    origin: tuple[float, ...] = ()
    n_planar: int | None = None
    extent: float | None = None
    pace: float = 1.0
    n_means: int = 0
    n_variances: int = 0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances of points, 0 where a function gives less."""
        return self.function(x, y, **self.kwds).clamp_min(0.0)

    def between(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the distances of points given as arrays that broadcast."""
        with torch.no_grad():
            found = self(*broadcast(torch.from_numpy(x), torch.from_numpy(y)))
        return found.numpy()

    def check(self, n_components: int) -> None:
        """Raise ValueError if points of this many coordinates have no such distance."""
        if self.n_components not in (None, n_components):
            raise ValueError(
                f"n_components must be {self.n_components} with output_metric={self.name!r}, got "
                f"{n_components}. Set n_components={self.n_components}."
            )
        known = OUTPUT_METRICS.get(self.name)
        if known is None or self.function is not known.function:
            self._try(n_components)

    def _try(self, n_components: int) -> None:
        """Raise ValueError if a function of the user cannot be computed or trained."""
        x, y = torch.linspace(-1.0, 1.0, 12 * n_components).reshape(2, 3, 2, n_components)
        # In a fit under torch.no_grad() gradients are there, too.
        with torch.enable_grad():
            x = x.clone().requires_grad_(True)
            try:
                found: Any = self.function(x * 1.0, y, **self.kwds)
            except Exception as error:
                raise ValueError(
                    f"output_metric must be a function of two tensors, got {type(error).__name__} "
                    f"from {self.name} for tensors of shape {tuple(x.shape)}: "
                    f"{str(error).rstrip('. ')}. Compute with the functions and methods of torch."
                ) from error
        if not isinstance(found, Tensor) or found.shape != x.shape[:-1]:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found)
            raise ValueError(
                f"output_metric must return one distance per pair of points, in shape "
                f"{tuple(x.shape[:-1])} for tensors of shape {tuple(x.shape)}, got {got} from "
                f"{self.name}. Sum over the last axis, with .sum(-1)."
            )
        if not (found.requires_grad or torch.is_inference_mode_enabled()):
            raise ValueError(
                f"output_metric must return distances with a gradient, got none from {self.name}. "
                "Leave out detach(), item() and conversions to numpy."
            )

    def start(self, flat: NDArray[np.float32], n_components: int) -> NDArray[np.float32]:
        """Return where a map starts, from a flat layout of ``n_planar`` dimensions."""
        positions = np.zeros((len(flat), n_components), dtype=np.float32)
        moved = flat
        if self.extent is not None:
            moved = flat - 0.5 * (flat.max(axis=0) + flat.min(axis=0))
            farthest = float(np.linalg.norm(moved, axis=1).max()) or 1.0
            moved = moved * (self.extent / farthest)
        positions[:, : flat.shape[1]] = moved
        if self.origin:
            positions += np.asarray(self.origin, dtype=np.float32)
        return positions

    def written(self, positions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same points in coordinates without ambiguity, as far as they are known.

        Variances are positive; on the sphere the angle from the pole is in [0, pi] and the
        longitude in [-pi, pi].
        """
        if self.name == "haversine":
            polar, around = positions[:, 0].astype(np.float64), positions[:, 1].astype(np.float64)
            east, north = np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around)
            angles = [np.arctan2(np.hypot(east, north), np.cos(polar)), np.arctan2(north, east)]
            return np.stack(angles, axis=1).astype(np.float32)
        if not self.n_variances:
            return positions
        clear = positions.copy()
        clear[:, self.n_means : self.n_means + self.n_variances] = np.abs(
            clear[:, self.n_means : self.n_means + self.n_variances]
        )
        return clear


# Of a hemisphere, so that a start does not overlap itself, and of a disc of radius 2.
HEMISPHERE = 0.45 * math.pi
DISC = math.sinh(2.0)
# A sphere is pi wide, a flat map some twenty to thirty.
SPHERE_PACE = 0.1

_METRICS = (
    OutputMetric("manhattan", manhattan),
    OutputMetric("chebyshev", chebyshev),
    OutputMetric("minkowski", minkowski),
    OutputMetric("cosine", cosine),
    OutputMetric(
        "haversine", haversine, {}, 2, (0.5 * math.pi, 0.0), None, HEMISPHERE, SPHERE_PACE
    ),
    OutputMetric("hyperboloid", hyperboloid, extent=DISC),
    OutputMetric(
        "spherical_gaussian_energy",
        spherical_gaussian_energy,
        {},
        3,
        (0.0, 0.0, 1.0),
        n_planar=2,
        n_means=2,
        n_variances=1,
    ),
    OutputMetric(
        "diagonal_gaussian_energy",
        diagonal_gaussian_energy,
        {},
        4,
        (0.0, 0.0, 1.0, 1.0),
        n_planar=2,
        n_means=2,
        n_variances=2,
    ),
    OutputMetric(
        "gaussian_energy",
        gaussian_energy,
        {},
        5,
        (0.0, 0.0, 1.0, 1.0, 0.0),
        n_planar=2,
        n_means=2,
        n_variances=2,
    ),
)

OUTPUT_METRICS = {metric.name: metric for metric in _METRICS}
EUCLIDEAN_NAMES = ("euclidean", "l2")
OTHER_NAMES = {
    "l1": "manhattan",
    "taxicab": "manhattan",
    "linfinity": "chebyshev",
    "linfty": "chebyshev",
    "linf": "chebyshev",
}


def resolve_output_metric(metric: Any, kwds: Mapping[str, Any] | None) -> OutputMetric | None:
    """Return the metric of the map; None for Euclidean distance.

    Parameters
    ----------
    metric : str or callable
        A name, a function of two tensors ``(..., n_components)`` that returns the distances
        ``(...)``, or a function compiled by numba that maps two rows to their distance and its
        gradient at the first row, as umap-learn takes it.
    kwds : mapping or None
        Further arguments of the metric.

    Raises
    ------
    ValueError
        If there is no such metric, or it has no such arguments.
    """
    arguments = dict(kwds or {})
    if not isinstance(metric, str):
        return _of_function(metric, arguments)
    name = OTHER_NAMES.get(metric, metric)
    if name not in OUTPUT_METRICS and name not in EUCLIDEAN_NAMES:
        known = ["euclidean", *OUTPUT_METRICS]
        raise ValueError(
            f"output_metric must be one of {known} or a function, got {metric!r}. Choose one of "
            "these, or pass a function of two tensors that returns their distances."
        )
    found = OUTPUT_METRICS.get(name)
    allowed = {"p"} if name == "minkowski" else set()
    unknown = sorted(arguments.keys() - allowed)
    if unknown:
        has = "the argument 'p'" if allowed else "no arguments"
        raise ValueError(
            f"output_metric_kwds must fit output_metric={metric!r}, which has {has}, got "
            f"{unknown}. Remove them."
        )
    if found is None or not arguments:
        return found
    _check_power(arguments["p"])
    return OutputMetric(found.name, found.function, arguments)


def _check_power(p: Any) -> None:
    is_number = isinstance(p, int | float | np.integer | np.floating) and not isinstance(p, bool)
    if not is_number or not 1.0 <= p < math.inf:
        raise ValueError(
            f"output_metric_kwds must hold a finite p of at least 1, got p={p!r}. Use "
            "output_metric='chebyshev' for the limit of large p."
        )


def _of_function(function: Any, kwds: dict[str, Any]) -> OutputMetric:
    plain = getattr(function, "py_func", function)  # what numba compiled
    name = getattr(plain, "__name__", type(plain).__name__)
    try:
        bound = inspect.signature(plain).bind(None, None, **kwds)
    except TypeError as error:
        raise ValueError(
            f"output_metric_kwds must be arguments of {name} after the two points, got "
            f"{sorted(kwds)} ({error}). Correct output_metric_kwds."
        ) from error
    except ValueError:  # a function without a signature
        return OutputMetric(name, function, kwds)
    if plain is function:
        return OutputMetric(name, function, kwds)
    bound.apply_defaults()
    return OutputMetric(name, _RowFunction(function, tuple(bound.args[2:])))


@dataclass(frozen=True)
class _RowFunction:
    """A function of numba from two rows to distance and gradient, as one of tensors."""

    function: Any
    arguments: tuple[Any, ...]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        wide_x, wide_y = broadcast(x, y)
        flat = wide_x.reshape(-1, x.shape[-1]), wide_y.reshape(-1, x.shape[-1])
        found: Tensor = _ByRows.apply(*flat, self)  # type: ignore[no-untyped-call]
        return found.reshape(wide_x.shape[:-1])


class _ByRows(torch.autograd.Function):
    """Take the gradients from the function itself."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, y: Tensor, metric: _RowFunction
    ) -> Tensor:
        rows = [np.ascontiguousarray(t.detach().cpu().numpy()) for t in (x, y)]
        found = _loop(metric.function)(*rows, metric.arguments)
        distances, at_x, at_y = (torch.from_numpy(part).to(x.device, x.dtype) for part in found)
        ctx.save_for_backward(at_x, at_y)
        return distances

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, outer: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        at_x, at_y = ctx.saved_tensors  # type: ignore[attr-defined]
        return outer[:, None] * at_x, outer[:, None] * at_y, None


@functools.cache
def _loop(function: Any) -> Any:
    """Compile the loop over pairs of rows; a Python loop would take a thousand times as long."""
    numba = require("numba", extra="metrics")

    def over_rows(
        x: NDArray[Any], y: NDArray[Any], arguments: tuple[Any, ...]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        distances = np.empty(x.shape[0], x.dtype)
        at_x, at_y = np.empty_like(x), np.empty_like(y)
        for i in range(x.shape[0]):
            distance, slope = function(x[i], y[i], *arguments)
            distances[i] = distance
            at_x[i] = slope
            _, slope = function(y[i], x[i], *arguments)
            at_y[i] = slope
        return distances, at_x, at_y

    return numba.njit(nogil=True)(over_rows)
