"""An estimator as one archive, and back: what is kept, what is not, and what is said about it.

In the archive's metadata stand the class, the parameters and the fitted attributes as nodes of
:mod:`neumap.estimators.packing`; arrays and weights stand beside them under their own names.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from sklearn.base import BaseEstimator
from torch import nn

from neumap._device import resolve_device
from neumap.archive import Archive, ArchiveError, check_node, read_archive, write_archive
from neumap.estimators.packing import Node, NotStorableError, Packer, Unpacker

__all__ = ["read_estimator", "save_estimator"]

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=BaseEstimator)

TRAINING_ROWS = "_raw_data"
# Parameters that hold rows of the user's data, which a file for others should not.
DATA_PARAMETERS = ("reconstruction_validation",)
# Without them the rows of a free table could not be searched as before.
SEARCH_PARAMETERS = ("metric", "metric_kwds")


# ---- save ---------------------------------------------------------------------------------------


def save_estimator(
    estimator: BaseEstimator, path: str | os.PathLike[str], *, keep_data: bool | None
) -> Path:
    """Write an estimator, fitted or not; see :meth:`neumap.estimators.UMAP.save`."""
    parameters = estimator.get_params(deep=False)
    attributes = {name: v for name, v in vars(estimator).items() if name not in parameters}
    keeps_rows = _keeps_rows(estimator, attributes, keep_data)
    packer = Packer(_row_shapes(estimator))
    lost: dict[str, str] = {}
    if not keep_data:
        for name in [n for n in DATA_PARAMETERS if parameters.get(n) is not None]:
            del parameters[name]
            lost[name] = "it holds rows of data, which keep_data=True would keep"
    rows = {TRAINING_ROWS: attributes.pop(TRAINING_ROWS, None)} if keeps_rows else {}
    attributes.pop(TRAINING_ROWS, None)
    nodes = {
        "class": type(estimator).__name__,
        "parameters": _pack_all(packer, parameters, "parameters.", lost),
        "attributes": _pack_all(packer, attributes, "", lost) | _pack_rows(packer, rows),
    }
    if rows:
        _check_searchable(lost)
    _warn_of(lost)
    metadata = {"estimator": nodes}
    return write_archive(path, tensors=packer.tensors, metadata=metadata, blobs=packer.blobs)


def _keeps_rows(estimator: Any, attributes: Mapping[str, Any], keep_data: bool | None) -> bool:
    """Whether the training rows go into the file: by default where placing new rows needs them."""
    has_rows = TRAINING_ROWS in attributes
    if keep_data and not has_rows:
        if any(getattr(estimator, name, None) is not None for name in DATA_PARAMETERS):
            return False
        raise ValueError(
            f"keep_data=True, but this {type(estimator).__name__} holds no rows of data: a model "
            "with an encoder keeps none. Leave keep_data out, and keep the data yourself."
        )
    needed = not getattr(estimator, "parametric_embedding", False)
    return has_rows and (needed if keep_data is None else keep_data)


def _row_shapes(estimator: Any) -> dict[str, tuple[int, ...] | None]:
    """Shapes of a row for the networks, as far as they are known."""
    dims = getattr(estimator, "dims", None)
    fitted = getattr(estimator, "row_shape_", None)
    return {
        "encoder": fitted if fitted is not None else None if dims is None else tuple(dims),
        "decoder": (estimator.n_components,),
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


def _pack_rows(packer: Packer, rows: Mapping[str, Any]) -> dict[str, Node]:
    try:
        return {name: packer.pack(value, name) for name, value in rows.items()}
    except NotStorableError as reason:
        kind = type(rows[TRAINING_ROWS]).__name__
        raise ArchiveError(
            f"Expected training rows in memory, which transform of this model needs; got a {kind}, "
            f"and {reason}. Fit on an array, or save with keep_data=False and without transform."
        ) from None


def _check_searchable(lost: Mapping[str, str]) -> None:
    for name in [name for name in SEARCH_PARAMETERS if name in lost]:
        raise ArchiveError(
            f"Expected a {name} that a file can hold, since transform of this model searches with "
            f"it; {lost[name]}. Use a metric by its name, or save with keep_data=False and without "
            "transform."
        )


def _warn_of(lost: Mapping[str, str]) -> None:
    if lost:
        listed = "; ".join(f"{name}: {reason}" for name, reason in lost.items())
        warnings.warn(
            f"Left out of the saved model, defaults take their place when it is loaded: {listed}.",
            stacklevel=4,
        )


# ---- load ---------------------------------------------------------------------------------------


def read_estimator(
    path: str | os.PathLike[str],
    kinds: Iterable[type[E]],
    *,
    networks: Mapping[str, Any],
    classes: Sequence[Any],
    device: str | torch.device,
) -> E:
    """Read an estimator; see :func:`neumap.load`.

    Parameters
    ----------
    path : path-like
    kinds : iterable of estimator classes
        Those a file may name.
    networks : mapping of str to network or None
        ``encoder`` and ``decoder`` as passed by the user.
    classes, device
        As in :func:`neumap.load`.
    """
    archive = read_archive(path)
    nodes = _nodes_of(archive, path)
    cls = _class_of(nodes.get("class", ""), kinds, path)
    given = {name: network for name, network in networks.items() if network is not None}
    _check_given(nodes, given, cls, path)
    unpacker = Unpacker(archive, classes, given)
    estimator: Any = cls(**_parameters(nodes["parameters"], unpacker, cls, device))
    attributes = {name: unpacker.unpack(node, name) for name, node in nodes["attributes"].items()}
    target = resolve_device(estimator.device)
    for value in attributes.values():
        if isinstance(value, nn.Module):
            value.to(target)
    vars(estimator).update(attributes)
    restored: E = estimator
    return restored


def _nodes_of(archive: Archive, path: str | os.PathLike[str]) -> dict[str, Any]:
    nodes = archive.metadata.get("estimator")
    if not isinstance(nodes, dict):
        raise ArchiveError(
            f"Expected a saved estimator at {os.fspath(path)!r}; the file is neumap's, but holds "
            f"{', '.join(archive.metadata) or 'nothing'} instead. Read it with "
            "neumap.archive.read_archive, or give the file that save() wrote."
        )
    for part in ("parameters", "attributes"):
        check_node({"dict": nodes.get(part)}, part, archive.tensors, archive.blobs)
    return nodes


def _class_of(name: str, kinds: Iterable[type[E]], path: str | os.PathLike[str]) -> type[E]:
    for kind in kinds:
        if kind.__name__ == name:
            return kind
    raise ArchiveError(
        f"Expected a UMAP or ParametricUMAP at {os.fspath(path)!r}; the file holds the class "
        f"{name!r}. Pass classes=[{name}]."
    )


def _check_given(
    nodes: Mapping[str, Any], given: Mapping[str, Any], cls: type[Any], path: str | os.PathLike[str]
) -> None:
    """Refuse a network for which the file has no place."""
    for name in given:
        parameter = nodes["parameters"].get(name)
        left_out = name in cls._get_param_names() and parameter is None
        places = (parameter or {}, nodes["attributes"].get(f"{name}_", {}))
        if not left_out and not any({"module", "keras"} & place.keys() for place in places):
            raise ValueError(
                f"{name} was passed, but the model at {os.fspath(path)!r} has no {name} to fill. "
                f"Leave {name} out."
            )


def _parameters(
    nodes: Mapping[str, Node], unpacker: Unpacker, cls: type[Any], device: str | torch.device
) -> dict[str, Any]:
    unknown = nodes.keys() - set(cls._get_param_names())
    if unknown:
        raise ArchiveError(
            f"Expected parameters of {cls.__name__}; the file has {', '.join(sorted(unknown))} as "
            'well, which this neumap does not know. Update with: pip install -U "neumap"'
        )
    values = {name: unpacker.unpack(node, f"parameters.{name}") for name, node in nodes.items()}
    for name, network in unpacker.given.items():
        values.setdefault(name, network)  # in the place of one that could not be stored
    values["device"] = _device(values.get("device", "auto"), device)
    return values


def _device(saved: str | torch.device, wanted: str | torch.device) -> str | torch.device:
    """Return the parameter ``device``: the wanted one, else the saved one where it exists here."""
    if wanted != "auto":
        resolve_device(wanted)
        return wanted
    try:
        torch.empty(0, device=resolve_device(saved))
    except (ValueError, RuntimeError, AssertionError):  # torch raises each of them for some device
        logger.info("the model was made for the device %s, which is not here", saved)
        return "auto"
    return saved
