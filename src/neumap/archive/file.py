"""Write and read the archive file: safetensors, with a JSON document in its header.

Tensors keep their names; a blob is a uint8 tensor named ``blob:<name>``. The file ``document.py``
describes the JSON document.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from neumap._atomic import replacing
from neumap._views import tensor_view
from neumap.archive.document import (
    BLOB,
    FORMAT_NAME,
    checksum,
    dump_document,
    load_document,
    verify,
    verify_places,
)
from neumap.archive.encoding import decode
from neumap.archive.errors import ArchiveError, damaged
from neumap.archive.header import DTYPES, MOST_TENSORS, Place, read_bytes, read_header
from neumap.archive.paths import FILE_NAME, source_of

__all__ = ["Archive", "read_archive", "write_archive"]

# By the name of the format.
TORCH_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, torch_name.removeprefix("torch."))
    for name, (torch_name, _) in DTYPES.items()
}
NAME_OF = {dtype: name for name, dtype in TORCH_DTYPES.items()}


@dataclass(frozen=True)
class Archive:
    """The content of a file.

    Attributes
    ----------
    tensors : dict of str to array or Tensor
        Each of the type that was written, on the CPU, with memory of its own.
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
    tensors: Mapping[str, NDArray[Any] | Tensor],
    metadata: Mapping[str, Any],
    blobs: Mapping[str, bytes] | None = None,
) -> Path:
    """Write arrays, a JSON document and embedded files as one safe file.

    The file is written completely or not at all: after a failed write an older file is unchanged.
    The same inputs and library versions give the same bytes.

    Parameters
    ----------
    path : path-like
        A file, if the name has a suffix. An existing folder, or a name without a suffix, means
        the file ``model.neumap`` in that folder. Missing folders are created.
    tensors : mapping of str to array or Tensor
        Numeric or boolean, of any shape and memory layout. Names may not start with ``blob:``.
    metadata : mapping of str to JSON value
        Numbers, strings, bools, None, and lists, tuples and dicts of these.
    blobs : mapping of str to bytes, optional
        Contents of other files, such as a ``.keras`` file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ArchiveError
        If a value cannot be stored; the message names its key.
    OSError
        If the file cannot be written; the error names the path and the reason.

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
    recorded = {name: [kind, _checksum(stored[name])] for name, kind in kinds.items()}
    document = dump_document(metadata, recorded)
    with replacing(target) as draft:
        _save(stored, draft, document)
    return target


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Read a file of :func:`write_archive`. Runs no code from the file.

    The file is opened once, so that a save at the same time does not matter. Everything that the
    header says is checked before memory is allocated.

    Parameters
    ----------
    path : path-like
        The file, or the folder with ``model.neumap`` in it.

    Raises
    ------
    ArchiveError
        If there is no such file, or it is truncated, damaged, written by another program or by a
        newer neumap.
    OSError
        If the file cannot be opened.
    """
    source = source_of(Path(path))
    with source.open("rb") as file:
        header = read_header(file, source)
        body = load_document(header.texts, source)
        verify_places(header.places, body["tensors"], source)
        content = {name: read_bytes(file, place, source) for name, place in header.places.items()}
    places = header.places
    checksums = {n: checksum(places[n].dtype, places[n].shape, content[n]) for n in places}
    verify(checksums, body["tensors"], source)
    stored = {name: _as_tensor(content[name], place) for name, place in places.items()}
    try:
        metadata = decode(body["metadata"])
    except ArchiveError as error:
        raise damaged(source, str(error)) from error
    kinds = {name: kind for name, (kind, _) in body["tensors"].items()}
    return Archive(
        tensors={
            name: stored[name].numpy() if kind == "array" else stored[name]
            for name, kind in kinds.items()
            if kind != "blob"
        },
        metadata=metadata,
        blobs={
            name.removeprefix(BLOB): stored[name].numpy().tobytes()
            for name, kind in kinds.items()
            if kind == "blob"
        },
        created_with=body["created_with"],
    )


# ---- paths --------------------------------------------------------------------------------------


def _target(path: Path) -> Path:
    if path.is_dir() or not path.suffix:
        if path.is_file():
            raise ArchiveError(
                f"{str(path)!r} must be a folder because its name has no suffix, got a file. "
                "Give a name with a suffix, such as 'model.neumap', or move the file."
            )
        path = path / FILE_NAME
    return path.resolve()


# ---- tensors ------------------------------------------------------------------------------------


def _collect(
    tensors: Mapping[str, NDArray[Any] | Tensor], blobs: Mapping[str, bytes]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return everything as contiguous CPU tensors, and the kind of each."""
    stored: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    for name, value in tensors.items():
        if name.startswith(BLOB) or name == "__metadata__":
            raise ArchiveError(
                f"Names of tensors must not be '__metadata__' or start with {BLOB!r}, which the "
                f"format uses, got {name!r}. Rename it."
            )
        kinds[name] = "tensor" if isinstance(value, Tensor) else "array"
        stored[name] = _as_stored(value, name)
    for name, content in blobs.items():
        kinds[BLOB + name] = "blob"
        stored[BLOB + name] = tensor_view(np.frombuffer(content, dtype=np.uint8))
    if len(stored) > MOST_TENSORS:
        raise ArchiveError(
            f"tensors and blobs must be at most {MOST_TENSORS}, got {len(stored)}. "
            "Join small arrays into larger ones."
        )
    return _with_own_memory(stored), kinds


def _as_stored(value: object, name: str) -> Tensor:
    if isinstance(value, Tensor):
        if value.layout == torch.strided and value.device.type != "meta" and value.dtype in NAME_OF:
            return value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        got = f"a tensor of dtype {value.dtype}, layout {value.layout}, on {value.device}"
    elif isinstance(value, np.ndarray | np.number | np.bool_) and not np.ma.isMaskedArray(value):
        # asarray keeps a 0-d array 0-d, which ascontiguousarray does not.
        array = np.asarray(value, order="C")
        try:
            tensor = tensor_view(array.astype(array.dtype.newbyteorder("="), copy=False))
        except TypeError:
            tensor = None
        if tensor is not None and tensor.dtype in NAME_OF:
            return tensor
        got = f"an array of dtype {array.dtype}"
    else:
        got = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ArchiveError(
        f"tensors[{name!r}] must be a dense, numeric or boolean array or tensor, got {got}. "
        "Convert it first. Put strings into metadata, and sparse matrices through pack_csr."
    )


def _with_own_memory(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with an earlier one, which safetensors rejects."""
    seen: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return separate


def _as_tensor(content: NDArray[np.uint8], place: Place) -> Tensor:
    """Return the tensor in these bytes, in the same memory."""
    dtype = TORCH_DTYPES[place.dtype]
    if not content.size:
        return torch.empty(place.shape, dtype=dtype)
    return torch.from_numpy(content).view(dtype).reshape(place.shape)


def _checksum(tensor: Tensor) -> int:
    content = tensor.reshape(-1).view(torch.uint8).numpy()
    return checksum(NAME_OF[tensor.dtype], tuple(tensor.shape), content)


# ---- writing ------------------------------------------------------------------------------------


def _save(stored: dict[str, Tensor], draft: Path, document: str) -> None:
    """Write with safetensors, whose error for a full disk is no OSError."""
    try:
        save_file(stored, draft, metadata={FORMAT_NAME: document})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        reason = os.strerror(code) if number else str(error)
        raise OSError(code, reason, str(draft)) from error
