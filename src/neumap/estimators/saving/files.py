"""A model as one archive, and back: what is kept, what is not, and what is said about it.

The archive's metadata hold the class, the parameters and the fields of
:class:`~neumap.estimators.fitted.Fitted` as nodes of :mod:`neumap.estimators.saving.nodes`.
Arrays and weights are tensors of the archive under the names of their fields.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from neumap._card import Card, card_of
from neumap._device import resolve_device
from neumap._warnings import warn_user
from neumap.archive import (
    Archive,
    ArchiveError,
    check_node,
    fits_json,
    read_archive,
    write_archive,
)
from neumap.estimators.aligned.learned import AlignedFitted
from neumap.estimators.fitted import FIELDS, Fitted
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.estimators.saving.checks import check_fitted, check_networks, check_settings
from neumap.estimators.saving.copies import SETTINGS
from neumap.estimators.saving.nodes import Node, NotStorableError, Packer, Unpacker
from neumap.estimators.saving.several import pack_aligned, part_nodes, unpack_aligned
from neumap.estimators.saving.version_1 import of_version_1

__all__ = ["Keep", "SavedModel", "read_model", "save_model"]

Keep = Literal["network", "map", "data"]

logger = logging.getLogger(__name__)

# Of the estimator in the archive; the archive has a version of its own. Version 1 (neumap 0.1) held
# the attributes of the estimator instead of the fields of Fitted.
FORMAT = 2

# Parameters that hold rows of the user's data, which a file for others should not.
DATA_PARAMETERS = ("reconstruction_validation",)
# Parameters that may hold a value for each row.
ROW_PARAMETERS = ("precomputed_knn",)
# Without them new rows could not be searched for and placed among training rows as before.
SEARCH_PARAMETERS = ("metric", "metric_kwds", "output_metric", "output_metric_kwds")

REQUIRED = {field.name for field in fields(Fitted) if field.default is MISSING}


@dataclass(frozen=True)
class SavedModel:
    """A model by its values.

    Attributes
    ----------
    class_name : str
    parameters : dict
        As ``get_params`` gives them.
    fitted : Fitted or None
        What a fit learned.
    settings : dict
        Of scikit-learn, by the names in :data:`SETTINGS`: what ``set_output`` and metadata
        requests chose.
    aligned : AlignedFitted or None
        What a fit of several data sets learned.
    """

    class_name: str
    parameters: dict[str, Any]
    fitted: Fitted | None
    settings: dict[str, Any]
    aligned: AlignedFitted | None = None

    @property
    def first(self) -> Fitted | None:
        """The model, or that of the first data set."""
        return self.fitted if self.aligned is None else self.aligned.parts[0]


# ---- save ---------------------------------------------------------------------------------------


def save_model(
    model: SavedModel,
    path: str | os.PathLike[str],
    *,
    keep: Keep | None = None,
    keep_data: bool | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model, fitted or not; see :meth:`neumap.estimators.UMAP.save`."""
    wanted = _wanted(keep, keep_data)
    if notes is not None:
        model = replace(model, fitted=_noted(model.fitted, notes))
    parameters, fitted = dict(model.parameters), model.fitted
    keeps_rows = _keeps_rows(model, wanted)
    if fitted is not None and not keeps_rows:
        fitted = replace(fitted, training=None)
    if wanted == "network":
        fitted = _network_alone(model)
    lost = _without_rows(parameters, wanted)
    packer = Packer(_row_shapes(model))
    nodes: dict[str, Any] = {
        "format": FORMAT,
        "class": model.class_name,
        "parameters": _pack_all(packer, parameters, "parameters.", lost),
        "settings": _pack_all(packer, model.settings, "settings.", lost),
        "fitted": None if fitted is None else _pack_fitted(packer, fitted, lost),
    }
    if model.aligned is not None:
        nodes["aligned"] = pack_aligned(
            model.aligned.for_pickle(), packer, partial(_pack_part, packer, lost)
        )
    if keeps_rows:
        _check_searchable(lost)
    if lost:
        listed = "; ".join(f"{name}: {reason}" for name, reason in lost.items())
        warn_user(
            f"Left out of the saved model, defaults take their place when it is loaded: {listed}."
        )
    metadata = {"estimator": nodes}
    return write_archive(path, tensors=packer.tensors, metadata=metadata, blobs=packer.blobs)


