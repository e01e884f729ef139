"""Write the state of a training to a file from time to time, and read it back.

A checkpoint is a file in the format of :mod:`neumap.archive`: tensors, and everything else as JSON,
with checksums for both. Reading it runs no code, and a file is written completely or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neumap._atomic import replacing
from neumap._warnings import warn_user
from neumap.callbacks.base import Callback, TrainingRun

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "SavedState", "load_checkpoint", "read_checkpoint"]


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
    random streams, the history and a fingerprint of data and parameters; not the data, and not the
    neighbour graph, which is computed again.

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
        same ending in the same folder, and the file is moved into place when it returns.

    Attributes
    ----------
    saved_paths : list of Path
        Files written in the last training, oldest first, each once.

    Warns
    -----
    UserWarning
        If a file cannot be written.

    See Also
    --------
    load_checkpoint : Reads the weights in the file.

    Examples
    --------
    >>> Checkpoint("run/epoch-{epoch}.neumap", every=5).every
    5
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        save: Callable[[TrainingRun, Path], object] | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 epoch, got {every}. Use 1 for each epoch.")
        self.path = path
        self.every = every
        self.save = save
        self.saved_paths: list[Path] = []
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

    def _write(self, run: TrainingRun) -> None:
        from safetensors import SafetensorError  # raised for a full disk as well

        from neumap.archive import ArchiveError

        path = self._path_now(run)
        write = self.save if self.save is not None else save_run_state
        try:
            with replacing(path) as draft:
                write(run, draft)
        except (OSError, SafetensorError, ArchiveError) as error:
            reason = getattr(error, "strerror", None) or error  # an OSError repeats the path
            warn_user(
                f"The checkpoint {str(path)!r} could not be written: {reason}. The training "
                "goes on without it. Free space on the disk, or pass another path.",
            )
            return
        self._saved_epoch = run.epoch
        if path not in self.saved_paths:
            self.saved_paths.append(path)

    def _path_now(self, run: TrainingRun) -> Path:
        fields: dict[str, Any] = {**run.logs, "epoch": run.epoch, "step": run.step}
        try:
            return Path(os.fspath(self.path).format(**fields))
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"The fields of a checkpoint's path must be values of the training, got {error} in "
                f"{os.fspath(self.path)!r}. Use one of: {', '.join(sorted(fields))}."
            ) from error


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
    from neumap.archive import ArchiveError, read_archive, unpack_tree
    from neumap.archive.schema import check, mapping_of, size

    archive = read_archive(path)
    node = archive.metadata.get("checkpoint")
    if node is None:
        raise ArchiveError(
            f"The file must be a checkpoint, got {os.fspath(path)!r}, which contains "
            f"{', '.join(archive.metadata) or 'nothing'} instead. Load a saved model with load()."
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


def save_run_state(run: TrainingRun, path: Path) -> None:
    """Write ``run.checkpoint()`` to ``path``."""
    from neumap.archive import pack_tree, write_archive

    tensors: dict[str, Tensor] = {}
    parts = [[name, pack_tree(part, name, tensors)] for name, part in run.checkpoint().items()]
    # A name without a suffix would be a folder to write_archive.
    file = path.with_name(f"{path.name}.neumap")
    metadata = {"checkpoint": {"dict": parts}}
    write_archive(file, tensors=tensors, metadata=metadata).replace(path)
