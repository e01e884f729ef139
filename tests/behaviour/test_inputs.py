"""Every kind of input, through both estimators, against the dense array of the same numbers.

``docs/inputs.md`` lists what is accepted and what raises an error. ``SHOWN_BY`` maps each of its
lines to a test here, and the last tests check that page and map agree.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from neumap import UMAP, ParametricUMAP, load_ParametricUMAP
from neumap.estimators import PRESETS
from neumap.networks import MLP, ConvEncoder, Standardize
from neumap.similarity import find_ab
from neumap.training import mlp_step, precision

BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
PAGE = Path(__file__).parents[2] / "docs" / "inputs.md"
TRANSFORM = 1e-5  # of positions about 10 wide: BLAS sums in another order for another batch shape
# Distances of sparse rows come from sparse products, which round otherwise; three epochs of
# training let the difference grow.
SPARSE = 0.02


def quick(kind: type[UMAP], **parameters: Any) -> Any:
    """Return an estimator that fits in a tenth of a second."""
    smallest = {"preset": "fast"} if kind is ParametricUMAP else {}
    base = {"n_neighbors": 5, "n_epochs": 3, "random_state": 0}
    return kind(**{**base, **smallest, **parameters})


@pytest.fixture(scope="module")
def whole() -> NDArray[np.float32]:
    """Whole numbers 0 to 16, which every dtype of numpy holds exactly; rows without equals."""
    rows = load_digits().data[:120].astype(np.float32)
    return np.ascontiguousarray(rows[:, rows.std(axis=0) > 0])


@pytest.fixture(scope="module")
def new(whole: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = load_digits().data[120:135].astype(np.float32)
    full = load_digits().data[:120]
    return np.ascontiguousarray(rows[:, full.std(axis=0) > 0])


@pytest.fixture(scope="module")
def expected(whole: Any, new: Any) -> dict[type[UMAP], tuple[Any, Any]]:
    """Positions of training and new rows for the dense float32 array."""
    found = {}
    for kind in (UMAP, ParametricUMAP):
        model = quick(kind).fit(whole)
        found[kind] = model.embedding_, model.transform(new)
    return found


def check_same(kind: type[UMAP], fitted: Any, placed: Any, expected: Any, tolerance: float) -> None:
    trained, held_out = expected[kind]
    np.testing.assert_allclose(fitted, trained, atol=tolerance)
    np.testing.assert_allclose(placed, held_out, atol=max(tolerance, TRANSFORM))


# ------------------------------------------------------------------ arrays and lists

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "longdouble", ">f4", ">i2"]


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_of_every_dtype(kind: Any, dtype: str, whole: Any, new: Any, expected: Any) -> None:
    if dtype == "bool":
        dense, dense_new = (whole > 7).astype(np.float32), (new > 7).astype(np.float32)
        model = quick(kind).fit(dense)
        expected = {kind: (model.embedding_, model.transform(dense_new))}
        data, data_new = whole > 7, new > 7
    else:
        data, data_new = whole.astype(dtype), new.astype(dtype)
    model = quick(kind).fit(data)
    assert model.embedding_.dtype == np.float32
    check_same(kind, model.embedding_, model.transform(data_new), expected, 0.0)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X: X[::-1].copy()[::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes(), dtype=np.float32).reshape(X.shape),
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "tuple of lists": lambda X: tuple(X.tolist()),
    "objects that are numbers": lambda X: X.astype(object),
}


@BOTH
@pytest.mark.parametrize("layout", LAYOUTS)
def test_array_likes(kind: Any, layout: str, whole: Any, new: Any, expected: Any) -> None:
    model = quick(kind).fit(LAYOUTS[layout](whole))
    placed = model.transform(LAYOUTS[layout](new))
    check_same(kind, model.embedding_, placed, expected, 0.0)


# ------------------------------------------------------------------ tables


def columns(X: Any) -> list[str]:
    return [f"pixel {i}" for i in range(X.shape[1])]


TABLES: dict[str, Callable[[Any, list[str]], Any]] = {
    "pandas": lambda X, names: pd.DataFrame(X, columns=names),
    "pandas of several dtypes": lambda X, names: pd.DataFrame(X, columns=names).astype(
        dict(zip(names[:4], ["int64", "float64", "Int16", "uint8"], strict=True))
    ),
    "polars": lambda X, names: pl.DataFrame(X, schema=names),
    "pyarrow": lambda X, names: pl.DataFrame(X, schema=names).to_arrow(),
    "polars, lazy": lambda X, names: pl.DataFrame(X, schema=names).lazy(),
    "a batch of pyarrow": lambda X, names: pl.DataFrame(X, schema=names).to_arrow().to_batches()[0],
}


@BOTH
@pytest.mark.parametrize("table", TABLES)
def test_tables_keep_their_names(
    kind: Any, table: str, whole: Any, new: Any, expected: Any
) -> None:
    names = columns(whole)
    model = quick(kind).fit(TABLES[table](whole, names))
    assert model.feature_names_in_.tolist() == names
    placed = model.transform(TABLES[table](new, names))
    check_same(kind, model.embedding_, placed, expected, 0.0)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(TABLES[table](new, [*names[1:], names[0]]))


@BOTH
def test_set_output(kind: Any, whole: Any, new: Any, expected: Any) -> None:
    frame = pd.DataFrame(new, columns=columns(new), index=[f"row {i}" for i in range(len(new))])
    for library, type_ in (("pandas", pd.DataFrame), ("polars", pl.DataFrame)):
        model = quick(kind).set_output(transform=library)
        model.fit(pd.DataFrame(whole, columns=columns(whole)))
        placed = model.transform(frame)
        assert isinstance(placed, type_)
        assert list(placed.columns) == model.get_feature_names_out().tolist()
        if library == "pandas":
            assert placed.index.equals(frame.index)
        np.testing.assert_allclose(placed.to_numpy(), expected[kind][1], atol=TRANSFORM)


# ------------------------------------------------------------------ sparse

SPARSE_FORMS = ["csr_matrix", "csr_array", "csc_matrix", "csc_array", "coo_matrix", "coo_array"]
SPARSE_FORMS += ["lil_matrix", "dok_array", "bsr_matrix"]


@BOTH
@pytest.mark.parametrize("form", SPARSE_FORMS)
def test_sparse(kind: Any, form: str, whole: Any, new: Any, expected: Any) -> None:
    make = getattr(scipy.sparse, form)
    model = quick(kind).fit(make(whole))
    check_same(kind, model.embedding_, model.transform(make(new)), expected, SPARSE)
    np.testing.assert_allclose(model.transform(new), model.transform(make(new)), atol=1e-3)


@BOTH
def test_sparse_entries_in_any_order_and_more_than_once(
    kind: Any, whole: Any, new: Any, expected: Any
) -> None:
    coo = scipy.sparse.coo_matrix(whole)
    order = np.random.default_rng(0).permutation(coo.nnz)
    twice = np.concatenate([order, order])
    halves = scipy.sparse.coo_matrix((coo.data[twice] / 2, (coo.row[twice], coo.col[twice])))
    before = halves.data.copy()
    model = quick(kind).fit(halves)
    check_same(kind, model.embedding_, model.transform(new), expected, SPARSE)
    np.testing.assert_array_equal(halves.data, before)


def test_sparse_rows_are_never_dense_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 columns: dense, 400 rows would be 32 MB; no call makes more than 64 rows dense."""
    rng = np.random.default_rng(0)
    rows = scipy.sparse.random(400, 20_000, density=0.005, random_state=rng, format="csr")
    dense: list[int] = []
    original = scipy.sparse.csr_matrix.toarray

    def watched(self: Any, *args: Any, **kwds: Any) -> Any:
        dense.append(self.shape[0] * (self.shape[1] == 20_000))
        return original(self, *args, **kwds)

    monkeypatch.setattr(scipy.sparse.csr_matrix, "toarray", watched)
    model = quick(ParametricUMAP, batch_size=32, n_epochs=1).fit(rows)
    assert model.report_["neighbors"] == "exact-sparse"
    assert max(dense, default=0) == 0
    np.testing.assert_allclose(model.transform(rows[:7]), model.embedding_[:7], atol=1e-4)


