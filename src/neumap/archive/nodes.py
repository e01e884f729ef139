"""The nodes in which an estimator writes its values, checked before any of them is read.

A node is a dict whose first key says what it holds: ``{"value": 15}``, ``{"array": name}``,
``{"module": spec, "name": ...}``. Names refer to tensors and blobs of the same file.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.archive.errors import ArchiveError
from neumap.archive.schema import check, mapping_of, misfit, nullable, size, tagged, text_of
from neumap.archive.sparse import PARTS
from neumap.archive.specs import check_spec

__all__ = ["check_node", "check_zip", "unpack_items"]

UPDATE = 'Update with: pip install -U "neumap", or use a file from a source you trust.'
DEVICE = re.compile(r"(cpu|cuda|mps|xpu|meta)(:\d{1,3})?")
# Text, objects and dates; other numbers are tensors of the file.
ITEM_DTYPE = re.compile(r"[<>=|]?(O|U\d{1,7}|[mM]8(\[\d*[A-Za-z]{1,2}\])?|[biuf]\d{1,2})")
LARGEST_CSR_SIDE = 2**48
# Keras stores members uncompressed. Weights rarely become smaller than a quarter.
LARGEST_RATIO = 4
SMALL = 2**20


def check_node(
    node: object, where: str, tensors: Mapping[str, Any], blobs: Mapping[str, bytes]
) -> None:
    """Raise if a node is not one that :func:`neumap.load` can read.

    Parameters
    ----------
    node : object
        The value from the metadata of an archive.
    where : str
        Path of the node, for messages.
    tensors, blobs : mapping
        Those of the archive, which nodes refer to by name.

    Raises
    ------
    ArchiveError
        If the node is of an unknown kind, lacks a part, has a part of the wrong type, or refers to
        a name that is not in the archive.

    Examples
    --------
    >>> check_node({"list": [{"value": 1}, {"array": "x"}]}, "parameters.a", {"x": np.ones(2)}, {})
    >>> check_node({"array": "y"}, "parameters.a", {"x": np.ones(2)}, {})
    Traceback (most recent call last):
        ...
    neumap.archive.errors.ArchiveError: parameters.a.array must be one of x, got 'y'. ...
    """
    _NodeCheck(tensors, blobs)(node, where)


def check_zip(content: bytes, where: str) -> None:
    """Raise if an embedded zip, such as a ``.keras`` file, expands to far more than its size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise misfit(where, "a .keras file", f"a file that is no zip: {error}") from error
    largest = LARGEST_RATIO * len(content) + SMALL
    if n_bytes > largest:
        raise misfit(where, f"a .keras file of at most {largest} bytes unpacked", n_bytes)


def unpack_items(node: Mapping[str, Any], where: str) -> NDArray[Any]:
    """Return the array of a node ``{"items": [...], "dtype": ..., "shape": [...]}``."""
    check(node, {"items": (list, tuple), "dtype": text_of(30), "shape": [size]}, where)
    items, text = node["items"], node["dtype"]
    if math.prod(node["shape"]) != len(items):
        raise misfit(f"{where}.shape", f"a shape of {len(items)} items", str(node["shape"]))
    if not ITEM_DTYPE.fullmatch(text):
        raise misfit(f"{where}.dtype", "a dtype of text, objects, dates or numbers", text)
    try:
        dtype = np.dtype(text)
        if dtype.kind == "U" and dtype.itemsize > 4 * max([1, *map(len, items)]):
            raise misfit(f"{where}.dtype", "as wide as the longest text", text)
        array = np.empty(len(items), dtype=dtype)
        for index, item in enumerate(items):
            array[index] = item
        return array.reshape(node["shape"])
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise misfit(where, f"items of dtype {text}", f"others ({error})") from error


class _NodeCheck:
    """The schemas of all kinds of nodes, for the names of one archive."""

    def __init__(self, tensors: Mapping[str, Any], blobs: Mapping[str, bytes]) -> None:
        self.tensors = tensors
        self.blobs = blobs
        self.check_any = tagged(
            {
                "value": {"value": lambda value, where: None},
                "array": {"array": self._tensor},
                "items": unpack_items,
                "csr": {"csr": self._csr},
                "module": self._module,
                "keras": self._keras,
                "keras_object": {"keras_object": mapping_of(lambda value, where: None)},
                "optimizer": {"optimizer": text_of(100), "settings": nullable(self)},
                "device": {"device": _device},
                "landmarks": {"landmarks": {"dict": mapping_of(self)}},
                "reconstruction_loss": {
                    "reconstruction_loss": text_of(100),
                    "activation": frozenset({"sigmoid", "identity"}),
                },
                "list": {"list": [self]},
                "tuple": {"tuple": [self]},
                "dict": {"dict": mapping_of(self)},
            },
            UPDATE,
        )

    def __call__(self, node: object, where: str) -> None:
        self.check_any(node, where)

    def _tensor(self, name: object, where: str) -> None:
        check(name, str, where)
        if name not in self.tensors:
            raise misfit(where, f"one of {', '.join([*self.tensors][:10])}", name)

    def _csr(self, name: object, where: str) -> None:
        check(name, str, where)
        for part in PARTS:
            self._tensor(f"{name}.{part}", where)

    def _module(self, node: Any, where: str) -> None:
        check(node, {"module": dict, "name": str}, where)
        prefix = f"{node['name']}."
        n_tensors = sum(key.startswith(prefix) for key in self.tensors)
        check_spec(node["module"], f"{where}.module", n_tensors)

    def _keras(self, node: Any, where: str) -> None:
        check(node, {"keras": dict, "name": str}, where)
        facts = node["keras"]
        if "config" in facts:
            check(facts, {"config": dict}, f"{where}.keras")
            return
        schema = {"input_shape": [size], "training": bool, "wrapped": bool}
        check(facts, schema, f"{where}.keras")
        if node["name"] in self.blobs:
            check_zip(self.blobs[node["name"]], f"{where}.name")


def _device(value: object, where: str) -> None:
    if not isinstance(value, str) or not DEVICE.fullmatch(value):
        raise misfit(where, "a device such as cpu or cuda:0", value)
