"""What a fitted model from a file must be, so that it cannot fail later.

The archive has checked structure and sizes, and each value has its type. Here the values are
compared with each other: one row of the graph per position, one label per class, networks that
take and return rows of the right shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import nn

from neumap.archive import ArchiveError, bounded_layers
from neumap.archive.schema import misfit
from neumap.data import as_rows
from neumap.estimators.constraints import (
    FUNCTION,
    NAME,
    SHAPE,
    SWITCH,
    Constraints,
    Number,
    Whole,
    check_parameter,
)
from neumap.estimators.fitted import PER_ROW, Fitted, device_of
from neumap.estimators.landmarks import Landmarks
from neumap.losses.reconstruction import ReconstructionLoss
from neumap.training.embedders import encode_rows

__all__ = ["check_fitted", "check_networks", "check_saved_parameters", "check_settings"]

NUMERIC = "biuf"
OUTPUTS = frozenset({"default", "pandas", "polars"})


def check_saved_parameters(parameters: Mapping[str, Any], constraints: Constraints) -> None:
    """Raise if a parameter of a model is none that its class takes."""
    # The table leaves metrics to the search, which expects a name or a function.
    constraints = {**constraints, "metric": (NAME, FUNCTION)}
    try:
        for name in parameters.keys() & constraints.keys():
            check_parameter(name, parameters[name], *constraints[name])
    except ValueError as error:
        raise ArchiveError(
            f"Parameters of the file must be valid, got others: {error} "
            "Then save the model again, or use a file from a source you trust."
        ) from error


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise if settings of scikit-learn are not those that ``set_output`` makes."""
    for name, value in settings.items():
        is_output = name == "_sklearn_output_config" and isinstance(value, dict)
        if not is_output or any(
            key != "transform" or not isinstance(kind, str) or kind not in OUTPUTS
            for key, kind in value.items()
        ):
            raise misfit(name, "what set_output makes", value)


def check_fitted(fitted: Fitted) -> None:
    """Raise if the fields of a model do not fit together.

    Raises
    ------
    ArchiveError
        Naming the field, what it must be and what it is.
    """
    _check_shapes(fitted)
    if fitted.graph is None:
        _check_network_alone(fitted)
    else:
        _check_graph(fitted)
        _check_embedding(fitted)
    _check_texts(fitted)
    if fitted.card is not None and fitted.card.rows is not None:
        _check_array(fitted.card.rows.center, "card.rows.center", np.float32, (fitted.n_features,))
    _check_roles(fitted)
    if fitted.landmarks is not None:
        _check_landmarks(fitted, fitted.landmarks)
    if fitted.training is not None:
        n_rows, rows = fitted.graph.shape[0], fitted.training.rows
        _check_data(rows, n_rows, fitted.n_features, "training")


def _check_shapes(fitted: Fitted) -> None:
    for name in ("n_features", "n_components"):
        if getattr(fitted, name) not in Whole(1):
            raise misfit(name, "a whole number of at least 1", getattr(fitted, name))
    for name in ("input_shape", "row_shape"):
        shape = getattr(fitted, name)
        if not isinstance(shape, tuple) or shape not in SHAPE:
            raise misfit(name, SHAPE.text, shape)
        if math.prod(shape) != fitted.n_features:
            raise misfit(name, f"a shape of {fitted.n_features} numbers", str(shape))
    if fitted.n_anchors is not None and fitted.n_anchors not in Whole(1):
        raise misfit("n_anchors", "None, or a whole number of at least 1", fitted.n_anchors)
    if fitted.is_supervised not in SWITCH:
        raise misfit("is_supervised", SWITCH.text, fitted.is_supervised)


def _check_network_alone(fitted: Fitted) -> None:
    for name in PER_ROW:
        if getattr(fitted, name) is not None:
            raise misfit("graph", f"there for a model with {name}", None)
    if fitted.encoder is None:
        raise misfit("graph", "there for a model without an encoder", None)


def _check_graph(fitted: Fitted) -> None:
    graph = fitted.graph
    if not _is_sparse(graph) or graph.format != "csr" or graph.dtype.kind != "f":
        raise misfit("graph", "a CSR matrix of floats", graph)
    if graph.shape[0] != graph.shape[1] or graph.shape[0] == 0:
        raise misfit("graph", "a square matrix", f"the shape {graph.shape}")
    if not (np.isfinite(graph.data).all() and (graph.data >= 0).all()):
        raise misfit("graph", "a matrix of finite weights from 0", "others")


def _is_sparse(value: Any) -> bool:
    return bool(scipy.sparse.issparse(value))  # without it, mypy takes the matrix for its base


def _check_embedding(fitted: Fitted) -> None:
    n_rows = n_samples = fitted.graph.shape[0]
    distinct, embedding = fitted.distinct, fitted.embedding
    if distinct is not None:
        _check_array(distinct, "distinct", np.int64, (n_rows,))
    if embedding is not None:
        if distinct is not None and isinstance(embedding, np.ndarray) and embedding.ndim == 2:
            n_samples = len(embedding)
        _check_array(embedding, "embedding", np.float32, (n_samples, fitted.n_components))
        if distinct is not None and not ((distinct >= 0) & (distinct < n_samples)).all():
            raise misfit("distinct", f"row numbers below {n_samples}", "others")
    for name in ("rad_orig", "rad_emb"):
        if getattr(fitted, name) is not None:
            _check_array(getattr(fitted, name), name, np.float32, (n_samples,))


