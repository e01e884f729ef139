"""Read the numbers and the column names from whatever container the user passed.

Tables and annotated matrices are opened here, and text and dates are refused with the name of their
column. The rest of the package sees only five kinds of data: an array, a CSR matrix, a torch
tensor, an array on disk or a torch Dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from neumap._optional import require
from neumap.data.kinds import is_a, is_dataset, is_on_disk, is_table

__all__ = ["Contents", "numeric", "open_container"]

KEPT_DTYPES = [np.float32, np.uint8, np.bool_]  # the first is what others are converted to


@dataclass(frozen=True)
class Contents:
    """What a container holds.

    Attributes
    ----------
    values : object
        The data themselves, not yet checked.
    named : object
        The object from which scikit-learn reads the column names, or None.
    """

    values: Any
    named: Any


def open_container(X: Any, use_rep: str | None = None) -> Contents:
    """Open an AnnData, a TensorDataset or a table; leave everything else as it is.

    Parameters
    ----------
    X : object
        What the user passed.
    use_rep : str, optional
        For an AnnData: a key of ``obsm``, or ``"X"``, the default. Other containers ignore it.

    Raises
    ------
    TypeError
        If `X` is the name of a file, a lazy table, a mapping, a DataLoader or a generator.
    KeyError
        If the AnnData has no such representation.
    """
    if is_a(X, "anndata", "AnnData"):
        return _open_anndata(X, use_rep)
    if isinstance(X, str | Path):
        raise TypeError(
            f"X must hold data, got the name {str(X)!r}. Read the file first, for example with "
            "numpy.load or pandas.read_csv."
        )
    if is_a(X, "polars", "LazyFrame"):
        raise TypeError("X must hold data, got a polars LazyFrame. Call X.collect() first.")
    _refuse_collections(X)
    if isinstance(X, TensorDataset):
        return Contents(values=_plain_tensor(X.tensors[0]), named=None)
    if isinstance(X, Tensor):
        return Contents(values=_plain_tensor(X), named=None)
    return Contents(values=X, named=X if is_table(X) else None)


def _refuse_collections(X: Any) -> None:
    """Raise TypeError for what numpy would take for a single object."""
    if sparse.issparse(X):  # a dok_array is a dict as well
        return
    advice = None
    if isinstance(X, Mapping):  # of scipy.io.loadmat, an open .npz or HDF5 file
        names = ", ".join(repr(name) for name in list(X)[:8])
        advice = f"Pass one of its entries ({names}), or pandas.DataFrame(X) for one column each"
    elif isinstance(X, DataLoader):
        advice = "Pass its dataset, X.dataset: batches are sampled from the graph"
    elif isinstance(X, Iterator):
        advice = "Read all rows first, with numpy.stack(list(X))"
    if advice:
        raise TypeError(
            f"X must hold rows that can be read by number, got a {type(X).__name__}. {advice}."
        )


def numeric(contents: Contents, estimator_name: str) -> Any:
    """Turn the values of a container into one of the five kinds of data.

    Arrays become float32, or stay uint8 or bool; those of such a dtype are not copied. Sparse
    matrices become CSR. Missing and infinite values are let through.

    Raises
    ------
    ValueError
        If the values are text, dates or complex numbers, or a ragged list.
    TypeError
        If they are objects that have no number.
    """
    values = contents.values
    if isinstance(values, Tensor) or is_dataset(values) or is_on_disk(values):
        _refuse_dtype(getattr(values, "dtype", None))
        return values
    if not sparse.issparse(values) and not is_table(values):
        values = _as_array(values)
    if not sparse.issparse(values):
        _refuse_text(values)
    # Values beyond float32 become infinite here and are reported as such by the finite check.
    with np.errstate(over="ignore"):
        return check_array(
            values,
            accept_sparse="csr",
            dtype=KEPT_DTYPES,
            ensure_2d=False,
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=0,
            ensure_min_features=0,
            estimator=estimator_name,
            input_name="X",
        )


def _open_anndata(adata: Any, use_rep: str | None) -> Contents:
    if use_rep is None or use_rep == "X":
        if adata.X is None:
            raise KeyError(
                "adata.X must hold the data where use_rep names no other representation, got None. "
                f"Pass use_rep, one of {sorted(adata.obsm)}."
            )
        # An AnnData opened in backed mode holds its sparse matrix in the file.
        values = adata.X.to_memory() if hasattr(adata.X, "to_memory") else adata.X
        columns = require("pandas", extra="tables").DataFrame(columns=adata.var_names)
        return Contents(values=values, named=columns)
    if use_rep not in adata.obsm:
        raise KeyError(
            f"use_rep must be 'X' or a key of obsm, one of {sorted(adata.obsm)}, got {use_rep!r}. "
            "Compute it first (scanpy.pp.pca writes 'X_pca'), or pass one of these."
        )
    values = adata.obsm[use_rep]
    return Contents(values, named=values if is_table(values) else None)


def _plain_tensor(X: Tensor) -> Any:
    """Detach; bring a sparse tensor of any layout to scipy's CSR."""
    tensor = X.detach()
    if tensor.layout == torch.strided:
        return tensor
    if X.ndim != 2:
        raise ValueError(
            f"A sparse tensor must have two axes (rows, features), got shape {tuple(X.shape)}. "
            "Pass a dense tensor, or flatten the rows."
        )
    coo = tensor.to_sparse_coo().coalesce().cpu()  # type: ignore[no-untyped-call]
    rows, columns = coo.indices().numpy()
    return sparse.csr_matrix((coo.values().numpy(), (rows, columns)), shape=tuple(coo.shape))


