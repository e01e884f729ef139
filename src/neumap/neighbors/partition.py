"""Cells of rows: the points nearest to each of many centres, found by k-means on a sample.

A row lies in the cell of its nearest centre. Scores are squared distances by one matrix product:
squared norms are columns of the factors, so that no step after the product is needed. In bfloat16 a
norm is two columns, of its leading digits and of the rest. Scores are compared by their bits, read
as integers: these have the order of the numbers they stand for where those are not negative, and
the minima of 16-bit integers cost half.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neumap._device import is_on_card
from neumap._ranks import ALONE, Ranks, telling
from neumap._workers import Run
from neumap.neighbors.mapped import MappedRows

__all__ = [
    "find_centres",
    "left_factor",
    "nearest_cells",
    "right_factor",
    "rows_at_once",
    "scores_as_integers",
    "smallest_columns",
    "smallest_keys",
    "sorted_keys",
]

GROUP = 8  # columns whose minimum is taken before the selection
PADDED_COLUMNS = 32  # of a bfloat16 factor, which the processor multiplies in tiles of this width
FAR = 3e38  # score of a column that stands for no row
SAMPLE_PER_CELL = 64
MAX_SAMPLE = 1 << 18
N_ROUNDS = 6
SUM_ROWS = 1 << 14  # at most summed at once
SUM_STEPS = 2.0**40  # which leaves room for sums of 4 million rows
BLOCK_ROWS = 512  # their scores stay in the cache of a core
BLOCKS_OF_TASK = 32  # a task is kept until all have ended
BLOCK_SCORES = 1 << 26  # on a card
COPY_BYTES = 1 << 21  # of rows that are converted, on a processor
COPY_ROWS_ON_CARD = 1 << 24


def right_factor(
    rows: Tensor,
    n_padded: int,
    dtype: torch.dtype,
    places: Tensor | None = None,
    middle: Tensor | None = None,
) -> Tensor:
    """Factor of ``scores_as_integers`` for the rows that are compared, shape (n_padded, n_columns).

    The rows after the given ones are farther than any row.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_features), float32
        Rows among which are the n to compare.
    n_padded : int
        At least n.
    dtype : torch.dtype
        float32 or bfloat16.
    places : Tensor of shape (n,), int64, optional
        Numbers of the rows to compare; by default all.
    middle : Tensor of shape (n_features,), optional
        Taken from each of them; by default zero.
    """
    n, d = len(rows if places is None else places), rows.shape[1]
    n_norm = _n_norm_columns(dtype)
    factor = rows.new_zeros(n_padded, _n_factor_columns(d, dtype), dtype=dtype)
    step = rows_at_once(d, is_on_card(rows))
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        centred = rows[part] if places is None else rows[places[part]]
        centred = centred if middle is None else centred - middle
        factor[part, :d] = centred
        factor[part, d : d + n_norm] = _norms(centred, dtype)
    factor[n:, d] = FAR
    factor[:, d + n_norm : d + 2 * n_norm] = 1
    return factor


def rows_at_once(n_columns: int, on_card: bool) -> int:
    """Rows that are converted at a time: on a processor, copies of them stay in its cache."""
    return COPY_ROWS_ON_CARD if on_card else max(1, COPY_BYTES // (4 * n_columns))


def left_factor(queries: Tensor, n_padded: int, dtype: torch.dtype) -> Tensor:
    """Factor of ``scores_as_integers`` for the rows that ask, shape (n_padded, n_columns)."""
    n, d = queries.shape
    n_norm = _n_norm_columns(dtype)
    factor = queries.new_zeros(n_padded, _n_factor_columns(d, dtype), dtype=dtype)
    factor[:n, :d] = queries * -2
    factor[:n, d : d + n_norm] = 1
    factor[:n, d + n_norm : d + 2 * n_norm] = _norms(queries, dtype)
    return factor


def _n_norm_columns(dtype: torch.dtype) -> int:
    return 2 if dtype == torch.bfloat16 else 1


def _n_factor_columns(n_columns: int, dtype: torch.dtype) -> int:
    needed = n_columns + 2 * _n_norm_columns(dtype)
    return needed if dtype == torch.float32 else -(-needed // PADDED_COLUMNS) * PADDED_COLUMNS


def _norms(rows: Tensor, dtype: torch.dtype) -> Tensor:
    norms = rows.square().sum(1, keepdim=True)
    if dtype == torch.float32:
        return norms
    leading = norms.to(dtype)
    return torch.cat([leading, (norms - leading.float()).to(dtype)], dim=1)


def scores_as_integers(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Squared distances of all pairs as integers of the same order, (n_queries, n_padded)."""
    scores = torch.mm(left, right.T, out=out)
    return scores.view(torch.int16 if left.dtype == torch.bfloat16 else torch.int32)


def smallest_columns(scores: Tensor, k: int) -> Tensor:
    """Columns of the k smallest scores of each row, in any order, shape (n, k), int64.

    Minima of groups of columns are selected first: the k smallest lie in the k groups with the
    smallest minima.
    """
    n, n_columns = scores.shape
    per_group = n_columns // GROUP
    if n_columns % GROUP or per_group <= 2 * k:
        return _smallest(scores, k)
    # Columns of a group lie `per_group` apart, so that the minima are taken of whole vectors.
    groups = _smallest(scores.view(n, GROUP, per_group).amin(dim=1), k)  # (n, k)
    steps = torch.arange(0, n_columns, per_group, device=scores.device)
    columns = (groups[:, :, None] + steps).flatten(1)  # (n, GROUP k)
    return columns.gather(1, _smallest(scores.gather(1, columns), k))


