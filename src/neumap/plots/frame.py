"""The frame around a picture: axes of the right kind and size, legend, colour bar, caption.

Without ``ax=`` a picture gets a new pyplot figure with the theme's background, so that notebooks
show it. Nothing here shows a figure or selects a backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neumap._labels import UNLABELLED
from neumap._optional import require
from neumap.plots.reading import Categories
from neumap.plots.themes import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "add_colorbar",
    "add_legend",
    "axes_for",
    "bare",
    "plain_axes",
    "point_style",
    "write_names_on_map",
]

ROWS_PER_COLUMN = 20
MOST_ENTRIES = 40
LONGEST_NAME = 32
POINTS_PER_INCH = 72


def axes_for(
    ax: Axes | None, theme: Theme, width: float, height: float, *, n_components: int = 2
) -> Axes:
    """Return axes to draw on: the given ones with the theme's background, or a new figure's.

    ``width`` and ``height`` are in pixels at matplotlib's ``figure.dpi``.
    """
    if ax is None:
        pyplot = require("matplotlib.pyplot", extra="plot")
        dpi = pyplot.rcParams["figure.dpi"]
        figure = pyplot.figure(
            figsize=(width / dpi, height / dpi), layout="constrained", facecolor=theme.background
        )
        made: Axes = figure.add_subplot(projection="3d" if n_components == 3 else None)
        made.set_facecolor(theme.background)
        return made
    if (getattr(ax, "name", "") == "3d") != (n_components == 3):
        raise ValueError(
            f"ax must be axes for {n_components} components, got projection "
            f"{getattr(ax, 'name', '?')!r}. Create them with "
            "figure.add_subplot(projection='3d') for three components, without projection for two."
        )
    ax.set_facecolor(theme.background)
    return ax


def bare(ax: Axes, theme: Theme, caption: str = "") -> None:
    """Remove ticks and spines, which have no meaning on a map, and keep equal scales."""
    if ax.name == "3d":
        _bare_3d(ax, theme)
    else:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.margins(0.04)
        # "datalim" keeps the box and widens the limits, so that the map fills the available space
        ax.set_aspect("equal", adjustable="datalim")
    if caption:
        draw: Any = ax.text2D if ax.name == "3d" else ax.text  # type: ignore[attr-defined]
        draw(
            0.99, 0.01, caption, transform=ax.transAxes, ha="right", va="bottom",
            color=theme.faint, fontsize="x-small", gid="caption",
        )  # fmt: skip


def _bare_3d(ax: Any, theme: Theme) -> None:
    ax.set(xticks=[], yticks=[], zticks=[])
    ax.set_aspect("equal")
    ax.set_box_aspect(None, zoom=1.15)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
        axis.line.set_color(theme.missing)


def point_style(ax: Axes, n_points: int) -> tuple[float, float]:
    """Return marker area (square points) and alpha for a number of points in axes of this size.

    The area falls more slowly than 1/n: a map has dense and sparse regions, and the sparse ones
    must stay readable.
    """
    box = ax.get_window_extent()
    inch = POINTS_PER_INCH / ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    area = box.width * box.height * inch**2
    size = float(np.clip(0.014 * area / max(n_points, 1) ** 0.75, 0.3, 40.0))
    alpha = float(np.clip(0.95 - 0.12 * np.log10(max(n_points, 1) / 500), 0.5, 0.95))
    return size, alpha


def add_legend(
    ax: Axes, categories: Categories, colors: NDArray[Any], theme: Theme, *, n_points: int
) -> None:
    """Add a legend of classes: in columns if long, only the most frequent classes if very long."""
    lines = require("matplotlib.lines", extra="plot")
    shown, n_hidden = _classes_to_list(categories)
    entries = [(short_name(categories.names[code]), colors[code]) for code in shown]
    if n_hidden:
        entries.append((f"and {n_hidden} more", (0, 0, 0, 0)))
    if (categories.codes == UNLABELLED).any():
        entries.append(("no label", theme.missing))
    handles = [
        lines.Line2D([], [], linestyle="", marker="o", markersize=6, markeredgewidth=0,
                     color=color, label=name)
        for name, color in entries
    ]  # fmt: skip
    place: dict[str, Any] = {"loc": "upper right" if n_points > 20_000 else "best"}
    if ax.get_figure(root=True).get_layout_engine() is not None:  # type: ignore[union-attr]
        place = {
            "loc": "center left",
            "bbox_to_anchor": (1.0, 0.5),
        }  # the layout engine reserves the space
    ax.legend(
        handles=handles, ncols=-(-len(handles) // ROWS_PER_COLUMN), frameon=False,
        labelcolor=theme.text, fontsize="small", handletextpad=0.2, columnspacing=0.8,
        title=categories.title or None, title_fontproperties={"size": "small", "weight": "bold"},
        **place,
    ).get_title().set_color(theme.text)  # fmt: skip


def _classes_to_list(categories: Categories) -> tuple[list[int], int]:
    counts = np.bincount(
        categories.codes[categories.codes != UNLABELLED], minlength=len(categories.names)
    )
    present = np.flatnonzero(counts)
    if present.size <= MOST_ENTRIES:
        return present.tolist(), 0
    frequent = np.sort(np.argsort(-counts, kind="stable")[: MOST_ENTRIES - 1])
    return frequent.tolist(), present.size - frequent.size


def short_name(name: object) -> str:
    """Return a label as text that is safe for matplotlib: truncated if long, dollars escaped."""
    text = " ".join(str(name).split()) or "(empty)"
    cut = text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
    # matplotlib leaves names with a leading underscore out of the legend
    return ("\u200a" + cut if cut.startswith("_") else cut).replace("$", r"\$")


def write_names_on_map(
    ax: Axes, positions: NDArray[Any], categories: Categories, theme: Theme
) -> None:
    """Write each class's name at its point nearest to the median of the class."""
    effects = require("matplotlib.patheffects", extra="plot")
    for code, name in enumerate(categories.names):
        members = positions[categories.codes == code]
        if not len(members):
            continue
        from_median = np.linalg.norm(members - np.median(members, axis=0), axis=1)
        x, y = members[np.argmin(from_median)]
        text = ax.text(
            x, y, short_name(name), ha="center", va="center", color=theme.text,
            fontsize="medium", fontweight="bold", gid="class name", clip_on=True,
        )  # fmt: skip
        text.set_path_effects([effects.withStroke(linewidth=3, foreground=theme.background)])


def add_colorbar(
    ax: Axes, mappable: Any, theme: Theme, title: str = "", *, whole_numbers: bool = False
) -> None:
    """Add a narrow colour bar next to the axes."""
    bar = ax.get_figure().colorbar(  # type: ignore[union-attr]
        mappable, ax=ax, shrink=0.6, aspect=32, pad=0.01
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=theme.text, labelsize="small", length=0)
    bar.set_label(title, color=theme.text)
    if whole_numbers:
        bar.locator = require("matplotlib.ticker", extra="plot").MaxNLocator(integer=True)
        bar.update_ticks()
    if bar.solids is not None:
        bar.solids.set_alpha(1)


def plain_axes(ax: Axes, theme: Theme) -> None:
    """Style axes for curves and histograms: two spines, faint horizontal grid lines."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(theme.missing)
    ax.tick_params(which="both", colors=theme.text, length=0)
    ax.grid(axis="y", color=theme.missing, alpha=0.3, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.xaxis.label.set_color(theme.text)
    ax.yaxis.label.set_color(theme.text)
