"""The neighbour search by cells on data of many intrinsic dimensions, beside HNSW.

    python benchmarks/hard_search.py --mnist mnist.npz                  # 240,000 x 50, minutes
    python benchmarks/hard_search.py --mnist mnist.npz --rows 20000

Each MNIST image four times under small random affine maps, in 50 principal components: the hard set
of `anchors.py`. Recall is measured here, on rows drawn by the script, from exact distances in
float64; the recall that a search reports of itself stands beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from anchors import hard
from lib import machine
from lib.results import RESULTS, command, write
from numpy.typing import NDArray

from neumap.neighbors import CellBackend, HnswBackend, find_neighbors

N_NEIGHBORS = 15
N_ASKED = 500


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--rows", type=int, default=240_000)
    add("--output", type=Path, default=RESULTS / "hard_search.json", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.mnist is None:
        parser.error("--mnist must be an .npz file, got none. Pass it or set NEUMAP_MNIST.")
    rows = hard(options.mnist, options.rows, 0).X_train
    asked = np.random.default_rng(1).choice(len(rows), min(N_ASKED, len(rows)), replace=False)
    exact = nearest(rows, asked)
    runs = []
    for name, backend in (("cells", CellBackend(seed=0)), ("hnsw", HnswBackend(seed=None))):
        cpu, wall = time.process_time(), time.perf_counter()
        found = find_neighbors(rows, N_NEIGHBORS, backend=backend)
        run: dict[str, Any] = {
            "search": name,
            "seconds": time.perf_counter() - wall,
            "processor_seconds": time.process_time() - cpu,
            "recall": recall(exact, found.indices[asked]),
            "reported_recall": found.recall,
        }
        runs.append(run)
        print(
            f"{name}: {run['seconds']:.1f} s, {run['processor_seconds']:.1f} s of the processor, "
            f"recall {run['recall']:.4f} (reported {run['reported_recall']:.4f})",
            flush=True,
        )
    described = {"command": command("hard_search.py", arguments), "machine": machine.describe()}
    write({**described, "rows": options.rows, "runs": runs}, options.output)
    return 0


def nearest(rows: NDArray[np.float32], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the nearest rows of some, by distances in float64."""
    wide = rows.astype(np.float64)
    squares = (wide * wide).sum(axis=1)
    scores = squares[None, :] - 2.0 * wide[asked] @ wide.T
    return np.argpartition(scores, N_NEIGHBORS, axis=1)[:, :N_NEIGHBORS]


def recall(exact: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    shares = [len(set(a) & set(b)) / len(a) for a, b in zip(exact, found, strict=True)]
    return float(np.mean(shares))


if __name__ == "__main__":
    sys.exit(main())
