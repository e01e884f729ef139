"""Sampling of edges in proportion to their weight: a fuzzy graph in, batches of row numbers out.

A batch is one vector of ``2 n_edges`` row numbers, first the heads, then their tails. Edges are
sampled by inverse CDF in float64, a block of many batches at a time, with one uniform number in
each of equal slices of the total weight. Within a block the number of times an edge is drawn
therefore differs from its expectation by at most two; with independent draws the difference would
grow like the square root. A permutation makes the order random. No list of repeated edges is built.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neumap._random import torch_generator
from neumap.fuzzy import FuzzyGraph

__all__ = ["ClusterSampler", "EdgeSampler"]

# Edges drawn at once: enough to make the cost per batch of one sorted search and one permutation
# small, and few enough (1 MB of indices) to stay in the cache.
BLOCK_EDGES = 2**16


class EdgeSampler:
    """An endless stream of batches of edges.

    Parameters
    ----------
    graph : FuzzyGraph
        Undirected edges with weights; at least one edge.
    seed : int
        Two samplers with the same seed draw the same batches.
    device : torch.device or str, default="cpu"
        Device of the indices.

    Raises
    ------
    ValueError
        If the graph has no edges.
    """

    def __init__(self, graph: FuzzyGraph, *, seed: int, device: torch.device | str = "cpu") -> None:
        if len(graph.weights) == 0:
            raise ValueError(
                "The neighbour graph must have at least one edge, got none. Raise n_neighbors or "
                "disconnection_distance, or pass more rows."
            )
        cumulative = np.cumsum(graph.weights, dtype=np.float64)
        self.total_weight = float(cumulative[-1])
        self._cumulative = torch.from_numpy(cumulative / cumulative[-1]).to(device)
        self._ends = torch.from_numpy(np.stack([graph.heads, graph.tails])).to(device)
        self._generator = torch_generator(seed, "edges", device)
        self._block = torch.empty(2, 0, dtype=torch.int64, device=device)
        self._position = 0

    def draw(self, n_edges: int) -> Tensor:
        """Return the rows of the next batch, (2 n_edges,) int64: heads, then tails."""
        if self._position + n_edges > self._block.shape[1]:
            self._block = self._draw_block(max(BLOCK_EDGES, n_edges))
            self._position = 0
        batch = self._block[:, self._position : self._position + n_edges]
        self._position += n_edges
        return batch.reshape(-1)

    def _draw_block(self, n_edges: int) -> Tensor:
        """Draw (2, n_edges) end points in random order, each edge in a random direction."""
        device, generator = self._cumulative.device, self._generator
        jitter = torch.rand(n_edges, dtype=torch.float64, generator=generator, device=device)
        slices = torch.arange(n_edges, dtype=torch.float64, device=device)
        uniform = (slices + jitter).div_(n_edges)  # sorted, one per slice
        edges = torch.searchsorted(self._cumulative, uniform, right=True)
        edges.clamp_(max=len(self._cumulative) - 1)
        edges = edges[torch.randperm(n_edges, generator=generator, device=device)]
        flipped = torch.randint(2, (n_edges,), generator=generator, device=device)
        heads = self._ends[flipped, edges]
        tails = self._ends[1 - flipped, edges]
        return torch.stack([heads, tails])


class ClusterSampler:
    """An endless stream of batches of edges among few rows, for networks that are expensive to run.

    The rows of a batch are random rows, each with some of its neighbours. The edges of the batch
    are drawn among those that have both ends in it, in proportion to their weight. Such a batch has
    several edges per row, where one of :class:`EdgeSampler` has half an edge, so a network that
    encodes each row once learns more of each encoded row.

    Parameters
    ----------
    graph : FuzzyGraph
        Undirected edges with weights; at least one edge.
    n_rows : int
        Rows of a batch, at most.
    cluster_rows : int
        A random row and this many less one of its neighbours are drawn together; 1 draws single
        rows.
    seed : int
        Two samplers with the same seed draw the same batches.
    device : torch.device or str, default="cpu"
        Device of the indices.
    """

    def __init__(
        self,
        graph: FuzzyGraph,
        *,
        n_rows: int,
        cluster_rows: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._edges = EdgeSampler(graph, seed=seed, device=device)
        matrix = graph.to_csr()
        self._starts = torch.from_numpy(matrix.indptr.astype(np.int64)).to(device)
        self._tails = torch.from_numpy(matrix.indices.astype(np.int64)).to(device)
        self._weights = torch.from_numpy(matrix.data.astype(np.float64)).to(device)
        self._linked = torch.from_numpy(np.flatnonzero(np.diff(matrix.indptr))).to(device)
        self._place = torch.full((graph.n_vertices,), -1, dtype=torch.int64, device=device)
        self._n_rows = n_rows
        self._cluster_rows = cluster_rows
        self._generator = torch_generator(seed, "clusters", device)

    def draw(self, n_edges: int) -> Tensor:
        """Return the rows of the next batch, (2 n_edges,) int64: heads, then tails."""
        rows = self._draw_rows()
        heads, tails, weights = self._edges_inside(rows)
        if len(heads) == 0:
            return self._edges.draw(n_edges)
        drawn = _in_proportion(weights, n_edges, self._generator)
        return torch.cat([heads[drawn], tails[drawn]])

    def _draw_rows(self) -> Tensor:
        """Draw distinct rows: random ones, each with some of its neighbours."""
        device, generator = self._starts.device, self._generator
        n_seeds = max(1, self._n_rows // self._cluster_rows)
        order = torch.randint(len(self._linked), (n_seeds,), generator=generator, device=device)
        seeds = self._linked[order]
        if self._cluster_rows == 1:
            return seeds.unique()
        first, last = self._starts[seeds], self._starts[seeds + 1]
        shape = (n_seeds, self._cluster_rows - 1)
        share = torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
        picks = first[:, None] + (share * (last - first)[:, None]).long()
        return torch.cat([seeds, self._tails[picks].flatten()]).unique()

    def _edges_inside(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ends and weights of the edges with both ends among these rows, both ways."""
        first = self._starts[rows]
        counts = self._starts[rows + 1] - first
        heads = rows.repeat_interleave(counts)
        offsets = torch.arange(len(heads), device=rows.device)
        begins = (counts.cumsum(0) - counts).repeat_interleave(counts)
        entries = first.repeat_interleave(counts) + offsets - begins
        self._place[rows] = 1
        inside = self._place[self._tails[entries]] > 0
        self._place[rows] = -1
        entries = entries[inside]
        return heads[inside], self._tails[entries], self._weights[entries]


def _in_proportion(weights: Tensor, n_drawn: int, generator: torch.Generator) -> Tensor:
    """Draw indices in proportion to weights, in random order."""
    device = weights.device
    cumulative = weights.cumsum(0)
    jitter = torch.rand(n_drawn, dtype=torch.float64, generator=generator, device=device)
    slices = torch.arange(n_drawn, dtype=torch.float64, device=device)
    uniform = (slices + jitter).mul_(cumulative[-1] / n_drawn)
    drawn = torch.searchsorted(cumulative, uniform, right=True).clamp_(max=len(weights) - 1)
    return drawn[torch.randperm(n_drawn, generator=generator, device=device)]
