"""Warnings that point at the user's own line, however deep inside the package they arise."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_user"]

# The others call this package's methods, or wrap them, between its own lines and the user's.
NOT_THE_USER = frozenset({"neumap", "sklearn", "torch", "contextlib"})


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the user's line from which the package was called."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _package(frame.f_globals) in NOT_THE_USER:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


def _package(of_a_frame: dict[str, object]) -> str:
    return str(of_a_frame.get("__name__")).partition(".")[0]