def _without_rows(parameters: dict[str, Any], wanted: Keep | None) -> dict[str, str]:
    """Delete parameters that hold or grow with rows; return their names and why."""
    lost: dict[str, str] = {}
    for name in DATA_PARAMETERS if wanted != "data" else ():
        if parameters.get(name) is not None:
            del parameters[name]
            lost[name] = "it holds rows of data, which keep='data' would keep"
    for name in ROW_PARAMETERS if wanted == "network" else ():
        if parameters.get(name) is not None:
            del parameters[name]
            lost[name] = "it grows with the rows of data, and keep='map' would keep it"
    return lost


def _wanted(keep: Keep | None, keep_data: bool | None) -> Keep | None:
    """Return how much should be kept, None for the default."""
    if keep is not None and keep not in get_args(Keep):
        raise ValueError(
            f"keep must be one of {list(get_args(Keep))}, got {keep!r}. Choose one of these."
        )
    if keep_data is None:
        return keep
    same: Keep = "data" if keep_data else "map"
    if keep not in (None, same):
        raise ValueError(
            f"keep must be {same!r} with keep_data={keep_data}, got {keep!r}. Pass keep alone."
        )
    return same


def _noted(fitted: Fitted | None, notes: Mapping[str, Any]) -> Fitted:
    """Return a fitted model with notes on its card."""
    if fitted is None:
        raise ValueError(
            "card must be None for a model that is not fitted, got notes. Fit the model first."
        )
    is_right = isinstance(notes, Mapping) and all(isinstance(name, str) for name in notes)
    if not is_right or not fits_json(notes):
        raise ValueError(
            "card must map names to text, numbers, and lists and dicts of these, got "
            f"{notes!r:.100}. Write the notes as text."
        )
    n_rows = 0 if fitted.graph is None else fitted.graph.shape[0]
    card = fitted.card or Card(created="", version="0.1", n_rows=n_rows)
    return replace(fitted, card=card.noted(notes))


def _keeps_rows(model: SavedModel, wanted: Keep | None) -> bool:
    """Whether the training rows go into the file: by default if placing new rows needs them."""
    if model.aligned is not None:
        return not model.aligned.has_network
    has_rows = model.fitted is not None and model.fitted.training is not None
    if wanted == "data" and not has_rows:
        if any(model.parameters.get(name) is not None for name in DATA_PARAMETERS):
            return False
        raise ValueError(
            f"keep must be 'network' or 'map' for this {model.class_name}, which holds no rows of "
            "data, got 'data'. A model that was loaded or unpickled without them has none: keep "
            "the data yourself."
        )
    needed = model.fitted is not None and model.fitted.encoder is None
    return has_rows and (needed if wanted is None else wanted == "data")


def _network_alone(model: SavedModel) -> Fitted | None:
    """Return the fitted model without all that grows with the number of training rows."""
    if model.fitted is not None and model.fitted.encoder is None:
        raise ValueError(
            f"keep must be 'map' or 'data' for this {model.class_name}, which has no network, got "
            "'network'. Fit a ParametricUMAP with parametric_embedding=True for a small file."
        )
    return None if model.fitted is None else model.fitted.without_rows()


def _row_shapes(model: SavedModel) -> dict[str, tuple[int, ...] | None]:
    """Shapes of a row for the networks, as far as they are known."""
    dims = model.parameters.get("dims")
    known = None if dims is None else tuple(dims)
    return {
        "encoder": known if model.first is None else model.first.row_shape,
        "decoder": (model.parameters["n_components"],),
    }


def _pack_all(
    packer: Packer, values: Mapping[str, Any], prefix: str, lost: dict[str, str]
) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for name, value in values.items():
        try:
            nodes[name] = packer.pack(value, prefix + name)
        except NotStorableError as reason:
            lost[name] = str(reason)
    return nodes


def _pack_part(
    packer: Packer, lost: dict[str, str], fitted: Fitted, prefix: str
) -> dict[str, Node]:
    return _pack_fitted(packer, fitted, lost, prefix)


