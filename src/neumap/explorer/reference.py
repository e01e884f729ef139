"""Known rows that a page compares new rows with, and how far known rows are from each other.

Of a sample of rows one half is the reference. The distances of the other half to it are what is
usual: for a row like these, a distance is as likely to be at any place among them. The share of
distances that are at least as large is therefore a conformal p-value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from neumap._card import in_form
from neumap._random import numpy_generator

__all__ = ["Reference", "reference_of", "sample_of"]

MOST = 1000
FEWEST = 20  # with fewer rows no p-value is below 0.05
MOST_BYTES = 8_000_000


@dataclass(frozen=True)
class Reference:
    """Known rows.

    Attributes
    ----------
    rows : array of shape (n, n_features), float32
    numbers : array of shape (n,), uint32
        Where they are in the data.
    form : str
        In which they are compared; see :class:`neumap.networks.Standardize`.
    distances : array of shape (n_calibration,), float32
        From other rows to the nearest of these, sorted.
    """

    rows: NDArray[np.float32]
    numbers: NDArray[np.uint32]
    form: str
    distances: NDArray[np.float32]


def sample_of(n_rows: int, n_features: int) -> NDArray[np.int64]:
    """Return the numbers of the rows to sample, in random order, the same for the same sizes."""
    most = min(2 * MOST, 2 * (MOST_BYTES // (4 * max(n_features, 1))))
    return numpy_generator(0, "explorer").permutation(n_rows)[:most]


def reference_of(
    rows: NDArray[np.float32], numbers: NDArray[np.int64], form: str
) -> Reference | None:
    """Return the reference of a sample, or None if it has too few rows for a comparison.

    Parameters
    ----------
    rows : array of shape (n_sample, n_features), float32
    numbers : array of shape (n_sample,)
        Where these rows are in the data.
    form : {"raw", "unit", "centred unit"}
        In which they are compared.
    """
    half = len(rows) // 2
    if half < FEWEST:
        return None
    known, others = (in_form(part.astype(np.float64), form) for part in (rows[:half], rows[half:]))
    distances = cdist(others, known).min(axis=1)
    return Reference(
        rows[:half],
        numbers[:half].astype(np.uint32),
        form,
        np.sort(distances).astype(np.float32),
    )
