"""Write files completely or not at all.

A file is written beside its place, brought to the disk, and moved there in one step, so that a
reader, a crash or a full disk meets the old file or the new one, never a part of one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a name to write to; move the file to ``path`` if the block ends without an error.

    After an error everything is as before, folders made on the way included. Other files that the
    block writes beside the one asked for move along, before it: it never stands without them.

    Parameters
    ----------
    path : path-like
        Where the file belongs. A link stays, and the file it points at is replaced. Missing
        folders are made.

    Yields
    ------
    Path
        Name in a scratch folder, the same as that of ``path``, since some writers choose the
        format by its ending.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/new/map.txt") as draft:
    ...         _ = draft.write_text("complete")
    ...     Path(folder, "new", "map.txt").read_text()
    'complete'
    """
    place = Path(path)
    target = place.resolve()
    folder = target.parent
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside the folder: a move between file systems would be a copy, which can stop half way.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".neumap-") as scratch:
            draft = Path(scratch) / place.name
            yield draft
            for file in sorted(Path(scratch).iterdir()):
                if file != draft:
                    _move(file, folder / file.name)
            _move(draft, target)
        _sync_folder(folder)
    except BaseException:
        for parent in made:  # innermost first
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def _move(file: Path, target: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())  # else a power cut may leave the name without its content
    shutil.copymode(target if target.exists() else _new_file(file.parent), file)
    file.replace(target)


def _new_file(scratch: Path) -> Path:
    """File with the mode that new files have here; some writers make theirs private."""
    file = scratch / ".new"
    file.touch()
    return file


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder, and journals renames itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
