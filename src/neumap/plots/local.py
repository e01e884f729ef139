"""How well the map preserves each point's neighbourhood: values for the diagnostic pictures.

Arrays in, one number or colour per row out. Nothing is drawn here. Scikit-learn is imported where
it is used because it takes a second to import and imports pandas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ica_colors",
    "local_dimension",
    "nearest",
    "neighborhood_jaccard",
    "pca_colors",
    "vq_colors",
]

ROWS_AT_ONCE = 4_096  # bounds the memory of stacked neighbourhoods
SAMPLE_FOR_ICA = 10_000


def nearest(rows: NDArray[Any], n_neighbors: int, metric: Any = "euclidean") -> NDArray[Any]:
    """Return the exact nearest rows, the row itself included, (n_samples, n_neighbors) int64."""
    n_samples = len(rows)
    if not 2 <= n_neighbors <= n_samples:
        raise ValueError(
            f"nhood_size must be from 2 to {n_samples} (the row itself counts), got {n_neighbors}. "
            "Choose a number in this range."
        )
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=n_neighbors, metric=metric).fit(rows)
    found: NDArray[Any] = search.kneighbors(rows, return_distance=False)
    return found.astype(np.int64, copy=False)


def neighborhood_jaccard(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return the Jaccard index of two neighbour lists, row by row, from 0 to 1.

    Both have shape (n_samples, n_neighbors). No row contains an index twice.

    Examples
    --------
    >>> import numpy as np
    >>> neighborhood_jaccard(np.array([[0, 1, 2]]), np.array([[0, 2, 3]]))
    array([0.5])
    """
    shared = np.empty(len(left))
    for start in range(0, len(left), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        shared[part] = (left[part, :, None] == right[part, None, :]).sum(axis=(1, 2))
    return np.asarray(shared / (left.shape[1] + right.shape[1] - shared))


def local_dimension(
    data: NDArray[Any], neighbors: NDArray[Any], variance_threshold: float
) -> NDArray[Any]:
    """Count the principal components that explain more than this fraction of local variance.

    The count is at least 1, or 0 where all neighbours coincide. The variances come from the Gram
    matrix of the centred neighbourhood, whose size is independent of the number of features.
    """
    dimension = np.empty(len(neighbors), dtype=np.int64)
    n_neighbors = neighbors.shape[1]
    batch = max(1, min(ROWS_AT_ONCE, int(2**26 // (n_neighbors * data.shape[1]))))
    for start in range(0, len(neighbors), batch):
        around = data[neighbors[start : start + batch]]  # (batch, n_neighbors, n_features)
        centred = around - around.mean(axis=1, keepdims=True)
        variances = np.linalg.eigvalsh(centred @ centred.transpose(0, 2, 1))[:, ::-1]
        variances = np.maximum(variances, 0)
        total = variances.sum(axis=1)
        share = np.cumsum(variances, axis=1) / np.where(total > 0, total, 1)[:, None]
        first = np.argmax(share > variance_threshold, axis=1) + 1
        dimension[start : start + batch] = np.where(total > 0, first, 0)
    return dimension


def pca_colors(data: NDArray[Any]) -> NDArray[Any]:
    """Return the first three principal components as red, green and blue."""
    from sklearn.decomposition import PCA

    n_components = min(3, *data.shape)
    return _as_colors(PCA(n_components, random_state=0).fit_transform(data))


def ica_colors(data: NDArray[Any]) -> NDArray[Any]:
    """Return three independent components as red, green and blue."""
    from sklearn.decomposition import FastICA

    n_components = min(3, *data.shape)
    model = FastICA(n_components, random_state=0, whiten="unit-variance", max_iter=1_000, tol=1e-2)
    step = max(1, len(data) // SAMPLE_FOR_ICA)  # the axes do not need every row
    return _as_colors(model.fit(data[::step]).transform(data))


def vq_colors(data: NDArray[Any]) -> NDArray[Any]:
    """Return distances to three cluster centres as red, green and blue."""
    from sklearn.cluster import KMeans

    n_clusters = min(3, len(data))
    return _as_colors(KMeans(n_clusters, n_init=3, random_state=0).fit(data).transform(data))


def _as_colors(columns: NDArray[Any]) -> NDArray[Any]:
    """Scale each column to 0 to 1, clipped at the 1st and 99th percentile against outliers."""
    low, high = np.percentile(columns, (1, 99), axis=0)
    scaled = np.clip((columns - low) / np.where(high > low, high - low, 1), 0, 1)
    missing = 3 - scaled.shape[1]
    return np.pad(scaled, ((0, 0), (0, missing)), constant_values=0.5)
