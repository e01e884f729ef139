"""The demonstration: digits mapped, digits never seen placed among them, and the scores of both.

It is also a complete example of the library's use, in the order of a real job: split, fit, place,
score, save, draw.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from neumap._optional import require
from neumap.cli.errors import CommandError
from neumap.cli.options import say
from neumap.cli.writing import Coordinates, check_output, write_coordinates

if TYPE_CHECKING:
    from neumap.estimators import ParametricUMAP

__all__ = ["run_demo"]

_QUICK: dict[str, Any] = {"preset": "fast"}
_SCORES = {
    "trustworthiness": "trustworthiness",
    "recall@15": "neighbour recall@15",
    "knn_accuracy": "5-NN accuracy",
}


def run_demo(output: Path, *, seed: int = 0, quick: bool = False, verbose: bool = False) -> None:
    """Fit scikit-learn's digits, print the scores and write map, model and coordinates.

    Parameters
    ----------
    output : Path
        Folder for ``map.png``, ``model.neumap`` and ``coordinates.csv``.
    seed : int, default 0
        Seed of the split and of the fit.
    quick : bool, default False
        Train for a fraction of the usual time.
    verbose : bool, default False
        Show progress on stderr.
    """
    _make_folder(output)
    say("loading libraries and digits", verbose)
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from neumap.estimators import ParametricUMAP

    X, digits = load_digits(return_X_y=True)
    train, held_out = train_test_split(
        np.arange(len(X)), test_size=0.2, stratify=digits, random_state=seed
    )

    started = time.perf_counter()
    settings = _QUICK if quick else {}
    model = ParametricUMAP(random_state=seed, verbose=verbose, **settings)
    Z_train = model.fit_transform(X[train])
    fitted = time.perf_counter()
    Z_held_out = model.transform(X[held_out])
    placed = time.perf_counter()

    click.echo(
        f"fitted {len(train):,} digits of {X.shape[1]} pixels in {fitted - started:.1f} seconds, "
        f"placed {len(held_out)} unseen ones in {placed - fitted:.3f} seconds"
    )
    parts = {"trained on": train, "held out": held_out}
    positions = {"trained on": Z_train, "held out": Z_held_out}
    click.echo(_score_table(X, digits, parts, positions))
    _write_results(output, model, digits, parts, positions)
    for name in ("map.png", "model.neumap", "coordinates.csv"):
        click.echo(output / name)


def _make_folder(output: Path) -> None:
    require("matplotlib", extra="plot")  # said before the work rather than after it
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{output}: cannot make this folder ({error.strerror})") from error
    check_output(output / "map.png", ())


def _score_table(
    X: np.ndarray,
    digits: np.ndarray,
    parts: dict[str, np.ndarray],
    positions: dict[str, np.ndarray],
) -> str:
    """Scores of the trained and of the held-out rows side by side."""
    from neumap import metrics

    train, held_out = parts["trained on"], parts["held out"]
    scores = metrics.scores(
        X[train],
        positions["trained on"],
        labels=digits[train],
        X_test=X[held_out],
        embedding_test=positions["held out"],
        labels_test=digits[held_out],
        n_samples=None,
    )
    lines = [f"{'':<22}{'trained on':>12}{'held out':>12}"]
    lines += [
        f"{title:<22}{scores[name]:>12.3f}{scores[f'test_{name}']:>12.3f}"
        for name, title in _SCORES.items()
    ]
    return "\n".join(lines)


def _write_results(
    output: Path,
    model: ParametricUMAP,
    digits: np.ndarray,
    parts: dict[str, np.ndarray],
    positions: dict[str, np.ndarray],
) -> None:
    model.save(output / "model.neumap")
    rows = np.concatenate(list(parts.values()))
    sizes = [len(part) for part in parts.values()]
    coordinates = Coordinates(
        np.concatenate(list(positions.values())),
        names=[str(name) for name in model.get_feature_names_out()],
        beside={"row": rows, "digit": digits[rows], "part": np.repeat(list(parts), sizes)},
    )
    write_coordinates(output / "coordinates.csv", coordinates)
    labels = {name: digits[part] for name, part in parts.items()}
    _draw(output / "map.png", positions, labels)


def _draw(file: Path, positions: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> None:
    """Draw the trained and the held-out rows as two panels of one scale."""
    from neumap import plots

    pyplot = require("matplotlib.pyplot", extra="plot")
    figure, panels = pyplot.subplots(1, 2, figsize=(12, 6))
    everywhere = np.concatenate(list(positions.values()))
    low, high = everywhere.min(axis=0), everywhere.max(axis=0)
    margin = 0.05 * (high - low)
    for axes, name in zip(panels, positions, strict=True):
        first = axes is panels[0]  # one legend serves both
        plots.points(positions[name], labels=labels[name], ax=axes, show_legend=first)
        axes.set_title(f"{len(positions[name]):,} digits, {name}")
        axes.set_aspect("equal", adjustable="box")
        axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    plots.save(figure, file, dpi=120)
    pyplot.close(figure)
