"""The neighbour graph, drawn on the map: edges coloured by weight, with or without the points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neumap._optional import require
from neumap.plots import density, frame
from neumap.plots.bundling import bundle
from neumap.plots.reading import caption_of, graph_of, positions_of
from neumap.plots.scatter import points
from neumap.plots.themes import Theme, colormap, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = ["MANY_EDGES", "connectivity", "nearest_neighbour_distribution"]

MANY_EDGES = 150_000  # above this, lines take seconds to draw and cover each other


def connectivity(  # noqa: PLR0913  the arguments of umap.plot
    umap_object: Any,
    graph: Any = None,
    *,
    edge_bundling: Literal["hammer"] | None = None,
    edge_cmap: str | None = None,
    show_points: bool | None = None,
    labels: Any = None,
    values: Any = None,
    theme: str | Theme | None = None,
    cmap: str | Colormap | None = None,
    color_key: Any = None,
    color_key_cmap: str | None = None,
    background: str | None = None,
    width: int = 800,
    height: int = 800,
    show_legend: bool | Literal["map"] = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the graph of neighbours on the map; strong edges lie above weak ones.

    Long edges connect neighbours that the map separated. They show where not to trust it.

    Parameters
    ----------
    umap_object : fitted object, (embedding, graph), or array of shape (n_samples, 2)
        Positions with their graph. A fitted object has both in ``embedding_`` and ``graph_``.
    graph : scipy sparse matrix of shape (n_samples, n_samples), optional
        The graph, when the first argument is an array. Any object with ``to_csr()`` works too. A
        text in this place is `edge_bundling`, as in ``umap.plot``.
        Each pair is drawn once, with the larger weight of its two directions.
    edge_bundling : {None, "hammer"}, default=None
        ``"hammer"`` bundles edges into routes. It takes about a second per 10,000 edges.
    edge_cmap : str, optional
        Colormap from weak to strong edges; the theme's by default.
    show_points : bool, optional
        Draw the points above the edges; by default when labels or values are given.
    labels, values, theme, cmap, color_key, color_key_cmap, background
        Colours of the points, as in `points`.
    width, height : int, default=800
        Size of a new figure in pixels.
    show_legend : bool or "map", default=True
        As in `points`.
    ax : matplotlib Axes, optional
        Where to draw. A new figure by default.

    Returns
    -------
    matplotlib Axes
        The axes with the picture.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from neumap import plots
    >>> corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> ring = sparse.csr_array(np.ones((3, 3)) - np.eye(3))
    >>> len(plots.connectivity((corner, ring)).collections[0].get_segments())
    3
    """
    # umap.plot has edge_bundling in the place of the graph.
    bundling, graph = (graph, None) if isinstance(graph, str) else (edge_bundling, graph)
    if bundling not in (None, "hammer"):
        raise ValueError(
            f"edge_bundling must be None or 'hammer', got {bundling!r}. "
            "Use None for straight edges."
        )
    if isinstance(umap_object, tuple) and len(umap_object) == 2 and graph is None:
        umap_object, graph = umap_object
    positions = positions_of(umap_object, dimensions=(2,))
    edges = graph_of(umap_object, graph, len(positions))
    look = theme_of(
        theme, cmap=cmap, background=background, color_key_cmap=color_key_cmap, edge_cmap=edge_cmap
    )
    axes = frame.axes_for(ax, look, width, height)
    _draw_edges(axes, positions, edges, look, bundled=bundling == "hammer")
    with_points = labels is not None or values is not None
    if with_points if show_points is None else show_points:
        points(
            umap_object, labels, values, theme=look, color_key=color_key, show_legend=show_legend,
            ax=axes,
        )  # fmt: skip
        return axes
    frame.bare(axes, look, caption_of(umap_object, 0))
    return axes


def nearest_neighbour_distribution(
    graph: Any,
    *,
    bins: int = 25,
    theme: str | Theme | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a histogram of the mean edge value of each row.

    Parameters
    ----------
    graph : fitted object, scipy sparse matrix, or object with ``distances`` or ``to_csr()``
        The graph whose rows are averaged. A fitted object gives the weights of ``graph_``, which
        are membership strengths. An object with ``distances`` of shape (n_samples, n_neighbors)
        gives the distances, without the row itself. A sparse matrix is read as distances, as in
        ``umap.plot``. Rows without edges are left out.
    bins : int, default=25
        Number of bars.
    theme : str or Theme, optional
        As in `points`.
    ax : matplotlib Axes, optional
        Where to draw. A new figure by default.

    Returns
    -------
    matplotlib Axes
        The axes with the histogram.
    """
    averages, meaning = _row_averages(graph)
    look = theme_of(theme)
    axes = frame.axes_for(ax, look, 640, 400)
    axes.hist(averages, bins=bins, color=look.palette[0] if look.palette else look.text)
    frame.plain_axes(axes, look)
    axes.set(xlabel=meaning, ylabel="Frequency")
    return axes


def _draw_edges(
    ax: Axes, positions: NDArray[Any], edges: sparse.coo_array, theme: Theme, *, bundled: bool
) -> None:
    ends = positions[np.stack([edges.row, edges.col], axis=1)]  # (n_edges, 2, 2)
    drawable = np.isfinite(ends).all(axis=(1, 2))
    order = np.argsort(edges.data[drawable], kind="stable")
    ends = ends[drawable][order]
    weights = np.asarray(edges.data[drawable][order], dtype=np.float64)
    ramp = colormap(theme.edge_cmap)
    if len(ends) > MANY_EDGES and not bundled and density.has_datashader():
        grid = density.grid_for(ax, positions[np.isfinite(positions).all(axis=1)])
        image = density.shade_edges(ends, weights, ramp, grid)
        ax.imshow(image, extent=grid.extent, origin="lower", aspect="auto", zorder=0)
        return
    collections = require("matplotlib.collections", extra="plot")
    # The low end of the colormap is close to the background: start where edges are visible
    strength = 0.15 + 0.85 * weights / weights.max() if len(weights) else weights
    lines = collections.LineCollection(
        bundle(ends, weights) if bundled else ends,
        colors=ramp(strength),
        linewidths=float(np.clip(60 / np.sqrt(max(len(ends), 1)), 0.25, 1.5)),
        alpha=float(np.clip(70 / np.sqrt(max(len(ends), 1)), 0.15, 0.9)),
        rasterized=len(ends) > 5_000,
        zorder=0,
    )
    ax.add_collection(lines)
    ax.autoscale_view()


def _row_averages(graph: Any) -> tuple[NDArray[Any], str]:
    if hasattr(graph, "distances"):
        return np.asarray(graph.distances)[:, 1:].mean(axis=1), DISTANCES
    weighted = getattr(graph, "graph_", graph.to_csr() if hasattr(graph, "to_csr") else None)
    found: Any = graph if weighted is None else weighted
    if not hasattr(found, "tocsr"):
        raise ValueError(
            f"graph must be a fitted object, a scipy sparse matrix or an object with `distances`, "
            f"got {type(graph).__name__}. Pass one of these."
        )
    rows = found.tocsr()
    n_edges = np.diff(rows.indptr)
    sums = np.asarray(rows.sum(axis=1)).ravel()
    return sums[n_edges > 0] / n_edges[n_edges > 0], DISTANCES if weighted is None else STRENGTHS


DISTANCES = "Average distance to nearest neighbors"
STRENGTHS = "Average membership strength of a row's edges"
