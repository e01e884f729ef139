"""Throughput of `transform` compared with the bare encoder, and the latency of a single row.

    python benchmarks/transform_rate.py                        # 60,000 random rows of 784 numbers
    python benchmarks/transform_rate.py --mnist mnist.npz      # 60,000 training images

The bare encoder is the fitted module applied under ``torch.no_grad`` to float32 rows in memory,
once to all rows and once in slices of 4,096. The additional work of `transform` (checks for missing
values, conversion of bytes and float64, slicing) is included in its time. Ratios above 1 mean that
`transform` is faster. The target of .9 applies to the smaller ratio, that to the faster bare form.

Memory is measured in fresh processes: the increase of the resident size during one call beyond
rows, network and result, for a tenth of the rows and for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lib import machine
from lib.child import forget_peak, peak_bytes, versions
from lib.data import mnist
from lib.methods import METHODS
from lib.results import RESULTS, command, write
from lib.timing import in_turn, ratio, seconds_of, spread

from neumap import ParametricUMAP
from neumap.estimators import PRESETS

FIT_ROWS = 1000
FIT_STEPS = 20  # the rate does not depend on the weights
SLICE_ROWS = 4096
DTYPES = ("float32", "uint8", "float64")
MEMORY_SHARES = (0.1, 1.0)

Rows = npt.NDArray[Any]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.memory_of is not None:
        dtype, n_rows = options.memory_of
        print(json.dumps(memory_growth(dtype, int(n_rows), options)))
        return 0
    result: dict[str, Any] = {
        "command": command("transform_rate.py", arguments),
        "machine": machine.describe(),
        "versions": versions(METHODS["neumap"].packages),
        "torch_threads": torch.get_num_threads(),
        "preset": options.preset,
        "rates": [],
        "memory": [],
    }
    X = float32_rows(options)
    model = small_fit(X[:FIT_ROWS], options.preset)
    for dtype in options.dtypes:
        result["rates"].append(measure_rate(model, X, dtype, options.repeats))
        write(result, options.output)
        print(rate_line(result["rates"][-1]), flush=True)
    result["single_row"] = measure_single_rows(model, X, options.calls)
    print(single_line(result["single_row"]), flush=True)
    for dtype in options.dtypes:
        result["memory"].append(measure_memory(dtype, options))
        print(memory_line(result["memory"][-1]), flush=True)
    write(result, options.output)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--rows", type=int, default=60_000)
    add("--columns", type=int, default=784, help="of generated data")
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--preset", choices=list(PRESETS), default="default")
    add("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    add("--repeats", type=int, default=11)
    add("--calls", type=int, default=1000, help="transform calls with a single row")
    # Memory that the allocator keeps from before differs between processes by some MB.
    add("--memory-repeats", type=int, default=3, help="processes per number of rows")
    add("--output", type=Path, default=RESULTS / "transform_rate.json", metavar="FILE")
    add("--memory-of", nargs=2, help=argparse.SUPPRESS)  # dtype and rows, in the child
    return parser.parse_args(arguments)


def float32_rows(options: argparse.Namespace) -> npt.NDArray[np.float32]:
    """Return MNIST's pixels, or random rows, in [0, 1]."""
    if options.mnist is not None:
        return mnist(Path(options.mnist), options.rows, seed=0).X_train
    generator = np.random.default_rng(0)
    return generator.random((options.rows, options.columns), dtype=np.float32)


def small_fit(X: npt.NDArray[np.float32], preset_name: str) -> ParametricUMAP:
    """Return a model with the preset's network after a few steps."""
    preset = PRESETS[preset_name]
    steps = FIT_STEPS / preset.steps(len(X))
    shorter = replace(preset, n_steps=max(1, round(preset.n_steps * steps)))
    return ParametricUMAP(preset=shorter, random_state=0).fit(X)


def converted(X: npt.NDArray[np.float32], dtype: str) -> Rows:
    """Return pixels of another dtype: bytes from 0 to 255, or the same numbers."""
    return (X * 255).astype(np.uint8) if dtype == "uint8" else X.astype(dtype, copy=False)


def measure_rate(
    model: ParametricUMAP, X: npt.NDArray[np.float32], dtype: str, n_repeats: int
) -> dict[str, Any]:
    """Time `transform` of rows of this dtype and the bare encoder alternately."""
    given = converted(X, dtype)
    # The bare encoder gets the same numbers as float32.
    ready = torch.from_numpy(given.astype(np.float32, copy=False))
    calls: dict[str, Callable[[], Any]] = {
        "transform": lambda: model.transform(given),
        "bare_whole": lambda: bare(model, ready, len(ready)),
        "bare_sliced": lambda: bare(model, ready, SLICE_ROWS),
    }
    np.testing.assert_allclose(calls["transform"](), calls["bare_sliced"](), atol=1e-3, rtol=1e-3)
    seconds = in_turn(calls, n_repeats)
    return {
        "dtype": dtype,
        "rows": len(X),
        "columns": X.shape[1],
        "seconds": {name: spread(found) for name, found in seconds.items()},
        "rows_per_second": {
            name: len(X) / statistics.median(found) for name, found in seconds.items()
        },
        "rate_against_bare": {
            name: ratio(seconds[f"bare_{name}"], seconds["transform"])
            for name in ("whole", "sliced")
        },
    }


