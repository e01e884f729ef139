"""Columns of vectors, tables of other libraries and arrays of other libraries, through fit.

Each must give the map of the dense float32 array with the same numbers, bit for bit.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import sklearn
import torch
from sklearn.base import clone

from neumap import UMAP, ParametricUMAP, load
from neumap.data import check_input, tables

BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
NEW = np.random.default_rng(1).normal(size=(7, 6)).astype(np.float32)


def quick(kind: type[UMAP], **parameters: Any) -> Any:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    return kind(**{"n_neighbors": 5, "n_epochs": 3, "random_state": 0, **preset, **parameters})


def objects(values: list[Any]) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def fixed(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def two_chunks(rows: np.ndarray) -> pa.ChunkedArray:
    return pa.chunked_array([fixed(rows[:3]), fixed(rows[3:])])


FLOATS = pl.List(pl.Float32)
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "pandas Series of arrays": lambda V: pd.Series(list(V)),
    "pandas Series of lists": lambda V: pd.Series(V.tolist()),
    "pandas Series of tensors": lambda V: pd.Series(list(torch.from_numpy(V))),
    "pandas column of arrays": lambda V: pd.DataFrame({"v": list(V)}),
    "pandas column of Arrow lists": lambda V: pd.DataFrame(
        {"v": pd.Series(V.tolist(), dtype=pd.ArrowDtype(pa.list_(pa.float32())))}
    ),
    "polars List": lambda V: pl.DataFrame({"v": V.tolist()}, schema={"v": FLOATS}),
    "polars Array": lambda V: pl.DataFrame({"v": V}, schema={"v": pl.Array(pl.Float32, 6)}),
    "polars Series": lambda V: pl.Series("v", V.tolist(), dtype=FLOATS),
    "polars, lazy": lambda V: pl.LazyFrame({"v": V.tolist()}, schema={"v": FLOATS}),
    "pyarrow FixedSizeList": fixed,
    "pyarrow FixedSizeList, sliced": lambda V: fixed(np.vstack([V, V])).slice(len(V)),
    "pyarrow List": lambda V: pa.array(V.tolist(), pa.list_(pa.float32())),
    "pyarrow LargeList": lambda V: pa.array(V.tolist(), pa.large_list(pa.float32())),
    "pyarrow chunks": two_chunks,
    "pyarrow tensors": pa.FixedShapeTensorArray.from_numpy_ndarray,
    "pyarrow table": lambda V: pa.table({"v": two_chunks(V)}),
    "pyarrow batch": lambda V: pa.record_batch({"v": fixed(V)}),
    "array of arrays": lambda V: objects(list(V)),
    "array of lists": lambda V: objects(V.tolist()),
}


@pytest.fixture(scope="module")
def expected() -> dict[type[UMAP], Any]:
    models = {kind: quick(kind).fit(X) for kind in (UMAP, ParametricUMAP)}
    return {kind: (model.embedding_, model.transform(NEW)) for kind, model in models.items()}


@BOTH
@pytest.mark.parametrize("form", FORMS)
def test_vectors_give_the_map_of_their_array(kind: Any, form: str, expected: Any) -> None:
    model = quick(kind).fit(FORMS[form](X))
    np.testing.assert_array_equal(model.embedding_, expected[kind][0])
    np.testing.assert_array_equal(model.transform(FORMS[form](NEW)), expected[kind][1])
    np.testing.assert_array_equal(model.transform(NEW), expected[kind][1])
    assert model.n_features_in_ == 6
    assert not hasattr(model, "feature_names_in_")


MIXED: dict[str, Callable[..., Any]] = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
MIXED |= {"pyarrow": pa.table, "polars, lazy": pl.LazyFrame}


@pytest.mark.parametrize("library", MIXED)
def test_column_names_the_vectors_among_other_columns(library: str, expected: Any) -> None:
    def mixed(rows: np.ndarray) -> Any:
        n = len(rows)
        other = np.zeros((n, 2)).tolist()
        columns = {"id": list(range(n)), "text": ["x"] * n, "v": rows.tolist(), "w": other}
        return MIXED[library](columns)

    model = quick(ParametricUMAP, column="v").fit(mixed(X))
    np.testing.assert_array_equal(model.embedding_, expected[ParametricUMAP][0])
    np.testing.assert_array_equal(model.transform(mixed(NEW)), expected[ParametricUMAP][1])
    with pytest.raises(ValueError, match=r"got vectors in 'v', 'w' beside numbers in 'id'\. Name"):
        quick(ParametricUMAP).fit(mixed(X))
    with pytest.raises(ValueError, match=r"one of the columns of X, 'id', .*got 'u'\. Choose"):
        quick(ParametricUMAP, column="u").fit(mixed(X))
    with pytest.raises(ValueError, match=r"one vector of numbers per row, got 'text', which holds"):
        quick(ParametricUMAP, column="text").fit(mixed(X))


@pytest.mark.parametrize("numbers", [range(40), [True] * 40, [0.5] * 40])
def test_vectors_beside_numbers_are_never_guessed(numbers: Any) -> None:
    frame = pd.DataFrame({"n": numbers, "v": list(X)})
    with pytest.raises(ValueError, match=r"vectors in 'v' beside numbers in 'n'.*column='v'"):
        check_input(frame)


def test_of_a_lazy_table_no_other_column_is_computed() -> None:
    lazy = pl.LazyFrame(
        {"v": X.tolist(), "text": ["no number"] * 40}, schema_overrides={"v": FLOATS}
    )
    lazy = lazy.with_columns(spoilt=pl.col("text").cast(pl.Int64))
    np.testing.assert_array_equal(check_input(lazy, column="v").X, X)
    with pytest.raises(ValueError, match="a lazy table that can be computed"):
        check_input(lazy)


def test_columns_without_numbers_are_left_out_with_a_warning(expected: Any) -> None:
    frame = pd.DataFrame({"text": ["x"] * len(X), "v": list(X)})
    with pytest.warns(UserWarning, match=r"vectors in column 'v' beside 'text', which are left"):
        model = quick(UMAP).fit(frame)
    np.testing.assert_array_equal(model.embedding_, expected[UMAP][0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(UMAP, column="v").fit(frame)


def test_column_is_kept_by_clone_and_by_a_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": range(len(X)), "v": list(X)})
    model = quick(ParametricUMAP, column="v").fit(frame)
    assert clone(model).column == "v"
    again = load(model.save(tmp_path / "m.neumap"))
    assert again.column == "v"
    np.testing.assert_array_equal(again.transform(frame), model.transform(X))


def test_every_verb_reads_the_column() -> None:
    frame = pd.DataFrame({"id": range(len(X)), "v": list(X)})
    model = quick(
        ParametricUMAP, column="v", classifier_loss_weight=1.0, parametric_reconstruction=True,
        reconstruction_validation=frame,
    ).fit(frame, np.arange(len(X)) % 2)  # fmt: skip
    np.testing.assert_array_equal(model.predict(frame), model.predict(X))
    scores = [model.confidence(rows, n_calibration=10).score for rows in (frame, X)]
    np.testing.assert_array_equal(*scores)
    added = quick(ParametricUMAP, column="v").fit(frame).update(frame[:9])
    assert len(added.embedding_) == 49
    placed = ParametricUMAP.from_embedding(
        frame, X[:, :2], column="v", preset="fast", random_state=0, n_epochs=2
    )
    assert placed.n_features_in_ == 6


WRONG = {
    "ragged": ([[1.0, 2.0], [3.0, 4.0], [5.0]], "got 2 numbers in the first row and 1 in row 2"),
    "missing": ([[1.0, 2.0], None, [5.0, 6.0]], "one vector in each row, got none in row 1"),
    "missing first": ([None, [1.0, 2.0], [5.0, 6.0]], "one vector in each row, got none in row 0"),
}
COLUMNS: dict[str, Callable[[Any], Any]] = {
    "pandas": lambda values: pd.DataFrame({"v": values}),
    "pandas Arrow": lambda values: pd.DataFrame(
        {"v": pd.Series(values, dtype=pd.ArrowDtype(pa.list_(pa.float64())))}
    ),
    "polars": lambda values: pl.DataFrame({"v": values}),
    "pyarrow": lambda values: pa.table({"v": pa.array(values)}),
    "pyarrow chunks": lambda values: pa.table({"v": pa.chunked_array([values[:2], values[2:]])}),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("library", COLUMNS)
def test_ragged_and_missing_vectors_are_named_by_row_and_column(wrong: str, library: str) -> None:
    values, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"{message} of column 'v'. Drop these rows"):
        check_input(COLUMNS[library](values))


@pytest.mark.parametrize(
    "column", [pa.array([[1, 2], None], pa.list_(pa.float32(), 2)), objects([X[0], "text"])]
)
def test_single_columns_name_the_row(column: Any) -> None:
    with pytest.raises(ValueError, match=r"one vector in each row, got .* in row 1\. Drop"):
        check_input(column)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_missing_number_within_a_vector_is_missing(library: str) -> None:
    with pytest.raises(
        ValueError, match=r"NaN: 1 missing value\(s\), the first in row 1, column 0"
    ):
        check_input(COLUMNS[library]([[1.0, 2.0], [None, 4.0], [5.0, 6.0]]))


@pytest.mark.parametrize("make", [pl.Series, pa.array, pd.Series])
def test_nested_lists_are_rows_with_axes(make: Any) -> None:
    images = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    checked = check_input(make(images.tolist()))
    assert checked.row_shape == (2, 3)
    np.testing.assert_array_equal(checked.X, images)


def test_fixed_size_lists_are_not_copied() -> None:
    table = pa.table({"v": fixed(X)})
    stored = table["v"].chunk(0).flatten().to_numpy()
    assert np.shares_memory(check_input(table).X, stored)


# --------------------------------------------------------------- tables of other libraries


@pytest.mark.integration("duckdb")
def test_duckdb(expected: Any, package: Any) -> None:
    wide = pa.table({f"c{i}": X[:, i] for i in range(6)})
    model = quick(ParametricUMAP).fit(package.from_arrow(wide))
    assert model.feature_names_in_.tolist() == wide.column_names
    np.testing.assert_array_equal(model.embedding_, expected[ParametricUMAP][0])
    vectors = package.from_arrow(pa.table({"id": range(len(X)), "v": fixed(X)}))
    model = quick(ParametricUMAP, column="v").fit(vectors)
    np.testing.assert_array_equal(model.embedding_, expected[ParametricUMAP][0])


class HuggingFace:
    """What is used of ``datasets.Dataset``, on an Arrow table in another order."""

    def __init__(self, table: pa.Table, rows: list[int]) -> None:
        self.table, self.rows, self.column_names = table, rows, table.column_names
        self.format = "python"

    def select_columns(self, names: list[str]) -> HuggingFace:
        return HuggingFace(self.table.select(names), self.rows)

    def with_format(self, name: str) -> HuggingFace:
        again = HuggingFace(self.table, self.rows)
        again.format = name
        return again

    def __getitem__(self, part: slice) -> Any:
        assert self.format == "arrow"
        return self.table.take(self.rows)[part]


def test_hugging_face_datasets_by_their_methods(
    monkeypatch: pytest.MonkeyPatch, expected: Any
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    sys.modules["datasets"].Dataset = HuggingFace  # type: ignore[attr-defined]
    order = np.random.default_rng(0).permutation(len(X))
    table = pa.table({"id": range(len(X)), "v": fixed(X)}).take(order)
    selected = HuggingFace(table, np.argsort(order).tolist())
    model = quick(UMAP, column="v").fit(selected)
    np.testing.assert_array_equal(model.embedding_, expected[UMAP][0])
    with pytest.raises(ValueError, match="beside numbers in 'id'"):
        quick(UMAP).fit(selected)


@pytest.mark.integration("datasets")
def test_hugging_face_datasets(expected: Any, package: Any) -> None:
    whole = package.Dataset.from_dict({"id": list(range(len(X))), "v": X[::-1].tolist()})
    selected = whole.select(range(len(X) - 1, -1, -1)).with_format("torch")
    model = quick(UMAP, column="v").fit(selected)
    np.testing.assert_array_equal(model.embedding_, expected[UMAP][0])


def test_tables_of_other_libraries_become_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """As modin and cuDF: an eager table that numpy does not read, which narwhals can convert."""
    monkeypatch.setattr(tables, "READ_DIRECTLY", ("pandas",))
    table = tables.table_of(pl.DataFrame({"a": X[:, 0], "b": X[:, 1]}))
    assert isinstance(table, pd.DataFrame)
    np.testing.assert_array_equal(table.to_numpy(), X[:, :2])


# --------------------------------------------------------------- arrays of other libraries


class Exchanged:
    """An array as CuPy's: another library may look at its memory, numpy may not copy it."""

    def __init__(self, rows: np.ndarray) -> None:
        self.tensor = torch.from_numpy(rows)

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


