"""The one error of this room."""

from __future__ import annotations

__all__ = ["ArchiveError"]


class ArchiveError(ValueError):
    """An archive cannot be written or read; the message says what to do."""
