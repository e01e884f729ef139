"""An interactive map in the browser (bokeh): zoom, hover, search, classes to show and hide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap._labels import UNLABELLED
from neumap._optional import require
from neumap.plots.files import save
from neumap.plots.reading import (
    Categories,
    categories_of,
    chosen_rows,
    positions_of,
    title_of,
    values_of,
)
from neumap.plots.themes import Theme, class_colors, colormap, theme_of

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = ["interactive"]

MOST_SWITCHES = 30  # classes with a clickable entry in the legend
OWN_COLUMNS = frozenset({"x", "y", "alpha", "color", "label", "value"})
# Bokeh reads a tooltip as HTML with placeholders such as @{name}{safe}, so only a name without any
# meaning there may become part of it.
PLAIN_NAME = re.compile(r"\w([\w .,()/%+-]*[\w.,()/%+-])?")
# Starts of TeX for bokeh, which would load MathJax from the network.
TEX = re.compile(r"\$(?=\$)|\\(?=[\[(])")
SEARCH_SCRIPT = Path(__file__).with_name("search.js")


def interactive(  # noqa: PLR0913  the arguments of umap.plot
    umap_object: Any,
    labels: Any = None,
    values: Any = None,
    hover_data: Any = None,
    *,
    tools: Any = None,
    theme: str | Theme | None = None,
    cmap: str | Colormap | None = None,
    color_key: Any = None,
    color_key_cmap: str | None = None,
    background: str | None = None,
    width: int = 800,
    height: int = 800,
    point_size: float | None = None,
    subset_points: ArrayLike | None = None,
    interactive_text_search: bool = False,
    interactive_text_search_columns: Sequence[str] | None = None,
    interactive_text_search_alpha_contrast: float = 0.95,
    alpha: float | None = None,
    path: str | Path | None = None,
) -> Any:
    """Draw an embedding that can be zoomed, with a tooltip for every point.

    Parameters
    ----------
    umap_object : array of shape (n_samples, 2), or fitted object
        Positions.
    labels : sequence of length n_samples, optional
        Class of each point, as in `points`. A click on a class in the legend hides it.
    values : sequence of float of length n_samples, optional
        Value of each point, shown by colour with a colour bar.
    hover_data : table or mapping from name to sequence of length n_samples, optional
        What the tooltip shows: a pandas or polars table, or a dict. Text is shown literally, HTML
        in it is not interpreted. Labels and values are always in the tooltip.
    tools : str or list, optional
        Bokeh's tools. If they include a HoverTool, no tooltip is added.
    theme, cmap, color_key, color_key_cmap, background, width, height, alpha
        As in `points`.
    point_size : float, optional
        Diameter in pixels; by default it follows from the number of points.
    subset_points : boolean mask or indices, optional
        Rows to draw. Labels, values and hover_data still need one entry per row of the embedding.
    interactive_text_search : bool, default=False
        Add a search field above the map. Points whose text does not match fade.
    interactive_text_search_columns : sequence of str, optional
        Columns to search; labels and hover_data by default.
    interactive_text_search_alpha_contrast : float, default=0.95
        Opacity of matches; the others get one minus this.
    path : str or Path, optional
        Also write one HTML file that works without network access.

    Returns
    -------
    bokeh figure, or a bokeh column with the search field
        The picture, for ``bokeh.io.show`` or `save`.

    Raises
    ------
    ValueError
        If both labels and values are given, or lengths differ.
    ImportError
        If bokeh (extra ``interactive``) or matplotlib (extra ``plot``, for colours) is missing.
    """
    if labels is not None and values is not None:
        raise ValueError(
            "One of labels and values must be None, got both. A point has one colour: pass the "
            "classes as `labels` or the numbers as `values`, and the other in hover_data."
        )
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}. Use 1 for opaque points.")
    every = positions_of(umap_object, dimensions=(2,))
    rows = chosen_rows(subset_points, len(every))
    rows = rows[np.isfinite(every[rows]).all(axis=1)]
    look = theme_of(theme, cmap=cmap, background=background, color_key_cmap=color_key_cmap)
    columns = _hover_columns(hover_data, len(every))
    own_size = float(np.clip(220 / max(len(rows), 1) ** 0.45, 2, 12))
    marks = {"size": own_size if point_size is None else point_size, "alpha": "alpha"}
    table = {
        "x": every[rows, 0].astype(np.float32),
        "y": every[rows, 1].astype(np.float32),
        "alpha": np.full(len(rows), 0.8 if alpha is None else alpha, dtype=np.float32),
        **{column.key: column.values[rows] for column in columns},
    }
    plot = _empty_figure(look, width, height, tools)
    if labels is not None:
        categories = categories_of(labels, len(every))
        colors = class_colors(categories.names, color_key, look)
        source = _draw_classes(plot, table, categories[rows], colors, look, marks)
    elif values is not None:
        numbers = values_of(values, len(every))[rows]
        source = _draw_values(plot, table, numbers, look, marks, title_of(values))
    else:
        color = _hex(colormap(look.density_cmap or look.cmap)(0.5))
        source = _source(table)
        plot.scatter("x", "y", source=source, color=color, line_color=None, **marks)
    own = {name: name for name in ("label", "value") if name in source.data}
    shown = [*own.items(), *((column.title, column.key) for column in columns)]
    _add_tooltip(plot, shown, tools)
    picture = plot
    if interactive_text_search:
        known = own | {column.title: column.key for column in columns}
        searched = interactive_text_search_columns or [name for name in known if name != "value"]
        keys = _keys_of(searched, known)
        picture = _with_search(plot, source, keys, interactive_text_search_alpha_contrast)
    if path is not None:
        save(picture, path)
    return picture


@dataclass(frozen=True)
class _Column:
    """A column of the tooltip: its title, and the plain name under which bokeh finds it."""

    title: str
    key: str
    values: NDArray[Any]


def _hover_columns(hover_data: Any, n_samples: int) -> list[_Column]:
    if hover_data is None:
        return []
    names = hover_data.keys() if isinstance(hover_data, Mapping) else _table_columns(hover_data)
    columns: list[_Column] = []
    taken = set(OWN_COLUMNS)
    for at, name in enumerate(names):
        values = np.asarray(hover_data[name])
        if values.shape[:1] != (n_samples,):
            raise ValueError(
                f"hover_data column {name!r} must have {n_samples} entries, one per point, got "
                f"shape {values.shape}. Give one entry per point of the whole embedding."
            )
        title = f"{name} (data)" if str(name) in OWN_COLUMNS else str(name)
        is_free = title not in taken and PLAIN_NAME.fullmatch(title)
        columns.append(_Column(title, title if is_free else f"#{at}", values))
        taken.add(columns[-1].key)
    return columns


def _keys_of(titles: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return the columns to search under the names that bokeh knows."""
    unknown = [title for title in titles if title not in known]
    if unknown or not titles:
        raise ValueError(
            f"The columns to search must be among {', '.join(known) or 'none'}, got "
            f"{', '.join(unknown) or 'none'}. Pass labels or hover_data, or name their columns."
        )
    return [known[title] for title in titles]


