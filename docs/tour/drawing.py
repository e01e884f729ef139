"""Embeddings drawn next to each other, as small figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from neumap import plots


def draw_maps(
    file: Path,
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    columns: int | None = None,
    same_axes: bool = False,
) -> None:
    """Draw one panel per embedding; `maps` holds (positions, labels) by title.

    `same_axes` gives all panels the same scale, for rows of one embedding.
    """
    n_columns = columns or len(maps)
    n_rows = -(-len(maps) // n_columns)
    figure, panels = pyplot.subplots(
        n_rows,
        n_columns,
        figsize=(4 * n_columns, 4 * n_rows),
        squeeze=False,
        layout="constrained",
    )
    colors = colors_of(np.concatenate([labels for _, labels in maps.values()]))
    for ax, (title, (positions, labels)) in zip(panels.flat, maps.items(), strict=True):
        last = ax is panels[0, -1]  # one legend for all panels
        plots.points(positions, labels=labels, color_key=colors, ax=ax, show_legend=last)
        ax.set_title(title, fontsize="medium")
    if same_axes:
        give_one_scale(panels.flat, np.concatenate([positions for positions, _ in maps.values()]))
    save(figure, file)


def colors_of(labels: np.ndarray) -> dict[int, str]:
    """Return one colour per class, the same in all panels."""
    classes = np.unique(labels[labels >= 0]).tolist()
    return dict(zip(classes, plots.THEMES["light"].palette, strict=False))


def give_one_scale(panels: Iterable[Axes], positions: np.ndarray) -> None:
    """Set the same limits in every panel, so that all positions fit."""
    center = (positions.min(axis=0) + positions.max(axis=0)) / 2
    reach = 0.55 * np.ptp(positions, axis=0).max()
    for ax in panels:
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlim(center[0] - reach, center[0] + reach)
        ax.set_ylim(center[1] - reach, center[1] + reach)


def save(picture: object, file: Path) -> None:
    """Write a small figure and close it."""
    plots.save(picture, file, dpi=80)
    pyplot.close("all")
