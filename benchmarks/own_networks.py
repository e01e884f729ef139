"""Networks of the user: whole fits beside the default network, and unseen images scored.

    python benchmarks/own_networks.py --mnist mnist.npz                   # all rows of the table
    python benchmarks/own_networks.py --mnist mnist.npz --only conv mlp --rows 2000 --seeds 0
    python benchmarks/own_networks.py --mnist mnist.npz --rows 2000 --peers

A run is one fit with default settings, `seconds` its duration as a whole. The networks are in
``lib/torch_networks.py`` and ``lib/keras_networks.py``. Each run is written to the JSON file when
it ends; a run that is there already is not repeated, so an interrupted benchmark goes on where it
was. `--peers` adds umap-learn's ParametricUMAP with the same Keras network.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras reads this at import

import numpy as np
import torch
from lib import keras_networks, machine, torch_networks
from lib.data import Split, mnist
from lib.results import BENCHMARKS, RESULTS, command, write

from neumap import ParametricUMAP, metrics

Run = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One network: how it is made, the shape of a row for it, the sizes it is measured at."""

    make: Callable[[], Any] | None
    dims: tuple[int, ...] | None
    rows: tuple[int, ...]
    decoder: Callable[[], Any] | None = None
    parameters: tuple[tuple[str, Any], ...] = ()