def test_wide_rows_are_encoded_in_small_slices() -> None:
    """A slice of rows made dense stays below 64 MB, however wide the rows are."""
    rows = scipy.sparse.random(1000, 50_000, density=0.0005, format="csr", random_state=0)
    sizes: list[int] = []

    class Watching(torch.nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            sizes.append(rows.nbytes)
            return super().forward(rows)

    model = quick(ParametricUMAP, encoder=Watching(50_000, 2), n_epochs=0).fit(rows)
    sizes.clear()
    placed = model.transform(rows)
    assert len(sizes) > 1
    assert max(sizes) <= 2**26
    np.testing.assert_allclose(placed, model.embedding_, atol=1e-4)


# ------------------------------------------------------------------ torch


class Pictures(Dataset[Any]):
    """A map-style Dataset, of rows alone or of (row, label)."""

    def __init__(self, rows: Any, labels: Any = None) -> None:
        self.rows, self.labels = rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        row = torch.from_numpy(self.rows[index])
        return row if self.labels is None else (row, self.labels[index])


TENSORS: dict[str, Callable[[Any], Any]] = {
    "float32": torch.from_numpy,
    "float64": lambda X: torch.from_numpy(X).double(),
    "bfloat16": lambda X: torch.from_numpy(X).bfloat16(),  # holds 0 to 16 exactly
    "uint8": lambda X: torch.from_numpy(X).to(torch.uint8),
    "int64": lambda X: torch.from_numpy(X).long(),
    "with gradient": lambda X: torch.from_numpy(X.copy()).requires_grad_(),
    "Dataset": Pictures,
    "Dataset with labels": lambda X: Pictures(X, np.arange(len(X)) % 3),
    "TensorDataset": lambda X: TensorDataset(torch.from_numpy(X), torch.arange(len(X))),
}


@BOTH
@pytest.mark.parametrize("form", TENSORS)
def test_torch(kind: Any, form: str, whole: Any, new: Any, expected: Any) -> None:
    model = quick(kind).fit(TENSORS[form](whole))
    placed = model.transform(TENSORS[form](new))
    assert isinstance(placed, np.ndarray)
    check_same(kind, model.embedding_, placed, expected, 0.0)


@BOTH
def test_sparse_tensor(kind: Any, whole: Any, new: Any, expected: Any) -> None:
    model = quick(kind).fit(torch.from_numpy(whole).to_sparse())
    placed = model.transform(torch.from_numpy(new).to_sparse())
    check_same(kind, model.embedding_, placed, expected, SPARSE)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([torch.zeros(3)])


@BOTH
def test_streams_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"map-style Dataset .* Collect the stream"):
        quick(kind).fit(Stream())


# ------------------------------------------------------------------ files


def as_memmap(X: Any, folder: Path, name: str) -> Any:
    flat = np.memmap(folder / name, dtype=X.dtype, mode="w+", shape=X.shape)
    flat[:] = X
    flat.flush()
    return np.memmap(folder / name, dtype=X.dtype, mode="r", shape=X.shape)


def as_hdf5(X: Any, folder: Path, name: str, **layout: Any) -> Any:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / name, "w") as file:
        file.create_dataset("X", data=X, **layout)
    return h5py.File(folder / name, "r")["X"]


def as_zarr(X: Any, folder: Path, name: str) -> Any:
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(str(folder / name), shape=X.shape, dtype=X.dtype, chunks=(32, 20))
    stored[:] = X
    return zarr.open_array(str(folder / name), mode="r")


ON_DISK: dict[str, Callable[[Any, Path, str], Any]] = {
    "npy": as_memmap,
    "hdf5": as_hdf5,
    "hdf5 in chunks": lambda X, folder, name: as_hdf5(
        X, folder, name, chunks=(8, 10), compression="gzip"
    ),
    "zarr": as_zarr,
}


@BOTH
@pytest.mark.parametrize("form", ON_DISK)
def test_arrays_on_disk(
    kind: Any, form: str, whole: Any, new: Any, expected: Any, tmp_path: Path
) -> None:
    model = quick(kind).fit(ON_DISK[form](whole, tmp_path, "train"))
    placed = model.transform(ON_DISK[form](new, tmp_path, "new"))
    check_same(kind, model.embedding_, placed, expected, 0.0)


# ------------------------------------------------------------------ rows with axes


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return load_digits().images[:120].astype(np.float32)


@BOTH
@pytest.mark.parametrize("form", ["array", "tensor", "Dataset", "memmap", "uint8"])
def test_rows_with_axes_are_read_as_flat_rows(
    kind: Any, form: str, images: Any, tmp_path: Path
) -> None:
    forms: dict[str, Callable[[Any], Any]] = {
        "array": lambda X: X,
        "tensor": torch.from_numpy,
        "Dataset": Pictures,
        "memmap": lambda X: as_memmap(X, tmp_path, f"{len(X)}"),
        "uint8": lambda X: X.astype(np.uint8),
    }
    flat = quick(kind).fit(images.reshape(120, -1))
    model = quick(kind).fit(forms[form](images))
    assert (model.n_features_in_, model.input_shape_) == (64, (8, 8))
    np.testing.assert_array_equal(model.embedding_, flat.embedding_)
    placed = model.transform(forms[form](images[:7] + 1.0))
    flat_new = (images[:7] + 1.0).reshape(7, -1)
    np.testing.assert_allclose(placed, flat.transform(flat_new), atol=TRANSFORM)
    np.testing.assert_allclose(model.transform(flat_new), placed, atol=TRANSFORM)


