"""Tasks on threads: their order, how far they read ahead, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from neumap import _workers
from neumap._device import torch_threads
from neumap._workers import in_order


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers, "usable_cores", lambda: 8)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_come_in_the_order_of_what_they_are_of(n_threads: int) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number < 3 else 0)
        return number * number

    with torch_threads(n_threads):
        assert list(in_order(slow_at_first, range(20))) == [n * n for n in range(20)]
        assert torch.get_num_threads() == n_threads


def test_few_things_are_read_ahead() -> None:
    n_read = 0

    def counted() -> Iterator[int]:
        nonlocal n_read
        for number in range(100):
            n_read += 1
            yield number

    with torch_threads(3):
        for n_done, _ in enumerate(in_order(abs, counted()), start=1):
            assert n_read <= n_done + 3


def test_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers, "usable_cores", lambda: 1)
    with torch_threads(4):
        threads = set(in_order(lambda _: threading.current_thread(), range(9)))
    assert threads == {threading.current_thread()}


def test_closed_early_it_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with torch_threads(4):
        results = in_order(abs, range(1000))
        next(results)
        assert threading.active_count() > before
        results.close()
        assert torch.get_num_threads() == 4
    assert threading.active_count() == before


def test_an_error_of_a_task_is_raised_in_its_turn() -> None:
    with torch_threads(3):
        results = in_order(lambda number: 6 // number, [3, 2, 0, 1])
        assert [next(results), next(results)] == [2, 3]
        with pytest.raises(ZeroDivisionError):
            next(results)
