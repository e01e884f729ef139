"""Memory goes back to the system."""

import subprocess
import sys

import pytest

from neumap import _memory

# Small blocks lie in the heap. Every hundredth keeps the end of the heap in use, so that the
# allocator by itself gives nothing back.
PROGRAM = """
from pathlib import Path
from neumap._memory import give_back

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

blocks = [bytes(30_000) for _ in range(4_000)]
kept = blocks[::100]
del blocks
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(
    _memory._trim() is None or sys.platform != "linux", reason="the allocator is not glibc's"
)
def test_freed_blocks_between_used_ones_are_given_back():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 100e6  # of 120 MB


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(_memory.sys, "platform", "darwin")
    _memory._trim.cache_clear()
    try:
        assert _memory._trim() is None
        _memory.give_back()
    finally:
        _memory._trim.cache_clear()
