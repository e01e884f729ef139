"""Positions that a fit keeps: landmarks, and the warm start from an earlier fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from neumap._labels import Column
from neumap._random import numpy_generator
from neumap.data import Validated, row_count, stack
from neumap.estimators.targets import check_targets
from neumap.training.loop import History

__all__ = [
    "Landmarks",
    "WarmStart",
    "check_landmark_positions",
    "choose_landmarks",
    "drift",
]

SampleMode = Literal["uniform", "predetermined", "predefined"]


@dataclass(frozen=True)
class Landmarks:
    """Rows of an earlier fit, with their positions and the weight of keeping them.

    Attributes
    ----------
    rows : array or sparse matrix of shape (n_landmarks, ...)
        As checked by the estimator.
    positions : array of shape (n_landmarks, n_components), float32
        From the encoder, when they were chosen.
    loss_weight : float
        Weight of the landmark loss in the next fit.
    """

    rows: Any
    positions: NDArray[np.float32]
    loss_weight: float

    def append_to(self, data: Validated) -> tuple[Validated, NDArray[np.float32]]:
        """Return the data followed by the landmarks, and positions with NaN for the data."""
        n_new = row_count(data.X)
        free = np.full((n_new, self.positions.shape[1]), np.nan, dtype=np.float32)
        joined = stack(data.X, self.rows)
        return replace(data, X=joined), np.concatenate([free, self.positions])

    def extend_targets(self, y: Any, n_new: int) -> Column:
        """Return targets for data and landmarks; the label of a landmark is not known."""
        return check_targets(y, n_new).extended(len(self.positions))


@dataclass(frozen=True)
class WarmStart:
    """What a fit takes over from an earlier one, or from an embedding that exists.

    Attributes
    ----------
    positions : array of shape (n_rows, n_components), float32
        Positions that rows should keep; NaN for rows that are free.
    loss_weight : float or None
        Weight of the landmark loss; None takes the parameter's.
    encoder : nn.Module or None
        Network to continue from.
    initial : array of shape (n_rows, n_components) or None
        Initial positions for free positions.
    history : dict of str to list of float
        Losses so far, continued by the fit if it continues an earlier one.
    only_landmarks : bool
        Whether keeping the positions is the whole objective.
    """

    positions: NDArray[np.float32]
    loss_weight: float | None = None
    encoder: nn.Module | None = None
    initial: NDArray[np.float32] | None = None
    history: History | None = None
    only_landmarks: bool = False

    @classmethod
    def after(
        cls,
        old: NDArray[np.float32],
        added: NDArray[np.float32],
        encoder: nn.Module | None,
        history: History | None,
    ) -> WarmStart:
        """Return the start of a fit on old rows, which stay, and added rows, which are free."""
        return cls(
            positions=np.concatenate([old, np.full_like(added, np.nan)]),
            encoder=encoder,
            initial=np.nan_to_num(np.concatenate([old, added])),
            history=history,
        )

    @property
    def continues(self) -> bool:
        """Whether training continues from what an earlier fit learned."""
        return self.encoder is not None or self.initial is not None


def choose_landmarks(
    n_rows: int, sample_pct: float, sample_mode: SampleMode, idx: Any, seed: int
) -> NDArray[np.int64]:
    """Return the row numbers of the landmarks.

    Raises
    ------
    ValueError
        If the mode is unknown, `idx` is missing or out of range, or `sample_pct` is not in (0, 1].
    """
    if sample_mode == "uniform":
        if not 0.0 < sample_pct <= 1.0:
            raise ValueError(f"sample_pct must be in (0, 1], got {sample_pct!r}.")
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


def check_landmark_positions(positions: Any, n_rows: int, n_components: int) -> NDArray[np.float32]:
    """Return given positions as float32.

    Raises
    ------
    ValueError
        If the shape is another, no row is given, or a row is given in part.
    """
    checked = np.asarray(positions, dtype=np.float32)
    if checked.shape != (n_rows, n_components):
        raise ValueError(
            f"landmark_positions must have shape {(n_rows, n_components)}, one row per row of X, "
            f"got {checked.shape}. Use NaN for rows that are free."
        )
    if np.isnan(checked).all():
        raise ValueError(
            "landmark_positions must hold a position for at least one row, got NaN in all rows. "
            "Give at least one row, or leave the argument out."
        )
    return checked


def drift(positions: NDArray[np.float32], targets: NDArray[np.float32]) -> dict[str, float | int]:
    """Return how far landmarks are from their given positions.

    Distances are also given relative to the extent of the embedding, the root mean square
    distance of its points from their centre. Rows without a position (NaN) are left out.
    """
    placed = np.isfinite(positions).all(axis=1)
    given = placed & ~np.isnan(targets).any(axis=1)
    moved = np.linalg.norm(positions[given] - targets[given], axis=1)
    centred = positions[placed] - positions[placed].mean(axis=0)
    extent = float(np.sqrt((centred**2).sum(axis=1).mean())) or 1.0
    return {
        "n_landmarks": int(given.sum()),
        "mean": float(moved.mean()),
        "max": float(moved.max()),
        "mean_share_of_extent": float(moved.mean()) / extent,
    }
