"""Models on the command line: create them from options, load them, and read tables for them."""

from __future__ import annotations

import ast
import difflib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neumap._labels import UNLABELLED
from neumap._optional import require
from neumap.cli.arrays import split_key
from neumap.cli.compressed import ending_of
from neumap.cli.errors import CommandError, message_of
from neumap.cli.folders import has_images
from neumap.cli.reading import READABLE, VECTORS, read_table
from neumap.cli.table import Selection, Table, listed
from neumap.cli.writing import POSITIONS, Coordinates, check_output

if TYPE_CHECKING:
    from neumap.estimators import ParametricUMAP

__all__ = [
    "check_model_output",
    "check_names_differ",
    "check_width",
    "check_written",
    "coordinates_of",
    "fit",
    "is_table",
    "load_model",
    "make_model",
    "names_of",
    "place",
    "read_rows_for",
    "rows_like",
    "selection_for",
    "set_checkpoint",
    "targets_for",
    "targets_of",
    "values_at_fault",
    "write_model",
]

# How tables write a label that is missing; numbers have NaN.
MISSING = ("", "nan", "NaN", "None", "NA", "<NA>", "NaT")
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def make_model(settings: Mapping[str, Any], assignments: Sequence[str]) -> ParametricUMAP:
    """Create an unfitted model from options and from ``name=value`` pairs, and check it.

    Parameters
    ----------
    settings : mapping of str to value
        Parameters of :class:`neumap.ParametricUMAP`; those that are None keep their defaults.
    assignments : sequence of str
        Further parameters, such as ``"spread=1.5"``, ``"densmap=True"`` or ``"n_epochs=None"``.

    Raises
    ------
    CommandError
        If a parameter does not exist or cannot have this value.
    """
    from neumap._device import resolve_device
    from neumap.estimators import ParametricUMAP

    chosen = {name: value for name, value in settings.items() if value is not None}
    for assignment in assignments:
        name, text = _name_and_text(assignment)
        if name in chosen and name != "verbose":
            raise CommandError(
                f"--set must name each parameter once, and none that has an option of its own on "
                f"the same line, got {name!r} twice. Leave one of them out."
            )
        chosen[name] = _value_of(text, ParametricUMAP._constraints[name])
    model = ParametricUMAP(**chosen)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fit checks and warns again
            model._checked_recipe().check()
        resolve_device(model.device)
        if model.transform_mode != "embedding":
            raise ValueError(
                "transform_mode must be 'embedding' on the command line, which writes positions, "
                f"got {model.transform_mode!r}. Use neumap.ParametricUMAP in Python for the graph."
            )
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
    return model


def _name_and_text(assignment: str) -> tuple[str, str]:
    from neumap.estimators import ParametricUMAP

    name, equals, text = assignment.partition("=")
    if not equals or not name.isidentifier():
        raise CommandError(f"--set must be NAME=VALUE, got {assignment!r}. Write --set spread=1.5.")
    known = list(ParametricUMAP._constraints)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " See help(neumap.ParametricUMAP)."
        raise CommandError(f"--set must name a parameter of ParametricUMAP, got {name!r}.{hint}")
    return name, text


def _value_of(text: str, allowed: Sequence[Any]) -> Any:
    """Return what a text means for a parameter of these kinds.

    A value that is wrong comes back as well, so that the model's own message says what it must be.
    """
    from neumap.estimators.constraints import ANYTHING

    value = _literal(text)
    if ANYTHING in allowed:  # takes objects, of which a command line can give names only
        return value if value is None or isinstance(value, str) else text
    fits_as_text = not any(value in kind for kind in allowed) and any(
        text in kind for kind in allowed
    )
    return text if fits_as_text else value


