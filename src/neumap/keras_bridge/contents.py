"""The content of a ``.keras`` file, checked before Keras reads it.

Such a file is a zip with the configuration as JSON and the weights as HDF5. What is checked goes
into a new zip, so that Keras sees nothing else.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neumap._optional import require
from neumap.archive.schema import check, misfit, parse_json, size
from neumap.keras_bridge.allowed import check_config, names_own_objects

__all__ = ["OWN_ENTRY", "Contents", "read_contents"]

CONFIG, WEIGHTS, OWN_ENTRY = "config.json", "model.weights.h5", "neumap.json"
OWN = {"input_shape": [size], "random": list}
MOST_H5_OBJECTS = 20_000
LARGEST_ROW = 2**24


@dataclass(frozen=True)
class Contents:
    """A checked ``.keras`` file.

    Attributes
    ----------
    archive : bytes
        A zip with the configuration and the weights, and nothing else.
    own : dict
        What :class:`~neumap.keras_bridge.KerasModule` added to it.
    n_weights : int
        Numbers in the weights.
    names_own : bool
        Whether the model has classes of the caller, whose size nothing bounds.
    """

    archive: bytes
    own: dict[str, Any]
    n_weights: int
    names_own: bool


def read_contents(data: bytes, own: Mapping[str, Any], where: str) -> Contents:
    """Check the content of a ``.keras`` file.

    Parameters
    ----------
    data : bytes
    own : mapping of str to class or function
        The caller's own objects, by name.
    where : str
        What the file is, for messages.

    Raises
    ------
    ArchiveError
        If the file names something that is not allowed, expands to more than its size, or refers
        to other files.
    zipfile.BadZipFile, KeyError, ValueError
        If it is damaged or of another kind.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: _member(archive, name, where) for name in (CONFIG, OWN_ENTRY)}
        weights = _member(archive, WEIGHTS, where) if WEIGHTS in archive.namelist() else None
    config, entry = parse_json(members[CONFIG]), parse_json(members[OWN_ENTRY])
    check(entry, OWN, f"{where}.{OWN_ENTRY}")
    if math.prod(entry["input_shape"]) > LARGEST_ROW:
        raise misfit(f"{where}.input_shape", f"at most {LARGEST_ROW} numbers", "more")
    check_config(config, own, where)
    n_weights = 0 if weights is None else _count_weights(weights, where)
    return Contents(
        archive=_zip({CONFIG: json.dumps(_without_compile(config)).encode(), WEIGHTS: weights}),
        own=entry,
        n_weights=n_weights,
        names_own=names_own_objects(config, own),
    )


def _member(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > info.compress_size:
        raise misfit(f"{where}.{name}", "stored as it is", "a compressed member of the zip")
    return archive.read(info)


def _zip(members: Mapping[str, bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return buffer.getvalue()


def _without_compile(config: Any) -> Any:
    """Return the configuration without optimizers and losses of ``compile``, which take no part."""
    if isinstance(config, dict):
        return {k: _without_compile(v) for k, v in config.items() if k != "compile_config"}
    return [_without_compile(v) for v in config] if isinstance(config, list) else config


# ---- weights ------------------------------------------------------------------------------------


def _count_weights(content: bytes, where: str) -> int:
    """Return the number of numbers in an HDF5 file that refers to no other file."""
    h5py = require("h5py", extra="keras")
    with h5py.File(io.BytesIO(content), "r") as file:
        n_bytes = n_numbers = 0
        for dataset in _datasets(h5py, file, where):
            n_bytes += dataset.nbytes
            n_numbers += dataset.size
    if n_bytes > len(content):
        raise misfit(f"{where}.{WEIGHTS}", f"at most {len(content)} bytes of weights", n_bytes)
    return n_numbers


def _datasets(h5py: Any, file: Any, where: str) -> Iterator[Any]:
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise misfit(f"{where}.{WEIGHTS}", "complete", f"a link to elsewhere in {name!r}")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise misfit(f"{where}.{WEIGHTS}", "a tree", f"{name!r} a second time")
            seen.add(address)
            if len(seen) > MOST_H5_OBJECTS:
                raise misfit(f"{where}.{WEIGHTS}", f"at most {MOST_H5_OBJECTS} objects", "more")
            if isinstance(item, h5py.Group):
                waiting.append(item)
            else:
                _check_dataset(h5py, item, f"{where}.{WEIGHTS}")
                yield item


def _check_dataset(h5py: Any, item: Any, where: str) -> None:
    """Refuse what is not plain numbers in this file. A shape may be asked for only after that."""
    if not isinstance(item, h5py.Dataset):
        raise misfit(where, "groups and arrays", type(item).__name__)
    made_with = item.id.get_create_plist()
    is_plain = made_with.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if not is_plain or made_with.get_external_count() or made_with.get_nfilters():
        raise misfit(where, "plain arrays in the file", f"another layout in {item.name!r:.100}")
    if item.dtype.kind not in "biuf" and item.dtype.itemsize > 2:  # bfloat16 has its own dtype
        raise misfit(where, "numbers", f"the dtype {item.dtype}")
