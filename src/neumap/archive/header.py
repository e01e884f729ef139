"""Read a safetensors file through one open handle: the header, then each tensor.

The layout is 8 bytes with the length of the header, the header as JSON, and the bytes of the
tensors one after the other. The reader of the safetensors package opens the file by name, twice;
between the two a save may replace it. Nothing here needs torch, so that
:mod:`neumap.runtime` reads with it too.
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

from neumap.archive.errors import ArchiveError, damaged, not_written_by_neumap
from neumap.archive.schema import MOST_CONTAINERS, check, mapping_of, parse_json, size

__all__ = ["DTYPES", "Header", "Place", "read_bytes", "read_header"]

# Names of the format: the name in checksums, which is that of torch, and bytes per number.
DTYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("torch.bool", 1),
    "U8": ("torch.uint8", 1),
    "I8": ("torch.int8", 1),
    "U16": ("torch.uint16", 2),
    "I16": ("torch.int16", 2),
    "U32": ("torch.uint32", 4),
    "I32": ("torch.int32", 4),
    "U64": ("torch.uint64", 8),
    "I64": ("torch.int64", 8),
    "F16": ("torch.float16", 2),
    "BF16": ("torch.bfloat16", 2),
    "F32": ("torch.float32", 4),
    "F64": ("torch.float64", 8),
    "C64": ("torch.complex64", 8),
    "F8_E4M3": ("torch.float8_e4m3fn", 1),
    "F8_E5M2": ("torch.float8_e5m2", 1),
}
LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors package
MOST_DIMENSIONS = 32  # NumPy's limit before 2.0
MOST_TENSORS = 20_000  # each takes time; large networks have hundreds

TENSOR = {"dtype": frozenset(DTYPES), "shape": [size], "data_offsets": [size]}


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor are, and how to read them.

    Attributes
    ----------
    dtype : str
        A key of :data:`DTYPES`.
    shape : tuple of int
    start : int
        Offset of the first byte in the file.
    n_bytes : int
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    n_bytes: int


@dataclass(frozen=True)
class Header:
    """The header of a file: texts of its writer, and the place of each tensor."""

    texts: dict[str, str]
    places: dict[str, Place]


def read_header(file: BinaryIO, source: Path) -> Header:
    """Read and check the header of an open file.

    Raises
    ------
    ArchiveError
        If the file is of another kind, ends too early, or its parts contradict each other.
    """
    n_file = os.fstat(file.fileno()).st_size
    start = file.read(16)
    n_header = int.from_bytes(start[:8], "little")
    _check_kind(start, n_file, source)
    if 8 + n_header > n_file:
        raise _too_short(source, n_file)
    if n_header > LARGEST_HEADER:
        raise damaged(source, f"its header has {n_header} bytes")
    file.seek(8)
    try:
        # Three per tensor come on top of those in the document, which is one text of the header.
        header = parse_json(file.read(n_header), MOST_CONTAINERS + 4 * MOST_TENSORS)
    except ValueError as error:
        raise damaged(source, f"its header does not parse ({error})") from error
    try:
        check(header, mapping_of(dict), "header")
        texts = header.pop("__metadata__", {})
        check(texts, mapping_of(str), "header.__metadata__")
        check(header, mapping_of(TENSOR), "header")
    except ArchiveError as error:
        raise damaged(source, f"its header does not fit the format ({error})") from error
    return Header(texts, _places(header, 8 + n_header, n_file, source))


def _check_kind(start: bytes, n_file: int, source: Path) -> None:
    """Raise for a file that is not safetensors, and name what it is."""
    kinds = {b"\x80": "a pickle", b"PK": "a zip (.keras, .npz, torch.save)", b"\x89HDF": "HDF5"}
    for magic, kind in kinds.items():
        if start.startswith(magic) and start[8:9] != b"{":
            raise not_written_by_neumap(source, kind)
    if start[8:9] == b"":
        raise _too_short(source, n_file)
    if start[8:9] != b"{":
        raise not_written_by_neumap(source, "a file that is not safetensors")


def _too_short(source: Path, n_bytes: int) -> ArchiveError:
    return damaged(source, f"it ends too early, after {n_bytes} bytes")


def _places(header: Mapping[str, Any], start: int, n_file: int, source: Path) -> dict[str, Place]:
    """Return the place of each tensor; together they must fill the rest of the file."""
    if len(header) > MOST_TENSORS:
        raise damaged(source, f"it has {len(header)} tensors, at most {MOST_TENSORS} are read")
    places: dict[str, Place] = {}
    end = 0
    for name, facts in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape, offsets = tuple(facts["shape"]), facts["data_offsets"]
        n_bytes = math.prod(shape) * DTYPES[facts["dtype"]][1]
        # Strides multiply the extents even where one of them is zero.
        extent = math.prod(side for side in shape if side)
        if len(shape) > MOST_DIMENSIONS or extent >= 2**60 or offsets != [end, end + n_bytes]:
            raise damaged(source, f"shape and place of {name!r} do not fit its bytes")
        places[name] = Place(facts["dtype"], shape, start + end, n_bytes)
        end += n_bytes
    if start + end > n_file:
        raise _too_short(source, n_file)
    if start + end < n_file:
        raise damaged(source, f"it has {n_file - start - end} bytes too many")
    return places


def read_bytes(file: BinaryIO, place: Place, source: Path) -> NDArray[np.uint8]:
    """Read the bytes of one tensor into memory of its own."""
    content = np.empty(place.n_bytes, dtype=np.uint8)
    file.seek(place.start)
    # BufferedReader returns less only at the end of the file.
    if file.readinto(content.data) != place.n_bytes:  # type: ignore[attr-defined]
        raise _too_short(source, os.fstat(file.fileno()).st_size)
    return content
