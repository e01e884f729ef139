"""Exact neighbours by brute force, one tile of the distance matrix at a time.

For Euclidean metrics most of the work is a matrix product, on the processor or the GPU. The product
only ranks the rows: ``|x|^2 - 2 x.y + |y|^2`` loses digits where rows are close. A few more
candidates than needed are therefore kept, and their distances are computed again from differences.
Other metrics compute their tiles themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._device import torch_threads, usable_cores
from neumap._ranks import ALONE, Ranks
from neumap.neighbors.graph import Found, own_row_first, wrong_distance
from neumap.neighbors.mapped import MappedRows, on_device
from neumap.neighbors.metrics import EuclideanMetric, Metric, TiledMetric
from neumap.neighbors.rows import is_sparse
from neumap.neighbors.shares import answer_shares

__all__ = ["ExactBackend", "by_distance", "euclidean_neighbors", "smallest"]

N_EXTRA_CANDIDATES = 8  # rounding of the product moves neighbours by a few ranks at most
GROUP = 32  # columns whose minimum is taken before the selection
TILE_ROWS = 2048
TILE_COLUMNS = 16_384
BLUR = 1e-5  # of the squared norm: about ten times the rounding of a product of 1,000 columns
FROM_DIFFERENCES = "donot_use_mm_for_euclid_dist"
OTHER_TILE_ROWS = 256  # tiles of other metrics hold temporaries of their own


@dataclass(frozen=True)
class ExactBackend:
    """Brute-force search on any torch device; sparse data are made dense block by block.

    Parameters
    ----------
    device : str, default="cpu"
        Where tiles are computed, for example ``"cuda"``.
    n_jobs : int, default=-1
        Threads on the processor; -1 leaves torch's setting.
    ranks : Ranks, optional
        The processes that share a search among the rows themselves; not one for other queries.
    """

    device: str = "cpu"
    n_jobs: int = -1
    name: str = "exact"
    exact: bool = True
    ranks: Ranks = ALONE

    def prepare(self, data: Any, metric: Metric) -> Any:
        """Map dense rows as the metric requires; sparse rows stay as they are until used."""
        if is_sparse(data):
            return data
        return _known(metric).prepare(data)

    def search(self, rows: Any, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each row among all rows, itself first."""

        def answer(part: slice) -> Found:
            return self._answer(rows, rows[part], n_neighbors, metric, part.start)

        tile = self.tile_rows(rows, metric)
        found = answer_shares(answer, rows.shape[0], n_neighbors, tile, self.ranks)
        return own_row_first(*found)

    def tile_rows(self, rows: Any, metric: Metric) -> int:
        """Queries that are compared at once."""
        is_product = isinstance(metric, EuclideanMetric) and not is_sparse(rows)
        return TILE_ROWS if is_product else OTHER_TILE_ROWS

    def build(self, rows: Any, n_neighbors: int, metric: Metric) -> Any:
        """Return the rows themselves: a query compares all of them."""
        return rows

    def query(self, rows: Any, queries: Any, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each query among the rows."""
        return self._answer(rows, queries, n_neighbors, metric, 0)

    def _answer(
        self, rows: Any, queries: Any, n_neighbors: int, metric: Metric, first: int
    ) -> Found:
        """Answer for queries, of which errors call the first one by this number."""
        known = _known(metric)
        with torch_threads(None if self.n_jobs < 0 else min(self.n_jobs, usable_cores())):
            if isinstance(known, EuclideanMetric) and not is_sparse(rows):
                indices, distances = euclidean_neighbors(rows, queries, n_neighbors, self.device)
                return indices, known.finish(distances)
            return self._query_tiles(rows, queries, n_neighbors, known, first)

    @torch.no_grad()
    def _query_tiles(
        self,
        rows: Any,
        queries: Any,
        n_neighbors: int,
        metric: EuclideanMetric | TiledMetric,
        first: int,
    ) -> Found:
        def block(source: Any, part: slice) -> Tensor:
            dense = source[part]
            if is_sparse(dense):
                dense = metric.prepare(dense.toarray())
            return torch.from_numpy(dense).to(self.device)

        def tile(queries_of_tile: Tensor, rows_of_tile: Tensor) -> Tensor:
            if isinstance(metric, TiledMetric):
                return metric.tile(queries_of_tile, rows_of_tile)
            distances = torch.cdist(queries_of_tile, rows_of_tile)
            return torch.from_numpy(metric.finish(distances.cpu().numpy())).to(self.device)

        n_queries, n_rows = queries.shape[0], rows.shape[0]
        indices = np.empty((n_queries, n_neighbors), dtype=np.int64)
        distances = np.empty((n_queries, n_neighbors), dtype=np.float32)
        for start in range(0, n_queries, OTHER_TILE_ROWS):
            part = slice(start, start + OTHER_TILE_ROWS)
            of_tile = block(queries, part)

            def scores(columns: slice, of_tile: Tensor = of_tile, start: int = start) -> Tensor:
                distances = tile(of_tile, block(rows, columns))
                _check_tile(distances, first + start, columns.start, metric)
                return distances

            found, index = _smallest_of_blocks(scores, n_rows, n_neighbors)
            index, found = by_distance(index, found, n_neighbors)
            indices[part], distances[part] = index.cpu().numpy(), found.cpu().numpy()
        return indices, distances


def _check_tile(distances: Tensor, first_query: int, first_row: int, metric: Metric) -> None:
    """Raise for a distance that is NaN or negative: the selection would not show it."""
    is_right = distances >= 0
    if is_right.all():
        return
    query, row = torch.nonzero(~is_right)[0].tolist()
    got = float(distances[query, row])
    raise ValueError(wrong_distance(metric, got, first_query + query, first_row + row))


def _known(metric: Metric) -> EuclideanMetric | TiledMetric:
    if isinstance(metric, EuclideanMetric | TiledMetric):
        return metric
    raise ValueError(
        f"metric of the exact search must be computed by neumap itself, got {metric.name!r}. Use "
        "backend='pynndescent'."
    )


@torch.no_grad()
def euclidean_neighbors(
    rows: NDArray[Any] | MappedRows,
    queries: NDArray[Any] | Tensor,
    n_neighbors: int,
    device: str = "cpu",
) -> Found:
    """Exact Euclidean neighbours of each query among the rows.

    Parameters
    ----------
    rows : array or MappedRows of shape (n_rows, n_features), float32
    queries : array of shape (n_queries, n_features), float32
    n_neighbors : int
        At most ``n_rows``.
    device : str
        Torch device of the products.

    Returns
    -------
    indices : array of shape (n_queries, n_neighbors), int64
    distances : array of shape (n_queries, n_neighbors), float32
        Rising along each row; ties by index.
    """
    all_rows = on_device(rows, device)
    # Distances ignore a shift; the product's rounding does not.
    centre = all_rows.mean(dim=0)
    norms = _norms(all_rows, centre) if len(queries) > TILE_ROWS else None
    n_kept = min(n_neighbors + N_EXTRA_CANDIDATES, len(rows))
    indices = np.empty((len(queries), n_neighbors), dtype=np.int64)
    distances = np.empty((len(queries), n_neighbors), dtype=np.float32)
    for start in range(0, len(queries), TILE_ROWS):
        part = slice(start, start + TILE_ROWS)
        tile = on_device(queries[part], device)
        centred = tile - centre

        def scores(columns: slice, centred: Tensor = centred) -> Tensor:
            # |q|^2 is the same for all rows, so it does not change the ranking.
            block = all_rows[columns] - centre
            own = block.square().sum(1) if norms is None else norms[columns]
            return torch.addmm(own, centred, block.T, alpha=-2)

        _, candidates = _smallest_of_blocks(scores, len(rows), n_kept)
        lengths = _candidate_distances(tile, all_rows, candidates)
        nearest, nearest_distances = by_distance(candidates, lengths, n_neighbors)
        blurred = _blurred(nearest_distances, centred)
        if len(blurred):
            asking = tile[blurred]

            def lengths_of(columns: slice, asking: Tensor = asking) -> Tensor:
                return torch.cdist(asking, all_rows[columns], compute_mode=FROM_DIFFERENCES)

            lengths, candidates = _smallest_of_blocks(lengths_of, len(rows), n_neighbors)
            sharp, sharp_distances = by_distance(candidates, lengths, n_neighbors)
            nearest[blurred], nearest_distances[blurred] = sharp, sharp_distances
        indices[part] = nearest.cpu().numpy()
        distances[part] = nearest_distances.cpu().numpy()
    return indices, distances


def _norms(rows: Tensor | MappedRows, centre: Tensor) -> Tensor:
    """Squared distance of each row to the centre, for searches that read the rows several times."""
    # Parts that are kept would lie between the tiles in memory, which could then not be used again.
    norms = centre.new_empty(len(rows))
    for start in range(0, len(rows), TILE_COLUMNS):
        columns = slice(start, start + TILE_COLUMNS)
        norms[columns] = (rows[columns] - centre).square().sum(1)
    return norms


def _smallest_of_blocks(
    score_block: Callable[[slice], Tensor], n_rows: int, k: int
) -> tuple[Tensor, Tensor]:
    """The k smallest scores of each query and their indices, in no order.

    ``score_block`` takes a slice of the rows and gives scores (n_queries, length of the slice).
    """
    best: tuple[Tensor, Tensor] | None = None
    for start in range(0, n_rows, TILE_COLUMNS):
        score, index = smallest(score_block(slice(start, start + TILE_COLUMNS)), k)
        index += start
        if best is not None:
            score, index = torch.cat([best[0], score], 1), torch.cat([best[1], index], 1)
            order = score.topk(min(k, score.shape[1]), largest=False, sorted=False).indices
            score, index = score.gather(1, order), index.gather(1, order)
        best = score, index
    assert best is not None
    return best


def smallest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest entries of each row, in any order.

    The k smallest lie in the k groups of columns with the smallest minima, so most columns are
    read once and only a few are sorted.
    """
    n_queries, n_columns = scores.shape
    n_groups = n_columns // GROUP
    if n_groups <= 2 * k:
        top = scores.topk(min(k, n_columns), largest=False, sorted=False)
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


def _candidate_distances(tile: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
    """Distances from each query to its candidates, computed from differences."""
    per_chunk = max(1, (1 << 24) // max(1, candidates.shape[1] * rows.shape[1]))
    parts = []
    for start in range(0, len(tile), per_chunk):
        part = slice(start, start + per_chunk)
        found = rows[candidates[part]]  # (chunk, n_candidates, n_features)
        parts.append(found.sub_(tile[part, None]).square_().sum(2))
    return torch.cat(parts).sqrt_()


def _blurred(nearest_distances: Tensor, centred: Tensor) -> Tensor:
    """Indices of queries whose neighbours are too close for the product to rank.

    They lie in tight clusters of widely spread data. Where the farthest neighbour is at
    distance zero, all of them are and nothing is closer.
    """
    farthest = nearest_distances[:, -1].square()
    is_blurred = (farthest > 0) & (farthest < BLUR * centred.square().sum(1))
    return torch.nonzero(is_blurred).flatten()


def by_distance(indices: Tensor, distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest by rising distance; ties go to the smaller index, whatever the tiles."""
    by_index = indices.argsort(dim=1)
    indices, distances = indices.gather(1, by_index), distances.gather(1, by_index)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return indices.gather(1, order), distances.gather(1, order)
