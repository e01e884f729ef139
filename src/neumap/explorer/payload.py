"""What a page carries: a head of JSON, and parts of bytes under names.

In: a fitted model, its rows and what is known about them. Out: :class:`Payload`, which
:mod:`neumap.explorer.page` writes into a file and :mod:`neumap.explorer.widget` hands to a
notebook. ``web/explorer/src/payload.js`` reads it.
"""

from __future__ import annotations

import base64
import gzip
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neumap._random import numpy_generator
from neumap.data import RowStore, Validated, as_rows, check_input
from neumap.explorer.colours import PALETTES
from neumap.explorer.images import (
    as_bytes,
    image_facts,
    image_shape_of,
    shrunk,
    step_of,
    tiles_of,
)
from neumap.explorer.networks import layers_of
from neumap.explorer.reference import reference_of, sample_of
from neumap.plots.reading import categories_of, title_of, values_of
from neumap.runtime.layers import Layers

__all__ = ["Inputs", "Payload", "payload_of"]

MOST_POINTS = 1_000_000
MISSING = 65_535
EDGE = 65_535
MOST_COLUMNS = 64  # of a table whose rows the page carries
MOST_NUMBERS = 2_000_000
MOST_FILM = 20_000_000  # coordinates in all frames
CHECKED_ROWS = 32
TOLERANCE = 1e-5  # of the extent: a tenth of what the page may be off
DISTINCT = 256  # whole numbers with more values than this are measurements
GATHERED = 4096


@dataclass(frozen=True)
class Inputs:
    """What the user gave; see :func:`neumap.explorer.show`."""

    labels: Any = None
    values: Any = None
    texts: Any = None
    images: Any = None
    image_shape: Sequence[int] | None = None
    snapshots: Any = None
    title: str | None = None


@dataclass(frozen=True)
class Payload:
    """The content of a page.

    Attributes
    ----------
    head : dict
        Everything small, for JSON.
    parts : dict of str to bytes
        Arrays as they lie in memory, little-endian.
    """

    head: dict[str, Any]
    parts: dict[str, bytes] = field(repr=False)

    def packed(self) -> dict[str, str]:
        """Return the parts as base64 of gzip; the same bytes at any time."""
        return {
            name: base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")
            for name, content in self.parts.items()
        }


