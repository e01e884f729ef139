"""The one error of this room, and the two messages about a whole file."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ArchiveError", "damaged", "not_written_by_neumap"]


class ArchiveError(ValueError):
    """An archive cannot be written or read; the message says what to do."""


def not_written_by_neumap(source: Path, what: str) -> ArchiveError:
    """Return the error for a file of another program."""
    return ArchiveError(
        f"{str(source)!r} must be a model saved by neumap, got {what}. "
        "Give the folder or file that save() wrote."
    )


def damaged(source: Path, what: str) -> ArchiveError:
    """Return the error for a file whose parts contradict each other."""
    return ArchiveError(
        f"{str(source)!r} must be a complete model file, got a damaged one: {what}. "
        "Copy it again from where it was saved, or save the model again."
    )
