"""The demonstration: map digits, embed unseen digits, and score both.

It is also a complete example of how to use the library, in the order of a real task: split, fit,
transform, score, save, draw.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.cli.errors import CommandError
from neumap.cli.options import say
from neumap.cli.writing import Coordinates, check_output, write_coordinates

if TYPE_CHECKING:
    from neumap.estimators import ParametricUMAP

__all__ = ["run_demo"]

QUICK: dict[str, Any] = {"preset": "fast"}
SCORES = {
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
    seed : int, default=0
        Random seed of the split and of the fit.
    quick : bool, default=False
        Use the preset ``"fast"``.
    verbose : bool, default=False
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
    settings = QUICK if quick else {}
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
    require("matplotlib", extra="plot")  # a missing package must be reported before the work
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{output}: cannot create this folder ({error.strerror})") from error
    check_output(output / "map.png", ())


def _score_table(
    X: NDArray[Any],
    digits: NDArray[Any],
    parts: dict[str, NDArray[Any]],
    positions: dict[str, NDArray[Any]],
) -> str:
    """Return a table with the scores of the training rows and of the held-out rows."""
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
        for name, title in SCORES.items()
    ]
    return "\n".join(lines)


def _write_results(
    output: Path,
    model: ParametricUMAP,
    digits: NDArray[Any],
    parts: dict[str, NDArray[Any]],
    positions: dict[str, NDArray[Any]],
) -> None:
    model.save(output / "model.neumap")
    rows = np.concatenate(list(parts.values()))
    sizes = [len(part) for part in parts.values()]
    coordinates = Coordinates(
        np.concatenate(list(positions.values())),
        names=[str(name) for name in model.get_feature_names_out()],
        columns={"row": rows, "digit": digits[rows], "part": np.repeat(list(parts), sizes)},
    )
    write_coordinates(output / "coordinates.csv", coordinates)
    labels = {name: digits[part] for name, part in parts.items()}
    _draw(output / "map.png", positions, labels)


def _draw(file: Path, positions: dict[str, NDArray[Any]], labels: dict[str, NDArray[Any]]) -> None:
    """Draw the training rows and the held-out rows as two panels with the same scale."""
    from neumap import plots

    pyplot = require("matplotlib.pyplot", extra="plot")
    figure, panels = pyplot.subplots(1, 2, figsize=(12, 6))
    everywhere = np.concatenate(list(positions.values()))
    low, high = everywhere.min(axis=0), everywhere.max(axis=0)
    margin = 0.05 * (high - low)
    for axes, name in zip(panels, positions, strict=True):
        first = axes is panels[0]  # both panels share one legend
        plots.points(positions[name], labels=labels[name], ax=axes, show_legend=first)
        axes.set_title(f"{len(positions[name]):,} digits, {name}")
        axes.set_aspect("equal", adjustable="box")
        axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    plots.save(figure, file, dpi=120)
    pyplot.close(figure)
