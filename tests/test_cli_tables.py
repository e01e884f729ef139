"""Tables of the command line, in and out: every format, and every way a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neumap.cli.errors import CommandError
from neumap.cli.reading import READABLE, read_table
from neumap.cli.table import Selection
from neumap.cli.writing import TABLES, Coordinates, check_output, write_coordinates

ROWS = np.array([[0.5, -1.0, 2.0], [3.25, 4.0, 5.0], [6.0, 7.5, 8.0]], dtype=np.float32)
LABELS = np.array(["red", "blue", "red"])
IDS = np.array(["a1", "b2", "c3"])
NAMES = ["one", "two", "three"]


def labelled_table(folder: Path, ending: str) -> Path:
    """The same rows, labels and ids in one of the formats that can hold all three."""
    file = folder / f"table{ending}"
    frame = pd.DataFrame(ROWS, columns=NAMES).assign(colour=LABELS, name=IDS)
    if ending == ".csv":
        frame.to_csv(file, index=False)
    elif ending == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        np.savez(file, X=ROWS, colour=LABELS, name=IDS)
    return file


@pytest.fixture(params=[".csv", ".parquet", ".npz"])
def labelled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return labelled_table(tmp_path, request.param)


@pytest.fixture(params=[".csv", ".parquet"])
def with_names(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return labelled_table(tmp_path, request.param)


def test_every_format_gives_the_same_rows_labels_and_ids(labelled: Path) -> None:
    table = read_table(labelled, Selection(label="colour", id="name"))
    np.testing.assert_array_equal(table.rows, ROWS)
    assert table.labels is not None
    assert table.ids is not None
    assert table.labels.tolist() == LABELS.tolist()
    assert table.ids.tolist() == IDS.tolist()
    assert (table.label_name, table.id_name) == ("colour", "name")


def test_text_columns_that_are_not_asked_for_are_named(with_names: Path) -> None:
    with pytest.raises(CommandError, match=r"got text in 'colour', 'name'\. .*--ignore-column"):
        read_table(with_names, Selection())


def test_ignored_columns_are_left_out(with_names: Path) -> None:
    table = read_table(with_names, Selection(ignored=("colour", "name", "two")))
    np.testing.assert_array_equal(table.rows, ROWS[:, [0, 2]])
    assert table.columns == ["one", "three"]


def test_unknown_label_column_is_named_with_the_ones_there_are(labelled: Path) -> None:
    with pytest.raises(CommandError, match=r"'colour'.*got 'color'"):
        read_table(labelled, Selection(label="color"))


def test_a_model_gets_its_columns_in_its_order(with_names: Path) -> None:
    table = read_table(with_names, Selection(wanted=("three", "one")))
    np.testing.assert_array_equal(table.rows, ROWS[:, [2, 0]])
    with pytest.raises(CommandError, match=r"got 'four'"):
        read_table(with_names, Selection(wanted=("one", "four")))


# ------------------------------------------------------------------------------------- csv


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        pytest.param("1,2\n3,4\n", None, id="no header"),
        pytest.param("0,1\n1,2\n3,4\n", ["0", "1"], id="pandas counts the columns"),
        pytest.param('"a","b"\n1,2\n3,4\n', ["a", "b"], id="quoted"),
        pytest.param("\ufeffa,b\r\n1,2\r\n3,4\r\n", ["a", "b"], id="spreadsheet"),
        pytest.param(",a,b\n7,1,2\n8,3,4\n", ["a", "b"], id="pandas index"),
        pytest.param("a,b\n1,2\n3,4", ["a", "b"], id="no last line end"),
    ],
)
def test_csv_dialects(tmp_path: Path, text: str, columns: list[str] | None) -> None:
    table = read_table(write(tmp_path / "t.csv", text), Selection())
    np.testing.assert_array_equal(table.rows, [[1, 2], [3, 4]])
    assert table.columns == columns


def test_csv_index_becomes_the_ids(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    pd.DataFrame(ROWS, columns=NAMES, index=[10, 20, 30]).to_csv(file)
    table = read_table(file, Selection())
    assert table.ids is not None
    assert table.ids.tolist() == [10, 20, 30]


def test_csv_label_with_a_comma_and_an_empty_one(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", 'x,y\n1,"a, b"\n2,\n')
    table = read_table(file, Selection(label="y"))
    assert table.labels is not None
    assert table.labels.tolist() == ["a, b", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("a,b\n", "must have rows below the column names"),
        ("a,b\n1,2\n3\n", "every line must have 2 cells"),
        ("a,b\n1,2\n3,x\n", "'x'"),
        ("a,b\n1,2\n3,\n", "could not convert string ''"),
        (
            "a,b\n1,2\n3,nan\n",
            r"numbers must be finite and at most 1e\+36, got nan in row 1, column 'b'",
        ),
        ("a,b\n1,2\n3,1e99\n", r"got 1e\+99 in row 1"),
        ("a,a\n1,2\n", "must be unique, got 'a' twice"),
        ("label\nx\n", "got text in 'label'"),
        (b"a,b\n\xff\xfe,2\n", "UTF-8"),
    ],
)
def test_csv_faults(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = write(tmp_path / "t.csv", text)
    with pytest.raises(CommandError, match=message) as caught:
        read_table(file, Selection())
    assert str(file) in str(caught.value)


# --------------------------------------------------------------------------------- parquet


def test_parquet_missing_number(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1, None], "b": [1.0, 2.0]}).to_parquet(file)
    with pytest.raises(CommandError, match="got nan in row 1, column 'a'"):
        read_table(file, Selection())


def test_parquet_index_becomes_the_ids(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pd.DataFrame(ROWS, columns=NAMES, index=list("xyz")).to_parquet(file)
    table = read_table(file, Selection())
    assert table.ids is not None
    assert table.ids.tolist() == ["x", "y", "z"]
    np.testing.assert_array_equal(table.rows, ROWS)


# ------------------------------------------------------------------------------------ arrays


def test_npy_images_are_laid_out_flat_and_keep_their_dtype(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "t.npy", images)
    table = read_table(tmp_path / "t.npy", Selection())
    np.testing.assert_array_equal(table.rows, images.reshape(2, 12))
    assert table.rows.dtype == np.uint8


def test_npy_labels_come_from_another_file(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", ROWS)
    np.save(tmp_path / "y.npy", LABELS)
    np.savez(tmp_path / "y.npz", y=LABELS)
    for name in ("y.npy", "y.npz:y"):
        table = read_table(tmp_path / "t.npy", Selection(label=str(tmp_path / name)))
        assert table.labels is not None
        assert table.labels.tolist() == LABELS.tolist()
    with pytest.raises(CommandError, match="must be another array, got the column 'colour'"):
        read_table(tmp_path / "t.npy", Selection(label="colour"))


@pytest.mark.parametrize("name", ["X", "x_train", "anything"])
def test_npz_obvious_key(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "t.npz", y=np.arange(3), **{name: ROWS})
    np.testing.assert_array_equal(read_table(tmp_path / "t.npz", Selection()).rows, ROWS)


def test_npz_usual_name_that_holds_no_rows_is_passed_over(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.arange(3), rows=ROWS)
    np.testing.assert_array_equal(read_table(tmp_path / "t.npz", Selection()).rows, ROWS)


def test_npz_key_by_option_and_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", first=ROWS, second=2 * ROWS)
    with pytest.raises(CommandError, match=r"got 2 among 'first', 'second'\. .*--key"):
        read_table(tmp_path / "t.npz", Selection())
    by_option = read_table(tmp_path / "t.npz", Selection(key="second"))
    by_name = read_table(tmp_path / "t.npz:second", Selection(key="first"))
    np.testing.assert_array_equal(by_option.rows, 2 * ROWS)
    np.testing.assert_array_equal(by_name.rows, 2 * ROWS)
    with pytest.raises(CommandError, match="must be one of 'first', 'second', got 'third'"):
        read_table(tmp_path / "t.npz:third", Selection())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"rows and columns, got shape \(5,\)"),
        (np.zeros((0, 3)), "at least one row"),
        (np.array([["a"]]), "must hold numbers, got dtype"),
        (np.array([[1.0, np.inf]]), "got inf in row 0, column 1"),
        (np.zeros((2, 2), dtype=complex), "must hold numbers, got dtype complex128"),
    ],
)
def test_array_faults(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(CommandError, match=message):
        read_table(tmp_path / "t.npy", Selection())


def test_missing_number_far_down_is_found_at_its_row(tmp_path: Path) -> None:
    rows = np.zeros((70_000, 2), dtype=np.float32)
    rows[69_000, 1] = np.nan
    np.save(tmp_path / "t.npy", rows)
    with pytest.raises(CommandError, match="got nan in row 69000, column 1"):
        read_table(tmp_path / "t.npy", Selection())


def test_wrong_number_of_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=ROWS, y=np.arange(4))
    with pytest.raises(CommandError, match=r"each of 3 rows, got shape \(4,\)"):
        read_table(tmp_path / "t.npz", Selection(label="y"))


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(CommandError, match=r"not a readable .npy array"):
        read_table(tmp_path / "t.npy", Selection())


# ------------------------------------------------------------------------------ any format


@pytest.mark.parametrize("ending", list(READABLE))
def test_damaged_file(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / f"t{ending}", b"\x93\x00\xff\xfe no such format")
    with pytest.raises(CommandError, match="not a readable") as caught:
        read_table(file, Selection())
    assert str(file) in str(caught.value)


def test_missing_folder_and_unknown_ending(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, message in [
        ("none.csv", "no such file"),
        ("folder.csv", "is a folder"),
        ("t.xlsx", r"must end in .npy, .npz, .csv, .parquet, got '.xlsx'"),
        ("t", "got 'no ending'"),
    ]:
        with pytest.raises(CommandError, match=message):
            read_table(tmp_path / name, Selection())


# ------------------------------------------------------------------------------------ output


def a_map() -> Coordinates:
    positions = np.array([[0.1, 1e-8], [2.5, -3.0], [1 / 3, 7.0]], dtype=np.float32)
    return Coordinates(positions, ["umap0", "umap1"], {"name": IDS, "colour": LABELS})


@pytest.mark.parametrize("ending", list(TABLES))
def test_what_is_written_reads_back_exactly(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"map{ending}"
    write_coordinates(file, a_map())
    beside = ending != ".npy"
    table = read_table(file, Selection(label="colour", id="name") if beside else Selection())
    # Text is read as float64, for columns such as Unix times; the estimator rounds it.
    np.testing.assert_array_equal(table.rows.astype(np.float32), a_map().positions)
    if beside:
        assert table.labels is not None
        assert table.ids is not None
        assert (table.labels.tolist(), table.ids.tolist()) == (LABELS.tolist(), IDS.tolist())
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "map.csv", "old")
    with file.open() as reader:
        write_coordinates(file, a_map())
        assert reader.read() == "old"  # the new file took the name, it did not overwrite the old
    assert file.read_text() != "old"


def test_outputs_that_cannot_be_written_are_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    rows = write(tmp_path / "rows.csv", "1,2\n")
    for path, message in [
        (tmp_path / "map.txt", "the output must end in .csv, .npy, .npz, .parquet"),
        (tmp_path / "folder.csv", "must be a file, got a folder"),
        (tmp_path / "none" / "map.csv", "no folder"),
        (rows, "would overwrite the input"),
    ]:
        with pytest.raises(CommandError, match=message):
            check_output(path, tuple(TABLES), rows)
    check_output(tmp_path / "map.csv", tuple(TABLES), rows)
