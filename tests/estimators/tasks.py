"""Tasks of fits, for tests of what a fit does with one."""

from __future__ import annotations

from typing import Any

from neumap.data import check_input
from neumap.estimators.task import Task, prepare


def task_of(X: Any, y: Any = None, **changed: Any) -> Task:
    """Return the task of a fit on the processor with the usual settings."""
    usual = {"dims": None, "unique": False, "device": "cpu", "random_state": 0}
    return prepare(check_input(X), y, **{**usual, **changed})
