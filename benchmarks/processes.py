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
from data import Split
from methods import METHODS

HERE = Path(__file__).resolve().parent
N_IMPORTS = 3


@dataclass(frozen=True)
class Outcome:
    """What one process gave: positions and the report of ``child.py``, or what went wrong."""

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
        began = time.perf_counter()
        error = _finished(
            [str(python), str(HERE / "child.py"), name, place, json.dumps(options)],
            METHODS[name].environment,
            timeout,
        )
        process_seconds = time.perf_counter() - began
        if error is not None:
            return Outcome(None, None, {}, error)
        report = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
        report["seconds"]["process"] = process_seconds
        return Outcome(
            np.load(folder / "train_embedding.npy"),
            np.load(folder / "test_embedding.npy"),
            report,
            None,
        )


def _finished(command: list[str], environment: dict[str, str], timeout: float) -> str | None:
    """Run to the end; return None, or why that failed."""
    try:
        done = subprocess.run(
            command,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout:.0f} s"
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip()[-2000:]


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
