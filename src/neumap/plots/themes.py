"""How pictures look: a theme is a background, colours for classes and a colormap for numbers.

The two default palettes come from a search. Among 6,000 colours of even lightness and chroma, they
are the twelve whose smallest mutual distance in OKLab is largest, under normal vision and under
simulated protanopia and deuteranopia (Machado, Oliveira and Fernandes 2009). Each is also far from
the background and from the grey of missing labels. The first colours of a palette are the easiest
to distinguish. The other themes have the names of ``umap.plot``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = ["THEMES", "Theme", "class_colors", "colormap", "is_dark", "theme_of"]

LIGHT_PALETTE = (
    "#375cd5", "#e2b810", "#b51c54", "#319904", "#6cbbfe", "#894890",
    "#2a5503", "#b77596", "#9b79fa", "#92ac6d", "#5f189a", "#7d0963",
)  # fmt: skip
DARK_PALETTE = (
    "#34a7c5", "#e8b91c", "#d34c11", "#a4ce90", "#636dec", "#b67474",
    "#67cdfe", "#8070a8", "#4ffdff", "#abf7a1", "#da8300", "#f1ec1a",
)  # fmt: skip

# Colormaps that matplotlib does not have, from the background colour on. They are created when used
# and never registered, so that another library can register the same names.
RAMPS = {
    "fire": ("#000000", "#5b0a00", "#b81e00", "#f06a00", "#ffc637", "#ffffff"),
    "darkblue": ("#000000", "#14196b", "#1f4fd0", "#3aa6f0", "#a6e8f5", "#ffffff"),
    "darkgreen": ("#000000", "#0b3b1c", "#1c7a3c", "#4bb85a", "#b9e36b", "#fdfccb"),
    "darkred": ("#000000", "#520b16", "#a3172b", "#e0493f", "#f7a06a", "#fff1d6"),
    "darkpurple": ("#000000", "#2d1160", "#6a2aa8", "#b050d0", "#e79ae0", "#fff0fb"),
    "ink": ("#c9d8f0", "#7fa3e0", "#375cd5", "#22348f", "#101a4a"),
    "glow": ("#16324a", "#1f6f8f", "#34a7c5", "#8fe0e0", "#f5fff5"),
    "haze": ("#f0f1f4", "#c3c8d2", "#8a92a3", "#4d5566"),
    "mist": ("#171b22", "#343b48", "#626c7d", "#aeb7c5"),
}


@dataclass(frozen=True)
class Theme:
    """The colours of a picture.

    Attributes
    ----------
    background : str
        Colour behind the points.
    cmap : str
        Colormap for numbers (and for density, where there are no labels).
    palette : tuple of str
        Colours of classes; empty to take them from ``color_key_cmap``.
    color_key_cmap : str or None
        Colormap from which classes take their colours when the palette is empty.
    edge_cmap : str
        Colormap for the edges of a graph, from weak to strong.
    density_cmap : str or None
        Colormap for pictures by density; None to use ``cmap``.
    """

    background: str
    cmap: str
    palette: tuple[str, ...] = ()
    color_key_cmap: str | None = None
    edge_cmap: str = "haze"
    density_cmap: str | None = None

    @property
    def dark(self) -> bool:
        """Whether light text is needed."""
        return is_dark(self.background)

    @property
    def text(self) -> str:
        """Colour of legends, captions and axes."""
        return "#e6e9ef" if self.dark else "#2b303b"

    @property
    def faint(self) -> str:
        """Colour of the caption and of grid lines."""
        return "#8b93a1" if self.dark else "#8a909c"

    @property
    def missing(self) -> str:
        """Colour of points without a label or value."""
        return "#5b626d" if self.dark else "#b4b8bf"


THEMES: dict[str, Theme] = {
    "light": Theme("#ffffff", "viridis", LIGHT_PALETTE, None, "haze", "ink"),
    "dark": Theme("#0e1116", "viridis", DARK_PALETTE, None, "mist", "glow"),
    "fire": Theme("#000000", "fire", (), "rainbow", "fire"),
    "viridis": Theme("#000000", "viridis", (), "Spectral", "gray"),
    "inferno": Theme("#000000", "inferno", (), "Spectral", "gray"),
    "blue": Theme("#ffffff", "Blues", (), "tab20", "gray_r"),
    "red": Theme("#ffffff", "Reds", (), "tab20b", "gray_r"),
    "green": Theme("#ffffff", "Greens", (), "tab20c", "gray_r"),
    "darkblue": Theme("#000000", "darkblue", (), "rainbow", "darkred"),
    "darkred": Theme("#000000", "darkred", (), "rainbow", "darkblue"),
    "darkgreen": Theme("#000000", "darkgreen", (), "rainbow", "darkpurple"),
}


def theme_of(
    theme: str | Theme | None,
    *,
    cmap: str | Colormap | None = None,
    background: str | None = None,
    color_key_cmap: str | None = None,
    edge_cmap: str | None = None,
) -> Theme:
    """Return the theme of a picture: a named one, overridden by the caller's arguments.

    Without a theme the background decides: a dark one selects the dark theme.
    """
    chosen = _named(theme, background)
    changes: dict[str, Any] = {}
    if background is not None:
        changes["background"] = background
    if color_key_cmap is not None:
        changes |= {"palette": (), "color_key_cmap": color_key_cmap}
    if cmap is not None:
        changes |= {"cmap": cmap, "density_cmap": None}
    if edge_cmap is not None:
        changes["edge_cmap"] = edge_cmap
    return replace(chosen, **changes)


def _named(theme: str | Theme | None, background: str | None) -> Theme:
    if isinstance(theme, Theme):
        return theme
    if theme is None:
        return THEMES["dark" if background is not None and is_dark(background) else "light"]
    if theme not in THEMES:
        raise ValueError(
            f"theme must be one of {', '.join(THEMES)}, got {theme!r}. "
            "Use one of these names or a neumap.plots.Theme."
        )
    return THEMES[theme]


def is_dark(color: str) -> bool:
    """Return whether a background is dark, by relative luminance as in WCAG 2."""
    rgb = np.asarray(require("matplotlib.colors", extra="plot").to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return bool(linear @ (0.2126, 0.7152, 0.0722) < 0.18)


def colormap(ramp: str | Colormap) -> Colormap:
    """Return a colormap by name: one of neumap's first, then one of matplotlib's."""
    if not isinstance(ramp, str):
        return ramp
    if ramp in RAMPS:
        colors = require("matplotlib.colors", extra="plot")
        own: Colormap = colors.LinearSegmentedColormap.from_list(ramp, RAMPS[ramp])
        return own
    matplotlib = require("matplotlib", extra="plot")
    try:
        named: Colormap = matplotlib.colormaps[ramp]
    except KeyError as error:
        raise ValueError(
            f"cmap must be the name of a colormap, got {ramp!r}. Use a matplotlib name such as "
            f"'viridis', or one of {', '.join(RAMPS)}."
        ) from error
    return named


def class_colors(names: tuple[Any, ...], color_key: Any, theme: Theme) -> NDArray[Any]:
    """Return the colours of classes, ``(n_classes, 4)`` floats between 0 and 1.

    ``color_key`` is a dict from label to colour, a sequence with one colour per class in the order
    of ``names``, or None for the theme's colours.
    """
    to_rgba_array = require("matplotlib.colors", extra="plot").to_rgba_array
    if isinstance(color_key, dict):
        absent = [name for name in names if name not in color_key]
        if absent:
            raise ValueError(
                f"color_key must have a colour for every label, got none for {absent[:5]}. "
                "Add these labels, or leave color_key out."
            )
        chosen = [color_key[name] for name in names]
    elif color_key is not None:
        chosen = list(color_key)
        if len(chosen) < len(names):
            raise ValueError(
                f"color_key must have {len(names)} colours, one per label, got {len(chosen)}. "
                "Give more colours, or leave color_key out."
            )
        chosen = chosen[: len(names)]
    else:
        return _own_colors(len(names), theme)
    colors: NDArray[Any] = to_rgba_array(chosen)
    return colors


def _own_colors(n_classes: int, theme: Theme) -> NDArray[Any]:
    to_rgba_array = require("matplotlib.colors", extra="plot").to_rgba_array
    if theme.palette:
        base: NDArray[Any] = to_rgba_array(theme.palette)
        rounds = [_toward(base, target) for target in (None, "#ffffff", "#000000")]
        every = np.concatenate(rounds)
        return every[np.arange(n_classes) % len(every)]
    ramp = colormap(theme.color_key_cmap or theme.cmap)
    listed = getattr(ramp, "colors", None)
    if listed is not None and n_classes <= len(listed) <= 24:  # qualitative colormaps such as tab20
        return to_rgba_array(listed)[:n_classes]  # type: ignore[no-any-return]
    spread: NDArray[Any] = np.asarray(ramp(np.linspace(0, 1, max(n_classes, 1))))[:n_classes]
    return spread


def _toward(colors: NDArray[Any], target: str | None) -> NDArray[Any]:
    """Return tints and shades of a palette, for more classes than it has colours."""
    if target is None:
        return colors
    goal = np.array(require("matplotlib.colors", extra="plot").to_rgba(target))
    return 0.55 * colors + 0.45 * goal
