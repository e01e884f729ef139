"""Write files completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["staged"]


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a scratch folder whose files move to ``folder`` when the block ends without an error.

    Each file replaces its namesake in one step, so a reader sees the old or the new one. After an
    error everything is as before, folders made on the way included. The scratch folder lies
    inside ``folder``: a move between file systems would be a copy, which can stop half way.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".neumap-") as scratch:
            yield Path(scratch)
            for file in sorted(Path(scratch).iterdir()):
                _move(file, folder / file.name, Path(scratch))
        _sync_folder(folder)
    except BaseException:
        for parent in made:  # innermost first
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def _move(file: Path, target: Path, scratch: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())  # else a power cut may leave the name without its content
    shutil.copymode(target if target.exists() else _new_file(scratch), file)
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
