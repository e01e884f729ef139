"""One method on one data set in a fresh process, so that imports, compilation and memory count.

Run by ``processes.py`` as ``python -m lib.child METHOD FOLDER OPTIONS``. FOLDER holds ``train.npy``
and ``test.npy``; the process adds ``train_embedding.npy``, ``test_embedding.npy`` and
``stages.json`` (seconds, bytes and rows per second).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from lib.methods import METHODS, Method

N_REPEATS = 5  # of transform, or fewer after this many seconds:
REPEAT_SECONDS = 5.0
# Taken from neumap's report: the neighbour search and the length of training.
REPORTED = ("neighbors", "neighbor_recall", "n_edges", "n_steps")


def main(name: str, folder: Path, options: dict[str, Any]) -> None:
    method = METHODS[name]
    began = time.perf_counter()
    method.load()
    import_seconds = time.perf_counter() - began

    import numpy as np  # not earlier: its import belongs to that of the method

    X, X_test = np.load(folder / "train.npy"), np.load(folder / "test.npy")
    bytes_before = peak_bytes()
    estimator, embedding, seconds = timed_fit(method, X, options["random_state"])
    result: dict[str, Any] = {
        "seconds": {"import": import_seconds, **seconds},
        "bytes": {"before_fit": bytes_before, "peak": peak_bytes(), "data": X.nbytes},
        "versions": versions(method.packages),
    }
    if hasattr(estimator, "report_"):
        result["report"] = {name: estimator.report_.get(name) for name in REPORTED}
    embedding_test, result["transform"] = timed_transform(estimator, X_test)
    if hasattr(estimator, "encoder_"):
        result["transform"] |= encoder_rates(estimator, X)
    if options["warm"]:
        _, _, warm = timed_fit(method, X, options["random_state"])
        result["seconds"]["warm_fit"] = warm["fit"]

    np.save(folder / "train_embedding.npy", embedding)
    np.save(folder / "test_embedding.npy", embedding_test)
    (folder / "stages.json").write_text(json.dumps(result), encoding="utf-8")


def timed_fit(
    method: Method, X: Any, random_state: int | None
) -> tuple[Any, Any, dict[str, float]]:
    """Return the estimator, the positions, and the seconds of each stage."""
    estimator = method.make(random_state)
    began = time.perf_counter()
    embedding = estimator.fit_transform(X)
    fit = time.perf_counter() - began
    stages = method.stages(estimator)
    return estimator, embedding, {**stages, "training": fit - sum(stages.values()), "fit": fit}


def timed_transform(estimator: Any, X: Any) -> tuple[Any, dict[str, float]]:
    """Return positions, the seconds of the first call and the median of later calls."""
    seconds: list[float] = []
    while len(seconds) < N_REPEATS + 1 and sum(seconds) < REPEAT_SECONDS:
        began = time.perf_counter()
        embedding = estimator.transform(X)
        seconds.append(time.perf_counter() - began)
    later = sorted(seconds[1:] or seconds)
    warm = later[len(later) // 2]
    return embedding, {"first": seconds[0], "warm": warm, "rows_per_second": len(X) / warm}


def encoder_rates(estimator: Any, X: Any) -> dict[str, float]:
    """Return rows per second of ``transform`` and of the bare network on all training rows."""
    import torch

    module = estimator.encoder_
    device = next(module.parameters()).device

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, len(X), 8192):
                module(torch.from_numpy(X[start : start + 8192]).to(device)).cpu()

    def best_of_three(call: Any) -> float:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    rates = {"all": best_of_three(lambda: estimator.transform(X)), "bare": best_of_three(bare)}
    return {f"{name}_rows_per_second": len(X) / spent for name, spent in rates.items()}


def peak_bytes() -> int:
    """Return the largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux keeps ru_maxrss across exec, so it would show the parent's size here. VmHWM starts
        # anew.
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def forget_peak() -> bool:
    """Reset the peak of the resident size to the present size; works on Linux only."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of Python and of the installed packages among these."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
