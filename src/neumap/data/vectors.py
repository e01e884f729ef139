"""Columns of vectors: one list or array of numbers per row, as embeddings are stored.

In: a table or a single column, of pandas, polars or pyarrow, or an array of objects. Out: one array
with the vectors as rows. A vector that is missing or of another length is named by its row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neumap._optional import require
from neumap._warnings import warn_user
from neumap.data.kinds import is_a
from neumap.data.tables import frame_of, series_of

if TYPE_CHECKING:
    from narwhals.stable.v2 import DataFrame

__all__ = [
    "REPAIR",
    "innermost_type",
    "is_arrow_vector",
    "named_column",
    "stacked_column",
    "stacked_rows",
    "vector_columns",
    "without_vectors",
]

REPAIR = "Drop these rows, or compute their vectors again"


def stacked_column(table: Any, column: str | None) -> NDArray[Any] | None:
    """Return the vectors in the one column of a table that holds any.

    Parameters
    ----------
    table : table of pandas, polars or pyarrow
        With unique names.
    column : str or None
        The column to read. None finds it: the only one with vectors, where no other holds numbers.

    Returns
    -------
    ndarray of shape (n_rows, n_numbers), or None
        None if no column holds vectors and none is named.

    Raises
    ------
    ValueError
        If there is no such column, or it holds no vectors of one length, or more than one column
        could be meant.

    Warns
    -----
    UserWarning
        If columns without numbers are left out and `column` did not ask for that.
    """
    frame = frame_of(table)
    assert frame is not None
    name = named_column(frame, column)
    if name is None:
        return None
    rows = stacked_rows(frame.get_column(name).to_native(), name)
    if rows is None:
        raise without_vectors(name)
    return rows


def named_column(frame: DataFrame[Any], column: str | None) -> str | None:
    """Return the column of vectors that is meant; see `stacked_column`.

    The types of the columns tell it, so that a table without rows serves as well. Whether a
    column that is named holds vectors is not checked here.
    """
    name = _detected(frame) if column is None else column
    if name is None:
        return None
    if name not in frame.columns:
        raise ValueError(
            f"column must be one of the columns of X, {_listed(frame.columns)}, got {name!r}. "
            "Choose one of these."
        )
    return name


def without_vectors(name: str) -> ValueError:
    """Return the error for a named column that holds no vectors."""
    return ValueError(
        f"column must name a column with one vector of numbers per row, got {name!r}, which "
        "holds none. Leave it at None for a table with one number per cell."
    )


def stacked_rows(values: Any, name: Any = None) -> NDArray[Any] | None:
    """Return the vectors that a single column holds, as the rows of an array.

    Parameters
    ----------
    values : Series, pyarrow array or array of objects
        One entry per row.
    name : object, optional
        Name of the column, for messages.

    Returns
    -------
    ndarray of shape (n_rows, ...) or None
        None if the entries are no vectors.

    Raises
    ------
    ValueError
        If a vector is missing or of another length.
    """
    where = "" if name is None else f" of column {name!r}"
    if isinstance(values, np.ndarray):
        is_column = values.ndim == 1 and values.dtype.kind == "O"
        return _of_objects(values, where) if is_column and _begins_with_vector(values) else None
    if is_a(values, "pyarrow", "Array"):
        return _of_arrow([values], where) if is_arrow_vector(values.type) else None
    series = series_of(values)
    if series is None or not _holds_vectors(series):
        return None
    if is_a(values, "polars", "Series"):
        return _of_polars(values, where)
    if is_a(values, "pyarrow", "ChunkedArray"):
        return _of_arrow(values.chunks, where)
    if getattr(values.dtype, "kind", "") == "O" and not hasattr(values.dtype, "pyarrow_dtype"):
        return _of_objects(values.to_numpy(), where)
    return _of_arrow([require("pyarrow", extra="tables").array(values)], where)


def vector_columns(frame: DataFrame[Any]) -> list[str]:
    """Return the names of the columns with vectors."""
    return [series.name for series in frame.iter_columns() if _holds_vectors(series)]


def _detected(frame: DataFrame[Any]) -> str | None:
    """Return the column of vectors that is meant; None if there is none."""
    found = vector_columns(frame)
    if not found:
        return None
    schema = frame.schema
    numbers = [
        name for name in frame.columns if schema[name].is_numeric() or _is_bool(schema[name])
    ]
    if len(found) > 1 or numbers:
        beside = f"vectors in {_listed(found)}" + (
            f" beside numbers in {_listed(numbers)}" if numbers else ""
        )
        raise ValueError(
            f"X must hold one column of vectors, or columns of numbers, got {beside}. Name the "
            f"vectors with the parameter column={found[0]!r}, or leave the other columns out of X."
        )
    left_out = [name for name in frame.columns if name != found[0]]
    if left_out:
        warn_user(
            f"X must hold nothing but numbers, got the vectors in column {found[0]!r} beside "
            f"{_listed(left_out)}, which are left out. Set column={found[0]!r} to say so."
        )
    return found[0]


def _is_bool(dtype: Any) -> bool:
    return type(dtype).__name__ == "Boolean"


def _holds_vectors(series: Any) -> bool:
    dtype = series.dtype
    if type(dtype).__name__ == "Object":
        return _begins_with_vector(series.to_native())
    if type(dtype).__name__ in ("List", "Array"):
        while hasattr(dtype, "inner"):
            dtype = dtype.inner() if isinstance(dtype.inner, type) else dtype.inner
        return bool(dtype.is_numeric()) or _is_bool(dtype)
    native = series.to_native()
    return is_a(native, "pyarrow", "ChunkedArray") and is_arrow_vector(native.type)


def _begins_with_vector(values: Any) -> bool:
    """Whether the first entry that is there is a vector."""
    return _is_vector(next((value for value in values if not _is_missing(value)), None))


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _is_vector(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim > 0
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.dtype.kind not in "USmM"
    is_list = isinstance(value, list | tuple)
    return is_list and not isinstance(next(iter(value), 0.0), str | bytes | Mapping)


def _of_objects(values: Sequence[Any] | NDArray[Any], where: str) -> NDArray[Any]:
    for row, value in enumerate(values):
        if not _is_vector(value):
            raise _unfit("none" if _is_missing(value) else f"{value!r:.40}", row, where)
    arrays = [
        value.detach().cpu().numpy() if isinstance(value, Tensor) else _array(value, row, where)
        for row, value in enumerate(values)
    ]
    shape = arrays[0].shape
    for row, array in enumerate(arrays):
        if array.shape != shape:
            raise _ragged(_size(shape), _size(array.shape), row, where)
    return np.stack(arrays)


def _array(value: Any, row: int, where: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of lists of several lengths
        raise _unfit(f"lists of several lengths ({error})", row, where) from error


def _size(shape: tuple[int, ...]) -> Any:
    return shape[0] if len(shape) == 1 else shape


def _of_polars(series: Any, where: str) -> NDArray[Any]:
    import polars  # the series comes from it

    n_rows, shape = len(series), list[int]()
    while isinstance(series.dtype, polars.List | polars.Array):
        if isinstance(series.dtype, polars.List):
            lengths = series.list.len().fill_null(0).to_numpy()
        else:
            lengths = np.full(len(series), series.dtype.shape[0])
        missing = series.is_null().to_numpy()
        shape.append(_common_length(lengths, missing, math.prod(shape), where))
        if not shape[-1] or not n_rows:  # explode would make a missing number of it
            return np.empty((n_rows, *shape))
        series = series.explode()
    return np.asarray(series.to_numpy()).reshape(n_rows, *shape)


def _of_arrow(arrays: Sequence[Any], where: str) -> NDArray[Any]:
    compute = require("pyarrow.compute", extra="tables")
    chunks = [_storage(chunk) for chunk in arrays if len(chunk)]
    if not chunks:
        return np.empty((0, 1))
    n_rows, shape = sum(map(len, chunks)), list[int]()
    while _is_arrow_list(chunks[0].type):
        missing = [_as_numpy(chunk.is_null()) for chunk in chunks]
        lengths = [_as_numpy(compute.list_value_length(c).fill_null(0)) for c in chunks]
        shape.append(
            _common_length(
                np.concatenate(lengths), np.concatenate(missing), math.prod(shape), where
            )
        )
        chunks = [_storage(chunk.flatten()) for chunk in chunks]
    parts = [_as_numpy(chunk) for chunk in chunks]  # a view, unless numbers are missing
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(n_rows, *shape)


def _as_numpy(array: Any) -> NDArray[Any]:
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _common_length(lengths: NDArray[Any], missing: NDArray[Any], per_row: int, where: str) -> int:
    """Return the length that all vectors have; `per_row` of them belong to one row."""
    if missing.any():
        raise _unfit("none", int(missing.argmax()) // per_row, where)
    if not len(lengths):
        return 1
    differs = lengths != lengths[0]
    if differs.any():
        at = int(differs.argmax())
        raise _ragged(int(lengths[0]), int(lengths[at]), at // per_row, where)
    return int(lengths[0])


def _storage(array: Any) -> Any:
    """Return what an array of an extension type, such as tensors of one shape, is stored in."""
    is_extension = is_a(array, "pyarrow", "ExtensionArray")
    return array.storage if is_extension else array


def _is_arrow_list(kind: Any) -> bool:
    types = require("pyarrow.types", extra="tables")
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_arrow_vector(kind: Any) -> bool:
    """Whether an Arrow type is one of lists of numbers."""
    types = require("pyarrow.types", extra="tables")
    kind = getattr(kind, "storage_type", kind)
    if not _is_arrow_list(kind):
        return False
    kind = innermost_type(kind)
    numbers = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(is_kind(kind) for is_kind in numbers)


def innermost_type(kind: Any) -> Any:
    """Return the type of the numbers in lists of any depth; that of a column of numbers itself."""
    kind = getattr(kind, "storage_type", kind)
    while _is_arrow_list(kind):
        kind = getattr(kind.value_type, "storage_type", kind.value_type)
    return kind


def _ragged(wanted: Any, found: Any, row: int, where: str) -> ValueError:
    return ValueError(
        f"X must hold vectors of one length, got {wanted} numbers in the first row and {found} in "
        f"row {row}{where}. {REPAIR}."
    )


def _unfit(what: str, row: int, where: str) -> ValueError:
    return ValueError(
        f"X must hold one vector in each row, got {what} in row {row}{where}. {REPAIR}."
    )


def _listed(names: Sequence[Any], n_shown: int = 8) -> str:
    shown = ", ".join(map(repr, names[:n_shown]))
    return shown + (f" and {len(names) - n_shown} more" if len(names) > n_shown else "")
