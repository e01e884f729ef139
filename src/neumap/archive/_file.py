"""Write and read the archive file: safetensors, with a JSON document in its header.

Tensors keep their names; a blob is a uint8 tensor named ``blob:<name>``. `_document` says what
the JSON document holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neumap._atomic import replacing
from neumap._views import tensor_view
from neumap.archive._document import (
    FORMAT_NAME,
    damaged,
    dump_document,
    foreign,
    load_document,
    verify,
)
from neumap.archive._errors import ArchiveError
from neumap.archive._json import decode

__all__ = ["Archive", "read_archive", "write_archive"]

_FILE_NAME = "model.neumap"
_BLOB = "blob:"
_DTYPE_NAMES = """
bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64
complex64 float8_e4m3fn float8_e5m2
"""
_DTYPES = frozenset(getattr(torch, name) for name in _DTYPE_NAMES.split())


@dataclass(frozen=True)
class Archive:
    """What a file held.

    Attributes
    ----------
    tensors : dict of str to array or Tensor
        Each of the kind that was written, on the CPU, with memory of its own.
    metadata : dict
        The JSON document, tuples and infinities included.
    blobs : dict of str to bytes
        Contents of embedded files.
    created_with : dict of str to str
        Versions of Python and the libraries that wrote the file.
    """

    tensors: dict[str, Any]
    metadata: dict[str, Any]
    blobs: dict[str, bytes]
    created_with: dict[str, str]


def write_archive(
    path: str | os.PathLike[str],
    *,
    tensors: Mapping[str, np.ndarray | Tensor],
    metadata: Mapping[str, Any],
    blobs: Mapping[str, bytes] | None = None,
) -> Path:
    """Write arrays, a JSON document and embedded files as one safe file.

    The file appears complete or not at all: a failed write leaves an older file as it was.
    Same inputs and library versions give the same bytes.

    Parameters
    ----------
    path : path-like
        A file, if the name has a suffix. An existing folder, or a name without a suffix, means
        the file ``model.neumap`` in that folder. Missing folders are made.
    tensors : mapping of str to array or Tensor
        Numeric or boolean, of any shape and memory layout. Names may not start with ``blob:``.
    metadata : mapping of str to JSON value
        Numbers, strings, bools, None, and lists, tuples and dicts of these.
    blobs : mapping of str to bytes, optional
        Contents of other files, for example of a ``.keras`` file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ArchiveError
        If a value cannot be stored; the message names its key.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_archive(folder, tensors={"z": np.eye(2)}, metadata={"dims": (28, 28)})
    ...     archive = read_archive(folder)
    >>> archive.tensors["z"][0], archive.metadata
    (array([1., 0.]), {'dims': (28, 28)})
    """
    target = _target(Path(path))
    stored, kinds = _collect(tensors, blobs or {})
    document = dump_document(metadata, kinds, stored)
    with replacing(target) as draft:
        save_file(stored, draft, metadata={FORMAT_NAME: document})
    return target


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Read a file of :func:`write_archive`. Runs no code from the file.

    Parameters
    ----------
    path : path-like
        The file, or the folder with ``model.neumap`` in it.

    Raises
    ------
    ArchiveError
        If there is no such file, or it is truncated, damaged, written by something else, or by a
        newer neumap.
    """
    source = _source(Path(path))
    try:
        with safe_open(source, framework="pt") as file:
            body = load_document(file.metadata() or {}, source)
            # Copies: a view of the mapped file would keep it from being replaced on Windows.
            stored = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(source, error) from error
    verify(stored, body["tensors"], source)
    kinds = {name: kind for name, (kind, _) in body["tensors"].items()}
    return Archive(
        tensors={
            name: stored[name].numpy() if kind == "array" else stored[name]
            for name, kind in kinds.items()
            if kind != "blob"
        },
        metadata=decode(body["metadata"]),
        blobs={
            name.removeprefix(_BLOB): stored[name].numpy().tobytes()
            for name, kind in kinds.items()
            if kind == "blob"
        },
        created_with=body["created_with"],
    )


