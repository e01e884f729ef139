"""One temporary file of rows for all processes of a machine.

Rows of several files are unpacked to a flat temporary file before a fit (``shards.py``). Processes
of one machine that have opened the same files map one such file, of which each writes a share.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._atomic import process_space
from neumap._ranks import Ranks, telling
from neumap.data.disk import temporary_folder, unpacked_type, write_tiles
from neumap.data.kinds import is_row_files

__all__ = ["unpack_together"]


def unpack_together(X: Any, ranks: Ranks) -> None:
    """Let the processes of each machine unpack rows of files to one temporary file.

    All processes of a fit call it, whatever their rows are. Rows in memory or in one flat file, and
    files that no other process of the machine has opened, stay as they are.

    Raises
    ------
    OSError
        If the folder of temporary files lacks the space.
    ValueError
        If the unpacking has failed in another process.
    """
    if ranks.is_alone:
        return
    with telling(ranks) as known:
        own = known["files"] = _files(X)
    files = [note["files"] for note in known["notes"]]
    if not any(one is not None and files.count(one) > 1 for one in files):
        return
    group = [rank for rank, one in enumerate(files) if own is not None and one == own]
    flat = _mapped_by_all(X, group if len(group) > 1 else [], ranks)
    with telling(ranks):
        if flat is not None:
            write_tiles(flat, X, Ranks(group.index(ranks.rank), len(group)))
    if flat is not None:
        X.unpacked(flat)


def _mapped_by_all(X: Any, group: list[int], ranks: Ranks) -> NDArray[Any] | None:
    """Return the map of a new file that the first process of a group has made; None outside of one.

    When all have mapped it, the file loses its name, and so ends with the last map.
    """
    own: str | None = None
    flat: NDArray[Any] | None = None
    try:
        with telling(ranks) as known:
            if group[:1] == [ranks.rank]:
                own = _new_file(X)
            known["path"] = own
        with telling(ranks):
            if group:
                path = known["notes"][group[0]]["path"]
                flat = np.memmap(path, dtype=unpacked_type(X), mode="r+", shape=X.shape)
    finally:
        if own is not None:
            Path(own).unlink()
    return flat


def _files(X: Any) -> str | None:
    """Return what is equal in processes of one machine that have opened the same files."""
    # Elsewhere, a file that is mapped cannot be removed.
    if os.name != "posix" or not is_row_files(X):
        return None
    files = X.to_unpack()
    if files is None:
        return None
    known = (process_space(), X.shape, str(X.dtype), files)
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _new_file(X: Any) -> str:
    """Create a file of the size of the rows."""
    dtype = unpacked_type(X)
    folder = temporary_folder(X.shape, dtype, "rows of files")
    number, path = tempfile.mkstemp(dir=folder, prefix="neumap-rows-")
    os.close(number)
    np.memmap(path, dtype=dtype, mode="w+", shape=X.shape)
    return path
