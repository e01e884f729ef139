"""Novelty detection: does `confidence` recognise a class that was left out of the fit?

    python benchmarks/confidence.py                                    # digits, minutes
    python benchmarks/confidence.py --mnist mnist.npz --mnist-rows 10000

Each class in turn is removed from the training rows. The held-out rows of that class are then
compared with those of all other classes. The area under the ROC curve (1 is perfect, .5 is chance)
is reported for the score and for each of the measures. The share of rows with a score below .05 is
reported for both: about .05 is expected of rows of the other classes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.data import Split, mnist_or_digits
from lib.results import RESULTS, command, write
from sklearn.metrics import roc_auc_score

from neumap import ParametricUMAP
from neumap.estimators import PRESETS

MEASURES = (
    "distance",
    "neighbor_spread",
    "jacobian_norm",
    "relative_distance",
    "feature_spread",
)
LOW_SCORE = 0.05


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("confidence.py", arguments),
        "machine": machine.describe(),
        "runs": [],
    }
    for seed in options.seeds:
        split = mnist_or_digits(options.mnist, options.mnist_rows, seed)
        for label in options.classes or np.unique(split.y_train).tolist():
            run = {"dataset": split.name, "seed": seed, "left_out": int(label)}
            run |= measure(split, label, seed, options.preset)
            areas = run["auroc"]
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
    add("--classes", type=int, nargs="+", default=None, help="to leave out (default: each in turn)")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--preset", choices=list(PRESETS), default="default")
    add("--output", type=Path, default=RESULTS / "confidence.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(split: Split, label: int, seed: int, preset: str) -> dict[str, Any]:
    """Return the areas under the ROC curve and the shares of low scores with one class left out."""
    model = ParametricUMAP(preset=preset, random_state=seed)
    model.fit(split.X_train[split.y_train != label])
    found = model.confidence(split.X_test)
    is_novel = split.y_test == label
    values = {"score": -found.score}
    values |= {name: getattr(found.measures, name) for name in MEASURES}
    is_low = found.score < LOW_SCORE
    return {
        "auroc": {name: float(roc_auc_score(is_novel, value)) for name, value in values.items()},
        "low_score": {
            "novel": float(is_low[is_novel].mean()),
            "usual": float(is_low[~is_novel].mean()),
        },
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean and the smallest area, and the mean shares, over classes and seeds."""
    names = ("score", *MEASURES)
    areas = {name: [run["auroc"][name] for run in runs] for name in names}
    return {
        "mean": {name: statistics.fmean(values) for name, values in areas.items()},
        "worst": {name: min(values) for name, values in areas.items()},
        "low_score": {
            name: statistics.fmean(run["low_score"][name] for run in runs)
            for name in ("novel", "usual")
        },
    }


def line(areas: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in areas.items())


if __name__ == "__main__":
    sys.exit(main())
