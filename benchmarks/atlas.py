"""A published map takes held-out cells: neumap's atlas beside umap-learn's transform and ingest.

    python benchmarks/atlas.py                                    # digits, minutes
    python benchmarks/atlas.py --mnist mnist.npz --mnist-rows 10000

The reference is an AnnData as scanpy leaves it: 40 principal components of the training rows, and
umap-learn's map of them. The held-out rows arrive as genes. They are placed on that map by

- ``umap transform``: the transform of the very umap.UMAP that made the map, which a published file
  does not have; scanpy's ``ingest`` rebuilds it,
- ``mean of 15``: the mean place of the 15 nearest reference rows, a simple stand-in for it,
- ``atlas PRESET``: ``neumap.scanpy.from_atlas(reference, preset=PRESET).place(query)``.

The score is the accuracy of a vote of the 15 nearest reference points on the published map, for
held-out rows. CPU seconds are of this process, with learning and placing together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from lib import machine
from lib.data import Split, mnist_or_digits
from lib.results import RESULTS, command, write
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from neumap.estimators import PRESETS
from neumap.scanpy import from_atlas

N_COMPONENTS = 40
N_NEIGHBORS = 15


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("atlas.py", arguments),
        "machine": machine.describe(),
        "runs": [],
    }
    for seed in options.seeds:
        split = mnist_or_digits(options.mnist, options.mnist_rows, seed)
        run = measure(split, seed, options.presets)
        result["runs"].append({"dataset": split.name, "seed": seed, **run})
        names = result["runs"][0]["accuracy"]
        result["mean"] = {
            name: statistics.fmean(run["accuracy"][name] for run in result["runs"])
            for name in names
        }
        write(result, options.output)
        print(f"{split.name}, seed {seed}: {line(run['accuracy'])}", flush=True)
    print(f"mean: {line(result['mean'])}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--mnist-rows", type=int, default=10_000, metavar="N")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--presets", choices=list(PRESETS), nargs="+", default=["default"])
    add("--output", type=Path, default=RESULTS / "atlas.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(split: Split, seed: int, presets: list[str]) -> dict[str, Any]:
    """Return the accuracy and the CPU seconds of every way to place held-out rows."""
    import umap

    pca = PCA(N_COMPONENTS, random_state=0).fit(split.X_train)
    known, new = (pca.transform(rows).astype(np.float32) for rows in (split.X_train, split.X_test))
    mapper = umap.UMAP(n_neighbors=N_NEIGHBORS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of umap-learn: one thread because of the seed
        published = mapper.fit_transform(known)
    reference = anndata.AnnData(split.X_train)
    reference.varm["PCs"] = pca.components_.T
    reference.obsm["X_pca"], reference.obsm["X_umap"] = known, published

    def by_neighbors() -> Any:
        found = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(known).kneighbors(new)[1]
        return published[found].mean(1)

    def by_atlas(preset: str) -> Any:
        query = anndata.AnnData(split.X_test)
        from_atlas(reference, preset=preset, random_state=seed).place(query, confidence=False)
        return query.obsm["X_umap"]

    ways: dict[str, Callable[[], Any]] = {
        "umap transform": lambda: mapper.transform(new),
        "mean of 15": by_neighbors,
        **{f"atlas {preset}": lambda preset=preset: by_atlas(preset) for preset in presets},
    }
    vote = KNeighborsClassifier(N_NEIGHBORS).fit(published, split.y_train)
    accuracy, seconds = {}, {}
    for name, place in ways.items():
        began = time.process_time()
        placed = place()
        seconds[name] = time.process_time() - began
        accuracy[name] = float(vote.score(placed, split.y_test))
    return {"accuracy": accuracy, "cpu_seconds": seconds}


def line(accuracy: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in accuracy.items())


if __name__ == "__main__":
    sys.exit(main())