@BOTH
def test_arrays_that_share_their_memory(kind: Any, expected: Any) -> None:
    model = quick(kind).fit(Exchanged(X))
    np.testing.assert_array_equal(model.embedding_, expected[kind][0])
    np.testing.assert_array_equal(model.transform(Exchanged(NEW)), expected[kind][1])
    assert check_input(Exchanged(X)).X.data_ptr() == X.ctypes.data  # not copied


def test_arrays_that_torch_cannot_read_are_named() -> None:
    class Foreign(Exchanged):
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("a device of its own")

    with pytest.raises(TypeError, match=r"host's memory, got a Foreign .*Copy it .* X\.get\(\)\."):
        check_input(Foreign(X))

    class NeitherWay:
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("a device of its own")

        __dlpack_device__ = Exchanged.__dlpack_device__

    with pytest.raises(TypeError, match=r"got a NeitherWay that it cannot .*Copy it to an array"):
        check_input(NeitherWay())


@BOTH
def test_positions_as_a_tensor(kind: Any, expected: Any) -> None:
    model = quick(kind).fit(X)
    placed = model.transform(torch.from_numpy(NEW), output="torch")
    assert isinstance(placed, torch.Tensor)
    assert (placed.dtype, placed.device.type) == (torch.float32, torch.empty(0).device.type)
    np.testing.assert_array_equal(placed.numpy(), expected[kind][1])
    weight = torch.ones(2, requires_grad=True)
    (placed * weight).sum().backward()  # an ordinary tensor, not one of inference mode
    np.testing.assert_allclose(weight.grad, placed.sum(0), rtol=1e-5)


