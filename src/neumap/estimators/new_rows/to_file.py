"""Positions of any number of rows, written to a file as they are computed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neumap._atomic import replacing
from neumap._modes import own_torch_state
from neumap.data import Validated, row_count, take
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.transform import are_training_rows, embed
from neumap.estimators.recipe import Recipe
from neumap.training.embedders import encoded_parts

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["write_positions"]

PLACED_ROWS = 16_384  # of free positions, whose neighbours are found together


@own_torch_state()
def write_positions(
    path: Path, new: Validated, fitted: Fitted, recipe: Recipe, batch_rows: int | None = None
) -> NDArray[np.float32]:
    """Write the positions of checked rows to a ``.npy`` file; return the file as a memory map.

    The file is written completely or not at all. Memory does not grow with the number of rows.

    Raises
    ------
    ValueError
        If the model has no encoder and was saved without its training rows.
    OSError
        If the file cannot be written.
    """
    shape = (row_count(new.X), fitted.n_components)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with (
        replacing(path) as draft,
        draft.open("wb") as file,
        closing(_parts(new, fitted, recipe, batch_rows)) as parts,
        _bar(shape[0], recipe) as bar,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            # Not through a memory map: on a full disk that would end the process.
            file.write(np.ascontiguousarray(part, dtype="<f4").tobytes())
            bar.update(len(part))
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return mapped


def _bar(n_rows: int, recipe: Recipe) -> tqdm[Any]:
    """Return a progress bar of rows, which shows nothing unless it is wanted."""
    from tqdm.auto import tqdm

    shown: dict[str, Any] = {"total": n_rows, "unit": "row", "unit_scale": True}
    observers = recipe.observers
    return tqdm(**{**shown, **(observers.tqdm_kwds or {}), "disable": not observers.verbose})


def _parts(
    new: Validated, fitted: Fitted, recipe: Recipe, batch_rows: int | None
) -> Generator[NDArray[Any], None, None]:
    """Yield the positions of consecutive rows."""
    if fitted.encoder is not None:
        rows = fitted.network_rows(new)
        with closing(encoded_parts(fitted.encoder, rows, batch_rows)) as parts:
            for part in parts:
                yield part.cpu().numpy()
        return
    n_rows = row_count(new.X)
    if n_rows <= PLACED_ROWS or are_training_rows(new.X, fitted, recipe):
        yield embed(new, fitted, recipe)
        return
    for start in range(0, n_rows, PLACED_ROWS):
        block = replace(new, X=take(new.X, slice(start, start + PLACED_ROWS)))
        yield embed(block, fitted, recipe)