ALL_SIZES, SMALL = (2_000, 10_000, 60_000), (2_000,)
CHANNELS_FIRST, LINES = (1, 28, 28), (28, 28)
RECONSTRUCTING = (
    ("parametric_reconstruction", True),
    ("parametric_reconstruction_loss_fcn", "mse"),
)
SUBJECTS = {
    "default": Subject(None, None, ALL_SIZES),
    "conv": Subject(torch_networks.conv_encoder, CHANNELS_FIRST, ALL_SIZES),
    "keras-conv": Subject(keras_networks.conv_encoder, (28, 28, 1), ALL_SIZES),
    "autoencoder": Subject(
        torch_networks.conv_encoder,
        CHANNELS_FIRST,
        SMALL,
        torch_networks.conv_decoder,
        (*RECONSTRUCTING, ("autoencoder_loss", True), ("n_training_epochs", 2)),
    ),
    "decoder": Subject(
        torch_networks.conv_encoder,
        CHANNELS_FIRST,
        (60_000,),
        torch_networks.conv_decoder,
        RECONSTRUCTING,
    ),
    "joint": Subject(
        torch_networks.conv_encoder,
        CHANNELS_FIRST,
        (60_000,),
        torch_networks.conv_decoder,
        (*RECONSTRUCTING, ("autoencoder_loss", True)),
    ),
    "mlp": Subject(torch_networks.mlp, None, SMALL),
    "batch-norm": Subject(torch_networks.batch_norm, None, SMALL),
    "gru": Subject(torch_networks.Recurrent, LINES, SMALL),
    "conv-1d": Subject(torch_networks.Lines, LINES, SMALL),
    "transformer": Subject(torch_networks.Attention, LINES, SMALL),
}
PEER = "umap-learn, keras-conv"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result = begun(options.output) or {"machine": machine.describe(), "runs": []}
    result["command"] = command("own_networks.py", arguments)
    known = {key(run) for run in result["runs"]}
    for seed in options.seeds:
        for n_rows in options.rows:
            for name in chosen(options, n_rows, seed):
                if (name, n_rows, seed) in known:
                    continue
                split = mnist(Path(options.mnist), n_rows, seed)
                measured = peer(split, seed, options) if name == PEER else fit(name, split, seed)
                result["runs"].append({"network": name, "rows": n_rows, "seed": seed, **measured})
                result["summary"] = summarise(result["runs"])
                write(result, options.output)
                print(line(result["runs"][-1]), flush=True)
    print("\nmedians over seeds")
    print("\n".join(map(line, summarise(result["runs"]))))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--rows", type=int, nargs="+", default=list(ALL_SIZES), metavar="N")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--only", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    add("--peers", action="store_true", help="umap-learn too, once, on the smallest number of rows")
    add("--peer-python", type=Path, default=Path(".venv-peers/bin/python"), metavar="PATH")
    add("--output", type=Path, default=RESULTS / "own_networks.json", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.mnist is None:
        parser.error("--mnist must be an .npz file, got none. Pass it or set NEUMAP_MNIST.")
    if options.peers and not options.peer_python.is_file():
        parser.error(
            "--peer-python must be an interpreter with the packages of benchmarks/peers.txt, got "
            f"{options.peer_python}, which does not exist. Create it with: make bench-peers-env"
        )
    return options


def begun(path: Path) -> dict[str, Any] | None:
    """Return the results of a run that was interrupted."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def key(run: Run) -> tuple[str, int, int]:
    return run["network"], run["rows"], run["seed"]


def chosen(options: argparse.Namespace, n_rows: int, seed: int) -> list[str]:
    """Return the networks that are measured at a number of rows: those of the table."""
    listed = {size for subject in SUBJECTS.values() for size in subject.rows}
    names = [
        name
        for name in options.only
        if n_rows in SUBJECTS[name].rows or n_rows not in listed  # any, at sizes of the caller
    ]
    is_first = n_rows == min(options.rows) and seed == options.seeds[0]
    return [*names, PEER] if options.peers and is_first else names


def fit(name: str, split: Split, seed: int) -> Run:
    """Fit once and score the unseen images."""
    subject = SUBJECTS[name]
    torch.manual_seed(seed)  # the weights of a network that is passed
    model = ParametricUMAP(
        encoder=None if subject.make is None else subject.make(),
        decoder=None if subject.decoder is None else subject.decoder(),
        dims=subject.dims,
        random_state=seed,
        **dict(subject.parameters),
    )
    began = time.perf_counter()
    model.fit(split.X_train)
    seconds = time.perf_counter() - began
    placed = model.transform(split.X_test)
    run = {
        "seconds": seconds,
        "training_seconds": model.report_["training_seconds"],
        "n_steps": model.report_["n_steps"],
        "device": model.report_["device"],
        **scores(split, model.embedding_, placed),
    }
    if subject.decoder is not None:
        decoded = model.inverse_transform(placed).reshape(len(placed), -1)
        run["test_mse"] = float(np.square(decoded - split.X_test).mean())
    return run


def scores(split: Split, embedding: Any, placed: Any) -> dict[str, float]:
    n_scored = min(10_000, len(embedding))  # trustworthiness needs all pairs
    X, Z = split.X_train[:n_scored], embedding[:n_scored]
    return {
        "test_knn_accuracy": metrics.knn_accuracy(
            embedding, split.y_train, embedding_test=placed, labels_test=split.y_test
        ),
        "trustworthiness": metrics.trustworthiness(X, Z, n_neighbors=15),
        "recall@15": metrics.knn_recall(X, Z, n_neighbors=15),
    }


def peer(split: Split, seed: int, options: argparse.Namespace) -> Run:
    """Fit umap-learn in a process of its interpreter."""
    with tempfile.TemporaryDirectory(prefix="neumap-bench-") as place:
        folder = Path(place)
        np.save(folder / "train.npy", split.X_train)
        np.save(folder / "test.npy", split.X_test)
        subprocess.run(
            [str(options.peer_python), "-W", "ignore", "-m", "lib.own_peer", place, str(seed)],
            env=os.environ
            | {
                "PYTHONPATH": str(BENCHMARKS),
                "KERAS_BACKEND": "tensorflow",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            check=True,
        )
        embedding, placed = (
            np.load(folder / f"{part}_embedding.npy") for part in ("train", "test")
        )
        seconds = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    return {"seconds": seconds, **scores(split, embedding, placed)}


def summarise(runs: list[Run]) -> list[Run]:
    """Return medians over seeds, with the smallest and the largest accuracy."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["rows"], run["network"]), []).append(run)
    return [
        {
            "network": network,
            "rows": rows,
            "n_seeds": len(group),
            **{
                name: statistics.median(run[name] for run in group)
                for name, value in group[0].items()
                if isinstance(value, int | float) and name not in ("rows", "seed")
            },
            "smallest": min(run["test_knn_accuracy"] for run in group),
            "largest": max(run["test_knn_accuracy"] for run in group),
        }
        for (rows, network), group in sorted(groups.items())
    ]


def line(run: Run) -> str:
    spread = f" ({run['smallest']:.3f} to {run['largest']:.3f})" if "smallest" in run else ""
    decoded = f", test MSE {run['test_mse']:.4f}" if "test_mse" in run else ""
    return (
        f"{run['rows']:>6} {run['network']:<24} {run['seconds']:>7.1f} s  "
        f"5-NN {run['test_knn_accuracy']:.3f}{spread}, trust {run['trustworthiness']:.3f}, "
        f"recall {run['recall@15']:.3f}{decoded}"
    )


if __name__ == "__main__":
    sys.exit(main())
