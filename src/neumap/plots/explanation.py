"""Which features move the points of a map: bars for the strongest ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap.plots import frame
from neumap.plots.themes import Theme, class_colors, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["explanation"]


def explanation(
    effects: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    n: int = 15,
    theme: str | Theme | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the features that move points most, as bars.

    Parameters
    ----------
    effects : array of shape (n_samples, n_components, n_features), (n_samples, n_features) or
        (n_features,)
        What ``ParametricUMAP.explain`` returns, for all rows or some of them. Multiply it by
        ``X.std(axis=0)`` to compare features of different units.
    names : sequence of str, optional
        One per feature; by default their numbers. ``model.feature_names_in_`` has those of a table.
    n : int, default=15
        Number of bars.
    theme : str or Theme, optional
        As in `points`.
    ax : matplotlib Axes, optional
        Where to draw. A new figure by default.

    Returns
    -------
    matplotlib Axes
        The mean distance that a point moves per unit of a feature, strongest at the top. With
        several rows a thin line reaches from the first to the third quartile.

    Raises
    ------
    ValueError
        If `effects` has another number of axes or is not finite, or `names` another length.

    Examples
    --------
    >>> import numpy as np
    >>> from neumap import plots
    >>> ax = plots.explanation(np.array([0.5, 2.0, 1.0]), names=["height", "width", "depth"])
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['width', 'depth', 'height']
    """
    lengths = _lengths(effects)
    labels = _labels(names, lengths.shape[1])
    means = lengths.mean(axis=0)
    strongest = np.argsort(-means, kind="stable")[: max(1, n)]
    look = theme_of(theme)
    axes = frame.axes_for(ax, look, 640, 120 + 28 * len(strongest))
    places = np.arange(len(strongest))
    axes.barh(places, means[strongest], color=class_colors(("effect",), None, look)[0], height=0.7)
    if len(lengths) > 1:
        low, high = np.percentile(lengths[:, strongest], (25, 75), axis=0)
        axes.hlines(places, low, high, color=look.text, linewidth=1.2)
    frame.plain_axes(axes, look)
    axes.set_yticks(places, [labels[at] for at in strongest])
    axes.invert_yaxis()
    axes.set(xlabel="Distance on the map per unit of the feature", ylabel="")
    return axes


def _lengths(effects: ArrayLike) -> NDArray[np.float64]:
    """Return one number per row and feature."""
    values: NDArray[Any] = np.asarray(effects, dtype=np.float64)
    if values.ndim not in (1, 2, 3) or not values.size:
        raise ValueError(
            "effects must have one, two or three axes, the last one for features, got shape "
            f"{values.shape}. Pass what model.explain(X) returns."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            "effects must be finite, got NaN or infinity. Leave out the rows where they are not."
        )
    if values.ndim == 3:
        return np.asarray(np.linalg.norm(values, axis=1))
    return np.asarray(np.abs(np.atleast_2d(values)))


def _labels(names: Sequence[str] | None, n_features: int) -> list[str]:
    if names is None:
        return [str(at) for at in range(n_features)]
    if len(names) != n_features:
        raise ValueError(
            f"names must hold one name per feature, got {len(names)} for {n_features} features. "
            "Leave names out to use numbers."
        )
    return [str(name) for name in names]
