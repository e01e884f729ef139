"""Reconstruction of unseen images from two dimensions, compared with the paper's figures.

    python benchmarks/reconstruction.py --mnist mnist.npz --rows 60000

Fits a convolutional encoder and decoder on MNIST with squared error, once with a decoder that does
not affect the encoder and once jointly (``autoencoder_loss=True``). Reports the mean squared error
per pixel on test images and the 5-NN accuracy of their positions. Sainburg, McInnes & Gentner
(2021) give .0374 and .0360 for two dimensions (50,000 training images).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.data import mnist
from lib.results import RESULTS, command, write

from neumap import ParametricUMAP, metrics

PAPER = {False: 0.0374, True: 0.0360}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--rows", type=int, default=60_000)
    add("--seeds", type=int, nargs="+", default=[0])
    add("--preset", default="default")
    add("--output", type=Path, default=RESULTS / "reconstruction.json")
    options = parser.parse_args(arguments)
    if options.mnist is None:
        parser.error("--mnist must be an .npz file, got none. Pass it or set NEUMAP_MNIST.")
    result: dict[str, Any] = {
        "command": command("reconstruction.py", arguments),
        "machine": machine.describe(),
        "runs": [],
    }
    for seed in options.seeds:
        split = mnist(Path(options.mnist), options.rows, seed)
        for joint in (False, True):
            run = {
                "seed": seed,
                "rows": options.rows,
                **measure(split, joint, seed, options.preset),
            }
            result["runs"].append(run)
            print(
                f"joint={joint!s:<5} test MSE {run['test_mse']:.4f} (paper {PAPER[joint]:.4f})  "
                f"held-out 5-NN {run['test_knn_accuracy']:.3f}  {run['seconds']:.0f} s",
                flush=True,
            )
            write(result, options.output)
    return 0


def measure(split: Any, joint: bool, seed: int, preset: str) -> dict[str, Any]:
    """Fit once and score the test images."""
    model = ParametricUMAP(
        encoder="conv",
        decoder="conv",
        dims=(28, 28, 1),
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn="mse",
        autoencoder_loss=joint,
        preset=preset,
        random_state=seed,
    )
    began = time.perf_counter()
    model.fit(split.X_train)
    seconds = time.perf_counter() - began
    placed = model.transform(split.X_test)
    decoded = model.inverse_transform(placed)
    return {
        "joint": joint,
        "seconds": seconds,
        "test_mse": float(np.square(decoded - split.X_test).mean()),
        "test_knn_accuracy": float(
            metrics.knn_accuracy(
                model.embedding_,
                split.y_train,
                embedding_test=placed,
                labels_test=split.y_test,
                n_neighbors=5,
            )
        ),
    }


if __name__ == "__main__":
    raise SystemExit(main())
