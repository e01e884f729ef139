"""Where a saved model is: the file, or the folder that holds it."""

from __future__ import annotations

from pathlib import Path

from neumap.archive.errors import ArchiveError

__all__ = ["FILE_NAME", "source_of"]

FILE_NAME = "model.neumap"


def source_of(path: Path) -> Path:
    """Return the file of a saved model.

    Raises
    ------
    ArchiveError
        If there is none, with what is there instead.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise ArchiveError(
            f"{str(path)!r} must be a saved model, got nothing there. Check the path, or save a "
            "model there first."
        )
    if (path / FILE_NAME).is_file():
        return path / FILE_NAME
    found = sorted(entry.name for entry in path.iterdir())
    if {"model.pkl", "encoder.keras", "parametric_model", "parametric_model.keras"} & set(found):
        raise ArchiveError(
            f"The folder {str(path)!r} must hold {FILE_NAME}, got files of umap-learn "
            f"({', '.join(found[:5])}). They are pickles of its classes. Fit neumap on the "
            "data, or pass the Keras model in encoder.keras as encoder=."
        )
    raise ArchiveError(
        f"The folder {str(path)!r} must hold {FILE_NAME}, got "
        f"{', '.join(found[:5]) or 'an empty folder'}. Give the folder or file that save() wrote."
    )
