"""The formats of the command line besides .npy, .npz and plain .csv, and what is written."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

import neumap
from neumap.cli import batches, main
from neumap.cli.errors import CommandError
from neumap.cli.reading import read_table
from neumap.cli.table import Selection

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 4)).astype(np.float32)
NAMES = list("abcd")
KINDS = np.array(["red", "blue"])[np.arange(60) % 2]
IDS = np.array([f"row {at}" for at in range(60)])
FRAME = pd.DataFrame(ROWS, columns=NAMES).assign(kind=KINDS, name=IDS)
QUICK = "--n-neighbors 5 --n-epochs 2 --preset fast --seed 0 --quiet"


def stream_of(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def file_of(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=17)


def json_lines(frame: pd.DataFrame) -> str:
    return frame.to_json(orient="records", lines=True, double_precision=15)


def csv_bytes(**options: Any) -> bytes:
    return FRAME.to_csv(index=False, **options).encode()


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def arrow() -> pa.Table:
    return pa.Table.from_pandas(FRAME, preserve_index=False)


FORMATS: dict[str, Callable[[Path], Any]] = {
    "t.parquet": lambda file: FRAME.to_parquet(file, index=False),
    "t.arrow": lambda file: file_of(arrow(), file),
    "stream.arrow": lambda file: stream_of(arrow(), file),
    "t.feather": lambda file: feather.write_feather(arrow(), file),
    "t.ipc": lambda file: pl.from_pandas(FRAME).write_ipc(file),
    "t.jsonl": lambda file: file.write_text(json_lines(FRAME)),
    "t.ndjson.gz": lambda file: file.write_bytes(gzip.compress(json_lines(FRAME).encode())),
    "t.tsv": lambda file: file.write_bytes(csv_bytes(sep="\t")),
    "t.csv.gz": lambda file: file.write_bytes(gzip.compress(csv_bytes())),
    "t.CSV.GZ": lambda file: file.write_bytes(gzip.compress(csv_bytes())),
    "t.csv.bz2": lambda file: file.write_bytes(bz2.compress(csv_bytes(sep=";"))),
    "t.tsv.xz": lambda file: file.write_bytes(lzma.compress(csv_bytes(sep="\t"))),
    "t.csv.zst": lambda file: file.write_bytes(zstd(csv_bytes(decimal=",", sep=";"))),
    "mark.csv.gz": lambda file: file.write_bytes(gzip.compress(b"\xef\xbb\xbf" + csv_bytes())),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows_labels_and_ids(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    FORMATS[name](file)
    table = read_table(file, Selection(label="kind", id="name"))
    np.testing.assert_array_equal(table.rows.astype(np.float32), ROWS)
    assert table.columns == NAMES
    assert table.labels is not None
    assert table.ids is not None
    assert table.labels.tolist() == KINDS.tolist()
    assert table.ids.tolist() == IDS.tolist()
    with pytest.raises(CommandError, match=r"got text in 'kind', 'name'"):
        read_table(file, Selection())
    reordered = read_table(file, Selection(wanted=("d", "a")))
    np.testing.assert_array_equal(reordered.rows.astype(np.float32), ROWS[:, [3, 0]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b"", "got an empty file"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "not a readable file of JSON lines"),
        ("t.jsonl", b'{"a": 1, "b": 2}\n{"a": 3}\n', "got nan in row 1, column 'b'"),
        ("t.arrow", b"no such format", r"not a readable \.arrow table"),
        ("t.csv.gz", b"a,b\n1,2\n", "compressed as its ending says, .* cannot be unpacked"),
        ("t.csv.bz2", b"a,b\n1,2\n", "compressed as its ending says"),
        ("t.csv.xz", b"a,b\n1,2\n", "compressed as its ending says"),
        ("t.csv.zst", b"a,b\n1,2\n", "compressed as its ending says"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 99)[:30], "compressed as its ending says"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n3,4,5\n"), "got 3 in line 3"),
        ("t.npy.gz", b"", "must end in"),
        ("t.tsv", b"a\tb\n1\t2\n1,5\n", "must have 2 cells, .* got 1 in line 3"),
        ("t.h5ad", b"no such format", r"not a readable \.h5ad file"),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(CommandError, match=message) as caught:
        read_table(file, Selection())
    assert str(file) in str(caught.value)


def test_comments_are_left_out_where_they_are_named(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("# made by, a machine\na,b,t\n1,2,#1\n# half way\n3,4,y\n5,x,z\n")
    selection = Selection(label="t", comment="#")
    with pytest.raises(CommandError, match=r"got 'x' in line 6, column 'b'"):
        read_table(file, selection)
    file.write_text(file.read_text().replace("x,", "6,"))
    table = read_table(file, selection)
    np.testing.assert_array_equal(table.rows, [[1, 2], [3, 4], [5, 6]])
    assert table.labels is not None
    assert table.labels.tolist() == ["#1", "y", "z"]
    with pytest.raises(CommandError, match=r"If lines that begin with '#' .* --comment '#'\.$"):
        read_table(file, Selection(label="t"))


# ------------------------------------------------------------------------------ vectors


def with_vectors(**columns: Any) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 4)
    return pa.table({**columns, "vector": vectors})


VECTORS: dict[str, Callable[[Path, pa.Table], Any]] = {
    "t.parquet": lambda file, table: pq.write_table(table, file),
    "t.arrow": lambda file, table: file_of(table, file),
    "t.jsonl": lambda file, table: file.write_text(
        "\n".join(json.dumps(row) for row in table.to_pylist())
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_column_of_vectors_is_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / name
    VECTORS[name](file, with_vectors(text=IDS))
    table = read_table(file, Selection())
    np.testing.assert_array_equal(table.rows.astype(np.float32), ROWS)
    said = capsys.readouterr().err
    assert "the vectors in 'vector' were read, and not 'text'. Write --vector-column vector" in said
    named = read_table(file, Selection(label="text", vectors="vector"))
    np.testing.assert_array_equal(named.rows, table.rows)
    assert capsys.readouterr().err == ""
    VECTORS[name](file, with_vectors(id=range(60)))
    with pytest.raises(CommandError, match=r"vectors in 'vector' beside numbers in 'id'\. Name"):
        read_table(file, Selection())
    read_table(file, Selection(id="id"))
    read_table(file, Selection(ignored=("id",)))
    with pytest.raises(CommandError, match=r"--vector-column must name .*got 'id'"):
        read_table(file, Selection(vectors="id"))
    with pytest.raises(CommandError, match="must be among 'id', 'vector', got 'other'"):
        read_table(file, Selection(vectors="other"))


def test_ragged_vectors_are_named_by_row(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"v": [[1.0, 2.0], [3.0, 4.0], [5.0]]}), file)
    with pytest.raises(CommandError, match=r"t\.parquet: .* 1 in row 2 of column 'v'\. Drop"):
        read_table(file, Selection())


def run(line: str) -> None:
    assert main(shlex.split(line)) == 0


def test_a_model_of_vectors_finds_their_column_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(with_vectors(id=range(60), text=IDS), "t.parquet")
    np.save("t.npy", ROWS)
    run(f"fit t.parquet -o m.neumap --vector-column vector --coordinates c.csv {QUICK}")
    run("transform m.neumap t.parquet -o o.parquet --names x y")
    run("transform m.neumap t.npy -o o.npy")
    settings: dict[str, Any] = {"preset": "fast", "n_neighbors": 5, "n_epochs": 2}
    model = neumap.ParametricUMAP(column="vector", random_state=0, **settings)
    expected = model.fit_transform(pq.read_table("t.parquet"))
    assert neumap.load("m.neumap").column == "vector"
    np.testing.assert_array_equal(pd.read_csv("c.csv").to_numpy(np.float32), expected)
    placed = pd.read_parquet("o.parquet")
    assert list(placed.columns) == ["x", "y"]
    np.testing.assert_array_equal(placed.to_numpy(), np.load("o.npy"))
    np.testing.assert_array_equal(placed.to_numpy(), model.transform(ROWS))


# ------------------------------------------------------------------------------ what is written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("formats")
    FRAME.to_csv(made / "t.csv", index=False)
    FRAME.to_parquet(made / "t.parquet", index=False)
    run(f"fit {made}/t.csv -o {made}/m.neumap --label-column kind --id-column name {QUICK}")
    return made


def place(rows: Any, folder: Path) -> Any:
    return neumap.load(folder / "m.neumap").transform(pd.DataFrame(rows, columns=NAMES))


def test_kept_columns_of_text_are_written_as_they_were_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    odd = FRAME.assign(code=[f"{at:03}" for at in range(60)], note='say "x", =1')
    odd.to_csv("odd.csv", index=False)
    run("transform m.neumap odd.csv -o o.csv --keep-columns --names x y")
    before, after = (pd.read_csv(name, dtype=str) for name in ("odd.csv", "o.csv"))
    assert list(after.columns) == [*before.columns, "x", "y"]
    pd.testing.assert_frame_equal(after[before.columns], before)
    np.testing.assert_array_equal(after[["x", "y"]].to_numpy(np.float32), place(ROWS, folder))
    run("transform m.neumap odd.csv -o o.parquet --keep-columns --label-column kind")
    kept = pd.read_parquet("o.parquet")
    assert kept["code"].tolist() == odd["code"].tolist()
    np.testing.assert_array_equal(kept["a"].to_numpy(np.float32), ROWS[:, 0])
    run("plot o.csv -o p.png --names x y --label-column kind")


TYPED = pa.table(
    {
        "a": pa.array(ROWS[:, 0]),
        "b": pa.array(ROWS[:, 1]),
        "c": pa.array(ROWS[:, 2]),
        "d": pa.array(ROWS[:, 3]),
        "n": pa.array([None, *range(59)], pa.int32()),
        "kind": pa.array(KINDS).dictionary_encode(),
        "when": pa.array(pd.date_range("2020", periods=60, tz="UTC")),
        "list": pa.array([[at] for at in range(60)]),
        "picture": pa.array([{"url": "u", "bytes": b"\x00"}] * 60),
    }
)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SMALLEST", 16)
    monkeypatch.setattr(batches, "LARGEST", 16)


@pytest.mark.usefixtures("small_batches")
def test_parquet_is_placed_in_batches_and_keeps_columns_with_their_types(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    pq.write_table(TYPED, "typed.parquet", row_group_size=25)
    sizes: list[int] = []
    original = batches.models.place

    def watched(model: Any, table: Any) -> Any:
        sizes.append(len(table.rows))
        return original(model, table)

    monkeypatch.setattr(batches.models, "place", watched)
    run("transform m.neumap typed.parquet -o o.parquet --keep-columns --names x y")
    assert max(sizes) <= 16
    assert sum(sizes) == 60
    made = pq.read_table("o.parquet")
    for name in TYPED.column_names:
        assert made.column(name).type == TYPED.column(name).type
        assert made.column(name).to_pylist() == TYPED.column(name).to_pylist()
    placed = np.column_stack([made.column(name).to_numpy() for name in "xy"])
    np.testing.assert_allclose(placed, place(ROWS, folder), atol=1e-5)  # batches of 16 rows
    run("transform m.neumap typed.parquet -o few.parquet --label-column kind --id-column n")
    few = pq.read_table("few.parquet")
    assert few.column_names == ["n", "kind", "parametricumap0", "parametricumap1"]
    assert few.column("n").to_pylist() == TYPED.column("n").to_pylist()


@pytest.mark.parametrize("group", [4096, 40_960])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    """Arrow's memory at each of ten batches, for groups of rows small and large."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batches, "LARGEST", batches.SMALLEST)
    rows = RNG.normal(size=(40_960, 32)).astype(np.float32)
    np.save("t.npy", rows[:60])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 32)
    pages: dict[str, Any] = {"use_dictionary": False, "data_page_size": 2**16}
    pq.write_table(pa.table({"v": vectors}), "t.parquet", row_group_size=group, **pages)
    del vectors
    run(f"fit t.npy -o m.neumap {QUICK}")
    held: list[int] = []
    original = batches.models.place

    def watched(model: Any, table: Any) -> Any:
        held.append(pa.total_allocated_bytes() - before)
        return original(model, table)

    monkeypatch.setattr(batches.models, "place", watched)
    before = pa.total_allocated_bytes()
    run("transform m.neumap t.parquet -o o.parquet")
    assert len(held) == 10
    assert max(held) < 6 * 2**19  # a batch is 2**19 bytes, the file ten times as many