@pytest.mark.parametrize("form", ["images", "flat with dims", "Dataset", "csr with dims"])
def test_images_for_a_convolutional_encoder(form: str, images: Any) -> None:
    flat = images.reshape(120, -1)
    reference = quick(ParametricUMAP, encoder="conv").fit(images)
    assert isinstance(reference.encoder_, ConvEncoder)
    by_hand = reference.encoder_(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(reference.embedding_, by_hand, atol=1e-4)
    data, dims = {
        "images": (images[..., None], None),
        "flat with dims": (flat, (8, 8, 1)),
        "Dataset": (Pictures(images), None),
        "csr with dims": (scipy.sparse.csr_matrix(flat), (8, 8)),
    }[form]
    model = quick(ParametricUMAP, encoder="conv", dims=dims).fit(data)
    tolerance = SPARSE if form.startswith("csr") else TRANSFORM
    np.testing.assert_allclose(model.embedding_, reference.embedding_, atol=tolerance)
    np.testing.assert_allclose(model.transform(flat[:5]), model.embedding_[:5], atol=1e-4)


def test_sequences_for_an_encoder_of_ones_own(images: Any) -> None:
    class LastState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(8, 16, batch_first=True)
            self.output = torch.nn.Linear(16, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            _, last = self.gru(rows)
            located: torch.Tensor = self.output(last[0])
            return located

    torch.manual_seed(0)
    model = quick(ParametricUMAP, encoder=LastState()).fit(images)
    np.testing.assert_allclose(model.transform(images[:9]), model.embedding_[:9], atol=TRANSFORM)
    with pytest.raises(ValueError, match=r"must take float32 rows of shape \(64,\).*dims"):
        quick(ParametricUMAP, encoder=LastState()).fit(images.reshape(120, -1))


def test_lazy_layers_are_built_by_the_first_rows(images: Any) -> None:
    """They must come out as parameters that can be trained, in encoder and decoder."""
    encoder = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.LazyLinear(8), torch.nn.LazyLinear(2)
    )
    decoder = torch.nn.Sequential(torch.nn.LazyLinear(16), torch.nn.LazyLinear(images[0].size))
    model = ParametricUMAP(
        encoder=encoder,
        decoder=torch.nn.Sequential(decoder, torch.nn.Unflatten(1, images[0].shape)),
        dims=images[0].shape,
        parametric_reconstruction=True,
        n_neighbors=5,
        n_epochs=3,
        random_state=0,
    )
    assert model.fit(images).embedding_.shape == (len(images), 2)
    assert isinstance(encoder[1], torch.nn.LazyLinear)  # the user's own stays as it was


def test_dims_that_would_scramble_an_image_are_refused() -> None:
    channels_first = np.zeros((20, 3, 8, 8), dtype=np.float32)
    with pytest.raises(ValueError, match=r"transpose X so that its rows have the shape of dims"):
        quick(ParametricUMAP, encoder="conv", dims=(8, 8, 3)).fit(channels_first)


# ------------------------------------------------------------------ AnnData


@pytest.fixture
def cells(whole: Any) -> Any:
    anndata = pytest.importorskip("anndata")
    kept = anndata.AnnData(scipy.sparse.csr_matrix(whole))
    kept.obs["type"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(120) % 3])
    kept.obsm["X_pca"] = whole[:, :10].copy()
    return kept


@BOTH
def test_anndata_is_read_by_its_matrix(kind: Any, cells: Any, new: Any, expected: Any) -> None:
    model = quick(kind).fit(cells)
    assert model.feature_names_in_.tolist() == cells.var_names.tolist()
    placed = model.transform(pd.DataFrame(new, columns=cells.var_names))
    check_same(kind, model.embedding_, placed, expected, SPARSE)


def test_scanpy_function(cells: Any, whole: Any, tmp_path: Path) -> None:
    from neumap.scanpy import neumap

    settings: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 3, "preset": "fast"}
    model = neumap(cells, random_state=0, **settings)
    reference = quick(ParametricUMAP).fit(whole[:, :10])
    np.testing.assert_array_equal(cells.obsm["X_neumap"], reference.embedding_)
    params = cells.uns["neumap"]["params"]
    assert (params["use_rep"], params["n_neighbors"], params["preset"]) == ("X_pca", 5, "fast")
    assert (params["a"], params["b"]) == pytest.approx(find_ab(1.0, 0.1))
    np.testing.assert_allclose(
        model.transform(whole[:5, :10]), reference.embedding_[:5], atol=TRANSFORM
    )
    neumap(cells, use_rep="X", key_added="X_supervised", labels="type", **settings)
    assert cells.obsm["X_supervised"].shape == (120, 2)  # the key as it is, as in scanpy
    assert cells.uns["X_supervised"]["params"]["random_state"] == 0
    changed, again = neumap(cells, key_added="X_copy", copy=True, **settings)
    assert "X_copy" not in cells.obsm
    np.testing.assert_array_equal(changed.obsm["X_copy"], again.embedding_)
    np.testing.assert_array_equal(again.embedding_, reference.embedding_)  # seed 0 by default
    cells.write_h5ad(tmp_path / "cells.h5ad")  # what was written can be stored
    with pytest.raises(KeyError, match=r"use_rep must be 'X' or a key of obsm, .* got 'X_scvi'"):
        neumap(cells, use_rep="X_scvi")
    with pytest.raises(TypeError, match=r"must be an anndata\.AnnData, got ndarray"):
        neumap(whole)
    with pytest.raises(TypeError, match="n_neighbours"):
        neumap(cells, n_neighbours=5)


