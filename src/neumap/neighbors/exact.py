"""Exact neighbours by brute force, one tile of the distance matrix at a time.

The bulk of the work is a matrix product, so the same code serves the processor and the GPU. The
product only ranks: ``|x|^2 - 2 x.y + |y|^2`` loses digits where rows are close, so a few more
candidates than needed are kept and their distances computed again from differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neumap.neighbors.graph import own_row_first
from neumap.neighbors.metrics import Metric

__all__ = ["ExactBackend", "euclidean_neighbors"]

N_SPARE_CANDIDATES = 8  # rounding of the product moves neighbours by a few ranks at most
GROUP = 32  # columns whose minimum is taken before the selection
TILE_ROWS = 2048
TILE_COLUMNS = 16384


@dataclass(frozen=True)
class ExactBackend:
    """Brute-force search on any torch device.

    Parameters
    ----------
    device : str
        Where the matrix products run, for example ``"cpu"`` or ``"cuda"``.
    """

    device: str = "cpu"
    name: str = "exact"
    exact: bool = True

    def search(
        self, rows: np.ndarray, n_neighbors: int, metric: Metric
    ) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours of each row among all rows, itself first."""
        mapped = metric.prepare(rows)
        indices, distances = euclidean_neighbors(mapped, mapped, n_neighbors, self.device)
        return own_row_first(indices, metric.finish(distances))

    def query(
        self, rows: np.ndarray, queries: np.ndarray, n_neighbors: int, metric: Metric
    ) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours of each query among the rows."""
        indices, distances = euclidean_neighbors(
            metric.prepare(rows), metric.prepare(queries), n_neighbors, self.device
        )
        return indices, metric.finish(distances)


@torch.no_grad()
def euclidean_neighbors(
    rows: np.ndarray, queries: np.ndarray, n_neighbors: int, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Exact Euclidean neighbours of each query among the rows.

    Parameters
    ----------
    rows : array of shape (n_rows, n_features), float32
    queries : array of shape (n_queries, n_features), float32
    n_neighbors : int
        At most ``n_rows``.
    device : str
        Torch device of the products.

    Returns
    -------
    indices : array of shape (n_queries, n_neighbors), int64
    distances : array of shape (n_queries, n_neighbors), float32
        Rising along each row.
    """
    all_rows = torch.from_numpy(rows).to(device)
    # Distances ignore a shift; the product's rounding does not.
    centre = all_rows.mean(dim=0)
    norms = torch.cat(
        [(chunk - centre).square().sum(1) for chunk in torch.split(all_rows, TILE_COLUMNS)]
    )  # (n_rows,)
    indices = np.empty((len(queries), n_neighbors), dtype=np.int64)
    distances = np.empty((len(queries), n_neighbors), dtype=np.float32)
    for start in range(0, len(queries), TILE_ROWS):
        part = slice(start, start + TILE_ROWS)
        tile = torch.from_numpy(queries[part]).to(device)
        candidates = _ranked_candidates(tile - centre, all_rows, centre, norms, n_neighbors)
        nearest, distance = _rerank(tile, all_rows, candidates, n_neighbors)
        indices[part] = nearest.cpu().numpy()
        distances[part] = distance.cpu().numpy()
    return indices, distances


def _ranked_candidates(
    tile: Tensor, rows: Tensor, centre: Tensor, norms: Tensor, n_neighbors: int
) -> Tensor:
    """Indices of the rows nearest to each query of a tile, ranked by the product form."""
    n_kept = min(n_neighbors + N_SPARE_CANDIDATES, len(rows))
    best_score: Tensor | None = None
    best_index: Tensor | None = None
    for start in range(0, len(rows), TILE_COLUMNS):
        part = slice(start, start + TILE_COLUMNS)
        # |q|^2 is the same for all rows, so it takes no part in the ranking.
        scores = torch.addmm(norms[part], tile, (rows[part] - centre).T, alpha=-2)
        score, index = _smallest(scores, min(n_kept, scores.shape[1]))
        index = index + start
        if best_score is not None and best_index is not None:
            score = torch.cat([best_score, score], dim=1)
            index = torch.cat([best_index, index], dim=1)
            score, order = score.topk(min(n_kept, score.shape[1]), largest=False, sorted=False)
            index = index.gather(1, order)
        best_score, best_index = score, index
    assert best_index is not None
    return best_index


def _smallest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest entries of each row, in any order.

    The k smallest lie in the k groups of columns with the smallest minima, so most columns are
    read once and only a few are sorted.
    """
    n_queries, n_columns = scores.shape
    n_groups = n_columns // GROUP
    if n_groups <= 2 * k:
        top = scores.topk(k, largest=False, sorted=False)
        return top.values, top.indices
    n_grouped = n_groups * GROUP
    minima = scores[:, :n_grouped].view(n_queries, n_groups, GROUP).amin(dim=2)
    groups = minima.topk(k, largest=False, sorted=False).indices  # (n_queries, k)
    columns = (groups[:, :, None] * GROUP + torch.arange(GROUP, device=scores.device)).flatten(1)
    if n_grouped < n_columns:
        rest = torch.arange(n_grouped, n_columns, device=scores.device).expand(n_queries, -1)
        columns = torch.cat([columns, rest], dim=1)
    values, order = scores.gather(1, columns).topk(k, largest=False, sorted=False)
    return values, columns.gather(1, order)


def _rerank(
    tile: Tensor, rows: Tensor, candidates: Tensor, n_neighbors: int
) -> tuple[Tensor, Tensor]:
    """The nearest candidates by distances computed from differences, rising."""
    n_features = rows.shape[1]
    per_chunk = max(1, (1 << 24) // max(1, candidates.shape[1] * n_features))
    parts = []
    for start in range(0, len(tile), per_chunk):
        part = slice(start, start + per_chunk)
        found = rows[candidates[part]]  # (chunk, n_candidates, n_features)
        parts.append(found.sub_(tile[part, None]).square_().sum(2))
    distance = torch.cat(parts).sqrt_()
    # Ties go to the smaller index, so that the answer does not depend on the tiles.
    by_index = candidates.argsort(dim=1)
    candidates, distance = candidates.gather(1, by_index), distance.gather(1, by_index)
    order = distance.argsort(dim=1, stable=True)[:, :n_neighbors]
    return candidates.gather(1, order), distance.gather(1, order)
