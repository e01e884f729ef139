"""What `check_input` accepts, what it refuses, and in which words."""

from __future__ import annotations

import datetime
import logging
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
import torch
import zarr
from anndata import AnnData, read_h5ad
from numpy.lib.recfunctions import structured_to_unstructured
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import (
    check_complex_data,
    check_dtype_object,
    check_estimators_nan_inf,
    check_fit1d,
    check_n_features_in_after_fitting,
)
from torch.utils.data import DataLoader, TensorDataset

from neumap.data import as_rows, check_input, embed_anndata
from neumap.data.containers import open_container
from neumap.data.finite import find_non_finite

NUMBERS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=np.float32)
NAMES = ["a", "b", "c"]


def frame(kind: str, values: np.ndarray = NUMBERS, names: list[str] = NAMES) -> Any:
    columns = {name: values[:, position] for position, name in enumerate(names)}
    return {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind](columns)


TABLES = ["pandas", "polars", "pyarrow"]


class TestTables:
    @pytest.mark.parametrize("kind", TABLES)
    def test_numbers_and_names_are_kept(self, kind: str) -> None:
        checked = check_input(frame(kind))
        np.testing.assert_array_equal(checked.X, NUMBERS)
        assert checked.X.dtype == np.float32
        assert list(checked.feature_names) == NAMES

    def test_names_that_are_not_strings_are_no_names(self) -> None:
        assert check_input(pd.DataFrame(NUMBERS)).feature_names is None
        with pytest.raises(TypeError, match="only supported if all input features have string"):
            check_input(pd.DataFrame(NUMBERS, columns=["a", 1, "c"]))

    def test_mixed_and_nullable_columns(self) -> None:
        table = pd.DataFrame(
            {
                "int": pd.array([1, 2], dtype="Int64"),
                "bool": [True, False],
                "float": np.array([0.5, 1.5]),
                "sparse": pd.arrays.SparseArray([0.0, 3.0]),
            }
        )
        with pytest.warns(UserWarning, match="sparse columns found"):
            checked = check_input(table)
        np.testing.assert_array_equal(checked.X, [[1, 1, 0.5, 0], [2, 0, 1.5, 3]])

    def test_a_sparse_frame_stays_sparse(self) -> None:
        table = pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(NUMBERS), columns=NAMES)
        checked = check_input(table)
        assert sparse.issparse(checked.X)
        assert list(checked.feature_names) == NAMES

    @pytest.mark.parametrize("kind", TABLES)
    def test_a_missing_number_is_found_by_name(self, kind: str) -> None:
        columns = {"a": [1, 2, 3], "b": [4, None, 6]}
        table = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind](columns)
        with pytest.raises(ValueError, match=r"contains NaN: 1 .* row 1, column 'b'.* Impute"):
            check_input(table)

    def test_a_nullable_missing_number(self) -> None:
        table = pd.DataFrame({"a": [1.0, 2.0], "b": pd.array([1, None], dtype="Int64")})
        with pytest.raises(ValueError, match=r"row 1, column 'b'"):
            check_input(table)

    @pytest.mark.parametrize("kind", TABLES)
    @pytest.mark.parametrize("text", [["x", "y"], ["1.5", "2"]])
    def test_text_is_refused_by_name(self, kind: str, text: list[str]) -> None:
        columns = {"a": [1.0, 2.0], "city": text}
        table = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind](columns)
        with pytest.raises(ValueError, match=r"got text.* in column 'city'\. Encode it"):
            check_input(table)

    def test_categories_and_dates_are_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match=r"got text.* in column 'kind'"):
            check_input(pd.DataFrame({"a": [1, 2], "kind": pd.Categorical(["u", "v"])}))
        with pytest.raises(ValueError, match=r"got dates or times.* in column 'day'"):
            check_input(pd.DataFrame({"a": [1, 2], "day": pd.to_datetime(["2020", "2021"])}))

    @pytest.mark.parametrize("kind", TABLES)
    @pytest.mark.parametrize("what", ["day", "moment", "zoned", "hour", "span"])
    def test_dates_and_times_of_every_table(self, kind: str, what: str) -> None:
        utc = datetime.UTC
        value = {
            "day": datetime.date(2020, 1, 1),
            "moment": datetime.datetime(2020, 1, 1, 8),
            "zoned": datetime.datetime(2020, 1, 1, 8, tzinfo=utc),
            "hour": datetime.time(8, 30),
            "span": datetime.timedelta(hours=1),
        }[what]
        make = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind]
        with pytest.raises(
            ValueError, match=r"got dates or times.* in column 'when'\. Turn it into"
        ):
            check_input(make({"a": [1.0, 2.0], "when": [value, None]}))
        with pytest.raises(ValueError, match=r"got dates or times.* in column 'when'"):
            check_input(make({"a": [1.0, 2.0], "when": [value, value]}))

    @pytest.mark.parametrize(
        "column",
        [
            pd.period_range("2020", periods=2, freq="D"),
            pd.Categorical(pd.to_datetime(["2020", "2021"])),
            pd.array([datetime.time(8), None], dtype=pd.ArrowDtype(pa.time64("us"))),
            pd.to_timedelta([1, 2], "D"),
            np.array([pd.NaT, 1.0], dtype=object),
        ],
    )
    def test_dates_that_pandas_keeps_as_something_else(self, column: Any) -> None:
        with pytest.raises(ValueError, match=r"got dates or times.* in column 'when'"):
            check_input(pd.DataFrame({"a": [1.0, 2.0], "when": column}))

    def test_advice_on_dates_works(self) -> None:
        days = pd.Series(pd.to_datetime(["2020-01-01", "2021-03-02"], utc=True))
        since = (days - days.min()).dt.total_seconds()
        table = pd.DataFrame({"year": days.dt.year, "hour": days.dt.hour, "since": since})
        assert check_input(table).X.tolist() == [[2020, 0, 0], [2021, 0, 426 * 86400]]

    def test_missing_objects_are_named_and_the_advice_works(self) -> None:
        table = pd.DataFrame({"a": [1.0, 2.0], "e": pd.Series([1, pd.NA], dtype=object)})
        with pytest.raises(
            ValueError, match=r"<NA> in row 1 in column 'e'\. Give it a numeric type"
        ):
            check_input(table)
        with pytest.raises(ValueError, match=r"contains NaN: 1 .* row 1, column 'e'"):
            check_input(table.convert_dtypes())
        filled = table.where(table.notna(), 7).astype(float)
        assert check_input(filled).X.tolist() == [[1, 1], [2, 7]]

    def test_a_lazy_frame_is_collected(self) -> None:
        checked = check_input(frame("polars").lazy())
        np.testing.assert_array_equal(checked.X, NUMBERS)
        assert list(checked.feature_names) == NAMES


