"""Edge bundling: bend the edges of a drawn graph together, so that its main routes appear.

Kernel density estimation edge bundling (Hurter, Ersoy and Telea 2012), the method behind
datashader's "hammer": edges become chains of points, every point moves up the gradient of the
density of all points, chains are smoothed, and the kernel shrinks every round. Ends stay fixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["bundle"]

CELLS = 400  # of the density grid, per axis
POINTS_PER_EDGE = 25
ROUNDS = 8
FIRST_BANDWIDTH = 0.05  # of the map's larger side
DECAY = 0.75
SMOOTHING_PASSES = 2


def bundle(ends: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Bend edges toward their common routes.

    Parameters
    ----------
    ends : array of shape (n_edges, 2, 2)
        Both ends of every edge, in map coordinates.
    weights : array of shape (n_edges,)
        How strongly each edge attracts the others.

    Returns
    -------
    array of shape (n_edges, 25, 2)
        The chain of points of each edge; first and last are the given ends.

    Examples
    --------
    >>> import numpy as np
    >>> bundle(np.array([[[0.0, 0.0], [1.0, 0.0]]]), np.ones(1)).shape
    (1, 25, 2)
    """
    if not len(ends):
        return np.empty((0, POINTS_PER_EDGE, 2))
    low = ends.min(axis=(0, 1))
    side = float(np.ptp(ends, axis=(0, 1)).max()) or 1.0
    along = np.linspace(0, 1, POINTS_PER_EDGE)[:, None]
    unit = (ends - low) / side
    chains = unit[:, :1] * (1 - along) + unit[:, 1:] * along  # (n_edges, points, 2)
    bandwidth = FIRST_BANDWIDTH
    for _ in range(ROUNDS):
        chains = _one_round(chains, weights, bandwidth)
        bandwidth *= DECAY
    return np.asarray(chains * side + low)


def _one_round(chains: NDArray[Any], weights: NDArray[Any], bandwidth: float) -> NDArray[Any]:
    cells = np.clip((chains * (CELLS - 1)).round().astype(np.int64), 0, CELLS - 1)
    flat = (cells[..., 0] * CELLS + cells[..., 1]).ravel()
    mass = np.bincount(flat, np.repeat(weights, POINTS_PER_EDGE), minlength=CELLS**2)
    # "constant": a mirrored density would have zero gradient at the border of the map
    density = ndimage.gaussian_filter(
        mass.reshape(CELLS, CELLS), bandwidth * CELLS, mode="constant"
    )
    slope = np.stack(np.gradient(density), axis=-1)
    steepness = np.linalg.norm(slope, axis=-1, keepdims=True)
    flat_ground = steepness <= 1e-9 * steepness.max()  # rounding noise, no direction
    direction = np.where(flat_ground, 0, slope / np.where(flat_ground, 1, steepness)).reshape(-1, 2)
    moved = chains.copy()
    moved[:, 1:-1] += 0.5 * bandwidth * direction[flat].reshape(chains.shape)[:, 1:-1]
    for _ in range(SMOOTHING_PASSES):
        moved[:, 1:-1] = (moved[:, :-2] + 2 * moved[:, 1:-1] + moved[:, 2:]) / 4
    return moved
