"""Rows as images: their shape, their range, and small pictures of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_bytes", "image_facts", "image_shape_of", "shrunk", "step_of", "tiles_of"]

MOST_BYTES = 24_000_000
SMALLEST_SIDE = 8


def image_shape_of(
    wanted: Sequence[int] | None, row_shape: Sequence[int], n_features: int
) -> tuple[int, int, int] | None:
    """Return height, width and channels of a row, or None if rows are no images.

    Parameters
    ----------
    wanted : sequence of int or None
        What the user says: (height, width) or (height, width, channels).
    row_shape : sequence of int
        Shape of one row in the model.
    n_features : int
        Numbers per row.

    Raises
    ------
    ValueError
        If `wanted` is no shape of such a row.
    """
    if wanted is not None:
        shape = tuple(int(side) for side in wanted)
        if not _is_image(shape) or int(np.prod(shape)) != n_features:
            raise ValueError(
                f"image_shape must be (height, width), (height, width, 1) or (height, width, 3) "
                f"with {n_features} values in total, got {shape}. Pass the shape of one row."
            )
        return shape[0], shape[1], (*shape, 1)[2]
    shape = tuple(row_shape)
    return (shape[0], shape[1], (*shape, 1)[2]) if _is_image(shape) else None


def _is_image(shape: Sequence[int]) -> bool:
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    return is_image and min(shape[:2]) > 1


def image_facts(rows: NDArray[np.float32], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return how a drawing becomes a row like these.

    Parameters
    ----------
    rows : array of shape (n, n_features), float32
        A sample.
    shape : tuple of int
        Height, width and channels.

    Returns
    -------
    dict
        ``low`` and ``high``, the range of the values; ``ink``, whether the background is the lower
        or the higher end; ``box``, where the ink usually lies (top, bottom, left, right as shares),
        None if the edge of the images is not empty.
    """
    images = rows.reshape(len(rows), *shape)[..., 0]
    low, high = float(rows.min()), float(rows.max())
    edge = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    background = float(np.median(edge))
    reach = high - low or 1.0
    is_empty = float((np.abs(edge - background) < 0.1 * reach).mean()) > 0.6
    box = _box(np.abs(images - background) > 0.3 * reach) if shape[2] == 1 and is_empty else None
    ink = "high" if background <= (low + high) / 2 else "low"
    return {"shape": list(shape), "low": low, "high": high, "ink": ink, "box": box}


def _box(has_ink: NDArray[np.bool_]) -> list[float] | None:
    """Return the median extent of ink in images (n, height, width)."""
    inked = has_ink[has_ink.any(axis=(1, 2))]
    if not len(inked):
        return None
    ends: list[float] = []
    for axis in (2, 1):  # lines with ink, then columns with ink
        lines = np.asarray(inked.any(axis=axis))
        size = lines.shape[1]
        ends.append(float(np.median(lines.argmax(1))) / size)
        ends.append(float(np.median(size - lines[:, ::-1].argmax(1))) / size)
    return ends


def tiles_of(images: Any, n_rows: int) -> NDArray[np.uint8]:
    """Return pictures as bytes, (n_rows, height, width, channels).

    Raises
    ------
    ValueError
        If there is not one grey or RGB image per row.
    """
    array = np.asarray(images)
    if (
        array.ndim not in (3, 4)
        or len(array) != n_rows
        or (array.ndim == 4 and array.shape[3] not in (1, 3))
    ):
        raise ValueError(
            f"images must have shape ({n_rows}, height, width) or ({n_rows}, height, width, 3), "
            f"got {array.shape}. Pass one grey or RGB image per row of X."
        )
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype == np.uint8:
        return array
    low, high = float(np.min(array)), float(np.max(array))
    return as_bytes(array, low, high)


def as_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return values from `low` to `high` as 0 to 255."""
    share = (values.astype(np.float32) - low) / (high - low or 1.0)
    return np.asarray(np.round(255.0 * np.clip(share, 0.0, 1.0)), dtype=np.uint8)


def step_of(n_rows: int, shape: Sequence[int]) -> int | None:
    """Return of how many pixels one is kept per axis, or None if even that is too much."""
    height, width, depth = shape
    step = 1
    while n_rows * -(-height // step) * -(-width // step) * depth > MOST_BYTES:
        step += 1
        if min(height, width) // step < SMALLEST_SIDE:
            return None
    return step


def shrunk(tiles: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return every `step`-th pixel of each axis."""
    return np.ascontiguousarray(tiles[:, ::step, ::step])
