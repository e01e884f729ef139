"""Scores of a map of the yard, for training rows and held-out rows.

Distances in the data are Euclidean on rows in which the Euclidean order is that of the metric: rows
of norm 1 for cosine, bits as 0 and 1 for Hamming.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lib.sets import YardSet
from neumap import metrics

N_SAMPLES = 1_000
# The extent of a cluster is half the diameter of the circle around its middle that holds this part
# of its rows, so that strays do not count.
EXTENT_PART = 0.8

# Names here, and those of neumap.metrics.scores.
NAMES = {
    "trust": "trustworthiness",
    "recall": "recall@15",
    "held_out_trust": "test_trustworthiness",
    "held_out_recall": "test_recall@15",
    "held_out_5nn": "test_knn_accuracy",
}

Floats = NDArray[np.float32]


def score(
    data: YardSet, rows: str, embedding: NDArray[Any], placed: NDArray[Any] | None
) -> dict[str, float]:
    """Return all scores of a map, with those of the held-out rows `rows` if they were placed."""
    X, y = comparable(data.X_train, data.metric), data.y_train
    positions = without_nan(embedding)
    result = {"triplets": metrics.random_triplet_accuracy(X, positions)}
    result["unplaced"] = float(np.isnan(embedding).any(1).sum())
    options: dict[str, Any] = {}
    if placed is not None:
        X_held_out, y_held_out = data.held_out[rows]
        options = {
            "X_test": comparable(X_held_out, data.metric),
            "embedding_test": without_nan(placed),
            "labels_test": y_held_out,
        }
        result["unplaced"] += float(np.isnan(placed).any(1).sum())
    found = metrics.scores(X, positions, labels=y, n_samples=N_SAMPLES, **options)
    result |= {ours: found[theirs] for ours, theirs in NAMES.items() if theirs in found}
    if data.has_clusters:
        result["centres"] = centre_correlation(X, positions, y)
    if data.has_extents:
        result["extents"] = extent_ratio(positions, y)
    if data.n_siblings > 1:
        result["siblings"] = sibling_rate(positions, y, data.n_siblings)
    return {name: round(float(value), 5) for name, value in result.items()}


def comparable(X: Any, metric: str) -> Floats:
    """Return dense rows whose Euclidean distances have the order of the metric."""
    dense = X.toarray() if scipy.sparse.issparse(X) else np.asarray(X)
    dense = dense.astype(np.float32)
    if metric != "cosine":
        return dense
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    return dense / np.where(norms > 0, norms, 1)


def without_nan(positions: NDArray[Any]) -> Floats:
    """Put rows without a position into the middle of the map, where they count as misplaced."""
    middle = np.nanmedian(positions, axis=0)
    return np.where(np.isnan(positions), middle, positions).astype(np.float32)


def centre_correlation(X: Floats, positions: Floats, labels: NDArray[np.int64]) -> float:
    """Return Spearman's correlation of the distances between class centres, data and map."""
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    classes = np.unique(labels)
    before = np.array([X[labels == c].mean(0, dtype=np.float64) for c in classes])
    after = np.array([positions[labels == c].mean(0, dtype=np.float64) for c in classes])
    return float(spearmanr(pdist(before), pdist(after)).statistic)


def extent_ratio(positions: Floats, labels: NDArray[np.int64]) -> float:
    """Return the extent of the largest cluster on the map divided by that of the smallest.

    The extents are divided by the square root of the number of rows, since a map of even density
    gives a cluster an area in proportion to its rows.
    """
    extents = []
    for c in np.unique(labels):
        own = positions[labels == c]
        radii = np.linalg.norm(own - np.median(own, axis=0), axis=1)
        extents.append(np.quantile(radii, EXTENT_PART) / np.sqrt(len(own)))
    return float(max(extents) / max(min(extents), 1e-12))


def sibling_rate(positions: Floats, labels: NDArray[np.int64], n_siblings: int) -> float:
    """Return the part of the clusters whose nearest cluster on the map is of the same group."""
    from sklearn.neighbors import NearestNeighbors

    classes = np.unique(labels)
    centres = np.array([positions[labels == c].mean(0) for c in classes])
    nearest = NearestNeighbors(n_neighbors=1).fit(centres).kneighbors(return_distance=False)[:, 0]
    return float(np.mean(classes[nearest] // n_siblings == classes // n_siblings))
