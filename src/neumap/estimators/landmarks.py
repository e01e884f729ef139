"""Landmarks: rows of an earlier fit whose positions a later fit should keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from neumap._random import numpy_generator
from neumap.data import Validated, stack

__all__ = [
    "Landmarks",
    "Memory",
    "check_landmark_positions",
    "choose_landmarks",
    "drift",
    "remember",
]

SampleMode = Literal["uniform", "predetermined", "predefined"]
UNLABELLED = -1


@dataclass(frozen=True)
class Landmarks:
    """Rows, where they were on the map, and how firmly they are held.

    Attributes
    ----------
    rows : array or sparse matrix of shape (n_landmarks, ...)
        As checked by the estimator.
    positions : array of shape (n_landmarks, n_components), float32
        Where the encoder put them when they were chosen.
    loss_weight : float
        Weight of the landmark loss in the next fit.
    """

    rows: Any
    positions: NDArray[np.float32]
    loss_weight: float

    def append_to(self, data: Validated) -> tuple[Validated, NDArray[np.float32]]:
        """Return the data with the landmarks after them, and positions with NaN for the data."""
        n_new = data.X.shape[0]
        free = np.full((n_new, self.positions.shape[1]), np.nan, dtype=np.float32)
        joined = stack(data.X, self.rows)
        return replace(data, X=joined), np.concatenate([free, self.positions])

    def extend_targets(self, y: Any, n_new: int) -> NDArray[Any]:
        """Return targets for data and landmarks; the label of a landmark is not known."""
        values = np.asarray(y)
        if len(values) != n_new:
            raise ValueError(
                f"y must have one entry per row of X: expected {n_new}, got {len(values)}."
            )
        unknown = np.full((len(self.positions), *values.shape[1:]), UNLABELLED, values.dtype)
        return np.concatenate([values, unknown])


@dataclass(frozen=True)
class Memory:
    """What an earlier fit learned and a later one should keep.

    Attributes
    ----------
    positions : array of shape (n_rows, n_components), float32
        Where rows should stay; NaN for rows that are free.
    loss_weight : float or None
        Weight of the landmark loss; None leaves it to the estimator.
    encoder : nn.Module or None
        Network to go on from.
    initial : array of shape (n_rows, n_components) or None
        Where free positions start.
    alone : bool
        Whether keeping the positions is the whole objective.
    """

    positions: NDArray[np.float32]
    loss_weight: float | None = None
    encoder: nn.Module | None = None
    initial: NDArray[np.float32] | None = None
    alone: bool = False


def remember(old: NDArray[np.float32], placed: NDArray[np.float32]) -> Memory:
    """Return the memory of a fit on old rows and added ones: the old stay, the added are free."""
    free = np.full_like(placed, np.nan)
    return Memory(
        positions=np.concatenate([old, free]), initial=np.nan_to_num(np.concatenate([old, placed]))
    )


def choose_landmarks(
    n_rows: int, sample_pct: float, sample_mode: SampleMode, idx: Any, seed: int
) -> NDArray[np.int64]:
    """Return the row numbers of the landmarks.

    Raises
    ------
    ValueError
        If the mode is unknown, `idx` is missing or out of range, or `sample_pct` is not a share.
    """
    if sample_mode == "uniform":
        if not 0.0 < sample_pct <= 1.0:
            raise ValueError(f"sample_pct must lie in (0, 1], got {sample_pct!r}.")
        count = max(1, round(n_rows * float(sample_pct)))
        chosen = numpy_generator(seed, "landmarks").choice(n_rows, count, replace=False)
        return np.sort(chosen).astype(np.int64)
    if sample_mode in ("predetermined", "predefined"):
        if idx is None:
            raise ValueError(f"sample_mode={sample_mode!r} needs idx, the rows to take.")
        rows = np.atleast_1d(np.asarray(idx, dtype=np.int64))
        if len(rows) == 0 or rows.min() < -n_rows or rows.max() >= n_rows:
            raise ValueError(f"idx must hold at least one row number below {n_rows}, got {idx!r}.")
        return rows % n_rows
    raise ValueError(f"sample_mode must be 'uniform' or 'predetermined', got {sample_mode!r}.")


def check_landmark_positions(
    positions: Any, n_rows: int, n_components: int
) -> NDArray[np.float32] | None:
    """Return given positions as float32, or None.

    Raises
    ------
    ValueError
        If the shape is another, or no row is given.
    """
    if positions is None:
        return None
    checked = np.asarray(positions, dtype=np.float32)
    if checked.shape != (n_rows, n_components):
        raise ValueError(
            f"landmark_positions must have shape {(n_rows, n_components)}, one row per row of X, "
            f"got {checked.shape}. Use NaN for rows that are free."
        )
    if np.isnan(checked).all():
        raise ValueError(
            "landmark_positions holds no position: all rows are NaN. Give at least one row, or "
            "leave the argument out."
        )
    return checked


def drift(positions: NDArray[np.float32], targets: NDArray[np.float32]) -> dict[str, float | int]:
    """Return how far landmarks ended from where they should be.

    Distances are also given as a share of the map's extent, the root mean square distance of its
    points from their centre.
    """
    given = ~np.isnan(targets).any(axis=1)
    moved = np.linalg.norm(positions[given] - targets[given], axis=1)
    centred = positions - positions.mean(axis=0)
    extent = float(np.sqrt((centred**2).sum(axis=1).mean())) or 1.0
    return {
        "n_landmarks": int(given.sum()),
        "mean": float(moved.mean()),
        "max": float(moved.max()),
        "mean_share_of_extent": float(moved.mean()) / extent,
    }
