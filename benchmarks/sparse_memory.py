"""Memory and time of a fit on a wide sparse matrix that would not fit in memory if dense.

    python benchmarks/sparse_memory.py                              # 100,000 x 20,000, 0.5 % full
    python benchmarks/sparse_memory.py --rows 5000 --columns 2000   # a minute

The matrix (8 GB if dense) holds word counts of documents on 100 topics. A fresh process loads it,
fits `ParametricUMAP` for a few steps and transforms all rows. After every stage it records the peak
of its resident memory, which must stay below 2 GB. The 5-NN accuracy of the topics is reported as
well. A few steps are enough, because every step needs the same memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from lib import machine
from lib.child import peak_bytes
from lib.results import RESULTS, command, write

LARGEST_PEAK = 2e9
N_TOPICS = 100
PARTS = ("data", "indices", "indptr")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.folder is not None:
        print(json.dumps(measure(options)))
        return 0
    matrix, topics = documents(options)
    run = in_a_process(matrix, topics, options, sys.argv[1:] if arguments is None else arguments)
    result = {
        "command": command("sparse_memory.py", arguments),
        "machine": machine.describe(),
        "runs": [run],
    }
    write(result, options.output)
    peaks = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in run["peak_bytes"].items())
    print(f"{run['rows']:,} x {run['columns']:,}, {run['filled']:.2%} filled; peak GB: {peaks}")
    print("seconds: " + ", ".join(f"{n} {v:.1f}" for n, v in run["seconds"].items()))
    print(f"neighbours: {run['neighbors']}, recall {run['neighbor_recall']}")
    print(f"5-NN accuracy of topics on the map: {run['topic_knn_accuracy']:.3f}")
    within = run["peak_bytes"]["transform"] < options.limit
    if not within:
        peak = run["peak_bytes"]["transform"] / 1e9
        print(f"peak must be below {options.limit / 1e9:.1f} GB, got {peak:.2f}.", file=sys.stderr)
    return 0 if within else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--rows", type=int, default=100_000)
    add("--columns", type=int, default=20_000)
    add("--filled", type=float, default=0.005, help="fraction of nonzero entries")
    add("--topic-words", type=float, default=0.01, help="fraction of words a topic prefers")
    add("--metric", default="cosine")
    add("--steps", type=int, default=100, help="of training")
    add("--preset", default="fast")
    add("--seed", type=int, default=0)
    add("--limit", type=float, default=LARGEST_PEAK, help="largest peak in bytes")
    add("--output", type=Path, default=RESULTS / "sparse_memory.json", metavar="FILE")
    add("--folder", type=Path, default=None, help=argparse.SUPPRESS)  # of the child's matrix
    return parser.parse_args(arguments)


def documents(options: argparse.Namespace) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Return word counts of documents, each on one topic, and the topics.

    The frequency of a word is proportional to 1/(rank + 50). Half of a document's words are drawn
    from all words and half from those that its topic prefers.
    """
    n_rows, n_columns, filled = options.rows, options.columns, options.filled
    rng = np.random.default_rng(options.seed)
    topics = rng.integers(N_TOPICS, size=n_rows)
    common = 1.0 / (np.arange(n_columns) + 50.0)
    common = np.cumsum(common / common.sum())
    n_preferred = max(1, round(options.topic_words * n_columns))
    preferred = [rng.choice(n_columns, n_preferred, replace=False) for _ in range(N_TOPICS)]
    n_words = rng.poisson(1.1 * filled * n_columns, size=n_rows)  # some words repeat
    blocks = []
    for start in range(0, n_rows, 10_000):
        words = n_words[start : start + 10_000]
        row = np.repeat(np.arange(len(words)), words)
        column = np.searchsorted(common, rng.random(len(row)))
        own = rng.random(len(row)) < 0.5
        choices = np.stack(preferred)[topics[start + row[own]]]
        column[own] = choices[np.arange(own.sum()), rng.integers(choices.shape[1], size=own.sum())]
        ones = np.ones(len(row), dtype=np.float32)
        shape = (len(words), n_columns)
        blocks.append(scipy.sparse.csr_matrix((ones, (row, column)), shape=shape))
    return scipy.sparse.vstack(blocks, format="csr"), topics


def in_a_process(
    matrix: scipy.sparse.csr_matrix,
    topics: np.ndarray,
    options: argparse.Namespace,
    arguments: list[str],
) -> dict[str, Any]:
    """Fit in a fresh process, so that its memory is counted alone."""
    with tempfile.TemporaryDirectory(prefix="neumap-bench-") as place:
        folder = Path(place)
        for part in PARTS:
            np.save(folder / f"{part}.npy", getattr(matrix, part))
        np.save(folder / "topics.npy", topics)
        command = [sys.executable, __file__, *arguments, "--folder", place]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fit and transform in this process; return seconds and peak memory."""
    from neumap import ParametricUMAP
    from neumap.estimators import PRESETS
    from neumap.metrics import knn_accuracy

    peaks = {"import": peak_bytes()}
    parts = [np.load(options.folder / f"{part}.npy") for part in PARTS]
    X = scipy.sparse.csr_matrix(tuple(parts), shape=(options.rows, options.columns))
    peaks["data"] = peak_bytes()
    preset = PRESETS[options.preset]
    shorter = options.steps / preset.steps(options.rows)
    preset = replace(preset, n_steps=max(1, round(preset.n_steps * shorter)))
    model = ParametricUMAP(metric=options.metric, preset=preset, random_state=options.seed)
    embedding = model.fit_transform(X)
    peaks["fit"] = peak_bytes()
    began = time.perf_counter()
    placed = model.transform(X)
    seconds = time.perf_counter() - began
    peaks["transform"] = peak_bytes()
    assert np.allclose(placed, embedding, atol=1e-3)
    report = model.report_
    topics = np.load(options.folder / "topics.npy")
    return {
        "rows": options.rows,
        "columns": options.columns,
        "filled": X.nnz / (options.rows * options.columns),
        "metric": options.metric,
        "topic_words": options.topic_words,
        "data_bytes": X.data.nbytes + X.indices.nbytes + X.indptr.nbytes,
        "peak_bytes": peaks,
        "seconds": {
            "neighbors": report["neighbor_seconds"],
            "graph": report["graph_seconds"],
            "training": report["training_seconds"],
            "fit": report["total_seconds"],
            "transform": seconds,
        },
        "steps": report["n_steps"],
        "neighbors": report["neighbors"],
        "neighbor_recall": report["neighbor_recall"],
        "topic_knn_accuracy": float(knn_accuracy(embedding, topics, n_neighbors=5)),
    }


if __name__ == "__main__":
    sys.exit(main())
