"""The colours of a page: those of :mod:`neumap.plots`, without matplotlib."""

from __future__ import annotations

from typing import Any

from neumap.plots.themes import DARK_PALETTE, LIGHT_PALETTE

__all__ = ["PALETTES"]

# Nine colours of matplotlib's viridis (CC0), evenly spaced; the page interpolates.
VIRIDIS = (
    "#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30",
    "#fde725",
)  # fmt: skip


def _toward(color: str, target: int) -> str:
    """Return a tint (target 255) or a shade (target 0), as `plots` mixes them."""
    parts = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(0.55 * part + 0.45 * target):02x}" for part in parts)


def _classes(palette: tuple[str, ...]) -> list[str]:
    return [*palette, *(_toward(color, target) for target in (255, 0) for color in palette)]


PALETTES: dict[str, dict[str, Any]] = {
    "light": {"classes": _classes(LIGHT_PALETTE), "ramp": VIRIDIS, "missing": "#b4b8bf"},
    # On a dark background the dark end of the ramp would not be seen.
    "dark": {"classes": _classes(DARK_PALETTE), "ramp": VIRIDIS[1:], "missing": "#5b626d"},
}
