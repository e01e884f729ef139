"""Fresh processes: one fit each, or one import each."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lib.data import Split
from lib.methods import METHODS
from lib.results import BENCHMARKS

N_IMPORTS = 3


@dataclass(frozen=True)
class Finished:
    """A process that ended: what it printed, how long it took, and its error or None."""

    output: str
    seconds: float
    error: str | None


@dataclass(frozen=True)
class Outcome:
    """Positions and the report of ``child.py``, or the error of the process."""

    embedding: npt.NDArray[np.float32] | None
    embedding_test: npt.NDArray[np.float32] | None
    report: dict[str, Any]
    error: str | None


def run_method(
    name: str, split: Split, python: Path, options: dict[str, Any], timeout: float
) -> Outcome:
    """Fit and transform in a process of the given interpreter."""
    with tempfile.TemporaryDirectory(prefix="neumap-bench-") as place:
        folder = Path(place)
        np.save(folder / "train.npy", split.X_train)
        np.save(folder / "test.npy", split.X_test)
        done = run_module("child", python, name, [place, json.dumps(options)], timeout)
        if done.error is not None:
            return Outcome(None, None, {}, done.error)
        report = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
        report["seconds"]["process"] = done.seconds
        return Outcome(
            np.load(folder / "train_embedding.npy"),
            np.load(folder / "test_embedding.npy"),
            report,
            None,
        )


def run_module(
    module: str, python: Path, method: str, words: list[str], timeout: float
) -> Finished:
    """Run ``lib/<module>.py`` with a method's name and further words as arguments."""
    # The interpreter of the peers does not have this folder on its path, and the working
    # directory stays that of the caller, to which relative paths refer.
    paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths)} | METHODS[method].environment
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [str(python), "-W", "ignore", "-m", f"lib.{module}", method, *words],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finished("", timeout, f"stopped after {timeout:.0f} s")
    except OSError as error:
        return Finished("", 0.0, str(error))
    seconds = time.perf_counter() - began
    error = None if done.returncode == 0 else done.stderr.strip()[-2000:]
    return Finished(done.stdout, seconds, error)


def import_seconds(statement: str, python: Path) -> float | None:
    """Return the median seconds of an import over fresh processes; None if it fails."""
    code = (
        "import time; began = time.perf_counter()\n"
        f"{statement}\n"
        "print('seconds', time.perf_counter() - began)"
    )
    seconds = []
    for _ in range(N_IMPORTS):
        done = subprocess.run(
            [str(python), "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            return None
        seconds.append(float(done.stdout.split()[-1]))
    return statistics.median(seconds)
