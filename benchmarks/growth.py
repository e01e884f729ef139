"""How time and memory grow with the number of rows.

    python benchmarks/growth.py                                   # 10,000 and 100,000 x 50
    python benchmarks/growth.py --sizes 10000 100000 1000000      # the last takes many minutes

Each size of the mixture in `data.py` is fitted in a process of its own, which reports the seconds
of each stage and its peak memory. The exponent of n in the growth of each stage is the slope of a
line through the logarithms; 1 is proportional growth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import machine
import numpy as np
from data import mixture
from methods import METHODS
from processes import HERE, run_method
from run import write

STAGES = ("neighbors", "graph", "training", "fit")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": " ".join(["benchmarks/growth.py", *(arguments or sys.argv[1:])]),
        "machine": machine.describe(),
        "runs": [],
    }
    for size in options.sizes:
        run = measure(size, options)
        result["runs"].append(run)
        if run["error"] is not None:
            print(f"{size:,} rows failed: {run['error']}", file=sys.stderr)
            continue
        result["exponents"] = exponents([r for r in result["runs"] if r["error"] is None])
        write(result, options.output)
        print(line(run), flush=True)
    for stage, exponent in result.get("exponents", {}).items():
        print(f"{stage} grows as n^{exponent:.2f}")
    return 0 if all(run["error"] is None for run in result["runs"]) else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    ours = [name for name, method in METHODS.items() if not method.is_peer]
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[10_000, 100_000], metavar="N")
    add("--features", type=int, default=50)
    add("--method", choices=ours, default="neumap")
    add("--seed", type=int, default=0)
    add("--timeout", type=float, default=7200, help="seconds given to each process")
    add("--output", type=Path, default=HERE / "results" / "growth.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Fit so many rows in a fresh process."""
    split = mixture(size, options.seed, options.features)
    settings = {"random_state": None, "warm": False}
    outcome = run_method(options.method, split, Path(sys.executable), settings, options.timeout)
    return {"rows": size, "method": options.method, "error": outcome.error, **outcome.report}


def exponents(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Slope of log seconds over log rows, per stage; nothing from a single size."""
    if len({run["rows"] for run in runs}) < 2:
        return {}
    rows = np.log([run["rows"] for run in runs])
    found = {}
    for stage in STAGES:
        seconds = np.log([max(run["seconds"][stage], 1e-3) for run in runs])
        found[stage] = float(np.polyfit(rows, seconds, 1)[0])
    return found


def line(run: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage} {run['seconds'][stage]:.1f} s" for stage in STAGES)
    used = run["bytes"]["peak"] / 1e9
    return (
        f"{run['rows']:,} rows: {stages}; peak {used:.2f} GB, data {run['bytes']['data'] / 1e9:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
