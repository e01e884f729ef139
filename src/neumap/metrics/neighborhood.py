"""Are neighbours kept? Trustworthiness, continuity and neighbour recall.

For a query i let N(i) be its k nearest rows in the data, n(i) those in the embedding, and r(i, j)
the rank of j by distance from i in the data (1 for the nearest). With q queries and m rows that
could be a neighbour:

- trustworthiness ``1 - 2 / (q k (2m - 3k + 1)) * sum_i sum_{j in n(i)} max(0, r(i, j) - k)``:
  1 when no row that is near on the map is far in the data
- continuity: the same with data and embedding exchanged: 1 when nothing near was torn apart
- recall: the mean share of N(i) found in n(i)

Over all n rows of one set m = n - 1, and the formula is that of Venna and Kaski (2001). For rows
that were not trained on, the neighbours are searched among the training rows and m is their number.
Ranks are counted (how many rows are nearer?), never sorted. Where distances tie, the score is its
mean over all orders of the tied rows, so a map collapsed to a point earns no credit for its ties.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from neumap.metrics.checks import Floats, Ints, check_between
from neumap.metrics.tiles import Cloud, distance_tiles, nearest_columns, paired_clouds

__all__ = [
    "NeighborhoodScores",
    "continuity",
    "knn_recall",
    "neighborhood_scores",
    "trustworthiness",
]


DATA, MAP = 0, 1  # places in a pair of clouds


class NeighborhoodScores(NamedTuple):
    """The three neighbourhood scores of one embedding, each in [0, 1], 1 is best."""

    trustworthiness: float
    continuity: float
    recall: float


def trustworthiness(  # noqa: PLR0913 - one argument per array and setting, all by name
    X: ArrayLike,
    embedding: ArrayLike,
    *,
    n_neighbors: int = 15,
    X_reference: ArrayLike | None = None,
    embedding_reference: ArrayLike | None = None,
    n_samples: int | None = 2000,
    random_state: int = 0,
) -> float:
    """Score how far neighbours on the map are neighbours in the data.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data. float64 is compared in float64, anything else in float32.
    embedding : array of shape (n_samples, n_components)
        The position of each row of `X`.
    n_neighbors : int, default=15
        Size k of the neighbourhood, at most half the rows. Small values look at the finest detail
        (the Parametric UMAP paper uses 5), 15 at the scale UMAP itself works on.
    X_reference, embedding_reference : arrays, optional
        The training rows and their positions. When given, `X` holds rows that were not trained on,
        and their neighbours are searched among the training rows.
    n_samples : int or None, default=2000
        How many rows of `X` are scored, each against all reference rows; None for all. The
        standard error with 2,000 is below 0.002.
    random_state : int, default=0
        Seed of the choice of rows.

    Returns
    -------
    float
        In [0, 1]; 1 is best, about 0.5 for a random map.

    Raises
    ------
    ValueError
        If arrays differ in length, hold NaN, or are too short for `n_neighbors`.

    References
    ----------
    Venna and Kaski (2001), Neighborhood preservation in nonlinear projection methods.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> trustworthiness(X, 3 * X + 1)
    1.0
    """
    clouds = paired_clouds(X, embedding, X_reference, embedding_reference, n_samples, random_state)
    return _score_of_ranks(clouds, n_neighbors, ranks_in=DATA)


def continuity(  # noqa: PLR0913 - one argument per array and setting, all by name
    X: ArrayLike,
    embedding: ArrayLike,
    *,
    n_neighbors: int = 15,
    X_reference: ArrayLike | None = None,
    embedding_reference: ArrayLike | None = None,
    n_samples: int | None = 2000,
    random_state: int = 0,
) -> float:
    """Score how far neighbours in the data stay neighbours on the map.

    The mirror image of :func:`trustworthiness`, with the same parameters: it falls when
    neighbourhoods of the data are torn apart.

    Parameters
    ----------
    X, embedding, n_neighbors, X_reference, embedding_reference, n_samples, random_state
        As in :func:`trustworthiness`.

    Returns
    -------
    float
        In [0, 1]; 1 is best, about 0.5 for a random map.

    Raises
    ------
    ValueError
        As :func:`trustworthiness`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> continuity(X, 3 * X + 1)
    1.0
    """
    clouds = paired_clouds(X, embedding, X_reference, embedding_reference, n_samples, random_state)
    return _score_of_ranks(clouds, n_neighbors, ranks_in=MAP)


def knn_recall(  # noqa: PLR0913 - one argument per array and setting, all by name
    X: ArrayLike,
    embedding: ArrayLike,
    *,
    n_neighbors: int = 15,
    X_reference: ArrayLike | None = None,
    embedding_reference: ArrayLike | None = None,
    n_samples: int | None = 2000,
    random_state: int = 0,
) -> float:
    """Return the mean share of the k nearest rows in the data that are also nearest on the map.

    The strictest of the neighbourhood scores: being the sixteenth neighbour counts as lost, so two
    dimensions of a large data set keep a small share (about 0.1 for 60,000 digits) and the score
    falls as rows are added.

    Parameters
    ----------
    X, embedding, X_reference, embedding_reference, n_samples, random_state
        As in :func:`trustworthiness`.
    n_neighbors : int, default=15
        Size k of the neighbourhood, at most the number of other rows.

    Returns
    -------
    float
        In [0, 1]; 1 is best, ``n_neighbors / n_rows`` for a random map.

    Raises
    ------
    ValueError
        As :func:`trustworthiness`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> knn_recall(X, 3 * X + 1)
    1.0
    """
    original, embedded = paired_clouds(
        X, embedding, X_reference, embedding_reference, n_samples, random_state
    )
    check_between(n_neighbors, "n_neighbors", 1, original.n_candidates, "the number of other rows")
    kept = sum(
        _n_shared(nearest_columns(near, n_neighbors), nearest_columns(shown, n_neighbors))
        for near, shown in distance_tiles(original, embedded)
    )
    return kept / (n_neighbors * original.n_queries)


def neighborhood_scores(  # noqa: PLR0913 - one argument per array and setting, all by name
    X: ArrayLike,
    embedding: ArrayLike,
    *,
    n_neighbors: int = 15,
    X_reference: ArrayLike | None = None,
    embedding_reference: ArrayLike | None = None,
    n_samples: int | None = 2000,
    random_state: int = 0,
) -> NeighborhoodScores:
    """Return trustworthiness, continuity and recall from one pass over the distances.

    Equal to the three functions called one by one, at less than half their cost.

    Parameters
    ----------
    X, embedding, n_neighbors, X_reference, embedding_reference, n_samples, random_state
        As in :func:`trustworthiness`.

    Returns
    -------
    NeighborhoodScores
        A named tuple ``(trustworthiness, continuity, recall)``.

    Raises
    ------
    ValueError
        As :func:`trustworthiness`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> neighborhood_scores(X, X[:, ::-1])
    NeighborhoodScores(trustworthiness=1.0, continuity=1.0, recall=1.0)
    """
    original, embedded = paired_clouds(
        X, embedding, X_reference, embedding_reference, n_samples, random_state
    )
    _check_rank_neighbors(n_neighbors, original)
    intruding, torn, kept = 0.0, 0.0, 0
    for near, shown in distance_tiles(original, embedded):
        in_data = nearest_columns(near, n_neighbors)
        on_map = nearest_columns(shown, n_neighbors)
        intruding += _excess_rank(near, on_map, n_neighbors)
        torn += _excess_rank(shown, in_data, n_neighbors)
        kept += _n_shared(in_data, on_map)
    return NeighborhoodScores(
        trustworthiness=_rank_score(intruding, original, n_neighbors),
        continuity=_rank_score(torn, original, n_neighbors),
        recall=kept / (n_neighbors * original.n_queries),
    )


def _score_of_ranks(clouds: tuple[Cloud, Cloud], k: int, ranks_in: int) -> float:
    """Score the ranks in one space, ``DATA`` or ``MAP``, of the neighbours in the other."""
    _check_rank_neighbors(k, clouds[DATA])
    excess = sum(
        _excess_rank(tiles[ranks_in], nearest_columns(tiles[1 - ranks_in], k), k)
        for tiles in distance_tiles(*clouds)
    )
    return _rank_score(excess, clouds[DATA], k)


def _excess_rank(distances: Floats, neighbors: Ints, k: int) -> float:
    """Sum of ``max(0, rank - k)`` of the given neighbours, ranks by `distances`."""
    total = 0.0
    for row, columns in zip(distances, neighbors, strict=True):
        for distance in row[columns]:
            n_nearer = int(np.count_nonzero(row < distance))
            n_not_farther = int(np.count_nonzero(row <= distance))
            total += _mean_excess(n_nearer + 1, n_not_farther, k)
    return total


def _mean_excess(first: int, last: int, k: int) -> float:
    """Mean of ``max(0, rank - k)`` over the ranks first..last that tied rows share."""
    if last <= k:
        return 0.0
    lowest = max(first, k + 1)
    n_beyond = last - lowest + 1
    return n_beyond * ((lowest + last) / 2 - k) / (last - first + 1)


def _n_shared(first: Ints, second: Ints) -> int:
    return int(np.count_nonzero(first[:, :, None] == second[:, None, :]))


def _rank_score(excess: float, cloud: Cloud, k: int) -> float:
    # The k worst neighbours have the k last of m ranks, an excess of k (2m - 3k + 1) / 2 per query.
    worst = cloud.n_queries * k * (2 * cloud.n_candidates - 3 * k + 1) / 2
    return 1.0 - excess / worst


def _check_rank_neighbors(k: int, cloud: Cloud) -> None:
    check_between(k, "n_neighbors", 1, cloud.n_candidates // 2, "half the number of other rows")
