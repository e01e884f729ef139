"""The standard table: every score the project reports, under one name each.

Scores of training rows have plain names, those of held-out rows the prefix ``test_``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from neumap.metrics.checks import classes_of
from neumap.metrics.classes import knn_accuracy, silhouette
from neumap.metrics.large_scale import distance_correlation
from neumap.metrics.neighborhood import neighborhood_scores

__all__ = ["scores"]


def scores(  # noqa: PLR0913 - one argument per array and setting, all by name
    X: ArrayLike,
    embedding: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    X_test: ArrayLike | None = None,
    embedding_test: ArrayLike | None = None,
    labels_test: ArrayLike | None = None,
    n_neighbors: int = 15,
    n_samples: int | None = 2000,
    random_state: int = 0,
) -> dict[str, float]:
    """Return the standard table of scores of an embedding.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The training rows.
    embedding : array of shape (n_samples, n_components)
        Their positions.
    labels : array of shape (n_samples,), optional
        Their classes; adds ``knn_accuracy`` and ``silhouette``. Rows without a label (-1, None,
        NaN) are left out of these two.
    X_test, embedding_test : arrays, optional
        Rows that were not trained on and their positions. They add the scores with the prefix
        ``test_``, for which the neighbours of test rows are searched among the training rows.
    labels_test : array, optional
        Classes of the test rows.
    n_neighbors : int, default=15
        Size of the neighbourhoods; the accuracies always use 5 voters. A small set lowers it, and
        the name of the recall shows the number used.
    n_samples : int or None, default=2000
        Rows scored in each part; None for all.
    random_state : int, default=0
        Seed of the samples.

    Returns
    -------
    dict of str to float
        ``trustworthiness``, ``continuity``, ``recall@15``, ``distance_correlation`` (Spearman),
        ``distance_correlation_pearson``, with labels ``knn_accuracy`` and ``silhouette``, and the
        ``test_`` form of each for which test rows were given.

    Raises
    ------
    ValueError
        If arrays disagree, hold NaN, or labels and test rows do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> sorted(scores(X, X))[:3]
    ['continuity', 'distance_correlation', 'distance_correlation_pearson']
    """
    _check_test_rows(labels, X_test, embedding_test, labels_test)
    sampling: dict[str, Any] = {"n_samples": n_samples, "random_state": random_state}
    n_rows = len(np.asarray(X))
    table = _geometry(X, embedding, min(n_neighbors, (n_rows - 1) // 2), sampling)
    if labels is not None:
        classes, _ = classes_of(labels, np.asarray(embedding), "labels")
        n_labelled = len(classes.codes)
        if n_labelled < 2:
            raise ValueError(
                "labels must hold the labels of at least two rows, got one. Label more rows, or "
                "leave labels out."
            )
        table["knn_accuracy"] = knn_accuracy(
            embedding, labels, n_neighbors=min(5, n_labelled - 1), **sampling
        )
        if len(classes.labels) > 1:
            table["silhouette"] = silhouette(embedding, labels, **sampling)
    if X_test is None or embedding_test is None:
        return table

    reference = {"X_reference": X, "embedding_reference": embedding}
    held_out = _geometry(
        X_test, embedding_test, min(n_neighbors, n_rows // 2), sampling | reference
    )
    if labels is not None and labels_test is not None:
        held_out["knn_accuracy"] = knn_accuracy(
            embedding,
            labels,
            embedding_test=embedding_test,
            labels_test=labels_test,
            n_neighbors=min(5, n_labelled),
            **sampling,
        )
        classes, _ = classes_of(labels_test, np.asarray(embedding_test), "labels_test")
        if len(classes.labels) > 1:
            held_out["silhouette"] = silhouette(embedding_test, labels_test, **sampling)
    return table | {f"test_{name}": value for name, value in held_out.items()}


def _geometry(
    X: ArrayLike, embedding: ArrayLike, n_neighbors: int, options: dict[str, Any]
) -> dict[str, float]:
    """Scores that need no labels; `options` go to the neighbourhood scores."""
    kept = neighborhood_scores(X, embedding, n_neighbors=n_neighbors, **options)
    table = {
        "trustworthiness": kept.trustworthiness,
        "continuity": kept.continuity,
        f"recall@{n_neighbors}": kept.recall,
    }
    if len(np.asarray(X)) >= 3:
        seed = options["random_state"]
        table["distance_correlation"] = distance_correlation(X, embedding, random_state=seed)
        table["distance_correlation_pearson"] = distance_correlation(
            X, embedding, method="pearson", random_state=seed
        )
    return table


def _check_test_rows(
    labels: ArrayLike | None,
    X_test: ArrayLike | None,
    embedding_test: ArrayLike | None,
    labels_test: ArrayLike | None,
) -> None:
    if (X_test is None) != (embedding_test is None):
        raise ValueError(
            "X_test and embedding_test must be given together, got only one of them. "
            "Pass the held-out rows and where transform placed them, or neither."
        )
    if labels_test is not None and (labels is None or X_test is None):
        raise ValueError(
            "labels_test must be given together with labels, X_test and embedding_test, got "
            "labels_test without all of them. Pass the training labels and the test rows too."
        )