def _table_columns(table: Any) -> Any:
    if not hasattr(table, "columns"):
        raise ValueError(
            f"hover_data must be a table or a dict of columns, got {type(table).__name__}. "
            "Use {'name': sequence}."
        )
    return table.columns


def _empty_figure(theme: Theme, width: int, height: int, tools: Any) -> Any:
    plotting = require("bokeh.plotting", extra="interactive")
    plot = plotting.figure(
        width=width,
        height=height,
        tools="pan,wheel_zoom,box_zoom,lasso_select,save,reset" if tools is None else tools,
        match_aspect=True,
        background_fill_color=theme.background,
        border_fill_color=theme.background,
        outline_line_color=None,
        output_backend="webgl",  # canvas is slow from about 10,000 points
    )
    plot.grid.visible = False
    plot.axis.visible = False
    plot.toolbar.logo = None
    models = require("bokeh.models", extra="interactive")
    for tool in plot.tools:
        if isinstance(tool, models.WheelZoomTool):
            plot.toolbar.active_scroll = tool
    return plot


def _source(table: dict[str, Any]) -> Any:
    return require("bokeh.models", extra="interactive").ColumnDataSource(table)


def _draw_classes(
    plot: Any,
    table: dict[str, Any],
    categories: Categories,
    colors: NDArray[Any],
    theme: Theme,
    marks: dict[str, Any],
) -> Any:
    models = require("bokeh.models", extra="interactive")
    names = [str(name) for name in categories.names]
    text = np.array([*names, "no label"], dtype=object)[categories.codes]
    palette = np.array([*(_hex(color) for color in colors), theme.missing], dtype=object)
    source = _source({**table, "label": text, "color": palette[categories.codes]})
    mark = {"source": source, "color": "color", "line_color": None, **marks}
    present = np.unique(
        categories.codes
    )  # UNLABELLED is first, so points without a label are drawn underneath
    if len(present) > MOST_SWITCHES:
        plot.scatter("x", "y", **mark)
        return source
    items = []
    for code in present.tolist():
        members = np.flatnonzero(categories.codes == code)
        view = models.CDSView(filter=models.IndexFilter(members))
        renderer = plot.scatter("x", "y", view=view, **mark)
        label = "no label" if code == UNLABELLED else _without_tex(names[code])
        items.append(models.LegendItem(label={"value": label}, renderers=[renderer]))
    if present[0] == UNLABELLED:
        items.append(items.pop(0))
    legend = models.Legend(
        items=items,
        click_policy="hide",
        title=_without_tex(categories.title) or None,
        label_text_color=theme.text,
        title_text_color=theme.text,
        background_fill_alpha=0,
        border_line_color=None,
        spacing=0,
        padding=4,
    )
    plot.add_layout(legend, "right")
    return source


