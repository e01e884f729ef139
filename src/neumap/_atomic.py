"""Write files completely or not at all.

A file is written to a scratch folder in its own folder, flushed to the disk, and moved to its name
in one step. A reader, a crash or a full disk therefore leaves the old file or the new one, never a
part of one. The name of a scratch folder says which process it belongs to, and the next write to
the same folder removes those of processes that were killed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["process_space", "replacing"]

SCRATCH = re.compile(r"\.neumap-([0-9a-f]{8})-([0-9]{1,10})-\w+")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a name to write to; move the file to ``path`` if the block ends without an error.

    After an error everything is as before, including folders created on the way. Other files that
    the block writes next to the yielded name are moved too, before the file itself, so that it
    never exists without them.

    Parameters
    ----------
    path : path-like
        Target of the file. A link is kept, and the file it points to is replaced. Missing folders
        are created.

    Yields
    ------
    Path
        Name in a scratch folder, the same as that of ``path``, because some writers choose the
        format by its ending.

    Raises
    ------
    OSError
        If the file cannot be written. It names ``path`` and not the scratch folder.

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
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        # In the same folder: a move between file systems is a copy, which can stop half way.
        with tempfile.TemporaryDirectory(dir=folder, prefix=_prefix()) as scratch:
            draft = Path(scratch) / place.name
            yield draft
            for file in sorted(Path(scratch).iterdir()):
                if file != draft:
                    _move(file, folder / file.name)
            _move(draft, target)
        _sync_folder(folder)
    except BaseException as error:
        for parent in created:  # innermost first
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(error, OSError) and _is_of_the_target(error, folder):
            raise _at(target, error) from error
        raise


def _is_of_the_target(error: OSError, folder: Path) -> bool:
    """Return whether an error comes from the write, not from another file that the block uses."""
    if error.filename is None:
        return True
    failed = (
        Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
    )
    return failed in (folder, *folder.parents) or bool(
        {part for part in failed.parts if SCRATCH.fullmatch(part)}
    )


def _at(target: Path, error: OSError) -> OSError:
    # The number selects the class again, such as PermissionError.
    return OSError(error.errno or errno.EIO, error.strerror or str(error), str(target))


# ---- scratch folders of killed processes --------------------------------------------------------


def _prefix() -> str:
    return f".neumap-{process_space()}-{os.getpid()}-"


def process_space() -> str:
    """Return a name of the space in which process ids are unique."""
    try:
        # Containers with the same host name count their processes separately.
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _remove_abandoned(folder: Path) -> None:
    host = process_space()
    for scratch in folder.glob(f".neumap-{host}-*"):
        match = SCRATCH.fullmatch(scratch.name)
        if match and not scratch.is_symlink() and not _is_alive(int(match[2])):
            shutil.rmtree(scratch, ignore_errors=True)


def _is_alive(process: int) -> bool:
    """Return whether a process of this host exists; True where this cannot be asked safely."""
    if os.name != "posix":  # signal 0 ends the process on Windows
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True


# ---- moving -------------------------------------------------------------------------------------


def _move(file: Path, target: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())  # else a power cut may leave the name without its content
    shutil.copymode(target if target.exists() else _new_file(file.parent), file)
    file.replace(target)


def _new_file(scratch: Path) -> Path:
    """Create a file with the default mode of new files; some writers make theirs private."""
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
