"""A fit of rows in a file under a limit of memory, and the positions of all rows in another file.

    python benchmarks/memory_limit.py                              # 2,000,000 x 64, 1.5 GB
    python benchmarks/memory_limit.py --rows 300000 --anchors 20000 --steps 200    # a minute
    python benchmarks/memory_limit.py --rows 10000000 --limit 3 --preset default --no-comparison \\
        --fit-seconds 180 --transform-seconds 120
    python benchmarks/memory_limit.py --rows 1000000 2000000 4000000 --no-comparison
    python benchmarks/memory_limit.py --mnist mnist.npz --preset default --limit 1.5

A file of rows (a mixture of curved groups) is written block by block and fitted in fresh
processes: as a memory map under `RLIMIT_DATA`, which counts the heap and private maps but not the
pages of a mapped file, and, unless `--no-comparison` is given, as an array in memory without a
limit. All rows are then placed with `transform(X, out=...)`. A thread reads the memory of the
process (`RssAnon`) every few milliseconds.

Both fits must give the same positions to the bit, `transform` must give those of the fit, and the
limited run must stay below `--peak` and the seconds that are asked for. With several numbers of
rows, their peaks must differ by less than 60 MB and 8 bytes a row. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from lib import data, machine
from lib.results import RESULTS, command, write

GIGABYTE = 1e9
BLOCK_ROWS = 50_000
N_GROUPS = 50
MNIST_ROWS, MNIST_COLUMNS = 60_000, 784
POLL_SECONDS = 0.005
SAMPLE_SECONDS = 0.1  # between the values that are kept, each the largest since the last
FLAT_BYTES, FLAT_BYTES_PER_ROW = 60e6, 8


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.mnist is not None:
        options.rows, options.columns = [MNIST_ROWS], MNIST_COLUMNS
    if options.file is not None:
        print(json.dumps(measure(options)))
        return 0
    given = sys.argv[1:] if arguments is None else arguments
    runs, equal = [], []
    for n_rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="neumap-bench-", dir=options.folder) as place:
            file = Path(place) / "rows.npy"
            if options.mnist is None:
                write_rows(file, n_rows, options.columns, options.dtype)
            else:
                np.save(file, data.mnist(options.mnist, n_rows, seed=0).X_train)
            of_file = [in_a_process(file, given, kind) for kind in kinds(options)]
            maps = [np.load(file.with_name(f"{run['name']}.npy")) for run in of_file]
        runs += of_file
        equal += [bool(np.array_equal(maps[0], other)) for other in maps[1:]]
    result = {
        "command": command("memory_limit.py", arguments),
        "machine": machine.describe(),
        "runs": runs,
        "equal": all(equal) if equal else None,
    }
    write(result, options.output)
    for run in runs:
        print("\n".join(lines_of(run)))
    if equal:
        print(f"equal positions: {result['equal']}")
    found = list(faults([run for run in runs if run["name"] == "on disk"], options))
    for fault in found:
        print(fault, file=sys.stderr)
    return 0 if all(equal) and not found else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=[2_000_000])
    add("--columns", type=int, default=64)
    add("--dtype", default="float32")
    add("--mnist", type=Path, default=None, metavar="FILE", help="its rows instead of a mixture")
    add("--metric", default="euclidean")
    add("--anchors", type=int, default=None, help='by default "auto"')
    add("--limit", type=float, default=1.5, help="RLIMIT_DATA in GB, with imports")
    add("--peak", type=float, default=1.2, help="largest RssAnon in GB")
    add("--fit-seconds", type=float, default=None, help="longest fit of a file")
    add("--transform-seconds", type=float, default=None, help="longest placing of all rows")
    add("--preset", default="fast")
    add("--steps", type=int, default=None, help="of training; by default those of the preset")
    add("--no-comparison", action="store_true", help="leave out the fit in memory")
    add("--folder", type=Path, default=None, help="of the file")
    add("--output", type=Path, default=RESULTS / "memory_limit.json", metavar="FILE")
    add("--file", type=Path, default=None, help=argparse.SUPPRESS)  # of the child
    add("--in-memory", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def kinds(options: argparse.Namespace) -> list[str]:
    return ["on disk"] if options.no_comparison else ["on disk", "in memory"]


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


def in_a_process(file: Path, arguments: list[str], kind: str) -> dict[str, Any]:
    child = [sys.executable, __file__, *arguments, "--file", str(file)]
    child += ["--in-memory"] if kind == "in memory" else []
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fit and place all rows in this process; return time and memory of each stage."""
    import resource

    name = "in memory" if options.in_memory else "on disk"
    if not options.in_memory:
        limit = int(options.limit * GIGABYTE)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    rows = np.load(options.file, mmap_mode=None if options.in_memory else "r")
    training = Boundaries()
    model = model_of(options, len(rows), training.callback())
    before = anonymous_bytes()
    with Watch() as watch:
        began = time.perf_counter()
        model.fit(rows)
        fitted = time.perf_counter()
        placed = model.transform(rows, out=options.file.with_name("placed.npy"))
        ended = time.perf_counter()
    np.save(options.file.with_name(f"{name}.npy"), model.embedding_)
    times = stage_times(began, training, fitted, ended, model.report_)
    return {
        "name": name,
        "rows": len(rows),
        "columns": options.columns,
        "data_bytes": rows.nbytes,
        "before_bytes": before,
        "peak_bytes": watch.peak,
        "fit_seconds": fitted - began,
        "transform_seconds": ended - fitted,
        "stages": list(watch.stages(times)),
        "placed_equals_fit": bool(np.array_equal(placed, model.embedding_)),
        "report": model.report_,
    }


