"""Read the numbers and the column names from whatever container the user passed.

Tables and annotated matrices are opened here, and text and dates are refused with the name of their
column. The rest of the package sees only five kinds of data: an array, a CSR matrix, a torch
tensor, an array on disk or a torch Dataset.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.dlpack import from_dlpack

from neumap._optional import require
from neumap._structure import check_structure
from neumap.data.cells import refuse_cells
from neumap.data.kinds import is_a, is_dataset, is_on_disk, is_row_files
from neumap.data.tables import is_table, table_of
from neumap.data.vectors import stacked_column, stacked_rows

__all__ = ["Contents", "narrowed", "numeric", "open_container", "plain_values"]

NESTED = "Pad them with torch.nested.to_padded_tensor(X, 0.0)."
ON_THE_HOST = "Copy it to an array or a tensor first, for example with X.get()"
READ_FIRST = "Pass an array, a table, a tensor or a Dataset with one row per sample"
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


def open_container(X: Any, use_rep: str | None = None, column: str | None = None) -> Contents:
    """Open an AnnData, a TensorDataset, a table or a column; leave everything else as it is.

    Parameters
    ----------
    X : object
        What the user passed.
    use_rep : str, optional
        For an AnnData: a key of ``obsm``, or ``"X"``, the default. Other containers ignore it.
    column : str, optional
        For a table: the column with one vector per row. None finds it, where it is the only one.
        Arrays and single columns hold the rows themselves.

    Raises
    ------
    TypeError
        If `X` is the name of a file, a mapping, a DataLoader or a generator.
    KeyError
        If the AnnData has no such representation.
    ValueError
        If names of its variables are repeated, or a column of vectors cannot be read.
    """
    if is_a(X, "anndata", "AnnData"):
        if column is not None:
            raise ValueError(
                f"column must be None for an AnnData, got {column!r}. Pass adata.obsm[key]."
            )
        return _open_anndata(X, use_rep)
    if isinstance(X, str | Path):
        raise TypeError(
            f"X must hold data, got the name {str(X)!r}. Read the file first, for example with "
            "numpy.load or pandas.read_csv; neumap.open_rows opens .npy, Parquet and Arrow files "
            "and folders of them without reading them."
        )
    _refuse_collections(X)
    if is_row_files(X):
        return Contents(values=X, named=X.header)
    if isinstance(X, TensorDataset):
        return Contents(values=_plain_tensor(X.tensors[0]), named=None)
    if isinstance(X, Tensor):
        return Contents(values=_plain_tensor(X), named=None)
    if (
        hasattr(X, "__dlpack__")
        and not isinstance(X, np.ndarray)
        and not is_a(X, "pyarrow", "Array")
    ):
        return Contents(values=_exchanged(X), named=None)
    table = table_of(X, column)
    if table is not None:
        return _open_table(table, column)
    vectors = stacked_rows(X, getattr(X, "name", None))
    return Contents(values=X if vectors is None else vectors, named=None)


def _open_table(table: Any, column: str | None) -> Contents:
    vectors = stacked_column(table, column)
    return Contents(table, table) if vectors is None else Contents(vectors, None)


def _refuse_collections(X: Any) -> None:
    """Raise TypeError for what numpy would take for a single object."""
    if sparse.issparse(X):  # a dok_array is a dict as well
        return
    advice = None
    is_group = isinstance(X, Mapping) or is_a(X, "zarr", "Group")
    if is_group and not is_a(X, "xarray", "Dataset"):  # an open .npz or HDF5 file, loadmat's dict
        names = ", ".join(repr(name) for name in itertools.islice(X.keys(), 8))
        advice = f"Pass one of its entries ({names})" if names else READ_FIRST
        if names and type(X) is dict:
            advice += ", or pandas.DataFrame(X) for one column each"
    elif isinstance(X, DataLoader):
        advice = "Pass its dataset, X.dataset: batches are sampled from the graph"
    elif isinstance(X, Iterator):
        advice = "Read all rows first, with numpy.stack(list(X))"
    if advice:
        name = type(X).__name__
        article = "an" if name[0] in "aeiou" else "a"
        raise TypeError(
            f"X must hold rows that can be read by number, got {article} {name}. {advice}."
        )


def numeric(contents: Contents, estimator_name: str) -> Any:
    """Turn the values of a container into one of the five kinds of data; see `narrowed`.

    Raises
    ------
    ValueError
        If the values are text, dates or complex numbers, or a ragged list.
    TypeError
        If they are objects that have no number.
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
    if getattr(getattr(values, "dtype", None), "kind", "") == "c":
        _refuse_dtype(values.dtype)
    if not sparse.issparse(values):
        refuse_cells(values)
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
        _check_unique(adata.var_names)
        columns = require("pandas", extra="tables").DataFrame(columns=adata.var_names)
        return Contents(values=values, named=columns)
    if use_rep not in adata.obsm:
        raise KeyError(
            f"use_rep must be 'X' or a key of obsm, one of {sorted(adata.obsm)}, got {use_rep!r}. "
            "Compute it first (scanpy.pp.pca writes 'X_pca'), or pass one of these."
        )
    values = adata.obsm[use_rep]
    return Contents(values, named=values if is_table(values) else None)


