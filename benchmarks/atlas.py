"""A published map takes held-out cells: neumap's atlas beside umap-learn's transform and ingest.

    python benchmarks/atlas.py                                    # digits, minutes
    python benchmarks/atlas.py --mnist mnist.npz --mnist-rows 10000
    python benchmarks/atlas.py --ingest         # needs scanpy, and pynndescent before 0.7

The reference is an AnnData as scanpy leaves it: 40 principal components of the training rows, and
umap-learn's map of them. The held-out rows arrive as genes. They are placed on that map by

- ``umap transform``: the transform of the very umap.UMAP that made the map, which a published file
  does not have,
- ``mean of 15``: the mean place of the 15 nearest reference rows,
- ``ingest``: ``scanpy.tl.ingest(query, reference)`` after ``scanpy.pp.neighbors(reference)``, which
  computes the components of the query after subtracting the query's own mean,
- ``ingest projected``: the same, with the components of the query computed beforehand with the
  reference's mean,
- ``atlas PRESET``: ``neumap.scanpy.from_atlas(reference, preset=PRESET).place(query)``.

The score is the accuracy of a vote of the 15 nearest reference points on the published map, for
held-out rows: ``accuracy`` if they come together, ``accuracy_by_label`` if the rows of each label
come as a query of their own. CPU seconds are of this process, with learning and placing of all
rows together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
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
Place = Callable[[Any], Any]  # rows of genes to their places on the map


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    scanpy = ("scanpy",) if options.ingest else ()
    result: dict[str, Any] = {
        "command": command("atlas.py", arguments),
        "machine": machine.describe(),
        "versions": {name: version(name) for name in ("umap-learn", "pynndescent", *scanpy)},
        "runs": [],
    }
    for seed in options.seeds:
        split = mnist_or_digits(options.mnist, options.mnist_rows, seed)
        run = measure(split, seed, options)
        result["runs"].append({"dataset": split.name, "seed": seed, **run})
        result["mean"] = means(result["runs"], "accuracy")
        result["mean_by_label"] = means(result["runs"], "accuracy_by_label")
        write(result, options.output)
        print(f"{split.name}, seed {seed}: {line(run['accuracy'])}", flush=True)
    print(f"mean: {line(result['mean'])}")
    print(f"mean, each label alone: {line(result['mean_by_label'])}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--mnist-rows", type=int, default=10_000, metavar="N")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--presets", choices=list(PRESETS), nargs="+", default=["default"])
    add("--ingest", action="store_true", help="run scanpy's ingest, too")
    add("--output", type=Path, default=RESULTS / "atlas.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(split: Split, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the accuracy and the CPU seconds of every way to place held-out rows."""
    reference, mapper = publish(split, seed)
    pca = Projection(reference)
    published = reference.obsm["X_umap"]
    # Each learns from the reference and returns a function that places rows of genes.
    ways: dict[str, Callable[[], Place]] = {
        "umap transform": lambda: lambda rows: mapper.transform(pca(rows)),
        "mean of 15": lambda: by_neighbors(reference, pca),
        **{
            f"atlas {preset}": lambda preset=preset: by_atlas(reference, preset, seed)
            for preset in options.presets
        },
    }
    if options.ingest:
        ways["ingest"] = lambda: by_ingest(reference, mapper, None)
        ways["ingest projected"] = lambda: by_ingest(reference, mapper, pca)
    vote = KNeighborsClassifier(N_NEIGHBORS).fit(published, split.y_train)
    together, by_label, seconds = {}, {}, {}
    for name, learn in ways.items():
        began = time.process_time()
        place = learn()
        placed = place(split.X_test)
        seconds[name] = time.process_time() - began
        together[name] = float(vote.score(placed, split.y_test))
        right = 0
        for label in np.unique(split.y_test):
            chosen = split.y_test == label
            right += int((vote.predict(place(split.X_test[chosen])) == label).sum())
        by_label[name] = right / len(split.y_test)
    return {"accuracy": together, "accuracy_by_label": by_label, "cpu_seconds": seconds}


def publish(split: Split, seed: int) -> tuple[Any, Any]:
    """Return the AnnData of the training rows as scanpy leaves it, and the model of its map."""
    import umap

    pca = PCA(N_COMPONENTS, random_state=0).fit(split.X_train)
    reference = anndata.AnnData(split.X_train)
    reference.varm["PCs"] = pca.components_.T
    reference.obsm["X_pca"] = pca.transform(split.X_train).astype(np.float32)
    mapper = umap.UMAP(n_neighbors=N_NEIGHBORS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of umap-learn: one thread because of the seed
        reference.obsm["X_umap"] = mapper.fit_transform(reference.obsm["X_pca"])
    return reference, mapper


class Projection:
    """The principal components of rows, with the means of the reference."""

    def __init__(self, reference: Any) -> None:
        self.means = reference.X.mean(0)
        self.loadings = reference.varm["PCs"]

    def __call__(self, rows: Any) -> Any:
        return ((rows - self.means) @ self.loadings).astype(np.float32)


def by_neighbors(reference: Any, pca: Projection) -> Place:
    index = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(reference.obsm["X_pca"])
    return lambda rows: reference.obsm["X_umap"][index.kneighbors(pca(rows))[1]].mean(1)


def by_atlas(reference: Any, preset: str, seed: int) -> Place:
    atlas = from_atlas(reference, preset=preset, random_state=seed)

    def place(rows: Any) -> Any:
        query = anndata.AnnData(rows)
        atlas.place(query, confidence=False)
        return query.obsm["X_umap"]

    return place


def by_ingest(reference: Any, mapper: Any, pca: Projection | None) -> Place:
    """Return scanpy's ingest, with components of the query if there is a projection."""
    import scanpy

    known = reference.copy()
    # What scanpy.pp.pca and scanpy.tl.umap note about their settings.
    known.uns["pca"] = {"params": {"zero_center": True, "use_highly_variable": False}}
    known.uns["umap"] = {"params": {"a": mapper._a, "b": mapper._b}}
    given = {"n_pcs": N_COMPONENTS} if pca is None else {"use_rep": "X_pca"}
    scanpy.pp.neighbors(known, n_neighbors=N_NEIGHBORS, **given)

    def place(rows: Any) -> Any:
        query = anndata.AnnData(rows)
        if pca is not None:
            query.obsm["X_pca"] = pca(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of umap-learn: one thread because of the seed
            scanpy.tl.ingest(query, known, embedding_method="umap")
        return query.obsm["X_umap"]

    return place


def means(runs: list[dict[str, Any]], score: str) -> dict[str, float]:
    return {name: statistics.fmean(run[score][name] for run in runs) for name in runs[0][score]}


def line(accuracy: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in accuracy.items())


if __name__ == "__main__":
    sys.exit(main())
