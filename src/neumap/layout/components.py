"""Positions for graphs with several components: each is laid out, then all of them are placed.

In: a fuzzy graph of any shape. Out: rough positions for every vertex. As in umap-learn, up to two
components per axis lie at opposite ends of the axes. More of them lie at the means of their rows
(in umap-learn by spectral embedding, here along principal axes). The radius of each is half the
distance to the nearest other one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.spatial import KDTree

from neumap.fuzzy import FuzzyGraph
from neumap.layout.principal import flat_rows, principal_positions
from neumap.layout.spectral import by_commute_time, laplacian_eigenvectors

__all__ = ["spectral_positions"]


def spectral_positions(
    graph: FuzzyGraph,
    n_components: int,
    *,
    X: Any | None,
    generator: np.random.Generator,
    start: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """Return the spectral layout of a graph, component by component.

    Parameters
    ----------
    graph : FuzzyGraph
        With at least one edge.
    n_components : int
        Dimension of the layout.
    X : array or sparse matrix of shape (n, ...), optional
        Rows whose means place the components where there are many; without rows the places are
        random.
    generator : numpy.random.Generator
    start : array of shape (n, m), optional
        See :func:`~neumap.layout.spectral.laplacian_eigenvectors`.

    Returns
    -------
    array of shape (n, n_components), float32
        Of no particular scale. Vertices without an edge get random positions among the others,
        since no edge attracts them.
    """
    labels, members = _split(graph)
    weights = graph.to_csr().astype(np.float64)
    layouts = []
    for rows in members:
        part = weights if len(rows) == graph.n_vertices else weights[rows][:, rows]
        begin = None if start is None else start[rows]
        layouts.append(_lay_out(part, n_components, generator, begin))
    if len(members) == 1:
        together = layouts[0]
    else:
        places = _places(members, n_components, X=X, generator=generator)
        together = _assemble(layouts, places)
    positions = np.empty((graph.n_vertices, n_components), dtype=np.float32)
    positions[np.concatenate(members)] = together
    low, high = together.min(axis=0), together.max(axis=0)
    loose = np.flatnonzero(labels < 0)
    positions[loose] = generator.uniform(low, high, size=(len(loose), n_components))
    return positions


def _split(graph: FuzzyGraph) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Component of each vertex (-1 without an edge), and the vertices of each component."""
    _, labels = scipy.sparse.csgraph.connected_components(graph.to_csr(), directed=False)
    isolated = graph.isolated()
    labels = labels.astype(np.int64)
    labels[isolated] = -1
    order = np.argsort(labels, kind="stable")[len(isolated) :]
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return labels, np.split(order, starts)


def _lay_out(
    weights: Any, n_components: int, generator: np.random.Generator, start: NDArray[Any] | None
) -> NDArray[np.float32]:
    """Lay out one component within the unit ball."""
    n = weights.shape[0]
    if n < 2 * n_components or n <= n_components + 1:  # fewer eigenvectors than axes
        layout = generator.uniform(-1.0, 1.0, size=(n, n_components)).astype(np.float32)
    else:
        functions = laplacian_eigenvectors(weights, n_components, generator=generator, start=start)
        layout = by_commute_time(functions, weights).astype(np.float32)
    within_ball: NDArray[Any] = layout / np.linalg.norm(layout, axis=1).max()
    return within_ball


def _places(
    members: list[NDArray[Any]], n_components: int, *, X: Any | None, generator: np.random.Generator
) -> NDArray[Any]:
    """Centres of the components, (number of components, n_components)."""
    if len(members) <= 2 * n_components:
        axes = np.eye(n_components)
        return np.concatenate([axes, -axes])[: len(members)]
    if X is None:
        return generator.uniform(-1.0, 1.0, size=(len(members), n_components))
    matrix = flat_rows(X)
    means = [np.asarray(matrix[rows].mean(axis=0, dtype=np.float64)).ravel() for rows in members]
    return principal_positions(np.stack(means), n_components, generator=generator)


def _assemble(layouts: list[NDArray[Any]], places: NDArray[Any]) -> NDArray[Any]:
    """Move each layout to its place and scale it to half the distance to the nearest other one."""
    to_nearest = np.asarray(KDTree(places).query(places, k=2)[0])[:, 1]
    # Means that coincide along the first axes would shrink their components to a point.
    extent = float(np.ptp(places, axis=0).max())
    reach = np.maximum(to_nearest / 2.0, 0.1 * extent / len(places))
    return np.concatenate(
        [place + size * layout for layout, place, size in zip(layouts, places, reach, strict=True)]
    )
