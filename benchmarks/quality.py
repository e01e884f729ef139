"""Quality against training time: presets, varied one field at a time, over data sets and seeds.

    python benchmarks/quality.py                              # the presets on digits and mixture
    python benchmarks/quality.py --mnist mnist.npz --data mnist-10000 --seeds 0 1 2 \
        --vary input_noise=0,0.05,0.1 repulsion=1,2,4
    python benchmarks/quality.py --base best --set n_steps=1000 --vary "hidden=[512]*6,[256]*8"
    python benchmarks/quality.py --rows validation --vary n_steps=800,1600     # to tune by

Every row of the table is the mean over seeds. Scores are those of ``neumap.metrics`` on training
rows and on held-out rows. By default the held-out rows are the test rows, which are reported. Use
``--rows validation`` to choose among settings: these rows are in no report. The neighbour graph of
a data set and seed is built once, so the seconds are those of training alone.

Data sets are ``digits``, ``mnist-N`` and ``mixture-N``. The mixture is a hierarchy of curved
clusters in 50 dimensions (see ``lib/data.py``).
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from lib import machine
from lib.child import versions
from lib.data import HeldOut, Split, digits, mixture, mnist
from lib.methods import METHODS
from lib.results import RESULTS, command, write

from neumap import metrics
from neumap.estimators import PRESETS, ParametricUMAP, Preset
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.losses.terms import Softening
from neumap.neighbors import NeighborGraph, find_neighbors
from neumap.similarity import find_ab

SHOWN = (
    "seconds",
    "trustworthiness",
    "recall@15",
    "knn_accuracy",
    "test_trustworthiness",
    "test_recall@15",
    "test_knn_accuracy",
    "distance_correlation",
    "cross_entropy",
)


@dataclass(frozen=True)
class Task:
    """A data set of one seed, with the neighbours and the graph that all settings share."""

    seed: int
    split: Split
    neighbors: NeighborGraph
    graph: FuzzyGraph


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("quality.py", arguments),
        "machine": machine.describe(),
        "versions": versions(METHODS["neumap"].packages),
        "held_out": options.rows,
        "rows": [],
    }
    print(f"{'data':<14}{'setting':<34}" + "".join(f"{short(name):>9}" for name in SHOWN))
    for data_name in options.data:
        tasks = [load(data_name, seed, options) for seed in options.seeds]
        for setting, preset in variations(options):
            runs = [measure(task, preset) for task in tasks]
            row = {"data": data_name, "setting": setting, "preset": asdict(preset), "runs": runs}
            result["rows"].append(row | summarise(runs))
            write(result, options.output)
            print(line(result["rows"][-1]), flush=True)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Vary a preset and score the embeddings.")
    add = parser.add_argument
    add("--data", nargs="+", default=["digits", "mixture-5000"], help="digits, mixture-N, mnist-N")
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--base", choices=list(PRESETS), default=None, help="preset to vary (default: score all)")
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="change the base first")
    add("--vary", nargs="*", default=[], metavar="FIELD=V1,V2", help="one at a time")
    add(
        "--rows",
        choices=get_args(HeldOut),
        default="test",
        help="held-out rows to score: test (reported) or validation (for choosing settings)",
    )
    add("--output", type=Path, default=RESULTS / "quality.json")
    return parser.parse_args(arguments)


def variations(options: argparse.Namespace) -> Iterator[tuple[str, Preset]]:
    """Yield the base, then the base with one field changed."""
    if options.base is None and not options.vary and not options.set:
        yield from PRESETS.items()
        return
    base = PRESETS[options.base or "default"]
    for text in options.set:
        name, _, value = text.partition("=")
        base = changed(base, name, value)
    yield "base", base
    for text in options.vary:
        name, _, values = text.partition("=")
        for value in split_values(values):
            yield f"{name}={value}", changed(base, name, value)


def split_values(text: str) -> list[str]:
    """Split at commas outside brackets."""
    return re.split(r",(?![^\[(]*[\])])", text)


def changed(preset: Preset, name: str, text: str) -> Preset:
    """Return the preset with one field, or one field of its softening, replaced."""
    value = eval(text) if "*" in text else ast.literal_eval(text)  # "[256]*6", typed by the user
    if name.startswith("softening."):
        parts = {**asdict(preset.softening), name.partition(".")[2]: value}
        return replace(preset, softening=Softening(**parts))
    return replace(preset, **{name: tuple(value) if isinstance(value, list) else value})


def load(name: str, seed: int, options: argparse.Namespace) -> Task:
    """Return a data set with the neighbours of its training rows and their graph."""
    split = named_split(name, seed, options.mnist, options.rows)
    neighbors = find_neighbors(split.X_train, 15, seed=None)
    return Task(seed, split, neighbors, fuzzy_simplicial_set(neighbors))


def named_split(name: str, seed: int, mnist_path: Path | None, held_out: HeldOut) -> Split:
    """Return the data set of a name such as mixture-5000."""
    kind, _, size = name.partition("-")
    if kind == "digits":
        return digits(seed, held_out)
    if kind == "mixture":
        return mixture(int(size), seed, held_out=held_out)
    if kind != "mnist":
        raise SystemExit(f"--data must be digits, mixture-N or mnist-N, got {name}.")
    if mnist_path is None:
        raise SystemExit(f"--mnist must be an .npz file for {name}, got none. Pass it.")
    return mnist(Path(mnist_path), int(size), seed, held_out)


def measure(task: Task, preset: Preset) -> dict[str, float]:
    """Fit once; score training rows and held-out rows (names with ``test_``)."""
    split, knn = task.split, (task.neighbors.indices, task.neighbors.distances)
    model = ParametricUMAP(preset=preset, random_state=task.seed, precomputed_knn=knn)
    model.fit(split.X_train)
    began = time.perf_counter()
    placed = model.transform(split.X_test)
    transform_seconds = time.perf_counter() - began
    scores = metrics.scores(
        split.X_train,
        model.embedding_,
        labels=split.y_train,
        X_test=split.X_test,
        embedding_test=placed,
        labels_test=split.y_test,
    )
    a, b = find_ab()
    return {
        "seed": task.seed,
        "seconds": model.report_["training_seconds"],
        "transform_seconds": transform_seconds,
        **{name: float(value) for name, value in scores.items()},
        "cross_entropy": float(metrics.umap_cross_entropy(model.embedding_, task.graph, a, b)),
    }


def summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return mean, smallest and largest value of each figure over the seeds."""
    values = {name: [run[name] for run in runs] for name in SHOWN}
    return {
        "mean": {name: statistics.fmean(found) for name, found in values.items()},
        "smallest": {name: min(found) for name, found in values.items()},
        "largest": {name: max(found) for name, found in values.items()},
    }


def line(row: dict[str, Any]) -> str:
    cells = "".join(f"{row['mean'][name]:>9.3f}" for name in SHOWN)
    return f"{row['data']:<14}{row['setting']:<34}{cells}"


def short(name: str) -> str:
    """Return a column heading of at most eight characters."""
    return {
        "seconds": "train s",
        "trustworthiness": "trust",
        "recall@15": "rec@15",
        "knn_accuracy": "5nn",
        "test_trustworthiness": "t.trust",
        "test_recall@15": "t.rec",
        "test_knn_accuracy": "t.5nn",
        "distance_correlation": "dcor",
        "cross_entropy": "crossent",
    }[name]


if __name__ == "__main__":
    raise SystemExit(main())