def test_scanpy_function_keeps_the_names_of_classes(whole: Any, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    from neumap.scanpy import neumap

    kinds = np.array(["T cell", "B cell"])[(whole[:, 0] > np.median(whole[:, 0])).astype(int)]
    ordered = pd.Categorical(kinds, categories=["T cell", "unused", "B cell"])  # not the alphabet
    ordered[::7] = None
    obs = pd.DataFrame({"kind": ordered}, index=[f"c{at}" for at in range(len(whole))])
    cells = anndata.AnnData(whole, obs=obs)
    settings: dict[str, Any] = {"preset": "fast", "n_epochs": 30, "random_state": 0}
    model = neumap(cells, use_rep="X", labels="kind", classifier_loss_weight=1.0, **settings)
    assert model.classes_.tolist() == ["B cell", "T cell"]
    predicted = model.predict(whole)
    assert np.mean(predicted == kinds) > 0.7  # of two classes, the missing ones included
    model.save(tmp_path / "cells.neumap")
    loaded = load_ParametricUMAP(tmp_path / "cells.neumap")
    np.testing.assert_array_equal(loaded.predict(whole), predicted)


@pytest.mark.parametrize("call", ["fit", "transform", "scanpy"])
def test_repeated_var_names_are_refused_and_the_advice_works(whole: Any, call: str) -> None:
    anndata = pytest.importorskip("anndata")
    from neumap.scanpy import neumap

    cells = anndata.AnnData(whole)
    model = quick(ParametricUMAP).fit(cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's own
        cells.var_names = ["CD3", "CD3", *map(str, range(2, whole.shape[1]))]
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: quick(ParametricUMAP).fit(cells),
        "transform": lambda: model.transform(cells),
        "scanpy": lambda: neumap(cells, use_rep="X", n_epochs=1, preset="fast"),
    }
    with pytest.raises(ValueError, match=r"unique, got \['CD3'\].*var_names_make_unique\(\) first"):
        calls[call]()
    cells.var_names_make_unique()
    if call == "transform":  # the names are others than those of the fit now
        with pytest.raises(ValueError, match="feature names should match"):
            calls[call]()
    else:
        calls[call]()


# ------------------------------------------------------------------ what is refused, and oddities

TEXT = "got text, such as 'four' in row 0 in column"
REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "missing values": (
        lambda X: np.where(np.arange(X.size).reshape(X.shape) == 60, np.nan, X),
        ValueError,
        r"contains NaN: 1 missing value\(s\), the first in row 1, column 7.*Impute",
    ),
    "missing values of a table": (
        lambda X: pd.DataFrame(X).astype(object).replace(0.0, None),
        ValueError,
        "contains NaN",
    ),
    "missing values of a masked array": (
        lambda X: np.ma.masked_equal(X, 0.0),
        ValueError,
        "contains NaN",
    ),
    "missing values in a sparse matrix": (
        lambda X: scipy.sparse.csr_matrix(np.where(X == 16, np.nan, X)),
        ValueError,
        "contains NaN",
    ),
    "infinities": (
        lambda X: np.where(np.arange(X.size).reshape(X.shape) == 3, np.inf, X),
        ValueError,
        r"contains infinity.*1 value\(s\), the first in row 0, column 3.*Clip or rescale",
    ),
    "numbers beyond float32": (
        lambda X: np.where(X == 16, 1e300, X.astype(np.float64)),
        ValueError,
        "contains infinity or a value too large",
    ),
    "no rows": (lambda X: X[:0], ValueError, r"0 sample\(s\).*minimum of 2"),
    "one row": (lambda X: X[:1], ValueError, r"1 sample\(s\).*minimum of 2"),
    "no columns": (lambda X: X[:, :0], ValueError, r"0 feature\(s\).*minimum of 1"),
    "one axis": (lambda X: X[0], ValueError, "Expected 2D array, got 1D array"),
    "a number": (lambda X: 3.0, ValueError, "Expected 2D array, got scalar array"),
    "strings": (lambda X: X.astype(int).astype(str), ValueError, "must hold numbers, got text"),
    "objects with text": (
        lambda X: np.concatenate([X.astype(object), np.full((len(X), 1), "four")], axis=1),
        ValueError,
        f"{TEXT} 53",
    ),
    "a table with text": (
        lambda X: pd.DataFrame(X[:, :2], columns=["a", "b"]).assign(c="four"),
        ValueError,
        f"{TEXT} 'c'",
    ),
    "dates": (
        lambda X: pd.DataFrame({"when": pd.date_range("2020-01-01", periods=len(X))}),
        ValueError,
        "got dates or times .* in column 'when'",
    ),
    "times of day": (
        lambda X: pl.DataFrame({"a": X[:, 0]}).with_columns(hour=pl.time(8, 30)),
        ValueError,
        r"got dates or times \(Time\) in column 'hour'\. Turn it into numbers",
    ),
    "a structured array": (
        lambda X: pd.DataFrame(X[:, :2], columns=["a", "b"]).to_records(index=False),
        ValueError,
        r"the fields \('a', 'b'\)\. Convert it with numpy",
    ),
    "a dict": (lambda X: {"X": X}, TypeError, r"got a dict\. Pass one of its entries \('X'\)"),
    "records": (
        lambda X: pd.DataFrame(X[:, :2]).to_dict("records"),
        ValueError,
        "one dict per row",
    ),
    "a generator": (lambda X: iter(X), TypeError, r"numpy\.stack\(list\(X\)\)"),
    "batches": (
        lambda X: DataLoader(TensorDataset(torch.from_numpy(X))),
        TypeError,
        r"Pass its dataset, X\.dataset",
    ),
    "complex numbers": (lambda X: X.astype(complex), ValueError, "Complex data not supported"),
    "a ragged list": (lambda X: [[1.0, 2.0], [3.0]], ValueError, "rows of one length"),
    "the name of a file": (lambda X: "rows.csv", TypeError, "Read the file first"),
    "a lazy table that cannot be computed": (
        lambda X: pl.DataFrame(X).lazy().select("absent"),
        ValueError,
        r"a lazy table that can be computed, got one that cannot \(.*absent.*X\.collect\(\)",
    ),
    "a sparse tensor with axes": (
        lambda X: torch.from_numpy(X).view(len(X), -1, 1).to_sparse(),
        ValueError,
        "sparse tensor must have two axes",
    ),
}


@BOTH
@pytest.mark.parametrize("what", REFUSED)
def test_refused(kind: Any, what: str, whole: Any) -> None:
    spoil, error, message = REFUSED[what]
    with pytest.raises(error, match=re.compile(message, re.DOTALL)):
        quick(kind).fit(spoil(whole))


@BOTH
@pytest.mark.parametrize("what", ["missing values", "infinities", "no rows", "strings"])
def test_new_rows_are_checked_too(kind: Any, what: str, whole: Any) -> None:
    spoil, error, message = REFUSED[what]
    with pytest.raises(error, match=re.compile(message.replace("of 2", "of 1"), re.DOTALL)):
        quick(kind).fit(whole).transform(spoil(whole))


@BOTH
@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix, torch.from_numpy])
def test_new_rows_of_another_width_are_refused(kind: Any, make: Any, whole: Any) -> None:
    model = quick(kind).fit(whole)
    with pytest.raises(ValueError, match=r"X has 52 features, but .* is expecting 53"):
        model.transform(make(np.ascontiguousarray(whole[:, 1:])))


@BOTH
def test_one_new_row_is_enough(kind: Any, whole: Any, new: Any, expected: Any) -> None:
    placed = quick(kind).fit(whole).transform(new[4:5])
    np.testing.assert_allclose(placed, expected[kind][1][4:5], atol=TRANSFORM)


@BOTH
def test_fewer_rows_than_neighbours(kind: Any, whole: Any) -> None:
    with pytest.warns(UserWarning, match=r"at most the number of rows, 8, got 15"):
        model = quick(kind, n_neighbors=15).fit(whole[:8])
    eight = quick(kind, n_neighbors=8).fit(whole[:8])
    np.testing.assert_array_equal(model.graph_.toarray(), eight.graph_.toarray())
    assert np.isfinite(model.transform(whole[8:12])).all()
    with pytest.warns(UserWarning, match="at most the number of rows, 2"):
        assert np.isfinite(quick(kind).fit_transform(whole[:2])).all()


