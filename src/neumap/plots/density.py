"""Very many points as an image: each pixel summarises its points, computed by datashader.

A scatter plot of a million markers is slow and shows mostly the drawing order. Here the points are
first counted per pixel. The colour is the mixture of the classes (or the mean of the values) in
the pixel, and the opacity follows the rank of the count.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neumap._labels import UNLABELLED
from neumap._optional import require
from neumap.plots.reading import Categories

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = [
    "Grid",
    "grid_for",
    "has_datashader",
    "shade_classes",
    "shade_density",
    "shade_edges",
    "shade_values",
]

OVERSAMPLING = 2  # image pixels per screen pixel, so that prints stay sharp
FAINTEST = 110  # opacity of a pixel with a single point, out of 255


def has_datashader() -> bool:
    """Whether datashader is installed, without importing it (it takes seconds)."""
    return importlib.util.find_spec("datashader") is not None


@dataclass(frozen=True)
class Grid:
    """A pixel grid over the map: its size and the rectangle it covers, in map units."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top as matplotlib's ``imshow`` takes them."""
        return (*self.x_range, *self.y_range)

    def canvas(self) -> Any:
        """Return the grid as a datashader canvas."""
        datashader = require("datashader", extra="large-plot")
        return datashader.Canvas(
            plot_width=self.width,
            plot_height=self.height,
            x_range=self.x_range,
            y_range=self.y_range,
        )


def grid_for(ax: Axes, positions: NDArray[Any]) -> Grid:
    """Return a grid of square pixels over all points and a margin, as fine as the axes can show."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    span = np.maximum(high - low, 1e-9 * max(1.0, float(np.abs(positions).max())))
    low, high = low - 0.04 * span.max(), high + 0.04 * span.max()
    box = ax.get_window_extent()
    pixel = max((high - low) / np.maximum((box.width, box.height), 1)) / OVERSAMPLING
    width, height = (int(count) for count in np.maximum(np.round((high - low) / pixel), 1))
    return Grid(width, height, (float(low[0]), float(high[0])), (float(low[1]), float(high[1])))


def shade_classes(
    positions: NDArray[Any], categories: Categories, colors: NDArray[Any], missing: str, grid: Grid
) -> NDArray[Any]:
    """Image ``(height, width, 4)`` uint8 of points coloured by class, unlabelled ones below."""
    datashader, functions = _datashader()
    labelled = categories.codes != UNLABELLED
    layers = [_single_color(positions[~labelled], missing, grid)]
    if labelled.any():
        pandas = require("pandas", extra="large-plot")
        present, codes = np.unique(categories.codes[labelled], return_inverse=True)
        table = _table(positions[labelled])
        # Text as names: datashader takes colours from a dict keyed by category
        table["name"] = pandas.Categorical.from_codes(codes, [str(code) for code in present])
        counts = grid.canvas().points(table, "x", "y", agg=datashader.count_cat("name"))
        key = {str(code): _hex(colors[code]) for code in present}
        layers.append(functions.shade(counts, color_key=key, how="eq_hist", min_alpha=FAINTEST))
    return _flatten(layers)


def shade_values(
    positions: NDArray[Any],
    values: NDArray[Any],
    cmap: Colormap,
    limits: tuple[float, float],
    missing: str,
    grid: Grid,
) -> NDArray[Any]:
    """Image ``(height, width, 4)`` uint8 of the mean value per pixel, NaN rows in grey below."""
    datashader, functions = _datashader()
    known = ~np.isnan(values)
    layers = [_single_color(positions[~known], missing, grid)]
    if known.any():
        table = _table(positions[known])
        table["value"] = values[known]
        means = grid.canvas().points(table, "x", "y", agg=datashader.mean("value"))
        layers.append(functions.shade(means, cmap=_hexes(cmap), how="linear", span=limits))
    return _flatten(layers)


def shade_density(positions: NDArray[Any], cmap: Colormap, grid: Grid) -> NDArray[Any]:
    """Image ``(height, width, 4)`` uint8 of the number of points in each pixel, by rank."""
    _, functions = _datashader()
    counts = grid.canvas().points(_table(positions), "x", "y")
    return _flatten([functions.shade(counts, cmap=_hexes(cmap), how="eq_hist")])


def shade_edges(
    ends: NDArray[Any], weights: NDArray[Any], cmap: Colormap, grid: Grid
) -> NDArray[Any]:
    """Image ``(height, width, 4)`` uint8 of the summed weight of the edges through each pixel.

    ``ends`` has shape (n_edges, 2, 2): both ends, in map coordinates.
    """
    datashader, functions = _datashader()
    pandas = require("pandas", extra="large-plot")
    flat = ends.reshape(-1, 4)
    table = pandas.DataFrame(flat, columns=["x0", "y0", "x1", "y1"]).assign(weight=weights)
    sums = grid.canvas().line(
        table, x=["x0", "x1"], y=["y0", "y1"], axis=1, agg=datashader.sum("weight")
    )
    return _to_rgba(functions.shade(sums, cmap=_hexes(cmap), how="eq_hist"))


def _datashader() -> tuple[Any, Any]:
    return (
        require("datashader", extra="large-plot"),
        require("datashader.transfer_functions", extra="large-plot"),
    )


def _table(positions: NDArray[Any]) -> Any:
    pandas = require("pandas", extra="large-plot")
    return pandas.DataFrame({"x": positions[:, 0], "y": positions[:, 1]})


def _single_color(positions: NDArray[Any], color: str, grid: Grid) -> Any:
    datashader, functions = _datashader()
    counts = grid.canvas().points(_table(positions), "x", "y", agg=datashader.any())
    return functions.shade(counts, cmap=[color], how="linear")


def _flatten(layers: list[Any]) -> NDArray[Any]:
    _, functions = _datashader()
    # Only isolated pixels are widened: a single outlier must stay visible in print
    stacked = functions.stack(
        *(functions.dynspread(layer, threshold=0.6, max_px=2) for layer in layers)
    )
    return _to_rgba(stacked)


def _to_rgba(image: Any) -> NDArray[Any]:
    packed: NDArray[Any] = np.ascontiguousarray(image.to_numpy())  # RGBA in one uint32 per pixel
    return packed.view(np.uint8).reshape(*packed.shape, 4)


def _hex(color: NDArray[Any]) -> str:
    text: str = require("matplotlib.colors", extra="plot").to_hex(color)
    return text


def _hexes(cmap: Colormap) -> list[str]:
    return [_hex(color) for color in np.asarray(cmap(np.linspace(0, 1, 256)))]
