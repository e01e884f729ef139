"""Rows in files: every container gives the map of the array, and positions go to a file."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import torch
import zarr
from sklearn.base import clone
from torch.utils.data import Dataset

from neumap import UMAP, ParametricUMAP, load, open_rows
from neumap.archive import ArchiveError
from neumap.data import as_rows, dataset
from neumap.estimators.new_rows import to_file

N_ROWS, N_FEATURES = 400, 8
X = np.random.default_rng(0).normal(size=(N_ROWS, N_FEATURES)).astype(np.float32)
PARTS = np.split(X, (150, 151))
BOTH = pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])


def quick(kind: type[UMAP] = ParametricUMAP, **parameters: Any) -> Any:
    preset = {"preset": "fast"} if kind is ParametricUMAP else {}
    return kind(**{"n_neighbors": 5, "n_epochs": 2, "random_state": 0, **preset, **parameters})


class Items(Dataset[Any]):
    def __len__(self) -> int:
        return N_ROWS

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(X[number]), 0


def memmap(place: Path) -> Any:
    np.save(place / "rows.npy", X)
    return np.load(place / "rows.npy", mmap_mode="r")


def npy_folder(place: Path) -> Any:
    for number, part in enumerate(PARTS):
        np.save(place / f"{number}.npy", part)
    return open_rows(place)


def parquet_of_lists(place: Path) -> Any:
    for number, part in enumerate(PARTS):
        table = pa.table({"id": ["a"] * len(part), "v": pa.array(part.tolist(), FLOATS)})
        pq.write_table(table, place / f"{number}.parquet", row_group_size=60)
    return open_rows(place, "v")


def parquet_of_columns(place: Path) -> Any:
    for number, part in enumerate(PARTS):
        table = pa.table({f"c{i}": column for i, column in enumerate(part.T)})
        pq.write_table(table, place / f"{number}.parquet", row_group_size=60)
    return open_rows(place)


def arrow_ipc(place: Path) -> Any:
    for number, part in enumerate(PARTS):
        table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), 8)})
        with pa.ipc.new_file(str(place / f"{number}.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=64)
    return open_rows(place)


def hdf5(place: Path) -> Any:
    file = h5py.File(place / "rows.h5", "w")
    return file.create_dataset("X", data=X, chunks=(64, N_FEATURES), compression="gzip")


def zarr_array(place: Path) -> Any:
    rows = zarr.create_array(str(place / "z"), shape=X.shape, dtype="float32", chunks=(64, 8))
    rows[:] = X
    return rows


def backed(place: Path, key: str) -> Any:
    cells = anndata.AnnData(X if key == "X" else scipy.sparse.csr_matrix((N_ROWS, 1)))
    cells.obsm["X_pca"] = X
    cells.write_h5ad(place / "cells.h5ad")
    opened = anndata.read_h5ad(place / "cells.h5ad", backed="r")
    return opened if key == "X" else opened.obsm[key]


FLOATS = pa.list_(pa.float32())
CONTAINERS: dict[str, Callable[[Path], Any]] = {
    "memmap": memmap,
    "folder of npy": npy_folder,
    "parquet, a column of lists": parquet_of_lists,
    "parquet, wide": parquet_of_columns,
    "Arrow IPC": arrow_ipc,
    "chunked HDF5": hdf5,
    "zarr": zarr_array,
    "backed AnnData, X": lambda place: backed(place, "X"),
    "backed AnnData, obsm": lambda place: backed(place, "X_pca"),
    "torch Dataset": lambda place: Items(),
}


@pytest.fixture(scope="module")
def expected() -> Any:
    return quick().fit(X)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_map_of_the_array(
    name: str, expected: Any, tmp_path: Path
) -> None:
    model = quick().fit(CONTAINERS[name](tmp_path))
    assert np.array_equal(model.embedding_, expected.embedding_)
    again = tmp_path / "again"
    again.mkdir()
    placed = model.transform(CONTAINERS[name](again), out=again / "z.npy")
    assert np.array_equal(placed, expected.transform(X))


def test_items_of_a_large_dataset_go_to_a_file(
    expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "IN_MEMORY_BYTES", 4 * X.size - 1)
    assert isinstance(as_rows(Items()).to_matrix(), np.memmap)
    assert np.array_equal(quick().fit(Items()).embedding_, expected.embedding_)
    monkeypatch.setattr(dataset, "IN_MEMORY_BYTES", 4 * X.size)
    assert not isinstance(as_rows(Items()).to_matrix(), np.memmap)


@pytest.mark.parametrize("name", ["folder of npy", "parquet, a column of lists"])
@pytest.mark.parametrize("settings", [{"n_anchors": 100}, {"metric": "cosine"}, {"kind": UMAP}])
def test_searches_of_files_find_what_they_find_in_memory(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    one, other = (quick(**settings).fit(V) for V in (CONTAINERS[name](tmp_path), X))
    assert np.array_equal(one.embedding_, other.embedding_)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_lists_of_anchors_are_joined_in_files_as_in_memory(metric: str, tmp_path: Path) -> None:
    settings = {"n_anchors": 50, "n_epochs": None, "batch_size": 32, "max_time": 0.01}
    one, other = (quick(metric=metric, **settings).fit(V) for V in (parquet_of_lists(tmp_path), X))
    assert one.report_["n_joined"] > 50
    assert (one.graph_ != other.graph_).nnz == 0


@BOTH
def test_update_adds_rows_of_files_to_rows_of_files(kind: type[UMAP], tmp_path: Path) -> None:
    new = X[:30] + 0.1
    np.save(tmp_path / "new.npy", new)
    (tmp_path / "old").mkdir()
    model = quick(kind).fit(parquet_of_lists(tmp_path / "old"))
    model.update(open_rows(tmp_path / "new.npy"))
    assert np.array_equal(model.embedding_, quick(kind).fit(X).update(new).embedding_)
    assert np.array_equal(clone(model).fit(X).embedding_, quick(kind).fit(X).embedding_)


def test_what_needs_the_rows_in_memory_says_so(tmp_path: Path) -> None:
    rows = parquet_of_lists(tmp_path)
    with pytest.raises(ValueError, match=r"where unique=True, got RowFiles. Load the data"):
        quick(unique=True).fit(rows)
    model = quick().fit(rows)
    with pytest.raises(ArchiveError, match="RowFiles"):
        model.save(tmp_path / "model.neumap", keep="data")
    model.save(tmp_path / "model.neumap")
    assert np.array_equal(load(tmp_path / "model.neumap").transform(X), model.transform(rows))
    assert np.array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))


@BOTH
def test_new_rows_in_files_are_placed_by_every_way(kind: type[UMAP], tmp_path: Path) -> None:
    rows, model = parquet_of_lists(tmp_path), quick(kind).fit(X)
    other = quick(kind).fit(rows)
    assert np.allclose(other.transform(X[:9] + 0.1), model.transform(X[:9] + 0.1), atol=1e-4)
    graphs = [quick(kind, transform_mode="graph").fit(V).transform(X[:9]) for V in (X, rows)]
    assert np.allclose(graphs[0].toarray(), graphs[1].toarray(), atol=1e-5)
    if isinstance(model, ParametricUMAP):
        scores = [m.confidence(X[:9] + 1).score for m in (model, other)]
        assert np.allclose(*scores, atol=1e-3)
        assert np.array_equal(model.confidence(rows).score, model.confidence(X).score)


def test_the_order_of_files_is_that_of_labels(tmp_path: Path) -> None:
    y = (X[:, 0] > 0).astype(int)
    one, other = (quick().fit(V, y) for V in (npy_folder(tmp_path), X))
    assert np.array_equal(one.embedding_, other.embedding_)


# ---- positions in a file ------------------------------------------------------------------------


@BOTH
def test_positions_in_a_file_are_those_in_memory(
    kind: type[UMAP], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_file, "PLACED_ROWS", 7)
    model = quick(kind).fit(X)
    new = X[:50] + 0.05
    file = tmp_path / "folder" / "z.npy"
    for rows in (new, torch.from_numpy(new), scipy.sparse.csr_matrix(new), X):
        placed = model.transform(rows, out=file)
        assert isinstance(placed, np.memmap)
        assert placed.dtype == np.float32
        assert not placed.flags.writeable
        # Distances of exact searches depend on the rows of a block in their last bit.
        within = 0 if kind is ParametricUMAP else 1e-4
        assert np.abs(placed - model.transform(rows)).max() <= within
        assert np.array_equal(np.load(file), placed)
    assert [path.name for path in file.parent.iterdir()] == ["z.npy"]


def test_the_batch_size_sets_how_many_rows_are_encoded_at_once(tmp_path: Path) -> None:
    model = quick().fit(X)
    shapes = []
    model.encoder_.register_forward_hook(lambda *call: shapes.append(len(call[2])))
    model.transform(X, batch_size=150, out=tmp_path / "z.npy")
    assert shapes == [150, 150, 100]


@BOTH
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failure_leaves_the_file_as_it_was(
    kind: type[UMAP], old: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quick(kind).fit(X)
    file = tmp_path / "z.npy"
    if old:
        file.write_bytes(old)

    def failing(*arguments: Any) -> Any:
        yield np.zeros((7, 2), np.float32)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(to_file, "_parts", failing)
    with pytest.raises(OSError, match=r"No space left.*z\.npy"):
        model.transform(X[:50], out=file)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([old] if old else [])
    if kind is ParametricUMAP:
        assert not model.encoder_.training


@BOTH
def test_a_bar_is_shown_where_it_is_wanted(
    kind: type[UMAP], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = quick(kind).fit(X)
    capfd.readouterr()
    model.transform(X, out=tmp_path / "z.npy")
    assert capfd.readouterr() == ("", "")
    model.set_params(verbose=True, tqdm_kwds={"desc": "placing"})
    model.transform(X, out=tmp_path / "z.npy")
    out, err = capfd.readouterr()
    assert out == ""
    assert "placing: 100%" in err
    assert "400/400" in err


@BOTH
def test_what_excludes_a_file_raises(kind: type[UMAP], tmp_path: Path) -> None:
    model = quick(kind).fit(X)
    with pytest.raises(ValueError, match=r"out must be the name of a \.npy file, got 'z\.csv'"):
        model.transform(X, out="z.csv")
    with pytest.raises(ValueError, match=r"out must be the name of a \.npy file, got 3"):
        model.transform(X, out=3)
    with pytest.raises(ValueError, match="out must be left out with output='torch'"):
        model.transform(X, out=tmp_path / "z.npy", output="torch")
    model.set_output(transform="pandas")
    with pytest.raises(ValueError, match=r"out must be None while set_output asks for .* pandas"):
        model.transform(X, out=tmp_path / "z.npy")
    model.set_output(transform="default")
    model.transform_mode = "graph"
    with pytest.raises(ValueError, match="out must be left out with transform_mode='graph'"):
        model.transform(X, out=tmp_path / "z.npy")
    assert list(tmp_path.iterdir()) == []


# ---- memory -------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[3])
from memory_limit import Watch, anonymous_bytes
from neumap import ParametricUMAP, open_rows
n_rows, folder = int(sys.argv[1]), Path(sys.argv[2])
rows = open_rows(folder, "v")
assert rows.shape[0] == n_rows
model = ParametricUMAP(n_epochs=1, n_anchors=2000, preset="fast", random_state=0, device="cpu")
before = anonymous_bytes()
with Watch() as fit:
    model.fit(rows)
between = anonymous_bytes()
with Watch() as place:
    model.transform(open_rows(folder, "v"), out=folder / "z" / "z.npy")
print(fit.peak - before, place.peak - between)
"""
FEW, MANY, WIDTH = 50_000, 300_000, 128


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is counted on Linux only")
def test_memory_does_not_grow_with_the_rows_of_parquet_files(tmp_path: Path) -> None:
    """250,000 more rows are 128 MB, of which a copy would show."""
    rng = np.random.default_rng(0)
    layer = rng.normal(size=(6, WIDTH))
    peaks = []
    for n_rows in (FEW, MANY):
        folder = tmp_path / str(n_rows)
        folder.mkdir()
        for start in range(0, n_rows, FEW):
            values = (rng.normal(size=(FEW, 6)) @ layer).astype(np.float32)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), WIDTH)
            pq.write_table(pa.table({"v": lists}), folder / f"{start:09}.parquet")
        benchmarks = Path(__file__).parents[2] / "benchmarks"
        arguments = [str(n_rows), str(folder), str(benchmarks)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        peaks.append([int(peak) for peak in done.stdout.split()])
    few, many = np.array(peaks)
    bound = 4 * WIDTH * (MANY - FEW) // 2
    assert (many - few < bound).all(), (few, many)