def test_constant_columns_change_nothing(whole: Any) -> None:
    constant = np.concatenate([whole, np.full((120, 3), 2.0, dtype=np.float32)], axis=1)
    for kind in (UMAP, ParametricUMAP):
        one, other = (quick(kind).fit(rows) for rows in (whole, constant))
        np.testing.assert_allclose(one.graph_.toarray(), other.graph_.toarray(), atol=1e-3)
        assert np.isfinite(other.transform(constant + 1.0)).all()


@BOTH
def test_duplicates_of_training_rows(kind: Any, whole: Any) -> None:
    twice = np.concatenate([whole[:40], whole[:40]])
    model = quick(kind).fit(twice)
    assert np.isfinite(model.embedding_).all()
    np.testing.assert_array_equal(model.transform(twice), model.embedding_)
    once = quick(kind, unique=True).fit(twice)
    np.testing.assert_array_equal(once.embedding_[:40], once.embedding_[40:])


@BOTH
@pytest.mark.parametrize("value", [0.0, 3.3, -1e4])
def test_equal_rows_have_finite_places(kind: Any, value: float) -> None:
    model = quick(kind).fit(np.full((30, 4), value, dtype=np.float32))
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite(model.transform(np.full((3, 4), value + 1.0))).all()
    assert np.isfinite(model.history_["loss"]).all()


def test_missing_values_pass_with_given_neighbours(whole: Any) -> None:
    """`ensure_all_finite=False` leaves the check out; distances must then come from elsewhere."""
    distances = pairwise_distances(whole)
    order = np.argsort(distances, axis=1, kind="stable")[:, :5]
    near = order, np.take_along_axis(distances, order, axis=1)
    holed = whole.copy()
    holed[3, 2] = np.nan
    free = quick(UMAP, precomputed_knn=near, init="random").fit(holed, ensure_all_finite=False)
    complete = quick(UMAP, precomputed_knn=near, init="random").fit(whole)
    np.testing.assert_array_equal(free.embedding_, complete.embedding_)

    class Filling(torch.nn.Sequential):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return super().forward(rows.nan_to_num())

    model = quick(ParametricUMAP, precomputed_knn=near, encoder=Filling(torch.nn.Linear(53, 2)))
    model.fit(holed, ensure_all_finite="allow-nan")
    assert np.isfinite(model.embedding_).all()
    reason = r"X must hold finite values where this encoder .* got 1 NaN or .* first in row 3\."
    for encoder in (None, "residual"):
        model = quick(ParametricUMAP, precomputed_knn=near, encoder=encoder)
        with (
            pytest.raises(ValueError, match=reason),
            mock.patch("neumap.estimators.fitting.build_graph", side_effect=AssertionError),
        ):
            model.fit(holed, ensure_all_finite=False)
    with pytest.raises(ValueError, match="the first in row 4"):
        ParametricUMAP(unique=True, n_neighbors=5, metric="euclidean").fit(
            np.vstack([whole[:1], holed]), ensure_all_finite="allow-nan"
        )


# ------------------------------------------------------------------ metrics


@pytest.fixture(scope="module")
def blobs() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    X, y = make_blobs(120, n_features=6, centers=4, cluster_std=0.8, random_state=3)
    return X.astype(np.float32), y


NAMED: dict[str, dict[str, Any]] = {
    "euclidean": {},
    "manhattan": {},
    "chebyshev": {},
    "canberra": {},
    "braycurtis": {},
    "cosine": {},
    "correlation": {},
    "minkowski": {"p": 3},
    "seuclidean": {"V": np.linspace(0.5, 2.0, 6)},
    "mahalanobis": {"VI": np.diag(np.linspace(0.5, 2.0, 6))},
}


@BOTH
@pytest.mark.parametrize("metric", NAMED)
def test_named_metrics_give_the_graph_of_scikit_learns_distances(
    kind: Any, metric: str, blobs: Any
) -> None:
    X = blobs[0]
    kwds = NAMED[metric]
    model = quick(kind, metric=metric, metric_kwds=kwds or None, n_epochs=1).fit(X)
    distances = pairwise_distances(X.astype(np.float64), metric=metric, **kwds)
    by_hand = quick(UMAP, metric="precomputed", n_epochs=1).fit(distances)
    np.testing.assert_allclose(model.graph_.toarray(), by_hand.graph_.toarray(), atol=2e-3)
    assert np.isfinite(model.transform(X[:3] + 0.1)).all()


@BOTH
def test_a_function_as_metric(kind: Any, blobs: Any) -> None:
    X = blobs[0][:60]

    def third(one: Any, other: Any, power: float = 1.0) -> float:
        return float((np.abs(one - other) ** power).sum() ** (1.0 / power))

    by_function = quick(kind, metric=third, metric_kwds={"power": 3.0}).fit(X)
    by_name = quick(kind, metric="minkowski", metric_kwds={"p": 3}).fit(X)
    np.testing.assert_allclose(by_function.graph_.toarray(), by_name.graph_.toarray(), atol=1e-3)
    placed = by_function.transform(X[:5] + 0.01)
    np.testing.assert_allclose(placed, by_name.transform(X[:5] + 0.01), atol=0.05)


@BOTH
def test_arguments_that_a_metric_does_not_have_are_refused(kind: Any, blobs: Any) -> None:
    with pytest.raises(ValueError, match="metric_kwds must hold the arguments of metric 'cosine'"):
        quick(kind, metric="cosine", metric_kwds={"p": 3}).fit(blobs[0])


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_precomputed_distances_with_rows_for_the_network(form: str, blobs: Any) -> None:
    X = blobs[0]
    distances: Any = pairwise_distances(X, metric="manhattan")
    if form == "sparse":
        near = kneighbors_graph(X, 20, mode="distance", metric="manhattan")
        distances = near.maximum(near.T)
    model = quick(ParametricUMAP, metric="precomputed")
    placed = model.fit_transform(X, precomputed_distances=distances)
    by_name = quick(ParametricUMAP, metric="manhattan").fit(X)
    np.testing.assert_allclose(model.graph_.toarray(), by_name.graph_.toarray(), atol=1e-3)
    np.testing.assert_allclose(placed, by_name.embedding_, atol=0.05)
    np.testing.assert_allclose(model.transform(X[:7]), placed[:7], atol=TRANSFORM)


def test_distances_alone_are_the_rows_of_the_network(blobs: Any) -> None:
    """Without rows the network reads distances to the training rows, as umap-learn's does."""
    X = blobs[0]
    distances = pairwise_distances(X).astype(np.float32)
    model = quick(ParametricUMAP, metric="precomputed").fit(distances)
    assert model.n_features_in_ == 120
    new = pairwise_distances(X[:4] + 0.1, X).astype(np.float32)
    assert model.transform(new).shape == (4, 2)
    with pytest.raises(ValueError, match="expecting 120"):
        model.transform(X[:4])


