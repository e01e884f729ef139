"""From a saved file to the values that placing rows needs.

The header and the document are read and checked as :func:`neumap.archive.read_archive` does. Of the
tensors only those of the networks and of the card are read, so that a file with a million positions
costs no more than a small one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neumap._card import Card, card_of
from neumap.archive.document import checksum, load_document, verify_places
from neumap.archive.encoding import decode
from neumap.archive.errors import ArchiveError, damaged
from neumap.archive.header import Header, read_bytes, read_header
from neumap.archive.paths import source_of
from neumap.archive.schema import check, mapping_of, misfit, nullable, size

__all__ = ["Network", "Saved", "read_saved"]

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
MOST_COMPONENTS = 2**20

# Files of neumap 0.1 had the attributes of the estimator in place of these fields.
OF_VERSION_1 = {
    "n_features": "n_features_in_",
    "n_components": "_n_features_out",
    "input_shape": "input_shape_",
    "row_shape": "row_shape_",
    "feature_names": "feature_names_in_",
    "encoder": "encoder_",
    "decoder": "decoder_",
    "reconstruction_loss": "reconstruction_loss_",
}


@dataclass(frozen=True)
class Network:
    """A network by its description and its tensors.

    Attributes
    ----------
    kind : str
        Name of its class, or what it is instead.
    config : dict
        Arguments of its constructor.
    tensors : dict of str to ndarray
        Of float32 or float64.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Saved:
    """What placing rows needs of a file.

    Attributes
    ----------
    n_features, n_components : int
    input_shape, row_shape : tuple of int
        Shape of a row as passed to ``fit``, and for the network.
    feature_names : list of str or None
    encoder, decoder : Network or None
    activation : {"sigmoid", "identity"}
        Of the decoder's outputs.
    card : Card or None
    """

    n_features: int
    n_components: int
    input_shape: tuple[int, ...]
    row_shape: tuple[int, ...]
    feature_names: list[str] | None
    encoder: Network | None
    decoder: Network | None
    activation: str
    card: Card | None


def read_saved(path: str | os.PathLike[str]) -> Saved:
    """Read a file of ``save``; see :func:`neumap.runtime.load` for the errors."""
    source = source_of(Path(path))
    with source.open("rb") as file:
        header = read_header(file, source)
        body = load_document(header.texts, source)
        verify_places(header.places, body["tensors"], source)
        try:
            metadata = decode(body["metadata"])
        except ArchiveError as error:
            raise damaged(source, str(error)) from error
        fields = _fields(metadata, source)
        return _saved(fields, _Tensors(file, header, body["tensors"], source))


@dataclass(frozen=True)
class _Tensors:
    """Tensors of an open file, read when they are asked for."""

    file: BinaryIO
    header: Header
    recorded: dict[str, Any]
    source: Path

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.header.places if name.startswith(prefix)]

    def read(self, name: object, where: str) -> NDArray[Any]:
        """Return one tensor as an array of float32 or float64."""
        if not isinstance(name, str) or name not in self.header.places:
            raise misfit(where, "the name of a tensor of the file", name)
        place = self.header.places[name]
        if place.dtype not in NUMPY_DTYPES:
            raise misfit(
                where,
                "of float32 or float64 for the runtime",
                place.dtype,
                "Convert the network with model.encoder_.float() and save again.",
            )
        content = read_bytes(self.file, place, self.source)
        if checksum(place.dtype, place.shape, content) != self.recorded[name][1]:
            raise damaged(self.source, f"the checksum of {name!r} differs")
        return content.view(NUMPY_DTYPES[place.dtype]).reshape(place.shape)


