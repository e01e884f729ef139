"""How time and memory grow with the number of rows.

    python benchmarks/growth.py                                   # 10,000 and 100,000 x 50
    python benchmarks/growth.py --sizes 10000 100000 1000000      # the last takes some minutes

Each size of the mixture in `lib/data.py` is fitted in fresh processes, which report the seconds of
each stage and the peak memory. The growth exponent of a stage is the slope of a line fitted to the
logarithms of the medians; 1 means linear growth. *Fit memory* is the peak minus the memory of
imports and data; at small sizes most of it does not depend on the number of rows. On a machine with
a CUDA device the fits run on it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.data import mixture
from lib.methods import METHODS
from lib.processes import run_method
from lib.results import RESULTS, command, write
from lib.timing import spread

STAGES = ("neighbors", "graph", "training", "fit")
SMALLEST = 1e-3  # seconds; keeps the logarithm of very short stages finite


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("growth.py", arguments),
        "machine": machine.describe(),
        "runs": [],
        "summary": [],
        "exponents": {},
    }
    for size in options.sizes:
        runs = measure(size, options)
        result["runs"] += runs
        done = [run for run in runs if run["error"] is None]
        if done:
            result["summary"].append(summarise(size, done))
            result["exponents"] = exponents(result["summary"])
            print(line(result["summary"][-1]), flush=True)
        write(result, options.output)  # after each size, so an interrupted run keeps results
    for stage, exponent in result["exponents"].items():
        print(f"{stage} grows as n^{exponent:.2f}")
    failures = [run for run in result["runs"] if run["error"] is not None]
    for run in failures:
        print(f"{run['rows']:,} rows failed: {run['error']}", file=sys.stderr)
    return 1 if failures else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    ours = [name for name, method in METHODS.items() if not method.is_peer]
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[10_000, 100_000], metavar="N")
    add("--features", type=int, default=50)
    add("--method", choices=ours, default="neumap")
    add("--seed", type=int, default=0, help="of the data; the fits themselves are unseeded")
    add("--repeats", type=int, default=1, help="processes per size")
    add("--timeout", type=float, default=7200, help="time limit of each process, in seconds")
    add("--output", type=Path, default=RESULTS / "growth.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(size: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Fit this many rows, each time in a fresh process."""
    split = mixture(size, options.seed, options.features)
    settings = {"random_state": None, "warm": False}
    outcomes = [
        run_method(options.method, split, Path(sys.executable), settings, options.timeout)
        for _ in range(options.repeats)
    ]
    known = {"rows": size, "columns": options.features, "method": options.method}
    return [{**known, "error": outcome.error, **outcome.report} for outcome in outcomes]


def summarise(size: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spread of seconds and bytes over the processes of one size."""
    sizes = [run["bytes"] for run in runs]
    return {
        "rows": size,
        "n_processes": len(runs),
        "seconds": {stage: spread(run["seconds"][stage] for run in runs) for stage in STAGES},
        "bytes": {
            "data": sizes[0]["data"],
            "peak": spread(one["peak"] for one in sizes),
            "fit": spread(one["peak"] - one["before_fit"] for one in sizes),
        },
    }


def exponents(summary: list[dict[str, Any]]) -> dict[str, float]:
    """Return the slopes of log seconds and log bytes over log rows; empty for a single size."""
    if len({entry["rows"] for entry in summary}) < 2:
        return {}
    grown = {stage: [entry["seconds"][stage]["median"] for entry in summary] for stage in STAGES}
    grown["fit memory"] = [entry["bytes"]["fit"]["median"] for entry in summary]
    rows = np.log([entry["rows"] for entry in summary])
    return {
        name: float(np.polyfit(rows, np.log(np.maximum(values, SMALLEST)), 1)[0])
        for name, values in grown.items()
    }


def line(entry: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage} {entry['seconds'][stage]['median']:.1f} s" for stage in STAGES)
    used, data = entry["bytes"]["peak"]["median"] / 1e9, entry["bytes"]["data"] / 1e9
    return f"{entry['rows']:,} rows: {stages}; peak {used:.2f} GB, data {data:.2f}"


if __name__ == "__main__":
    sys.exit(main())
