"""What a sample of anchors costs in quality: scores of maps by the number of anchors.

    python benchmarks/anchors.py --mnist mnist.npz                      # hours
    python benchmarks/anchors.py --sets rare --anchors 1600 --seeds 1   # a minute

Each set is fitted with the neighbours of every row, and then with those of some rows, by the same
seeds. The sets are MNIST (60,000 x 784), the mixture in `lib/data.py`, a hard set (each MNIST image
four times under small random affine maps, 50 principal components) and a set with rare groups (of
20, 50 and 200 rows among the others). Scores are those of training rows and of held-out rows; for
rare groups, the share of a row's five nearest on the map that are of its group. Results are written
after every fit, so an interrupted run keeps what was done.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.data import Split, mixture, mnist
from lib.results import RESULTS, command, write
from numpy.typing import NDArray

SETS = ("mnist", "mixture", "hard", "rare")
N_SCORED = 2_000
RARE_SIZES = (20, 50, 200)
N_RARE_EACH = 10
HELD_OUT = ("test_knn_accuracy", "test_recall@15", "test_trustworthiness")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("anchors.py", arguments),
        "machine": machine.describe(),
        "runs": [],
        "summary": {},
    }
    for name in options.sets:
        if name in ("mnist", "hard") and options.mnist is None:
            print(f"{name}: left out, pass --mnist", file=sys.stderr)
            continue
        for seed in range(options.seeds):
            data = draw(name, options, seed)
            for n_anchors in (None, *options.anchors):
                if n_anchors is None or n_anchors < len(data.X_train):
                    result["runs"].append(measure(name, data, n_anchors, seed, options.preset))
                    result["summary"] = summarise(result["runs"])
                    write(result, options.output)
                    print(line(result["runs"][-1]), flush=True)
    for name, entries in result["summary"].items():
        for entry in entries:
            print(name, entry["n_anchors"], entry["mean"])
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--mnist", type=Path, default=None, metavar="FILE")
    add("--sets", nargs="+", choices=SETS, default=list(SETS))
    add("--anchors", type=int, nargs="+", default=[10_000, 20_000, 50_000], metavar="N")
    add("--rows", type=int, default=None, help="training rows of each set; by default its own")
    add("--seeds", type=int, default=3)
    add("--preset", default="default")
    add("--output", type=Path, default=RESULTS / "anchors.json", metavar="FILE")
    return parser.parse_args(arguments)


def draw(name: str, options: argparse.Namespace, seed: int) -> Split:
    if name == "mnist":
        return mnist(options.mnist, options.rows or 60_000, seed)
    if name == "mixture":
        return mixture(options.rows or 200_000, seed)
    if name == "hard":
        return hard(options.mnist, options.rows or 240_000, seed)
    return rare(options.rows or 30_000, seed)


def hard(path: Path, n_rows: int, seed: int) -> Split:
    """Images under random affine maps, in 50 principal components of the images themselves."""
    from scipy.ndimage import affine_transform
    from sklearn.decomposition import PCA

    images = mnist(path, 60_000, seed)
    rng = np.random.default_rng([seed, 4])
    pca = PCA(50, random_state=seed).fit(images.X_train[:20_000])

    def bent(X: NDArray[np.float32], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = np.empty((len(numbers), 50), dtype=np.float32)
        for start in range(0, len(numbers), 4096):
            part = numbers[start : start + 4096]
            maps = np.eye(2) + rng.normal(scale=0.12, size=(len(part), 2, 2))
            moved = [
                affine_transform(X[i].reshape(28, 28), m, offset=13.5 - m @ [13.5, 13.5], order=1)
                for i, m in zip(part, maps, strict=True)
            ]
            rows[start : start + 4096] = pca.transform(np.stack(moved).reshape(len(part), -1))
        return rows

    numbers = np.arange(n_rows) % len(images.X_train)
    held_out = np.arange(len(images.X_test))
    return Split(
        "hard",
        bent(images.X_train, numbers),
        images.y_train[numbers],
        bent(images.X_test, held_out),
        images.y_test,
    )


def rare(n_rows: int, seed: int) -> Split:
    """Ten large groups and thirty small ones, of normal rows in 16 columns."""
    rng = np.random.default_rng([seed, 20])
    sizes = np.repeat(RARE_SIZES, N_RARE_EACH)
    large = rng.integers(10, size=n_rows - sizes.sum())
    labels = rng.permutation(np.concatenate([large, np.repeat(10 + np.arange(len(sizes)), sizes)]))
    centres = rng.normal(scale=3.0, size=(10 + len(sizes), 16))
    of_test = rng.integers(10 + len(sizes), size=N_SCORED)

    def around(y: NDArray[np.int64]) -> NDArray[np.float32]:
        return (centres[y] + rng.normal(size=(len(y), 16))).astype(np.float32)

    return Split(f"rare-{n_rows}", around(labels), labels, around(of_test), of_test)


def measure(
    name: str, data: Split, n_anchors: int | None, seed: int, preset: str
) -> dict[str, Any]:
    from neumap import ParametricUMAP, metrics

    began = time.process_time()
    model = ParametricUMAP(preset=preset, random_state=seed, n_anchors=n_anchors)
    embedding = model.fit_transform(data.X_train)
    seconds = time.process_time() - began
    scores = metrics.scores(
        data.X_train,
        embedding,
        labels=data.y_train,
        n_samples=N_SCORED,
        X_test=data.X_test,
        embedding_test=model.transform(data.X_test),
        labels_test=data.y_test,
    )
    if name == "rare":
        scores |= kept_groups(embedding, data.y_train)
    return {
        "set": data.name,
        "rows": len(data.X_train),
        "seed": seed,
        "n_anchors": n_anchors,
        "scores": {key: round(float(value), 5) for key, value in scores.items()},
        "processor_seconds": seconds,
        "steps": model.report_["n_steps"],
        "edges": model.report_["n_edges"],
        "neighbors": model.report_["neighbors"],
        "neighbor_recall": model.report_["neighbor_recall"],
    }


def kept_groups(embedding: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """Share of the five nearest on the map that are of a row's group, and groups that are lost."""
    from neumap.neighbors import find_neighbors

    near = find_neighbors(embedding, 6).indices[:, 1:]
    same = (labels[near] == labels[:, None]).mean(axis=1)
    found = {}
    for place, size in enumerate(RARE_SIZES):
        first = 10 + place * N_RARE_EACH
        shares = [same[labels == first + number].mean() for number in range(N_RARE_EACH)]
        found[f"share_of_{size}"] = float(np.mean(shares))
        found[f"lost_of_{size}"] = float(np.sum(np.array(shares) < 0.5))
    return found


def summarise(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return means over the seeds, and how far held-out means are from those of all rows."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in dict.fromkeys(run["set"] for run in runs):
        ours = [run for run in runs if run["set"] == name]
        entries = []
        for n_anchors in dict.fromkeys(run["n_anchors"] for run in ours):
            scores = [run["scores"] for run in ours if run["n_anchors"] == n_anchors]
            mean = {key: float(np.mean([one[key] for one in scores])) for key in scores[0]}
            entry = {"n_anchors": n_anchors, "n_seeds": len(scores), "mean": mean}
            if entries:
                usual = entries[0]["mean"]
                entry["held_out_less_all_rows"] = {k: mean[k] - usual[k] for k in HELD_OUT}
            entries.append(entry)
        found[name] = entries
    return found


def line(run: dict[str, Any]) -> str:
    scores = run["scores"]
    kept = {
        k: round(scores[k], 3) for k in (*HELD_OUT, "knn_accuracy", "lost_of_20") if k in scores
    }
    return f"{run['set']} seed {run['seed']} anchors {run['n_anchors']}: {kept}"


if __name__ == "__main__":
    sys.exit(main())
