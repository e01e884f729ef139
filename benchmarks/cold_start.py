"""Start-up time: the import and a first small fit, each in fresh processes.

    python benchmarks/cold_start.py                                     # half a minute
    python benchmarks/cold_start.py --peers .venv-peers/bin/python      # some minutes

`bare import` is the statement ``import neumap`` alone. For a first fit, `import` is the import of
the class and everything it needs, `fit` is a fit of 1,000 rows with 50 columns and default
settings, and `process` is the wall time of the whole process. Methods alternate, so a change in
the machine's speed affects all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.data import mixture
from lib.methods import METHODS
from lib.processes import run_module
from lib.results import RESULTS, command, write
from lib.timing import spread

OURS = [name for name, method in METHODS.items() if not method.is_peer]
PEERS = [name for name, method in METHODS.items() if method.is_peer]

TIMED_IMPORT = (
    "import time; began = time.perf_counter()\nimport neumap\nprint(time.perf_counter() - began)"
)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("cold_start.py", arguments),
        "machine": machine.describe(),
        "rows": options.rows,
        "columns": options.columns,
        "runs": [],
        "bare_import": spread(bare_import() for _ in range(options.repeats)),
    }
    print(f"import neumap: {result['bare_import']['median']:.3f} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="neumap-bench-") as place:
        file = Path(place) / "rows.npy"
        np.save(file, mixture(options.rows, 0, options.columns).X_train)
        for repeat in range(options.repeats):
            for name in options.methods + (options.peer_methods if options.peers else []):
                result["runs"].append({"repeat": repeat, **first_fit(name, file, options)})
            result["summary"] = summarise(result["runs"], options.methods[0])
            write(result, options.output)  # after each round, so an interrupted run keeps results
    print("\n".join(line(entry) for entry in result["summary"]))
    failures = [run for run in result["runs"] if run["error"] is not None]
    for run in failures:
        print(f"{run['method']} failed: {run['error']}", file=sys.stderr)
    return 1 if failures else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--methods", nargs="+", choices=OURS, default=["neumap"], help="of neumap (default neumap)")
    add("--peers", type=Path, metavar="PYTHON", help="interpreter with benchmarks/peers.txt")
    add("--peer-methods", nargs="+", choices=PEERS, default=PEERS, help="of umap-learn")
    add("--rows", type=int, default=1000)
    add("--columns", type=int, default=50)
    add("--repeats", type=int, default=5, help="fresh processes per method")
    add("--timeout", type=float, default=600, help="time limit of each process, in seconds")
    add("--output", type=Path, default=RESULTS / "cold_start.json", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.peers is not None and not options.peers.is_file():
        parser.error(
            "--peers must be an interpreter with the packages of benchmarks/peers.txt, got "
            f"{options.peers}, which does not exist. Create it with: make bench-peers-env"
        )
    return options


def bare_import() -> float:
    """Return the seconds of ``import neumap`` in a fresh process."""
    command = [sys.executable, "-c", TIMED_IMPORT]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def first_fit(name: str, file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Import and fit in a fresh process; return the seconds of each part, or the error."""
    method = METHODS[name]
    python = options.peers if method.is_peer else Path(sys.executable)
    done = run_module("first_fit", python, name, [str(file)], options.timeout)
    if done.error is not None:
        return {"method": name, "error": done.error}
    report = json.loads(done.output.splitlines()[-1])  # libraries may print before it
    report["seconds"]["process"] = done.seconds
    return {"method": name, "error": None, **report}


def summarise(runs: list[dict[str, Any]], ours: str) -> list[dict[str, Any]]:
    """Return the spread of each figure over processes, and each process time relative to ours."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        if run["error"] is None:
            for part, value in run["seconds"].items():
                seconds.setdefault(run["method"], {}).setdefault(part, []).append(value)
    reference = statistics.median(seconds[ours]["process"]) if ours in seconds else None
    return [
        {
            "method": name,
            "n_processes": len(parts["process"]),
            "seconds": {part: spread(values) for part, values in parts.items()},
            "times_as_long_as": ours,
            "ratio": statistics.median(parts["process"]) / reference if reference else None,
        }
        for name, parts in seconds.items()
    ]


def line(entry: dict[str, Any]) -> str:
    parts = ", ".join(
        f"{part} {found['median']:.2f} s ({found['smallest']:.2f} to {found['largest']:.2f})"
        for part, found in entry["seconds"].items()
    )
    return f"{entry['method']}: {parts}"


if __name__ == "__main__":
    sys.exit(main())