def _check_unique(var_names: Any) -> None:
    if not var_names.is_unique:
        repeated = var_names[var_names.duplicated()].unique()
        raise ValueError(
            f"The var_names of an AnnData must be unique, got {list(repeated[:5])} more than once. "
            "Call adata.var_names_make_unique() first."
        )


def _plain_tensor(X: Tensor) -> Any:
    """Detach; bring a sparse tensor of any layout to scipy's CSR."""
    if X.is_meta or X.is_nested:
        what, remedy = "on the device 'meta', which holds none", "Load the numbers first."
        if X.is_nested:
            what, remedy = "nested, with rows of several lengths", NESTED
        raise TypeError(f"X must hold numbers in rows of one length, got a tensor {what}. {remedy}")
    tensor = X.detach()
    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.layout == torch.strided:
        return tensor
    if tensor.is_mkldnn:
        return tensor.to_dense()
    if X.ndim != 2:
        raise ValueError(
            f"A sparse tensor must have two axes (rows, features), got shape {tuple(X.shape)}. "
            "Pass a dense tensor, or flatten the rows."
        )
    coo = _sparse_part(tensor)
    rows, columns = coo.indices().numpy()
    values = coo.values()
    numbers = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    shape = (int(coo.shape[0]), int(coo.shape[1]))
    return sparse.csr_matrix((numbers, (rows, columns)), shape=shape)


def _exchanged(X: Any) -> Any:
    """Return an array of another library (CuPy, JAX) as a tensor where it lies, without a copy."""
    try:
        return from_dlpack(X)
    except Exception as error:  # libraries raise what they like for a device or dtype of their own
        if hasattr(X, "__array__"):
            return _as_array(X)
        raise TypeError(
            f"X must lie where torch can read it, got a {type(X).__name__} that it cannot "
            f"({error}). {ON_THE_HOST}."
        ) from error


def _sparse_part(tensor: Tensor) -> Tensor:
    """Return a sparse tensor with one number per entry; others are made dense."""
    if tensor.layout == torch.sparse_coo and tensor.dense_dim() > 0:
        tensor = tensor.to_dense()
    coo: Tensor = tensor.to_sparse_coo()  # type: ignore[no-untyped-call]
    return coo.coalesce().cpu()


def _as_array(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        # Without the mask, missing values would become whatever the array holds under it.
        dtype = np.result_type(values.dtype, np.float32)
        return np.where(np.ma.getmaskarray(values), dtype.type(np.nan), values.data.astype(dtype))
    if isinstance(values, np.matrix):
        return values  # check_array explains why np.matrix is refused
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            "X must be a rectangular array with rows of one length, got a "
            f"{type(values).__name__} with {_unequal(values)} ({error}). Pad or cut the rows."
        ) from error
    except TypeError as error:  # CuPy, or tensors in a list, which are not copied unasked
        raise TypeError(
            f"X must lie in the host's memory, got a {type(values).__name__} that numpy cannot "
            f"read ({error}). {ON_THE_HOST}."
        ) from error
    except RuntimeError as error:  # of tensors that require gradients
        raise TypeError(
            f"X must hold numbers, got a {type(values).__name__} that numpy cannot read ({error}). "
            "Join tensors with torch.stack and pass the result."
        ) from error
    return _plain_array(array, values)


def _plain_array(array: NDArray[Any], values: Any) -> NDArray[Any]:
    """Refuse what is no array of rows; bring numbers that numpy does not know to float32."""
    if array.ndim == 0 and array.dtype.kind == "O":
        raise TypeError(f"X must hold rows of numbers, got {type(values).__name__}. {READ_FIRST}.")
    if array.dtype.names:
        raise ValueError(
            "X must be an array with one column per feature, got an array with the fields "
            f"{array.dtype.names}. Convert it with "
            "numpy.lib.recfunctions.structured_to_unstructured(X), or pandas.DataFrame(X)."
        )
    if array.dtype.kind == "O" and array.ndim == 1 and len(array):
        _refuse_row_objects(array)
    # bfloat16 and the like, which ml_dtypes brings to numpy; plain bytes have no such type.
    is_number = array.dtype.kind == "V" and array.dtype.type is not np.void
    return array.astype(np.float32) if is_number else array


def _unequal(values: Any) -> str:
    """Name the first row of another length."""
    if isinstance(values, list | tuple):
        lengths = [len(row) if hasattr(row, "__len__") else 1 for row in values]
        for row, length in enumerate(lengths):
            if length != lengths[0]:
                return (
                    f"rows of unequal length: {lengths[0]} numbers in row 0, {length} in row {row}"
                )
    return "rows of unequal length"


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
