"""Tables of any library, and single columns, seen through narwhals.

In: whatever the user passed. Out: the same data as an eager table of pandas, polars or pyarrow, or
None where they are no table. narwhals is imported when something arrives that is neither an array
nor one of Python's own collections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset

from neumap._optional import require
from neumap.data.kinds import is_a, is_on_disk

if TYPE_CHECKING:
    from narwhals.stable.v2 import DataFrame, Series

__all__ = ["frame_of", "is_table", "refuse_repeated_names", "series_of", "table_of"]

# Known to be no tables, so that narwhals need not be asked.
OTHERS = (np.ndarray, Tensor, Dataset, Mapping, Iterator, list, tuple, str, Path, int, float)
# What scikit-learn and numpy read; tables of other libraries become one of pandas.
READ_DIRECTLY = ("pandas", "polars", "pyarrow")


def is_table(X: Any) -> bool:
    """Whether `X` is an eager table with named columns, of a library that narwhals knows."""
    return frame_of(X) is not None


def frame_of(X: Any) -> DataFrame[Any] | None:
    """Return an eager table as narwhals' frame; None for anything else."""
    found = _from_native(X)
    return found if _is_of(found, "DataFrame") else None


def series_of(X: Any) -> Series[Any] | None:
    """Return a single column as narwhals' series; None for anything else."""
    found = _from_native(X)
    return found if _is_of(found, "Series") else None


def refuse_repeated_names(table: Any) -> None:
    """Raise ValueError if columns of a table share a name."""
    names = getattr(table, "column_names", getattr(table, "columns", ()))
    name, n_columns = next(iter(Counter(names).most_common(1)), ("", 0))
    if n_columns > 1:
        raise ValueError(
            f"X must have a different name for each column, got {name!r} for {n_columns} columns. "
            "Rename them, or leave out those that you do not need; for an AnnData call "
            "var_names_make_unique()."
        )


def table_of(X: Any, column: str | None = None) -> Any | None:
    """Return a table of any kind as one of pandas, polars or pyarrow.

    Parameters
    ----------
    X : object
        An eager or lazy table that narwhals knows, a Hugging Face ``Dataset``, or a stream of Arrow
        batches.
    column : str, optional
        The only column that is needed: lazy tables and Datasets read no other.

    Returns
    -------
    table or None
        None if `X` is no table.

    Raises
    ------
    ValueError
        If columns share a name, or a lazy table cannot be computed.
    """
    if isinstance(X, OTHERS) or sparse.issparse(X) or is_on_disk(X):
        return None
    if is_a(X, "datasets", "Dataset"):
        return _of_hugging_face(X, column)
    if is_a(X, "pyarrow", "RecordBatch"):
        return require("pyarrow", extra="tables").Table.from_batches([X])
    if is_a(X, "pandas", "DataFrame") or is_a(X, "pyarrow", "Table"):  # others can have none
        refuse_repeated_names(X)
    found = _from_native(X)
    if _is_of(found, "LazyFrame"):
        return _read_directly(_collected(found, column))
    if _is_of(found, "DataFrame"):
        return X if found.implementation.value in READ_DIRECTLY else _read_directly(found)
    if found is X and hasattr(X, "__arrow_c_stream__") and not hasattr(X, "__array__"):
        return require("pyarrow", extra="tables").table(X)
    return None


def _read_directly(frame: DataFrame[Any]) -> Any:
    """Return the native table of a frame, as pandas where numpy could not read it."""
    return frame.to_native() if frame.implementation.value in READ_DIRECTLY else frame.to_pandas()


def _from_native(X: Any) -> Any:
    if isinstance(X, OTHERS) or sparse.issparse(X) or is_on_disk(X):
        return X
    import narwhals.stable.v2 as nw

    return nw.from_native(X, allow_series=True, pass_through=True)


def _is_of(found: Any, name: str) -> bool:
    return is_a(found, "narwhals.stable.v2", name)


def _collected(frame: Any, column: str | None) -> Any:
    """Compute a lazy table, or one column of it."""
    with _named_as_lazy():
        names = frame.collect_schema().names()
        return (frame.select(column) if column in names else frame).collect()


@contextmanager
def _named_as_lazy() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each engine raises classes of its own
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"X must be a lazy table that can be computed, got one that cannot ({reason}). Compute "
            "it first, with X.collect() or its like, to see why."
        ) from error


def _of_hugging_face(X: Any, column: str | None) -> Any:
    """Return rows of a Hugging Face Dataset as they are selected, whatever format is set."""
    kept = X.select_columns([column]) if column in X.column_names else X
    return kept.with_format("arrow")[:]
