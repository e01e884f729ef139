"""Points on a map, coloured by class, by value or by density.

Up to ``MANY_POINTS`` points are drawn as markers, in random order so that no class covers another.
More points become an image (``density``) if datashader is installed, else rasterised markers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap._labels import UNLABELLED
from neumap._optional import require
from neumap.plots import density, frame
from neumap.plots.reading import (
    Categories,
    caption_of,
    categories_of,
    chosen_rows,
    positions_of,
    title_of,
    values_of,
)
from neumap.plots.themes import Theme, class_colors, colormap, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = ["MANY_POINTS", "draw_markers", "points"]

MANY_POINTS = 50_000  # above this, markers cover each other and take seconds to draw
RASTERISE_FROM = 5_000  # more markers than this become one image in an SVG or PDF


def points(  # noqa: PLR0913  the arguments of umap.plot
    umap_object: Any,
    labels: Any = None,
    values: Any = None,
    *,
    points: ArrayLike | None = None,
    theme: str | Theme | None = None,
    cmap: str | Colormap | None = None,
    color_key: Any = None,
    color_key_cmap: str | None = None,
    background: str | None = None,
    width: int = 800,
    height: int = 800,
    show_legend: bool | Literal["map"] = True,
    subset_points: ArrayLike | None = None,
    ax: Axes | None = None,
    alpha: float | None = None,
    point_size: float | None = None,
    renderer: Literal["auto", "markers", "datashader"] = "auto",
) -> Axes:
    """Draw an embedding as points.

    Parameters
    ----------
    umap_object : array of shape (n_samples, 2 or 3), or fitted object
        Positions, or anything with ``embedding_``. Three components give a 3-D picture. Rows with
        a coordinate that is not finite are not drawn; the caption counts them.
    labels : sequence of length n_samples, optional
        Class of each point: numbers or text. None, NaN and -1 mean "unknown" and are drawn in grey
        underneath the others. Cannot be combined with ``values``.
    values : sequence of float of length n_samples, optional
        Value of each point, shown by colour; NaN in grey.
    points : array of shape (n_samples, 2 or 3), optional
        Positions to draw instead of the fitted ones, for example those of new rows.
    theme : str or Theme, optional
        ``"light"`` (default), ``"dark"``, or a name of ``umap.plot``: ``"fire"``, ``"viridis"``,
        ``"inferno"``, ``"blue"``, ``"red"``, ``"green"``, ``"darkblue"``, ``"darkred"``,
        ``"darkgreen"``. The arguments below override the theme.
    cmap : str or Colormap, optional
        Colormap for values, or for density if there are neither labels nor values.
    color_key : dict or sequence of colours, optional
        Colours of classes: a dict from label to colour, or one colour per class in sorted order.
        The default palette can be distinguished with red-green colour blindness too.
    color_key_cmap : str, optional
        Colormap from which classes take their colours instead of the palette.
    background : str, optional
        Colour behind the points. A dark one selects light text.
    width, height : int, default=800
        Size of a new figure in pixels. Ignored when ``ax`` is given.
    show_legend : bool or "map", default=True
        A legend of classes or a colour bar of values. ``"map"`` writes the names of the classes
        on the map, the better choice for many classes.
    subset_points : boolean mask or indices, optional
        Rows to draw. ``labels`` and ``values`` still need one entry per row of the embedding.
    ax : matplotlib Axes, optional
        Where to draw. A new figure by default.
    alpha : float between 0 and 1, optional
        Opacity; by default lower for more points.
    point_size : float, optional
        Marker area in square points; by default it follows from the number of points and the size
        of the axes.
    renderer : {"auto", "markers", "datashader"}, default="auto"
        ``"auto"`` draws markers up to 50,000 points and an image by datashader above, if it is
        installed (extra ``large-plot``).

    Returns
    -------
    matplotlib Axes
        The axes with the picture, which is not shown.

    Raises
    ------
    ValueError
        If both labels and values are given, lengths differ, or the embedding has another number
        of components.

    Examples
    --------
    >>> import numpy as np
    >>> from neumap import plots
    >>> ax = plots.points(np.array([[0.0, 0.0], [1.0, 1.0]]), labels=["a", "b"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['a', 'b']
    """
    if labels is not None and values is not None:
        raise ValueError(
            "One of labels and values must be None, got both. A point has one colour: pass the "
            "classes as `labels`, or the numbers as `values`."
        )
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}. Use 1 for opaque points.")
    every = positions_of(umap_object if points is None else points)
    rows = chosen_rows(subset_points, len(every))
    placed = rows[np.isfinite(every[rows]).all(axis=1)]
    look = theme_of(theme, cmap=cmap, background=background, color_key_cmap=color_key_cmap)
    axes = frame.axes_for(ax, look, width, height, n_components=every.shape[1])
    style = _Style(alpha, point_size, show_legend, renderer)
    positions = every[placed]
    if labels is not None:
        categories = categories_of(labels, len(every))
        colors = class_colors(categories.names, color_key, look)
        _draw_classes(axes, positions, categories[placed], colors, look, style)
    elif values is not None:
        numbers = values_of(values, len(every))[placed]
        _draw_values(axes, positions, numbers, look, style, title_of(values))
    else:
        _draw_plain(axes, positions, look, style)
    frame.bare(axes, look, caption_of(umap_object, len(rows) - len(placed)))
    return axes


class _Style:
    """How points are drawn; settings that are None follow from the number of points."""

    def __init__(
        self,
        alpha: float | None,
        point_size: float | None,
        show_legend: bool | Literal["map"],
        renderer: Literal["auto", "markers", "datashader"],
    ) -> None:
        if renderer not in ("auto", "markers", "datashader"):
            raise ValueError(
                f"renderer must be 'auto', 'markers' or 'datashader', got {renderer!r}. "
                "Use 'auto' to choose by the number of points."
            )
        self.alpha = alpha
        self.point_size = point_size
        self.show_legend = show_legend
        self.renderer = renderer

    def as_image(self, positions: NDArray[Any]) -> bool:
        """Whether to draw an image by datashader instead of markers."""
        if positions.shape[1] != 2 or self.renderer == "markers":
            return False
        if self.renderer == "datashader":
            return True
        return len(positions) > MANY_POINTS and density.has_datashader()


def _draw_classes(
    ax: Axes,
    positions: NDArray[Any],
    categories: Categories,
    colors: NDArray[Any],
    theme: Theme,
    style: _Style,
) -> None:
    if style.as_image(positions):
        grid = density.grid_for(ax, positions)
        image = density.shade_classes(positions, categories, colors, theme.missing, grid)
        _draw_image(ax, image, grid, style.alpha)
    else:
        labelled = categories.codes != UNLABELLED
        _draw_missing(ax, positions[~labelled], len(positions), theme, style)
        draw_markers(
            ax, positions[labelled], colors[categories.codes[labelled]], len(positions),
            alpha=style.alpha, point_size=style.point_size,
        )  # fmt: skip
    if style.show_legend == "map" and positions.shape[1] == 2:
        frame.write_names_on_map(ax, positions, categories, theme)
    elif style.show_legend:
        frame.add_legend(ax, categories, colors, theme, n_points=len(positions))


def _draw_values(
    ax: Axes, positions: NDArray[Any], values: NDArray[Any], theme: Theme, style: _Style, title: str
) -> None:
    known = ~np.isnan(values)
    ramp = colormap(theme.cmap)
    limits = (values[known].min(), values[known].max()) if known.any() else (0.0, 1.0)
    mappable = require("matplotlib.cm", extra="plot").ScalarMappable(cmap=ramp)
    mappable.set_clim(*limits)
    if style.as_image(positions):
        grid = density.grid_for(ax, positions)
        image = density.shade_values(positions, values, ramp, limits, theme.missing, grid)
        _draw_image(ax, image, grid, style.alpha)
    else:
        _draw_missing(ax, positions[~known], len(positions), theme, style)
        draw_markers(
            ax, positions[known], mappable.to_rgba(values[known]), len(positions),
            alpha=style.alpha, point_size=style.point_size,
        )  # fmt: skip
    if style.show_legend:
        frame.add_colorbar(ax, mappable, theme, title)


def _draw_plain(ax: Axes, positions: NDArray[Any], theme: Theme, style: _Style) -> None:
    ramp = colormap(theme.density_cmap or theme.cmap)
    if style.as_image(positions):
        grid = density.grid_for(ax, positions)
        _draw_image(ax, density.shade_density(positions, ramp, grid), grid, style.alpha)
        return
    color = np.tile(ramp(0.5), (len(positions), 1))
    draw_markers(
        ax, positions, color, len(positions), alpha=style.alpha, point_size=style.point_size
    )


def _draw_missing(
    ax: Axes, positions: NDArray[Any], n_points: int, theme: Theme, style: _Style
) -> None:
    if not len(positions):
        return
    grey = require("matplotlib.colors", extra="plot").to_rgba(theme.missing)
    draw_markers(
        ax, positions, np.tile(grey, (len(positions), 1)), n_points,
        alpha=style.alpha, point_size=style.point_size,
    )  # fmt: skip


def draw_markers(
    ax: Axes,
    positions: NDArray[Any],
    colors: NDArray[Any],
    n_points: int,
    *,
    alpha: float | None = None,
    point_size: float | None = None,
) -> Any:
    """Draw markers in random order, so that the last class does not cover the first.

    ``n_points`` is the number of points of the whole picture, which determines size and alpha.
    """
    own_size, own_alpha = frame.point_style(ax, n_points)
    order = np.random.default_rng(0).permutation(len(positions))
    return ax.scatter(
        *positions[order].T,
        c=colors[order],
        s=own_size if point_size is None else point_size,  # type: ignore[misc]
        alpha=own_alpha if alpha is None else alpha,
        linewidths=0,
        rasterized=len(positions) > RASTERISE_FROM,
    )


def _draw_image(ax: Axes, image: NDArray[Any], grid: density.Grid, alpha: float | None) -> None:
    ax.imshow(
        image, extent=grid.extent, origin="lower", aspect="auto", interpolation="nearest",
        alpha=alpha,
    )  # fmt: skip