class TestFittedNames:
    """The rules for `feature_names_in_` are scikit-learn's."""

    @pytest.mark.parametrize("kind", TABLES)
    def test_the_same_names_pass(self, kind: str) -> None:
        checked = check_input(frame(kind), n_features=3, feature_names=NAMES)
        assert list(checked.feature_names) == NAMES

    def test_other_names_and_another_order_are_refused(self) -> None:
        other = frame("pandas", names=["a", "b", "d"])
        with pytest.raises(ValueError, match=r"unseen at fit time:\n- d"):
            check_input(other, n_features=3, feature_names=NAMES)
        swapped = frame("pandas", names=["b", "a", "c"])
        with pytest.raises(ValueError, match="must be in the same order"):
            check_input(swapped, n_features=3, feature_names=NAMES)

    def test_names_on_one_side_only_warn(self) -> None:
        with pytest.warns(UserWarning, match="X does not have valid feature names, but Fancy was"):
            check_input(NUMBERS, n_features=3, feature_names=NAMES, estimator_name="Fancy")
        with pytest.warns(UserWarning, match="X has feature names, but Fancy was fitted without"):
            check_input(frame("polars"), n_features=3, estimator_name="Fancy")


class TestShapes:
    @pytest.mark.parametrize("array", [np.ones(4), [1.0, 2.0], torch.ones(3), 5.0])
    def test_one_axis_is_refused_with_advice(self, array: Any) -> None:
        with pytest.raises(ValueError, match=r"Expected 2D array.*\nReshape your data"):
            check_input(array)

    @pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, torch.from_numpy])
    def test_no_rows_and_no_columns(self, make: Any) -> None:
        with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\)"):
            check_input(make(np.ones((0, 3))))
        with pytest.raises(ValueError, match=r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum"):
            check_input(make(np.ones((3, 0))))

    def test_too_few_rows(self) -> None:
        with pytest.raises(ValueError, match=r"2 sample\(s\).* minimum of 4 is required by UMAP"):
            check_input(NUMBERS, min_rows=4, estimator_name="UMAP")

    @pytest.mark.parametrize("make", [np.asarray, sparse.csc_matrix, torch.from_numpy, list])
    def test_wrong_width(self, make: Any) -> None:
        message = r"X has 3 features, but UMAP is expecting 4 features as input: .* Pass the same"
        with pytest.raises(ValueError, match=message):
            check_input(make(NUMBERS), n_features=4, estimator_name="UMAP")

    def test_rows_with_axes(self) -> None:
        checked = check_input(np.zeros((5, 28, 28, 1)), n_features=784)
        assert checked.row_shape == (28, 28, 1)
        assert checked.n_features == 784

    def test_ragged_lists(self) -> None:
        with pytest.raises(ValueError, match=r"rectangular array.* got a list with rows .* Pad"):
            check_input([[1.0, 2.0], [3.0]])

    def test_a_file_name_is_not_data(self) -> None:
        with pytest.raises(TypeError, match=r"got the name 'data\.csv'\. Read the file first"):
            check_input("data.csv")


def read(loader: Any) -> Any:
    return loader.dataset


# By its name: what holds rows in a form that is no table of numbers, the error, and the remedy.
UNFIT: dict[str, tuple[Any, type[Exception], str, Any]] = {
    "fields": (
        np.array([tuple(row) for row in NUMBERS], dtype=[(name, "f4") for name in NAMES]),
        ValueError,
        r"the fields \('a', 'b', 'c'\)\. Convert it with numpy\.lib\.recfunctions",
        structured_to_unstructured,
    ),
    "records": (
        frame("pandas").to_dict("records"),
        ValueError,
        r"got one dict per row\. Make a table of them, with pandas\.DataFrame\(list\(X\)\)",
        lambda X: pd.DataFrame(list(X)),
    ),
    "dict": (
        {"X": NUMBERS},
        TypeError,
        r"got a dict\. Pass one of its entries \('X'\), or pandas\.DataFrame",
        lambda X: X["X"],
    ),
    "dict of columns": (
        {name: NUMBERS[:, at] for at, name in enumerate(NAMES)},
        TypeError,
        r"entries \('a', 'b', 'c'\), or pandas\.DataFrame\(X\) for one column each",
        pd.DataFrame,
    ),
    "generator": (
        (row for row in NUMBERS),
        TypeError,
        r"got a generator\. Read all rows first, with numpy\.stack\(list\(X\)\)",
        lambda X: np.stack(list(X)),
    ),
    "loader": (
        DataLoader(TensorDataset(torch.from_numpy(NUMBERS))),
        TypeError,
        r"got a DataLoader\. Pass its dataset, X\.dataset",
        read,
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_other_forms_are_refused_and_the_advice_works(what: str) -> None:
    X, error, message, remedy = UNFIT[what]
    with pytest.raises(error, match=message):
        check_input(X)
    rows = as_rows(check_input(remedy(X))).gather(torch.tensor([0, 1]))
    np.testing.assert_array_equal(rows.numpy(), NUMBERS)


def test_an_open_archive_is_refused_with_its_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", X=NUMBERS, y=[0, 1])
    with np.load(tmp_path / "rows.npz") as archive:
        with pytest.raises(
            TypeError, match=r"got a NpzFile\. Pass one of its entries \('X', 'y'\)"
        ):
            check_input(archive)
        np.testing.assert_array_equal(check_input(archive["X"]).X, NUMBERS)


class TestDtypes:
    def test_narrow_floats_of_other_packages(self) -> None:
        np.testing.assert_array_equal(check_input(NUMBERS.astype(ml_dtypes.bfloat16)).X, NUMBERS)

    def test_objects_without_a_number(self) -> None:
        X = NUMBERS.astype(object)
        X[1, 2] = {"a": 1}
        with pytest.raises(
            TypeError, match=r"got dict objects, such as .* in row 1 in column 2\. Tak"
        ):
            check_input(X)
        X[1, 2] = None
        assert np.isnan(check_input(X, ensure_all_finite=False).X[1, 2])

    @pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.bool_])
    def test_small_dtypes_are_not_copied(self, dtype: type) -> None:
        X = NUMBERS.astype(dtype)
        assert np.shares_memory(check_input(X).X, X)

    @pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csr_array])
    def test_float32_csr_is_not_copied(self, make: Any) -> None:
        X = make(NUMBERS)
        assert np.shares_memory(check_input(X).X.data, X.data)

    def test_text_arrays(self) -> None:
        for X in (NUMBERS.astype(str), NUMBERS.astype(str).astype(object), [["u"], ["v"]]):
            with pytest.raises(ValueError, match=r"got text.* in column 0\. Encode it"):
                check_input(X)

    def test_dates(self) -> None:
        with pytest.raises(ValueError, match=r"got dates.* in column 0"):
            check_input(np.array([["2020-01-01"]], dtype="datetime64[D]"))

    def test_complex_everywhere(self, tmp_path: Path) -> None:
        X = NUMBERS.astype(np.complex64)
        np.save(tmp_path / "x.npy", X)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        for complex_data in (X, sparse.csr_matrix(X), torch.from_numpy(X), mapped):
            with pytest.raises(ValueError, match="Complex data not supported"):
                check_input(complex_data)

    def test_structured_data_on_disk(self, tmp_path: Path) -> None:
        table = np.zeros(3, dtype=[("a", "f4"), ("b", "f4")])
        with h5py.File(tmp_path / "x.h5", "w") as file:
            dataset = file.create_dataset("x", data=table)
            with pytest.raises(ValueError, match=r"must hold numbers, got dtype .* Convert"):
                check_input(dataset)

    def test_a_masked_value_is_missing(self) -> None:
        X = np.ma.masked_array(NUMBERS, mask=NUMBERS == 5)
        with pytest.raises(ValueError, match=r"NaN: 1 .* in row 1, column 1\."):
            check_input(X)

    def test_float64_beyond_float32_is_reported(self) -> None:
        X = NUMBERS.astype(np.float64)
        X[1, 2] = 1e300
        with pytest.raises(
            ValueError, match=r"too large for dtype\('float32'\): 1 .* column 2\. C"
        ):
            check_input(X)


