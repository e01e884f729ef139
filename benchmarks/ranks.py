"""One fit in one process and in two, one thread each: seconds, and how far the maps are apart.

    python benchmarks/ranks.py                                   # digits
    python benchmarks/ranks.py --mnist mnist.npz --rows 2000
    python benchmarks/ranks.py --mixture --rows 1000000          # the package's network

The network of umap-learn's page, or a like one for the digits, is fitted in a fresh process and in
processes that `torch.distributed` joins by gloo; on a mixture of groups in 50 dimensions, the
package's own network is. Seconds are those of `fit`; the first process
reports. The maps agree as two orders of addition do: their distance is given beside that of two
fits of one process with other numbers of threads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.data import Split, mixture, mnist_or_digits
from lib.results import RESULTS, command, write
from numpy.typing import NDArray

STAGES = ("neighbor_seconds", "graph_seconds", "training_seconds")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.rank is not None:
        fit(options)
        return 0
    maps, runs = {}, []
    for repeat in range(options.repeats):
        for size, threads in ((1, 1), (options.processes, 1), (1, options.processes)):
            run, positions = measured(options, size, threads)
            maps[size, threads] = positions
            runs.append({"repeat": repeat, "processes": size, "threads": threads, **run})
            print(f"{size} processes, {threads} threads: {run['seconds']:.1f} s", flush=True)
    by_size = {
        (size, threads): float(
            np.median(
                [r["seconds"] for r in runs if (r["processes"], r["threads"]) == (size, threads)]
            )
        )
        for size, threads in maps
    }
    shared, alone = (options.processes, 1), (1, 1)
    result = {
        "command": command("ranks.py", arguments),
        "machine": machine.describe(),
        "runs": runs,
        "share_of_the_time_of_one": by_size[shared] / by_size[alone],
        "distance_to_one_process": apart(maps[shared], maps[alone]),
        "distance_with_other_threads": apart(maps[1, options.processes], maps[alone]),
    }
    write(result, options.output)
    print({k: v for k, v in result.items() if k.startswith(("share", "distance"))})
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="PATH")
    add("--mixture", action="store_true", help="in 50 dimensions, instead of images")
    add("--rows", type=int, default=2_000, help="of MNIST or the mixture")
    add("--processes", type=int, default=2)
    add("--repeats", type=int, default=1)
    add("--steps", type=int, default=None, help="UMAP epochs of each fit; by default its own")
    add("--output", type=Path, default=RESULTS / "ranks.json", metavar="FILE")
    add("--rank", type=int, default=None, help=argparse.SUPPRESS)
    add("--size", type=int, default=1, help=argparse.SUPPRESS)
    add("--threads", type=int, default=1, help=argparse.SUPPRESS)
    add("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measured(
    options: argparse.Namespace, size: int, threads: int
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Fit in so many processes, and return the figures and the map of the first one."""
    with tempfile.TemporaryDirectory(prefix="neumap-bench-") as place:
        given = ["--rows", str(options.rows), "--size", str(size), "--threads", str(threads)]
        given += [] if options.mnist is None else ["--mnist", str(options.mnist)]
        given += ["--mixture"] * options.mixture
        given += [] if options.steps is None else ["--steps", str(options.steps)]
        line = [sys.executable, str(Path(__file__)), *given, "--folder", place, "--rank"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        running = [subprocess.Popen([*line, str(rank)], env=environment) for rank in range(size)]
        codes = [process.wait() for process in running]
        if any(codes):
            raise SystemExit(f"a process of {size} ended with {max(codes)}")
        found = np.load(Path(place) / "found.npz")
        run = {"seconds": float(found["seconds"]), "steps": int(found["steps"])}
        return run | {stage: float(found[stage]) for stage in STAGES}, found["map"]


def fit(options: argparse.Namespace) -> None:
    """Fit in this process, together with the others of its group."""
    import torch
    from torch import distributed

    from neumap import ParametricUMAP

    torch.set_num_threads(options.threads)
    if options.size > 1:
        store = (options.folder / "store").absolute().as_uri()
        distributed.init_process_group(
            "gloo", init_method=store, rank=options.rank, world_size=options.size
        )
    is_mixture, path = options.mixture, options.mnist
    split = mixture(options.rows, 0) if is_mixture else mnist_or_digits(path, options.rows, 0)
    torch.manual_seed(0)
    own = {} if is_mixture else conv_network(split)
    model = ParametricUMAP(**own, n_epochs=options.steps, random_state=0, device="cpu")
    began = time.perf_counter()
    model.fit(split.X_train)
    seconds = time.perf_counter() - began
    if options.rank == 0:
        np.savez(
            options.folder / "found.npz",
            map=model.embedding_,
            seconds=seconds,
            steps=model.report_["n_steps"],
            **{stage: model.report_[stage] for stage in STAGES},
        )
    if options.size > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def conv_network(split: Split) -> dict[str, Any]:
    from lib.torch_networks import conv_encoder

    side = round(split.X_train.shape[1] ** 0.5)
    return {"encoder": conv_encoder(side), "dims": (1, side, side)}


def apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Root mean square distance of two maps, turned onto each other, by the extent of one."""
    from scipy.spatial import procrustes

    return float(np.sqrt(procrustes(one, other)[2]))


if __name__ == "__main__":
    sys.exit(main())
