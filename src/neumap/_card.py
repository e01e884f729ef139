"""What a map says about itself: its making, the rows it expects, and the user's own notes.

A fit measures a sample of its rows: how long they are, and how far from their mean row. New rows
whose majority lies clearly outside of both were scaled, ordered or made in another way. The check
knows numbers only: vectors of another embedding model of the same width and length may pass, which
is what the notes are for. Rows are NumPy arrays here, so that a server without torch checks them as
well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MOST_CHECKED",
    "Card",
    "RowStatistics",
    "UnusualRowsWarning",
    "card_of",
    "in_form",
    "row_statistics",
]

Rows = NDArray[np.floating[Any]]

FORMS = ("raw", "unit", "centred unit")
MOST_CHECKED = 64
"""Rows of a call that are compared with those of the fit."""

# Fewer rows of a fit do not show how far such rows reach.
ENOUGH = 30
# Below this many new rows, any of them may be an extreme one, so the whole range is allowed.
FEW = 5
QUANTILES = (0.0, 0.01, 0.5, 0.99, 1.0)
# Of a logarithm: float32 and normalisation change a length by less.
TOLERANCE = 0.05
# Lengths below a hundredth of the median count as such: rows of zeros have no logarithm.
SMALLEST_SHARE = 0.01

ROUNDING = 1e-6
LARGE, SMALL = 2.0**42, 2.0**-40
SMALLEST = np.finfo(np.float32).tiny


class UnusualRowsWarning(UserWarning):
    """New rows lie clearly outside of the rows of the fit, such as 0 to 255 in place of 0 to 1."""


@dataclass(frozen=True, eq=False)
class RowStatistics:
    """Measurements of a sample of the rows of a fit.

    Attributes
    ----------
    form : {"raw", "unit", "centred unit"}
        How rows are normalised before they are measured, as the network normalises them.
    n_rows : int
        Size of the sample.
    values : tuple of float
        Smallest, mean and largest value of the rows as they were passed.
    length, distance : tuple of five floats
        Of the length of a row, and its distance from the mean row: smallest, 1 % quantile, median,
        99 % quantile, largest.
    center : ndarray of shape (n_features,), float32
        The mean row.
    """

    form: str
    n_rows: int
    values: tuple[float, ...]
    length: tuple[float, ...]
    distance: tuple[float, ...]
    center: NDArray[np.float32]

    def difference(self, rows: Rows) -> str | None:
        """Say how rows (n, n_features) lie clearly outside, or return None."""
        if self.n_rows < ENOUGH:
            return None
        formed = in_form(np.asarray(rows, dtype=np.float64), self.form)
        for name, found, usual in (
            ("length", _lengths(formed), self.length),
            ("distance from the mean row", _lengths(formed - self.center), self.distance),
        ):
            if _are_outside(found, usual):
                return (
                    f"their {name} is about {np.median(found):.2g}, in the fit it was "
                    f"{usual[0]:.2g} to {usual[-1]:.2g}"
                )
        return None


@dataclass(frozen=True, eq=False)
class Card:
    """What a map says about itself.

    Attributes
    ----------
    created : str
        When the map was fitted, in UTC.
    version : str
        Of neumap, which fitted it.
    n_rows : int
        Rows of the fit.
    extent : tuple of tuple of float, or None
        Smallest and largest coordinate of each dimension of the map.
    rows : RowStatistics or None
        None where the fit had no rows, only distances.
    notes : dict
        The user's own words.
    """

    created: str
    version: str
    n_rows: int
    extent: tuple[tuple[float, float], ...] | None = None
    rows: RowStatistics | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    _told: list[bool] = field(default_factory=list)

    def noted(self, notes: Mapping[str, Any]) -> Card:
        """Return the card with these notes added to its own."""
        return replace(self, notes={**self.notes, **notes})

    def complaint(self, rows: Rows) -> str | None:
        """Return the text of a warning about rows (n, n_features), once in the life of a card."""
        if self.rows is None or self._told or not len(rows):
            return None
        found = self.rows.difference(rows)
        if found is None:
            return None
        self._told.append(True)
        return (
            f"X must hold rows like those of the fit, got rows that lie clearly outside: {found}. "
            "Scale the columns as for the fit and keep their order; card_ describes its rows. This "
            "is said once for a model; ignore it with "
            "warnings.filterwarnings('ignore', category=neumap.UnusualRowsWarning)."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values and one array; :func:`card_of` reads it."""
        own = {name: getattr(self, name) for name in OWN}
        return {**own, "rows": None if self.rows is None else vars(self.rows).copy()}

    def described(
        self, columns: Iterable[str] | None, row_shape: tuple[int, ...]
    ) -> dict[str, Any]:
        """Return what is of interest to people, without the mean row."""
        measured: dict[str, Any] = {}
        if self.rows is not None:
            names = ("smallest", "mean", "largest")
            parts = ("smallest", "1 %", "median", "99 %", "largest")
            measured = {
                "values": dict(zip(names, self.rows.values, strict=True)),
                "length": dict(zip(parts, self.rows.length, strict=True)),
            }
        return {
            "notes": dict(self.notes),
            "created": self.created,
            "neumap": self.version,
            "n_rows": self.n_rows,
            "columns": None if columns is None else [str(name) for name in columns],
            "row_shape": row_shape,
            "extent": None if self.extent is None else [list(side) for side in self.extent],
            "rows": measured,
        }


