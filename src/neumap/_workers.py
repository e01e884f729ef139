"""Threads that share out tasks, each of which computes on one core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from neumap._device import allowed_threads, torch_threads

__all__ = ["Run", "workers"]

Run = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


@contextmanager
def workers(n_jobs: int, device: str | torch.device = "cpu") -> Iterator[Run]:
    """Give a map over tasks that uses ``n_jobs`` threads; -1 takes torch's number.

    A task computes with one thread, so that its result does not depend on their number. On a card
    tasks run one after the other: it shares out the work of each itself.

    Examples
    --------
    >>> with workers(2) as run:
    ...     run(abs, [-1, 2])
    [1, 2]
    """
    wanted = min(n_jobs, os.cpu_count() or 1) if n_jobs > 0 else torch.get_num_threads()
    n_threads = allowed_threads(wanted)
    with torch_threads(1):
        if n_threads == 1 or torch.device(device).type != "cpu":
            yield lambda task, over: [task(one) for one in over]
            return
        with ThreadPoolExecutor(n_threads, "neumap", torch.set_num_threads, (1,)) as pool:
            yield lambda task, over: list(pool.map(task, over))