def _smallest(scores: Tensor, k: int) -> Tensor:
    if k == scores.shape[1]:
        return torch.arange(k, device=scores.device).expand(len(scores), k)
    if is_on_card(scores):
        return scores.topk(k, largest=False, sorted=False).indices
    # numpy has a vectorised selection of numbers where torch sorts. The column is put into the
    # lower half of a number of twice the width.
    n_bits = 8 * scores.itemsize
    if scores.shape[1] > 1 << n_bits:
        return torch.from_numpy(np.argpartition(scores.numpy(), k - 1, axis=1)[:, :k])
    wide = torch.int32 if n_bits == 16 else torch.int64
    pairs = (scores.to(wide) << n_bits) | torch.arange(scores.shape[1], dtype=wide)
    chosen = torch.from_numpy(np.partition(pairs.numpy(), k - 1, axis=1)[:, :k])
    return (chosen & ((1 << n_bits) - 1)).long()


def _smallest_column(scores: Tensor) -> Tensor:
    """Column of the smallest score of each row, the first of equal ones, shape (n,)."""
    if is_on_card(scores):
        return scores.argmin(dim=1)
    return torch.from_numpy(scores.numpy().argmin(axis=1))  # vectorised, unlike torch's


def sorted_keys(scores: Tensor, numbers: Tensor, k: int) -> Tensor:
    """Keys of the k smallest scores, int64: the upper half the score, the lower half the number.

    Rising along each row; equal scores by number, whatever order they came in.
    """
    return smallest_keys((scores.to(torch.int64) << 32) | numbers, k)


def smallest_keys(keys: Tensor, k: int) -> Tensor:
    """The k smallest keys of each row, rising."""
    if is_on_card(keys):
        return keys.sort(dim=1).values[:, :k]
    return torch.from_numpy(np.sort(keys.numpy(), axis=1)[:, :k])


def find_centres(
    rows: Tensor | MappedRows,
    n_cells: int,
    generator: np.random.Generator,
    dtype: torch.dtype,
    run: Run,
) -> Tensor:
    """Centres of k-means on a sample of the rows, shape (n_cells, n_features), float32.

    Centres of no row are replaced by rows of the sample, so that there are always ``n_cells``.
    """
    n_sample = min(len(rows), n_cells * SAMPLE_PER_CELL, max(MAX_SAMPLE, 8 * n_cells))
    chosen = np.sort(generator.choice(len(rows), n_sample, replace=False))
    sample = rows[torch.from_numpy(chosen).to(rows.device)]
    first = torch.from_numpy(generator.choice(n_sample, n_cells, replace=False))
    centres = sample[first.to(rows.device)]
    # Cards add in an order that varies. Sums of integers do not depend on it.
    unit = sample.abs().max().double().clamp_min(1e-30) / SUM_STEPS
    for _ in range(N_ROUNDS):
        own = nearest_cells(sample, centres, 1, dtype, run)[:, 0].long()
        counts = torch.bincount(own, minlength=n_cells)
        sums = torch.zeros(centres.shape, dtype=torch.int64, device=rows.device)
        step = min(SUM_ROWS, rows_at_once(rows.shape[1], is_on_card(sample)))
        for part, cells in zip(torch.split(sample, step), torch.split(own, step), strict=True):
            sums.index_add_(0, cells, (part / unit).long())
        centres = (sums * unit / counts.clamp_min(1)[:, None]).float()
        empty = torch.nonzero(counts == 0).flatten()
        again = torch.from_numpy(generator.choice(n_sample, len(empty)))
        centres[empty] = sample[again.to(rows.device)]
    return centres


def nearest_cells(
    rows: Tensor | MappedRows,
    centres: Tensor,
    m: int,
    dtype: torch.dtype,
    run: Run,
    ranks: Ranks = ALONE,
) -> Tensor:
    """The m nearest cells of each row, nearest first, shape (n, m), int32.

    Each of several processes assigns a share of the blocks of rows.
    """
    middle = centres.mean(dim=0)
    n_padded = -(-len(centres) // GROUP) * GROUP
    right = right_factor(centres, n_padded, dtype, middle=middle)
    found = torch.zeros(len(rows), m, dtype=torch.int32, device=rows.device)
    step = max(1, BLOCK_SCORES // n_padded) if is_on_card(centres) else BLOCK_ROWS

    def assign(start: int) -> None:
        part = slice(start, start + step)
        block = rows[part] - middle
        scores = scores_as_integers(left_factor(block, len(block), dtype), right)
        if m == 1:
            found[part, 0] = _smallest_column(scores)
            return
        columns = smallest_columns(scores, m)
        found[part] = sorted_keys(scores.gather(1, columns), columns, m)

    def assign_all(starts: range) -> None:
        for start in starts:
            assign(start)

    blocks = range(0, len(rows), step)
    own = blocks[ranks.share(len(blocks))]
    n_of_task = 1 if is_on_card(centres) else BLOCKS_OF_TASK
    with telling(ranks):
        run(assign_all, [own[i : i + n_of_task] for i in range(0, len(own), n_of_task)])
    ranks.add_(found)
    return found
