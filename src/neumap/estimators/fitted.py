"""What one fit learned, as one frozen value.

A fit makes a :class:`Fitted` and the estimator then holds it: the model changes as a whole or not
at all, also for other threads. Its fields are what a saved file holds, field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from neumap._card import Card
from neumap._modes import own_torch_state
from neumap.data import RowStore, Validated, as_rows, check_input
from neumap.estimators.landmarks import Landmarks
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.losses.reconstruction import ReconstructionLoss
from neumap.training.embedders import encode_rows, encode_to
from neumap.training.loop import History

__all__ = ["EnsureFinite", "Fitted", "Learned", "check_rows", "device_of", "left_out"]

T = TypeVar("T")

EnsureFinite = bool | Literal["allow-nan"]


@dataclass(frozen=True)
class Fitted:
    """A fitted model without its parameters.

    Attributes
    ----------
    n_features : int
        Numbers per row.
    n_components : int
        Dimensions of the embedding.
    input_shape : tuple of int
        Shape of one row as passed to ``fit``.
    row_shape : tuple of int
        Shape of one row for the network.
    graph : scipy CSR matrix of shape (n_rows, n_rows), or None
        Membership strengths, symmetric. Of distinct rows only where ``unique=True``. None in a
        model that was saved with ``keep="network"``.
    n_anchors : int or None
        Number of rows whose neighbours the graph holds; None where it holds those of all rows.
    is_supervised : bool
        Whether targets were part of the fit.
    feature_names : ndarray of str or None
        Column names, if all of them are strings.
    embedding : ndarray of shape (n_samples, n_components), float32, or None
        Positions of all rows; None after ``transform_mode="graph"``, and without a graph.
    distinct : ndarray of shape (n_rows,), int64, or None
        Numbers of the distinct rows among all rows, where ``unique=True``.
    history, report : dict or None
        See ``history_`` and ``report_`` of the estimators.
    rad_orig, rad_emb : ndarray of shape (n_samples,), float32, or None
        Log local radii in the data and in the embedding.
    encoder, decoder, classifier : nn.Module or None
        The trained networks, in evaluation mode.
    reconstruction_loss : ReconstructionLoss or None
        Of the decoder.
    classes : ndarray or None
        Labels in the order of the classifier's outputs.
    landmarks : Landmarks or None
        Rows that the next fit keeps in place.
    training : TrainingRows or None
        The training rows (distinct ones where ``unique=True``); None in a model that was saved
        without them.
    card : Card or None
        What the map says about itself; None in files of neumap 0.1.
    """

    n_features: int
    n_components: int
    input_shape: tuple[int, ...]
    row_shape: tuple[int, ...]
    graph: Any = None
    n_anchors: int | None = None
    is_supervised: bool = False
    feature_names: NDArray[Any] | None = None
    embedding: NDArray[np.float32] | None = None
    distinct: NDArray[np.int64] | None = None
    history: History | None = None
    report: dict[str, Any] | None = None
    rad_orig: NDArray[np.float32] | None = None
    rad_emb: NDArray[np.float32] | None = None
    encoder: nn.Module | None = None
    decoder: nn.Module | None = None
    reconstruction_loss: ReconstructionLoss | None = None
    classifier: nn.Module | None = None
    classes: NDArray[Any] | None = None
    landmarks: Landmarks | None = None
    training: TrainingRows | None = None
    card: Card | None = None

    @property
    def positions(self) -> NDArray[np.float32]:
        """Positions of the rows of the graph, (n_rows, n_components)."""
        if self.embedding is None and self.graph is None:
            raise NotFittedError(left_out("Positions of training rows"))
        if self.embedding is None:
            raise NotFittedError(
                "transform_mode must be 'embedding' during fit for a model with positions, got "
                "'graph'. Set transform_mode='embedding' and fit again."
            )
        return self.embedding if self.distinct is None else self.embedding[self.distinct]

    def check_new(
        self,
        X: Any,
        ensure_all_finite: EnsureFinite,
        estimator_name: str,
        column: str | None = None,
    ) -> Validated:
        """Check rows that come after the fit; their width and names must be those of the fit."""
        return check_input(
            X,
            ensure_all_finite=ensure_all_finite,
            n_features=self.n_features,
            feature_names=self.feature_names,
            min_rows=1,
            estimator_name=estimator_name,
            column=column,
        )

    def network_rows(self, new: Validated) -> RowStore:
        """Return checked rows in the shape and on the device of the encoder."""
        assert self.encoder is not None
        return as_rows(new.X, dims=self.row_shape, device=device_of(self.encoder))

    @own_torch_state()
    def embed(self, new: Validated, batch_rows: int | None = None) -> NDArray[np.float32]:
        """Return the encoder's positions of checked rows."""
        assert self.encoder is not None
        return encode_rows(self.encoder, self.network_rows(new), batch_rows)

    @own_torch_state()
    def embed_as_tensor(self, new: Validated, batch_rows: int | None = None) -> Tensor:
        """Return the same positions as a tensor on the device of the encoder."""
        assert self.encoder is not None
        rows = self.network_rows(new)
        return encode_to(self.encoder, rows, device_of(self.encoder), batch_rows)

    def training_rows(self, purpose: str) -> TrainingRows:
        """Return the training rows.

        Raises
        ------
        ValueError
            If the model was saved without them; `purpose` begins the message.
        """
        if self.training is None:
            raise ValueError(
                f"{purpose} needs the training rows, which were not saved with this model. Save "
                "it with keep='data'."
            )
        return self.training

    def data(self, purpose: str) -> Validated:
        """Return the training rows as checked data."""
        rows = self.training_rows(purpose).rows
        return Validated(
            rows, self.feature_names, self.n_features, self.input_shape, is_finite=False
        )

    def first_rows(self, n_rows: int) -> Fitted:
        """Return the model of the first rows, without landmarks that were appended to them."""
        if self.graph.shape[0] <= n_rows:
            return self
        return replace(
            self,
            graph=self.graph[:n_rows, :n_rows],
            training=None if self.training is None else self.training.first_rows(n_rows),
            embedding=_first(self.embedding, n_rows),
            rad_orig=_first(self.rad_orig, n_rows),
            rad_emb=_first(self.rad_emb, n_rows),
        )

    @property
    def holds(self) -> Literal["network", "map", "data"]:
        """How much of a model this is, in the words of ``save``."""
        if self.graph is None:
            return "network"
        return "map" if self.training is None else "data"

    def without_rows(self) -> Fitted:
        """Return what new rows need and nothing that grows with the number of training rows."""
        nothing: dict[str, Any] = dict.fromkeys(PER_ROW)
        return replace(self, **nothing)

    def for_pickle(self) -> Fitted:
        """Return what a pickle keeps: with an encoder no training rows, as in a saved file."""
        return self if self.encoder is None else replace(self, training=None)