def model_of(options: argparse.Namespace, n_rows: int, callback: Any) -> Any:
    from neumap import ParametricUMAP
    from neumap.estimators import PRESETS

    preset = PRESETS[options.preset]
    if options.steps is not None:
        shorter = options.steps / preset.steps(n_rows)
        preset = replace(preset, n_steps=max(1, round(preset.n_steps * shorter)))
    return ParametricUMAP(
        preset=preset,
        metric=options.metric,
        random_state=0,
        device="cpu",
        n_anchors="auto" if options.anchors is None else options.anchors,
        callbacks=[callback],
    )


class Boundaries:
    """When the training began and ended."""

    began = ended = 0.0

    def callback(self) -> Any:
        from neumap.callbacks import Callback

        class Noting(Callback):
            def on_fit_start(_, run: Any) -> None:
                self.began = time.perf_counter()

            def on_fit_end(_, run: Any) -> None:
                self.ended = time.perf_counter()

        return Noting()


def stage_times(
    began: float, training: Boundaries, fitted: float, ended: float, report: dict[str, Any]
) -> list[tuple[str, float, float]]:
    """Name, start and end of each stage, one after the other."""
    checked = began + max(0.0, (fitted - began) - report["total_seconds"])
    searched = checked + report["neighbor_seconds"]
    joined = searched + report["graph_seconds"]
    ends = [
        ("check of the rows", checked),
        ("neighbours", searched),
        ("graph", joined),
        ("start of the network, noise", training.began),
        ("training", training.ended),
        ("positions of all rows", fitted),
        ("transform to a file", ended),
    ]
    starts = [began, *(end for _, end in ends)]
    return [(name, start, end) for start, (name, end) in zip(starts, ends, strict=False)]


class Watch:
    """Keeps the memory and the processor time of this process while it is open."""

    def __enter__(self) -> Watch:
        self.peak = 0
        # When, largest memory since the last one, seconds of the processor until then.
        self.samples: list[tuple[float, int, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def stages(self, times: list[tuple[str, float, float]]) -> Iterator[dict[str, Any]]:
        """Yield seconds, seconds of the processor and peak of each stage."""
        when = np.array([sample[0] for sample in self.samples])
        memory = np.array([sample[1] for sample in self.samples])
        processor = np.array([sample[2] for sample in self.samples])
        for name, start, end in times:
            inside = memory[(when >= start) & (when < end + SAMPLE_SECONDS)]
            used = np.interp(end, when, processor) - np.interp(start, when, processor)
            yield {
                "stage": name,
                "seconds": end - start,
                "processor_seconds": float(used),
                "peak_bytes": int(inside.max(initial=0)),
            }

    def _poll(self) -> None:
        largest, due, is_open = 0, 0.0, True
        while is_open:
            is_open = not self._ended.is_set()
            largest = max(largest, anonymous_bytes())
            now = time.perf_counter()
            if now >= due or not is_open:
                self.samples.append((now, largest, time.process_time()))
                self.peak, largest, due = max(self.peak, largest), 0, now + SAMPLE_SECONDS
            time.sleep(POLL_SECONDS)


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    for entry in Path("/proc/self/status").read_text().splitlines():
        if entry.startswith("RssAnon"):
            return 1024 * int(entry.split()[1])
    raise SystemExit("RssAnon must be in /proc/self/status, got none. Run this on Linux.")


def lines_of(run: dict[str, Any]) -> Iterator[str]:
    """Yield a table of a run."""
    yield (
        f"{run['rows']:,} rows {run['name']}: fit {run['fit_seconds']:.1f} s, transform "
        f"{run['transform_seconds']:.1f} s, peak {run['peak_bytes'] / GIGABYTE:.3f} GB"
    )
    for stage in run["stages"]:
        yield (
            f"  {stage['stage']:28} {stage['seconds']:8.1f} s {stage['processor_seconds']:8.1f} s "
            f"of the processor, {stage['peak_bytes'] / GIGABYTE:.3f} GB"
        )
    yield f"  {run['report']}"


def faults(limited: list[dict[str, Any]], options: argparse.Namespace) -> Iterator[str]:
    """Yield what the runs of files under the limit should have kept to and did not."""
    for run in limited:
        where = f"of {run['rows']:,} rows"
        if run["peak_bytes"] > options.peak * GIGABYTE:
            yield f"The peak {where} must be at most {options.peak} GB."
        for what in ("fit", "transform"):
            most = getattr(options, f"{what}_seconds")
            if most is not None and run[f"{what}_seconds"] > most:
                yield f"The {what} {where} must take at most {most:g} s."
        if not run["placed_equals_fit"]:
            yield f"transform must place the rows {where} where fit placed them."
    for few, many in pairwise(limited):
        n_more = many["rows"] - few["rows"]
        grown = many["peak_bytes"] - few["peak_bytes"]
        print(f"peak of {n_more:,} more rows: {grown / 1e6:+.0f} MB, {grown / n_more:.1f} B a row")
        if grown >= FLAT_BYTES + FLAT_BYTES_PER_ROW * n_more:
            yield f"The peak must grow by less than 60 MB and 8 B a row, got {grown / 1e6:.0f} MB."


if __name__ == "__main__":
    sys.exit(main())
