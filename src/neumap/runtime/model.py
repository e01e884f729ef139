"""The model that places rows and decodes positions, and the checks of what it is given."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._card import MOST_CHECKED, UnusualRowsWarning
from neumap._warnings import warn_user
from neumap.archive.errors import ArchiveError
from neumap.runtime.networks import Evaluate, mlp, onnx_network
from neumap.runtime.reading import Saved, read_saved

__all__ = ["Model", "load"]

# As in neumap: differences of two values must be finite in float32.
LARGEST = 1e36


def load(
    path: str | os.PathLike[str],
    *,
    encoder: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
) -> Model:
    """Read a saved :class:`neumap.ParametricUMAP` to place rows with NumPy alone.

    Parameters
    ----------
    path : path-like
        The file of ``save``, of any size, or the folder with ``model.neumap`` in it. Only the
        networks are read.
    encoder, decoder : path-like, optional
        ONNX files of ``to_onnx`` (``part="decoder"`` for the decoder), for networks other than
        :class:`neumap.networks.MLP`. They need onnxruntime. A decoder of another kind, for which
        there is no file, is left out.

    Returns
    -------
    Model

    Raises
    ------
    ArchiveError
        As :func:`neumap.load`, and if the model has no encoder, or one that NumPy cannot evaluate
        and for which there is no ONNX file. It is a ``ValueError``.
    ImportError
        If an ONNX file is passed and onnxruntime is missing.
    ValueError
        If an ONNX file is of another model.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> import neumap
    >>> X = load_iris().data
    >>> fitted = neumap.ParametricUMAP(preset="fast", n_epochs=5, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = fitted.save(folder)
    ...     model = load(file)
    >>> model.transform(X[:3]).shape
    (3, 2)
    """
    saved = read_saved(path)
    position = (saved.n_components,)
    if encoder is not None:
        place = onnx_network(encoder, "encoder", saved.input_shape, position)
    else:
        place = mlp(_encoder_of(saved, path), "encoder", saved.n_features, saved.n_components)
    return Model(saved, place, _decode(saved, decoder))


def _encoder_of(saved: Saved, path: str | os.PathLike[str]) -> Any:
    if saved.encoder is None:
        raise ArchiveError(
            f"{os.fspath(path)!r} must hold a ParametricUMAP with an encoder for the runtime, got "
            "free positions, which need a search among training rows. Read it with neumap.load."
        )
    return saved.encoder


def _decode(saved: Saved, decoder: str | os.PathLike[str] | None) -> Evaluate | None:
    position = (saved.n_components,)
    if decoder is not None:
        return onnx_network(decoder, "decoder", position, saved.input_shape)
    if saved.decoder is None or saved.decoder.kind != "neumap.networks.MLP":
        return None
    outputs = mlp(saved.decoder, "decoder", saved.n_components, saved.n_features)
    return outputs if saved.activation == "identity" else lambda rows: _sigmoid(outputs(rows))


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # Without the overflow of exp.
    return np.asarray(0.5 * (np.tanh(0.5 * values) + 1.0), dtype=np.float32)


class Model:
    """A map that places rows and decodes positions; :func:`load` makes it.

    Attributes
    ----------
    n_features_in_ : int
        Numbers per row.
    feature_names_in_ : list of str or None
        Column names of the fit.
    n_components : int
        Dimensions of the map.
    input_shape_ : tuple of int
        Shape of a row as passed to ``fit``.
    card_ : dict
        What the map says about itself; empty for files of neumap 0.1.
    """

    def __init__(self, saved: Saved, place: Evaluate, decode: Evaluate | None) -> None:
        self.n_features_in_ = saved.n_features
        self.feature_names_in_ = saved.feature_names
        self.n_components = saved.n_components
        self.input_shape_ = saved.input_shape
        self.card_: dict[str, Any] = {}
        if saved.card is not None:
            self.card_ = saved.card.described(saved.feature_names, saved.input_shape)
        self._saved, self._place, self._decode = saved, place, decode

    def __repr__(self) -> str:
        return f"Model({self.n_features_in_} -> {self.n_components})"

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Place rows on the map.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features) or (n_samples, ...)
            Rows as passed to ``fit``; the columns of a table must have the names of the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32
            Positions; those of :meth:`neumap.ParametricUMAP.transform` to 1e-5 of the extent.

        Raises
        ------
        TypeError
            If X holds no numbers.
        ValueError
            If X has another width or other names than the rows of the fit, no rows, or missing or
            infinite values.

        Warns
        -----
        UnusualRowsWarning
            Once, if the rows lie clearly outside of those of the fit.
        """
        self._check_names(X)
        rows = _rows(X, self.n_features_in_)
        _check_finite(rows, "X")
        card = self._saved.card
        if card is not None:
            sample = rows[:: math.ceil(len(rows) / MOST_CHECKED)]
            complaint = card.complaint(sample)
            if complaint is not None:
                warn_user(complaint, UnusualRowsWarning)
        return self._place(rows)

    def inverse_transform(self, X: Any) -> NDArray[np.float32]:
        """Decode positions to rows, with a model that has a decoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Positions.

        Returns
        -------
        ndarray of shape (n_samples, ...), float32
            Rows in data space, shaped like the rows passed to ``fit``.

        Raises
        ------
        ValueError
            If there is no decoder, or the positions have another width, or are missing or infinite.
        """
        if self._decode is None:
            kind = None if self._saved.decoder is None else self._saved.decoder.kind
            advice = (
                "Fit with parametric_reconstruction=True"
                if kind is None
                else "Write it with model.to_onnx(path, part='decoder') and pass load(decoder=path)"
            )
            raise ValueError(
                "inverse_transform needs a decoder that is an MLP of neumap or an ONNX file, got "
                f"{'none' if kind is None else kind:.100}. {advice}."
            )
        positions = np.asarray(X, dtype=np.float32)
        if positions.ndim != 2 or positions.shape[1] != self.n_components:
            raise ValueError(
                f"Positions must have shape (n_samples, {self.n_components}), got "
                f"{positions.shape}. Pass positions as transform returns them."
            )
        _check_finite(positions, "Positions")
        decoded = self._decode(positions)
        return decoded.reshape(len(decoded), *self.input_shape_)

    def _check_names(self, X: Any) -> None:
        """Compare the names of a table with those of the fit; arrays have none."""
        names = getattr(X, "column_names", getattr(X, "columns", None))
        known = self.feature_names_in_
        if names is None or known is None or not all(isinstance(name, str) for name in names):
            return
        given = list(names)
        if given == known:
            return
        missing = [name for name in known if name not in given][:5]
        unknown = [name for name in given if name not in known][:5]
        got = [f"no {', '.join(missing)}"] if missing else []
        got += [f"the unknown {', '.join(unknown)}"] if unknown else []
        raise ValueError(
            f"X must have the columns of the fit in their order, got "
            f"{' and '.join(got) or 'another order'}. Select them with X[model.feature_names_in_]."
        )


def _rows(X: Any, n_features: int) -> NDArray[np.float32]:
    """Return X as float32 rows (n, n_features)."""
    dense = X.toarray() if hasattr(X, "toarray") and not isinstance(X, np.ndarray) else X
    values = np.asarray(dense)
    if values.dtype.kind == "O":  # numbers of several kinds, such as columns of a table
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"X must hold numbers, got values that are none ({error!s:.100}). Leave out or "
                "encode columns of text, and pass one row per sample."
            ) from error
    if values.dtype.kind not in "biuf":
        raise TypeError(
            f"X must hold numbers, got a {type(X).__name__} of dtype {values.dtype}. Leave out or "
            "encode columns of text, and read files first."
        )
    if values.ndim < 2:
        raise ValueError(
            f"X must have two axes or more, got shape {values.shape}. Reshape a single sample with "
            "X.reshape(1, -1)."
        )
    if not len(values):
        raise ValueError("X must have at least one row, got none. Check how they were selected.")
    width = math.prod(values.shape[1:])
    if width != n_features:
        raise ValueError(
            f"X must have {n_features} features as the rows of the fit, got {width}. Pass the same "
            "columns in the same order."
        )
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        return np.ascontiguousarray(values.reshape(len(values), width), dtype=np.float32)


def _check_finite(rows: NDArray[np.float32], name: str) -> None:
    if rows.min() >= -LARGEST and rows.max() <= LARGEST:  # NaN compares as false
        return
    is_nan = np.isnan(rows)
    kind = "NaN" if is_nan.any() else "infinity or a value too large for float32"
    bad = is_nan if is_nan.any() else np.abs(rows) > LARGEST
    row = int(bad.any(axis=1).argmax())
    advice = "Impute missing values or drop these rows." if kind == "NaN" else "Rescale the values."
    raise ValueError(
        f"{name} must be finite, got {kind} in {int(bad.sum())} value(s), the first in row {row}. "
        f"{advice}"
    )