def _first(values: NDArray[np.float32] | None, n_rows: int) -> NDArray[np.float32] | None:
    return None if values is None else values[:n_rows]


FIELDS = tuple(field.name for field in fields(Fitted))
# What grows with the number of training rows.
PER_ROW = ("graph", "embedding", "distinct", "rad_orig", "rad_emb", "landmarks", "training")


def left_out(what: str) -> str:
    """Return the message for something that a model was saved without."""
    return (
        f"{what} must be of a model that was saved with positions and graph, got one that was "
        "saved with keep='network'. Save it with keep='map', or with keep='data' for update and "
        "confidence as well."
    )


def check_rows(
    X: Any, ensure_all_finite: EnsureFinite, estimator_name: str, column: str | None = None
) -> Validated:
    """Check rows to fit."""
    return check_input(
        X,
        ensure_all_finite=ensure_all_finite,
        min_rows=2,
        estimator_name=estimator_name,
        column=column,
    )


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


class Learned(Generic[T]):
    """A public attribute of an estimator that reads one field of its :class:`Fitted`.

    Before a fit, and where a fit did not learn the field, the attribute does not exist. Setting it
    replaces the field, so that an encoder that was trained further takes part in ``transform``.
    """

    def __init__(self, field: str) -> None:
        self.field = field

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, model: None, owner: type) -> Learned[T]: ...
    @overload
    def __get__(self, model: object, owner: type) -> T: ...
    def __get__(self, model: object | None, owner: type) -> Learned[T] | T:
        if model is None:
            return self
        fitted = vars(model).get("_fitted")
        value: T | None = None if fitted is None else getattr(fitted, self.field)
        if value is None and fitted is not None and fitted.graph is None and self.field in PER_ROW:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self.name!r}. {left_out(self.name)}"
            )
        if value is None:
            why = "is not fitted" if fitted is None else "did not learn it with these parameters"
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self.name!r}: this model {why}."
            )
        return value

    def __set__(self, model: object, value: T) -> None:
        fitted = vars(model).get("_fitted")
        if fitted is None:
            raise AttributeError(f"{self.name} can be set after fit only. Call fit first.")
        vars(model)["_fitted"] = replace(fitted, **{self.field: value})
