"""Attacks on model files, and their outcomes.

    python benchmarks/attack.py                  # some minutes
    python benchmarks/attack.py --tries 3000     # as many as were tried on version 0.1

Damaged files have flipped bits or are cut. Forged ones have another document or header under valid
checksums. Kills end a process while it saves. Columns: an ArchiveError, a model that is equal (for
forged files: that works), other numbers, any other error, and the slowest of them in seconds. Other
numbers of damaged files, other errors and lost models must be 0; then the exit code is 0.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import neumap
from neumap.archive import ArchiveError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from test_archive_forged import forge, mutate
from test_forged_models import SAVES, rows, with_a_table, with_everything

COLUMNS = ("kind", "tries", "ArchiveError", "equal", "other numbers", "other errors", "slowest s")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=300)
    parser.add_argument("--kills", type=int, default=40)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    rng = random.Random(0)
    n_bad = 0
    print(("{:<18}" + "{:>14}" * 6).format(*COLUMNS))
    with tempfile.TemporaryDirectory(prefix="neumap-attack-") as place:
        for name, make in (("network", with_everything), ("table", with_a_table)):
            file = make().save(Path(place, f"{name}.neumap"))
            for kind, attack in (("damaged", damaged), ("forged", forged)):
                counts = attempt(file, lambda f, t, a=attack: a(f, t, rng), options.tries)
                n_bad += counts["other errors"]
                n_bad += counts["other numbers"] if kind == "damaged" else 0
                show(f"{kind} {name}", options.tries, counts)
        if os.name == "posix":
            counts = kill(Path(place, "network.neumap"), options.kills, rng)
            n_bad += counts["other errors"] + counts["other numbers"] + counts["ArchiveError"]
            show("killed saves", options.kills, counts)
    return min(n_bad, 1)


def show(kind: str, tries: int, counts: dict[str, Any]) -> None:
    values = [counts[name] for name in COLUMNS[2:-1]]
    print(("{:<18}" + "{:>14}" * 5 + "{:>14.2f}").format(kind, tries, *values, counts["slowest s"]))


def nothing_yet() -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS[2:-1], 0), "slowest s": 0.0}


def attempt(file: Path, attack: Callable[[Path, Path], None], tries: int) -> dict[str, Any]:
    expected = positions(file)
    counts = nothing_yet()
    target = file.with_name("attacked.neumap")
    for _ in range(tries):
        attack(file, target)
        found, seconds = outcome(target, expected)
        counts[found] += 1
        counts["slowest s"] = max(counts["slowest s"], seconds)
    return counts


def positions(file: Path) -> Any:
    return neumap.load(file, device="cpu").transform(rows(4))


def outcome(file: Path, expected: Any) -> tuple[str, float]:
    """What came of a file, and the seconds of its load."""
    began = time.perf_counter()
    model: Any = None
    found = ""
    try:
        model = neumap.load(file, device="cpu")
    except ArchiveError:
        found = "ArchiveError"
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        found = "other errors"
    seconds = time.perf_counter() - began
    return (found or transformed(model, expected)), seconds


def transformed(model: Any, expected: Any) -> str:
    try:
        placed = model.transform(rows(4))
    except ValueError:  # in words, such as an unknown metric
        return "other numbers"
    except Exception as error:
        print(f"transform: {type(error).__name__}: {error}", file=sys.stderr)
        return "other errors"
    return "equal" if np.array_equal(placed, expected, equal_nan=True) else "other numbers"


def damaged(file: Path, target: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)) :]
    else:
        for _ in range(rng.choice([1, 1, 5])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    target.write_bytes(content)


def forged(file: Path, target: Path, rng: random.Random) -> None:
    def change(body: dict[str, Any]) -> None:
        part = body["metadata"]["estimator"]["fitted"]
        for _ in range(rng.choice([1, 1, 3])):
            inside = isinstance(part, dict) and part and rng.random() < 0.7
            if inside or body:
                mutate(part if inside else body, rng)

    forge(file, target, change)


def kill(file: Path, tries: int, rng: random.Random) -> dict[str, Any]:
    counts = nothing_yet()
    expected = positions(file)
    command = [sys.executable, "-c", SAVES]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as saves:
        for _ in range(tries):
            print(file, file=saves.stdin, flush=True)
            process = int(saves.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(process, signal.SIGKILL)
            saves.stdout.readline()
            counts[outcome(file, expected)[0]] += 1
        saves.stdin.close()
    return counts


if __name__ == "__main__":
    sys.exit(main())
