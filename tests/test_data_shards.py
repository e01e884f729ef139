"""Rows of many files as one array on disk: what is read, in which order, and what is refused."""

from __future__ import annotations

import copy
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import neumap
from neumap.data import RowFiles, as_rows, check_input, open_rows, stack

X = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
CUTS = (100, 101)  # one file has a single row


def vectors(rows: np.ndarray, kind: pa.DataType | None = None) -> pa.Table:
    column = pa.array(rows.tolist(), kind or pa.list_(pa.float32()))
    return pa.table({"id": [str(i) for i in range(len(rows))], "v": column})


def wide(rows: np.ndarray) -> pa.Table:
    return pa.table({f"c{i}": rows[:, i] for i in range(rows.shape[1])})


def write_parquet(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file.with_suffix(".parquet"), row_group_size=30)


def write_ipc(table: pa.Table, file: Path, compression: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(str(file.with_suffix(".arrow")), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=17)


def write_stream(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_stream(str(file.with_suffix(".arrow")), table.schema) as writer:
        writer.write_table(table, max_chunksize=17)


FIXED = pa.list_(pa.float32(), 6)
KINDS: dict[str, Callable[[np.ndarray, Path], None]] = {
    "npy": lambda V, file: np.save(file.with_suffix(".npy"), V),
    "npy in Fortran order": lambda V, file: np.save(file.with_suffix(".npy"), np.asfortranarray(V)),
    "parquet, lists": lambda V, file: write_parquet(vectors(V), file),
    "parquet, lists of one size": lambda V, file: write_parquet(vectors(V, FIXED), file),
    "parquet, wide": lambda V, file: write_parquet(wide(V), file),
    "Arrow file": lambda V, file: write_ipc(vectors(V), file),
    "Arrow file, compressed": lambda V, file: write_ipc(vectors(V), file, "zstd"),
    "Arrow file, wide": lambda V, file: write_ipc(wide(V), file),
    "Arrow stream": lambda V, file: write_stream(vectors(V), file),
}


def folder_of(kind: str, place: Path, rows: np.ndarray = X) -> Path:
    for number, part in enumerate(np.split(rows, CUTS)):
        KINDS[kind](part, place / f"part-{number}")
    return place


def opened(kind: str, place: Path, rows: np.ndarray = X) -> RowFiles:
    column = None if "npy" in kind or "wide" in kind else "v"
    return open_rows(folder_of(kind, place, rows), column)


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_and_row_numbers_give_the_rows_of_all_files(kind: str, tmp_path: Path) -> None:
    rows = opened(kind, tmp_path)
    assert rows.shape == X.shape
    assert rows.dtype == np.float32
    assert len(rows.files) == 3
    for start, stop in ((0, 300), (50, 150), (99, 102), (100, 101), (290, 300), (0, 40), (7, 7)):
        assert np.array_equal(rows[start:stop], X[start:stop]), (start, stop)
    numbers = np.array([299, 3, 100, 3])
    assert np.array_equal(rows[numbers], X[numbers])
    assert np.array_equal(rows[50:150], X[50:150])  # after the rows were unpacked
    assert np.array_equal(np.asarray(rows), X)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_gathers_and_slices(kind: str, tmp_path: Path) -> None:
    store = as_rows(check_input(opened(kind, tmp_path)))
    numbers = torch.tensor([200, 0, 200, 100])
    assert np.array_equal(store.gather(numbers).numpy(), X[numbers.numpy()])
    assert np.array_equal(torch.cat(list(store.slices(64))).numpy(), X)
    assert np.array_equal(store.to_matrix(), X)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_open_the_files_again(kind: str, tmp_path: Path) -> None:
    rows = opened(kind, tmp_path)
    _ = rows[20:30]  # a stream is open
    for other in (pickle.loads(pickle.dumps(rows)), copy.deepcopy(rows)):
        assert np.array_equal(other[:], X)
    assert len(pickle.dumps(rows)) < 4000  # names, and no rows


def test_every_batch_is_decoded_once_in_consecutive_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(vectors(X), tmp_path / "one")
    rows = open_rows(tmp_path / "one.parquet", "v")
    opens = []
    usual = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda *a, **k: opens.append(a) or usual(*a, **k))
    for start in range(0, 300, 7):
        _ = rows[start : start + 7]
    assert len(opens) == 1


def test_files_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, value in (("part-2", 2), ("part-10", 10), ("b/part-1", 1)):
        np.save(tmp_path / f"{name}.npy", np.full((1, 2), value))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part-2.npy.crc").touch()
    (tmp_path / "notes.txt").touch()
    rows = open_rows(tmp_path)
    assert rows[:][:, 0].tolist() == [1, 10, 2]
    assert [Path(name).name for name in rows.files] == ["part-1.npy", "part-10.npy", "part-2.npy"]
    given = [str(tmp_path / "part-2.npy"), tmp_path / "part-10.npy"]
    assert open_rows(given)[:][:, 0].tolist() == [2, 10]


def test_opening_reads_footers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of("parquet, lists of one size", tmp_path)
    usual, read = pq.ParquetFile.iter_batches, []

    def counted(self: Any, **arguments: Any) -> Any:
        for batch in usual(self, **arguments):
            read.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    assert open_rows(tmp_path, "v").shape == (300, 6)
    assert sum(read) <= 64  # the width of vectors is that of the first row


def test_numbers_of_several_types_get_one_that_holds_all(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 3), 0.1, dtype=np.float64))
    np.save(tmp_path / "b.npy", np.full((2, 3), 7, dtype=np.uint8))
    rows = open_rows(tmp_path)
    assert rows.dtype == np.float64
    assert rows[1:3].tolist() == [[0.1] * 3, [7.0] * 3]
    for kind in (np.uint8, np.float16, bool):
        place = tmp_path / np.dtype(kind).name
        place.mkdir()
        rows = opened("npy", place, (X > 0).astype(kind))
        assert rows.dtype == rows.flat().dtype == kind


