"""Training curves: one line per component of the loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.plots import frame
from neumap.plots.themes import Theme, class_colors, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["loss"]


def loss(
    history: Any,
    *,
    components: Sequence[str] | None = None,
    log: bool = False,
    theme: str | Theme | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss per epoch, with the validation loss of each component.

    Parameters
    ----------
    history : mapping from name to sequence of float, or fitted object
        One value per epoch. A fitted object has it in ``history_`` or ``_history``. The line
        connects the values on both sides of a NaN, as for a validation every few epochs.
    components : sequence of str, optional
        Names to draw. By default every name that contains "loss", or all when none does.
    log : bool, default=False
        Logarithmic axis, for losses that span orders of magnitude.
    theme : str or Theme, optional
        As in `points`.
    ax : matplotlib Axes, optional
        Where to draw. A new figure by default.

    Returns
    -------
    matplotlib Axes
        x axis "Epoch" (the first epoch is 1), y axis "Cross Entropy". The validation of a component
        is dashed and has its colour.

    Raises
    ------
    ValueError
        If the history is empty, a name is unknown, or a loss is zero or negative with ``log``.

    Examples
    --------
    >>> from neumap import plots
    >>> ax = plots.loss({"loss": [2.0, 1.0], "val_loss": [2.5, 1.5]})
    >>> ax.get_xlabel(), ax.get_ylabel(), len(ax.lines)
    ('Epoch', 'Cross Entropy', 2)
    """
    curves = _curves(history, components)
    if log:
        _check_positive(curves)
    look = theme_of(theme)
    axes = frame.axes_for(ax, look, 720, 430)
    families = tuple(dict.fromkeys(_family(name) for name in curves))
    color_of = dict(zip(families, class_colors(families, None, look), strict=True))
    for name, curve in curves.items():
        epochs = np.flatnonzero(~np.isnan(curve))
        axes.plot(
            epochs + 1,
            curve[epochs],
            label=_readable(name),
            color=color_of[_family(name)],
            linestyle="--" if _is_validation(name) else "-",
            linewidth=2.2 if name == "loss" else 1.6,
            marker="o" if epochs.size == 1 else None,  # a line needs two points
        )
    _dress(axes, look, log=log, legend=len(curves) > 1)
    return axes


def _curves(history: Any, components: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    found = getattr(history, "history_", getattr(history, "_history", history))
    if not isinstance(found, Mapping) or not any(len(curve) for curve in found.values()):
        raise ValueError(
            f"history must be a mapping from name to one loss per epoch, got {found!r:.80}. "
            "Pass the fitted object's history_."
        )
    names = _names_to_draw(found, components)
    return {name: np.asarray(found[name], dtype=np.float64) for name in names}


def _names_to_draw(history: Mapping[str, Any], components: Sequence[str] | None) -> Iterable[str]:
    if components is None:
        return [name for name in history if "loss" in name] or list(history)
    unknown = [name for name in components if name not in history]
    if unknown:
        raise ValueError(
            f"components must be among {', '.join(history)}, got {', '.join(unknown)}. "
            "Leave components out to draw all of them."
        )
    return components


def _check_positive(curves: Mapping[str, NDArray[Any]]) -> None:
    below = [name for name, curve in curves.items() if (curve <= 0).any()]
    if below:
        raise ValueError(
            f"Losses must be positive for a logarithmic axis, got zero or negative ones in "
            f"{', '.join(below)}. Pass log=False, or leave these names out of components."
        )


def _is_validation(name: str) -> bool:
    return name.startswith("val_")


def _family(name: str) -> str:
    return name.removeprefix("val_")


def _readable(name: str) -> str:
    """Turn ``val_reconstruction_loss`` into "reconstruction, validation", ``loss`` into "total".

    ``val_loss`` holds only the validated components, not the total.
    """
    if name == "val_loss":
        return "validation"
    words = _family(name).removesuffix("_loss").replace("_", " ").replace("umap", "UMAP")
    plain = "total" if words == "loss" else words
    return f"{plain}, validation" if _is_validation(name) else plain


def _dress(ax: Axes, theme: Theme, *, log: bool, legend: bool) -> None:
    frame.plain_axes(ax, theme)
    ax.set(xlabel="Epoch", ylabel="Cross Entropy", yscale="log" if log else "linear")
    ticker = require("matplotlib.ticker", extra="plot")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    if legend:
        ax.legend(frameon=False, labelcolor=theme.text)