def _fields(metadata: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return the nodes of a fitted model by the names of today's fields."""
    nodes = metadata.get("estimator")
    if not isinstance(nodes, dict):
        raise ArchiveError(
            f"{str(source)!r} must be a saved estimator, got an archive without one. "
            "Give the folder or file that save() wrote."
        )
    version = nodes.get("format", 1)
    if version not in (1, 2) or isinstance(version, bool):
        raise ArchiveError(
            f"{str(source)!r} must have format 2 or lower, got {version!r:.100}. "
            'Update with: pip install -U --no-deps "neumap"'
        )
    fields = nodes.get("attributes" if version == 1 else "fitted")
    if fields is None:
        raise ArchiveError(
            f"{str(source)!r} must hold a fitted model, got one that was saved before its fit. "
            "Save it after fit."
        )
    check(fields, mapping_of(mapping_of(lambda value, where: None)), "fitted")
    if version == 2:
        return dict(fields)
    return {name: fields[old] for name, old in OF_VERSION_1.items() if old in fields}


def _saved(fields: Mapping[str, Any], tensors: _Tensors) -> Saved:
    values = {name: _value(fields, name) for name in ("n_features", "n_components", "input_shape")}
    check(values, {"n_features": size, "n_components": size, "input_shape": [size]}, "fitted")
    n_features, input_shape = values["n_features"], tuple(values["input_shape"])
    row_shape = tuple(_value(fields, "row_shape")) if "row_shape" in fields else input_shape
    for name, shape in (("input_shape", input_shape), ("row_shape", row_shape)):
        check(list(shape), [size], name)
        if math.prod(shape) != n_features or n_features == 0:
            raise misfit(name, f"a shape of {n_features} numbers", str(shape))
    if not 1 <= values["n_components"] <= MOST_COMPONENTS:
        raise misfit("n_components", "a number of dimensions", values["n_components"])
    return Saved(
        n_features=n_features,
        n_components=values["n_components"],
        input_shape=input_shape,
        row_shape=row_shape,
        feature_names=_names(fields, n_features),
        encoder=_network(fields.get("encoder"), "encoder", tensors),
        decoder=_network(fields.get("decoder"), "decoder", tensors),
        activation=_activation(fields.get("reconstruction_loss")),
        card=_card(fields.get("card"), n_features, tensors),
    )


def _value(fields: Mapping[str, Any], name: str) -> Any:
    node = fields.get(name, {})
    if "value" not in node:
        raise misfit(name, "a value of a fitted model", None)
    return node["value"]


def _names(fields: Mapping[str, Any], n_features: int) -> list[str] | None:
    node = fields.get("feature_names")
    if node is None:
        return None
    names = node.get("items")
    check(names, [str], "feature_names")
    if names is None or len(names) != n_features:
        raise misfit("feature_names", f"{n_features} names", "others")
    return list(names)


def _network(node: Any, role: str, tensors: _Tensors) -> Network | None:
    if node is None:
        return None
    if "module" not in node:
        return Network("a Keras model" if "keras" in node else "no network of torch", {}, {})
    schema = {"module": {"root": dict, "tied": mapping_of(str)}, "name": str}
    check(node, schema, role)
    root, prefix = node["module"]["root"], f"{node['name']}."
    kind = next((root[key] for key in ("class", "layer", "container") if key in root), None)
    config = root.get("config") or {}
    check([kind, config], [(str, dict)], f"{role}.root")
    if kind != "neumap.networks.MLP":  # the caller says what to do
        return Network(str(kind), {}, {})
    found = {
        name.removeprefix(prefix): tensors.read(name, f"{role}: {name}")
        for name in tensors.names(prefix)
    }
    tied = node["module"]["tied"].items()
    return Network(str(kind), config, {**found, **{k: found[v] for k, v in tied if v in found}})


def _activation(node: Any) -> str:
    if node is None:
        return "identity"
    check(node, {"activation": frozenset({"sigmoid", "identity"})}, "reconstruction_loss")
    return str(node["activation"])


def _card(node: Any, n_features: int, tensors: _Tensors) -> Card | None:
    if node is None:
        return None
    try:
        card = card_of(_plain(node, "card", tensors))
    except ArchiveError:
        raise
    except ValueError as error:
        raise ArchiveError(f"{error} Use a file from a source you trust.") from error
    if card.rows is not None and card.rows.center.shape != (n_features,):
        raise misfit("card.rows.center", f"a row of {n_features} numbers", "another")
    return card


def _plain(node: Any, where: str, tensors: _Tensors) -> Any:
    """Return the value of a node of plain values, dicts and arrays."""
    check(node, dict, where)
    if "dict" in node:
        check(node, {"dict": mapping_of(nullable(dict))}, where)
        return {key: _plain(item, f"{where}.{key}", tensors) for key, item in node["dict"].items()}
    if "array" in node:
        return tensors.read(node["array"], where)
    if "value" not in node:
        raise misfit(where, "a value, an array or a dict of these", f"{[*node][:1]}")
    return node["value"]