def test_a_single_npy_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", X)
    flat = open_rows(tmp_path / "rows.npy").flat()
    assert isinstance(flat, np.memmap)
    assert Path(str(flat.filename)).name == "rows.npy"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files as Linux does")
@pytest.mark.parametrize("kind", ["npy", "parquet, lists", "Arrow file"])
def test_files_are_open_only_while_they_are_read(kind: str, tmp_path: Path) -> None:
    def n_open() -> int:
        return sum(str(tmp_path) in str(file.resolve()) for file in Path("/proc/self/fd").iterdir())

    rows = opened(kind, tmp_path)
    _ = rows[:]
    assert n_open() == 0
    _ = rows[:102]
    assert n_open() <= 1


def test_names_of_wide_columns_are_those_of_the_features(tmp_path: Path) -> None:
    rows = opened("parquet, wide", tmp_path)
    names = check_input(rows).feature_names
    assert names is not None
    assert names.tolist() == [f"c{i}" for i in range(6)]
    chosen = open_rows(tmp_path, ["c4", "c1"])
    assert np.array_equal(chosen[:], X[:, [4, 1]])
    pq.write_table(wide(X).select(["c5", "c4", "c3", "c2", "c1", "c0"]), tmp_path / "z.parquet")
    assert np.array_equal(open_rows(tmp_path)[300:], X)  # by name, whatever their order


def test_joined_rows_stay_in_their_files(tmp_path: Path) -> None:
    rows = opened("parquet, lists", tmp_path)
    for added in (X[:5], torch.from_numpy(X[:5]), open_rows(tmp_path, "v")):
        joined = stack(rows, added)
        assert isinstance(joined, RowFiles)
        assert np.array_equal(joined[:], np.concatenate([X, np.asarray(added)]))
    with pytest.raises(ValueError, match="Rows to be joined must have the same shape"):
        stack(rows, X[:, :3])


