"""Models on the command line: create them from options, load them, and read tables for them."""

from __future__ import annotations

import difflib
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neumap.cli.errors import CommandError, message_of
from neumap.cli.reading import READABLE, read_table
from neumap.cli.table import Selection, Table
from neumap.cli.writing import Coordinates, check_output

if TYPE_CHECKING:
    from neumap.estimators import ParametricUMAP

__all__ = [
    "check_model_output",
    "coordinates_of",
    "fit_input",
    "is_table",
    "load_model",
    "make_model",
    "place",
    "read_rows_for",
    "targets_of",
    "write_model",
]


def make_model(settings: Mapping[str, Any], assignments: Sequence[str]) -> ParametricUMAP:
    """Create an unfitted model from options and from ``name=value`` pairs.

    Parameters
    ----------
    settings : mapping of str to value
        Parameters of :class:`neumap.ParametricUMAP`; those that are None keep their defaults.
    assignments : sequence of str
        Further parameters, such as ``"spread=1.5"``. Values are parsed as JSON, else taken as
        text.
    """
    from neumap.estimators import ParametricUMAP

    chosen = {name: value for name, value in settings.items() if value is not None}
    chosen |= dict(_assignment(text) for text in assignments)
    known = list(inspect.signature(ParametricUMAP).parameters)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " See help(neumap.ParametricUMAP)."
        raise CommandError(
            f"--set must name a parameter of ParametricUMAP, got {unknown[0]!r}.{hint}"
        )
    return ParametricUMAP(**chosen)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise CommandError(f"--set must be NAME=VALUE, got {text!r}. Write --set spread=1.5.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def load_model(path: Path) -> ParametricUMAP:
    """Load a saved model."""
    if not path.exists():
        raise CommandError(f"{path}: no such model file")
    if is_table(path):
        raise CommandError(
            f"{path}: the model must be a file of 'neumap fit', got a table. "
            "Run 'neumap fit' first."
        )
    from neumap.estimators import load_ParametricUMAP

    return load_ParametricUMAP(path)


def write_model(model: ParametricUMAP, path: Path) -> None:
    """Save a fitted model; where that fails, save it to the temporary folder and say so.

    Raises
    ------
    CommandError
        If the model is not at `path`, with the reason and where it is instead.
    """
    try:
        model.save(path)
    except OSError as error:
        raise CommandError(f"{message_of(error)}. {_rescued(model, path)}") from error


def _rescued(model: ParametricUMAP, path: Path) -> str:
    """Save the model elsewhere and return where, so that the fit is not lost."""
    import tempfile

    try:
        other = model.save(Path(tempfile.mkdtemp(prefix="neumap-")) / path.name)
    except OSError as error:
        return f"The fitted model is lost ({message_of(error)}). Free space and fit again."
    return f"The fitted model is at {other} instead: move it from there."


def is_table(path: Path) -> bool:
    """Return whether the name is that of a table, not of a model."""
    return path.suffix.lower() in READABLE or ".npz:" in path.name


def check_model_output(path: Path, *inputs: Path) -> None:
    """Raise if a model could not be written to ``path``."""
    if is_table(path):
        raise CommandError(
            f"{path}: the output must be a model such as map.neumap, got a table. "
            "Choose another name."
        )
    check_output(path, (), *inputs)


def read_rows_for(model: ParametricUMAP, path: Path, selection: Selection) -> Table:
    """Read the columns a model was fitted on; raise if the file lacks one."""
    names = getattr(model, "feature_names_in_", None)
    wanted = None if names is None else tuple(map(str, names))
    table = read_table(path, replace(selection, wanted=wanted))
    n_fitted = int(model.n_features_in_)
    if table.rows.shape[1] != n_fitted:
        hint = (
            " Name the label and id columns."
            if table.rows.shape[1] > n_fitted
            else " Use the same columns."
        )
        raise CommandError(
            f"{path}: the table must have the {n_fitted} columns the model was fitted on, "
            f"got {table.rows.shape[1]}.{hint}"
        )
    return table


def place(model: ParametricUMAP, table: Table) -> NDArray[Any]:
    """Return the coordinates of a table that :func:`read_rows_for` matched to the model."""
    with warnings.catch_warnings():
        # The columns were matched by name when the table was read.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return np.asarray(model.transform(table.rows))


def fit_input(table: Table) -> Any:
    """Return the rows for ``fit``, with column names if there are names and pandas."""
    if table.columns is None:
        return table.rows
    try:
        import pandas as pd
    except ImportError:
        return table.rows
    return pd.DataFrame(table.rows, columns=table.columns, copy=False)


def targets_of(table: Table) -> NDArray[Any]:
    """Return labels as numbers for a supervised fit: text becomes codes, a missing label -1."""
    if table.labels is None:
        raise CommandError(
            "--supervised needs labels, got none. Name their column with --label-column."
        )
    labels = table.labels
    if labels.dtype.kind in "fiu":
        return np.where(np.isnan(labels), -1, labels) if labels.dtype.kind == "f" else labels
    text = np.array(["" if label is None else str(label) for label in labels.tolist()])
    names, codes = np.unique(text, return_inverse=True)
    missing = np.isin(names, ("", "nan", "None", "NA"))
    order = np.where(missing, -1, np.cumsum(~missing) - 1)
    return np.asarray(order[codes], dtype=np.int64)


def coordinates_of(model: ParametricUMAP, positions: NDArray[Any], table: Table) -> Coordinates:
    """Join positions with the ids and labels of their rows."""
    columns = {table.id_name: table.ids, table.label_name: table.labels}
    return Coordinates(
        positions,
        names=[str(name) for name in model.get_feature_names_out()],
        columns={name: values for name, values in columns.items() if values is not None},
    )
