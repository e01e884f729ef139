"""How well the maps of overlapping windows are aligned, beside umap-learn's AlignedUMAP.

    python benchmarks/aligned.py                    # 10 windows of the digits, seeds 0 to 2
    python benchmarks/aligned.py --windows 4 --seeds 0 --skip umap-learn

The digits are ordered by the sum of their pixels and cut into windows of 400 rows that begin every
150 rows, so that neighbouring windows share 250 rows. *Misalignment* is the mean distance of a
shared row in two consecutive maps, relative to the extent of all maps (the root mean square
distance of their points from the centre). *Trust* is the mean trustworthiness of the maps at 10
neighbours. *Update* is the misalignment of the last map when it is added to the others by `update`.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.results import RESULTS, command, write
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

WIDTH, STEP = 400, 150
SHARED = WIDTH - STEP


def neumap_free(seed: int) -> Any:
    from neumap import AlignedUMAP

    return AlignedUMAP(random_state=seed)


def neumap_network(seed: int) -> Any:
    from neumap import AlignedUMAP

    return AlignedUMAP(random_state=seed, parametric=True)


def umap_learn(seed: int) -> Any:
    from umap import AlignedUMAP

    return AlignedUMAP(random_state=seed)


METHODS: dict[str, Callable[[int], Any]] = {
    "neumap": neumap_free,
    "neumap-network": neumap_network,
    "umap-learn": umap_learn,
}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    rows = load_digits().data
    ordered = rows[np.argsort(rows.sum(axis=1), kind="stable")]
    windows = [ordered[STEP * i : STEP * i + WIDTH] for i in range(options.windows)]
    result: dict[str, Any] = {
        "command": command("aligned.py", arguments),
        "machine": machine.describe(),
        "runs": [],
    }
    for name, seed in itertools.product(METHODS, options.seeds):
        if name in options.skip:
            continue
        run = {"method": name, "seed": seed, **measure(METHODS[name](seed), windows)}
        result["runs"].append(run)
        print(line(run), flush=True)
        write(result, options.output)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--windows", type=int, default=10)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--skip", nargs="*", default=[], choices=list(METHODS))
    add("--output", type=Path, default=RESULTS / "aligned.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(model: Any, windows: list[np.ndarray]) -> dict[str, float]:
    """Fit all windows, then all but the last, which is added."""
    relations = [{row + STEP: row for row in range(SHARED)} for _ in windows[1:]]
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads and seeds
        maps = list(model.fit(windows, relations=relations).embeddings_)
        seconds = time.process_time() - began
        model.fit(windows[:-1], relations=relations[:-1])
        # umap-learn's page passes the other direction, with which its maps are not aligned.
        back = {new: old for old, new in relations[-1].items()}
        is_peer = type(model).__module__.startswith("umap")
        model.update(windows[-1], relations=relations[-1] if is_peer else back)
    return {
        "misalignment": misalignment(maps, maps),
        "trust": float(np.mean([trust(*pair) for pair in zip(windows, maps, strict=True)])),
        "update": misalignment(list(model.embeddings_)[-2:], maps),
        "cpu_seconds": seconds,
    }


def misalignment(maps: list[np.ndarray], everything: list[np.ndarray]) -> float:
    moved = [np.linalg.norm(a[STEP:] - b[:SHARED], axis=1) for a, b in itertools.pairwise(maps)]
    return float(np.mean(moved) / np.sqrt(np.concatenate(everything).var(axis=0).sum()))


def trust(rows: np.ndarray, positions: np.ndarray) -> float:
    return float(trustworthiness(rows, positions, n_neighbors=10))


def line(run: dict[str, Any]) -> str:
    return (
        f"{run['method']:>15} seed {run['seed']}: misalignment {run['misalignment']:.4f}, "
        f"trust {run['trust']:.4f}, update {run['update']:.4f}, {run['cpu_seconds']:.1f} CPU s"
    )


if __name__ == "__main__":
    raise SystemExit(main())
