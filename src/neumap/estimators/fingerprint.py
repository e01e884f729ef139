"""What tells one fit from another: parameters and data, as text and numbers that can be compared.

A checkpoint keeps the fingerprint of its fit, so that only the same fit goes on from it. Numbers of
arrays and rows are compared by checksum. Of networks, functions and other objects the kind counts,
not the state: a checkpoint brings the weights.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from neumap._warnings import warn_user
from neumap.archive import ArchiveError, fits_json
from neumap.data import RowStore
from neumap.estimators.constraints import short_text
from neumap.estimators.recipe import Recipe
from neumap.estimators.task import Task

__all__ = ["differences", "fingerprint", "resumable"]

# They show a training, or act before or after it only.
WITHOUT_EFFECT = frozenset(
    {"callbacks", "keras_fit_kwargs", "n_jobs", "device", "tqdm_kwds", "transform_seed"}
    | {"transform_queue_size", "verbose", "low_memory"}
)

# All rows of data up to this many numbers are read for the checksum, and of larger data a sample.
NUMBERS = 2**28
SAMPLED_ROWS = 2**16
ROWS_AT_ONCE = 4096


def fingerprint(task: Task, recipe: Recipe, distances: Any = None) -> dict[str, Any]:
    """Return the fingerprint of a fit: a JSON value for each parameter and each argument."""
    settings = {k: _told(v) for k, v in recipe.settings.items() if k not in WITHOUT_EFFECT}
    start = task.warm_start
    return {
        **settings,
        "device": task.device.type,
        "X": _of_rows(task.rows),
        "y": None if task.targets is None else _told(task.targets),
        "sample_weight": _told(task.row_weights),
        "precomputed_distances": _told(distances),
        "landmarks": None if start is None else _told(start.positions),
    }


def differences(given: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return what differs between two fingerprints, in words.

    Examples
    --------
    >>> differences({"n_neighbors": 10, "X": "a"}, {"n_neighbors": 15, "X": "b"})
    ['n_neighbors (10 there, 15 here)', 'X']
    """
    names = [*own, *(name for name in given if name not in own)]
    different = [name for name in names if given.get(name) != own.get(name)]
    return [_difference(name, given.get(name), own.get(name)) for name in different]


def _difference(name: str, there: Any, here: Any) -> str:
    if name in ("X", "y", "sample_weight", "precomputed_distances", "landmarks"):
        return name
    return f"{name} ({short_text(there)} there, {short_text(here)} here)"


def resumable(state: Mapping[str, Any], own: Mapping[str, Any], version: str) -> None:
    """Raise unless a checkpoint is one of this fit.

    Parameters
    ----------
    state : mapping
        As :func:`neumap.callbacks.checkpoint.read_checkpoint` returns it.
    own : mapping
        The fingerprint of this fit.
    version : str
        Of this neumap.

    Raises
    ------
    ValueError
        Naming the parameters and arguments that differ.

    Warns
    -----
    UserWarning
        If another version of neumap wrote it.
    """
    origin = state.get("origin")
    given = origin.get("fit") if isinstance(origin, Mapping) else None
    if not isinstance(given, Mapping) or not fits_json(given):
        raise ArchiveError(
            "resume_from must be a checkpoint of a fit, got one of another training. Pass the file "
            "that Checkpoint wrote in this very fit."
        )
    found = differences(given, own)
    if found:
        raise ValueError(
            f"resume_from must be a checkpoint of this fit, got one with other {', '.join(found)}. "
            "Pass the same data and parameters, or begin anew without the checkpoint."
        )
    if state["written_by"] != version:
        warn_user(
            f"The checkpoint was written by neumap {state['written_by']} and this is {version}: "
            "the result may differ from that of a fit that was not interrupted. Fit anew for one "
            "that can be repeated."
        )


def _told(value: Any) -> Any:
    """Return a JSON value that is equal for equal values."""
    if isinstance(value, np.ndarray | Tensor) or scipy.sparse.issparse(value):
        return _of_array(value)
    if fits_json(value):
        return value
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _told(item) for name, item in value.items()}
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return "a generator"
    if isinstance(value, torch.optim.Optimizer):
        return [_name(type(value)), _told({**value.defaults})]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [_name(type(value)), _told(parts)]
    if isinstance(value, nn.Module):
        # Without names: Keras numbers its layers over the whole process.
        shapes = [list(tensor.shape) for tensor in value.parameters()]
        return [_name(type(value)), [_name(type(part)) for part in value.modules()], shapes]
    fitted = vars(value).get("_fitted") if hasattr(value, "__dict__") else None
    if fitted is not None and getattr(fitted, "encoder", None) is not None:  # a guide
        weights = [_of_array(tensor) for tensor in fitted.encoder.state_dict().values()]
        return [_name(type(value)), weights]
    return _name(value if isinstance(value, type) or callable(value) else type(value))


def _name(value: Any) -> str:
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _of_array(value: Any) -> str:
    """Return shape, dtype and checksum of an array, a tensor or a sparse matrix."""
    if isinstance(value, Tensor):
        parts = [value.detach().cpu().float().numpy()]
    elif scipy.sparse.issparse(value):
        entries: Any = value
        entries = entries.tocoo()
        parts = [entries.row, entries.col, entries.data]
    else:
        parts = [value]
    checksum = 0
    for part in parts:
        is_plain = part.dtype.kind not in "OT"
        content = np.ascontiguousarray(part).tobytes() if is_plain else repr(part.tolist()).encode()
        checksum = zlib.crc32(content, checksum)
    return f"{tuple(value.shape)} {value.dtype} {checksum:08x}"


def _of_rows(rows: RowStore) -> str:
    """Return shape and checksum of the rows; of very many, of rows that are evenly spread."""
    checksum = 0
    for part in _read(rows):
        numbers = part.detach().cpu().contiguous().numpy() + np.float32(0.0)  # -0.0 becomes 0.0
        checksum = zlib.crc32(numbers.tobytes(), checksum)
    return f"{rows.n_rows} rows of {tuple(rows.row_shape)} {checksum:08x}"


def _read(rows: RowStore) -> Iterator[Tensor]:
    if rows.n_rows * rows.n_features <= NUMBERS:
        yield from rows.slices(ROWS_AT_ONCE)
        return
    chosen = torch.arange(SAMPLED_ROWS) * rows.n_rows // SAMPLED_ROWS
    for start in range(0, SAMPLED_ROWS, ROWS_AT_ONCE):
        yield rows.gather(chosen[start : start + ROWS_AT_ONCE])
