"""Which setting is worth its seconds: presets varied one field at a time, over data sets and seeds.

    python benchmarks/quality.py                              # the presets on digits and mixture
    python benchmarks/quality.py --mnist mnist.npz --data mnist-10000 --seeds 0 1 2 \
        --vary input_noise=0,0.05,0.1 repulsion=1,2,4
    python benchmarks/quality.py --base best --set n_steps=1000 --vary "hidden=[512]*6,[256]*8"

Every row of the table is the mean over seeds; scores are those of ``neumap.metrics`` on training
rows and on rows the network never saw. The neighbour graph of a data set and seed is made once, so
seconds are those of training alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from data import Split, digits, mixture, mnist

from neumap import metrics
from neumap.estimators import PRESETS, ParametricUMAP, Preset
from neumap.losses.terms import Softening
from neumap.neighbors import find_neighbors

SHOWN = (
    "seconds",
    "trustworthiness",
    "recall@15",
    "knn_accuracy",
    "test_trustworthiness",
    "test_recall@15",
    "test_knn_accuracy",
    "distance_correlation",
)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    command = " ".join(["benchmarks/quality.py", *(arguments or sys.argv[1:])])
    result: dict[str, Any] = {"command": command, "machine": machine.describe(), "rows": []}
    print(f"{'data':<14}{'setting':<34}" + "".join(f"{short(name):>9}" for name in SHOWN))
    for data_name in options.data:
        splits = [(seed, *load(data_name, seed, options.mnist)) for seed in options.seeds]
        for setting, preset in variations(options):
            runs = [measure(split, knn, preset, seed) for seed, split, knn in splits]
            means = {name: float(np.mean([run[name] for run in runs])) for name in SHOWN}
            cells = "".join(f"{means[name]:>9.3f}" for name in SHOWN)
            print(f"{data_name:<14}{setting:<34}{cells}", flush=True)
            row = {"data": data_name, "setting": setting, "preset": asdict(preset), "runs": runs}
            result["rows"].append(row)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(result, indent=1))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Vary a preset and score the maps.")
    add = parser.add_argument
    add("--data", nargs="+", default=["digits", "mixture-5000"], help="digits, mixture-N, mnist-N")
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--base", choices=list(PRESETS), default=None, help="preset to vary (default: show all)")
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="change the base first")
    add("--vary", nargs="*", default=[], metavar="FIELD=V1,V2", help="one at a time")
    add("--output", type=Path, default=Path("results/quality.json"))
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
    value = eval(text) if "*" in text else ast.literal_eval(text)  # "[256]*6" on one's own machine
    if name.startswith("softening."):
        parts = {**asdict(preset.softening), name.partition(".")[2]: value}
        return replace(preset, softening=Softening(**parts))
    return replace(preset, **{name: tuple(value) if isinstance(value, list) else value})


def load(name: str, seed: int, mnist_path: Path | None) -> tuple[Split, tuple[Any, Any]]:
    """Return a data set and the neighbours of its training rows."""
    kind, _, size = name.partition("-")
    if kind == "digits":
        split = digits(seed)
    elif kind == "mixture":
        split = mixture(int(size), seed)
    elif mnist_path is None:
        raise SystemExit(f"{name} needs --mnist PATH, or NEUMAP_MNIST in the environment.")
    else:
        split = mnist(Path(mnist_path), int(size), seed)
    neighbors = find_neighbors(split.X_train, 15, seed=None)
    return split, (neighbors.indices, neighbors.distances)


def measure(split: Split, knn: tuple[Any, Any], preset: Preset, seed: int) -> dict[str, float]:
    """Fit once and score training and held-out rows."""
    model = ParametricUMAP(preset=preset, random_state=seed, precomputed_knn=knn)
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
    return {
        "seconds": model.report_["training_seconds"],
        "transform_seconds": transform_seconds,
        **{name: float(value) for name, value in scores.items()},
    }


def short(name: str) -> str:
    """Return a heading of at most eight characters."""
    return {
        "seconds": "train s",
        "trustworthiness": "trust",
        "recall@15": "rec@15",
        "knn_accuracy": "5nn",
        "test_trustworthiness": "t.trust",
        "test_recall@15": "t.rec",
        "test_knn_accuracy": "t.5nn",
        "distance_correlation": "dcor",
    }[name]


if __name__ == "__main__":
    raise SystemExit(main())
