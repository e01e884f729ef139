"""Draw the embeddings saved by ``run.py --maps`` next to each other.

python benchmarks/run.py --peers --mnist mnist.npz --no-digits --maps maps
python benchmarks/side_by_side.py maps mnist-10000-0 docs/figures/side_by_side.png

"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from neumap import plots

COLUMNS = 3

TITLES = {
    "umap": "umap-learn UMAP",
    "umap-parametric": "umap-learn ParametricUMAP",
    "neumap-free": "neumap UMAP",
    "neumap": "neumap ParametricUMAP",
    "neumap-fast": "ParametricUMAP, preset fast",
    "neumap-best": "ParametricUMAP, preset best",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("maps", type=Path, help="folder given to run.py --maps")
    parser.add_argument("run", help="data set and seed, such as mnist-10000-0")
    parser.add_argument("output", type=Path)
    options = parser.parse_args(arguments)
    files = {name: options.maps / f"{options.run}-{name}.npz" for name in TITLES}
    found = {name: file for name, file in files.items() if file.is_file()}
    if not found:
        parser.error(
            f"maps must contain files named {options.run}-METHOD.npz, got {options.maps} without "
            "any. Run benchmarks/run.py with --maps first."
        )
    draw(found, options.output)
    return 0


def draw(files: dict[str, Path], output: Path) -> None:
    """Write one picture with a panel per method, coloured by class."""
    mpl.use("Agg")
    from matplotlib.figure import Figure

    n_rows, n_columns = -(-len(files) // COLUMNS), min(len(files), COLUMNS)
    figure = Figure(figsize=(3.2 * n_columns, 3.0 * n_rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(n_rows, n_columns)).ravel()
    for ax in axes[len(files) :]:
        ax.remove()
    for ax, (name, file) in zip(axes, files.items(), strict=False):
        with np.load(file) as kept:
            plots.points(kept["embedding"], labels=kept["labels"], ax=ax, show_legend=False)
        ax.set_title(TITLES[name], fontsize=10)
    plots.save(figure, output, dpi=80)


if __name__ == "__main__":
    raise SystemExit(main())
