"""Few labels: accuracy of `predict` against a network trained on the labelled rows alone.

    python benchmarks/semisupervised.py                                   # digits, minutes
    python benchmarks/semisupervised.py --mnist mnist.npz --mnist-rows 60000 --seeds 0 1 2

For 4, 16 and 64 labels per class, `ParametricUMAP(classifier_loss_weight=1)` is fitted on all
training rows, most of them unlabelled. The baseline is a network with the same hidden layers,
trained on the labelled rows alone. Sainburg, McInnes and Gentner (2021) report .814 without and
.979 with UMAP, for four labels per class of MNIST and a convolutional network; `--encoder conv` is
closest to theirs; with `--encoder own-conv` it is the network of umap-learn's page, passed by the
user.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lib import machine
from lib.data import Split, mnist_or_digits
from lib.results import RESULTS, command, write
from lib.torch_networks import conv_encoder
from torch import nn

from neumap import ParametricUMAP
from neumap.estimators import PRESETS
from neumap.networks import MLP, ConvEncoder

BASELINE_STEPS = 1000
BASELINE_BATCH = 128
SIDES = {64: (8, 8), 784: (28, 28)}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("semisupervised.py", arguments),
        "machine": machine.describe(),
        "runs": [],
    }
    for run in measure(options):
        result["runs"].append(run)
        result["summary"] = summarise(result["runs"])
        write(result, options.output)
        print(line(run), flush=True)
    print("\nmean over seeds")
    print("\n".join(line(entry) for entry in result["summary"]))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--mnist-rows", type=int, default=10_000, metavar="N")
    add("--labels", type=int, nargs="+", default=[4, 16, 64], help="per class")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--preset", choices=list(PRESETS), default="default")
    add("--encoder", choices=["mlp", "conv", "own-conv"], default="mlp")
    add("--components", type=int, default=2)
    add("--output", type=Path, default=RESULTS / "semisupervised.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one run per seed and number of labels; the seed sets rows, labels and weights."""
    for seed in options.seeds:
        split = mnist_or_digits(options.mnist, options.mnist_rows, seed)
        for per_class in options.labels:
            y = few_labels(split.y_train, per_class, seed)
            began = time.perf_counter()
            model = fit(split, y, seed, options)
            seconds = time.perf_counter() - began
            yield {
                "dataset": split.name,
                "seed": seed,
                "labels_per_class": per_class,
                "accuracy": float(np.mean(model.predict(split.X_test) == split.y_test)),
                "baseline": float(np.mean(baseline(split, y, seed, options) == split.y_test)),
                "seconds": seconds,
            }


def few_labels(y: npt.NDArray[np.int64], per_class: int, seed: int) -> npt.NDArray[np.int64]:
    """Keep the labels of `per_class` random rows of each class; the others become -1."""
    rng = np.random.default_rng([seed, per_class])
    few = np.full(len(y), -1)
    for label in np.unique(y):
        few[rng.permutation(np.flatnonzero(y == label))[:per_class]] = label
    return few


def fit(
    split: Split, y: npt.NDArray[np.int64], seed: int, options: argparse.Namespace
) -> ParametricUMAP:
    torch.manual_seed(seed)  # the weights of a network that is passed
    encoder, dims = {
        "mlp": lambda: ("mlp", None),
        "conv": lambda: ("conv", sides(split)),
        "own-conv": lambda: (
            conv_encoder(sides(split)[0], options.components),
            (1, *sides(split)),
        ),
    }[options.encoder]()
    model = ParametricUMAP(
        n_components=options.components,
        classifier_loss_weight=1.0,
        encoder=encoder,
        dims=dims,
        preset=options.preset,
        random_state=seed,
    )
    return model.fit(split.X_train, y)


def sides(split: Split) -> tuple[int, int]:
    return SIDES[split.X_train.shape[1]]


def baseline(
    split: Split, y: npt.NDArray[np.int64], seed: int, options: argparse.Namespace
) -> npt.NDArray[np.int64]:
    """Return predictions of a network with the same layers, trained on labelled rows alone."""
    labelled = y >= 0
    rows, classes = torch.from_numpy(split.X_train[labelled]), torch.from_numpy(y[labelled])
    n_classes = int(classes.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if options.encoder != "mlp":
            network: nn.Module = ConvEncoder(sides(split), n_classes)
        else:
            hidden = PRESETS[options.preset].hidden
            network = MLP(rows.shape[1], n_classes, hidden)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(BASELINE_STEPS):
        picks = torch.randint(len(rows), (BASELINE_BATCH,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(rows[picks]), classes[picks]).backward()
        optimizer.step()
    with torch.no_grad():
        found: npt.NDArray[np.int64] = network(torch.from_numpy(split.X_test)).argmax(1).numpy()
    return found


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over seeds, with the smallest and the largest accuracy."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], run["labels_per_class"]), []).append(run)
    return [
        {
            "dataset": dataset,
            "labels_per_class": per_class,
            "n_seeds": len(group),
            **{
                name: statistics.fmean(run[name] for run in group)
                for name in ("accuracy", "baseline", "seconds")
            },
            "smallest": min(run["accuracy"] for run in group),
            "largest": max(run["accuracy"] for run in group),
        }
        for (dataset, per_class), group in groups.items()
    ]


def line(entry: dict[str, Any]) -> str:
    return (
        f"{entry['dataset']}, {entry['labels_per_class']:>2} labels per class: "
        f"{entry['accuracy']:.3f}, labelled rows alone {entry['baseline']:.3f} "
        f"({entry['seconds']:.0f} s)"
    )


if __name__ == "__main__":
    sys.exit(main())
