"""Draw maps to files, for ``neumap plot``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from neumap._optional import require
from neumap.cli import models
from neumap.cli.arrays import split_key
from neumap.cli.compressed import ending_of
from neumap.cli.errors import CommandError
from neumap.cli.reading import WITHOUT_COLUMNS, read_table
from neumap.cli.table import Selection, Table

if TYPE_CHECKING:
    from neumap.estimators import ParametricUMAP

__all__ = ["Map", "draw", "from_coordinates", "from_model", "rows_and_texts"]

# Names that neumap and umap-learn give to coordinates.
COORDINATE = r"(?i)(parametric)?umap[ _-]?\d+"


@dataclass(frozen=True)
class Map:
    """Positions to draw, with the label and the name of each point if known."""

    positions: NDArray[Any]
    labels: NDArray[Any] | None = None
    ids: NDArray[Any] | None = None


def from_coordinates(
    source: Path, input: Path | None, selection: Selection, names: Sequence[str] | None = None
) -> Map:
    """Take positions, labels and ids from a table of coordinates.

    The coordinates are the columns of these names; by default those with neumap's own names, or all
    columns.
    """
    if input is not None:
        raise CommandError(
            f"INPUT must be empty for a table of coordinates, got {input}. Leave it out."
        )
    wanted = None if names is None else tuple(names)
    table = read_table(source, replace(selection, preferred=COORDINATE, wanted=wanted))
    return Map(_drawable(table.rows, source), table.labels, table.ids)


def from_model(source: Path, input: Path | None, selection: Selection) -> Map:
    """Embed the rows of ``input``, or take the coordinates of the training rows."""
    model = models.load_model(source)
    if input is not None:
        table = models.read_rows_for(model, input, selection)
        return Map(_drawable(models.place(model, table), source), table.labels, table.ids)
    positions = getattr(model, "embedding_", None)
    if positions is None:
        raise CommandError(
            f"{source}: the model must hold coordinates, got none. Give the INPUT to embed."
        )
    if selection.label is not None:
        raise CommandError("--label-column needs INPUT, got none. Give the table with this column.")
    return Map(_drawable(positions, source))


def rows_and_texts(
    model: ParametricUMAP, input: Path, selection: Selection, text_column: str | None
) -> tuple[Table, NDArray[Any] | None]:
    """Return the rows of ``input`` for a model, and their texts: a column, or else the ids."""
    if text_column is None:
        table = models.read_rows_for(model, input, selection)
        return table, table.ids
    # A table is read with one column of names; that of the ids is no feature either.
    others = selection.ignored
    if selection.id is not None and ending_of(split_key(input)[0]) not in WITHOUT_COLUMNS:
        others += (selection.id,)
    table = models.read_rows_for(model, input, replace(selection, id=text_column, ignored=others))
    return table, table.ids


def draw(output: Path, drawn: Map, theme: str | None = None) -> None:
    """Write a picture, or an interactive page for ``.html``, completely or not at all."""
    from neumap import plots

    continuous = _continuous(drawn.labels)
    classes, values = (None, drawn.labels) if continuous else (drawn.labels, None)
    if output.suffix.lower() == ".html":
        hover = None if drawn.ids is None else {"id": drawn.ids}
        page = plots.interactive(drawn.positions, classes, values, hover, theme=theme)
        plots.save(page, output)
        return
    axes = plots.points(drawn.positions, classes, values, theme=theme)
    plots.save(axes, output)
    require("matplotlib.pyplot", extra="plot").close(axes.figure)


def _continuous(labels: NDArray[Any] | None) -> bool:
    """Return whether labels are measurements and not classes."""
    return labels is not None and labels.dtype.kind == "f" and bool((labels % 1 != 0).any())


def _drawable(positions: NDArray[Any], source: Path) -> NDArray[Any]:
    if positions.shape[1] not in (2, 3):
        raise CommandError(
            f"{source}: the map must have 2 or 3 coordinates, got {positions.shape[1]}. "
            "Fit with --n-components 2, or name the columns that are no coordinates."
        )
    return positions
