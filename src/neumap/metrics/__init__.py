"""Scores of an embedding: plain arrays in, plain numbers out.

Each score belongs to one of four questions:

- *Are neighbours kept?* :func:`trustworthiness`, :func:`continuity`, :func:`knn_recall`
- *Are classes kept?* :func:`knn_accuracy`, :func:`silhouette`, :func:`knc`
- *Is the large scale kept?* :func:`distance_correlation`, :func:`random_triplet_accuracy`,
  :func:`procrustes_disparity`
- *Is the objective reached?* :func:`umap_cross_entropy`, one scorer for the embeddings of every
  library; :func:`reconstruction_error` and :func:`reconstruction_r2` for decoders

and :func:`scores` makes the standard table. Nothing here holds an n by n matrix: rows or pairs are
sampled with a seed, and distances are computed in tiles of bounded size. Distances are Euclidean;
for cosine geometry pass rows scaled to unit length.
"""

from neumap.metrics.classes import knc, knn_accuracy, silhouette
from neumap.metrics.large_scale import (
    distance_correlation,
    procrustes_disparity,
    random_triplet_accuracy,
)
from neumap.metrics.neighborhood import (
    NeighborhoodScores,
    continuity,
    knn_recall,
    neighborhood_scores,
    trustworthiness,
)
from neumap.metrics.objective import (
    CrossEntropy,
    EdgeGraph,
    umap_cross_entropy,
    umap_cross_entropy_terms,
)
from neumap.metrics.reconstruction import reconstruction_error, reconstruction_r2
from neumap.metrics.table import scores

__all__ = [
    "CrossEntropy",
    "EdgeGraph",
    "NeighborhoodScores",
    "continuity",
    "distance_correlation",
    "knc",
    "knn_accuracy",
    "knn_recall",
    "neighborhood_scores",
    "procrustes_disparity",
    "random_triplet_accuracy",
    "reconstruction_error",
    "reconstruction_r2",
    "scores",
    "silhouette",
    "trustworthiness",
    "umap_cross_entropy",
    "umap_cross_entropy_terms",
]
