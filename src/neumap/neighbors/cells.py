"""Approximate neighbours by cells: each row asks in its own cell, which holds the rows around it.

The rows are divided among the cells of k-means. A cell *holds* every row that has it among its
``m`` nearest cells, so that rows near a border are held on both sides. A row asks only in its own
cell, where one matrix product compares all rows of the cell with all that it holds; the distances
of the best few are computed again from differences. ``m`` is not tried but chosen beforehand: the
exact neighbours of a few hundred rows tell which share of them any ``m`` would find.

Where only some rows ask, the *anchors*, a cell holds each row once and an anchor asks in the ``m``
cells nearest to it: the other rows then cost one comparison with the centres, and no more.

Cells do not depend on each other. The answer is therefore the same with any number of threads, and
the rows may stay on a disk: they are read a cell at a time. Several processes divide the rows
together, then each answers for some of the cells.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from neumap._device import fast_dtype, is_on_card
from neumap._ranks import ALONE, Ranks, telling
from neumap._workers import Run, workers
from neumap.neighbors.exact import euclidean_neighbors
from neumap.neighbors.graph import Found, own_row_first
from neumap.neighbors.mapped import MappedRows, is_in_a_file, on_device
from neumap.neighbors.metrics import EuclideanMetric, Metric, as_euclidean
from neumap.neighbors.partition import (
    GROUP,
    find_centres,
    left_factor,
    nearest_cells,
    right_factor,
    rows_at_once,
    scores_as_integers,
    smallest_columns,
    smallest_keys,
    sorted_keys,
)
from neumap.neighbors.rows import float_rows

__all__ = ["CellBackend", "Cells"]

logger = logging.getLogger(__name__)

ROWS_PER_CELL = 1000
# A card multiplies larger tiles at a better rate: 1,000,000 x 50 on an H200 take .9 s with 4,000
# rows in a cell, 1.5 s with 2,000 and 2.4 s with 1,000.
ROWS_PER_CELL_ON_CARD = 4000
# In how many cells an anchor asks on most data: 2 to 12. Each row is compared with all centres and
# each anchor with the rows of its cells, fewest in all with as many cells as the root of the number
# of times that anchors ask. Fewer rows in a cell than above are not worth it.
CELLS_OF_ANCHOR = 6
CELL_PER_NEIGHBOR = 16  # a cell has at least this many rows for each neighbour that is asked for
LADDER = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
N_SAMPLE = 256
SAMPLE_BLOCK = 1 << 14  # rows compared with the sample at a time,
SAMPLE_BYTES = 1 << 23  # fewer where they are wide: each thread centres a copy of its own
N_SPARE = 8  # candidates beyond the neighbours, since products rank with a rounding error
LARGEST_PART = 1 << 15  # held rows that are searched at once
# Products of numbers in a cell, a second of two cores: beyond, as where equal rows all lie in one
# cell, not every row is compared with all that it holds.
MOST_PRODUCTS = 1 << 39
TILE_QUERIES = 512
DIFFERENCE_QUERIES = 64
TILE_BYTES = 1 << 21  # of scores: what a core's cache holds
CARD_TILE_BYTES = 1 << 29
WIDTH_STEP = 32 * GROUP  # few different widths, since the product prepares itself for each
HEIGHT_STEP = 64  # for the same reason: cells are asked by any number of rows
# Squared distance to the farthest neighbour over the squared norm below which products are too
# coarse to rank rows: some times the rounding error of a product.
BLUR = {torch.bfloat16: 0.03, torch.float32: 1e-5}
MAX_BLURRED = 0.1  # share of the sample


@dataclass(frozen=True)
class CellBackend:
    """Search by cells for Euclidean distance and metrics that reduce to it.

    Parameters
    ----------
    target_recall : float, default=0.97
        Share of the true neighbours to find. More cells hold each row for a larger share; the time
        grows in proportion to their number, which is 2 to 16 for most data.
    rows_per_cell : int, optional
        Rows of a cell, at least 16 for each neighbour; by default 1,000 on a processor and 4,000 on
        a card, and more where there are few anchors among many rows.
    n_jobs : int, default=-1
        Threads on the processor; -1 takes torch's number. It does not change the answer.
    seed : int or None, default=0
        Decides the cells. None draws others each time and is not faster.
    device : str, default="cpu"
        Where products are computed, for example ``"cuda"``.
    ranks : Ranks, optional
        The processes that share a search among the rows themselves; not one for other queries.
    """

    target_recall: float = 0.97
    rows_per_cell: int | None = None
    n_jobs: int = -1
    seed: int | None = 0
    device: str = "cpu"
    name: str = "cells"
    exact: bool = False
    ranks: Ranks = ALONE

    def prepare(self, data: Any, metric: Metric) -> NDArray[Any] | MappedRows:
        """Map the rows to those whose Euclidean distance gives the metric.

        Rows of a file that the metric would copy are mapped when they are read.
        """
        known = as_euclidean(metric, self.name)
        if self.device == "cpu" and is_in_a_file(data):
            is_ready = known.prepare is float_rows and data.dtype == np.float32
            if not (is_ready and data.flags.c_contiguous):
                return MappedRows(data, known.prepare)
        return known.prepare(data)

    def search(self, rows: NDArray[Any] | MappedRows, n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each row among all rows, itself first."""
        return _on_host(self.search_on_device(rows, n_neighbors, metric), metric)

    def search_on_device(
        self, rows: NDArray[Any] | MappedRows, n_neighbors: int, metric: Metric
    ) -> tuple[Tensor, Tensor]:
        """Return the same as tensors on the device, with Euclidean distances."""
        cells = self._divide(rows, n_neighbors, None, self.ranks)[0]
        return self._ask(cells, rows, n_neighbors, self.ranks)

    @torch.no_grad()
    def search_of_anchors(
        self, rows: NDArray[Any] | MappedRows, anchors: NDArray[np.int64], n_neighbors: int
    ) -> tuple[Tensor, Tensor]:
        """Neighbours of some rows among all rows, itself first, with Euclidean distances.

        Parameters
        ----------
        rows : array of shape (n, n_features), float32
            As prepared by the metric.
        anchors : array of shape (n_anchors,), int64
            Numbers of the rows that ask.
        n_neighbors : int
            Neighbours of each, itself being one of them.

        Returns
        -------
        indices, distances : tensors of shape (n_anchors, n_neighbors)
            On the device.
        """
        ranks = self.ranks
        cells, n_asked = self._divide(rows, n_neighbors, anchors, ranks)
        numbers = torch.from_numpy(anchors).to(cells.rows.device)
        keys = torch.full((len(anchors), n_neighbors), NOTHING, device=numbers.device)
        merging = Lock()
        with workers(self.n_jobs, self.device) as run:
            asking = cells.rows[numbers]
            asked = nearest_cells(asking, cells.centres, n_asked, cells.dtype, run, ranks)
            starts, by_cell = _by_cell(asked, len(cells.centres))

            def answer(cell: int) -> None:
                here = by_cell[starts[cell] : starts[cell + 1]].long()
                if len(here):
                    found = cells.answer(cell, cells.rows, numbers[here], n_neighbors, False)
                    with merging:  # in any order: the smallest of all are the same
                        both = torch.cat([keys[here], found], dim=1)
                        keys[here] = smallest_keys(both, n_neighbors)

            with telling(ranks):
                run(answer, _shares(starts, cells.starts, ranks))
        if not ranks.is_alone:
            keys = smallest_keys(torch.cat(ranks.of_all(keys), dim=1), n_neighbors)
        indices, distances = (part.cpu().numpy() for part in _decoded(keys))
        short = np.flatnonzero(indices[:, -1] < 0)
        if len(short):  # their cells hold too few rows
            found = euclidean_neighbors(rows, rows[anchors[short]], n_neighbors, self.device)
            indices[short], distances[short] = found
        first = own_row_first(indices, distances, anchors)
        return tuple(torch.from_numpy(part).to(numbers.device) for part in first)  # type: ignore[return-value]  # two of them

    @torch.no_grad()
    def true_distances(
        self, rows: NDArray[Any] | MappedRows, asking: NDArray[np.int64], n_neighbors: int
    ) -> NDArray[np.float32]:
        """Euclidean distances of a few rows to their neighbours, itself first, by all pairs.

        Parameters
        ----------
        rows : array of shape (n, n_features), float32
            As prepared by the metric.
        asking : array of shape (n_asking,), int64
            Numbers of the rows.
        n_neighbors : int
            At most ``n``.

        Returns
        -------
        array of shape (n_asking, n_neighbors), float32
            Rising along each row.
        """
        here = on_device(rows, self.device)
        with workers(self.n_jobs, self.device) as run:
            queries = here[torch.from_numpy(asking).to(here.device)]
            squared = _exact(here, queries, n_neighbors, run)[1]
        distances: NDArray[np.float32] = squared.sqrt().cpu().numpy()
        return distances

    def build(self, rows: NDArray[Any] | MappedRows, n_neighbors: int, metric: Metric) -> Cells:
        """Divide the rows among cells."""
        return self._divide(rows, n_neighbors, None, ALONE)[0]

    @torch.no_grad()
    def _divide(
        self,
        rows: NDArray[Any] | MappedRows,
        k: int,
        anchors: NDArray[np.int64] | None,
        ranks: Ranks,
    ) -> tuple[Cells, int]:
        """Divide the rows among cells; the second value is in how many of these a row asks."""
        here = on_device(rows, self.device)
        generator = np.random.default_rng(self.seed)
        dtype = fast_dtype(torch.device("cpu")) if self.device == "cpu" else torch.float32
        per_cell = self.rows_per_cell or self._usual_rows(len(rows), anchors)
        n_cells = max(1, min(len(rows) // max(per_cell, CELL_PER_NEIGHBOR * k), 1 << 16))
        with workers(self.n_jobs, self.device) as run:
            with telling(ranks) as known:
                centres = find_centres(here, n_cells, generator, dtype, run)
                asking: Any = len(rows) if anchors is None else anchors
                n_asking = len(rows) if anchors is None else len(anchors)
                chosen = np.sort(generator.choice(asking, min(N_SAMPLE, n_asking), replace=False))
                division = _Division(here, centres, dtype, run)
                n_met, dtype = division.measure(chosen, k, self.target_recall, anchors is not None)
                known["measured"] = [n_met, dtype == torch.bfloat16]
            # Of machines that round otherwise, those of the first count.
            n_met, is_fast = known["notes"][0]["measured"]
            dtype = torch.bfloat16 if is_fast else torch.float32
            ranks.take_first_([centres])
            n_held, n_asked = (n_met, 1) if anchors is None else (1, n_met)
            cells_of_rows = nearest_cells(here, centres, n_held, dtype, run, ranks)
        starts, held = _by_cell(cells_of_rows, n_cells)
        own = cells_of_rows[:, 0] if anchors is None else None
        return Cells(here, rows, centres, own, starts, held, n_held, dtype), n_asked

    def _usual_rows(self, n_rows: int, anchors: NDArray[np.int64] | None) -> int:
        """Return the rows of a cell where the number was left out."""
        usual = ROWS_PER_CELL if self.device == "cpu" else ROWS_PER_CELL_ON_CARD
        if anchors is None:
            return usual
        return max(usual, round(n_rows / math.sqrt(CELLS_OF_ANCHOR * len(anchors))))

    def query(self, index: Cells, queries: NDArray[Any], n_neighbors: int, metric: Metric) -> Found:
        """Neighbours of each query among the rows of the index."""
        return _on_host(self._ask(index, queries, n_neighbors, None), metric)

    @torch.no_grad()
    def _ask(
        self, cells: Cells, queries: NDArray[Any] | MappedRows, k: int, together: Ranks | None
    ) -> tuple[Tensor, Tensor]:
        """Indices and Euclidean distances (n_queries, k), on the device.

        `together` are the processes that ask for the rows themselves; None for other queries.
        """
        are_rows, ranks = together is not None, together or ALONE
        asking = cells.rows if are_rows else on_device(queries, self.device)
        # Each row is answered in one cell, so that the answers of all processes can be added.
        indices = torch.zeros((len(asking), k), dtype=torch.int64, device=asking.device)
        distances = cells.centres.new_zeros((len(asking), k))
        with workers(self.n_jobs, self.device) as run:
            own = cells.own if are_rows else None
            if own is None:
                own = nearest_cells(asking, cells.centres, 1, cells.dtype, run)[:, 0]
            starts, by_cell = _by_cell(own[:, None], len(cells.centres))

            def answer(cell: int) -> None:
                here = by_cell[starts[cell] : starts[cell + 1]].long()
                if len(here):
                    keys = cells.answer(cell, asking, here, k, are_rows)
                    indices[here], distances[here] = _decoded(keys)

            with telling(ranks):
                run(answer, _shares(starts, cells.starts, ranks))
        ranks.add_(indices)
        ranks.add_(distances)
        short = torch.nonzero(indices[:, -1] < 0).flatten()
        if len(short):  # their cell holds too few rows
            numbers = short.cpu().numpy()
            found = euclidean_neighbors(cells.array, queries[numbers], k, self.device)
            if are_rows:
                found = _own_first(found, numbers)
            indices[short] = torch.from_numpy(found[0]).to(indices.device)
            distances[short] = torch.from_numpy(found[1]).to(indices.device)
        return indices, distances


@dataclass(frozen=True)
class _Division:
    """Rows and the centres of their cells, before any row is in one."""

    rows: Tensor | MappedRows  # (n, n_features), float32
    centres: Tensor  # (n_cells, n_features)
    dtype: torch.dtype
    run: Run

    def measure(
        self, chosen: NDArray[np.int64], k: int, target: float, by_asking: bool
    ) -> tuple[int, torch.dtype]:
        """Smallest number of cells in which enough neighbours meet, and the precision to use.

        Parameters
        ----------
        chosen : array of shape (n_sample,), int64
            Numbers of the rows to measure with, rising.
        k : int
            Neighbours, the row itself being one of them.
        target : float
            Share of the other neighbours to meet.
        by_asking : bool
            Whether a row asks in this number of cells; otherwise it is held in as many.
        """
        n_cells = len(self.centres)
        if n_cells == 1 or k == 1:  # a row always meets itself
            return 1, self.dtype
        ladder = [m for m in LADDER if m < n_cells] + ([n_cells] if n_cells <= LADDER[-1] else [])
        sample = torch.from_numpy(chosen).to(self.centres.device)
        rows = self.rows[sample]
        neighbors, squared = _exact(self.rows, rows, k, self.run)
        n_asked, n_held = (ladder[-1], 1) if by_asking else (1, ladder[-1])
        asked = self._nearest(rows, n_asked)
        held = self._nearest(self.rows[neighbors.flatten()], n_held)
        meets = held.view(*neighbors.shape, -1) == asked[:, None]  # (n_sample, k, ladder[-1])
        others = neighbors != sample[:, None]
        # One standard error is taken off, so that a lucky sample does not promise too much.
        shares = (meets & others[:, :, None]).sum(1).cumsum(1) / others.sum(1)[:, None]
        share = (shares.mean(0) - shares.std(0) / len(shares) ** 0.5).tolist()
        n_met = next((m for m in ladder if share[m - 1] >= target), ladder[-1])
        spread = (rows - self.centres[asked[:, 0].long()]).square().sum(1)
        blurred = (squared[:, -1] < BLUR[torch.bfloat16] * spread).float().mean().item()
        logger.debug(
            "%d cells, each row %s %d: %.3f of the neighbours; %.2f of the sample too dense for "
            "bfloat16", n_cells, "asks in" if by_asking else "held in", n_met, share[n_met - 1],
            blurred,
        )  # fmt: skip
        return n_met, torch.float32 if blurred > MAX_BLURRED else self.dtype

    def _nearest(self, rows: Tensor, m: int) -> Tensor:
        return nearest_cells(rows, self.centres, m, self.dtype, self.run)


@dataclass(frozen=True)
class Cells:
    """Rows and the cells that hold them.

    ``held[starts[c]:starts[c + 1]]`` are the numbers of the rows that cell c holds, rising.
    """

    rows: Tensor | MappedRows  # (n, n_features), float32
    array: NDArray[Any] | MappedRows  # the same on the host
    centres: Tensor  # (n_cells, n_features)
    own: Tensor | None  # (n,), int32; None where anchors ask
    starts: list[int]
    held: Tensor  # (n n_held,), int32
    n_held: int
    dtype: torch.dtype

    def answer(
        self, cell: int, queries: Tensor | MappedRows, here: Tensor, k: int, are_rows: bool
    ) -> Tensor:
        """Keys (``sorted_keys``) of the neighbours of queries in this cell."""
        held = self.held[self.starts[cell] : self.starts[cell + 1]].long()
        if not len(held):  # a centre that is the nearest of no row, but of a query
            return torch.full((len(here), k), NOTHING, device=here.device)
        if len(held) > self._largest_part:
            return self._answer_in_parts(cell, queries, here, k, are_rows)
        return self._answer_part(cell, held, queries[here], here if are_rows else None, k)

    @property
    def _largest_part(self) -> int:
        """Held rows that are compared at once."""
        return max(LARGEST_PART, 2 * len(self.held) // len(self.centres))

    def _answer_in_parts(
        self, cell: int, queries: Tensor | MappedRows, here: Tensor, k: int, are_rows: bool
    ) -> Tensor:
        """Compare with the rows of a large cell a part at a time.

        Each query asks in all parts, unless these are too many products: where very many rows are
        equal, any part of them will do, the one with the row itself being among them.
        """
        held = self.held[self.starts[cell] : self.starts[cell + 1]].long()
        n_parts = -(-len(held) // self._largest_part)
        n_products = len(held) * len(here) * self.rows.shape[1]
        n_groups = min(n_parts, -(-n_products // MOST_PRODUCTS))
        everyone = torch.arange(len(here), device=here.device)
        own_part = (torch.searchsorted(held, here) if are_rows else everyone) % n_parts
        keys = torch.full((len(here), k), NOTHING, device=here.device)
        for part in range(n_parts):
            asks = own_part % n_groups == part % n_groups
            is_held = (own_part == part) & are_rows
            for inside, are_held in ((asks & is_held, True), (asks & ~is_held, False)):
                chosen = torch.nonzero(inside).flatten()
                if len(chosen):
                    asking = here[chosen]
                    numbers = asking if are_held else None
                    found = self._answer_part(
                        cell, held[part::n_parts], queries[asking], numbers, k
                    )
                    keys[chosen] = smallest_keys(torch.cat([keys[chosen], found], dim=1), k)
        return keys

    def _answer_part(
        self, cell: int, held: Tensor, queries: Tensor, numbers: Tensor | None, k: int
    ) -> Tensor:
        """Keys of the nearest among the held rows; ``numbers`` are those of queries held too."""
        rows, places = self.rows, held.contiguous()
        own = None if numbers is None else torch.searchsorted(places, numbers)
        if isinstance(rows, MappedRows):  # read once
            rows, places = rows[held], torch.arange(len(held))
        ask = _Part(rows, places, held, queries, own, self.centres[cell], k)
        keys, blurred = ask.by_products(self.dtype, torch.arange(len(queries), device=held.device))
        if len(blurred) and self.dtype != torch.float32:
            again, still = ask.by_products(torch.float32, blurred)
            keys[blurred], blurred = again, still
        if len(blurred):
            keys[blurred] = ask.by_differences(blurred)
        return keys


NOTHING = (0x7F800000 << 32) | 0xFFFFFFFF  # key of an infinite distance to no row
OWN = -(1 << 62)  # added to the key of the row itself, so that it comes first


@dataclass(frozen=True)
class _Part:
    """Queries of a cell and the rows that they are compared with."""

    rows: Tensor  # (n, n_features), among which are those held:
    places: Tensor  # (n_held,)
    numbers: Tensor  # (n_held,), rising
    queries: Tensor  # (n_queries, n_features)
    own: Tensor | None  # place of each query among the rows
    centre: Tensor
    k: int

    def by_products(self, dtype: torch.dtype, asking: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (n, k), and which of the queries the product could not rank."""
        n_kept = min(self.k + N_SPARE, len(self.places))
        width = max(-(-len(self.places) // WIDTH_STEP) * WIDTH_STEP, WIDTH_STEP)
        right = right_factor(self.rows, width, dtype, self.places, self.centre)
        centred = self.queries[asking] - self.centre
        step = _tile_queries(width * right.itemsize, len(asking), is_on_card(centred))
        step = -(-step // HEIGHT_STEP) * HEIGHT_STEP
        left = left_factor(centred, -(-len(asking) // step) * step, dtype)
        buffer = torch.empty(step, width, dtype=dtype, device=centred.device)
        keys = torch.full((len(asking), self.k), NOTHING, device=centred.device)
        for start in range(0, len(asking), step):
            tile = asking[start : start + step]
            scores = scores_as_integers(left[start : start + step], right, buffer)[: len(tile)]
            if self.own is not None:  # among many equal rows the row itself must be a candidate
                scores.scatter_(1, self.own[tile, None], torch.iinfo(scores.dtype).min)
            columns = smallest_columns(scores, n_kept)
            keys[start : start + step, :n_kept] = self._keys(tile, columns)
        reached = (keys[:, -1] >> 32).int().view(torch.float32)
        is_blurred = (reached > 0) & (reached < BLUR[dtype] * centred.square().sum(1))
        return keys, asking[is_blurred]

    def by_differences(self, asking: Tensor) -> Tensor:
        """Keys (n, k) from all differences, which takes longest."""
        n_kept = min(self.k, len(self.places))
        rows = self.rows[self.places]
        keys = torch.full((len(asking), self.k), NOTHING, device=asking.device)
        for start in range(0, len(asking), DIFFERENCE_QUERIES):
            tile = asking[start : start + DIFFERENCE_QUERIES]
            distances = torch.cdist(
                self.queries[tile], rows, compute_mode="donot_use_mm_for_euclid_dist"
            )
            if self.own is not None:
                distances.scatter_(1, self.own[tile, None], 0)
            columns = distances.topk(n_kept, largest=False, sorted=False).indices
            keys[start : start + DIFFERENCE_QUERIES, :n_kept] = self._keys(tile, columns)
        return keys

    def _keys(self, tile: Tensor, columns: Tensor) -> Tensor:
        """Keys of the nearest candidates, from differences; the row itself first."""
        squared = torch.empty(columns.shape, device=columns.device)
        places = self.places[columns]
        step = max(1, rows_at_once(self.rows.shape[1], is_on_card(columns)) // columns.shape[1])
        for start in range(0, len(tile), step):
            part = slice(start, start + step)
            near = self.rows.index_select(0, places[part].flatten()).view(*places[part].shape, -1)
            near.sub_(self.queries[tile[part], None])
            torch.linalg.vector_norm(near, dim=2, out=squared[part])
        scores = squared.square_().view(torch.int32)
        if self.own is not None:
            scores = torch.where(columns == self.own[tile, None], -1, scores)
        return sorted_keys(scores, self.numbers[columns], self.k)


def _shares(asking: list[int], held: list[int], ranks: Ranks) -> list[int]:
    """Return the cells of this process, about as many comparisons as in the others.

    Both lists say where each cell starts: among the rows that ask, and among those that it holds.
    """
    costs = np.diff(asking) * np.diff(held)
    if ranks.is_alone:
        return list(range(len(costs)))
    return [int(cell) for cell in np.argsort(-costs, kind="stable")[ranks.rank :: ranks.size]]


def _tile_queries(row_bytes: int, n_queries: int, on_card: bool) -> int:
    """Queries that are compared at once, whose scores take this many bytes each."""
    if on_card:
        return max(1, min(n_queries, CARD_TILE_BYTES // row_bytes))
    return max(8, min(n_queries, TILE_QUERIES, TILE_BYTES // row_bytes))


def _by_cell(cells: Tensor, n_cells: int) -> tuple[list[int], Tensor]:
    """Rows by cell: where each cell starts, and the numbers of the rows, int32, rising in a cell.

    ``cells`` has shape (n, m): the cells of each row.
    """
    n, m = cells.shape
    flat = cells.flatten()
    if not is_on_card(flat):  # the transpose of a sparse matrix is a sort without large numbers
        ends = np.arange(0, n * m + 1, m, dtype=np.int32 if n * m < 1 << 31 else np.int64)
        ones = np.ones(n * m, dtype=np.int8)
        by_cell = scipy.sparse.csr_array((ones, flat.numpy(), ends), shape=(n, n_cells)).tocsc()
        rows = by_cell.indices.astype(np.int32, copy=False)
        return by_cell.indptr.tolist(), torch.from_numpy(rows)
    counts = torch.bincount(flat, minlength=n_cells)
    order = flat.sort(stable=True).indices
    return [0, *counts.cumsum(0).tolist()], order.div_(m, rounding_mode="floor").int()


def _exact(rows: Tensor | MappedRows, queries: Tensor, k: int, run: Run) -> tuple[Tensor, Tensor]:
    """Exact neighbours (n_queries, k) and squared distances of a few queries, block by block."""
    best = torch.full((len(queries), k), NOTHING, device=rows.device)
    merging = Lock()

    step = min(SAMPLE_BLOCK, max(1, SAMPLE_BYTES // (4 * queries.shape[1])))

    def compare(start: int) -> None:
        block = rows[start : start + step]
        numbers = torch.arange(start, start + len(block), device=rows.device)
        part = _Part(block, numbers - start, numbers, queries, None, centre, k)
        keys, blurred = part.by_products(torch.float32, everyone)
        if len(blurred):
            keys[blurred] = part.by_differences(blurred)
        with merging:  # in any order, as above
            best.copy_(smallest_keys(torch.cat([best, keys], dim=1), k))

    centre = queries.mean(dim=0)
    everyone = torch.arange(len(queries), device=rows.device)
    run(compare, range(0, len(rows), step))
    return best & 0xFFFFFFFF, (best >> 32).int().view(torch.float32)


def _decoded(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Indices, -1 where there is none, and distances."""
    squared = (keys >> 32).int().clamp_(min=0)  # the row itself has a negative one
    return keys.int().long(), squared.view(torch.float32).sqrt_()


def _on_host(found: tuple[Tensor, Tensor], metric: Metric) -> Found:
    assert isinstance(metric, EuclideanMetric)  # prepare has refused the others
    indices, distances = (part.cpu().numpy() for part in found)
    return indices, metric.finish(distances)


def _own_first(found: Found, numbers: NDArray[Any]) -> Found:
    """Put the numbers of the rows first in their lists."""
    indices, distances = found
    for row, number in enumerate(numbers):
        others = indices[row] != number
        kept = np.flatnonzero(others)[: indices.shape[1] - 1]
        indices[row] = [number, *indices[row, kept]]
        distances[row] = [0.0, *distances[row, kept]]
    return indices, distances
