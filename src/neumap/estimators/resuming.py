"""What a fit goes on from: the checkpoint of its training, the neighbours of its search, or both.

The neighbours are written once, when the search has ended, to a file of their own in the archive's
format. A training checkpoint says where that file is. A fit that was interrupted before the first
checkpoint goes on from the file alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._warnings import warn_user
from neumap.archive import Archive, ArchiveError, read_archive, write_archive
from neumap.archive.schema import check, misfit, text_of
from neumap.callbacks import Checkpoint
from neumap.callbacks.checkpoint import checkpoint_of, search_file
from neumap.estimators.fingerprint import differences
from neumap.estimators.recipe import Recipe
from neumap.neighbors import NeighborGraph

__all__ = ["Resume", "kept_neighbors", "read_resume", "search_keeper"]

logger = logging.getLogger(__name__)

ADVICE = "Pass the file that Checkpoint wrote in this very fit, or leave out resume_from."
LONGEST_NAME = 100


@dataclass(frozen=True)
class Resume:
    """What a file holds of an interrupted fit.

    Attributes
    ----------
    state : mapping
        With ``"origin"`` and ``"written_by"``, and everything else of a training checkpoint if the
        file is one.
    search_path : Path or None
        File of the neighbours.
    search : Archive or None
        Its content, where the fit goes on from this file alone.
    """

    state: Mapping[str, Any]
    search_path: Path | None = None
    search: Archive | None = None

    @property
    def training(self) -> Mapping[str, Any] | None:
        """The training checkpoint; None where the training had written none."""
        return self.state if self.search is None else None


def read_resume(path: str | os.PathLike[str]) -> Resume:
    """Read a checkpoint or a file of neighbours.

    Parameters
    ----------
    path : path-like
        Either of the two. Where there is no file, that of the neighbours is looked for which
        belongs to a checkpoint of this name.

    Raises
    ------
    ArchiveError
        If there is neither, or the file is damaged or another one.
    """
    file = Path(path)
    if not file.exists():
        # Braces in the name of a file are no fields.
        search = search_file(os.fspath(path).replace("{", "{{").replace("}", "}}"))
        file = search if search.exists() else file
    if not file.exists():
        raise ArchiveError(
            f"resume_from must be a file that Checkpoint wrote, got no file at {str(file)!r}. "
            "Check the path, or pass Checkpoint(...).latest(), which is None as long as there is "
            "no file."
        )
    archive = read_archive(file)
    if "search" in archive.metadata:
        document = archive.metadata["search"]
        check(document, {"origin": dict}, "search")
        written_by = archive.created_with.get("neumap", "unknown")
        state = {"origin": document["origin"], "written_by": written_by}
        return Resume(state, file.absolute(), archive)
    state = checkpoint_of(archive, file)
    return Resume(state, _beside(file, state.get("search")))


def _beside(file: Path, place: Any) -> Path | None:
    """Return the file of neighbours that a checkpoint names."""
    check(place, (str, type(None)), "search")
    if place is None:
        return None
    if Path(place).is_absolute() or not place.endswith("search.neumap"):
        raise misfit("search", "the place of a file of neighbours", place, ADVICE)
    return Path(os.path.normpath(file.absolute().parent / place))


def kept_neighbors(
    resume: Resume | None,
    origin: Mapping[str, Any],
    asking: NDArray[np.int64],
    n_rows: int,
    n_neighbors: int,
) -> NeighborGraph | None:
    """Return the neighbours that the interrupted fit has found; None if they are searched again.

    Parameters
    ----------
    resume : Resume or None
        What the fit goes on from.
    origin : mapping
        Fingerprint and seed of this fit.
    asking : array of shape (n_asking,), int64
        Numbers of the rows whose neighbours are needed.
    n_rows : int
        Rows among which these were searched.
    n_neighbors : int
        Neighbours of each, itself being one of them.

    Raises
    ------
    ArchiveError
        If the fit goes on from the file of the neighbours alone, and it cannot be used.

    Warns
    -----
    UserWarning
        If there is a checkpoint as well: a search with the same seed finds the same neighbours.
    """
    if resume is None or resume.search_path is None:
        return None
    if resume.search is not None:
        return _neighbors(resume.search, asking, n_rows, n_neighbors)
    if not resume.search_path.exists():
        logger.info("%s is not there: the neighbours are searched again", resume.search_path)
        return None
    try:
        archive = read_archive(resume.search_path)
        found = _neighbors(archive, asking, n_rows, n_neighbors)
        given = archive.metadata["search"]["origin"]
        if differences(given, origin):
            raise misfit("search.origin", "that of this fit", "that of another", ADVICE)
    except (ArchiveError, OSError) as error:
        warn_user(
            f"The neighbours in {str(resume.search_path)!r} cannot be used and are searched "
            f"again, which takes time and gives the same result. {error}"
        )
        return None
    return found


def _neighbors(
    archive: Archive, asking: NDArray[np.int64], n_rows: int, n_neighbors: int
) -> NeighborGraph:
    """Return the neighbours in a file.

    Raises
    ------
    ArchiveError
        If they are not those of a search of this kind, whatever the checksums say.
    """
    schema = {
        "origin": dict,
        "backend": text_of(LONGEST_NAME),
        "recall": (float, int, type(None)),
    }
    check(archive.metadata.get("search"), schema, "search")
    document, tensors = archive.metadata["search"], archive.tensors
    shape = (len(asking), min(n_neighbors, n_rows))
    kinds = {"indices": _index_type(n_rows), "distances": np.dtype(np.float32)}
    for name, dtype in kinds.items():
        values: Any = tensors.get(name)
        is_array = isinstance(values, np.ndarray)
        if not is_array or values.shape != shape or values.dtype != dtype:
            raise misfit(f"search.{name}", f"an array of shape {shape} of {dtype}", values, ADVICE)
    indices, distances = tensors["indices"].astype(np.int64), tensors["distances"]
    is_none = indices == -1
    is_right = (
        (indices[:, 0] == asking).all()
        and (distances[:, 0] == 0.0).all()
        and indices.min() >= -1
        and indices.max() < n_rows
        and not np.isnan(distances).any()
        and np.isinf(distances[is_none]).all()
    )
    if not is_right:
        raise misfit("search", "lists of neighbours of the rows of this fit", "others", ADVICE)
    is_all = len(asking) == n_rows
    return NeighborGraph(
        indices,
        distances,
        document["backend"],
        document["recall"],
        0.0,
        anchors=None if is_all else asking,
        n_rows=None if is_all else n_rows,
    )


def _index_type(n_rows: int) -> np.dtype[Any]:
    return np.dtype(np.int32 if n_rows <= np.iinfo(np.int32).max else np.int64)


def search_keeper(
    recipe: Recipe, origin: Mapping[str, Any], known_from: Path | None
) -> Callable[[NeighborGraph], None]:
    """Return what lets each :class:`Checkpoint` of a fit keep the neighbours.

    Parameters
    ----------
    recipe : Recipe
        With the callbacks.
    origin : mapping
        Fingerprint and seed of the fit.
    known_from : Path or None
        The file that the neighbours come from, which is not written again.
    """
    checkpoints = [c for c in recipe.observers.all_callbacks if isinstance(c, Checkpoint)]
    for checkpoint in checkpoints:
        checkpoint.search_path = None

    def keep(neighbors: NeighborGraph) -> None:
        def write(path: Path) -> None:
            _write(path, neighbors, origin)

        for checkpoint in checkpoints:
            if search_file(checkpoint.path).absolute() == known_from:
                checkpoint.search_path = known_from
            else:
                itemsize = _index_type(neighbors.n_vertices).itemsize + 4
                checkpoint.keep_search(write, neighbors.indices.size * itemsize)

    return keep


def _write(path: Path, neighbors: NeighborGraph, origin: Mapping[str, Any]) -> None:
    index_type = _index_type(neighbors.n_vertices)
    tensors = {
        "indices": neighbors.indices.astype(index_type),
        "distances": np.asarray(neighbors.distances, dtype=np.float32),
    }
    document = {
        "origin": dict(origin),
        "backend": neighbors.backend[:LONGEST_NAME],
        "recall": neighbors.recall,
    }
    write_archive(path, tensors=tensors, metadata={"search": document})