def _as_array(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        # Without the mask, missing values would become whatever the array holds under it.
        data = np.asarray(values.data, dtype=np.float32)
        return np.where(np.ma.getmaskarray(values), np.float32(np.nan), data)
    if isinstance(values, np.matrix):
        return values  # check_array explains why np.matrix is refused
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            "X must be a rectangular array with rows of one length, got a "
            f"{type(values).__name__} with rows of unequal length ({error}). Pad or cut the rows."
        ) from error
    if array.dtype.names:
        raise ValueError(
            "X must be an array with one column per feature, got an array with the fields "
            f"{array.dtype.names}. Convert it with "
            "numpy.lib.recfunctions.structured_to_unstructured(X), or pandas.DataFrame(X)."
        )
    if array.dtype.kind == "V" and array.dtype.type.__module__.startswith("ml_dtypes"):
        return array.astype(np.float32)  # bfloat16 and narrower, which numpy does not know
    if array.dtype.kind == "O" and array.ndim == 1 and len(array):
        _refuse_row_objects(array)
    return array


def _refuse_row_objects(rows: NDArray[Any]) -> None:
    """Raise ValueError where each row is one object, such as an array or a dict."""
    kind = type(rows[0])
    if issubclass(kind, Mapping):
        advice = "Make a table of them, with pandas.DataFrame(list(X))"
    elif issubclass(kind, np.ndarray | list | tuple | Tensor):
        advice = "Make one array of them, with numpy.stack(X)"
    else:
        return
    raise ValueError(
        f"X must have one column per feature, got one {kind.__name__} per row. {advice}."
    )


def _refuse_dtype(dtype: Any) -> None:
    if dtype is None or getattr(dtype, "is_floating_point", False):
        return
    if getattr(dtype, "is_complex", False) or getattr(dtype, "kind", "") == "c":
        raise ValueError(
            f"Complex data not supported: X must hold real numbers, got dtype {dtype}. Pass real "
            "and imaginary parts (or modulus and phase) as separate features."
        )
    if getattr(dtype, "kind", "i") not in "fiub":
        raise ValueError(f"X must hold numbers, got dtype {dtype}. Convert it to float32.")