@BOTH
@pytest.mark.parametrize("parts", [2, 3])
def test_precomputed_neighbours(kind: Any, parts: int, blobs: Any) -> None:
    X = blobs[0]
    distances = pairwise_distances(X)
    order = np.argsort(distances, axis=1, kind="stable")[:, :9]
    near = (order, np.take_along_axis(distances, order, axis=1), None)[:parts]
    model = quick(kind, precomputed_knn=near).fit(X)
    searched = quick(kind).fit(X)
    assert model.report_["neighbors"] == "precomputed"
    np.testing.assert_allclose(model.graph_.toarray(), searched.graph_.toarray(), atol=1e-3)


@BOTH
def test_haversine_goes_round_the_globe(kind: Any) -> None:
    rng = np.random.default_rng(1)
    # Latitude and longitude in radians; the second place lies on both sides of the date line.
    places = np.array([[0.6, 0.2], [-0.3, np.pi]])
    rows = places[np.arange(60) % 2] + rng.normal(scale=0.02, size=(60, 2))
    rows[:, 1] = (rows[:, 1] + np.pi) % (2 * np.pi) - np.pi
    model = quick(kind, metric="haversine").fit(rows)
    edges = model.graph_.tocoo()
    assert (edges.row % 2 == edges.col % 2).all()
    east = (rows[:, 1] > 3.0) & (np.arange(60) % 2 == 1)
    assert model.graph_[east][:, ~east].nnz > 0  # the date line is no border


