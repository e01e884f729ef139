"""Distances between every pair of two blocks of rows, on any torch device.

Each function takes queries of shape (q, d) and rows of shape (r, d) and returns (q, r). Metrics
of binary data depend on three counts only (ones in both rows, ones in either row, columns), which
one matrix product gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "CountRule",
    "braycurtis",
    "canberra",
    "dice",
    "from_counts",
    "hamming",
    "jaccard",
    "kulsinski",
    "ll_dirichlet",
    "matching",
    "minkowski",
    "pairwise",
    "poincare",
    "rogerstanimoto",
    "russellrao",
    "sokalsneath",
    "symmetric_kl",
    "yule",
]

BLOCK_NUMBERS = 1 << 20

# both, ones of the query, ones of the row, number of columns -> distance
CountRule = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def minkowski(queries: Tensor, rows: Tensor, p: float) -> Tensor:
    """Sum of the p-th powers of the differences, to the power 1/p."""
    return torch.cdist(queries, rows, p=p)


def hamming(queries: Tensor, rows: Tensor) -> Tensor:
    """Share of the columns that differ."""
    return torch.cdist(queries, rows, p=0.0) / queries.shape[1]


def braycurtis(queries: Tensor, rows: Tensor) -> Tensor:
    """Sum of the differences over the sum of the sums."""
    total = torch.cdist(queries, -rows, p=1.0)
    return _ratio(torch.cdist(queries, rows, p=1.0), total)


def canberra(queries: Tensor, rows: Tensor) -> Tensor:
    """Sum of the differences, each relative to its column's two values."""

    def share(query: Tensor, row: Tensor) -> Tensor:
        return _ratio((query - row).abs(), query.abs() + row.abs())

    return _sum_over_columns(queries, rows, share)


def poincare(queries: Tensor, rows: Tensor) -> Tensor:
    """Hyperbolic distance in the unit ball."""
    squared = torch.cdist(
        queries.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist"
    ).square()
    room = (1 - queries.double().square().sum(1))[:, None] * (1 - rows.double().square().sum(1))
    return torch.acosh(1 + 2 * squared / room).float()


def symmetric_kl(queries: Tensor, rows: Tensor) -> Tensor:
    """Mean of the two Kullback-Leibler divergences of rows that sum to one."""
    log_queries, log_rows = queries.log(), rows.log()
    own = (queries * log_queries).sum(1)[:, None] + (rows * log_rows).sum(1)
    return ((own - queries @ log_rows.T - log_queries @ rows.T) / 2).clamp_min(0)


def ll_dirichlet(queries: Tensor, rows: Tensor) -> Tensor:
    """Symmetric log likelihood of one row's counts on a die that rolled the other's."""
    queries, rows = queries.double(), rows.double()

    def likelihood(query: Tensor, row: Tensor) -> Tensor:
        both = query * row > 0.9
        return torch.where(both, _log_beta(query.clamp_min(1), row.clamp_min(1)), 0)

    joint = _sum_over_columns(queries, rows, likelihood)
    n_query, n_row = queries.sum(1)[:, None], rows.sum(1)
    total = _log_beta(n_query, n_row)
    own_query, own_row = _own_likelihood(queries)[:, None], _own_likelihood(rows)
    squared = (joint - total - own_row) / n_row + (joint - total - own_query) / n_query
    return squared.clamp_min(0).sqrt().float()


def _sum_over_columns(
    queries: Tensor, rows: Tensor, term: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Sum of a term of every column, (q, r); a block of columns at a time keeps memory flat."""
    result = queries.new_zeros(len(queries), len(rows))
    per_block = max(1, BLOCK_NUMBERS // result.numel())
    for start in range(0, queries.shape[1], per_block):
        block = slice(start, start + per_block)
        terms = term(queries.T[block, :, None], rows.T[block, None, :])  # (block, q, r)
        if len(terms) == 1:
            result += terms[0]
        elif terms.device.type != "cpu":
            result += terms.sum(0)
        else:  # numpy adds along the first axis in order, so that blocks do not change the sum
            result = torch.from_numpy(np.add.reduce(torch.cat([result[None], terms]).numpy(), 0))
    return result


def _own_likelihood(rows: Tensor) -> Tensor:
    singles = torch.where(rows > 0.9, _log_single_beta(rows.clamp_min(1)), 0)
    return singles.sum(1) - _log_single_beta(rows.sum(1))


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _log_single_beta(x: Tensor) -> Tensor:
    """Stirling's form of ``log B(x, x)``."""
    return torch.log(torch.tensor(2.0)) * (0.5 - 2 * x) + (2 * torch.pi / x).log() / 2 + 0.125 / x


def from_counts(queries: Tensor, rows: Tensor, rule: CountRule) -> Tensor:
    """Distance of binary rows from the counts of their ones."""
    both = queries @ rows.T
    return rule(both, queries.sum(1)[:, None], rows.sum(1), queries.shape[1])


def jaccard(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Share of the columns that differ among those with a one in either row."""
    either = ones_a + ones_b - both
    return _ratio(either - both, either)


def dice(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Columns that differ over all ones."""
    return _ratio(ones_a + ones_b - 2 * both, ones_a + ones_b)


def matching(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Share of the columns that differ."""
    return (ones_a + ones_b - 2 * both) / n_columns


def kulsinski(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Columns that differ and those without a common one, over both and all columns."""
    differ = ones_a + ones_b - 2 * both
    distance = (differ - both + n_columns) / (differ + n_columns)
    return torch.where(differ == 0, 0, distance)


def rogerstanimoto(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Columns that differ, counted twice."""
    differ = ones_a + ones_b - 2 * both
    return 2 * differ / (n_columns + differ)


def russellrao(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Share of the columns without a common one; 0 for equal rows."""
    is_equal = (both == ones_a) & (both == ones_b)
    return torch.where(is_equal, 0, (n_columns - both) / n_columns)


def sokalsneath(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Columns that differ over these and half of the common ones."""
    differ = ones_a + ones_b - 2 * both
    return _ratio(differ, both / 2 + differ)


def yule(both: Tensor, ones_a: Tensor, ones_b: Tensor, n_columns: int) -> Tensor:
    """Product of the two kinds of difference over the sum of the products."""
    only_a, only_b = ones_a - both, ones_b - both
    neither = n_columns - both - only_a - only_b
    return _ratio(2 * only_a * only_b, both * neither + only_a * only_b)


def pairwise(
    queries: Tensor, rows: Tensor, function: Callable[..., Any], kwds: dict[str, Any]
) -> Tensor:
    """Distances by a function of two rows, which may return its gradient as well.

    The function gets copies: umap-learn accepts functions that write to their arguments.
    """
    of_queries, of_rows = queries.cpu().numpy(), rows.cpu().numpy()
    distances = [
        [_first(function(query.copy(), row.copy(), **kwds)) for row in of_rows]
        for query in of_queries
    ]
    return torch.tensor(distances, dtype=torch.float32, device=queries.device)


def _first(result: Any) -> float:
    return float(result[0] if isinstance(result, tuple) else result)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and 0 where both are 0."""
    return torch.where(whole == 0, 0, part / whole)