def _refuse_text(values: Any) -> None:
    for name, column in _columns(values):
        unfit = _describe_unfit(column)
        if unfit:
            what, advice = unfit
            message = (
                f"X must hold numbers, got {what} in column {name!r}. {advice}, or leave it out of "
                "X."
            )
            if advice == TAKE_NUMBERS:  # Python's words, which scikit-learn's checks look for
                raise TypeError(f"float() argument must be a string or a real number. {message}")
            raise ValueError(message)


def _columns(values: Any) -> Iterator[tuple[Any, Any]]:
    """Columns that may hold something else than numbers, with their names or positions."""
    if is_a(values, "pandas", "DataFrame"):
        for position, name in enumerate(values.columns):
            yield name, values.iloc[:, position]
    elif is_a(values, "polars", "DataFrame"):
        for series in values.get_columns():
            yield series.name, series
    elif is_a(values, "pyarrow", "Table"):
        yield from zip(values.column_names, values.columns, strict=True)
    elif values.dtype.kind not in "fiubc" and values.ndim == 2:
        for position in range(values.shape[1]):
            yield position, values[:, position]


ENCODE = (
    "Encode it (for example with sklearn.preprocessing.OneHotEncoder, or pandas.to_numeric for "
    "numbers written as text)"
)
AS_NUMBERS = "Turn it into numbers, such as the year, the hour or seconds since the first"
AS_COLUMNS = "Make columns of it, for example with numpy.stack"
AS_NULLABLE = "Give it a numeric type, with X.convert_dtypes() or X.astype(float)"
TAKE_NUMBERS = "Take the numbers out of these objects"
TEMPORAL = (date, time, timedelta, np.datetime64, np.timedelta64)
# pandas' own kinds of values, by name: the package need not be imported.
TEMPORAL_NAMES = ("Period", "NaTType")


def _describe_unfit(column: Any) -> tuple[str, str] | None:
    """Return what a column holds that is no number, and what to do about it."""
    if _is_temporal(column):
        return f"dates or times ({getattr(column, 'dtype', None) or column.type})", AS_NUMBERS
    values = np.asarray(column)
    if values.dtype.kind in "mM":  # of a categorical column
        return f"dates or times ({values.dtype})", AS_NUMBERS
    if values.dtype.kind in "USV":
        example = f"text, such as {values[0]!s:.40} in its first row" if len(values) else "text"
        return example, ENCODE
    if values.dtype.kind != "O":
        return None
    unfit = {kind for kind in set(map(type, values)) if _advice_on(kind)}
    for row, value in enumerate(values) if unfit else ():
        if type(value) in unfit:
            what, advice = _advice_on(type(value)) or ("", "")
            return f"{what}, such as {value!r:.40} in row {row}", advice
    return None


def _is_temporal(column: Any) -> bool:
    """Whether the type of a column is one of dates, times or durations.

    Asked before the values are read: of a table with a Time column polars makes nanoseconds.
    """
    if is_a(column, "polars", "Series"):
        return bool(column.dtype.is_temporal())
    if is_a(column, "pyarrow", "ChunkedArray"):
        return bool(require("pyarrow.types", extra="tables").is_temporal(column.type))
    return getattr(column.dtype, "kind", "O") in "mM"


def _advice_on(kind: type) -> tuple[str, str] | None:
    """Return what values of this type are and what to do about them; None for numbers."""
    if issubclass(kind, str | bytes):
        return "text", ENCODE
    if issubclass(kind, TEMPORAL) or kind.__name__ in TEMPORAL_NAMES:
        return "dates or times", AS_NUMBERS
    if kind.__name__ == "NAType":
        return "missing values among objects", AS_NULLABLE
    if issubclass(kind, np.ndarray | list | tuple | Tensor):
        return f"one {kind.__name__} per row", AS_COLUMNS
    # None is read as NaN; Decimal and Fraction have a __float__.
    if kind is type(None) or hasattr(kind, "__float__"):
        return None
    return f"{kind.__name__} objects", TAKE_NUMBERS
