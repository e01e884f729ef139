"""Are classes kept? Neighbour classification, silhouette and the order of class centres.

Labels may be numbers, text or anything else with an order. Rows without a label (-1, None, NaN and
so on, see ``neumap._labels``) are left out: they neither vote nor count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap._labels import Classes, read_column
from neumap.metrics.checks import (
    Floats,
    Ints,
    check_between,
    check_rows,
    check_same_length,
    classes_of,
)
from neumap.metrics.tiles import distance_tiles, nearest_columns, scored_rows, single_cloud

__all__ = ["knc", "knn_accuracy", "silhouette"]


def knn_accuracy(  # noqa: PLR0913 - one argument per array and setting, all by name
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    embedding_test: ArrayLike | None = None,
    labels_test: ArrayLike | None = None,
    n_neighbors: int = 5,
    n_samples: int | None = 5000,
    random_state: int = 0,
) -> float:
    """Return how often the vote of the k nearest rows on the map gives the right label.

    Without test rows each sampled row is classified by all the others (leave one out). With test
    rows those are classified by the training rows: the protocol of the Parametric UMAP paper.

    Parameters
    ----------
    embedding : array of shape (n_samples, n_components)
        Positions of the training rows.
    labels : array of shape (n_samples,)
        Their classes; rows without a label (-1, None, NaN) are left out.
    embedding_test, labels_test : arrays, optional
        Positions and classes of rows that were not trained on.
    n_neighbors : int, default=5
        Number of voters; the paper reports 1 and 5. A tied vote goes to the class that sorts first.
    n_samples : int or None, default=5000
        How many rows are classified; None for all.
    random_state : int, default=0
        Seed of the choice of rows.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If lengths disagree, only one test array is given, or there are too few rows.

    Examples
    --------
    >>> import numpy as np
    >>> embedding = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    >>> labels = np.array(["a", "a", "a", "b", "b", "b"])
    >>> knn_accuracy(embedding, labels, n_neighbors=1)
    1.0
    >>> knn_accuracy(embedding, labels, embedding_test=[[4.0]], labels_test=["a"], n_neighbors=3)
    0.0
    """
    if (embedding_test is None) != (labels_test is None):
        raise ValueError(
            "embedding_test and labels_test must be given together, got only one of them. "
            "Pass the positions of the test rows and their labels, or neither."
        )
    train = check_rows(embedding, "embedding")
    classes, labelled = classes_of(labels, train, "labels")
    voters = train[labelled]
    if embedding_test is None or labels_test is None:
        chosen = scored_rows(len(voters), n_samples, random_state)
        cloud, truth = single_cloud(voters, chosen), classes.labels[classes.codes[chosen]]
    else:
        test = check_rows(embedding_test, "embedding_test")
        test_classes, scored = classes_of(labels_test, test, "labels_test")
        _check_same_kind(classes, test_classes)
        chosen = scored_rows(len(test_classes.codes), n_samples, random_state)
        cloud = single_cloud(test[scored], chosen, voters)
        truth = test_classes.labels[test_classes.codes[chosen]]
    check_between(n_neighbors, "n_neighbors", 1, cloud.n_candidates, "the number of voters there")

    winners = [
        _vote(classes.codes[nearest_columns(distances, n_neighbors)], len(classes.labels))
        for (distances,) in distance_tiles(cloud)
    ]
    return float(np.mean(classes.labels[np.concatenate(winners)] == truth))


def _check_same_kind(train: Classes, test: Classes) -> None:
    ours, theirs = (read_column(classes.labels).kinds() for classes in (train, test))
    if ours != theirs:
        raise ValueError(
            f"labels_test must be of the same kind as labels, got {' and '.join(theirs)} with "
            f"{' and '.join(ours)}. Convert one of them, for example with astype(str)."
        )


def _vote(ballots: Ints, n_classes: int) -> Ints:
    """Return the most frequent class of each row of `ballots` (n_queries, n_neighbors)."""
    counts = np.zeros((len(ballots), n_classes), dtype=np.int64)
    np.add.at(counts, (np.arange(len(ballots))[:, None], ballots), 1)
    winners: Ints = counts.argmax(axis=1)
    return winners


def silhouette(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    n_samples: int | None = 2000,
    random_state: int = 0,
) -> float:
    """Return the mean silhouette of the classes on the map.

    For a row let u be its mean distance to the other rows of its class and v the smallest mean
    distance to the rows of another class; its silhouette is ``(v - u) / max(u, v)``, 0 for the
    only member of a class. The sampled rows are compared with all rows, so the sample has no bias.
    The score favours round, distant classes: report it, do not tune for it.

    Parameters
    ----------
    embedding : array of shape (n_samples, n_components)
        Positions of the rows.
    labels : array of shape (n_samples,)
        Their classes, at least two; rows without a label (-1, None, NaN) are left out.
    n_samples : int or None, default=2000
        How many rows are scored; None for all.
    random_state : int, default=0
        Seed of the choice of rows.

    Returns
    -------
    float
        In [-1, 1]; 1 is best.

    Raises
    ------
    ValueError
        If lengths disagree or there is a single class.

    References
    ----------
    Rousseeuw (1987), Silhouettes: a graphical aid to the interpretation of cluster analysis.

    Examples
    --------
    >>> import numpy as np
    >>> round(silhouette(np.array([[0.0], [1.0], [10.0], [11.0]]), [0, 0, 1, 1]), 3)
    0.9
    """
    positions = check_rows(embedding, "embedding")
    classes, labelled = classes_of(labels, positions, "labels")
    if len(classes.labels) < 2:
        raise ValueError(
            f"labels must hold at least two classes, got only {classes.labels[0]!r}. "
            "The silhouette compares a class with the nearest other one."
        )
    rows, codes = positions[labelled], classes.codes
    # With the rows sorted by class, sums per class are one reduceat over the columns.
    order = np.argsort(codes, kind="stable")
    rows, codes = rows[order], codes[order]
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    chosen = scored_rows(len(rows), n_samples, random_state)

    sums = []
    for (squared,) in distance_tiles(single_cloud(rows, chosen)):
        squared[np.isinf(squared)] = 0.0  # the row itself adds nothing to its class
        distances = np.sqrt(np.maximum(squared, 0.0, out=squared), out=squared)
        sums.append(np.add.reduceat(distances, starts, axis=1))
    return float(np.mean(_silhouettes(np.concatenate(sums), codes[chosen], sizes)))


def _silhouettes(sums: Floats, codes: Ints, sizes: Ints) -> Floats:
    """Silhouette of each row from its summed distances to the classes (n_rows, n_classes)."""
    at = np.arange(len(codes))
    own_size = sizes[codes]
    within = sums[at, codes] / np.maximum(own_size - 1, 1)
    means = sums / sizes
    means[at, codes] = np.inf
    between = means.min(axis=1)
    largest = np.maximum(within, between)
    alone_or_coincident = (own_size == 1) | (largest == 0)
    values: Floats = np.where(
        alone_or_coincident, 0.0, (between - within) / np.where(largest == 0, 1.0, largest)
    )
    return values


def knc(X: ArrayLike, embedding: ArrayLike, labels: ArrayLike, *, n_neighbors: int = 4) -> float:
    """Return the mean share of each class's nearest class centres that is kept on the map.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.
    embedding : array of shape (n_samples, n_components)
        The position of each row of `X`.
    labels : array of shape (n_samples,)
        The class of each row; the centre of a class is the mean of its rows. Rows without a label
        (-1, None, NaN) are left out.
    n_neighbors : int, default=4
        How many nearest centres are compared; less than the number of other classes, at which the
        score is always 1.

    Returns
    -------
    float
        In [0, 1]; 1 is best.

    Raises
    ------
    ValueError
        If lengths disagree or there are too few classes.

    References
    ----------
    Kobak and Berens (2019), The art of using t-SNE for single-cell transcriptomics (as KNC).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [3.0], [7.0]])
    >>> knc(X, -X, labels=[0, 1, 2, 3], n_neighbors=1)
    1.0
    """
    data, positions = check_rows(X, "X"), check_rows(embedding, "embedding")
    check_same_length(data, positions, "X", "embedding")
    classes, labelled = classes_of(labels, data, "labels")
    n_allowed = len(classes.labels) - 2
    check_between(n_neighbors, "n_neighbors", 1, n_allowed, "two less than the classes")
    near = _nearest_centers(data[labelled], classes.codes, n_neighbors)
    shown = _nearest_centers(positions[labelled], classes.codes, n_neighbors)
    return float((near[:, :, None] == shown[:, None, :]).sum() / near.size)


def _nearest_centers(rows: NDArray[np.generic], codes: Ints, k: int) -> Ints:
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    ends = np.cumsum(sizes)
    # One class at a time: a float64 copy of all rows at once could double the memory of the data.
    centers = np.stack(
        [
            rows[order[end - size : end]].mean(axis=0, dtype=np.float64)
            for end, size in zip(ends, sizes, strict=True)
        ]
    )
    cloud = single_cloud(centers, np.arange(len(centers)))
    return np.concatenate([nearest_columns(tile, k) for (tile,) in distance_tiles(cloud)])