def _draw_values(
    plot: Any,
    table: dict[str, Any],
    values: NDArray[Any],
    theme: Theme,
    marks: dict[str, Any],
    title: str,
) -> Any:
    models = require("bokeh.models", extra="interactive")
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    ramp = [_hex(color) for color in np.asarray(colormap(theme.cmap)(np.linspace(0, 1, 256)))]
    mapper = models.LinearColorMapper(
        palette=ramp, low=float(low), high=float(high), nan_color=theme.missing
    )
    source = _source({**table, "value": values})
    color = {"field": "value", "transform": mapper}
    plot.scatter("x", "y", source=source, color=color, line_color=None, **marks)
    bar = models.ColorBar(
        color_mapper=mapper,
        title=_without_tex(title) or None,
        width=10,
        major_label_text_color=theme.text,
        title_text_color=theme.text,
        background_fill_alpha=0,
        bar_line_color=None,
        major_tick_line_color=None,
    )
    plot.add_layout(bar, "right")
    return source


def _add_tooltip(plot: Any, shown: Sequence[tuple[str, str]], tools: Any) -> None:
    models = require("bokeh.models", extra="interactive")
    given = tools if isinstance(tools, (list, tuple)) else ()
    if any(isinstance(tool, models.HoverTool) for tool in given):
        return
    rows = [("row", "$index"), *((title, f"@{{{key}}}") for title, key in shown)]
    plot.add_tools(models.HoverTool(tooltips=rows))


def _with_search(plot: Any, source: Any, columns: Sequence[str], contrast: float) -> Any:
    models = require("bokeh.models", extra="interactive")
    field = models.TextInput(title="Search:", width=plot.width)
    callback = models.CustomJS(
        args={"source": source, "columns": list(columns), "contrast": contrast},
        code=SEARCH_SCRIPT.read_text(encoding="utf-8"),
    )
    field.js_on_change("value_input", callback)
    return require("bokeh.layouts", extra="interactive").column(field, plot)


def _without_tex(text: str) -> str:
    """Keep bokeh from reading a text as TeX, for which it would load MathJax from the network."""
    return TEX.sub(lambda start: start[0] + "\u200b", text)


def _hex(color: Any) -> str:
    text: str = require("matplotlib.colors", extra="plot").to_hex(color)
    return text
