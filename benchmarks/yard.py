"""Map quality on data sets on which nothing was tuned, beside umap-learn's UMAP.

    python benchmarks/yard.py --mnist mnist.npz --peers     # all sets, three seeds, resumable
    python benchmarks/yard.py --sets density tree --methods neumap --variant noise0 \
        --preset-override input_noise=0                            # try a preset on validation rows
    python benchmarks/yard.py --sets density --methods neumap --variant long \
        --preset-override n_steps=2400 STEP_GROWTH=0.4            # capitals: a constant of presets
    python benchmarks/yard.py --jobs-list                          # fits that remain, numbered
    python benchmarks/yard.py --job 3                              # compute one of them
    python benchmarks/yard.py --table --rows-for test              # Markdown, and missed targets
    python benchmarks/yard.py --pictures maps                      # one PNG per set
    python benchmarks/yard.py --sets tree --methods pacmap         # other libraries: peers_maps.txt

Each (set, method, seed) is one line of `--output`; lines that are there are not computed again. A
fit is scored with validation rows, by which settings are chosen, or with test rows, which are
reported (`--rows-for both` gives one line for each from one fit). Fits run in this process: a small
fit before the first one takes compilation out of the seconds, and `peak_bytes` is that of the fit
alone where Linux can reset it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import time
import warnings
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lib import machine, yard_report
from lib.child import forget_peak, peak_bytes, versions
from lib.map_scores import score
from lib.peers import PEERS, Peer
from lib.results import RESULTS
from lib.sets import SETS, Rows, Sources, YardSet, available, load

HELD_OUT: tuple[Rows, ...] = ("validation", "test")
# Class of neumap and preset.
OURS = {
    "neumap": ("ParametricUMAP", "default"),
    "neumap-fast": ("ParametricUMAP", "fast"),
    "neumap-best": ("ParametricUMAP", "best"),
    "neumap-free": ("UMAP", ""),
}
METHODS = [*OURS, "umap", *PEERS]
PACKAGES = (
    *("neumap", "torch", "numpy", "scipy", "scikit-learn", "umap-learn", "pynndescent"),
    *("pacmap", "parampacmap", "openTSNE", "contrastive-ne", "torchdr"),
)


@dataclass(frozen=True)
class Job:
    """One fit."""

    data: str
    method: str
    seed: int


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.table:
        rows = [row for row in read(options.output) if row["set"] in options.sets]
        print(yard_report.report(rows, options.rows_for, options.shown_variant, options.compact))
        return 0
    if options.pictures is not None:
        draw_all(options)
        return 0
    # Numbers are those of the whole list, so that they do not change while other processes work.
    jobs = dict(enumerate(all_jobs(options)))
    if options.job is not None:
        jobs = {number: jobs[number] for number in options.job}
    jobs = remaining(jobs, options)
    if options.jobs_list:
        print("\n".join(f"{k} {job.data} {job.method} {job.seed}" for k, job in jobs.items()))
        return 0
    for job in jobs.values():
        for row in run(job, options):
            append(row, options.output)
            print(yard_report.line(row), flush=True)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sets", nargs="+", metavar="SET", help=f"default: all of {', '.join(SETS)}, mnist-N")
    add("--methods", nargs="+", choices=METHODS, help="default: those of neumap")
    add("--peers", action="store_true", help="add umap-learn's UMAP to the methods")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--rows-for", choices=[*HELD_OUT, "both"], default="validation")
    add("--mnist", type=Path, default=os.environ.get("NEUMAP_MNIST"), metavar="FILE")
    add("--shipped", type=Path, metavar="DIR", help="keeps texts and cells of installed packages")
    add("--output", type=Path, default=RESULTS / "yard.jsonl")
    add("--variant", default="", help="name of these settings in the output, with overrides")
    add("--preset-override", nargs="*", default=[], metavar="FIELD=VALUE")
    add("--parameter", nargs="*", default=[], metavar="NAME=VALUE", help="of neumap's estimator")
    add("--jobs-list", action="store_true", help="number the fits that remain")
    add("--job", nargs="+", type=int, metavar="K", help="compute only the fits of these numbers")
    add("--table", action="store_true", help="print the results as Markdown")
    add("--shown-variant", default="", help="with --table: the variant whose targets are checked")
    add("--compact", choices=METHODS, help="with --table: one line per set for this method")
    add("--pictures", type=Path, metavar="DIR", help="fit and draw every set of the first seed")
    add("--maps", type=Path, metavar="DIR", help="keep positions here, for --pictures")
    add("--ringed", type=int, default=150, help="with --pictures: held-out rows that are shown")
    options = parser.parse_args(arguments)
    if bool(options.variant) != bool(options.preset_override or options.parameter):
        parser.error("--variant must name the overrides, and only them. Pass both or neither.")
    options.sources = Sources(options.mnist and Path(options.mnist), options.shipped)
    if options.sets is None:
        options.sets = [row["set"] for row in read(options.output)] if options.table else []
        options.sets = options.sets or available(options.sources)
    if options.methods is None:
        options.methods = list(OURS)
    if options.peers and "umap" not in options.methods:
        options.methods.append("umap")
    return options


def all_jobs(options: argparse.Namespace) -> list[Job]:
    return [
        Job(data, method, seed)
        for data in options.sets
        for seed in options.seeds
        for method in options.methods
    ]


def remaining(jobs: dict[int, Job], options: argparse.Namespace) -> dict[int, Job]:
    """Return the fits whose lines are not all in the output."""
    keys = ("set", "method", "seed", "variant", "rows")
    done = {tuple(row[key] for key in keys) for row in read(options.output)}
    return {
        number: job
        for number, job in jobs.items()
        if any(
            (*astuple(job), variant_of(job.method, options), rows) not in done
            for rows in wanted(options)
        )
    }


def wanted(options: argparse.Namespace) -> tuple[Rows, ...]:
    return HELD_OUT if options.rows_for == "both" else (options.rows_for,)


def variant_of(method: str, options: argparse.Namespace) -> str:
    return options.variant if method in OURS else ""


def read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def append(row: dict[str, Any], path: Path) -> None:
    """Add a line; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def run(job: Job, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Fit once and return one line for each group of held-out rows."""
    data = load(job.data, job.seed, options.sources)
    warm_up(job.method, data)
    fitted, cost = timed_fit(job, data, options)
    if options.maps is not None:
        keep(data, fitted, kept(job, options))
    rows = []
    for held_out in wanted(options):
        X_held_out, _ = data.held_out[held_out]
        began = time.perf_counter()
        placed = fitted.transform(X_held_out)
        transform_seconds = time.perf_counter() - began
        rows.append(
            {
                "set": job.data,
                "method": job.method,
                "variant": variant_of(job.method, options),
                "seed": job.seed,
                "rows": held_out,
                "n_train": data.X_train.shape[0],
                "n_features": data.X_train.shape[1],
                "fingerprint": data.fingerprint(),
                "scores": score(data, held_out, np.asarray(fitted.embedding_), placed),
                **cost,
                "transform_seconds": round(transform_seconds, 3),
                "overrides": [*options.preset_override, *options.parameter]
                if variant_of(job.method, options)
                else [],
                "cpu": machine.cpu_model(),
                "cores": machine.usable_cores(),
                "versions": versions(PACKAGES),
            }
        )
    return rows


def timed_fit(job: Job, data: YardSet, options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the fitted estimator, its seconds and the peak memory of the fit."""
    estimator = make(job.method, job.seed, data.metric, options)
    forget_peak()
    wall, processor = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(data.X_train)
    cost: dict[str, Any] = {
        "fit_seconds": round(time.perf_counter() - wall, 3),
        "fit_cpu_seconds": round(time.process_time() - processor, 3),
        "peak_bytes": peak_bytes(),
    }
    if hasattr(estimator, "report_"):
        cost["n_steps"] = estimator.report_.get("n_steps")
    return estimator, cost


def make(method: str, seed: int, metric: str, options: argparse.Namespace | None = None) -> Any:
    """Return an estimator that has not been fitted."""
    if method in PEERS:
        return Peer(PEERS[method], seed)
    if method == "umap":
        import umap

        return umap.UMAP(random_state=seed, metric=metric, n_jobs=1)
    import neumap
    from neumap.estimators import PRESETS

    overrides = [] if options is None else options.preset_override
    parameters = dict(map(pair, [] if options is None else options.parameter))
    name, preset = OURS[method]
    if name == "ParametricUMAP":
        parameters = {"preset": overridden(PRESETS[preset], overrides)} | parameters
    return getattr(neumap, name)(random_state=seed, metric=metric, **parameters)


def overridden(preset: Any, overrides: list[str]) -> Any:
    """Return the preset with fields replaced; names in capitals are constants of its module."""
    from neumap.estimators.positions import presets

    for name, value in map(pair, overrides):
        if name.startswith("softening."):
            parts = asdict(preset.softening) | {name.partition(".")[2]: value}
            preset = replace(preset, softening=type(preset.softening)(**parts))
        elif name.isupper():
            if not hasattr(presets, name):
                raise SystemExit(f"--preset-override must name a constant or field, got {name}.")
            setattr(presets, name, value)
        else:
            preset = replace(preset, **{name: tuple(value) if isinstance(value, list) else value})
    return preset


def pair(text: str) -> tuple[str, Any]:
    """Return name and value of `name=value`; a value that is no literal is a word or a product."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        # "[256]*6", typed by the user
        return name, eval(value) if "*" in value else value


# umap-learn compiles other functions beyond this number of rows.
EXACT_ROWS = 4_096
WARM: set[tuple[str, str, bool]] = set()


def warm_up(method: str, data: YardSet) -> None:
    """Fit and transform random rows once, so that compilation is not in the seconds."""
    is_large = method == "umap" and data.X_train.shape[0] > EXACT_ROWS
    if method in PEERS or (method, data.metric, is_large) in WARM:
        return
    WARM.add((method, data.metric, is_large))
    n_rows = EXACT_ROWS + 1 if is_large else 200
    X = np.random.default_rng(0).normal(size=(n_rows, 10)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = make(method, 0, data.metric).set_params(n_epochs=30).fit(X)
        estimator.transform(X[:20])


def draw_all(options: argparse.Namespace) -> None:
    """Draw every set with each method side by side; positions are kept in the folder `--maps`."""
    options.pictures.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        data = load(name, options.seeds[0], options.sources)
        maps = {}
        for method in options.methods:
            job = Job(name, method, options.seeds[0])
            file = kept(job, options)
            if not file.is_file():
                warm_up(method, data)
                keep(data, timed_fit(job, data, options)[0], file)
            with np.load(file) as positions:
                maps[method] = (positions["embedding"], positions["placed"])
        picture = options.pictures / f"yard_{name.replace('-', '_')}.png"
        yard_report.draw(data, maps, picture, options.ringed)
        print(name, flush=True)


def kept(job: Job, options: argparse.Namespace) -> Path:
    """Return the file of a fit's positions."""
    variant = variant_of(job.method, options)
    label = job.method + (f"-{variant}" if variant else "")
    folder: Path = options.maps or options.pictures
    return folder / f"{job.data}-{job.seed}-{label}.npz"


def keep(data: YardSet, fitted: Any, file: Path) -> None:
    """Write the positions of training rows and validation rows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    placed = fitted.transform(data.held_out["validation"][0])
    placed = np.empty((0, 2)) if placed is None else placed
    np.savez_compressed(file, embedding=fitted.embedding_, placed=placed)


if __name__ == "__main__":
    raise SystemExit(main())
