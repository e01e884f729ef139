"""Read the numbers and the column names from whatever container the user passed.

Tables and annotated matrices are opened here, and text and dates are refused with the name of their
column. The rest of the package sees only five kinds of data: an array, a CSR matrix, a torch
tensor, an array on disk or a torch Dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.utils.data import TensorDataset

from neumap._optional import require
from neumap._structure import check_structure
from neumap.data.kinds import is_a, is_dataset, is_on_disk, is_table

__all__ = ["Contents", "columns_of", "narrowed", "numeric", "open_container", "plain_values"]

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
        If `X` is the name of a file or a lazy table.
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
    if isinstance(X, TensorDataset):
        return Contents(values=_plain_tensor(X.tensors[0]), named=None)
    if isinstance(X, Tensor):
        return Contents(values=_plain_tensor(X), named=None)
    return Contents(values=X, named=X if is_table(X) else None)


def numeric(contents: Contents, estimator_name: str) -> Any:
    """Turn the values of a container into one of the five kinds of data; see `narrowed`.

    Raises
    ------
    ValueError
        If the values are text, dates or complex numbers, or a ragged list.
    """
    return narrowed(plain_values(contents), estimator_name)


def plain_values(contents: Contents) -> Any:
    """Return the values as they are, lists and other objects as arrays.

    Raises
    ------
    ValueError
        If the values are text, dates or complex numbers, a ragged list, or a sparse matrix with
        entries outside its shape.
    """
    values = contents.values
    if isinstance(values, Tensor) or is_dataset(values) or is_on_disk(values):
        _refuse_dtype(getattr(values, "dtype", None))
        return values
    check_structure(values)
    if not sparse.issparse(values) and not is_table(values):
        values = _as_array(values)
    if not sparse.issparse(values):
        _refuse_text(values)
    return values


def narrowed(values: Any, estimator_name: str) -> Any:
    """Turn plain values into one of the five kinds of data.

    Arrays become float32, or stay uint8 or bool; those of such a dtype are not copied. Sparse
    matrices become CSR. Missing and infinite values are let through.
    """
    if isinstance(values, Tensor) or is_dataset(values) or is_on_disk(values):
        return values
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
        dtype = np.result_type(values.dtype, np.float32)
        return np.where(np.ma.getmaskarray(values), dtype.type(np.nan), values.data.astype(dtype))
    if isinstance(values, np.matrix):
        return values  # check_array explains why np.matrix is refused
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            "X must be a rectangular array with rows of one length, got a "
            f"{type(values).__name__} with rows of unequal length ({error}). Pad or cut the rows."
        ) from error


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
    for name, column in columns_of(values):
        unfit = _describe_unfit(column)
        if unfit:
            raise ValueError(
                f"X must hold numbers, got {unfit} in column {name!r}. Encode it (for example with "
                "sklearn.preprocessing.OneHotEncoder, or pandas.to_numeric for numbers written as "
                "text), or leave it out of X."
            )


def columns_of(values: Any) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Columns that may hold something else than numbers, with their names or positions."""
    if is_a(values, "pandas", "DataFrame"):
        for position, name in enumerate(values.columns):
            yield name, np.asarray(values.iloc[:, position])
    elif is_a(values, "polars", "DataFrame"):
        for series in values.get_columns():
            yield series.name, np.asarray(series)
    elif is_a(values, "pyarrow", "Table"):
        for name, column in zip(values.column_names, values.columns, strict=True):
            yield name, np.asarray(column)
    elif values.dtype.kind not in "fiubc" and values.ndim == 2:
        for position in range(values.shape[1]):
            yield position, values[:, position]


def _describe_unfit(column: NDArray[Any]) -> str | None:
    if column.dtype.kind in "mM":
        return f"dates or times ({column.dtype})"
    if column.dtype.kind in "USV":
        return f"text, such as {column[0]!s:.40} in its first row" if len(column) else "text"
    if column.dtype.kind == "O":
        for row, value in enumerate(column):
            if isinstance(value, str | bytes):
                return f"text, such as {value!r:.40} in row {row}"
    return None
