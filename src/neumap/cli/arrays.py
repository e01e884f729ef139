"""Read tables from ``.npy`` and ``.npz`` files: rows, labels and ids are separate arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap.cli.errors import CommandError
from neumap.cli.table import Selection, Table, listed

__all__ = ["array_from", "flat_rows", "read_npy", "read_npz", "split_key"]

# Common names for the rows in an .npz, the most specific first.
USUAL_KEYS = ("x", "X", "data", "x_train", "X_train", "embedding")


def split_key(path: Path) -> tuple[Path, str | None]:
    """Split ``file.npz:key`` into file and key.

    Examples
    --------
    >>> split_key(Path("mnist.npz:x_train"))[1]
    'x_train'
    """
    name, colon, key = path.name.rpartition(":")
    if colon and name.lower().endswith(".npz"):
        return path.with_name(name), key
    return path, None


def read_npy(file: Path, selection: Selection) -> Table:
    """Memory-map one array; labels and ids come from other array files."""
    rows = flat_rows(_load_npy(file, memory_map=True), file)
    labels = array_from(file, selection.label, rows.shape[0])
    ids = array_from(file, selection.id, rows.shape[0])
    return Table(rows, labels=labels, ids=ids)


def _load_npy(file: Path, *, memory_map: bool = False) -> NDArray[Any]:
    with _readable(file, ".npy array"):
        loaded = np.load(file, mmap_mode="r" if memory_map else None, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        raise CommandError(
            f"{file}: the file must hold one array, got an archive. Rename it to .npz."
        )
    return loaded


@contextmanager
def _readable(place: object, kind: str) -> Iterator[None]:
    """Name the file in whatever numpy raises for its content."""
    try:
        yield
    except FileNotFoundError as error:
        raise CommandError(f"{place}: the file must exist, got none. Check the path.") from error
    except MemoryError as error:
        raise CommandError(f"{place}: out of memory ({error}). Read a part of it.") from error
    except Exception as error:
        # numpy evaluates the header as Python and unzips: a damaged file raises SyntaxError,
        # struct.error, zlib.error, OverflowError, NotImplementedError and others.
        # numpy takes a file of unknown content for a pickle, and advises to load it.
        reason = "damaged, or Python objects" if "pickle" in str(error) else error
        raise CommandError(
            f"{place}: not a readable {kind} ({reason}). Write it again with numpy."
        ) from error


def read_npz(file: Path, selection: Selection) -> Table:
    """Read one array of an archive, with labels and ids from its other arrays."""
    arrays = _open_npz(file)
    try:
        key = selection.key or _obvious_key(arrays, file)
        rows = flat_rows(_member(arrays, key, file), f"{file}:{key}")
        labels = _npz_column(arrays, selection.label, rows.shape[0], file)
        ids = _npz_column(arrays, selection.id, rows.shape[0], file)
    finally:
        arrays.close()
    return Table(
        rows,
        labels=labels,
        ids=ids,
        label_name=selection.label or "label",
        id_name=selection.id or "id",
    )


def _open_npz(file: Path) -> Any:
    with _readable(file, ".npz archive"):
        arrays = np.load(file, allow_pickle=False)
    if isinstance(arrays, np.ndarray):
        raise CommandError(
            f"{file}: the file must be an archive, got one array. Rename it to .npy."
        )
    return arrays


def _member(arrays: Any, key: str, file: Path) -> NDArray[Any]:
    if key not in arrays.files:
        raise CommandError(
            f"{file}: the key must be one of {listed(arrays.files)}, got {key!r}. "
            "Choose one of these."
        )
    with _readable(f"{file}:{key}", "array"):
        member: NDArray[Any] = arrays[key]
    return member


def _obvious_key(arrays: Any, file: Path) -> str:
    """Choose the array with a common name for rows, or the only one with two dimensions."""
    for key in USUAL_KEYS:
        if key in arrays.files and _member(arrays, key, file).ndim >= 2:
            return key
    tables = [key for key in arrays.files if _member(arrays, key, file).ndim >= 2]
    if len(tables) != 1:
        raise CommandError(
            f"{file}: the archive must hold one array of rows, got {len(tables)} among "
            f"{listed(arrays.files)}. Choose one with --key NAME."
        )
    return str(tables[0])


def _npz_column(arrays: Any, name: str | None, n_rows: int, file: Path) -> NDArray[Any] | None:
    if name is None:
        return None
    if name in arrays.files:
        return _one_per_row(_member(arrays, name, file), n_rows, f"{file}:{name}")
    if Path(name).suffix in {".npy", ".npz"} or ".npz:" in name:
        return array_from(file, name, n_rows)
    raise CommandError(
        f"{file}: the column must be one of {listed(arrays.files)}, got {name!r}. "
        "Choose one of these."
    )


def array_from(file: Path, name: str | None, n_rows: int) -> NDArray[Any] | None:
    """Read labels or ids from another array file: ``other.npy`` or ``other.npz:key``."""
    if name is None:
        return None
    other, key = split_key(Path(name))
    if other.suffix.lower() == ".npz" and key is not None:
        with _open_npz(other) as arrays:
            return _one_per_row(_member(arrays, key, other), n_rows, name)
    if other.suffix.lower() != ".npy":
        raise CommandError(
            f"{file}: labels and ids of an array must be another array, got the column {name!r}. "
            "Give 'labels.npy' or 'file.npz:key'."
        )
    return _one_per_row(_load_npy(other), n_rows, name)


def flat_rows(array: NDArray[Any], place: object) -> NDArray[Any]:
    """Return rows of numbers; images and sequences are flattened."""
    if array.dtype.kind not in "fiub":
        raise CommandError(
            f"{place}: the array must hold numbers, got dtype {array.dtype}. Convert it first."
        )
    if array.ndim < 2:
        raise CommandError(
            f"{place}: the array must have rows and columns, got shape {array.shape}. "
            "Reshape it to (n_rows, n_columns)."
        )
    if array.ndim == 2:
        return array
    return array.reshape(array.shape[0], int(np.prod(array.shape[1:])))


def _one_per_row(array: NDArray[Any], n_rows: int, place: object) -> NDArray[Any]:
    flat = array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array
    if flat.shape != (n_rows,):
        raise CommandError(
            f"{place}: the array must have one entry for each of {n_rows} rows, got shape "
            f"{array.shape}. Choose another array."
        )
    return flat