class HuggingFace:
    """What is used of ``datasets.Dataset``."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def with_format(self, kind: str) -> HuggingFace:
        assert kind == "arrow"
        return self

    def select_columns(self, names: list[str]) -> HuggingFace:
        return HuggingFace(self.table.select(names))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, rows: slice) -> pa.Table:
        start, stop, _ = rows.indices(len(self))
        return self.table.slice(start, stop - start)


def test_hugging_face_datasets_are_read_by_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    sys.modules["datasets"].Dataset = HuggingFace  # type: ignore[attr-defined]
    table = pa.concat_tables([vectors(X[:40]), vectors(X[40:])])
    rows = open_rows(HuggingFace(table), "v")
    assert rows.shape == (300, 6)
    for start, stop in ((0, 300), (30, 50), (63, 66), (0, 1)):
        assert np.array_equal(rows[start:stop], X[start:stop])


@pytest.mark.integration("datasets")
def test_hugging_face_datasets(tmp_path: Path, package: Any) -> None:
    values = {"id": list(range(300)), "v": X[::-1].tolist()}
    features = package.Features(
        {"id": package.Value("int64"), "v": package.List(package.Value("float32"))}
    )
    whole = package.Dataset.from_dict(values, features=features)
    assert np.array_equal(open_rows(whole, "v")[:], X[::-1])
    assert np.array_equal(open_rows(whole.select(range(299, -1, -1)), "v")[:], X)
    chosen = whole.filter(lambda row: row["id"] >= 10).with_format("torch")
    assert np.array_equal(open_rows(chosen, "v")[5:40], X[::-1][15:50])
    whole.save_to_disk(str(tmp_path / "saved"), num_shards=3)
    saved = package.load_from_disk(str(tmp_path / "saved"))
    assert np.array_equal(open_rows(saved, "v")[:], X[::-1])
    files = open_rows(tmp_path / "saved", "v")
    assert len(files.files) == 3
    assert np.array_equal(files[:], X[::-1])


# ---- what is refused ----------------------------------------------------------------------------


def test_a_vector_of_another_length_or_none_is_named_by_file_and_row(tmp_path: Path) -> None:
    folder_of("parquet, lists", tmp_path)
    values = X[:50].tolist()
    values[41] = values[41][:4]
    kind = pa.list_(pa.float32())
    write_parquet(pa.table({"id": ["a"] * 50, "v": pa.array(values, kind)}), tmp_path / "ragged")
    with pytest.raises(ValueError, match=r"got 6 numbers .* and 4 in row 41 of .*ragged\.parquet"):
        check_input(open_rows(tmp_path, "v"))
    values[41] = None
    write_parquet(pa.table({"id": ["a"] * 50, "v": pa.array(values, kind)}), tmp_path / "ragged")
    with pytest.raises(ValueError, match=r"got none in row 41 of .*ragged\.parquet"):
        check_input(open_rows(tmp_path, "v"))


@pytest.mark.parametrize("kind", ["npy", "parquet, lists", "parquet, wide"])
def test_missing_and_infinite_numbers_are_named_by_file_and_row(kind: str, tmp_path: Path) -> None:
    rows = X.copy()
    rows[250, 2] = np.nan
    found = r"in row 250 \(row 149 of .*part-2.*\), column '?c?2"
    with pytest.raises(ValueError, match="contains NaN.*" + found):
        check_input(opened(kind, tmp_path, rows))
    rows[250, 2] = np.inf
    with pytest.raises(ValueError, match="contains infinity.*" + found):
        check_input(opened(kind, tmp_path, rows))


@pytest.mark.parametrize("is_vector", [True, False])
def test_missing_whole_numbers_are_named(is_vector: bool, tmp_path: Path) -> None:
    if is_vector:
        table = pa.table({"v": pa.array([[1, 2], [3, None]], pa.list_(pa.int32()))})
    else:
        table = pa.table({"a": pa.array([1, None], pa.int32()), "b": [1, 2]})
    write_parquet(table, tmp_path / "rows")
    with pytest.raises(ValueError, match=r"columns of whole numbers, got one in row 1 of .*rows"):
        open_rows(tmp_path)[:]


def save_two(place: Path, one: Any, other: Any) -> Path:
    for name, table in (("a", one), ("b", other)):
        write_parquet(table, place / name)
    return place


REFUSED: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no such file": (lambda p: p / "no.npy", FileNotFoundError, "must name files that exist"),
    "an empty folder": (lambda p: p, ValueError, "which holds none"),
    "an array": (lambda p: X, TypeError, "got ndarray.* Pass arrays and tables to fit itself"),
    "an empty list": (lambda p: [], TypeError, "must be a folder, a file, a list"),
    "two kinds": (
        lambda p: (KINDS["npy"](X, p / "a"), KINDS["parquet, wide"](X, p / "b"), p)[-1],
        ValueError,
        r"files of one kind.*got \.npy, \.parquet",
    ),
    "two widths": (
        lambda p: (KINDS["npy"](X, p / "a"), KINDS["npy"](X[:, :2], p / "b"), p)[-1],
        ValueError,
        r"rows of one shape, got \(6,\) in .*a\.npy and \(2,\) in .*b\.npy",
    ),
    "two widths of lists": (
        lambda p: save_two(p, vectors(X).select(["v"]), vectors(X[:, :2]).select(["v"])),
        ValueError,
        r"b\.parquet",
    ),
    "other columns": (
        lambda p: save_two(p, wide(X), wide(X[:, :3])),
        ValueError,
        r"b\.parquet: column must name columns of the files, got \['c3', 'c4', 'c5'\]",
    ),
    "additional columns": (
        lambda p: save_two(p, wide(X[:, :3]), wide(X)),
        ValueError,
        r"same columns.*\['c3', 'c4', 'c5'\] in .*b\.parquet",
    ),
    "text": (
        lambda p: save_two(p, pa.table({"t": ["a"], "x": [1.0]}), wide(X)),
        ValueError,
        "got string in column 't'",
    ),
    "vectors beside numbers": (
        lambda p: save_two(p, pa.table({"v": [[1.0]], "x": [1.0]}), wide(X)),
        ValueError,
        "a.parquet: X must hold one column of vectors, or columns of numbers",
    ),
    "a damaged parquet": (
        lambda p: ((p / "a.parquet").write_bytes(b"PAR1 no"), p)[-1],
        ValueError,
        "a.parquet",
    ),
    "a damaged npy": (
        lambda p: ((p / "a.npy").write_bytes(b"no"), p)[-1],
        ValueError,
        "a.npy must hold one array of numbers",
    ),
    "a vector in a .npy": (
        lambda p: (np.save(p / "a.npy", X[:, 0]), p)[-1],
        ValueError,
        r"with rows and columns, got shape \(300,\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case: str, tmp_path: Path) -> None:
    make, error, match = REFUSED[case]
    source = make(tmp_path)
    with pytest.raises(error, match=match):
        check_input(open_rows(source))


def test_columns_of_npy_files_and_unknown_columns_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(ValueError, match=r"column must be None for \.npy files.*got 'v'"):
        open_rows(tmp_path, "v")
    write_parquet(vectors(X), tmp_path / "b")
    with pytest.raises(ValueError, match=r"column must be one of the columns.*got 'w'"):
        open_rows(tmp_path / "b.parquet", "w")
    with pytest.raises(ValueError, match=r"column must name a column with one vector.*got 'id'"):
        open_rows(tmp_path / "b.parquet", "id")
    with pytest.warns(UserWarning, match="got the vectors in column 'v' beside 'id'"):
        assert open_rows(tmp_path / "b.parquet").shape == X.shape


def test_the_opener_is_public() -> None:
    assert neumap.open_rows is open_rows