@pytest.mark.usefixtures("small_batches")
def test_faults_in_later_batches_are_named_by_their_row_in_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    spoilt = FRAME.copy()
    spoilt.loc[41, "c"] = np.nan
    spoilt.to_parquet("nan.parquet", index=False)
    whole = Path("t.parquet").read_bytes()
    Path("cut.parquet").write_bytes(whole[:300] + b"\xff" * 200 + whole[500:])
    FRAME[:0].to_parquet("none.parquet", index=False)
    FRAME.drop(columns="b").to_parquet("less.parquet", index=False)
    for name, message in {
        "nan": "got nan in row 41, column 'c'",
        "cut": "cut.parquet",
        "none": "must have rows, got none",
        "less": "got 'b'",
    }.items():
        assert main(shlex.split(f"transform m.neumap {name}.parquet -o o2.parquet")) == 2
        err = capfd.readouterr().err
        assert message in err, err
        assert err.count("\n") == 1
        assert not Path("o2.parquet").exists()
    assert not [file for file in folder.iterdir() if "o2" in file.name]  # no draft is left


def test_batches_of_the_usual_size_change_no_position(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(batches, "LARGEST", batches.SMALLEST)
    rows = RNG.normal(size=(batches.SMALLEST * 2 + 77, 4)).astype(np.float32)
    pd.DataFrame(rows, columns=NAMES).to_parquet("many.parquet")
    run("transform m.neumap many.parquet -o placed.parquet")
    np.testing.assert_array_equal(pd.read_parquet("placed.parquet").to_numpy(), place(rows, folder))


def test_an_index_of_pandas_is_one_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    FRAME.set_index("name").to_parquet("indexed.parquet")
    run("transform m.neumap indexed.parquet -o o.parquet --keep-columns")
    made = pd.read_parquet("o.parquet")
    assert made.index.tolist() == IDS.tolist()
    assert list(made.columns) == [*NAMES, "kind", "parametricumap0", "parametricumap1"]


@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_kept_columns_of_lists_and_dates_have_a_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.chdir(folder)
    pq.write_table(TYPED.drop_columns(["picture"]), "typed.parquet")
    run(f"transform m.neumap typed.parquet -o o{ending} --keep-columns")
    if ending == ".csv":
        kept: Any = pd.read_csv("o.csv")
    else:
        with np.load("o.npz") as archive:
            kept = pd.DataFrame({name: archive[name] for name in ("list", "kind")})
    assert [json.loads(cell) for cell in kept["list"]] == [[at] for at in range(60)]
    assert kept["kind"].tolist() == KINDS.tolist()


def test_the_arrays_of_an_npz_have_any_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy.savez has arguments of these names; the ids of a folder of images are "file"."""
    monkeypatch.chdir(folder)
    FRAME.assign(file=IDS, allow_pickle=KINDS).to_csv("named.csv", index=False)
    run("transform m.neumap named.csv -o o.npz --keep-columns")
    with np.load("o.npz") as archive:
        assert archive["file"].tolist() == IDS.tolist()
        assert archive["allow_pickle"].tolist() == KINDS.tolist()
        assert archive["embedding"].shape == (60, 2)


def test_options_for_one_file_do_not_hinder_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    FRAME.to_csv("semicolons.csv", index=False, sep=";")
    np.save("held_out.npy", ROWS[:30])
    options = "--delimiter ; --decimal . --ignore-column name --ignore-column kind"
    run(f"evaluate m.neumap semicolons.csv {options} --held-out held_out.npy")
    assert "test_trustworthiness" in capfd.readouterr().out


@pytest.mark.parametrize(("keep", "has_rows"), [("", True), ("--keep map", False)])
def test_free_positions_keep_the_rows_that_transform_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, keep: str, has_rows: bool
) -> None:
    monkeypatch.chdir(folder)
    words = f"t.csv -o free.neumap --label-column kind --id-column name {QUICK}"
    run(f"fit {words} --set parametric_embedding=False {keep}")
    line = "transform free.neumap t.csv -o o.csv"
    assert main(shlex.split(line)) == (0 if has_rows else 2)


REFUSED = {
    "transform m.neumap t.csv -o o.csv --names x": "--names must give 2 different names",
    "transform m.neumap t.csv -o o.csv --names x x": "--names must give 2 different names",
    "transform m.neumap t.csv -o o.csv --names x y z": "--names must give 2 different names",
    "transform m.neumap t.csv -o o.csv --names": "requires an argument",
    "transform m.neumap t.csv -o o.csv --keep-columns --names a b": "got 'a', 'b' for both",
    "transform m.neumap t.parquet -o o.parquet --keep-columns --names a y": "got 'a' for both",
    "transform m.neumap t.csv -o o.csv --id-column name --names name y": "got 'name' for both",
    "transform m.neumap t.csv -o o.npy --keep-columns": "needs an output with named columns",
    "transform m.neumap t.csv -o o.npz --names x y": "--names needs an output with named columns",
    "transform m.neumap t.csv -o o.npz --keep-columns --names x y": "--names needs an output with",
    "fit t.csv -o n.neumap --coordinates o.csv --id-column name --label-column kind --names x kind "
    "--checkpoint c.neumap": "got 'kind' for both",
    "fit t.csv -o n.neumap --id-column name --label-column kind --metric cosine "
    "--set metric=euclidean": "got 'metric' twice",
    "fit t.csv -o n.neumap --id-column name --label-column kind --set spread=1 --set spread=2": (
        "got 'spread' twice"
    ),
    "transform m.neumap t.npy -o o.csv --keep-columns": "needs a file with named columns",
    "transform m.neumap t.csv -o o.csv --vector-column a": "--vector-column needs a file with one",
    "transform m.neumap t.csv -o o.csv --image-size 8": "--image-size needs a folder",
    "transform m.neumap t.csv -o o.csv --key a": "--key needs a file with one of the endings .npz,",
    "transform m.neumap t.parquet -o o.csv --delimiter ;": "--delimiter needs a file with one of",
    "transform m.neumap t.parquet -o o.parquet --decimal ,": "--decimal needs a file with one of",
    "transform m.neumap t.parquet -o o.parquet --comment %": "--comment needs a file with one of",
    "transform m.neumap t.npy -o o.csv --ignore-column a": "--ignore-column needs a file with",
    "transform m.neumap t.csv -o o.csv --image-size 8x": "it must be a width and a height",
    "transform m.neumap t.csv -o o.csv --comment ab": "it must be one character",
    "fit t.csv -o n.neumap --label-column kind --names x y": "needs a table to write, got none",
    "fit t.csv -o n.neumap --coordinates o.csv --names x": "--names must give 2 different",
    "fit t.csv -o n.neumap --coordinates o.csv --keep-columns --names a y --ignore-column kind "
    "--ignore-column name": "got 'a' for both",
    "fit t.csv -o n.csv.gz": "the output must be a model",
    "plot m.neumap t.csv -o p.png --names x y": "--names needs a table of coordinates",
    "plot t.csv -o p.png --names x y": "must be among",
    "fit empty -o n.neumap": "got a folder without any",
}


@pytest.mark.parametrize("line", REFUSED)
def test_options_that_do_not_fit_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.chdir(folder)
    np.save("t.npy", ROWS)
    Path("empty").mkdir(exist_ok=True)
    before = {file.name for file in folder.iterdir()}
    assert main(shlex.split(line)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert REFUSED[line] in err
    assert err.count("\n") == 1
    assert {file.name for file in folder.iterdir()} == before


# ------------------------------------------------------------------------------ cells and images


def test_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anndata = pytest.importorskip("anndata")
    import scipy.sparse

    monkeypatch.chdir(tmp_path)
    counts = scipy.sparse.csr_matrix(np.where(ROWS > 0, ROWS, 0))
    obs = pd.DataFrame({"kind": pd.Categorical(KINDS)}, index=IDS)
    cells = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=NAMES))
    cells.obsm["X_pca"] = ROWS[:, :3]
    cells.write_h5ad("t.h5ad")
    run(f"fit t.h5ad -o m.neumap --label-column kind {QUICK}")
    cells[:, ["d", "a", "b", "c"]].write_h5ad("other.h5ad")  # genes in another order
    run("transform m.neumap other.h5ad -o o.csv --label-column kind")
    made = pd.read_csv("o.csv")
    assert made["cell"].tolist() == IDS.tolist()
    assert made["kind"].tolist() == KINDS.tolist()
    model = neumap.load("m.neumap")
    assert model.feature_names_in_.tolist() == NAMES
    np.testing.assert_allclose(made.iloc[:, 2:].to_numpy(), model.transform(cells), atol=1e-5)
    pca = read_table(Path("t.h5ad"), Selection(key="X_pca"))
    np.testing.assert_array_equal(pca.rows, ROWS[:, :3])
    for selection, message in [
        (Selection(key="X_umap"), "--key must be X or one of 'X_pca', got 'X_umap'"),
        (Selection(label="type"), "one of 'kind' in obs, got 'type'"),
        (Selection(wanted=("a", "e")), "got 'e'"),
    ]:
        with pytest.raises(CommandError, match=message):
            read_table(Path("t.h5ad"), selection)
    cells.X = scipy.sparse.csr_matrix(np.where(ROWS[9, 2] == ROWS, np.nan, ROWS))
    cells.write_h5ad("nan.h5ad")
    with pytest.raises(CommandError, match="got nan in row 9, column 2"):
        read_table(Path("nan.h5ad"), Selection())


def test_folders_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    pixels = RNG.integers(0, 256, size=(30, 6, 5), dtype=np.uint8)
    for at, picture in enumerate(pixels):
        place = Path("photos", KINDS[at])
        place.mkdir(parents=True, exist_ok=True)
        image.fromarray(picture).save(place / f"{at:02}.png")
    Path("photos", "notes.txt").write_text("no image")
    order = [*range(1, 30, 2), *range(0, 30, 2)]  # blue before red
    table = read_table(Path("photos"), Selection(label="folder"))
    np.testing.assert_array_equal(table.rows, pixels[order].reshape(30, -1))
    assert table.labels is not None
    assert table.ids is not None
    assert table.labels.tolist() == KINDS[order].tolist()
    assert table.ids[0] == "blue/01.png"
    run(f"fit photos -o m.neumap --coordinates o.csv --label-column folder {QUICK}")
    assert list(pd.read_csv("o.csv").columns)[:2] == ["file", "folder"]
    smaller = read_table(Path("photos"), Selection(image_size=(4, 3)))
    assert smaller.rows.shape == (30, 12)
    with pytest.raises(
        CommandError, match=r"the label of an image must be its folder, got .*'kind'"
    ):
        read_table(Path("photos"), Selection(label="kind"))
    image.new("RGB", (9, 9)).save("photos/z.png")
    with pytest.raises(CommandError, match=r"z\.png: images must have one size, 5x6 .* got 9x9"):
        read_table(Path("photos"), Selection())
    coloured = read_table(Path("photos"), Selection(image_size=(5, 6)))
    np.testing.assert_array_equal(coloured.rows[0], np.repeat(pixels[1].ravel(), 3))
    Path("photos/z.png").write_bytes(b"no image")
    with pytest.raises(CommandError, match=r"z\.png: not a readable image"):
        read_table(Path("photos"), Selection())


def test_folders_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows, kinds = RNG.normal(size=(30, 4)).astype(np.float32), KINDS[:30]
    frame = pd.DataFrame({"name": np.arange(30).astype(str), "kind": kinds, "v": list(rows)})
    wide = pd.concat([frame[["name", "kind"]], pd.DataFrame(rows, columns=list("abcd"))], axis=1)
    for folder in ("arrays", "vectors", "wide", "empty"):
        Path(folder).mkdir()
    for at, part in enumerate((slice(0, 12), slice(12, 30))):
        np.save(f"arrays/{at}.npy", rows[part])
        frame[part].to_parquet(f"vectors/{at}.parquet", index=False)
        wide[part].reset_index(drop=True).to_feather(f"wide/{at}.feather")
    np.save("labels.npy", kinds)
    named = Selection(label="kind", id="name")
    for folder, selection in (
        ("arrays", Selection(label="labels.npy")),
        ("vectors", replace(named, vectors="v")),
        ("wide", named),
    ):
        table = read_table(Path(folder), selection)
        np.testing.assert_array_equal(table.rows, rows)
        assert isinstance(table.rows, np.memmap)
        assert table.labels is not None
        assert table.labels.tolist() == kinds.tolist()
        assert table.columns == (list("abcd") if folder == "wide" else None)
    run(f"fit wide -o m.neumap --coordinates o.csv --label-column kind --id-column name {QUICK}")
    run("transform m.neumap wide -o new.csv --label-column kind --id-column name")
    one, other = pd.read_csv("o.csv"), pd.read_csv("new.csv")
    assert one["kind"].tolist() == kinds.tolist()
    assert np.allclose(one.iloc[:, -2:], other.iloc[:, -2:], atol=1e-5)
    for folder, selection, match in (
        ("arrays", Selection(keeps=True), "--keep-columns needs a file"),
        ("arrays", Selection(vectors="v"), "--vector-column needs a file"),
        ("wide", Selection(), r"wide: columns must hold numbers, got text in 'name', 'kind'"),
        ("wide", Selection(label="x"), r"wide: columns must be among .*got 'x'"),
        (
            "empty",
            Selection(),
            r"or of \.npy, Parquet or Arrow files of one kind, got a folder without any",
        ),
        ("arrays", Selection(image_size=(2, 2)), "--image-size needs a folder of images"),
    ):
        with pytest.raises(CommandError, match=match):
            read_table(Path(folder), selection)
    Path("empty/_SUCCESS.npy").touch()
    np.save("arrays/2.npy", rows[:, :2])
    with pytest.raises(CommandError, match=r"arrays: All files must hold rows of one shape"):
        read_table(Path("arrays"), Selection())