def _pack_fitted(
    packer: Packer, fitted: Fitted, lost: dict[str, str], prefix: str = ""
) -> dict[str, Node]:
    """Return the nodes of all fields that are known."""
    values = {name: getattr(fitted, name) for name in FIELDS if name != "training"}
    values["card"] = None if fitted.card is None else fitted.card.as_dict()
    known = {name: value for name, value in values.items() if value is not None}
    nodes = _pack_all(packer, known, prefix, lost)
    if fitted.training is not None:
        nodes["training"] = _pack_rows(packer, fitted.training.rows, prefix + "training")
    return nodes


def _pack_rows(packer: Packer, rows: Any, name: str) -> Node:
    try:
        return packer.pack(rows, name)
    except NotStorableError as reason:
        raise ArchiveError(
            f"Training rows must be in memory to be saved, got a {type(rows).__name__}, and "
            f"{reason}. Fit on an array, or save with keep='map', after which a model without an "
            "encoder places no new rows."
        ) from None


def _check_searchable(lost: Mapping[str, str]) -> None:
    for name in [name for name in SEARCH_PARAMETERS if name in lost]:
        raise ArchiveError(
            f"{name} must be one that a file can hold, since transform of this model searches with "
            f"it; {lost[name]}. Use a metric by its name, or save with keep='map' and without "
            "transform."
        )


# ---- load ---------------------------------------------------------------------------------------


def read_model(
    path: str | os.PathLike[str],
    parameter_names: Mapping[str, Sequence[str]],
    *,
    networks: Mapping[str, Any],
    classes: Sequence[Any],
    device: str | torch.device,
) -> SavedModel:
    """Read a model; see :func:`neumap.load`.

    Parameters
    ----------
    path : path-like
    parameter_names : mapping of str to sequence of str
        Of every class that the file may name.
    networks : mapping of str to network or None
        ``encoder`` and ``decoder`` as passed by the user.
    classes, device
        As in :func:`neumap.load`.
    """
    archive = read_archive(path)
    nodes = _nodes_of(archive, path)
    name = nodes["class"]
    if name not in parameter_names:
        raise ArchiveError(
            f"The file at {os.fspath(path)!r} must hold a UMAP, ParametricUMAP or "
            f"AlignedUMAP, got the class {name!r}. Pass classes=[{name}]."
        )
    known = parameter_names[name]
    several = nodes.get("aligned")
    parts = [] if several is None else part_nodes(several)
    learned = nodes["fitted"] if not parts else parts[0]
    given = {role: network for role, network in networks.items() if network is not None}
    _check_given(nodes["parameters"], learned or {}, given, known, path)
    unpacker = Unpacker(archive, classes, given)
    parameters = _parameters(nodes["parameters"], unpacker, name, known)
    parameters["device"] = _device(parameters.get("device", "auto"), device)
    settings = {n: unpacker.unpack(nodes["settings"][n], n) for n in nodes["settings"]}
    _check_names(settings, SETTINGS, "Settings of scikit-learn")
    check_settings(settings)
    on = resolve_device(parameters["device"])
    # Networks of the caller may have effects when they are called.
    finish = partial(_checked, unpacker, on, is_tried=not classes and not given)
    if several is not None:
        aligned = unpack_aligned(several, unpacker, finish)
        return SavedModel(name, parameters, None, settings, aligned)
    return SavedModel(name, parameters, None if learned is None else finish(learned), settings)


def _checked(
    unpacker: Unpacker, device: torch.device, nodes: Mapping[str, Node], *, is_tried: bool
) -> Fitted:
    """Return a fitted model whose fields fit together, with its networks on the device."""
    fitted = _fitted(nodes, unpacker)
    check_fitted(fitted)
    _move_networks(fitted, device)
    if is_tried:
        check_networks(fitted)
    return fitted


