"""What cannot be rows of numbers is named with its column and row, and the advice works."""

from __future__ import annotations

import datetime
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xarray as xr
import zarr
from numpy.lib.recfunctions import structured_to_unstructured
from torch.utils.data import DataLoader, TensorDataset

from neumap import UMAP
from neumap.data import as_rows, check_input

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
FRAME = pd.DataFrame(X, columns=list("abc"))
TENSOR = torch.from_numpy(X)


def objects(values: list[Any]) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def with_cell(value: Any) -> np.ndarray:
    cells = X.astype(object)
    cells[4, 1] = value
    return cells


def with_column(values: Any) -> pd.DataFrame:
    return FRAME.assign(e=values)


def npz() -> Any:
    np.savez(buffer := io.BytesIO(), X=X)
    buffer.seek(0)
    return np.load(buffer)


def dense(X: Any) -> np.ndarray:
    return as_rows(check_input(X)).gather(torch.arange(len(FRAME))).flatten(1).numpy()


def frame_of(records: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(records)


def vector(row: Any) -> np.ndarray:
    return np.asarray(row)


def stacked(rows: Any) -> np.ndarray:
    return np.stack(list(rows))


def first(loader: DataLoader[Any]) -> Any:
    return loader.dataset


# What is refused, what the message says, and its advice as code.
Refused = tuple[Callable[[], Any], str, Callable[[Any], Any] | None]
REFUSED: dict[str, Refused] = {
    "column of words": (
        lambda: pd.DataFrame({"e": [["a", "b", "c"]] * 12}),
        r"got one list per row, such as .* in row 0 in column 'e'\.",
        None,
    ),
    "column of vectors, ragged": (
        lambda: pd.DataFrame({"e": [*X[:7], X[7, :2], *X[8:]]}),
        r"vectors of one length, got 3 numbers in the first row and 2 in row 7 of column 'e'",
        lambda given: pd.concat(
            [given[:7], FRAME[7:8].apply(vector, axis=1).to_frame("e"), given[8:]]
        ),
    ),
    "structured": (
        lambda: FRAME.to_records(index=False),
        r"got an array with the fields \('a', 'b', 'c'\).*structured_to_unstructured",
        structured_to_unstructured,
    ),
    "records": (
        lambda: FRAME.to_dict("records"),
        r"got one dict per row\. .*pandas\.DataFrame",
        frame_of,
    ),
    "dates with a zone": (
        lambda: with_column(pd.date_range("2020", periods=12, tz="UTC")),
        r"got dates or times \(datetime64\[.*, UTC\]\) in column 'e'",
        lambda given: given.drop(columns="e"),
    ),
    "python dates": (
        lambda: with_column([datetime.date(2020, 1, 1)] * 12),
        r"dates or times, such as datetime\.date\(.*\) in row 0 in column 'e'",
        None,
    ),
    "python times": (
        lambda: with_column([datetime.time(8, 30)] * 12),
        r"dates or times, such as datetime\.time\(.*\) in row 0 in column 'e'",
        None,
    ),
    "periods": (
        lambda: with_column(pd.period_range("2020", periods=12, freq="D")),
        r"dates or times, such as Period\(.*\) in row 0 in column 'e'",
        None,
    ),
    "intervals": (
        lambda: with_column(pd.interval_range(0, 12)),
        r"Interval objects, such as Interval\(.*\) in row 0 in column 'e'",
        None,
    ),
    "pd.NA among objects": (
        lambda: with_column(pd.Series([1, 2, pd.NA] * 4, dtype=object)),
        r"got missing values .*, such as <NA> in row 2 in column 'e'.*astype\('Float64'\)",
        lambda given: given.assign(e=given["e"].astype("Float64").fillna(0.0)),
    ),
    "a dict among objects": (
        lambda: with_cell({"a": 1}),
        r"dict objects, such as \{'a': 1\} in row 4 in column 1",
        None,
    ),
    "a list among objects": (
        lambda: with_cell([1, 2]),
        r"one list per row, such as \[1, 2\] in row 4 in column 1",
        None,
    ),
    "an object among objects": (
        lambda: with_cell(object()),
        r"float\(\) argument must be a string or a real .* such as <object .* in row 4 in column 1",
        None,
    ),
    "a complex cell": (
        lambda: with_cell(2j),
        "got complex numbers, such as 2j in row 4 in column 1. Pass real and imag",
        None,
    ),
    "a cell beyond floats": (
        lambda: with_cell(10**400),
        "got an integer too large for a float in row 4 in column 1. Rescale",
        None,
    ),
    "a text among objects": (
        lambda: with_cell("7"),
        "got text, such as '7' in row 4,? in col",
        None,
    ),
    "bytes": (lambda: with_cell(b"7"), "got text, such as b'7' in row 4,? in column 1", None),
    "DataLoader": (
        lambda: DataLoader(TensorDataset(TENSOR), batch_size=8),
        "got a DataLoader. Pass its dataset, X.dataset",
        first,
    ),
    "generator": (
        lambda: (row for row in X),
        r"got a generator. Read all rows first, with numpy.stack\(list\(X\)\)",
        stacked,
    ),
    "iterator": (
        lambda: iter(X),
        r"got an iterator. Read all rows first, with numpy.stack\(list\(X\)\)",
        stacked,
    ),
    "dict": (
        lambda: {"X": X},
        r"got a dict. Pass one of its entries \('X'\)",
        lambda given: given["X"],
    ),
    "empty dict": (lambda: {}, "got a dict. Pass an array, a table", None),
    "open .npz": (
        npz,
        r"got a NpzFile. Pass one of its entries \('X'\)\.$",
        lambda given: given["X"],
    ),
    "set": (lambda: {1.0, 2.0}, "got set. Pass an array", None),
    "None": (lambda: None, "got NoneType. Pass an array", None),
    "module": (lambda: np, "got module. Pass an array", None),
    "ragged": (
        lambda: [[1.0, 2.0], [3.0, 4.0], [5.0]],
        "rows of unequal length: 2 numbers in row 0, 1 in row 2",
        None,
    ),
    "tensors with gradients": (
        lambda: list(TENSOR.clone().requires_grad_(True)),
        "torch.stack",
        torch.stack,
    ),
    "meta tensor": (lambda: torch.empty(12, 3, device="meta"), "on the device 'meta'", None),
    "nested tensor": (
        lambda: torch.nested.nested_tensor(list(TENSOR), layout=torch.jagged),
        "nested, with rows of several lengths. Pad them with torch.nested.to_padded_tensor",
        lambda given: torch.nested.to_padded_tensor(given, 0.0),
    ),
    "complex tensor": (lambda: TENSOR + 1j, "Complex data not supported", lambda given: given.real),
    "complex sparse tensor": (lambda: (TENSOR + 1j).to_sparse(), "Complex data not supp", None),
    "complex array": (lambda: X + 1j, "Complex data not supported", None),
    "repeated names": (
        lambda: FRAME.set_axis(["a", "b", "a"], axis=1),
        "a different name for each column, got 'a' for 2 columns. Rename them",
        lambda given: given.set_axis(list("abc"), axis=1),
    ),
    "repeated arrow names": (
        lambda: pa.Table.from_arrays([pa.array(X[:, i]) for i in range(3)], names=list("aba")),
        "a different name for each column, got 'a' for 2 columns",
        lambda given: given.rename_columns(list("abc")),
    ),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_of_numbers_is_named(name: str) -> None:
    make, message, advised = REFUSED[name]
    given = make()
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}") as caught:
        check_input(given)
    assert str(caught.value).endswith(".")
    if advised is not None:
        found = dense(advised(given))
        assert found.shape[0] == 12
        if found.shape == X.shape:
            np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize("name", ["dict", "generator", "structured", "column of vectors, ragged"])
def test_estimators_say_so_in_fit_and_in_transform(name: str) -> None:
    make, message, _ = REFUSED[name]
    model = UMAP(n_neighbors=4, n_epochs=2)
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        model.fit(make())
    model.fit(X)
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        model.transform(make())


def test_groups_of_arrays_on_disk_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["X"] = X
        with pytest.raises(TypeError, match=r"got a File. Pass one of its entries \('X'\)\.$"):
            check_input(file)
        np.testing.assert_array_equal(dense(file["X"]), X)
    group = zarr.open_group(str(tmp_path / "rows.zarr"), mode="w")
    group.create_array("X", data=X)
    with pytest.raises(TypeError, match=r"got a Group. Pass one of its entries \('X'\)\.$"):
        check_input(group)


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(TENSOR, 0.25, 0, torch.qint8)


READ: dict[str, tuple[Callable[[], Any], float]] = {
    "bfloat16 array": (lambda: X.astype(ml_dtypes.bfloat16), 0.02),
    "float8 array": (lambda: X.astype(ml_dtypes.float8_e4m3fn), 0.2),
    "float16 array": (lambda: X.astype(np.float16), 0.002),
    "bfloat16 tensor": (TENSOR.bfloat16, 0.02),
    "float16 tensor": (TENSOR.half, 0.002),
    "float64 tensor": (TENSOR.double, 0.0),
    "tensor with gradients": (lambda: TENSOR.clone().requires_grad_(True), 0.0),
    "computed tensor": (lambda: TENSOR.clone().requires_grad_(True) * 1.0, 0.0),
    "transposed tensor": (lambda: TENSOR.T.contiguous().T, 0.0),
    "negated view": (lambda: torch._neg_view(-TENSOR), 0.0),
    "coo": (TENSOR.to_sparse, 0.0),
    "coo with gradients": (lambda: TENSOR.to_sparse().requires_grad_(True), 0.0),
    "coo of rows": (lambda: TENSOR.to_sparse(1), 0.0),
    "coo twice": (lambda: torch.sparse_coo_tensor(
        [[0, 0, 11], [1, 1, 2]], [1.0, 2.0, 3.0], (12, 3), check_invariants=True), 0.0),
    "csr": (TENSOR.to_sparse_csr, 0.0),
    "csc": (TENSOR.to_sparse_csc, 0.0),
    "bsr": (lambda: TENSOR.to_sparse_bsr((3, 3)), 0.0),
    "bsc": (lambda: TENSOR.to_sparse_bsc((3, 3)), 0.0),
    "bfloat16 coo": (lambda: TENSOR.bfloat16().to_sparse(), 0.02),
    "mkldnn": (TENSOR.to_mkldnn, 0.0),
    "objects that are numbers": (lambda: X.astype(object), 0.0),
    "list of tensors": (lambda: list(TENSOR), 0.0),
    "xarray": (lambda: xr.DataArray(X, dims=("row", "column")), 0.0),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("name", READ)
def test_other_forms_of_numbers_are_read(name: str) -> None:
    make, tolerance = READ[name]
    given = make()
    expected = X if name != "coo twice" else given.to_dense().numpy()
    np.testing.assert_allclose(dense(given), expected, atol=tolerance, rtol=0.0)


def test_quantised_tensors_are_read() -> None:
    given = quantised()
    np.testing.assert_array_equal(dense(given), given.dequantize().numpy())
    np.testing.assert_allclose(dense(given), X, atol=0.126)


def test_bfloat16_rows_give_the_map_of_their_numbers() -> None:
    given = X.astype(ml_dtypes.bfloat16)
    maps = [
        UMAP(n_neighbors=4, n_epochs=3, random_state=0).fit_transform(rows)
        for rows in (given, given.astype(np.float32))
    ]
    np.testing.assert_array_equal(*maps)
