"""Pictures that show how far to trust a map, point by point."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap._optional import require
from neumap.plots import frame, local
from neumap.plots.reading import caption_of, positions_of, raw_data_of
from neumap.plots.scatter import draw_markers
from neumap.plots.themes import Theme, colormap, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = ["KINDS", "diagnostic"]

KINDS = ("pca", "ica", "vq", "local_dim", "neighborhood")

TITLES = {
    "pca": "Colored by RGB coords of PCA embedding",
    "ica": "Colored by RGB coords of FastICA embedding",
    "vq": "Colored by RGB coords of Vector Quantization",
    "local_dim": "Colored by approx local dimension",
    "neighborhood": "Colored by neighborhood Jaccard index",
}
COLORS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "pca": local.pca_colors,
    "ica": local.ica_colors,
    "vq": local.vq_colors,
}


def diagnostic(  # noqa: PLR0913  the arguments of umap.plot
    umap_object: Any,
    X: ArrayLike | str | None = None,
    *,
    diagnostic_type: str | None = None,
    kind: Literal["pca", "ica", "vq", "local_dim", "neighborhood", "all"] | None = None,
    nhood_size: int = 15,
    local_variance_threshold: float = 0.8,
    neighbors: ArrayLike | None = None,
    metric: str | Callable[..., float] | None = None,
    ax: Axes | None = None,
    cmap: str | Colormap = "viridis",
    point_size: float | None = None,
    theme: str | Theme | None = None,
    background: str | None = None,
    width: int = 800,
    height: int = 800,
    return_diagnostics: bool = False,
    plot_result: bool = True,
) -> Any:
    """Colour the map by properties of the data that it should preserve.

    ``"pca"``, ``"ica"`` and ``"vq"`` colour each point by its position in a low-dimensional view
    of the data. Sudden changes of colour mark tears. ``"neighborhood"`` shows how much of a
    point's neighbourhood the map preserved, ``"local_dim"`` the local dimension of the data.

    Parameters
    ----------
    umap_object : array of shape (n_samples, 2), or fitted object
        Positions.
    X : array or scipy sparse matrix of shape (n_samples, n_features), optional
        The data; by default a fitted object's ``_raw_data``. A text in this place is the
        `diagnostic_type`, which is the second argument in ``umap.plot``.
    diagnostic_type : {"pca", "ica", "vq", "local_dim", "neighborhood", "all"}, default="pca"
        What to show; ``"all"`` draws a figure with all five.
    kind : str, optional
        Another name of `diagnostic_type`.
    nhood_size : int, default=15
        Neighbours per row, itself included. Larger values look at coarser structure.
    local_variance_threshold : float, default=0.8
        Fraction of a neighbourhood's variance that its local dimension must explain.
    neighbors : array of shape (n_samples, n_neighbors), optional
        Known neighbours in the data, the row itself first. They save the exact search, whose cost
        grows with the square of n_samples. The first ``nhood_size`` columns are used.
    metric : str or callable, optional
        Distance between rows of X; a fitted object's ``metric`` by default, else "euclidean".
    ax : matplotlib Axes, optional
        Where to draw; not for ``"all"``.
    cmap : str or Colormap, default="viridis"
        Colormap for ``"local_dim"`` and ``"neighborhood"``, from the 5th to the 95th percentile.
    point_size : float, optional
        Marker area in square points.
    theme, background, width, height
        As in `points`.
    return_diagnostics : bool, default=False
        Return the axes and the data: colours of shape (n_samples, 3), or one number per row. For
        ``"all"`` the data are a dict.
    plot_result : bool, default=True
        False draws nothing: the result is the data with ``return_diagnostics=True``, else None.

    Returns
    -------
    matplotlib Axes, or Figure for "all"
        The picture; with ``return_diagnostics`` a pair; with ``plot_result=False`` the data.

    Raises
    ------
    ValueError
        If the kind is unknown, X is missing or has another number of rows.
    """
    in_its_place = X if isinstance(X, str) else None
    chosen = _chosen(diagnostic_type=diagnostic_type, kind=kind, X=in_its_place)
    if chosen == "all" and ax is not None and plot_result:
        raise ValueError(
            "ax must be None for diagnostic_type='all', which draws a figure of five axes, got "
            "axes. Leave ax out."
        )
    positions = positions_of(umap_object, dimensions=(2,))
    if not np.isfinite(positions).all():
        raise ValueError(
            "Positions must be finite, got rows with NaN or infinity. "
            "Leave these rows out of the embedding and of X."
        )
    data = raw_data_of(umap_object, None if in_its_place else X, len(positions))
    look = theme_of(theme, background=background)
    chosen_metric = getattr(umap_object, "metric", "euclidean") if metric is None else metric
    measure = _Measure(
        data, positions, nhood_size, local_variance_threshold, neighbors, chosen_metric
    )
    if not plot_result:
        return measure.of_all(chosen) if return_diagnostics else None
    shown: Any
    if chosen == "all":
        picture, shown = _all_kinds(measure, look, cmap, point_size)
    else:
        axes = frame.axes_for(ax, look, width, height)
        shown = measure.of(chosen)
        _draw(axes, positions, shown, chosen, look, colormap(cmap), point_size)
        frame.bare(axes, look, caption_of(umap_object, 0))
        picture = axes
    return (picture, shown) if return_diagnostics else picture


def _chosen(**given: str | None) -> str:
    """Return the one kind that the arguments name, ``"pca"`` where none does."""
    named = {name: kind for name, kind in given.items() if kind is not None}
    if len(set(named.values())) > 1:
        said = ", ".join(f"{name}={kind!r}" for name, kind in named.items())
        raise ValueError(
            f"diagnostic_type must be given once, got {said}. Leave all but diagnostic_type out."
        )
    name, chosen = next(iter(named.items()), ("diagnostic_type", "pca"))
    if chosen not in (*KINDS, "all"):
        what = "diagnostic_type" if name == "X" else name
        raise ValueError(
            f"{what} must be one of {', '.join(KINDS)} or all, got {chosen!r}. Choose one of these."
        )
    return chosen


class _Measure:
    """Diagnostics of one map; neighbours are searched only once."""

    def __init__(
        self,
        data: NDArray[Any],
        positions: NDArray[Any],
        nhood_size: int,
        variance_threshold: float,
        neighbors: ArrayLike | None,
        metric: Any,
    ) -> None:
        self.data = data
        self.positions = positions
        self.nhood_size = nhood_size
        self.variance_threshold = variance_threshold
        self.metric = metric
        self._known = None if neighbors is None else self._checked(np.asarray(neighbors))

    def of(self, kind: str) -> NDArray[Any]:
        """Return colours ``(n_samples, 3)`` or numbers ``(n_samples,)`` of one kind."""
        if kind in COLORS:
            return COLORS[kind](self.data)
        if kind == "local_dim":
            return local.local_dimension(self.data, self._in_data(), self.variance_threshold)
        on_map = local.nearest(self.positions, self.nhood_size)
        return local.neighborhood_jaccard(self._in_data(), on_map)

    def of_all(self, kind: str) -> Any:
        """Return the numbers of one kind, or a dict of all of them for ``"all"``."""
        return {each: self.of(each) for each in KINDS} if kind == "all" else self.of(kind)

    def _in_data(self) -> NDArray[Any]:
        if self._known is None:
            self._known = local.nearest(self.data, self.nhood_size, self.metric)
        return self._known

    def _checked(self, neighbors: NDArray[Any]) -> NDArray[Any]:
        if neighbors.ndim != 2 or len(neighbors) != len(self.data):
            raise ValueError(
                f"neighbors must have shape ({len(self.data)}, n_neighbors), got "
                f"{neighbors.shape}. Pass the indices of the graph this map was made from."
            )
        if neighbors.shape[1] < self.nhood_size:
            raise ValueError(
                f"neighbors must have at least nhood_size={self.nhood_size} columns, got "
                f"{neighbors.shape[1]}. Lower nhood_size, or search for more neighbours."
            )
        return neighbors[:, : self.nhood_size].astype(np.int64)


def _draw(  # noqa: PLR0913  one step of two callers
    ax: Axes,
    positions: NDArray[Any],
    shown: NDArray[Any],
    kind: str,
    theme: Theme,
    ramp: Colormap,
    point_size: float | None,
) -> None:
    if shown.ndim == 2:
        colors = np.column_stack([shown, np.ones(len(shown))])
    else:
        mappable = require("matplotlib.cm", extra="plot").ScalarMappable(cmap=ramp)
        mappable.set_clim(*np.percentile(shown, (5, 95)))
        colors = mappable.to_rgba(shown)
        frame.add_colorbar(ax, mappable, theme, whole_numbers=shown.dtype.kind == "i")
    draw_markers(ax, positions, colors, len(positions), point_size=point_size)
    ax.set_title(TITLES[kind], color=theme.text, fontsize="medium")


def _all_kinds(
    measure: _Measure, theme: Theme, cmap: str | Colormap, point_size: float | None
) -> tuple[Any, dict[str, NDArray[Any]]]:
    pyplot = require("matplotlib.pyplot", extra="plot")
    figure, panels = pyplot.subplots(
        2, 3, figsize=(13, 8.5), layout="constrained", facecolor=theme.background
    )
    shown = {}
    for ax, kind in zip(panels.flat, KINDS, strict=False):
        frame.axes_for(ax, theme, 0, 0)
        shown[kind] = measure.of(kind)
        _draw(ax, measure.positions, shown[kind], kind, theme, colormap(cmap), point_size)
        frame.bare(ax, theme)
    panels.flat[-1].remove()
    return figure, shown