def _nodes_of(archive: Archive, path: str | os.PathLike[str]) -> dict[str, Any]:
    nodes = archive.metadata.get("estimator")
    if not isinstance(nodes, dict):
        of_a_fit = not {"checkpoint", "search"}.isdisjoint(archive.metadata)
        remedy = (
            "Pass it to fit(X, resume_from=...)"
            if of_a_fit
            else "Read it with neumap.archive.read_archive"
        )
        raise ArchiveError(
            f"The file at {os.fspath(path)!r} must be a saved estimator, but it holds "
            f"{', '.join(archive.metadata) or 'nothing'} instead. {remedy}, or give the file that "
            "save() wrote."
        )
    version = nodes.get("format", 1)
    if version not in (1, FORMAT):
        raise ArchiveError(
            f"The model at {os.fspath(path)!r} must have format {FORMAT} or lower, got "
            f'{version!r}. Update with: pip install -U "neumap"'
        )
    learned = nodes.get("attributes" if version == 1 else "fitted")
    parts = {
        "parameters": nodes.get("parameters"),
        "settings": nodes.get("settings", {}),
        "fitted": {} if learned is None else learned,
    }
    for name, part in parts.items():
        check_node({"dict": part}, name, archive.tensors, archive.blobs)
    if "aligned" in nodes:
        check_node(nodes["aligned"], "aligned", archive.tensors, archive.blobs)
    checked = {**parts, "class": str(nodes.get("class")), "fitted": learned}
    if "aligned" in nodes:
        checked["aligned"] = nodes["aligned"]
    return of_version_1(checked) if version == 1 else checked


def _check_given(
    parameters: Mapping[str, Node],
    learned: Mapping[str, Node],
    given: Mapping[str, Any],
    known: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """Raise for a network that the model has no place for."""
    for name in given:
        left_out = name in known and name not in parameters
        places = (parameters.get(name, {}), learned.get(name, {}))
        if not left_out and not any({"module", "keras"} & place.keys() for place in places):
            raise ValueError(
                f"{name} was passed, but the model at {os.fspath(path)!r} has no {name} to fill. "
                f"Leave {name} out."
            )


def _parameters(
    nodes: Mapping[str, Node], unpacker: Unpacker, class_name: str, known: Sequence[str]
) -> dict[str, Any]:
    _check_names(nodes, known, f"Parameters of {class_name}")
    values = {name: unpacker.unpack(node, f"parameters.{name}") for name, node in nodes.items()}
    for name, network in unpacker.given.items():
        values.setdefault(name, network)  # in the place of one that could not be stored
    return values


def _fitted(nodes: Mapping[str, Node], unpacker: Unpacker) -> Fitted:
    _check_names(nodes, FIELDS, "Fields of a fitted model")
    missing = REQUIRED - nodes.keys()
    if missing:
        raise ArchiveError(
            f"A fitted model must have the fields {', '.join(sorted(REQUIRED))}, got none of "
            f"{', '.join(sorted(missing))}. Take the file from its source again."
        )
    values = {name: unpacker.unpack(node, name) for name, node in nodes.items()}
    if "training" in values:
        values["training"] = TrainingRows(values["training"])
    if "card" in values:
        values["card"] = _card(values["card"])
    return Fitted(**values)


def _card(values: Any) -> Card:
    try:
        return card_of(values)
    except ValueError as error:
        raise ArchiveError(
            f"{error} Use a file from a source you trust, or save the model again."
        ) from error


def _check_names(nodes: Mapping[str, Node], known: Sequence[str], what: str) -> None:
    unknown = nodes.keys() - set(known)
    if unknown:
        raise ArchiveError(
            f"{what} must be known to this neumap, got {', '.join(sorted(unknown))} as well. "
            'Update with: pip install -U "neumap"'
        )


def _move_networks(fitted: Fitted, device: torch.device) -> None:
    for name in FIELDS:
        value = getattr(fitted, name)
        if isinstance(value, nn.Module):
            value.to(device)


def _device(saved: str | torch.device, wanted: str | torch.device) -> str | torch.device:
    """Return the parameter ``device``: the wanted one, else the saved one where it exists here."""
    if wanted != "auto":
        resolve_device(wanted)
        return wanted
    try:
        torch.empty(0, device=resolve_device(saved))
    except (ValueError, RuntimeError, AssertionError):  # torch raises each of them for some device
        logger.info("the model was made for the device %s, which this machine does not have", saved)
        return "auto"
    return saved