@BOTH
def test_output_says_what_excludes_it(kind: Any) -> None:
    model = quick(kind).fit(X)
    with pytest.raises(ValueError, match=r"output must be one of \['numpy', 'torch'\], got 'jax'"):
        model.transform(X, output="jax")
    with (
        sklearn.config_context(transform_output="pandas"),
        pytest.raises(ValueError, match="set_output asks for tables of pandas"),
    ):
        model.transform(X, output="torch")
    with pytest.raises(ValueError, match=r"of polars, got 'torch'\. Call set_output"):
        model.set_output(transform="polars").transform(X, output="torch")
    assert model.set_output(transform="default").transform(X, output="torch").shape == (40, 2)
    graph = quick(kind, transform_mode="graph").fit(X)
    with pytest.raises(ValueError, match="while transform_mode='graph'"):
        graph.transform(X, output="torch")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rows_and_positions_stay_on_the_card() -> None:
    card = torch.from_numpy(X).cuda()
    model = quick(ParametricUMAP, device="cuda").fit(card)
    placed = model.transform(card, output="torch")
    assert placed.device.type == "cuda"
    np.testing.assert_array_equal(placed.cpu().numpy(), model.transform(card))


# --------------------------------------------------------------- no import for nothing


def test_arrays_do_not_ask_narwhals(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [X, X.tolist(), torch.from_numpy(X), scipy.sparse.csr_array(X), 3.0, "x", {"a": X}]
    for name in ("narwhals", "narwhals.stable.v2"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it would fail
    for other in others:
        assert tables.table_of(other) is None
        assert tables.frame_of(other) is None
        assert tables.series_of(other) is None
    with pytest.raises(ImportError):
        tables.table_of(pd.DataFrame(X))
