"""A fit of rows in a file under a limit of memory, against the same fit without a limit.

    python benchmarks/memory_limit.py                              # 2,000,000 x 64, 1.5 GB
    python benchmarks/memory_limit.py --rows 300000 --anchors 20000 --steps 200    # a minute

A file of rows (a mixture of curved groups) is written block by block and fitted in fresh
processes: as a memory map under `RLIMIT_DATA`, which counts the heap and private maps but not the
pages of a mapped file, and as an array in memory without a limit. A thread reads the memory of the
process (`RssAnon`) every few milliseconds. Both fits must give the same positions to the bit, and
the limited one must stay below `--peak`. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.results import RESULTS, command, write

GIGABYTE = 1e9
BLOCK_ROWS = 50_000
N_GROUPS = 50
N_PLACED = 100_000
POLL_SECONDS = 0.005


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.file is not None:
        print(json.dumps(measure(options)))
        return 0
    with tempfile.TemporaryDirectory(prefix="neumap-bench-", dir=options.folder) as place:
        file = Path(place) / "rows.npy"
        write_rows(file, options.rows, options.columns, options.dtype)
        given = sys.argv[1:] if arguments is None else arguments
        limited = in_a_process(file, given, in_memory=False)
        usual = in_a_process(file, given, in_memory=True)
        results = (file.with_name(f"{run['name']}.npy") for run in (limited, usual))
        one, other = (np.load(path) for path in results)
    result = {
        "command": command("memory_limit.py", arguments),
        "machine": machine.describe(),
        "runs": [limited, usual],
        "equal": bool(np.array_equal(one, other)),
    }
    write(result, options.output)
    for run in (limited, usual):
        print(f"{run['name']}: peak {run['peak_bytes'] / GIGABYTE:.2f} GB", run["report"])
    print(f"equal positions: {result['equal']}")
    is_within = limited["peak_bytes"] <= options.peak * GIGABYTE
    if not is_within:
        print(f"peak must be at most {options.peak} GB.", file=sys.stderr)
    return 0 if is_within and result["equal"] else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--rows", type=int, default=2_000_000)
    add("--columns", type=int, default=64)
    add("--dtype", default="float32")
    add("--metric", default="euclidean")
    add("--anchors", type=int, default=None, help='by default "auto"')
    add("--limit", type=float, default=1.5, help="RLIMIT_DATA in GB, with imports")
    add("--peak", type=float, default=1.2, help="largest RssAnon in GB")
    add("--preset", default="fast")
    add("--steps", type=int, default=None, help="of training; by default those of the preset")
    add("--folder", type=Path, default=None, help="of the file")
    add("--output", type=Path, default=RESULTS / "memory_limit.json", metavar="FILE")
    add("--file", type=Path, default=None, help=argparse.SUPPRESS)  # of the child
    add("--in-memory", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def write_rows(file: Path, n_rows: int, n_columns: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    centres, layer = rng.normal(size=(N_GROUPS, 8)), rng.normal(scale=0.4, size=(8, n_columns))
    is_bytes = np.dtype(dtype) == np.uint8
    rows = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=(n_rows, n_columns))
    for start in range(0, n_rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, n_rows - start)
        latent = centres[rng.integers(N_GROUPS, size=size)] + 0.3 * rng.normal(size=(size, 8))
        block = np.tanh(latent @ layer) + 0.02 * rng.normal(size=(size, n_columns))
        rows[start : start + size] = np.clip(60 * block + 128, 0, 255) if is_bytes else block
    rows.flush()


def in_a_process(file: Path, arguments: list[str], *, in_memory: bool) -> dict[str, Any]:
    child = [sys.executable, __file__, *arguments, "--file", str(file)]
    child += ["--in-memory"] if in_memory else []
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fit and place rows in this process; return its peak memory."""
    import resource

    name = "in memory" if options.in_memory else "on disk"
    if not options.in_memory:
        limit = int(options.limit * GIGABYTE)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from neumap import ParametricUMAP
    from neumap.estimators import PRESETS

    rows = np.load(options.file, mmap_mode=None if options.in_memory else "r")
    preset = PRESETS[options.preset]
    if options.steps is not None:
        shorter = options.steps / preset.steps(options.rows)
        preset = replace(preset, n_steps=max(1, round(preset.n_steps * shorter)))
    model = ParametricUMAP(
        preset=preset,
        metric=options.metric,
        random_state=0,
        device="cpu",
        n_anchors="auto" if options.anchors is None else options.anchors,
    )
    before = anonymous_bytes()
    with Watch() as watch:
        model.fit(rows)
        model.transform(rows[:N_PLACED])
    np.save(options.file.with_name(f"{name}.npy"), model.embedding_)
    return {
        "name": name,
        "rows": options.rows,
        "columns": options.columns,
        "data_bytes": rows.nbytes,
        "before_bytes": before,
        "peak_bytes": watch.peak,
        "report": model.report_,
    }


class Watch:
    """Keeps the largest memory of this process while it is open."""

    def __enter__(self) -> Watch:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._ended.is_set():
            self.peak = max(self.peak, anonymous_bytes())
            time.sleep(POLL_SECONDS)


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    for entry in Path("/proc/self/status").read_text().splitlines():
        if entry.startswith("RssAnon"):
            return 1024 * int(entry.split()[1])
    raise SystemExit("RssAnon must be in /proc/self/status, got none. Run this on Linux.")


if __name__ == "__main__":
    sys.exit(main())
