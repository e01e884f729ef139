"""Write the state of a training to a file from time to time, and read it back.

A checkpoint is a file in the format of :mod:`neumap.archive`: tensors, and everything else as JSON,
with checksums for both. Reading it runs no code, and a file is written completely or not at all.
"""

from __future__ import annotations

import glob
import os
import re
import string
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neumap._atomic import replacing
from neumap._warnings import warn_user
from neumap.callbacks.base import Callback, TrainingRun

if TYPE_CHECKING:
    from torch import Tensor

    from neumap.archive import Archive

__all__ = [
    "Checkpoint",
    "SavedState",
    "checkpoint_of",
    "load_checkpoint",
    "read_checkpoint",
    "search_file",
]

# What str.format makes of a number, whatever the format.
NUMBER = r"[-+]?[\d.,_]+(?:[eE][-+]?\d+)?%?"


class SavedState(NamedTuple):
    """The weights in a checkpoint, and when in the training it was saved."""

    state: dict[str, Any]
    epoch: int
    step: int
    logs: dict[str, float]


class Checkpoint(Callback):
    """Saves the state of the training every few epochs, so that a fit can go on from it.

    ``fit(X, resume_from=path)`` continues to the same end as a fit that was not interrupted. The
    file holds the weights of all networks (or the free positions), the state of the optimiser, the
    random streams, the history and a fingerprint of data and parameters, not the data.

    The neighbours are written once, when their search has ended, to a file beside it: for
    ``"training.neumap"`` that is ``"training.search.neumap"``. A fit that goes on takes them from
    there. ``resume_from=path`` also finds them where the fit was interrupted before the first
    checkpoint. Both files stay when the fit has ended.

    If a file cannot be written, for example because the disk is full, there is a warning and the
    training goes on.

    Parameters
    ----------
    path : str or Path
        File to write. May contain ``{epoch}``, ``{step}`` and names of the logs, for example
        ``"runs/epoch-{epoch:03d}-{loss:.3f}.neumap"``; without them, each checkpoint replaces
        the previous one. Missing folders are made.
    every : int, default=1
        Epochs (reports) between checkpoints. The last epoch is always saved. There are
        `loss_report_frequency` reports in a training, so a larger number of these loses less of an
        interrupted one.
    save : callable or None, default=None
        ``save(run, path)`` writes a format of your own instead. It gets a temporary path with the
        same ending in the same folder, and the file is moved into place when it returns. A fit
        cannot go on from it, and the neighbours are not kept.
    max_search_bytes : float, default=1e9
        Largest file of neighbours to write, in bytes. It takes 8 bytes for each neighbour of each
        row: 120 MB for a million rows with 15 neighbours. If it would be larger there is a warning,
        and a fit that goes on searches again. 0 keeps no neighbours, ``math.inf`` any number.

    Attributes
    ----------
    saved_paths : list of Path
        Files written in the last training, oldest first, each once.
    search_path : Path or None
        File of the neighbours of the last fit, if they were kept.

    Warns
    -----
    UserWarning
        If a file cannot be written.

    See Also
    --------
    load_checkpoint : Reads the weights in the file.

    Examples
    --------
    One script that begins, and goes on however often it is started again:

    >>> checkpoint = Checkpoint("run/epoch-{epoch}.neumap", every=5)
    >>> print(checkpoint.latest())
    None

    ``ParametricUMAP(callbacks=[checkpoint]).fit(X, resume_from=checkpoint.latest())``
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        save: Callable[[TrainingRun, Path], object] | None = None,
        max_search_bytes: float = 1e9,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 epoch, got {every}. Use 1 for each epoch.")
        if not max_search_bytes >= 0:
            raise ValueError(
                f"max_search_bytes must be a number of bytes from 0, got {max_search_bytes}. Use "
                "math.inf for any size."
            )
        self.path = path
        self.every = every
        self.save = save
        self.max_search_bytes = max_search_bytes
        self.saved_paths: list[Path] = []
        self.search_path: Path | None = None
        self._saved_epoch: int | None = None

    @property
    def on_first_process_only(self) -> bool:
        return True

    def on_fit_start(self, run: TrainingRun) -> None:
        self.saved_paths = []
        self._saved_epoch = None

    def on_epoch_end(self, run: TrainingRun) -> None:
        if (run.epoch + 1) % self.every == 0:
            self._write(run)

    def on_fit_end(self, run: TrainingRun) -> None:
        if self._saved_epoch != run.epoch:
            self._write(run)

    def latest(self) -> Path | None:
        """Return the file to go on from, or None if there is none.

        That is the newest file whose name `path` gives, whatever the fields are; where there is no
        checkpoint, the file of the neighbours.

        Examples
        --------
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> file = Path(folder, "epoch-3.neumap")
        >>> file.touch()
        >>> Checkpoint(f"{folder}/epoch-{{epoch}}.neumap").latest() == file
        True
        """
        pattern, names = "", ""
        for text, has_field in _pieces(self.path):
            pattern += glob.escape(text) + "*" * has_field
            names += re.escape(text) + NUMBER * has_field
        # Path.glob takes no absolute patterns.
        found = [Path(f) for f in glob.glob(pattern) if re.fullmatch(names, f)]  # noqa: PTH207
        if found:
            return max(found, key=lambda file: file.stat().st_mtime_ns)
        search = search_file(self.path)
        return search if search.exists() else None

    def keep_search(self, write: Callable[[Path], object], n_bytes: int) -> None:
        """Write the neighbours of a fit, unless the file would be too large.

        Parameters
        ----------
        write : callable
            ``write(path)`` writes the file completely or not at all.
        n_bytes : int
            About the size of the file.

        Warns
        -----
        UserWarning
            If the file is not written because of its size, or cannot be written.
        """
        self.search_path = None
        if self.save is not None or self.max_search_bytes == 0:
            return
        if n_bytes > self.max_search_bytes:
            warn_user(
                f"The neighbours are not kept with the checkpoint: their file would have {n_bytes} "
                f"bytes, and at most {self.max_search_bytes:.0f} are wanted. A fit that goes on "
                "searches again. Pass Checkpoint(..., max_search_bytes=math.inf) to keep them."
            )
            return
        path = search_file(self.path)
        if self._is_written(path, write):
            self.search_path = path.absolute()

    def _write(self, run: TrainingRun) -> None:
        path = self._path_now(run)
        search = None
        if self.search_path is not None:
            search = os.path.relpath(self.search_path, path.absolute().parent)
        write = self.save if self.save is not None else partial(save_run_state, search=search)

        def replace(place: Path) -> None:
            with replacing(place) as draft:
                write(run, draft)

        if not self._is_written(path, replace):
            return
        self._saved_epoch = run.epoch
        if path not in self.saved_paths:
            self.saved_paths.append(path)

    @staticmethod
    def _is_written(path: Path, write: Callable[[Path], object]) -> bool:
        """Write a file, or warn that it could not be written."""
        from safetensors import SafetensorError  # raised for a full disk as well

        from neumap.archive import ArchiveError

        try:
            write(path)
        except (OSError, SafetensorError, ArchiveError) as error:
            reason = getattr(error, "strerror", None) or error  # an OSError repeats the path
            warn_user(
                f"The checkpoint {str(path)!r} could not be written: {reason}. The training "
                "goes on without it. Free space on the disk, or pass another path.",
            )
            return False
        return True

    def _path_now(self, run: TrainingRun) -> Path:
        fields: dict[str, Any] = {**run.logs, "epoch": run.epoch, "step": run.step}
        try:
            return Path(os.fspath(self.path).format(**fields))
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"The fields of a checkpoint's path must be values of the training, got {error} in "
                f"{os.fspath(self.path)!r}. Use one of: {', '.join(sorted(fields))}."
            ) from error


def search_file(path: str | os.PathLike[str]) -> Path:
    """Return where the neighbours of a fit are kept, whose checkpoints have this path.

    In the name, it is what stands before the first field.

    Examples
    --------
    >>> search_file("runs/training.neumap").as_posix()
    'runs/training.search.neumap'
    >>> search_file("runs/epoch-{epoch:03d}-{loss:.3f}.neumap").as_posix()
    'runs/epoch.search.neumap'
    """
    first, has_field = next(iter(_pieces(path)), ("", False))
    folder, name = os.path.split(first)
    stem = name.rstrip("-_. ") if has_field else Path(name).stem
    return Path(folder, f"{stem}.search.neumap" if stem else "search.neumap")


def _pieces(path: str | os.PathLike[str]) -> list[tuple[str, bool]]:
    """Return the texts of a path, each with whether a field follows."""
    try:
        parsed = [*string.Formatter().parse(os.fspath(path))]
    except ValueError:  # a brace alone, which the first checkpoint complains about
        return [(os.fspath(path), False)]
    pieces: list[tuple[str, bool]] = []
    before = ""
    for text, field, *_ in parsed:  # an escaped brace ends a text, though no field follows
        before += text
        if field is not None:
            pieces.append((before, True))
            before = ""
    return [*pieces, (before, False)] if before or not pieces else pieces


def load_checkpoint(path: str | os.PathLike[str]) -> SavedState:
    """Read the weights in a file that :class:`Checkpoint` wrote.

    To continue the training, pass the path to ``fit(X, resume_from=path)`` instead.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    SavedState
        ``state`` has the structure of ``run.state_dict()``; tensors are on the CPU.

    Raises
    ------
    ArchiveError
        If there is no such file, or it is damaged or not a checkpoint.
    """
    found = read_checkpoint(path)
    return SavedState(found["weights"], found["epoch"], found["step"], found["logs"])


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return all that a checkpoint holds: what ``run.checkpoint()`` returned.

    ``"written_by"`` is the version of neumap that wrote it.

    Raises
    ------
    ArchiveError
        If there is no such file, or it is damaged or not a checkpoint.
    """
    from neumap.archive import read_archive

    return checkpoint_of(read_archive(path), path)


