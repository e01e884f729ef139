"""From distances to memberships: each row weighs its neighbours by its own scale.

McInnes, Healy and Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
Reduction", 2018, algorithms 2 and 3. The details (tolerance, floor of the scale, treatment of
duplicates) follow umap-learn, so that both give the same graph for the same neighbours.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from neumap._warnings import warn_user
from neumap.fuzzy.graph import FuzzyGraph
from neumap.neighbors.graph import NeighborGraph

__all__ = ["directed_memberships", "fuzzy_simplicial_set", "membership_to_train", "smooth_knn"]

logger = logging.getLogger(__name__)

N_BISECTIONS = 64
TOLERANCE = 1e-5
ORDINARY_EXPONENT = 30  # of two
SMALLEST_SCALE = 1e-3  # of the mean distance, keeps weights of near-duplicates from vanishing


def smooth_knn(
    distances: NDArray[Any],
    n_neighbors: float,
    local_connectivity: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the scale sigma and the offset rho of each row.

    ``rho`` is the distance to the ``local_connectivity``-th neighbour at a distance above zero
    (interpolated where it is not whole). ``sigma`` solves
    ``sum_j exp(-max(0, d_j - rho) / sigma) = log2(n_neighbors)``.

    Parameters
    ----------
    distances : array of shape (n, k)
        Rising along each row; column 0, the row itself, is not part of the sum.
    n_neighbors : float
        Larger values widen the scale. Usually ``k``.
    local_connectivity : float, default=1.0
        Neighbours that count as fully connected.

    Returns
    -------
    sigmas, rhos : arrays of shape (n,), float32

    Examples
    --------
    >>> sigmas, rhos = smooth_knn(np.array([[0.0, 1.0, 2.0, 3.0]]), n_neighbors=4)
    >>> float(rhos[0])
    1.0
    >>> bool(np.isclose(np.exp(-np.array([0, 1, 2]) / sigmas[0]).sum(), 2, atol=1e-4))
    True
    """
    given = np.ascontiguousarray(distances, dtype=np.float32)
    exponents = _row_exponents(given)
    distances = np.ldexp(given, -exponents[:, None]) if exponents.any() else given
    rhos = _offsets(distances, local_connectivity)
    # In float64, so that the bisection stops at the same step as umap-learn's, whose sum is too.
    excess = _excess(distances[:, 1:], rhos).T.astype(np.float64, order="C")  # (k - 1, n)
    sigmas = _bisect_scales(excess, np.log2(n_neighbors))
    # Distances of duplicates say nothing about the scale, so those rows use the floor of all rows.
    of_all = np.ldexp(given.mean(dtype=np.float64), -exponents)
    floor = np.where(rhos > 0, distances.mean(axis=1), of_all)
    sigmas = np.maximum(sigmas, SMALLEST_SCALE * floor)
    return np.ldexp(sigmas, exponents).astype(np.float32), np.ldexp(rhos, exponents)


def _row_exponents(distances: NDArray[Any]) -> NDArray[np.int32]:
    """Power of two of each row's largest distance where the bisection would not reach its scale.

    The bisection halves and doubles from 1, so that powers of two do not change its result.
    """
    largest = np.where(np.isfinite(distances), distances, 0).max(axis=1, initial=0)
    exponents = np.frexp(largest)[1]
    is_extreme = (np.abs(exponents) > ORDINARY_EXPONENT) & (largest > 0)
    return np.where(is_extreme, exponents, 0).astype(np.int32)