OWN = ("created", "version", "n_rows", "extent", "notes")


def row_statistics(rows: Rows, form: str = "raw") -> RowStatistics | None:
    """Measure a sample of rows (n, n_features); None if none of them is complete."""
    complete = rows[np.isfinite(rows).all(axis=1)]
    if not len(complete):
        return None
    formed = in_form(complete.astype(np.float64), form)
    center = formed.mean(axis=0).astype(np.float32)
    values = complete.min(), complete.mean(dtype=np.float64), complete.max()
    return RowStatistics(
        form=form,
        n_rows=len(complete),
        values=tuple(float(value) for value in values),
        length=_quantiles(_lengths(formed)),
        distance=_quantiles(_lengths(formed - center)),
        center=center,
    )


def in_form(rows: Rows, form: str) -> Rows:
    """Return rows as :class:`neumap.networks.Standardize` normalises them."""
    if form == "raw":
        return rows
    sizes = np.abs(rows).max(axis=1, keepdims=True)
    # A power of two, so that squares stay in float32 and no digit changes.
    factors = np.where(sizes > LARGE, LARGE**-2, np.where(sizes < SMALL, LARGE**2, 1.0))
    rows = rows * factors.astype(rows.dtype)
    if form == "unit":
        lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
        return np.where(lengths > 0.0, rows / np.maximum(lengths, SMALLEST), 0.0)
    means = rows.mean(axis=1, keepdims=True)
    centred = rows - means
    lengths = np.sqrt(np.square(centred).sum(axis=1, keepdims=True))
    is_constant = lengths <= np.abs(means) * (ROUNDING * rows.shape[1] ** 0.5)
    return np.where(is_constant, 0.0, centred / np.maximum(lengths, SMALLEST))


def _lengths(rows: Rows) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, QUANTILES))


def _are_outside(found: NDArray[np.float64], usual: tuple[float, ...]) -> bool:
    """Whether most of these measurements lie clearly outside of the usual ones."""
    floor = usual[2] * SMALLEST_SHARE
    if floor <= 0.0:
        return False
    lowest, first, median, last, highest = np.log(np.maximum(usual, floor))
    if len(found) < FEW:
        low, high, widening = lowest, highest, 1.0
    else:
        low, high, widening = first, last, 0.5
    # Each side by its own spread: the lower one is long where some rows are almost empty.
    low -= widening * (median - low) + TOLERANCE
    high += widening * (high - median) + TOLERANCE
    values = np.log(np.maximum(found, floor))
    return bool(((values < low) | (values > high)).mean() > 0.5)


# ---- from a file --------------------------------------------------------------------------------


def card_of(values: Any) -> Card:
    """Return the card of :meth:`Card.as_dict`, after checking every value.

    Raises
    ------
    ValueError
        Naming the first value that no card has.
    """
    _check_all(values, CARD, "card")
    rows = values["rows"]
    if rows is not None:
        _check_all(rows, STATISTICS, "card.rows")
        rows = RowStatistics(**{name: rows[name] for name in STATISTICS})
    return Card(**{name: values[name] for name in OWN}, rows=rows)


def _check_all(values: Any, schema: Mapping[str, Callable[[Any], bool]], where: str) -> None:
    if not isinstance(values, dict) or values.keys() != schema.keys():
        raise ValueError(f"{where} must be a dict with {', '.join(schema)}, got others.")
    for name, is_right in schema.items():
        if not is_right(values[name]):
            raise ValueError(
                f"{where}.{name} must be what a fit writes, got {values[name]!r:.100}."
            )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300  # NaN compares as false


def _are_numbers(n_values: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, tuple) and len(value) == n_values and all(map(_is_number, value))
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 100


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


CARD: dict[str, Callable[[Any], bool]] = {
    "created": _is_text,
    "version": _is_text,
    "n_rows": _is_count,
    "extent": lambda value: (
        value is None or (isinstance(value, tuple) and all(map(_are_numbers(2), value)))
    ),
    "notes": lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value),
    "rows": lambda value: value is None or isinstance(value, dict),
}
STATISTICS: dict[str, Callable[[Any], bool]] = {
    "form": lambda value: isinstance(value, str) and value in FORMS,
    "n_rows": _is_count,
    "values": _are_numbers(3),
    "length": _are_numbers(len(QUANTILES)),
    "distance": _are_numbers(len(QUANTILES)),
    "center": lambda value: (
        isinstance(value, np.ndarray)
        and value.dtype == np.float32
        and value.ndim == 1
        and bool(np.isfinite(value).all())
    ),
}