def containers(X: np.ndarray, folder: Path) -> dict[str, Any]:
    np.save(folder / "x.npy", X)
    file = h5py.File(folder / "x.h5", "w")
    array = zarr.create_array(str(folder / "x.zarr"), shape=X.shape, chunks=(64, 2), dtype=X.dtype)
    array[:] = X
    return {
        "array": X,
        "fortran": np.asfortranarray(X),
        "csr": sparse.csr_matrix(X),
        "csc": sparse.csc_matrix(X),
        "coo": sparse.coo_array(X),
        "tensor": torch.from_numpy(X),
        "memmap": np.load(folder / "x.npy", mmap_mode="r"),
        "hdf5": file.create_dataset("x", data=X, chunks=(2, 3)),
        "zarr": array,
        "dataset": TensorDataset(torch.from_numpy(X)),
        "anndata": AnnData(X),
    }


KINDS = ["array", "fortran", "csr", "csc", "coo", "tensor", "memmap", "hdf5", "zarr", "dataset"]


class TestFinite:
    @pytest.mark.parametrize("kind", [*KINDS, "anndata"])
    def test_count_and_first_position(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("neumap.data.finite.TILE_BYTES", 4096)  # several tiles
        X = np.zeros((3000, 3), dtype=np.float32)
        X[[2500, 2501, 2600], [2, 0, 1]] = np.nan
        X[[7, 2999], [1, 0]] = -np.inf
        data = containers(X, tmp_path)[kind]
        position = "column '2'" if kind == "anndata" else "column 2"
        with pytest.raises(ValueError, match=rf"NaN: 3 missing .* in row 2500, {position}\. .*Imp"):
            check_input(data)
        with pytest.raises(
            ValueError, match=r"contains infinity .*: 2 value\(s\), .* in row 7, col"
        ):
            check_input(data, ensure_all_finite="allow-nan")
        assert check_input(data, ensure_all_finite=False).n_features == 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_missing_values_pass_where_allowed(self, kind: str, tmp_path: Path) -> None:
        X = NUMBERS.copy()
        X[0, 1] = np.nan
        checked = check_input(containers(X, tmp_path)[kind], ensure_all_finite="allow-nan")
        got = as_rows(checked).gather(torch.tensor([0, 1]))
        np.testing.assert_array_equal(got.numpy(), X)

    def test_rows_with_axes(self) -> None:
        X = np.zeros((9, 4, 5))
        X[8, 3, 1] = np.nan
        with pytest.raises(ValueError, match=r"in row 8 at \(3, 1\)"):
            check_input(X)

    def test_a_sum_that_overflows_is_finite(self) -> None:
        X = np.full((100, 10), 1e36, dtype=np.float32)
        assert check_input(X).X is not None

    def test_values_whose_differences_overflow_are_too_large(self) -> None:
        X = np.ones((4, 3), dtype=np.float32)
        X[2, 1] = -3e38
        for values in (X, X.astype(np.float64), torch.from_numpy(X), sparse.csr_matrix(X)):
            with pytest.raises(ValueError, match=r"too large.*row 2, column 1.*at most 1e\+36"):
                check_input(values)

    def test_scikit_learns_switch_is_heeded(self) -> None:
        with sklearn.config_context(assume_finite=True):
            assert np.isnan(check_input([[np.nan, 1.0]]).X[0, 0])

    def test_an_unknown_mode(self) -> None:
        with pytest.raises(ValueError, match=r"must be a bool or 'allow-nan', got 'maybe'"):
            check_input(NUMBERS, ensure_all_finite="maybe")  # type: ignore[arg-type]

    def test_no_mask_of_the_whole(self) -> None:
        X = np.zeros((40_000, 400), dtype=np.float32)  # 64 MB; its mask would be 16 MB
        tracemalloc.start()
        check_input(X)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * 2**20

    def test_integers_are_not_read(self) -> None:
        class Untouchable:
            dtype, shape = np.dtype(np.int32), (3, 3)

        assert find_non_finite(Untouchable()).n_nan == 0


class TestConstantColumns:
    def test_they_pass_with_a_debug_line(self, caplog: pytest.LogCaptureFixture) -> None:
        X = NUMBERS.copy()
        X[:, 1] = 3.0
        with caplog.at_level(logging.DEBUG, logger="neumap.data.validate"):
            assert check_input(X).n_features == 3
        assert "1 of 3 columns are constant in the first 2 rows, such as [1]" in caplog.text


class _Estimator(BaseEstimator):
    """The least estimator that validates as the package's own do."""

    def __init__(self) -> None:
        pass

    def fit(self, X: Any, y: Any = None) -> _Estimator:
        checked = check_input(X, estimator_name=type(self).__name__)
        self.n_features_in_ = checked.n_features
        if checked.feature_names is not None:
            self.feature_names_in_ = checked.feature_names
        return self

    def transform(self, X: Any) -> Any:
        return check_input(
            X,
            n_features=self.n_features_in_,
            feature_names=getattr(self, "feature_names_in_", None),
            estimator_name=type(self).__name__,
        ).X


@pytest.mark.parametrize(
    "check",
    [
        check_complex_data,
        check_dtype_object,
        check_estimators_nan_inf,
        check_fit1d,
        check_n_features_in_after_fitting,
    ],
    ids=lambda check: check.__name__,
)
def test_scikit_learns_checks_know_the_messages(check: Any) -> None:
    check("_Estimator", _Estimator())


class TestAnnData:
    def cells(self) -> AnnData:
        rng = np.random.default_rng(0)
        adata = AnnData(
            sparse.csr_matrix(rng.poisson(1.0, (6, 4)).astype(np.float32)),
            obs=pd.DataFrame(
                {"type": pd.Categorical(["x", "y", None, "x", "y", "x"])}, index=list("uvwxyz")
            ),
        )
        adata.obs["age"] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        adata.var_names = ["g1", "g2", "g3", "g4"]
        adata.obsm["X_pca"] = rng.standard_normal((6, 3))
        return adata

    def test_x_keeps_gene_names(self) -> None:
        adata = self.cells()
        checked = check_input(adata)
        assert list(checked.feature_names) == ["g1", "g2", "g3", "g4"]
        np.testing.assert_array_equal(checked.X.toarray(), adata.X.toarray())

    def test_a_representation(self) -> None:
        adata = self.cells()
        contents = open_container(adata, "X_pca")
        np.testing.assert_array_equal(contents.values, adata.obsm["X_pca"])
        assert contents.named is None

    def test_a_missing_representation_is_named(self) -> None:
        with pytest.raises(KeyError, match=r"one of \['X_pca'\], got 'X_scvi'\. Compute"):
            open_container(self.cells(), "X_scvi")
        with pytest.raises(KeyError, match=r"adata\.X must .* got None\. Pass use_rep"):
            check_input(AnnData(obs=pd.DataFrame(index=["a"])))

    @pytest.mark.parametrize("dense", [True, False])
    def test_backed_mode(self, tmp_path: Path, dense: bool) -> None:
        adata = self.cells()
        expected = adata.X.toarray()
        if dense:
            adata.X = expected
        adata.write_h5ad(tmp_path / "cells.h5ad")
        rows = as_rows(check_input(read_h5ad(tmp_path / "cells.h5ad", backed="r")))
        np.testing.assert_array_equal(rows.gather(torch.arange(6)).numpy(), expected)


class _Recorder(BaseEstimator):
    """Returns the first two columns and remembers what it was given."""

    def __init__(self, n_neighbors: int = 7, init: Any = None) -> None:
        self.n_neighbors = n_neighbors
        self.init = init

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        self.seen_X, self.seen_y = X, y
        dense = X.toarray() if sparse.issparse(X) else np.asarray(X)
        return dense[:, :2]


class TestEmbedAnnData:
    def test_writes_embedding_and_parameters(self, tmp_path: Path) -> None:
        adata = TestAnnData().cells()
        embed_anndata(adata, _Recorder())
        np.testing.assert_array_equal(adata.obsm["X_neumap"], adata.obsm["X_pca"][:, :2])
        assert adata.uns["neumap"] == {"params": {"use_rep": "X_pca", "n_neighbors": 7}}
        adata.write_h5ad(tmp_path / "cells.h5ad")
        read = read_h5ad(tmp_path / "cells.h5ad")
        assert read.uns["neumap"]["params"]["n_neighbors"] == 7

    def test_key_and_matrix(self) -> None:
        adata = TestAnnData().cells()
        embed_anndata(adata, _Recorder(), use_rep="X", key_added="X_map")
        np.testing.assert_array_equal(adata.obsm["X_map"], adata.X.toarray()[:, :2])
        assert "X_neumap" not in adata.obsm
        assert adata.uns["X_map"]["params"]["use_rep"] == "X"

    def test_labels(self) -> None:
        adata, recorder = TestAnnData().cells(), _Recorder()
        embed_anndata(adata, recorder)
        assert recorder.seen_y is None
        embed_anndata(adata, recorder, labels="type")
        assert recorder.seen_y.tolist() == ["x", "y", -1, "x", "y", "x"]
        embed_anndata(adata, recorder, labels="age")
        np.testing.assert_array_equal(recorder.seen_y, [1, 2, 3, 4, 5, 6])

    def test_errors_say_what_to_do(self) -> None:
        adata = TestAnnData().cells()
        with pytest.raises(TypeError, match=r"must be an anndata\.AnnData, got ndarray\. For arr"):
            embed_anndata(NUMBERS, _Recorder())
        with pytest.raises(KeyError, match=r"one of \['type', 'age'\], got 'kind'\. Pass one"):
            embed_anndata(adata, _Recorder(), labels="kind")

        class Several(_Recorder):
            def fit_transform(self, X: Any, y: Any = None) -> Any:
                return (np.zeros((6, 2)), np.zeros(6))

        with pytest.raises(ValueError, match=r"array \(6, n_components\), got tuple .* Turn off"):
            embed_anndata(adata, Several())