def _offsets(distances: NDArray[Any], local_connectivity: float) -> NDArray[Any]:
    """Interpolated distance to the local_connectivity-th neighbour at a positive distance."""
    n, k = distances.shape
    positive = distances > 0
    n_positive = positive.sum(axis=1)
    first = np.where(n_positive > 0, positive.argmax(axis=1), 0)
    whole = int(np.floor(local_connectivity))
    part = np.float32(local_connectivity - whole)
    rows = np.arange(n)

    def nth_positive(number: int) -> NDArray[Any]:
        """The number-th positive distance of each row; number 0 gives the distance 0."""
        if number == 0:
            return np.zeros(n, dtype=np.float32)
        return np.asarray(distances[rows, np.minimum(first + number - 1, k - 1)])

    rhos = nth_positive(whole)
    if part > TOLERANCE:
        beyond = nth_positive(whole + 1)
        with np.errstate(invalid="ignore"):  # infinity less infinity where neighbours are cut
            rhos = np.where(np.isinf(beyond), beyond, rhos + part * (beyond - rhos))
    largest = np.where(n_positive > 0, distances[:, -1], 0)
    return np.where(n_positive >= local_connectivity, rhos, largest).astype(np.float32)


def _excess(distances: NDArray[Any], rhos: NDArray[Any]) -> NDArray[Any]:
    """How far each neighbour is beyond the offset of its row."""
    with np.errstate(invalid="ignore"):  # rows without a neighbour: infinity less infinity
        return np.asarray(np.fmax(distances - rhos[:, None], 0))


def _bisect_scales(excess: NDArray[Any], target: float) -> NDArray[Any]:
    """Scale at which the memberships of each column of ``excess`` (k - 1, n) sum to the target."""
    n = excess.shape[1]
    sigmas = np.ones(n)
    open_rows = np.arange(n)
    below, above, middle = np.zeros(n), np.full(n, np.inf), np.ones(n)
    for _ in range(N_BISECTIONS):
        total = np.exp(-(excess / middle)).sum(axis=0)
        is_open = np.abs(total - target) >= TOLERANCE
        if not is_open.all():  # most rows end after about 20 rounds; drop them
            open_rows, excess, total = open_rows[is_open], excess[:, is_open], total[is_open]
            below, above, middle = below[is_open], above[is_open], middle[is_open]
            if len(open_rows) == 0:
                break
        too_wide = total > target
        above = np.where(too_wide, middle, above)
        below = np.where(too_wide, below, middle)
        unbounded = np.isinf(above)
        middle = np.where(unbounded, middle * 2, (below + above) / 2)
        sigmas[open_rows] = middle
    return sigmas


def directed_memberships(
    distances: NDArray[Any], sigmas: NDArray[Any], rhos: NDArray[Any]
) -> NDArray[np.float32]:
    """Membership of each neighbour, ``exp(-max(0, d - rho) / sigma)``, shape (n, k), float32."""
    excess = _excess(distances.astype(np.float32, copy=False), rhos)
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = np.exp(-excess / sigmas[:, None])
    return np.where((excess == 0) | (sigmas[:, None] == 0), np.float32(1), strength)


def fuzzy_simplicial_set(
    graph: NeighborGraph,
    *,
    set_op_mix_ratio: float = 1.0,
    local_connectivity: float = 1.0,
    disconnection_distance: float | None = None,
) -> FuzzyGraph:
    """Join every row's fuzzy view of its neighbourhood into one undirected graph.

    Parameters
    ----------
    graph : NeighborGraph
        Neighbours with the row itself in column 0.
    set_op_mix_ratio : float in [0, 1], default=1.0
        1 keeps an edge that either end has (union), 0 only edges that both ends have
        (intersection); with directed weights a and b the result is
        ``mix * (a + b - ab) + (1 - mix) * ab``.
    local_connectivity : float, default=1.0
        Neighbours at each row that count as fully connected. Larger values connect the map more
        tightly; more than the intrinsic dimension is rarely useful.
    disconnection_distance : float, optional
        Neighbours at this distance or farther are not counted as neighbours.

    Returns
    -------
    FuzzyGraph

    Examples
    --------
    >>> from neumap.neighbors import find_neighbors
    >>> line = find_neighbors(np.arange(4.0)[:, None], n_neighbors=2)
    >>> fuzzy_simplicial_set(line).weights.tolist()
    [1.0, 1.0, 1.0]
    """
    indices, distances = graph.indices, graph.distances.astype(np.float32, copy=False)
    if disconnection_distance is not None and np.isfinite(disconnection_distance):
        cut = distances >= disconnection_distance
        indices, distances = np.where(cut, -1, indices), np.where(cut, np.inf, distances)
    sigmas, rhos = smooth_knn(distances, indices.shape[1], local_connectivity)
    strengths = directed_memberships(distances, sigmas, rhos)
    joined = _join_directions(indices, strengths, set_op_mix_ratio)
    _warn_of_isolated(joined)
    return joined


