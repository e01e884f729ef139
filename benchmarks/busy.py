"""Seconds of a fit with two threads while other processes keep the cores busy.

    python benchmarks/busy.py             # all of torch's threads, and the package's choice
    python benchmarks/busy.py --busy 0    # on an idle machine

The threads of a training step wait for each other in a busy loop. Where another process takes the
core of one of them, all the others wait for a time slice of the scheduler, tens of times per step.
The script pins itself and the busy processes to two cores and fits free positions and a network of
the user: with as many threads as torch has there, and with the number that training chooses.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib import machine
from lib.results import command, write

import neumap
from neumap.training import mlp_step, steps

N_CORES = 2
SPIN = "while True: pass"


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    pin_to_first_cores(N_CORES)
    torch.set_num_threads(N_CORES)
    rows = np.random.default_rng(0).normal(size=(options.rows, 30)).astype(np.float32)
    fit("free", rows[:100])  # imports and allocates what the first fit needs
    measured = []
    with busy(options.busy):
        for kind in ("free", "network"):
            for which in ("chosen", "all"):
                wall, cpu = seconds(kind, rows, which)
                print(f"{kind:8} {which:7} {wall:7.1f} s, {cpu:7.1f} processor s", flush=True)
                measured.append({"positions": kind, "threads": which, "wall": wall, "cpu": cpu})
    if options.output:
        found = {"command": command("busy.py", arguments), "machine": machine.describe()}
        write({**found, "busy": options.busy, "fits": measured}, options.output)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    found.add_argument("--rows", type=int, default=560)
    found.add_argument("--busy", type=int, default=1, help="processes beside the fit")
    found.add_argument("--output", type=Path)
    return found


def pin_to_first_cores(n_cores: int) -> None:
    """Keep this process and those it starts on the first cores it may use, where possible."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_cores])


@contextlib.contextmanager
def busy(n_processes: int) -> Iterator[None]:
    """Keep processes busy beside the block, on the same cores as this one."""
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(kind: str, rows: np.ndarray, which: str) -> tuple[float, float]:
    """Fit once and return wall and processor seconds."""
    chosen = steps.training_threads
    if which == "all":
        steps.training_threads = mlp_step.training_threads = all_threads
    wall, cpu = time.perf_counter(), time.process_time()
    fit(kind, rows)
    found = time.perf_counter() - wall, time.process_time() - cpu
    steps.training_threads = mlp_step.training_threads = chosen
    return found


def all_threads(**_: Any) -> int:
    return torch.get_num_threads()


def fit(kind: str, rows: np.ndarray) -> None:
    if kind == "free":
        neumap.UMAP(random_state=0).fit(rows)
        return
    layers = [torch.nn.Linear(rows.shape[1], 100), torch.nn.ReLU(), torch.nn.Linear(100, 2)]
    network = torch.nn.Sequential(*layers)
    neumap.ParametricUMAP(encoder=network, n_epochs=5, random_state=0).fit(rows)


if __name__ == "__main__":
    main()