def bare(model: ParametricUMAP, rows: torch.Tensor, slice_rows: int) -> npt.NDArray[np.float32]:
    """Apply the fitted network and nothing else."""
    with torch.no_grad():
        parts = [model.encoder_(part) for part in rows.split(slice_rows)]
        return np.asarray(torch.cat(parts).numpy())


def measure_single_rows(
    model: ParametricUMAP, X: npt.NDArray[np.float32], n_calls: int
) -> dict[str, Any]:
    """Time calls with a single row, a different row each time."""
    rows = [X[i % len(X)][None] for i in range(n_calls)]
    ready = [torch.from_numpy(row) for row in rows]
    model.transform(rows[0])
    return {
        "calls": n_calls,
        "transform": latency([seconds_of(lambda r=r: model.transform(r), 1) for r in rows]),
        "bare": latency([seconds_of(lambda r=r: bare(model, r, 1), 1) for r in ready]),
    }


def latency(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 95th percentile in microseconds."""
    median, late = np.quantile(seconds, [0.5, 0.95]) * 1e6
    return {"median_microseconds": float(median), "p95_microseconds": float(late)}


def measure_memory(dtype: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the growth in bytes for a tenth of the rows and for all, in fresh processes."""
    sizes = [max(1, round(share * options.rows)) for share in MEMORY_SHARES]
    grown = [
        [in_a_process(dtype, size, options) for _ in range(options.memory_repeats)]
        for size in sizes
    ]
    if any(None in found for found in grown):
        return {"dtype": dtype, "rows": sizes, "growth_bytes": None, "bytes_per_further_row": None}
    few, all_rows = map(spread, grown)
    further = (all_rows["median"] - few["median"]) / (sizes[1] - sizes[0])
    return {
        "dtype": dtype,
        "rows": sizes,
        "growth_bytes": [few, all_rows],
        "bytes_per_further_row": further,
    }


def in_a_process(dtype: str, n_rows: int, options: argparse.Namespace) -> Any:
    command = [sys.executable, __file__, "--memory-of", dtype, str(n_rows)]
    command += ["--columns", str(options.columns), "--preset", options.preset]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory_growth(dtype: str, n_rows: int, options: argparse.Namespace) -> int | None:
    """Transform random rows in this process; return its memory beyond rows and result."""
    generator = np.random.default_rng(0)
    model = small_fit(generator.random((FIT_ROWS, options.columns), np.float32), options.preset)
    X = np.empty((n_rows, options.columns), dtype=dtype)
    for start in range(0, n_rows, FIT_ROWS):
        part = X[start : start + FIT_ROWS]
        part[:] = converted(generator.random(part.shape, dtype=np.float32), dtype)
    model.transform(X[:1])
    if not forget_peak():
        return None
    before = peak_bytes()
    placed = model.transform(X)
    return peak_bytes() - before - placed.nbytes


def rate_line(entry: dict[str, Any]) -> str:
    rates, ratios = entry["rows_per_second"], entry["rate_against_bare"]
    return (
        f"{entry['dtype']}, {entry['rows']:,} x {entry['columns']}: "
        f"{rates['transform']:,.0f} rows/s; against the bare encoder "
        f"{ratios['sliced']['median']:.2f} in slices, {ratios['whole']['median']:.2f} in one call"
    )


def single_line(entry: dict[str, Any]) -> str:
    ours, bare_one = entry["transform"], entry["bare"]
    return (
        f"one row: median {ours['median_microseconds']:.0f} us, "
        f"95 % within {ours['p95_microseconds']:.0f} us; "
        f"bare {bare_one['median_microseconds']:.0f} us"
    )


def memory_line(entry: dict[str, Any]) -> str:
    if entry["growth_bytes"] is None:
        return f"{entry['dtype']}: peak memory cannot be measured on this system"
    cells = zip(entry["rows"], entry["growth_bytes"], strict=True)
    grown = ", ".join(f"{rows:,} rows take {size['median'] / 1e6:.1f} MB" for rows, size in cells)
    return f"{entry['dtype']}: beyond rows and result, {grown}"


if __name__ == "__main__":
    sys.exit(main())