def membership_to_train(
    indices: NDArray[Any],
    distances: NDArray[Any],
    n_train: int,
    *,
    local_connectivity: float = 1.0,
    disconnection_distance: float | None = None,
) -> Any:
    """Weigh the training rows near each new row, for placing new rows without an encoder.

    New rows are not their own neighbours, so they have one connected neighbour less than training
    rows.

    Parameters
    ----------
    indices, distances : arrays of shape (n_new, k)
        Training rows nearest to each new row, by rising distance (``query_neighbors``).
    n_train : int
        Number of training rows.
    local_connectivity, disconnection_distance
        As given to ``fuzzy_simplicial_set``.

    Returns
    -------
    csr matrix of shape (n_new, n_train), float32
        Memberships; rows beyond the disconnection distance are empty.

    Examples
    --------
    >>> near = membership_to_train(np.array([[2, 0]]), np.array([[0.0, 1.0]]), n_train=3)
    >>> near.shape, float(near[0, 2])
    ((1, 3), 1.0)
    """
    n_new, k = indices.shape
    sigmas, rhos = smooth_knn(distances, k, max(0.0, local_connectivity - 1.0))
    strengths = directed_memberships(distances, sigmas, rhos)
    is_edge = (indices >= 0) & (strengths > 0)
    if disconnection_distance is not None:
        is_edge &= distances < disconnection_distance
    rows = np.broadcast_to(np.arange(n_new)[:, None], indices.shape)
    return scipy.sparse.csr_matrix(
        (strengths[is_edge], (rows[is_edge], indices[is_edge])), shape=(n_new, n_train)
    )


def _join_directions(
    indices: NDArray[Any], strengths: NDArray[Any], set_op_mix_ratio: float
) -> FuzzyGraph:
    """One undirected edge for each pair that appears in either direction."""
    n = len(indices)
    rows = np.arange(n)[:, None]
    is_edge = (indices >= 0) & (indices != rows) & (strengths > 0)
    sources = np.broadcast_to(rows, indices.shape)[is_edge]
    targets, strengths = indices[is_edge], strengths[is_edge]
    key = np.minimum(sources, targets) * n + np.maximum(sources, targets)
    order = np.argsort(key, kind="stable")
    key, strengths, is_forward = key[order], strengths[order], (sources < targets)[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    if len(starts) == 0:
        empty = np.empty(0, dtype=np.int64)
        return FuzzyGraph(empty, empty, np.empty(0, dtype=np.float32), n)
    forward = np.add.reduceat(np.where(is_forward, strengths, 0), starts)
    backward = np.add.reduceat(np.where(is_forward, 0, strengths), starts)
    both = forward * backward
    weights = set_op_mix_ratio * (forward + backward - both) + (1 - set_op_mix_ratio) * both
    heads, tails = np.divmod(key[starts], n)
    kept = weights > 0
    return FuzzyGraph(heads[kept], tails[kept], weights[kept].astype(np.float32), n)


def _warn_of_isolated(graph: FuzzyGraph) -> None:
    n_isolated = len(graph.isolated())
    if n_isolated:
        warn_user(
            f"Every row must have a neighbour to take part in a fit, got {n_isolated} of "
            f"{graph.n_vertices} rows without one: as free positions they are NaN, and an encoder "
            "places them like new rows. Raise disconnection_distance, or n_neighbors where "
            "set_op_mix_ratio is below 1.",
        )