def checkpoint_of(archive: Archive, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what :func:`read_checkpoint` does, from the content of the file.

    Raises
    ------
    ArchiveError
        If it is not that of a checkpoint.
    """
    from neumap.archive import ArchiveError, unpack_tree
    from neumap.archive.schema import check, mapping_of, size

    node = archive.metadata.get("checkpoint")
    if node is None:
        raise ArchiveError(
            f"The file must be a checkpoint, got {os.fspath(path)!r}, which contains "
            f"{', '.join(archive.metadata) or 'nothing'} instead. Load a saved model with "
            "neumap.load()."
        )
    found: dict[str, Any] = unpack_tree(node, archive.tensors, "checkpoint")
    schema = {
        "weights": mapping_of(lambda value, where: None),
        "epoch": size,
        "step": size,
        "logs": mapping_of((int, float)),
    }
    check(found, schema, "checkpoint")
    return {**found, "written_by": archive.created_with.get("neumap", "unknown")}


def save_run_state(run: TrainingRun, path: Path, search: str | None = None) -> None:
    """Write ``run.checkpoint()`` to ``path``, with the place of the neighbours' file from there."""
    from neumap.archive import pack_tree, write_archive

    tensors: dict[str, Tensor] = {}
    state = {**run.checkpoint(), "search": search}
    parts = [[name, pack_tree(part, name, tensors)] for name, part in state.items()]
    # A name without a suffix would be a folder to write_archive.
    file = path.with_name(f"{path.name}.neumap")
    metadata = {"checkpoint": {"dict": parts}}
    write_archive(file, tensors=tensors, metadata=metadata).replace(path)
