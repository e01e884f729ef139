"""Write the state of a training to a file now and then, and read it back.

The file is safetensors: tensors under dotted names, everything else as JSON in its header, so
that reading it runs no code. A file is complete or absent: it is written beside its
place and moved there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neumap._atomic import replacing
from neumap.callbacks.base import Callback, TrainingRun

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "SavedState", "load_checkpoint"]

_FORMAT = "neumap-checkpoint-1"


class SavedState(NamedTuple):
    """What a checkpoint holds: the state to load, and where in the training it was taken."""

    state: dict[str, Any]
    epoch: int
    step: int
    logs: dict[str, float]


class Checkpoint(Callback):
    """Saves the trained modules every few epochs.

    Parameters
    ----------
    path : str or Path
        File to write. May hold ``{epoch}``, ``{step}`` and names of the logs, for example
        ``"runs/epoch-{epoch:03d}-{loss:.3f}.safetensors"``; without them each checkpoint
        replaces the one before. Missing folders are made.
    every : int, default=1
        Epochs (reports) between checkpoints. The last epoch is always saved.
    save : callable or None, default=None
        ``save(run, path)`` writes in a format of your own instead; it gets a temporary path of
        the same folder and ending, which is moved into place when it returns.

    Attributes
    ----------
    saved_paths : list of Path
        Files written in the last training, oldest first, each once.

    See Also
    --------
    load_checkpoint : Reads the file.

    Examples
    --------
    >>> Checkpoint("run/epoch-{epoch}.safetensors", every=5).every
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
            raise ValueError(f"Expected every >= 1 epoch, got {every}. Use 1 to save each epoch.")
        self.path = path
        self.every = every
        self.save = save
        self.saved_paths: list[Path] = []
        self._saved_epoch: int | None = None

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
        path = self._path_now(run)
        write = self.save if self.save is not None else save_run_state
        with replacing(path) as draft:
            write(run, draft)
        self._saved_epoch = run.epoch
        if path not in self.saved_paths:
            self.saved_paths.append(path)

    def _path_now(self, run: TrainingRun) -> Path:
        fields: dict[str, Any] = {**run.logs, "epoch": run.epoch, "step": run.step}
        try:
            return Path(os.fspath(self.path).format(**fields))
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"Checkpoint(path={os.fspath(self.path)!r}) has a field {error} that this training "
                f"does not have. Use one of: {', '.join(sorted(fields))}."
            ) from error


def load_checkpoint(path: str | os.PathLike[str]) -> SavedState:
    """Read a file that :class:`Checkpoint` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    SavedState
        ``state`` has the structure that ``run.state_dict()`` had; tensors are on the CPU.

    Raises
    ------
    ValueError
        If the file is truncated or no checkpoint of this version.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            header = dict(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118  (the handle is not a mapping)
                tensors[name] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(
            f"Expected a checkpoint at {os.fspath(path)!r}; it cannot be read ({error}). The file "
            "is damaged or of another kind: use an earlier checkpoint."
        ) from error
    if header.get("format") != _FORMAT:
        raise ValueError(
            f"Expected a checkpoint of format {_FORMAT!r} at {os.fspath(path)!r}, got "
            f"{header.get('format')!r}. Read it with the version of neumap that wrote it."
        )
    rest = json.loads(header["state"])
    leaves = [(place, tensors[name]) for name, place in rest["tensors"].items()]
    leaves += [(place, value) for place, value in rest["values"]]
    return SavedState(_unflatten(leaves), rest["epoch"], rest["step"], rest["logs"])


def save_run_state(run: TrainingRun, path: Path) -> None:
    """Write ``run.state_dict()`` and the place in the training to ``path``."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    places: dict[str, list[str]] = {}
    values: list[tuple[list[str], Any]] = []
    for place, value in _flatten(run.state_dict()):
        if hasattr(value, "detach"):
            name = ".".join(place)
            # A copy each: safetensors refuses tensors that share memory, as tied weights do.
            tensors[name] = value.detach().cpu().clone().contiguous()
            places[name] = place
        else:
            values.append((place, value))
    rest = {
        "tensors": places,
        "values": values,
        "epoch": run.epoch,
        "step": run.step,
        "logs": dict(run.logs),
    }
    save_file(tensors, path, metadata={"format": _FORMAT, "state": json.dumps(rest)})


def _flatten(
    state: Mapping[str, Any], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[list[str], Any]]:
    for name, value in state.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, (*prefix, name))
        else:
            yield [*prefix, name], value


def _unflatten(leaves: list[tuple[list[str], Any]]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for place, value in leaves:
        inner = state
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
        inner[place[-1]] = value
    return state
