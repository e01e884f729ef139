"""Time, memory and quality of neumap's methods and, with --peers, of umap-learn's in the same run.

    python benchmarks/run.py                                     # digits, about a minute
    python benchmarks/run.py --mnist mnist.npz --mnist-rows 10000 60000 --seeds 0 1 2
    python benchmarks/run.py --peers --peer-python .venv-peers/bin/python

Every fit runs in a fresh process, which reports the seconds of its stages. All embeddings are
scored here with ``neumap.metrics``. The seeds choose the rows. Methods run with their default
settings and therefore unseeded, unless --seeded is given. On a machine with a CUDA device neumap
runs on it. The table is printed, and everything is written to a JSON file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine, report
from lib.data import Split, digits, mnist
from lib.methods import METHODS
from lib.processes import Outcome, import_seconds, run_method
from lib.results import RESULTS, command, write

from neumap import metrics
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.neighbors import find_neighbors
from neumap.similarity import find_ab

OURS = [name for name, method in METHODS.items() if not method.is_peer]
PEERS = [name for name, method in METHODS.items() if method.is_peer]

# Lower bounds; checked with --check.
LOWEST_SCORES = {"scores.trustworthiness": 0.97, "scores.test_knn_accuracy": 0.95}
LONGEST_IMPORT = 0.2


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command("run.py", arguments),
        "machine": machine.describe(),
        "imports": measure_imports(options),
        "runs": [],
    }
    show_imports(result["imports"])
    for run in measure_fits(options):
        result["runs"].append(run)
        result["summary"] = report.summarise(result["runs"])
        result["ratios"] = report.ratios(result["runs"], options.methods[0])
        write(result, options.output)  # after each fit, so an interrupted run keeps results
    print(report.table(result["summary"]))
    print("\n".join(report.ratio_lines(result["ratios"])))
    print(f"written to {options.output}")

    failures = [run for run in result["runs"] if run["error"] is not None]
    broken = broken_bounds(result) if options.check else []
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if failures or broken else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    environment = os.environ.get("NEUMAP_MNIST")
    add = parser.add_argument
    add("--methods", nargs="+", choices=OURS, default=["neumap"], help="of neumap (default neumap)")
    add("--peers", action="store_true", help="run umap-learn too")
    add("--peer-methods", nargs="+", choices=PEERS, default=PEERS, help="of umap-learn")
    add("--peer-python", type=Path, default=Path(".venv-peers/bin/python"), metavar="PATH")
    add("--seeds", nargs="+", type=int, default=[0], help="one run each (default: 0)")
    add("--seeded", action="store_true", help="pass the seed to the estimators too")
    add("--warm", action="store_true", help="fit a second time in each process")
    add("--mnist", type=Path, default=environment, metavar="PATH", help="or set NEUMAP_MNIST")
    add("--mnist-rows", nargs="+", type=int, default=[10_000], metavar="N")
    add("--no-digits", action="store_true", help="MNIST only")
    add("--timeout", type=float, default=7200, help="time limit of each process, in seconds")
    add("--maps", type=Path, metavar="FOLDER", help="save embeddings here, for side_by_side.py")
    add("--check", action="store_true", help="fail if the digits or the import get worse")
    stamp = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    add("--output", type=Path, default=RESULTS / f"{stamp}.json", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.mnist is not None and not Path(options.mnist).is_file():
        parser.error(f"--mnist must be an .npz file, got {options.mnist}, which does not exist.")
    if options.peers and not options.peer_python.is_file():
        parser.error(
            "--peer-python must be an interpreter with the packages of benchmarks/peers.txt, got "
            f"{options.peer_python}, which does not exist. Create it with: make bench-peers-env"
        )
    return options


def measure_imports(options: argparse.Namespace) -> dict[str, float | None]:
    """Return the median seconds of imports in fresh processes."""
    here, there = Path(sys.executable), options.peer_python
    statements = {
        "neumap": ("import neumap", here),
        "neumap.ParametricUMAP": ("from neumap import ParametricUMAP", here),
        "torch": ("import torch", here),
    }
    if options.peers:
        statements["umap.UMAP"] = ("from umap import UMAP", there)
        if "umap-parametric" in options.peer_methods:
            statement = "from umap.parametric_umap import ParametricUMAP"
            statements["umap.parametric_umap"] = (statement, there)
    return {name: import_seconds(*how) for name, how in statements.items()}


def splits(options: argparse.Namespace, seed: int) -> Iterator[Split]:
    """Yield the data sets of one seed, one at a time."""
    if not options.no_digits:
        yield digits(seed)
    if options.mnist is not None:
        for n_rows in options.mnist_rows:
            yield mnist(Path(options.mnist), n_rows, seed)


def measure_fits(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one run per seed, data set and method; methods alternate, so a drift affects all."""
    names = [*options.methods, *(options.peer_methods if options.peers else [])]
    for seed in options.seeds:
        for split in splits(options, seed):
            graph = common_graph(split)
            for name in names:
                yield measure_fit(name, split, graph, seed, options)


def measure_fit(
    name: str, split: Split, graph: FuzzyGraph, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    python = options.peer_python if METHODS[name].is_peer else Path(sys.executable)
    settings = {"random_state": seed if options.seeded else None, "warm": options.warm}
    print(f"{split.name}, seed {seed}: {name} ...", file=sys.stderr, flush=True)
    outcome = run_method(name, split, python, settings, options.timeout)
    run: dict[str, Any] = {
        "dataset": split.name,
        "n_train": len(split.X_train),
        "n_test": len(split.X_test),
        "seed": seed,
        "method": name,
        "error": outcome.error,
        **outcome.report,
    }
    if outcome.error is not None:
        print(f"{name} failed: {outcome.error}", file=sys.stderr)
        return run
    if options.maps is not None:
        options.maps.mkdir(parents=True, exist_ok=True)
        file = options.maps / f"{split.name}-{seed}-{name}.npz"
        np.savez_compressed(file, embedding=outcome.embedding, labels=split.y_train)
    return run | {"scores": score(split, outcome, graph)}


def common_graph(split: Split) -> FuzzyGraph:
    """Return the graph with which the cross entropy of every embedding is computed."""
    return fuzzy_simplicial_set(find_neighbors(split.X_train, 15))


def score(split: Split, outcome: Outcome, graph: FuzzyGraph) -> dict[str, float]:
    assert outcome.embedding is not None
    assert outcome.embedding_test is not None
    a, b = find_ab()
    return metrics.scores(
        split.X_train,
        outcome.embedding,
        labels=split.y_train,
        X_test=split.X_test,
        embedding_test=outcome.embedding_test,
        labels_test=split.y_test,
    ) | {"cross_entropy": metrics.umap_cross_entropy(outcome.embedding, graph, a, b)}


def show_imports(seconds: dict[str, float | None]) -> None:
    for name, value in seconds.items():
        print(f"import {name}: " + ("failed" if value is None else f"{value:.2f} s"))


def broken_bounds(result: dict[str, Any]) -> list[str]:
    """Return one message per violated bound."""
    seconds = result["imports"]["neumap"]
    broken = []
    if seconds is None or seconds > LONGEST_IMPORT:
        broken.append(f"import neumap must take at most {LONGEST_IMPORT} s, got {seconds} s.")
    for entry in result["summary"]:
        if (entry["dataset"], entry["method"]) != ("digits", "neumap"):
            continue
        broken += [
            f"{name} of the digits must be at least {bound}, got {entry['median'][name]:.4f}."
            for name, bound in LOWEST_SCORES.items()
            if entry["median"][name] < bound
        ]
    return broken


if __name__ == "__main__":
    sys.exit(main())