# ---- places -------------------------------------------------------------------------------------


def _target(path: Path) -> Path:
    if path.is_dir() or not path.suffix:
        if path.is_file():
            raise ArchiveError(
                f"Expected {str(path)!r} to be a folder, since its name has no suffix; it is a "
                "file. Give a name with a suffix, for example 'model.neumap', or move the file."
            )
        path = path / _FILE_NAME
    return path.resolve()


def _source(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise ArchiveError(
            f"Expected a saved model at {str(path)!r}; there is nothing. Check the path, or save "
            "a model there first."
        )
    if (path / _FILE_NAME).is_file():
        return path / _FILE_NAME
    found = sorted(entry.name for entry in path.iterdir())
    if {"model.pkl", "encoder.keras", "parametric_model", "parametric_model.keras"} & set(found):
        raise ArchiveError(
            f"Expected {_FILE_NAME} in {str(path)!r}; the folder holds files of umap-learn "
            f"({', '.join(found[:5])}). They are pickles of its own classes: fit neumap on the "
            "data instead, or pass the Keras model in encoder.keras as encoder=."
        )
    raise ArchiveError(
        f"Expected {_FILE_NAME} in the folder {str(path)!r}; it holds "
        f"{', '.join(found[:5]) or 'nothing'}. Give the folder or file that save() wrote."
    )


# ---- tensors ------------------------------------------------------------------------------------


def _collect(
    tensors: Mapping[str, np.ndarray | Tensor], blobs: Mapping[str, bytes]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Everything as CPU tensors in rows of memory, and the kind of each."""
    stored: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    for name, value in tensors.items():
        if name.startswith(_BLOB) or name == "__metadata__":
            raise ArchiveError(
                f"Expected names of tensors that do not start with {_BLOB!r} and are not "
                f"'__metadata__', which the file uses itself; got {name!r}. Rename it."
            )
        kinds[name] = "tensor" if isinstance(value, Tensor) else "array"
        stored[name] = _as_stored(value, name)
    for name, content in blobs.items():
        kinds[_BLOB + name] = "blob"
        stored[_BLOB + name] = tensor_view(np.frombuffer(content, dtype=np.uint8))
    return _with_own_memory(stored), kinds


def _as_stored(value: object, name: str) -> Tensor:
    if isinstance(value, Tensor):
        if value.layout == torch.strided and value.device.type != "meta" and value.dtype in _DTYPES:
            return value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        came = f"a tensor of dtype {value.dtype}, layout {value.layout}, on {value.device}"
    elif isinstance(value, np.ndarray | np.number | np.bool_) and not np.ma.isMaskedArray(value):
        # asarray keeps a 0-d array 0-d, which ascontiguousarray does not.
        array = np.asarray(value, order="C")
        try:
            tensor = tensor_view(array.astype(array.dtype.newbyteorder("="), copy=False))
        except TypeError:
            tensor = None
        if tensor is not None and tensor.dtype in _DTYPES:
            return tensor
        came = f"an array of dtype {array.dtype}"
    else:
        came = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ArchiveError(
        f"Expected tensors[{name!r}] to be a dense, numeric or boolean array or tensor; got "
        f"{came}. Convert it first (strings go into metadata, sparse matrices through pack_csr)."
    )


def _with_own_memory(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with an earlier one, which safetensors refuses."""
    seen: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return separate


# ---- messages -----------------------------------------------------------------------------------


def _unreadable(source: Path, error: Exception) -> ArchiveError:
    """Say whether a file that safetensors refuses was cut off or is of another kind."""
    size = source.stat().st_size
    with source.open("rb") as file:
        start = file.read(16)
    kinds = {b"\x80": "a pickle", b"PK": "a zip (.keras, .npz, torch.save)", b"\x89HDF": "HDF5"}
    for magic, kind in kinds.items():
        if start.startswith(magic) and start[8:9] != b"{":
            return foreign(source, kind)
    if size < 8 or start[8:9] in (b"{", b""):
        return damaged(source, f"it ends too early, after {size} bytes ({error})")
    return foreign(source, f"not a safetensors file ({error})")