@dataclass(frozen=True)
class _Rows:
    """The rows of the data, and which of them are drawn."""

    store: RowStore
    drawn: NDArray[np.int64]
    names: list[str]

    @property
    def n_features(self) -> int:
        return self.store.n_features

    def gather(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows, (n, n_features)."""
        found = [
            self.store.gather(torch.from_numpy(numbers[at : at + GATHERED])).flatten(1)
            for at in range(0, len(numbers), GATHERED)
        ]
        return np.asarray(torch.cat(found).float().cpu().numpy())


def payload_of(model: Any, X: Any, inputs: Inputs) -> Payload:
    """Return the content of a page.

    Parameters
    ----------
    model : fitted ParametricUMAP or UMAP
        With two components.
    X : array-like of shape (n_samples, ...)
        Rows as `model.transform` takes them.
    inputs : Inputs

    Raises
    ------
    ValueError
        If the model has not two components, or labels, texts, images or snapshots do not have one
        entry per row.
    """
    positions = np.asarray(model.transform(X), dtype=np.float64)
    _check_positions(positions)
    checked = _checked(model, X)
    drawn, notes = _drawn(positions)
    names = [] if checked.feature_names is None else list(map(str, checked.feature_names))
    rows = _Rows(as_rows(checked.X), drawn, names)
    low, span = _frame(positions[drawn])
    head: dict[str, Any] = {
        "title": inputs.title or f"Map of {len(positions):,} rows",
        "n_rows": len(positions),
        "n_points": len(drawn),
        "frame": {"low": low.tolist(), "span": span},
        "palette": PALETTES,
        "n_features": rows.n_features,
        "columns": names if len(names) <= 2000 else [],
        "notes": notes,
    }
    parts = {"xy": _on_square(positions[drawn], low, span)}
    if len(drawn) < len(positions):
        parts["rows"] = drawn.astype(np.uint32).tobytes()
    _add_labels(head, parts, inputs, drawn, len(positions))
    _add_texts(parts, inputs.texts, drawn, len(positions))
    _add_rows(head, parts, rows, model, inputs)
    _add_networks(head, parts, rows, model, positions)
    _add_film(head, parts, inputs.snapshots, drawn, len(positions))
    return Payload(head, parts)


def _checked(model: Any, X: Any) -> Validated:
    """Return rows that the model took, ready to be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `transform` said the same
        return check_input(
            X,
            n_features=model.n_features_in_,
            feature_names=getattr(model, "feature_names_in_", None),
            ensure_all_finite=False,
        )


def _check_positions(positions: NDArray[Any]) -> None:
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise ValueError(
            f"The model must have 2 components, got positions of shape {positions.shape}. Fit one "
            "with n_components=2 and transform_mode='embedding'."
        )
    if not np.isfinite(positions).all(axis=1).any():
        raise ValueError(
            f"At least one row must have finite coordinates, got {len(positions)} rows without "
            "any. Check the rows."
        )


def _drawn(positions: NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the numbers of the rows to draw, in order, and what the page says about the others."""
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    notes = []
    if len(known) < len(positions):
        notes.append(f"{len(positions) - len(known):,} rows have no position and are not drawn.")
    if len(known) > MOST_POINTS:
        chosen = numpy_generator(0, "explorer").choice(known, MOST_POINTS, replace=False)
        notes.append(f"A random sample of {MOST_POINTS:,} of {len(known):,} points is drawn.")
        known = np.sort(chosen)
    return known, notes


def _frame(placed: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the lower left corner and the side of the square around all points."""
    low, high = placed.min(axis=0), placed.max(axis=0)
    span = float((high - low).max()) or 1.0
    return (low + high - span) / 2, span


def _on_square(placed: NDArray[Any], low: NDArray[Any], span: float) -> bytes:
    share = np.clip((placed - low) / span, 0.0, 1.0)
    return np.asarray(np.round(share * EDGE), dtype="<u2").tobytes()


# ---- labels and texts ---------------------------------------------------------------------------


def _add_labels(
    head: dict[str, Any],
    parts: dict[str, bytes],
    inputs: Inputs,
    drawn: NDArray[np.int64],
    n_rows: int,
) -> None:
    labels, values = inputs.labels, inputs.values
    if labels is not None and values is not None:
        raise ValueError(
            "One of labels and values must be None, got both. A point has one colour: pass the "
            "classes as `labels` or the numbers as `values`, and the other in texts."
        )
    if labels is not None and _is_measured(labels):
        labels, values = None, labels
    head["labels"] = None
    if values is not None:
        numbers = values_of(values, n_rows)[drawn].astype("<f4")
        known = numbers[np.isfinite(numbers)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        head["labels"] = {"kind": "values", "title": title_of(values), "low": low, "high": high}
        parts["values"] = numbers.tobytes()
    elif labels is not None:
        categories = categories_of(labels, n_rows)
        if len(categories.names) >= MISSING:
            raise ValueError(
                f"labels must have fewer than {MISSING} classes, got {len(categories.names)}. Pass "
                "names of single rows as texts."
            )
        names = [str(name) for name in categories.names]
        head["labels"] = {"kind": "classes", "title": categories.title, "names": names}
        codes = categories.codes[drawn]
        parts["codes"] = np.where(codes < 0, MISSING, codes).astype("<u2").tobytes()


def _is_measured(labels: Any) -> bool:
    """Return whether labels are measurements: fractions, or many different numbers."""
    array = np.asarray(labels)
    if array.dtype.kind not in "fiu" or array.ndim != 1:
        return False
    known = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return bool((known % 1 != 0).any()) or len(np.unique(known)) > DISTINCT


def _add_texts(parts: dict[str, bytes], texts: Any, drawn: NDArray[np.int64], n_rows: int) -> None:
    if texts is None:
        return
    entries = list(texts)
    if len(entries) != n_rows:
        raise ValueError(
            f"texts must have {n_rows} entries, one per row, got {len(entries)}. Pass one text per "
            "row of X."
        )
    shown = [_text(entries[at]) for at in drawn.tolist()]
    parts["texts"] = json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace")


def _text(entry: Any) -> str:
    is_missing = entry is None or type(entry).__name__ == "NAType"  # of pandas, which has no truth
    return "" if is_missing or entry != entry else str(entry)


# ---- rows ---------------------------------------------------------------------------------------


def _add_rows(
    head: dict[str, Any], parts: dict[str, bytes], rows: _Rows, model: Any, inputs: Inputs
) -> None:
    """Add what rows look like: pictures of all, or the numbers of a narrow table."""
    sample = np.sort(sample_of(rows.store.n_rows, rows.n_features))
    known = rows.gather(sample)
    row_shape = tuple(getattr(model, "input_shape_", ()))
    if len(row_shape) < 2:
        row_shape = tuple(getattr(model, "row_shape_", ()))
    shape = image_shape_of(inputs.image_shape, row_shape, rows.n_features)
    head["image"] = None if shape is None else image_facts(known, shape)
    head["tiles"] = None
    if inputs.images is not None:
        pictures = tiles_of(inputs.images, rows.store.n_rows)
        _add_tiles(head, parts, pictures.shape[1:], lambda at: pictures[at], rows)
    elif shape is not None:
        low, high = head["image"]["low"], head["image"]["high"]
        _add_tiles(
            head,
            parts,
            shape,
            lambda at: as_bytes(rows.gather(at), low, high).reshape(len(at), *shape),
            rows,
        )
    if shape is None:
        moments = np.stack([known.mean(axis=0), known.std(axis=0)])
        parts["moments"] = moments.astype("<f4").tobytes()
        n_numbers = len(rows.drawn) * rows.n_features
        if rows.n_features <= MOST_COLUMNS and n_numbers <= MOST_NUMBERS:
            parts["table"] = rows.gather(rows.drawn).astype("<f4").tobytes()


def _add_tiles(
    head: dict[str, Any],
    parts: dict[str, bytes],
    shape: Sequence[int],
    pictures: Any,
    rows: _Rows,
) -> None:
    step = step_of(len(rows.drawn), shape)
    if step is None:
        head["notes"].append("Pictures of single rows are left out: there are too many.")
        return
    batches = range(0, len(rows.drawn), GATHERED)
    tiles = np.concatenate(
        [shrunk(pictures(rows.drawn[at : at + GATHERED]), step) for at in batches]
    )
    head["tiles"] = {"shape": list(tiles.shape[1:])}
    parts["tiles"] = tiles.tobytes()


# ---- networks -----------------------------------------------------------------------------------


def _add_networks(
    head: dict[str, Any],
    parts: dict[str, bytes],
    rows: _Rows,
    model: Any,
    positions: NDArray[Any],
) -> None:
    sample = sample_of(rows.store.n_rows, rows.n_features)
    sample = sample[np.isfinite(positions[sample]).all(axis=1)]
    encoder = _checked_encoder(model, rows, sample[:CHECKED_ROWS], positions)
    decoder = _checked_decoder(model, positions[sample[:CHECKED_ROWS]])
    weights: list[NDArray[np.float32]] = []
    head["networks"] = {
        "encoder": None if encoder is None else _placed_in(encoder, weights),
        "decoder": None if decoder is None else _placed_in(decoder, weights),
    }
    if weights:
        parts["weights"] = np.concatenate(weights).astype("<f4").tobytes()
    head["reference"] = None
    if encoder is None:
        return
    form = encoder.layers[0].get("rows", "raw")
    reference = reference_of(rows.gather(sample), sample, form)
    if reference is not None:
        head["reference"] = {"n": len(reference.rows), "form": reference.form}
        parts["reference"] = reference.rows.astype("<f4").tobytes()
        parts["reference_rows"] = reference.numbers.astype("<u4").tobytes()
        parts["calibration"] = reference.distances.astype("<f4").tobytes()


def _checked_encoder(
    model: Any, rows: _Rows, numbers: NDArray[np.int64], positions: NDArray[Any]
) -> Layers | None:
    """Return the encoder's layers if they place rows where the model does."""
    layers = layers_of(getattr(model, "encoder_", None))
    if layers is None:
        return None
    found = layers.apply(np.asarray(rows.gather(numbers), dtype=np.float64))
    extent = float(np.ptp(positions[np.isfinite(positions).all(axis=1)], axis=0).max()) or 1.0
    off = np.abs(found - positions[numbers]).max()
    return layers if off <= TOLERANCE * extent else None


def _checked_decoder(model: Any, positions: NDArray[Any]) -> Layers | None:
    """Return the decoder's layers, with the activation that makes them agree with the model."""
    layers = layers_of(getattr(model, "decoder_", None))
    if layers is None:
        return None
    expected = np.asarray(model.inverse_transform(positions), dtype=np.float64)
    expected = expected.reshape(len(expected), -1)
    extent = float(np.abs(expected).max()) or 1.0
    placed = np.asarray(positions, dtype=np.float64)
    for candidate in (layers, layers.followed_by("sigmoid")):
        if np.abs(candidate.apply(placed) - expected).max() <= TOLERANCE * extent:
            return candidate
    return None


def _placed_in(network: Layers, weights: list[NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Move the arrays of a network to the end of `weights` and leave their places."""
    at = sum(map(len, weights))
    described = []
    for layer in network.layers:
        place: dict[str, Any] = {}
        for name, value in layer.items():
            if not isinstance(value, np.ndarray):
                place[name] = value
                continue
            weights.append(value.ravel())
            place[name] = {"at": at, "size": value.size}
            at += value.size
        described.append(place)
    return described


# ---- film ---------------------------------------------------------------------------------------


def _add_film(
    head: dict[str, Any],
    parts: dict[str, bytes],
    snapshots: Any,
    drawn: NDArray[np.int64],
    n_rows: int,
) -> None:
    head["film"] = None
    if snapshots is None:
        return
    taken = list(getattr(snapshots, "snapshots", snapshots))
    for step, embedding in taken:
        if np.shape(embedding) != (n_rows, 2):
            raise ValueError(
                f"snapshots must have shape ({n_rows}, 2), one position per row of X, got "
                f"{np.shape(embedding)} at step {step}. Pass the rows that the model was fitted to."
            )
    most = max(2, MOST_FILM // (2 * len(drawn)))
    if len(taken) > most:
        taken = [taken[at] for at in np.linspace(0, len(taken) - 1, most).round().astype(int)]
        head["notes"].append(f"The film shows {most} of the snapshots.")
    low, span = np.array(head["frame"]["low"]), head["frame"]["span"]
    frames = [_on_square(np.asarray(placed)[drawn], low, span) for _, placed in taken]
    head["film"] = {"steps": [int(step) for step, _ in taken]}
    parts["film"] = b"".join(frames)
