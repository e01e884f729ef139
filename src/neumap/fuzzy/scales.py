"""The scale and the offset of each row, by bisection, on any torch device.

The bisection runs in float64 and ends at the same step as that of umap-learn, so that both give the
same graph for the same neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from neumap._device import is_on_card
from neumap._workers import workers

__all__ = ["memberships_of_rows", "scales_and_offsets", "strengths_of"]

N_BISECTIONS = 64
TOLERANCE = 1e-5
ORDINARY_EXPONENT = 30  # of two
SMALLEST_SCALE = 1e-3  # of the mean distance, keeps weights of near-duplicates from vanishing
TILE_ROWS = 2048  # whose excesses stay in the cache of a core
CARD_TILE_ROWS = 1 << 20


def memberships_of_rows(distances: Tensor, n_neighbors: float, local_connectivity: float) -> Tensor:
    """Membership of each neighbour at the scale of its row, shape (n, k), float32."""
    strengths = torch.empty_like(distances)

    def keep(part: slice, sigmas: Tensor, rhos: Tensor) -> None:
        strengths[part] = strengths_of(distances[part], sigmas, rhos)

    _solve_all(distances, n_neighbors, local_connectivity, keep)
    return strengths


def scales_and_offsets(
    distances: Tensor, n_neighbors: float, local_connectivity: float
) -> tuple[Tensor, Tensor]:
    """Scales sigma and offsets rho of the rows of distances (n, k), float32; see ``smooth_knn``."""
    n = len(distances)
    sigmas, rhos = distances.new_empty(n), distances.new_empty(n)

    def keep(part: slice, sigmas_of_part: Tensor, rhos_of_part: Tensor) -> None:
        sigmas[part], rhos[part] = sigmas_of_part, rhos_of_part

    _solve_all(distances, n_neighbors, local_connectivity, keep)
    return sigmas, rhos


def _solve_all(
    distances: Tensor,
    n_neighbors: float,
    local_connectivity: float,
    keep: Callable[[slice, Tensor, Tensor], None],
) -> None:
    """Find the scales and offsets of all rows, some rows at a time."""
    mean = distances.mean(dtype=torch.float64)
    step = CARD_TILE_ROWS if is_on_card(distances) else TILE_ROWS

    def solve(start: int) -> None:
        part = slice(start, start + step)
        solved = _solved(distances[part], mean, math.log2(n_neighbors), local_connectivity)
        keep(part, *solved)

    with workers(-1, distances.device) as run:
        run(solve, range(0, len(distances), step))


def strengths_of(distances: Tensor, sigmas: Tensor, rhos: Tensor) -> Tensor:
    """Membership of each neighbour, ``exp(-max(0, d - rho) / sigma)``, shape (n, k), float32."""
    excess = _excess(distances, rhos)
    strength = torch.exp(excess.neg() / sigmas[:, None])
    return strength.masked_fill_((excess == 0) | (sigmas[:, None] == 0), 1.0)


def _solved(
    given: Tensor, mean_of_all: Tensor, target: float, local_connectivity: float
) -> tuple[Tensor, Tensor]:
    exponents = _row_exponents(given)
    # A power of two in float64: one of float32 may be out of its range.
    units = torch.exp2(exponents.double())
    distances = (given / units[:, None]).float() if exponents.any() else given
    rhos = _offsets(distances, local_connectivity)
    # In float64, so that the bisection stops at the same step as umap-learn's, whose sum is too.
    sigmas = _bisect_scales(_excess(distances[:, 1:], rhos).double().T.contiguous(), target)
    # Distances of duplicates say nothing about the scale, so those rows use the floor of all rows.
    floor = torch.where(rhos > 0, distances.mean(dim=1).double(), mean_of_all / units)
    sigmas = torch.maximum(sigmas, SMALLEST_SCALE * floor)
    return (sigmas * units).float(), (rhos * units).float()


def _row_exponents(distances: Tensor) -> Tensor:
    """Power of two of each row's largest distance where the bisection would not reach its scale.

    The bisection halves and doubles from 1, so that powers of two do not change its result.
    """
    largest = distances.masked_fill(~torch.isfinite(distances), 0).amax(dim=1).clamp_min(0)
    exponents = torch.frexp(largest).exponent
    is_extreme = (exponents.abs() > ORDINARY_EXPONENT) & (largest > 0)
    return exponents.masked_fill(~is_extreme, 0)


def _offsets(distances: Tensor, local_connectivity: float) -> Tensor:
    """Interpolated distance to the local_connectivity-th neighbour at a positive distance."""
    k = distances.shape[1]
    positive = distances > 0
    n_positive = positive.sum(dim=1)
    first = torch.where(n_positive > 0, positive.int().argmax(dim=1), 0)
    whole = math.floor(local_connectivity)
    part = local_connectivity - whole

    def nth_positive(number: int) -> Tensor:
        """The number-th positive distance of each row; number 0 gives the distance 0."""
        if number == 0:
            return torch.zeros_like(distances[:, 0])
        place = (first + (number - 1)).clamp_max(k - 1)
        return distances.gather(1, place[:, None])[:, 0]

    rhos = nth_positive(whole)
    if part > TOLERANCE:
        beyond = nth_positive(whole + 1)
        # Infinity less infinity where neighbours are cut.
        rhos = torch.where(torch.isinf(beyond), beyond, rhos + part * (beyond - rhos))
    largest = torch.where(n_positive > 0, distances[:, -1], 0.0)
    return torch.where(n_positive >= local_connectivity, rhos, largest)


def _excess(distances: Tensor, rhos: Tensor) -> Tensor:
    """How far each neighbour is beyond the offset of its row."""
    # NaN for rows without a neighbour: infinity less infinity.
    return (distances - rhos[:, None]).nan_to_num_(0.0, posinf=math.inf).clamp_min_(0)


def _bisect_scales(excess: Tensor, target: float) -> Tensor:
    """Scale at which the memberships of each column of ``excess`` (k - 1, n) sum to the target."""
    n = excess.shape[1]
    sigmas, middle, below = excess.new_ones(n), excess.new_ones(n), excess.new_zeros(n)
    above = excess.new_full((n,), math.inf)
    rows = torch.arange(n, device=excess.device)
    for _ in range(N_BISECTIONS):
        total = (excess / middle.neg()).exp_().sum(dim=0)
        is_open = (total - target).abs() >= TOLERANCE
        n_open = int(is_open.sum())
        if n_open == 0:
            break
        if 2 * n_open < len(rows):  # most rows end after about 20 rounds; drop them
            sigmas[rows] = middle
            rows, excess, total = rows[is_open], excess[:, is_open], total[is_open]
            below, above, middle = below[is_open], above[is_open], middle[is_open]
            is_open = is_open[is_open]
        too_wide = total > target
        above = torch.where(too_wide & is_open, middle, above)
        below = torch.where(~too_wide & is_open, middle, below)
        step = torch.where(torch.isinf(above), middle * 2, (below + above) / 2)
        middle = torch.where(is_open, step, middle)
    sigmas[rows] = middle
    return sigmas
