"""From process start to the first position: neumap with torch, and the runtime without.

    python benchmarks/runtime.py                       # half a minute
    python benchmarks/runtime.py --model map.neumap    # a model of yours

Each way runs in fresh processes, which place one row and end. `seconds` are wall time of the whole
process, Python's start included; `cpu_seconds` its processor time; `peak_mb` its largest memory.
Ways alternate, so a change in the machine's speed affects all of them. `python` and `numpy` are the
floor: a process that does nothing, and one that imports NumPy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine
from lib.results import RESULTS, command, write
from lib.timing import spread

# `model`, `onnx` and `rows` are paths; each way leaves its positions in `placed`.
WAYS = {
    "python": "placed = None",
    "numpy": "import numpy; placed = None",
    "runtime": (
        "import numpy; from neumap import runtime\n"
        "placed = runtime.load(model).transform(numpy.load(rows))"
    ),
    "onnxruntime": (
        "import numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(onnx)\n"
        "placed = session.run(None, {'X': numpy.load(rows)})[0]"
    ),
    "neumap": "import numpy, neumap; placed = neumap.load(model).transform(numpy.load(rows))",
}
WATCHED = """
import json, time
status = open("/proc/self/status").read()
print(json.dumps({
    "placed": None if placed is None else placed.tolist(),
    "cpu_seconds": time.process_time(),
    "peak_mb": int(status.split("VmHWM:")[1].split()[0]) / 1024,
}))
"""


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result: dict[str, Any] = {
        "command": command("runtime.py", arguments),
        "machine": machine.describe(),
        "runs": [],
    }
    with tempfile.TemporaryDirectory(prefix="neumap-bench-") as folder:
        paths = prepare(Path(folder), options)
        result["model_bytes"] = Path(paths["model"]).stat().st_size
        for repeat in range(options.repeats):
            for way in options.ways:
                result["runs"].append({"repeat": repeat, "way": way, **start(way, paths)})
    result["summary"] = summarise(result["runs"])
    result["largest_difference"] = difference(result["runs"])
    write(result, options.output)
    for entry in result["summary"]:
        figures = (f"{name} {entry[name]['median']:.3g}" for name in FIGURES)
        print(f"{entry['way']}: {', '.join(figures)}")
    print(f"largest difference of positions: {result['largest_difference']:.1e}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    add("--model", type=Path, help="a saved model; by default one of the digits is fitted")
    add("--preset", default="default", help="of the model that is fitted")
    add("--repeats", type=int, default=7, help="fresh processes of each way")
    add("--output", type=Path, default=RESULTS / "runtime.json", metavar="FILE")
    return parser.parse_args(arguments)


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, str]:
    """Write model, ONNX file and one row; return their paths."""
    import neumap

    if options.model is None:
        from sklearn.datasets import load_digits

        X = load_digits().data.astype(np.float32)
        model: Any = neumap.ParametricUMAP(preset=options.preset, n_epochs=5, random_state=0).fit(X)
    else:
        model = neumap.load(options.model)
        X = model.inverse_transform(np.zeros((1, model.n_components), np.float32))
    np.save(folder / "row.npy", X[:1])
    paths = {"model": model.save(folder / "m.neumap", keep="network"), "rows": folder / "row.npy"}
    if "onnxruntime" in options.ways:
        paths["onnx"] = model.to_onnx(folder / "m.onnx")
    return {name: str(path) for name, path in paths.items()}


def start(way: str, paths: dict[str, str]) -> dict[str, Any]:
    """Run one way in a fresh process; return its figures and positions."""
    import time

    names = "".join(f"{name} = {path!r}\n" for name, path in paths.items())
    words = [sys.executable, "-c", names + WAYS[way] + WATCHED]
    began = time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return {"seconds": time.perf_counter() - began, **json.loads(done.stdout)}


FIGURES = ("seconds", "cpu_seconds", "peak_mb")


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the spread of each figure of each way."""
    ways = dict.fromkeys(run["way"] for run in runs)
    return [
        {"way": way, **{f: spread(r[f] for r in runs if r["way"] == way) for f in FIGURES}}
        for way in ways
    ]


def difference(runs: list[dict[str, Any]]) -> float:
    """Return the largest difference between positions of the same row."""
    placed = np.array([run["placed"] for run in runs if run["placed"] is not None])
    return float(np.ptp(placed, axis=0).max()) if len(placed) else 0.0


if __name__ == "__main__":
    sys.exit(main())
