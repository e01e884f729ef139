"""The JSON document in the file's header: whose file it is, of which version, and whether whole.

The header entry ``neumap`` holds ``{"format": "neumap", "format_version": 1, "crc32": ...,
"body": {...}}``. The body holds the caller's metadata, the versions of the libraries that wrote
it and, for each tensor, its kind (array, tensor or blob) and a checksum, because safetensors alone
does not detect a flipped bit. Nothing here needs torch, so that :mod:`neumap.runtime` reads with it
too.
"""

from __future__ import annotations

import json
import platform
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.archive.encoding import encode
from neumap.archive.errors import ArchiveError, damaged, not_written_by_neumap
from neumap.archive.header import DTYPES, Place
from neumap.archive.schema import check, mapping_of, parse_json, size

__all__ = [
    "BLOB",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "checksum",
    "dump_document",
    "load_document",
    "verify",
    "verify_places",
]

FORMAT_NAME = "neumap"
FORMAT_VERSION = 1
"""Version of the file's layout. A larger one means that this code cannot read the file."""

BLOB = "blob:"
LARGEST_DOCUMENT = 64 * 2**20  # bytes; safetensors refuses headers above 100 MB
LIBRARIES = ("neumap", "numpy", "scipy", "torch", "safetensors", "keras")
# What NumPy has no dtype for is a tensor.
ONLY_TENSORS = frozenset({"BF16", "F8_E4M3", "F8_E5M2"})


def _kind_and_checksum(value: object, where: str) -> None:
    check(value, [(str, int)], where)
    kind, number = value if isinstance(value, list) and len(value) == 2 else (None, None)
    check(kind, frozenset({"array", "tensor", "blob"}), f"{where}[0]")
    size(number, f"{where}[1]")


BODY = {
    "created_with": mapping_of(str),
    "metadata": mapping_of(lambda value, where: None),
    "tensors": mapping_of(_kind_and_checksum),
}


def dump_document(metadata: Mapping[str, Any], tensors: dict[str, list[Any]]) -> str:
    """Return the document as JSON text; `tensors` has the kind and the checksum of each."""
    body = {
        "created_with": _versions(),
        "metadata": encode(metadata, "metadata"),
        "tensors": tensors,
    }
    document = json.dumps(
        {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "crc32": zlib.crc32(_canonical(body)),
            "body": body,
        },
        allow_nan=False,
    )
    if len(document) > LARGEST_DOCUMENT:
        raise ArchiveError(
            f"metadata must have at most {LARGEST_DOCUMENT} bytes as JSON, got "
            f"{len(document)}. Move long lists of numbers into tensors."
        )
    try:
        parse_json(document)
    except ValueError as error:
        raise ArchiveError(
            f"metadata must be JSON that can be read again, got {error}. "
            "Move nested lists into tensors."
        ) from error
    return document


def load_document(header: Mapping[str, str], source: Path) -> dict[str, Any]:
    """Return the body of the document, after checking its writer, version, checksum and shape."""
    try:
        document = parse_json(header.get(FORMAT_NAME, "null"))
    except ValueError as error:
        raise damaged(source, f"its JSON document does not parse ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT_NAME:
        raise not_written_by_neumap(source, "a safetensors file of another program")
    version = document.get("format_version")
    body = document.get("body")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ArchiveError(
            f"{str(source)!r} must have format version {FORMAT_VERSION} or older, got version "
            f"{version}, written by neumap {_writer(body)}. "
            'Update with: pip install -U "neumap"'
        )
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise damaged(source, f"its format version is {version!r:.100}")
    if not isinstance(body, dict) or zlib.crc32(_canonical(body)) != document.get("crc32"):
        raise damaged(source, "the checksum of its JSON document differs")
    try:
        check(body, BODY, "body")
    except ArchiveError as error:
        raise damaged(source, f"its JSON document does not fit the format ({error})") from error
    return body


def verify_places(places: Mapping[str, Place], recorded: dict[str, Any], source: Path) -> None:
    """Raise if the tensors in the file are not those of the document."""
    if places.keys() != recorded.keys():
        names = sorted(places.keys() ^ recorded.keys())
        raise damaged(source, f"tensors were added or removed ({', '.join(names[:5])})")
    for name, (kind, _) in recorded.items():
        place = places[name]
        is_blob = place.dtype == "U8" and len(place.shape) == 1
        if name.startswith(BLOB) != (kind == "blob") or (kind == "blob" and not is_blob):
            raise damaged(source, f"{name!r} is recorded as {kind}")
        if kind == "array" and place.dtype in ONLY_TENSORS:
            raise damaged(
                source, f"{name!r} of dtype {DTYPES[place.dtype][0]} is recorded as array"
            )


def verify(checksums: Mapping[str, int], recorded: dict[str, Any], source: Path) -> None:
    """Raise if the checksum of a tensor differs."""
    for name, (_, number) in recorded.items():
        if checksums[name] != number:
            raise damaged(source, f"the checksum of {name!r} differs")


def checksum(dtype: str, shape: tuple[int, ...], content: NDArray[np.uint8]) -> int:
    """Return the checksum of a tensor, given its bytes; `dtype` is a key of the header's DTYPES."""
    layout = f"{DTYPES[dtype][0]} {shape}".encode()
    return zlib.crc32(content.data, zlib.crc32(layout))


def _writer(body: object) -> str:
    created_with = body.get("created_with") if isinstance(body, dict) else None
    writer = created_with.get("neumap") if isinstance(created_with, dict) else None
    return f"{writer:.30}" if isinstance(writer, str) else "(unknown)"


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()


def _versions() -> dict[str, str]:
    # Imported for writing alone: it takes a fifth of the time of reading a small file.
    from importlib import metadata as package_metadata

    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = package_metadata.version(library)
        except package_metadata.PackageNotFoundError:
            continue
    return versions