def _check_array(value: Any, name: str, dtype: type, shape: tuple[int, ...]) -> None:
    is_array = isinstance(value, np.ndarray)
    if not is_array or value.dtype != dtype or value.shape != shape:
        got = f"{value.dtype} of shape {value.shape}" if is_array else value
        raise misfit(name, f"an array of {np.dtype(dtype)} of shape {shape}", got)


def _check_texts(fitted: Fitted) -> None:
    names, classes = fitted.feature_names, fitted.classes
    if names is not None and not (
        isinstance(names, np.ndarray)
        and names.shape == (fitted.n_features,)
        and all(isinstance(name, str) for name in names.tolist())
    ):
        raise misfit("feature_names", f"an array of {fitted.n_features} names", names)
    if classes is not None and not (isinstance(classes, np.ndarray) and classes.ndim == 1):
        raise misfit("classes", "an array of labels", classes)
    history = {} if fitted.history is None else fitted.history
    if not isinstance(history, dict) or not all(
        isinstance(curve, list) and all(type(loss) in (int, float) for loss in curve)
        for curve in history.values()
    ):
        raise misfit("history", "a dict of lists of numbers", history)
    if fitted.report is not None and not isinstance(fitted.report, dict):
        raise misfit("report", "a dict", fitted.report)


def _check_roles(fitted: Fitted) -> None:
    kinds = dict.fromkeys(("encoder", "decoder", "classifier"), nn.Module)
    for name, kind in {**kinds, "reconstruction_loss": ReconstructionLoss}.items():
        value = getattr(fitted, name)
        if value is not None and not isinstance(value, kind):
            raise misfit(name, f"a {kind.__name__}", value)
    if fitted.decoder is not None and fitted.reconstruction_loss is None:
        raise misfit("reconstruction_loss", "there for a model with a decoder", None)
    if fitted.classifier is not None and fitted.classes is None:
        raise misfit("classes", "there for a model with a classifier", None)


def _check_landmarks(fitted: Fitted, landmarks: Any) -> None:
    if not isinstance(landmarks, Landmarks):
        raise misfit("landmarks", "landmarks", landmarks)
    positions, weight = landmarks.positions, landmarks.loss_weight
    if not isinstance(positions, np.ndarray) or positions.ndim != 2:
        raise misfit("landmarks.positions", "an array with two axes", positions)
    n_rows = len(positions)
    _check_array(positions, "landmarks.positions", np.float32, (n_rows, fitted.n_components))
    _check_data(landmarks.rows, n_rows, fitted.n_features, "landmarks.rows")
    if weight not in Number():
        raise misfit("landmarks.loss_weight", Number().text, weight)


def _check_data(rows: Any, n_rows: int, n_features: int, name: str) -> None:
    """Raise if these are not rows of data of the model."""
    if isinstance(rows, torch.Tensor):
        is_numeric = not rows.is_complex()
    else:
        is_array = isinstance(rows, np.ndarray) or _is_sparse(rows)
        is_numeric = is_array and rows.dtype.kind in NUMERIC
    if not is_numeric:
        raise misfit(name, "an array of numbers", rows)
    shape = tuple(rows.shape)
    if len(shape) < 2 or shape[0] != n_rows or math.prod(shape[1:]) != n_features:
        raise misfit(name, f"{n_rows} rows of {n_features} numbers", f"the shape {shape}")


def check_networks(fitted: Fitted) -> None:
    """Raise if a network does not turn one row of zeros into one row of the right size.

    Its memory and work are bounded. The networks stay as they are.
    """
    n_components, n_classes = (
        fitted.n_components,
        len(() if fitted.classes is None else fitted.classes),
    )
    position = (n_components,)
    for name, row_shape, n_outputs in (
        ("encoder", fitted.row_shape, n_components),
        ("decoder", position, fitted.n_features),
        ("classifier", position, n_classes),
    ):
        network = getattr(fitted, name)
        if network is not None:
            _check_network(network, row_shape, n_outputs, name)


def _check_network(
    network: nn.Module, row_shape: tuple[int, ...], n_outputs: int, name: str
) -> None:
    if math.prod(row_shape) >= 2**24:
        raise misfit(name, "a network for rows of at most 2**24 numbers", math.prod(row_shape))
    device = device_of(network)
    row = as_rows(np.zeros((1, *row_shape), dtype=np.float32), device=device)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), bounded_layers(network, name):
            output = encode_rows(network, row)
    except NotImplementedError:  # a precision that this device does not have
        return
    except ArchiveError:
        raise
    except Exception as error:  # whatever layers raise for rows that do not fit them
        raise ArchiveError(
            f"The {name} of the file must take rows of shape {row_shape}, got {error!s:.300}. "
            "Use a file from a source you trust, or save the model again."
        ) from error
    if (
        output.shape[:1] != (1,)
        or output.size != n_outputs
        or (name == "encoder" and output.ndim != 2)
    ):
        raise misfit(name, f"a network with {n_outputs} outputs", f"the shape {output.shape[1:]}")
