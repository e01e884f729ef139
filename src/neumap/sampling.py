"""Sampling of edges in proportion to their weight: a fuzzy graph in, batches of row numbers out.

A batch is one vector of ``2 n_edges`` row numbers, first the heads, then their tails. Edges are
sampled by inverse CDF in float64, a block of many batches at a time, with one uniform number in
each of equal slices of the total weight. Within a block the number of times an edge is drawn
therefore differs from its expectation by at most two; with independent draws the difference would
grow like the square root. A permutation makes the order random. No list of repeated edges is built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neumap._random import torch_generator
from neumap.fuzzy import FuzzyGraph

__all__ = ["EdgeSampler", "block_size"]

# Edges drawn at once: enough to make the cost per batch of one sorted search and one permutation
# small, and few enough (1 MB of indices) to stay in the cache.
BLOCK_EDGES = 2**16


def block_size(n_edges: int) -> int:
    """Return the number of edges that are drawn at once for batches of this size."""
    return max(BLOCK_EDGES, n_edges)


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
        # Cards add in an order that varies, and a seed must give the same batches.
        cumulative = np.cumsum(graph.weights, dtype=np.float64)
        self.total_weight = float(cumulative[-1])
        self._cumulative = torch.from_numpy(cumulative / cumulative[-1]).to(device)
        if graph.on_device is None:
            self._ends = torch.from_numpy(np.stack([graph.heads, graph.tails])).to(device)
        else:
            self._ends = torch.stack(graph.on_device[:2]).to(device)
        self._generator = torch_generator(seed, "edges", device)
        self._block = torch.empty(2, 0, dtype=torch.int64, device=device)
        self._position = 0
        self._drawn_from = self._generator.get_state()

    def state(self) -> dict[str, Any]:
        """Return what the next batches depend on, for :meth:`set_state`.

        Not the block of batches itself, which is drawn again.
        """
        return {
            "generator": self._drawn_from,
            "n_drawn": self._block.shape[1],
            "position": self._position,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Draw the same batches again as after :meth:`state`.

        Raises
        ------
        RuntimeError, TypeError
            If the state of the generator is not one.
        """
        self._generator.set_state(state["generator"])
        self._drawn_from = self._generator.get_state()
        n_drawn = state["n_drawn"]
        self._block = self._draw_block(n_drawn) if n_drawn else self._block[:, :0]
        self._position = state["position"]

    def draw(self, n_edges: int) -> Tensor:
        """Return the rows of the next batch, (2 n_edges,) int64: heads, then tails."""
        if self._position + n_edges > self._block.shape[1]:
            self._block = self._draw_block(block_size(n_edges))
            self._position = 0
        batch = self._block[:, self._position : self._position + n_edges]
        self._position += n_edges
        return batch.reshape(-1)

    def _draw_block(self, n_edges: int) -> Tensor:
        """Draw (2, n_edges) end points in random order, each edge in a random direction."""
        device, generator = self._cumulative.device, self._generator
        self._drawn_from = generator.get_state()
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
