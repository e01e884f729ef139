"""Pictures of decoded data: originals with their reconstructions, and the map as images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumap._optional import require
from neumap.plots import frame
from neumap.plots.reading import positions_of
from neumap.plots.scatter import points
from neumap.plots.themes import Theme, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["inverse_grid", "reconstruction"]

PAIRS_PER_ROW = 10


def reconstruction(
    originals: ArrayLike,
    reconstructions: ArrayLike,
    *,
    dims: Sequence[int] | None = None,
    n: int = 10,
    cmap: str = "gray",
    theme: str | Theme | None = None,
) -> Figure:
    """Draw originals above their reconstructions.

    Parameters
    ----------
    originals, reconstructions : array of shape (n_samples, ...)
        Images as flat rows or as images, both in the same form and order.
    dims : sequence of int, optional
        Shape of one image: (height, width), (height, width, 1) or (height, width, 3). By default
        the arrays' own shape, or a square when flat rows have a square number of features.
    n : int, default=10
        Number of pairs, the first ones, ten per line. Pass ``X[rows]`` to choose others.
    cmap : str, default="gray"
        Colormap of grey images. Both lines share the scale of the originals.
    theme : str or Theme, optional
        As in `points`.

    Returns
    -------
    matplotlib Figure
        Two axes per pair.

    Examples
    --------
    >>> import numpy as np
    >>> from neumap import plots
    >>> figure = plots.reconstruction(np.eye(4), np.full((4, 4), 0.25), n=3)
    >>> len(figure.axes)
    6
    """
    left, right = np.asarray(originals), np.asarray(reconstructions)
    if left.shape[:1] != right.shape[:1] or left[:1].size != right[:1].size or not left.size:
        raise ValueError(
            f"reconstructions must be as many as originals and of the same size, got {left.shape} "
            f"and {right.shape}. Reconstruct exactly the rows that you pass."
        )
    shape = _image_shape(left, dims)
    n_pairs = max(1, min(n, len(left)))
    tops = _as_images(left[:n_pairs], shape)
    bottoms = _as_images(right[:n_pairs], shape)
    look = theme_of(theme)
    limits: dict[str, Any] = {"vmin": float(tops.min()), "vmax": float(tops.max())}
    columns = min(n_pairs, PAIRS_PER_ROW)
    rows = -(-n_pairs // columns)
    pyplot = require("matplotlib.pyplot", extra="plot")
    figure: Figure = pyplot.figure(
        figsize=(1.0 * columns + 0.6, 2.1 * rows), layout="constrained", facecolor=look.background
    )
    for pair in range(n_pairs):
        row, column = divmod(pair, columns)
        for below, images in enumerate((tops, bottoms)):
            cell = (2 * row + below) * columns + column + 1
            ax = figure.add_subplot(2 * rows, columns, cell, xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.imshow(_displayable(images[pair], limits), cmap=cmap, **limits)
            if column == 0:
                ax.set_ylabel(("original", "decoded")[below], color=look.text, fontsize="small")
    return figure


def inverse_grid(  # noqa: PLR0913  the arguments of a picture
    umap_object: Any,
    inverse_transform: Callable[[NDArray[Any]], ArrayLike] | None = None,
    dims: Sequence[int] | None = None,
    *,
    n: int = 20,
    everywhere: bool = False,
    labels: Any = None,
    theme: str | Theme | None = None,
    width: int = 900,
    height: int = 900,
    ax: Axes | None = None,
) -> Axes:
    """Draw the map as a grid of decoded positions.

    Parameters
    ----------
    umap_object : array of shape (n_samples, 2), or fitted object
        Positions.
    inverse_transform : callable, optional
        Maps positions ``(m, 2)`` float32 to data ``(m, n_features)`` or images; by default the
        fitted object's method.
    dims : sequence of int, optional
        Shape of one image, as in `reconstruction`.
    n : int, default=20
        Cells along the longer side of the map.
    everywhere : bool, default=False
        Also decode cells without any point. The decoder extrapolates there.
    labels : sequence of length n_samples, optional
        Classes of the points, drawn in colour behind the images.
    theme, width, height, ax
        As in `points`.

    Returns
    -------
    matplotlib Axes
        The axes. ``ax.images[0]`` is the mosaic, with grey images in the colour of the text.

    Raises
    ------
    ValueError
        If there is no decoder, or it returns another number of rows.
    """
    decode = getattr(umap_object, "inverse_transform", None)
    decode = decode if inverse_transform is None else inverse_transform
    if decode is None:
        raise ValueError(
            f"inverse_transform must be a function from positions to data, got None, and "
            f"{type(umap_object).__name__} has no inverse_transform. Pass inverse_transform."
        )
    positions = positions_of(umap_object, dimensions=(2,))
    placed = positions[np.isfinite(positions).all(axis=1)]
    cells = _Cells.over(placed, n)
    chosen = np.ones(cells.shape, dtype=bool) if everywhere else cells.occupied(placed)
    decoded = np.asarray(decode(cells.centres()[chosen.ravel()].astype(np.float32)))
    if len(decoded) != chosen.sum():
        raise ValueError(
            f"The decoded data must have {chosen.sum()} rows, one per position, got shape "
            f"{decoded.shape}. "
            "Check inverse_transform."
        )
    look = theme_of(theme)
    axes = points(
        umap_object, labels, theme=look, width=width, height=height, ax=ax,
        alpha=0.6 if labels is not None else 0.12,
    )  # fmt: skip
    tiles = _tiles(_as_images(decoded, _image_shape(decoded, dims)), look)
    axes.imshow(
        _mosaic(tiles, chosen), extent=cells.extent, origin="upper", aspect="auto",
        interpolation="nearest", zorder=3,
    )  # fmt: skip
    frame.bare(axes, look)
    return axes


class _Cells:
    """Square cells over the map; rows count from the top, as in an image."""

    def __init__(self, left: float, top: float, size: float, shape: tuple[int, int]) -> None:
        self.left, self.top, self.size, self.shape = left, top, size, shape

    @classmethod
    def over(cls, positions: NDArray[Any], n: int) -> _Cells:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}. Try n=20.")
        low, high = positions.min(axis=0), positions.max(axis=0)
        size = float((high - low).max()) / n or 1.0
        columns, rows = (max(1, int(np.ceil(span / size - 1e-9))) for span in high - low)
        middle = (low + high) / 2
        return cls(
            float(middle[0] - columns * size / 2),
            float(middle[1] + rows * size / 2),
            size,
            (rows, columns),
        )

    @property
    def extent(self) -> tuple[float, float, float, float]:
        rows, columns = self.shape
        right, bottom = self.left + columns * self.size, self.top - rows * self.size
        return self.left, right, bottom, self.top

    def centres(self) -> NDArray[Any]:
        """Return the centre of every cell, ``(rows * columns, 2)``, row by row from the top."""
        rows, columns = self.shape
        x = self.left + (np.arange(columns) + 0.5) * self.size
        y = self.top - (np.arange(rows) + 0.5) * self.size
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)

    def occupied(self, positions: NDArray[Any]) -> NDArray[Any]:
        """Return which cells contain a point, ``(rows, columns)``."""
        rows, columns = self.shape
        column = np.clip(((positions[:, 0] - self.left) / self.size).astype(int), 0, columns - 1)
        row = np.clip(((self.top - positions[:, 1]) / self.size).astype(int), 0, rows - 1)
        held = np.zeros(self.shape, dtype=bool)
        held[row, column] = True
        return held


def _image_shape(data: NDArray[Any], dims: Sequence[int] | None) -> tuple[int, ...]:
    n_features = int(np.prod(data.shape[1:]))
    if dims is not None:
        shape = tuple(int(side) for side in dims)
    elif data.ndim >= 3:
        shape = data.shape[1:]
    else:
        side = round(n_features**0.5)
        shape = (side, side)
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    if not is_image or int(np.prod(shape)) != n_features:
        raise ValueError(
            f"dims must be (height, width), (height, width, 1) or (height, width, 3) with "
            f"{n_features} values in total, got {shape}. Pass dims that fit the data."
        )
    return shape[:2] if shape[2:] == (1,) else shape


def _as_images(data: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return data.reshape(len(data), *shape).astype(np.float64)


def _displayable(image: NDArray[Any], limits: dict[str, Any]) -> NDArray[Any]:
    """Scale colour images to the range of the originals; matplotlib scales grey ones itself."""
    if image.ndim == 2:
        return image
    span = limits["vmax"] - limits["vmin"] or 1.0
    return np.asarray(np.clip((image - limits["vmin"]) / span, 0, 1))


def _tiles(images: NDArray[Any], theme: Theme) -> NDArray[Any]:
    """Images as RGBA ``(m, height, width, 4)``: grey ones as opacity, so that points show."""
    low, high = np.percentile(images, (5, 99.5)) if images.size else (0.0, 1.0)
    scaled = np.clip((images - low) / (high - low or 1.0), 0, 1)
    tiles = np.ones((*images.shape[:3], 4))
    if images.ndim == 4:
        tiles[..., :3] = scaled
        return tiles
    tiles[..., :3] = require("matplotlib.colors", extra="plot").to_rgb(theme.text)
    tiles[..., 3] = scaled
    return tiles


def _mosaic(tiles: NDArray[Any], chosen: NDArray[Any]) -> NDArray[Any]:
    """Return one RGBA image with each tile in its cell, transparent elsewhere."""
    rows, columns = chosen.shape
    _, height, width, _ = tiles.shape
    board = np.zeros((rows, columns, height, width, 4))
    board[chosen] = tiles
    return board.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 4)
