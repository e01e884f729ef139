"""The JSON document in the file's header: whose file it is, of which version, and whether whole.

The header entry ``neumap`` holds ``{"format": "neumap", "format_version": 1, "crc32": ...,
"body": {...}}``. The body holds the caller's metadata, the versions of the libraries that wrote
it and, for each tensor, its kind (array, tensor or blob) and a checksum, since safetensors alone
does not notice a flipped bit.
"""

from __future__ import annotations

import json
import platform
import zlib
from collections.abc import Mapping
from importlib import metadata as package_metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neumap.archive._errors import ArchiveError
from neumap.archive._json import encode

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "damaged",
    "dump_document",
    "foreign",
    "load_document",
    "verify",
]

FORMAT_NAME = "neumap"
FORMAT_VERSION = 1
"""Version of the file's layout. A larger one means that this code cannot read the file."""

_LARGEST_DOCUMENT = 64 * 2**20  # bytes; safetensors refuses headers above 100 MB
_LIBRARIES = ("neumap", "numpy", "scipy", "torch", "safetensors", "keras")


def dump_document(
    metadata: Mapping[str, Any], kinds: dict[str, str], stored: dict[str, Tensor]
) -> str:
    body = {
        "created_with": _versions(),
        "metadata": encode(metadata, "metadata"),
        "tensors": {name: [kind, _checksum(stored[name])] for name, kind in kinds.items()},
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
    if len(document) > _LARGEST_DOCUMENT:
        raise ArchiveError(
            f"Expected metadata of at most {_LARGEST_DOCUMENT} bytes as JSON; got "
            f"{len(document)}. Move long lists of numbers into tensors."
        )
    return document


def load_document(header: Mapping[str, str], source: Path) -> dict[str, Any]:
    """Body of the document, after the checks that say whose file it is and whether it is whole."""
    try:
        document = json.loads(header.get(FORMAT_NAME, "null"))
    except ValueError as error:
        raise damaged(source, "its JSON document does not parse") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT_NAME:
        raise foreign(source, "a safetensors file that something else wrote")
    version = document.get("format_version")
    body = document.get("body")
    if isinstance(version, int) and version > FORMAT_VERSION:
        writer = body.get("created_with", {}).get("neumap") if isinstance(body, dict) else None
        raise ArchiveError(
            f"Expected a file of format version {FORMAT_VERSION} or older; {str(source)!r} has "
            f"version {version}, written by neumap {writer or '(unknown)'}. "
            'Update with: pip install -U "neumap"'
        )
    if version != FORMAT_VERSION:
        raise damaged(source, f"its format version is {version!r}")
    if not isinstance(body, dict) or zlib.crc32(_canonical(body)) != document.get("crc32"):
        raise damaged(source, "the checksum of its JSON document differs")
    return body


def verify(stored: dict[str, Tensor], recorded: dict[str, Any], source: Path) -> None:
    if stored.keys() != recorded.keys():
        names = sorted(stored.keys() ^ recorded.keys())
        raise damaged(source, f"tensors were added or removed ({', '.join(names[:5])})")
    for name, (_, checksum) in recorded.items():
        if _checksum(stored[name]) != checksum:
            raise damaged(source, f"the checksum of {name!r} differs")


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()


def _checksum(tensor: Tensor) -> int:
    layout = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    content = tensor.reshape(-1).view(torch.uint8).numpy()
    return zlib.crc32(content.data, zlib.crc32(layout))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = package_metadata.version(library)
        except package_metadata.PackageNotFoundError:
            continue
    return versions


def foreign(source: Path, what: str) -> ArchiveError:
    return ArchiveError(
        f"Expected a model saved by neumap; {str(source)!r} is {what}. "
        "Give the folder or file that save() wrote."
    )


def damaged(source: Path, what: str) -> ArchiveError:
    return ArchiveError(
        f"Expected a complete model file; {str(source)!r} is damaged: {what}. "
        "Copy it again from where it was saved, or save the model again."
    )
