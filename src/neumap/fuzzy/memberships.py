"""From distances to memberships: each row weighs its neighbours by its own scale.

McInnes, Healy and Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
Reduction", 2018, algorithms 2 and 3. The details (tolerance, floor of the scale, treatment of
duplicates) follow umap-learn, so that both give the same graph for the same neighbours. Scales are
found in ``scales`` and directions joined in ``joining``, on any torch device.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from neumap._views import tensor_view
from neumap._warnings import warn_user
from neumap.fuzzy.graph import FuzzyGraph
from neumap.fuzzy.joining import join_directions
from neumap.fuzzy.scales import memberships_of_rows, scales_and_offsets, strengths_of
from neumap.neighbors.graph import NeighborGraph

__all__ = ["directed_memberships", "fuzzy_simplicial_set", "membership_to_train", "smooth_knn"]

logger = logging.getLogger(__name__)


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
    given = tensor_view(np.ascontiguousarray(distances, dtype=np.float32))
    sigmas, rhos = scales_and_offsets(given, n_neighbors, local_connectivity)
    return sigmas.numpy(), rhos.numpy()


def directed_memberships(
    distances: NDArray[Any], sigmas: NDArray[Any], rhos: NDArray[Any]
) -> NDArray[np.float32]:
    """Membership of each neighbour, ``exp(-max(0, d - rho) / sigma)``, shape (n, k), float32."""
    given = tensor_view(distances.astype(np.float32, copy=False))
    strengths: NDArray[np.float32] = strengths_of(
        given, tensor_view(sigmas), tensor_view(rhos)
    ).numpy()
    return strengths


def fuzzy_simplicial_set(
    graph: NeighborGraph,
    *,
    set_op_mix_ratio: float = 1.0,
    local_connectivity: float = 1.0,
    disconnection_distance: float | None = None,
    device: str | torch.device = "cpu",
    others: NeighborGraph | None = None,
) -> FuzzyGraph:
    """Join every row's fuzzy view of its neighbourhood into one undirected graph.

    Parameters
    ----------
    graph : NeighborGraph
        Neighbours with the row itself in column 0. Where they are those of some rows only, an edge
        from one of these rows to another one has the strength of the one direction that is known.
    set_op_mix_ratio : float in [0, 1], default=1.0
        1 keeps an edge that either end has (union), 0 only edges that both ends have
        (intersection); with directed weights a and b the result is
        ``mix * (a + b - ab) + (1 - mix) * ab``.
    local_connectivity : float, default=1.0
        Neighbours at each row that count as fully connected. Larger values connect the map more
        tightly; more than the intrinsic dimension is rarely useful.
    disconnection_distance : float, optional
        Neighbours at this distance or farther are not counted as neighbours.
    device : str or torch.device, default="cpu"
        Where the graph is computed. It must have numbers of 64 bits, which "mps" does not.
    others : NeighborGraph, optional
        Neighbours of other rows, at most as many for each, at the scale of these.

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
    settings = local_connectivity, disconnection_distance
    sources, indices, strengths = _weighted(graph, device, *settings)
    if others is not None:
        more = _weighted(others, device, *settings)
        wider = (0, indices.shape[1] - more[1].shape[1])
        sources = torch.cat([sources, more[0]])
        indices = torch.cat([indices, functional.pad(more[1], wider, value=-1)])
        strengths = torch.cat([strengths, functional.pad(more[2], wider)])
    n = graph.n_vertices
    joined = FuzzyGraph.from_tensors(
        *join_directions(sources, indices, strengths, set_op_mix_ratio, n), n_vertices=n
    )
    _warn_of_isolated(joined, graph.asking())
    return joined


def _weighted(
    graph: NeighborGraph,
    device: str | torch.device,
    local_connectivity: float,
    disconnection_distance: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows (n,), their neighbours (n, k), -1 where there is none, and how strong each is."""
    indices, distances = _on(device, graph)
    if disconnection_distance is not None and np.isfinite(disconnection_distance):
        cut = distances >= disconnection_distance
        indices, distances = indices.masked_fill(cut, -1), distances.masked_fill(cut, torch.inf)
    strengths = memberships_of_rows(distances, indices.shape[1], local_connectivity)
    return torch.from_numpy(graph.asking()).to(indices.device), indices, strengths


def _on(device: str | torch.device, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
    """Neighbours and distances on the device, from where they are."""
    if graph.on_device is not None:
        indices, distances = graph.on_device
    else:
        indices = tensor_view(graph.indices)
        distances = tensor_view(graph.distances.astype(np.float32, copy=False))
    return indices.to(device), distances.to(device)


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


def _warn_of_isolated(graph: FuzzyGraph, asking: NDArray[np.int64]) -> None:
    n_isolated = int((~graph.has_edges()[asking]).sum())
    if n_isolated:
        warn_user(
            f"Every row must have a neighbour to take part in a fit, got {n_isolated} of "
            f"{len(asking)} rows without one: as free positions they are NaN, and an encoder "
            "places them like new rows. Raise disconnection_distance, or n_neighbors where "
            "set_op_mix_ratio is below 1.",
        )