def _literal(text: str) -> Any:
    """Return the value of a JSON or Python literal; any other text is itself."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def load_model(path: Path) -> ParametricUMAP:
    """Load a saved model."""
    if not path.exists():
        raise CommandError(
            f"{path}: the model must be a file, got no such model file. Check the path."
        )
    if is_table(path):
        raise CommandError(
            f"{path}: the model must be a file of 'neumap fit', got a table. "
            "Run 'neumap fit' first."
        )
    from neumap.estimators import load_ParametricUMAP

    model = load_ParametricUMAP(path)
    if not hasattr(model, "n_features_in_"):
        raise CommandError(
            f"{path}: the model must be fitted, got one that was saved before its fit. "
            "Write it with 'neumap fit', or save it after fit."
        )
    return model


def write_model(model: ParametricUMAP, path: Path, keep: Any = None) -> None:
    """Save a fitted model; where that fails, save it to the temporary folder and say so.

    Raises
    ------
    CommandError
        If the model is not at `path`, with the reason and where it is instead.
    """
    model.set_params(callbacks=None)  # of this process, and no part of a model
    try:
        model.save(path, keep=keep)
    except OSError as error:
        raise CommandError(f"{message_of(error)}. {_rescued(model, path, keep)}") from error


def _rescued(model: ParametricUMAP, path: Path, keep: Any) -> str:
    """Save the model elsewhere and return where, so that the fit is not lost."""
    import tempfile

    try:
        other = model.save(Path(tempfile.mkdtemp(prefix="neumap-")) / path.name, keep=keep)
    except OSError as error:
        return f"The fitted model is lost ({message_of(error)}). Free space and fit again."
    return f"The fitted model is at {other} instead: move it from there."


def is_table(path: Path) -> bool:
    """Return whether the name is that of a table, not of a model."""
    return ending_of(path) in READABLE or ".npz:" in path.name


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
    table = read_table(path, selection_for(model, path, selection))
    check_width(model, table, path)
    return table


def selection_for(model: ParametricUMAP, path: Path, selection: Selection) -> Selection:
    """Return a selection of the columns, or the column of vectors, that a model was fitted on."""
    if selection.vectors is not None:
        return selection
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        return replace(selection, wanted=tuple(map(str, names)))
    has_vectors = ending_of(split_key(path)[0]) in VECTORS
    return replace(selection, vectors=model.column if has_vectors else None)


def check_width(model: ParametricUMAP, table: Table, path: Path) -> None:
    """Raise if rows have another width than those that a model was fitted on."""
    n_fitted = int(model.n_features_in_)
    if table.rows.shape[1] != n_fitted:
        raise CommandError(
            f"{path}: the table must have the {n_fitted} columns the model was fitted on, "
            f"got {table.rows.shape[1]}. {_hint_of_width(path, table.rows.shape[1] > n_fitted)}"
        )


def _hint_of_width(path: Path, is_wider: bool) -> str:
    """Return what to do about rows of another width than those of the fit."""
    file, _key = split_key(path)
    if file.is_dir() and has_images(file):
        return "Resize the images as for the fit, with --image-size."
    if ending_of(file) in (".h5ad", ".npz"):
        return "Choose the array of the fit with --key."
    has_names = ending_of(file) != ".npy"
    return "Name the label and id columns." if is_wider and has_names else "Use the same columns."


def place(model: ParametricUMAP, table: Table) -> NDArray[Any]:
    """Return the coordinates of a table that :func:`read_rows_for` matched to the model."""
    with warnings.catch_warnings():
        # The columns were matched by name when the table was read.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return np.asarray(model.transform(table.rows))


def rows_like(model: ParametricUMAP, table: Table) -> Any:
    """Return the rows of a matched table with the column names of the model, if it has names."""
    names = getattr(model, "feature_names_in_", None)
    return table.rows if names is None else _fit_input(replace(table, columns=list(names)))


def set_checkpoint(model: ParametricUMAP, path: Path | None, *, resume: bool) -> Path | None:
    """Let the fit write checkpoints to a file; return it if there is one to go on from.

    Raises
    ------
    CommandError
        If there is no file to resume from, or it is a table.
    """
    if path is None:
        if resume:
            raise CommandError(
                "--resume needs the file to go on from, got none. Name it with --checkpoint."
            )
        return None
    if is_table(path):
        raise CommandError(
            f"{path}: the checkpoint must be a file such as training.neumap, got a table. "
            "Choose another name."
        )
    from neumap.callbacks import Checkpoint

    # Braces in the name of a file are no fields of the training.
    kept = Checkpoint(str(path).replace("{", "{{").replace("}", "}}"))
    model.set_params(callbacks=[kept])
    return kept.latest() if resume else None


def fit(
    model: ParametricUMAP,
    table: Table,
    targets: NDArray[Any] | None,
    resume_from: Path | None = None,
) -> NDArray[Any]:
    """Fit the model to a table and return the positions of its rows."""
    from neumap._ranks import LostProcessError
    from neumap.training import TrainingDivergedError

    if table.vectors is not None:
        model.column = table.vectors  # where new tables have their vectors
    try:
        fitted = model.fit(_fit_input(table), targets, resume_from=resume_from)
        return np.asarray(fitted.embedding_)
    except (LostProcessError, TrainingDivergedError) as error:
        raise CommandError(str(error)) from error


@contextmanager
def values_at_fault(assignments: Sequence[str]) -> Iterator[None]:
    """Take an error of type for one of the values that the user set, if there are any.

    The parameters that take objects and arguments of functions can be checked by their use only.
    """
    try:
        yield
    except TypeError as error:
        if not assignments:
            raise
        raise CommandError(
            f"--set must give values that fit the parameters, got {', '.join(assignments)} "
            f"({error}). Correct or leave out the wrong one."
        ) from error


def _fit_input(table: Table) -> Any:
    """Return the rows for ``fit``, with column names if there are names and pandas."""
    if table.columns is None:
        return table.rows
    if sparse.issparse(table.rows):
        # Of the containers that fit reads, the one that has names for the columns of a matrix.
        anndata = require("anndata", extra="cells")
        adata = anndata.AnnData(table.rows)
        adata.var_names = table.columns
        return adata
    try:
        import pandas as pd
    except ImportError:
        return table.rows
    return pd.DataFrame(table.rows, columns=table.columns, copy=False)


def targets_for(model: ParametricUMAP, table: Table, *, supervised: bool) -> NDArray[Any] | None:
    """Return the labels that act on a fit, if any do."""
    if supervised:
        return targets_of(table)
    if model.classifier_loss_weight:
        raise CommandError(
            f"classifier_loss_weight={model.classifier_loss_weight:g} needs labels that act on the "
            "fit, got no --supervised. Add it, with --label-column."
        )
    return None


def targets_of(table: Table) -> NDArray[Any]:
    """Return the labels for a supervised fit, with -1 for a missing one.

    Names stay names, so that ``classes_`` and ``predict`` speak of them.
    """
    labels = table.labels
    if labels is None:
        raise CommandError(
            "--supervised needs labels, got none. Name their column with --label-column."
        )
    if labels.dtype.kind in "iub":
        return labels
    if labels.dtype.kind == "f":
        return np.where(np.isnan(labels), UNLABELLED, labels)
    text = labels.astype(str) if labels.dtype.kind != "O" else np.array(list(map(str, labels)))
    known = ~np.isin(text, MISSING)
    if not known.all() and all(map(WHOLE.fullmatch, text[known])):
        return np.where(known, text, str(UNLABELLED)).astype(np.int64)
    if known.all():
        return text
    targets = text.astype(object)
    targets[~known] = UNLABELLED
    return targets


def coordinates_of(
    model: ParametricUMAP,
    positions: NDArray[Any],
    table: Table,
    names: Sequence[str] | None = None,
) -> Coordinates:
    """Join positions with the ids and labels of their rows, or with all columns that are kept."""
    return Coordinates(positions, names=names_of(model, names), columns=_beside(table))


def _beside(table: Table) -> dict[str, Any]:
    """Return the columns of a table that are written beside the coordinates."""
    columns = {table.id_name: table.ids, table.label_name: table.labels}
    columns = {name: values for name, values in columns.items() if values is not None}
    return columns if table.kept is None else {**columns, **table.kept}


def check_written(
    model: ParametricUMAP, table: Table, names: Sequence[str] | None, output: Path
) -> None:
    """Raise if a coordinate would have the name of a column of the table in the output."""
    ending = output.suffix.lower()
    if ending == ".npz" and POSITIONS in _beside(table):
        raise CommandError(
            f"{output}: the columns in an .npz must have other names than the positions, "
            f"{POSITIONS!r}, got one of that name. Write a .csv or a .parquet file."
        )
    if ending not in (".npy", ".npz"):
        check_names_differ(names_of(model, names), list(_beside(table)))


def names_of(model: ParametricUMAP, names: Sequence[str] | None) -> list[str]:
    """Return the names of the coordinates: those that are asked for, or the model's own.

    Raises
    ------
    CommandError
        If their number is not that of the components, or one is repeated.
    """
    n_components = int(model.n_components)
    if names is None:
        prefix = type(model).__name__.lower()  # as get_feature_names_out
        return [f"{prefix}{at}" for at in range(n_components)]
    if len(names) != n_components or len(set(names)) < len(names):
        raise CommandError(
            f"--names must give {n_components} different names, one per component, got "
            f"{' '.join(names)!r}. Write them behind --names, before the next option."
        )
    return list(names)


def check_names_differ(names: Sequence[str], columns: Sequence[str]) -> None:
    """Raise if a coordinate would have the name of a column that is written beside it."""
    both = [name for name in names if name in columns]
    if both:
        raise CommandError(
            f"--names must differ from the columns that are written, got {listed(both)} for both. "
            "Choose other names, such as --names x y."
        )
