"""Threads that share out tasks, each of which computes on one core."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from neumap._device import allowed_threads, torch_threads, usable_cores

__all__ = ["Run", "in_order", "usable_threads", "workers"]

T = TypeVar("T")
R = TypeVar("R")

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


def usable_threads() -> int:
    """Return how many threads torch may use of those that have a core each."""
    return allowed_threads(min(torch.get_num_threads(), usable_cores()))


def in_order(
    task: Callable[[T], R], over: Iterable[T], device: str | torch.device = "cpu"
) -> Generator[R, None, None]:
    """Yield the results of tasks as they come, in the order of what they are done on.

    Each task computes with one thread, and there are as many at a time as torch may use. That
    takes less than to share out each operation: threads that wait for each other at every one
    stand still where another process has a core. Few things are read ahead. Close the generator.
    On a card tasks run one after the other, as in :func:`workers`.

    Examples
    --------
    >>> list(in_order(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if torch.device(device).type != "cpu":
        yield from map(task, over)
        return
    n_threads = usable_threads()
    with torch_threads(1):
        if n_threads == 1:
            yield from map(task, over)
            return
        with ThreadPoolExecutor(n_threads, "neumap", torch.set_num_threads, (1,)) as pool:
            waiting: deque[Future[R]] = deque()
            try:
                for one in over:
                    waiting.append(pool.submit(task, one))
                    if len(waiting) > n_threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
