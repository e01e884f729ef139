"""Doubt about new points: does `confidence` tell a class that was left out of the fit?

    python benchmarks/confidence.py                                    # digits, minutes
    python benchmarks/confidence.py --mnist mnist.npz --mnist-rows 10000

Each class in turn is taken out of the training rows. The held-out rows of that class are then to
be told from those of all others; the area under the ROC curve (1 perfect, .5 a guess) is reported
for the score and for each sign it could be made of.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import machine
import numpy as np
from data import Split, mnist_or_digits
from processes import HERE
from run import write
from sklearn.metrics import roc_auc_score

from neumap import ParametricUMAP
from neumap.estimators import PRESETS

SIGNS = ("score", "distance", "disagreement", "steepness")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": " ".join(["benchmarks/confidence.py", *(arguments or sys.argv[1:])]),
        "machine": machine.describe(),
        "runs": [],
    }
    for seed in options.seeds:
        split = mnist_or_digits(options.mnist, options.mnist_rows, seed)
        for label in options.classes or np.unique(split.y_train).tolist():
            areas = measure(split, label, seed, options.preset)
            run = {"dataset": split.name, "seed": seed, "left_out": int(label), "auroc": areas}
            result["runs"].append(run)
            result["summary"] = summarise(result["runs"])
            write(result, options.output)
            print(f"{split.name} without {label}: {line(areas)}", flush=True)
    print(f"mean: {line(result['summary']['mean'])}")
    print(f"worst: {line(result['summary']['worst'])}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--mnist-rows", type=int, default=10_000, metavar="N")
    add("--classes", type=int, nargs="+", default=None, help="to leave out (default: each)")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--preset", choices=list(PRESETS), default="default")
    add("--output", type=Path, default=HERE / "results" / "confidence.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(split: Split, label: int, seed: int, preset: str) -> dict[str, float]:
    """Area under the ROC curve of each sign for one class left out."""
    model = ParametricUMAP(preset=preset, random_state=seed)
    model.fit(split.X_train[split.y_train != label])
    found = model.confidence(split.X_test)
    strange = split.y_test == label
    values = {"score": -found.score, **{name: getattr(found.signs, name) for name in SIGNS[1:]}}
    return {name: float(roc_auc_score(strange, value)) for name, value in values.items()}


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and smallest area over classes and seeds."""
    areas = {name: [run["auroc"][name] for run in runs] for name in SIGNS}
    return {
        "mean": {name: statistics.fmean(values) for name, values in areas.items()},
        "worst": {name: min(values) for name, values in areas.items()},
    }


def line(areas: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in areas.items())


if __name__ == "__main__":
    sys.exit(main())