@BOTH
@pytest.mark.parametrize("metric", ["hamming", "jaccard", "dice"])
@pytest.mark.parametrize("form", ["bool", "uint8", "csr"])
def test_binary_rows(kind: Any, metric: str, form: str) -> None:
    rng = np.random.default_rng(0)
    chance = np.where(np.arange(40) // 20 == np.arange(80)[:, None] % 2, 0.7, 0.1)
    rows = rng.random((80, 40)) < chance
    data: Any = rows if form == "bool" else rows.astype(np.uint8)
    if form == "csr":
        data = scipy.sparse.csr_matrix(rows.astype(np.float32))
    model = quick(kind, metric=metric).fit(data)
    by_hand = quick(UMAP, metric="precomputed", n_epochs=1)
    by_hand.fit(pairwise_distances(rows, metric=metric))
    # Many distances tie, and ties fall differently: compare what does not depend on them.
    strength = (np.asarray(m.graph_.sum(axis=1)).ravel() for m in (model, by_hand))
    assert np.corrcoef(*strength)[0, 1] > 0.8
    placed = model.transform(data[:4])
    np.testing.assert_allclose(placed, model.embedding_[:4], atol=1e-4)


@pytest.mark.slow  # numba compiles the descent
@pytest.mark.parametrize("metric", ["spearmanr", "jensen_shannon"])
def test_metrics_of_pynndescent(metric: str, blobs: Any) -> None:
    pytest.importorskip("pynndescent")
    rows = np.abs(blobs[0]) + 0.1
    model = quick(ParametricUMAP, metric=metric, n_jobs=1).fit(rows)
    assert model.report_["neighbors"] == "pynndescent"
    assert np.isfinite(model.transform(rows[:3])).all()


# ------------------------------------------------------------------ angles

ANGULAR: dict[str, Callable[[Any], Any]] = {
    # What a metric does not see of a row: its length, and for correlation its mean.
    "cosine": lambda X: 10.0 * X,
    "correlation": lambda X: 10.0 * X + 3.0,
}


def unseen(rows: Any, metric: str) -> Any:
    """Rows brought to the form that the metric sees, in float64."""
    exact = np.asarray(rows, dtype=np.float64)
    if metric == "correlation":
        exact = exact - exact.mean(axis=1, keepdims=True)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


@pytest.mark.parametrize("encoder", [None, "residual", "conv"])
@pytest.mark.parametrize("metric", ANGULAR)
def test_network_does_not_see_what_an_angular_metric_does_not(
    metric: str, encoder: Any, images: Any
) -> None:
    rows = images + 1.0
    model = quick(ParametricUMAP, metric=metric, encoder=encoder).fit(rows)
    changed = ANGULAR[metric](rows)
    np.testing.assert_allclose(model.transform(changed), model.embedding_, atol=1e-3)
    assert np.ptp(model.embedding_) > 0.1
    plain = quick(ParametricUMAP, encoder=encoder).fit(rows)
    assert np.abs(plain.transform(changed) - plain.embedding_).max() > 0.5


@pytest.mark.parametrize("form", ["dense", "sparse", "disk"])
@pytest.mark.parametrize("metric", ANGULAR)
def test_statistics_are_those_of_the_rows_as_read(
    metric: str, form: str, whole: Any, tmp_path: Path
) -> None:
    data = {
        "dense": whole,
        "sparse": scipy.sparse.csr_matrix(whole),
        "disk": as_memmap(whole, tmp_path, "rows"),
    }[form]
    front = quick(ParametricUMAP, metric=metric, n_epochs=0).fit(data).encoder_.standardize
    assert isinstance(front, Standardize)
    read = unseen(whole, metric)
    np.testing.assert_allclose(front.form(torch.from_numpy(whole)).numpy(), read, atol=1e-5)
    np.testing.assert_allclose(front.mean.numpy(), read.mean(axis=0), atol=1e-5)
    spread = np.linalg.svd(read - read.mean(axis=0), compute_uv=False)[0] / np.sqrt(len(read))
    assert float(front.scale) == pytest.approx(spread, rel=1e-3)


def test_rows_without_a_direction_stay_finite() -> None:
    front = Standardize(3, rows="centred unit")
    rows = torch.tensor([[2.0, 2.0, 2.0], [0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    read = front.form(rows)
    assert (read[:3] == 0.0).all()
    torch.testing.assert_close(read[3], torch.tensor([-1.0, 0.0, 1.0]) / 2**0.5)
    zero = torch.zeros(1, 3, requires_grad=True)
    Standardize(3, rows="unit")(zero).sum().backward()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize("metric", ANGULAR)
def test_angular_map_keeps_neighbours_by_angle(metric: str) -> None:
    """Rows of the same directions but of lengths from 0.1 to 10: only the direction may matter."""
    rng = np.random.default_rng(5)
    X, y = load_digits(return_X_y=True)
    X, y = X[:500] + 1.0, y[:500]
    scaled = X * np.exp(rng.uniform(-2.3, 2.3, size=(500, 1)))
    reached = {}
    # Over four seeds .85 to .87 by direction, .56 to .73 for a network that reads raw rows.
    for form, encoder in (("by direction", None), ("raw", MLP(64, 2, (192,) * 6))):
        model = ParametricUMAP(metric=metric, encoder=encoder, random_state=0).fit(scaled[:400])
        votes = KNeighborsClassifier(5).fit(model.embedding_, y[:400])
        reached[form] = votes.score(model.transform(scaled[400:]), y[400:])
    assert reached["by direction"] > 0.8
    assert reached["by direction"] > reached["raw"] + 0.1


@pytest.fixture
def float32_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 rounds the two ways of reading rows differently, and training enlarges that."""
    for room in (precision, mlp_step):
        monkeypatch.setattr(room, "fast_dtype", lambda device: torch.float32)


@pytest.mark.usefixtures("float32_training")
@pytest.mark.parametrize("hand_written", [True, False])
def test_both_training_steps_read_the_same_rows(hand_written: bool, whole: Any) -> None:
    """The general step serves any further term; one of weight next to nothing forces it."""
    extra = {} if hand_written else {"global_correlation_loss_weight": 1e-9}
    preset = replace(PRESETS["fast"], input_noise=0.0)
    few_steps = {"metric": "cosine", "preset": preset, "n_epochs": 1}  # before rounding grows
    model = quick(ParametricUMAP, **few_steps, **extra).fit(whole)
    reference = quick(ParametricUMAP, **few_steps).fit(unseen(whole, "cosine"))
    np.testing.assert_allclose(
        model.embedding_, reference.embedding_, atol=0.1
    )  # Adam takes steps of full size along gradients that are rounding


@pytest.mark.usefixtures("float32_training")
@pytest.mark.parametrize("general", [True, False])
def test_noise_of_training_is_relative_to_the_rows_as_read(general: bool, whole: Any) -> None:
    """A thousand times the length changes nothing, so neither may it drown the noise."""
    extra = {"global_correlation_loss_weight": 1e-9} if general else {}
    preset = replace(PRESETS["fast"], input_noise=0.2)
    maps = [
        quick(ParametricUMAP, metric="cosine", preset=preset, n_epochs=1, **extra).fit(
            factor * whole
        )
        for factor in (1.0, 1000.0)
    ]
    np.testing.assert_allclose(
        maps[0].embedding_, maps[1].embedding_, atol=0.1
    )  # Adam takes steps of full size along gradients that are rounding


def test_a_network_of_ones_own_reads_rows_as_they_are(whole: Any) -> None:
    model = quick(ParametricUMAP, metric="cosine", encoder=torch.nn.Linear(53, 2)).fit(whole)
    by_hand = model.encoder_(torch.from_numpy(whole)).detach().numpy()
    np.testing.assert_allclose(model.embedding_, by_hand, atol=1e-4)
    ready_made = quick(ParametricUMAP, metric="cosine", encoder=MLP(53, 2)).fit(whole)
    assert ready_made.encoder_.standardize.rows == "raw"


@pytest.mark.parametrize("encoder", [None, "conv"])
@pytest.mark.parametrize("metric", ANGULAR)
def test_angular_models_are_saved_and_exported(
    metric: str, encoder: Any, images: Any, tmp_path: Path
) -> None:
    model = quick(ParametricUMAP, metric=metric, encoder=encoder).fit(images)
    new = images[:9] * 3.0 + 0.5
    again = load_ParametricUMAP(model.save(tmp_path / "model.neumap"))
    np.testing.assert_array_equal(again.transform(new), model.transform(new))
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(model.to_onnx(tmp_path / "model.onnx")))
    (placed,) = session.run(None, {"X": new})
    np.testing.assert_allclose(placed, model.transform(new), atol=1e-4)


def test_files_of_before_the_row_forms_stay_readable() -> None:
    config = MLP(4, 2).config
    assert config.pop("rows") == "raw"
    assert MLP(**config).standardize.rows == "raw"
    with pytest.raises(ValueError, match="rows must be one of"):
        MLP(4, 2, rows="long")  # type: ignore[arg-type]


# ------------------------------------------------------------------ the page


# The test of each line of the page. Keys are the first cells of table rows, or list items.
NO_TABLE = "test_data_refused.py::test_what_is_no_table_of_numbers_is_named"
COLUMN = "test_vectors.py::test_column_names_the_vectors_among_other_columns"
FILES = "../test_data_shards.py::test_ranges_and_row_numbers_give_the_rows_of_all_files"
SHOWN_ELSEWHERE = {
    "columns whose differences float32 loses, such as Unix times": (
        "test_numerics.py::test_differences_that_float32_loses_are_warned_of"
    ),
    "very large or very small units": (
        "test_numerics.py::test_the_graph_does_not_depend_on_the_unit"
    ),
    "sparse matrices with entries outside their shape": (
        "test_numerics.py::test_entries_outside_a_sparse_matrix_are_refused"
    ),
    "sparse rows in `transform` after dense ones in `fit`, or the reverse": (
        "test_numerics.py::test_rows_of_any_kind_are_placed"
    ),
    "rows without any neighbour (`disconnection_distance`)": (
        "test_numerics.py::test_rows_cut_off_are_warned_of_once"
    ),
    "bfloat16 arrays (`ml_dtypes`), quantised tensors": (
        "test_data_refused.py::test_other_forms_of_numbers_are_read"
    ),
    "tensors that require gradients": "test_data_refused.py::test_other_forms_of_numbers_are_read",
    "a cell that is no number: dates of any kind, `pd.NA` among objects, lists, complex numbers": (
        NO_TABLE
    ),
    "DuckDB relations, lazy tables": "test_vectors.py::test_duckdb",
    "a column of vectors (embeddings): see below": (
        "test_vectors.py::test_vectors_give_the_map_of_their_array"
    ),
    "folders and lists of `.npy`, Parquet and Arrow files": (
        "test_larger_than_memory.py::test_every_container_gives_the_map_of_the_array"
    ),
    "`.npy`": FILES,
    "`.parquet`": FILES,
    "`.arrow`, `.feather`, `.ipc` (Arrow IPC, files and streams)": FILES,
    "a Hugging Face Dataset": (
        "../test_data_shards.py::test_hugging_face_datasets_are_read_by_ranges"
    ),
    "Hugging Face Datasets": "test_vectors.py::test_hugging_face_datasets_by_their_methods",
    "arrays of CuPy, JAX and others with `__dlpack__`": (
        "test_vectors.py::test_arrays_that_share_their_memory"
    ),
    "an array with `__dlpack__` that torch cannot read": (
        "test_vectors.py::test_arrays_that_torch_cannot_read_are_named"
    ),
    "one column of vectors, nothing else": (
        "test_vectors.py::test_vectors_give_the_map_of_their_array"
    ),
    "one column of vectors beside text, dates or other objects": (
        "test_vectors.py::test_columns_without_numbers_are_left_out_with_a_warning"
    ),
    "vectors beside numbers; several columns of vectors": COLUMN,
    "`column` that is absent or holds no vectors": COLUMN,
    "a vector that is missing or of another length": (
        "test_vectors.py::test_ragged_and_missing_vectors_are_named_by_row_and_column"
    ),
    "lists of lists, all of one shape": ("test_vectors.py::test_nested_lists_are_rows_with_axes"),
    "records: structured arrays, lists of dicts": NO_TABLE,
    "dicts, open `.npz` files, groups of HDF5 and zarr": (
        "test_data_refused.py::test_groups_of_arrays_on_disk_are_named"
    ),
    "a DataLoader; an iterator": NO_TABLE,
    "two columns of one name": NO_TABLE,
    "tensors without numbers (`meta`); nested tensors": NO_TABLE,
    "a network that does not fit the rows": (
        "test_user_networks.py::test_networks_that_do_not_fit_are_refused_before_the_search"
    ),
    '`"precomputed"` with infinite distances': (
        "test_advice_of_distances.py::test_infinite_distances_are_no_neighbours"
    ),
    '`"precomputed"`, sparse, not symmetric': (
        "test_advice_of_distances.py::test_a_neighbour_graph_made_symmetric_keeps_its_zeros"
    ),
}

SHOWN_BY = {
    "NumPy arrays of any real dtype": "test_numpy_of_every_dtype",
    "any memory layout; lists, tuples, objects that convert to numbers": "test_array_likes",
    (
        "tables of any library that narwhals knows: pandas, polars (lazy too), pyarrow, modin, "
        "cuDF, DuckDB"
    ): "test_tables_keep_their_names",
    '`set_output(transform="pandas")`, `"polars"`': "test_set_output",
    "scipy.sparse of any format": "test_sparse",
    "sparse entries in any order, duplicates included": (
        "test_sparse_entries_in_any_order_and_more_than_once"
    ),
    "wide sparse matrices": "test_sparse_rows_are_never_dense_all_at_once",
    "wide rows in `transform`": "test_wide_rows_are_encoded_in_small_slices",
    "torch tensors of any dtype; map-style Datasets, with or without labels": "test_torch",
    "sparse torch tensors of any layout": "test_sparse_tensor",
    "`np.memmap`, HDF5 and zarr arrays": "test_arrays_on_disk",
    "rows with several axes: images, sequences": "test_rows_with_axes_are_read_as_flat_rows",
    'images with `encoder="conv"`': "test_images_for_a_convolutional_encoder",
    "sequences with a user network": "test_sequences_for_an_encoder_of_ones_own",
    "networks with lazy layers": "test_lazy_layers_are_built_by_the_first_rows",
    "AnnData": "test_anndata_is_read_by_its_matrix",
    "AnnData, in place": "test_scanpy_function",
    "AnnData with names of classes": "test_scanpy_function_keeps_the_names_of_classes",
    "AnnData with repeated `var_names`": (
        "test_repeated_var_names_are_refused_and_the_advice_works"
    ),
    "missing and infinite values; numbers above 1e36 in size": "test_refused",
    "text, dates and times, objects, complex numbers; a file name": "test_refused",
    "a lazy table that cannot be computed": "test_refused",
    "ragged lists; one axis; no columns; no rows; a single row": "test_refused",
    "the same in `transform`": "test_new_rows_are_checked_too",
    "a different number of columns": "test_new_rows_of_another_width_are_refused",
    "a single row in `transform`": "test_one_new_row_is_enough",
    "streams (iterable-style Datasets)": "test_streams_are_refused",
    "`dims` in another order of axes": "test_dims_that_would_scramble_an_image_are_refused",
    "fewer rows than `n_neighbors`": "test_fewer_rows_than_neighbours",
    "constant columns": "test_constant_columns_change_nothing",
    "duplicate rows": "test_duplicates_of_training_rows",
    "all rows equal": "test_equal_rows_have_finite_places",
    "missing values with `ensure_all_finite=False`": (
        "test_missing_values_pass_with_given_neighbours"
    ),
    "named metrics, with `metric_kwds`": (
        "test_named_metrics_give_the_graph_of_scikit_learns_distances"
    ),
    "a function of two rows": "test_a_function_as_metric",
    "wrong `metric_kwds`; a function that gives no number": (
        "test_arguments_that_a_metric_does_not_have_are_refused"
    ),
    '`"precomputed"`, dense or sparse, and X for the network': (
        "test_precomputed_distances_with_rows_for_the_network"
    ),
    '`"precomputed"` alone': "test_distances_alone_are_the_rows_of_the_network",
    "`precomputed_knn`": "test_precomputed_neighbours",
    '`"haversine"`': "test_haversine_goes_round_the_globe",
    '`"hamming"`, `"jaccard"`, `"dice"`': "test_binary_rows",
    "metrics that only pynndescent has": "test_metrics_of_pynndescent",
    "`transform(X)` equals `transform(10 * X)`; for correlation also `transform(10 * X + 3)`.": (
        "test_network_does_not_see_what_an_angular_metric_does_not"
    ),
    "The network's standardisation uses the mean and scale of these rows.": (
        "test_statistics_are_those_of_the_rows_as_read"
    ),
    "Zero rows and constant rows get finite positions.": (
        "test_rows_without_a_direction_stay_finite"
    ),
    "Neighbours are kept even when rows have very different lengths.": (
        "test_angular_map_keeps_neighbours_by_angle"
    ),
    "Both implementations of the training step read the same rows.": (
        "test_both_training_steps_read_the_same_rows"
    ),
    "The training noise is relative to the scale of these rows.": (
        "test_noise_of_training_is_relative_to_the_rows_as_read"
    ),
    "A user network reads rows unchanged, also a `neumap.networks.MLP`.": (
        "test_a_network_of_ones_own_reads_rows_as_they_are"
    ),
    "Saved and ONNX models include this step.": "test_angular_models_are_saved_and_exported",
    "Older files without this step can still be loaded.": (
        "test_files_of_before_the_row_forms_stay_readable"
    ),
}


def lines_of_the_page() -> list[str]:
    """Return the first cell of each table row, then each list item, outside code blocks."""
    text = re.sub(r"```.*?```", "", PAGE.read_text("utf-8"), flags=re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()[2:]]  # after heads and rule
    first_cells = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    return first_cells + re.findall(r"^- (.*)$", text, re.MULTILINE)


def test_page_has_a_line_for_every_test_and_no_other() -> None:
    lines = lines_of_the_page()
    assert len(lines) == len(set(lines))
    assert set(lines) == {*SHOWN_BY, *SHOWN_ELSEWHERE}
    for shown in SHOWN_ELSEWHERE.values():
        file, _, name = shown.partition("::")
        assert f"def {name}(" in (Path(__file__).parent / file).read_text("utf-8"), shown
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text("utf-8"), re.MULTILINE))
    about_the_page = {name for name in here if name.startswith("test_page_")}
    assert set(SHOWN_BY.values()) == here - about_the_page


def test_page_code_runs(run_page: Callable[[str], int]) -> None:
    pytest.importorskip("anndata")
    assert run_page("inputs.md") > 0
