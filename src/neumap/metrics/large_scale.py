"""Is the large scale kept? Distances, triplets and shapes compared over random pairs of rows.

Pairs and triplets are drawn uniformly, so nearly all of them join different neighbourhoods: these
scores measure where the clusters lie and say little about fine detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap.metrics.checks import (
    Floats,
    Ints,
    check_between,
    check_rows,
    check_same_length,
)

__all__ = ["distance_correlation", "procrustes_disparity", "random_triplet_accuracy"]

CHUNK_BYTES = 32 * 2**20  # float64 differences held at once


def distance_correlation(
    X: ArrayLike,
    embedding: ArrayLike,
    *,
    method: Literal["spearman", "pearson"] = "spearman",
    n_pairs: int = 50_000,
    random_state: int = 0,
) -> float:
    """Return the correlation of distances in the data with distances on the map.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.
    embedding : array of shape (n_samples, n_components)
        The position of each row of `X`.
    method : {"spearman", "pearson"}, default="spearman"
        Correlation of the ranks (any increasing relation scores 1) or of the distances themselves
        (the quantity behind ``global_correlation_loss_weight``).
    n_pairs : int, default=50_000
        How many random pairs of different rows are compared. With many rows the pairs share few
        ends, and the standard error is about ``1 / sqrt(n_pairs)``.
    random_state : int, default=0
        Seed of the pairs.

    Returns
    -------
    float
        In [-1, 1]; 1 is best. 0 where all distances of one space are equal.

    Raises
    ------
    ValueError
        If arrays differ in length, hold NaN, or `method` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> round(distance_correlation(X, 2 * X, method="pearson"), 6)
    1.0
    """
    if method not in ("spearman", "pearson"):
        raise ValueError(
            f"method must be 'spearman' or 'pearson', got {method!r}. "
            "Use 'spearman' to compare the order of distances."
        )
    data, positions = _paired_rows(X, embedding, at_least=3)
    check_between(n_pairs, "n_pairs", 2, 10**9, "a sample, not all pairs")
    rng = np.random.default_rng(random_state)
    heads, tails = _different_rows(rng, len(data), n_pairs, 2)
    in_data, on_map = (_distances(rows, heads, tails) for rows in (data, positions))
    if method == "spearman":
        from scipy.stats import rankdata

        in_data, on_map = rankdata(in_data), rankdata(on_map)
    return _pearson(in_data, on_map)


def random_triplet_accuracy(
    X: ArrayLike,
    embedding: ArrayLike,
    *,
    n_triplets: int = 50_000,
    random_state: int = 0,
) -> float:
    """Return how often the nearer of two random rows is also the nearer one on the map.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.
    embedding : array of shape (n_samples, n_components)
        The position of each row of `X`.
    n_triplets : int, default=50_000
        How many triplets of different rows (i; j, k) are compared. A tie in either space counts
        one half.
    random_state : int, default=0
        Seed of the triplets.

    Returns
    -------
    float
        In [0, 1]; 1 is best, 0.5 for a random map.

    Raises
    ------
    ValueError
        If arrays differ in length, hold NaN, or have fewer than three rows.

    References
    ----------
    Wang, Huang, Rudin and Shaposhnik (2021), Understanding how dimension reduction tools work.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> random_triplet_accuracy(X, 2 * X)
    1.0
    """
    data, positions = _paired_rows(X, embedding, at_least=3)
    check_between(n_triplets, "n_triplets", 1, 10**9, "a sample, not all triplets")
    rng = np.random.default_rng(random_state)
    anchors, first, second = _different_rows(rng, len(data), n_triplets, 3)
    in_data, on_map = (
        np.sign(_distances(rows, anchors, first) - _distances(rows, anchors, second))
        for rows in (data, positions)
    )
    return float(np.mean((1 + in_data * on_map) / 2))


def procrustes_disparity(first: ArrayLike, second: ArrayLike) -> float:
    """Return what differs between two maps of the same rows beyond shift, scale and rotation.

    Both are centred and scaled to unit norm, then ``min |A - s B R|^2`` over rotations and
    reflections R and scales s, which is ``1 - (sum of singular values of A^T B)^2``. Use it between
    seeds, between bootstraps, or between a parametric and a free embedding.

    Parameters
    ----------
    first, second : arrays of shape (n_samples, n_components)
        Positions of the same rows on two maps with as many dimensions.

    Returns
    -------
    float
        In [0, 1]; 0 when the maps agree.

    Raises
    ------
    ValueError
        If shapes differ or all rows of one map coincide.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).normal(size=(50, 2))
    >>> quarter_turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> abs(round(procrustes_disparity(Z, 3 * Z @ quarter_turn + 7), 9))
    0.0
    """
    left, right = check_rows(first, "first"), check_rows(second, "second")
    if left.shape != right.shape:
        raise ValueError(
            "first and second must have the same shape, the same rows on two maps, "
            f"got {left.shape} and {right.shape}. Score the rows and dimensions they share."
        )
    overlap = _unit_shape(left, "first").T @ _unit_shape(right, "second")
    singular_values = np.linalg.svd(overlap, compute_uv=False)
    return float(max(0.0, 1.0 - singular_values.sum() ** 2))


def _unit_shape(rows: NDArray[Any], name: str) -> Floats:
    centred: Floats = rows - rows.mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(centred))
    if norm == 0:
        raise ValueError(
            f"{name} must hold rows at different positions, got {len(rows)} rows at one position. "
            "The map has collapsed: look at its loss before comparing its shape."
        )
    return centred / norm


def _paired_rows(
    X: ArrayLike, embedding: ArrayLike, at_least: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    data, positions = check_rows(X, "X"), check_rows(embedding, "embedding")
    check_same_length(data, positions, "X", "embedding")
    if len(data) < at_least:
        raise ValueError(f"X must have at least {at_least} rows, got {len(data)}. Score more rows.")
    return data, positions


def _different_rows(
    rng: np.random.Generator, n_rows: int, n_draws: int, n_parts: int
) -> tuple[Ints, ...]:
    """Draw `n_draws` tuples of two or three different rows, uniformly."""
    first = rng.integers(n_rows, size=n_draws)
    # Steps around the ring of rows: none is 0, and they differ, so no two parts are the same row.
    step = rng.integers(1, n_rows, size=n_draws)
    second = (first + step) % n_rows
    if n_parts == 2:
        return first, second
    other_step = rng.integers(1, n_rows - 1, size=n_draws)
    other_step += other_step >= step
    return first, second, (first + other_step) % n_rows


def _distances(rows: NDArray[Any], heads: Ints, tails: Ints) -> Floats:
    """Euclidean distance of each pair, float64, gathered in chunks."""
    return np.concatenate(list(_distance_chunks(rows, heads, tails)))


def _distance_chunks(rows: NDArray[Any], heads: Ints, tails: Ints) -> Iterator[Floats]:
    n_chunk = max(1, CHUNK_BYTES // (8 * rows.shape[1]))
    for start in range(0, len(heads), n_chunk):
        chunk = slice(start, start + n_chunk)
        differences = rows[heads[chunk]].astype(np.float64) - rows[tails[chunk]]
        yield np.sqrt(np.einsum("ij,ij->i", differences, differences))


def _pearson(first: Floats, second: Floats) -> float:
    left, right = first - first.mean(), second - second.mean()
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / norms if norms > 0 else 0.0
