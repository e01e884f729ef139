"""Maps drawn to a file, for ``neumap plot`` and ``neumap demo``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neumap._optional import require
from neumap.cli import models
from neumap.cli.errors import CommandError
from neumap.cli.reading import read_table
from neumap.cli.table import Selection
from neumap.cli.writing import replacing

__all__ = ["draw", "from_coordinates", "from_model"]

# Names that neumap and umap-learn give to coordinates.
_COORDINATE = r"(?i)(parametric)?umap[ _-]?\d+"

Drawable = tuple[np.ndarray, np.ndarray | None]


def from_coordinates(source: Path, input: Path | None, selection: Selection) -> Drawable:
    """Positions and labels of a table of coordinates."""
    if input is not None:
        raise CommandError(f"{input}: a table of coordinates is drawn alone; leave INPUT out")
    table = read_table(source, replace(selection, preferred=_COORDINATE))
    return _drawable(table.rows, source), table.labels


def from_model(source: Path, input: Path | None, selection: Selection) -> Drawable:
    """Positions of the rows of ``input``, or of the training rows a model remembers."""
    model = models.load_model(source)
    if input is not None:
        table = models.read_rows_for(model, input, selection)
        return _drawable(model.transform(table.rows), source), table.labels
    positions = getattr(model, "embedding_", None)
    if positions is None:
        raise CommandError(f"{source}: this model keeps no positions; name the INPUT to place")
    if selection.label is not None:
        raise CommandError("--label-column needs the INPUT that has this column")
    return _drawable(positions, source), None


def draw(
    output: Path, positions: np.ndarray, labels: np.ndarray | None, *, theme: str | None = None
) -> None:
    """Write a picture, atomically; an ``.html`` one can be searched with the pointer."""
    from neumap import plots

    with replacing(output) as draft:
        if output.suffix.lower() == ".html":
            _write_html(draft, positions, labels, theme)
            return
        options: dict[str, Any] = {} if theme is None else {"theme": theme}
        axes = plots.points(positions, labels=labels, **options)
        axes.figure.savefig(draft, dpi=150, bbox_inches="tight")
        require("matplotlib.pyplot", extra="plot").close(axes.figure)


def _write_html(
    file: Path, positions: np.ndarray, labels: np.ndarray | None, theme: str | None
) -> None:
    raise NotImplementedError


def _drawable(positions: np.ndarray, source: Path) -> np.ndarray:
    if positions.shape[1] not in (2, 3):
        raise CommandError(
            f"{source}: expected 2 or 3 coordinates to draw; came {positions.shape[1]}; "
            "fit with --n-components 2, or name the columns that are no coordinates"
        )
    return positions
