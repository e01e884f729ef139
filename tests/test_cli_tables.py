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
        ("a,b\n1,2\n3\n", "every line must have 2 cells, .* got 1 in line 3"),
        ("a,b\n1,2\n3,x\n", "got 'x' in line 3, column 'b'"),
        ("a,b\n1,2\n\n3,\n", "got an empty cell in line 4, column 'b'"),
        ("a,b\n1,2\n3,nan\n", r"must be finite and at most 1e\+36, got nan in row 1, column 'b'"),
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


NUMBERS = np.round(np.random.default_rng(0).normal(size=(30, 3)) * 1000, 2)


def spelled(delimiter: str, decimal: str = ".", header: str = "x y z") -> list[str]:
    """Lines of NUMBERS below a header, as another program writes them."""
    rows = [delimiter.join(str(v).replace(".", decimal) for v in row) for row in NUMBERS.tolist()]
    return [header.replace(" ", delimiter), *rows] if header else rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", ["x y z", ""])
def test_csv_delimiter_and_decimal_mark_are_found(
    tmp_path: Path, delimiter: str, decimal: str, header: str
) -> None:
    lines = spelled(delimiter, decimal, header)
    if delimiter == decimal:  # such numbers stand in quotes
        lines = ["x,y,z"] if header else []
        lines += [",".join(f'"{v}"'.replace(".", ",") for v in row) for row in NUMBERS.tolist()]
    file = write(tmp_path / "t.csv", "\n".join(lines))
    expected = pd.read_csv(file, sep=delimiter, decimal=decimal, header=0 if header else None)
    table = read_table(file, Selection())
    np.testing.assert_array_equal(table.rows.astype(np.float32), expected.to_numpy(np.float32))
    assert table.columns == (["x", "y", "z"] if header else None)


def test_csv_german_labels_keep_their_points_and_commas(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", 'x;y;art\n1,5;2;"Nr. 1; klein"\n3;4,5;groß, alt\n')
    table = read_table(file, Selection(label="art"))
    np.testing.assert_array_equal(table.rows, [[1.5, 2], [3, 4.5]])
    assert table.labels is not None
    assert table.labels.tolist() == ["Nr. 1; klein", "groß, alt"]


@pytest.mark.parametrize("names", [range(1, 31), [f"gene {i}" for i in range(30)]])
def test_csv_row_names_of_r_become_the_ids(tmp_path: Path, names: list[object]) -> None:
    lines = spelled(",")
    body = [f'"{name}",{line}' for name, line in zip(names, lines[1:], strict=True)]
    file = write(tmp_path / "t.csv", "\n".join(['"x","y","z"', *body]))
    expected = pd.read_csv(file)  # pandas takes the cell without a name for the index
    table = read_table(file, Selection())
    np.testing.assert_array_equal(table.rows.astype(np.float32), expected.to_numpy(np.float32))
    assert table.ids is not None
    assert table.ids.tolist() == expected.index.tolist()


@pytest.mark.parametrize("at", [1, 2, 17, 30])
def test_csv_line_that_is_one_cell_longer_is_named(tmp_path: Path, at: int) -> None:
    lines = spelled(",")
    lines[at] = f"1,{lines[at]}"
    file = write(tmp_path / "t.csv", "\n".join(lines))
    with pytest.raises(CommandError, match=f"must have 3 cells, .* got 4 in line {at + 1}"):
        read_table(file, Selection())


@pytest.mark.parametrize(
    ("head", "line", "wrong", "message"),
    [
        ("x;y", "1,5;2,25", "1,5;2,25;3", "must have 2 cells, .* got 3 in line 302"),
        ("x,y", '1.5,"2"', '1.5,"2",3', "must have 2 cells, .* got 3 in line 302"),
        ("x,y", "1.5,2", "1.5", "must have 2 cells, .* got 1 in line 302"),
        ("x,y", "1.5,2,", "1.5,2,3", "must end with a delimiter, .* got '3' .* line 302"),
        ("x,y", '1.5,"2",', '1.5,"2",3', "must end with a delimiter, .* got '3' .* line 302"),
    ],
)
def test_csv_line_far_down_is_counted_however_it_is_written(
    tmp_path: Path, head: str, line: str, wrong: str, message: str
) -> None:
    file = write(tmp_path / "t.csv", "\n".join([head, *[line] * 300, wrong, line]))
    with pytest.raises(CommandError, match=message):
        read_table(file, Selection())


def test_csv_names_with_another_delimiter_in_them(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "weight, kg;kind\n80;u\n90;v\n")
    table = read_table(file, Selection(label="kind"))
    assert table.columns == ["weight, kg"]
    np.testing.assert_array_equal(table.rows, [[80], [90]])


def test_csv_fault_far_below_the_first_lines_is_named(tmp_path: Path) -> None:
    lines = ["x;y", *["1,5;2,25"] * 999, "1.5;2", "3,5;4"]
    file = write(tmp_path / "t.csv", "\n".join(lines))
    with pytest.raises(CommandError, match=r"got '1\.5' in line 1001, column 'x'"):
        read_table(file, Selection())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n \na,b\n\n1,2\n\n3,4\n\n", id="blank lines"),
        pytest.param("a,b,\n1,2,\n3,4,\n", id="every line ends with a delimiter"),
        pytest.param("a,b\n1,2,\n3,4,\n", id="every line but the header does"),
        pytest.param("sep=;\na;b\n1;2\n3;4\n", id="Excel's hint"),
        pytest.param('a,b\n"1","2"\n"3",4\n', id="quoted numbers"),
        pytest.param("a, b\n1, 2\n3 ,4\n", id="spaces"),
        pytest.param("a\tb\n1\t2\n3\t4\n", id="tabs"),
        pytest.param("a,b\r1,2\r3,4\r", id="old line ends"),
        pytest.param('"a","b"\n1,2\n3e0,"+4."\n', id="forms of a number"),
    ],
)
def test_csv_habits_of_other_programs(tmp_path: Path, text: str) -> None:
    table = read_table(write(tmp_path / "t.csv", text), Selection())
    np.testing.assert_array_equal(table.rows, [[1, 2], [3, 4]])
    assert table.columns == ["a", "b"]
    assert table.ids is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("x;y\n1,234;2\n", r"decimal mark must be clear.*'1,234'", id="comma, either"),
        pytest.param("x;y\n1.234;2\n", r"decimal mark must be clear.*'1.234'", id="point, either"),
        pytest.param('x,y\n"1,234",2\n', "decimal mark must be clear", id="quoted, either"),
        pytest.param("x;y\n1,5;2.5\n", "one decimal mark, got '2.5' and '1,5'", id="both marks"),
        pytest.param('x,y\n1.5,2\n"1,234.5",2\n', "'1,234.5' in line 3, column 'x'", id="English"),
        pytest.param("x;y\n1,5;2\n1.234,5;2\n", "'1.234,5' in line 3, column 'x'", id="German"),
        pytest.param("x;y\n1,5;2\n1,5;1.234\n", "got '1.234' and '1,5'", id="German, whole"),
        pytest.param("x,y\n1.5,2\n1,234.5,2\n", "got 3 in line 3", id="one line without quotes"),
        pytest.param("x,y\n1,234.5,2\n2,345,3\n", "beginning with '1'", id="all without quotes"),
        pytest.param("x,y\n0.5,1,2\n0.7,1,2\n", "beginning with '0.5'", id="no row names"),
        pytest.param("x,y\na,1,2\na,1,2\n", "all different.*got 'a' twice", id="names repeat"),
        pytest.param("x\n1,5\n2,5\n", "delimiter must be clear.*commas", id="one column?"),
        pytest.param("a;b,c\n1;2,x\n", "semicolons", id="two delimiters"),
        pytest.param('x,y\n1,2\n"3,4\n5,6\n', "quotes must be closed.*line 3", id="open quote"),
        pytest.param('x,y\n1,2\n"3"1,4\n', "quotes.*line 3", id="text behind a quote"),
        pytest.param(
            "x,y\n1,2\n1_0,4\n", "got '1_0' in line 3, column 'x'", id="Python's spelling"
        ),
        pytest.param('x,y\n1,2\n"1\n0",4\n', "in line 3, column 'x'", id="two lines in a cell"),
        pytest.param("x,,y\n1,2,3\n", "must have a name, got none for column 2", id="no name"),
        pytest.param("x,y\n5%,2\n", "got text in 'x'", id="per cent"),
        pytest.param("1.5,2\n3,x\n", "got 'x' in line 2, column 1", id="no header"),
    ],
)
def test_csv_that_could_be_misread_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        read_table(write(tmp_path / "t.csv", text), Selection())


@pytest.mark.parametrize(
    ("text", "chosen", "rows"),
    [
        ("x;y\n1,234;2\n", {"decimal": ","}, [[1.234, 2]]),
        ("x;y\n1.234;2\n", {"decimal": "."}, [[1.234, 2]]),
        ('x,y\n"1,234",2\n', {"decimal": ","}, [[1.234, 2]]),
        ("x\n1,5\n2,5\n", {"decimal": ","}, [[1.5], [2.5]]),
        ("x\n1,5\n2,5\n", {"delimiter": ","}, [[5], [5]]),
        ("x y\n1 2\n", {"delimiter": " "}, [[1, 2]]),
        ("a:b\n1:2,5\n", {"delimiter": ":", "decimal": ","}, [[1, 2.5]]),
    ],
)
def test_csv_options_decide(
    tmp_path: Path, text: str, chosen: dict[str, str], rows: list[list[float]]
) -> None:
    table = read_table(write(tmp_path / "t.csv", text), Selection(**chosen))
    np.testing.assert_array_equal(table.rows, np.array(rows))


def test_csv_random_tables_are_read_as_pandas_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    words = np.array(["a", "b;c", 'say "x"', "1,5", "ü\nv", ""])
    for trial in range(40):
        n_rows, n_columns = rng.integers(1, 40), rng.integers(1, 6)
        frame = pd.DataFrame(rng.normal(size=(n_rows, n_columns)).round(int(rng.integers(4, 8))))
        frame.columns = [f"c {at}" for at in range(n_columns)]
        frame["label"] = "w" + pd.Series(rng.choice(words, n_rows))
        sep, decimal = (",", ".") if trial % 2 else (";", ",")
        file = tmp_path / "t.csv"
        frame.to_csv(file, index=False, sep=sep, decimal=decimal, quoting=trial % 3)
        table = read_table(file, Selection(label="label", delimiter=sep if trial % 5 else None))
        np.testing.assert_array_equal(table.rows, frame.iloc[:, :-1].to_numpy())
        assert table.labels is not None
        assert table.labels.tolist() == frame["label"].tolist()


@pytest.mark.parametrize(
    ("cells", "ids", "labels"),
    [
        (["1", "2", "-3"], [1, 2, -3], [1, 2, -3]),
        (["007", "010", "011"], ["007", "010", "011"], [7, 10, 11]),
        (["1_0", "2_0", "3_0"], ["1_0", "2_0", "3_0"], ["1_0", "2_0", "3_0"]),
        (["9" * 20, "1", "2"], ["9" * 20, "1", "2"], [1e20, 1.0, 2.0]),
        (["1.10", "1.1", "2"], ["1.10", "1.1", "2"], [1.1, 1.1, 2.0]),
    ],
)
def test_csv_ids_stay_what_is_written(
    tmp_path: Path, cells: list[str], ids: list[object], labels: list[object]
) -> None:
    text = "x,c\n" + "".join(f"{at},{cell}\n" for at, cell in enumerate(cells))
    file = write(tmp_path / "t.csv", text)
    by_id, by_label = read_table(file, Selection(id="c")), read_table(file, Selection(label="c"))
    assert by_id.ids is not None
    assert by_label.labels is not None
    assert by_id.ids.tolist() == ids
    assert by_label.labels.tolist() == labels


# ------------------------------------------------------------------------- stored row numbers


def stored(folder: Path, how: str) -> Path:
    """ROWS with row numbers that a program stored beside them."""
    frame = pd.DataFrame(ROWS, columns=NAMES, index=pd.Index([30, 10, 20]))
    file = folder / ("t.parquet" if "parquet" in how else "t.csv")
    if how == "parquet":
        frame.to_parquet(file)
    elif how == "parquet, named":
        frame.rename_axis("sample_id").to_parquet(file)
    elif how == "parquet, two levels":
        frame.assign(visit=[1, 1, 2]).set_index("visit", append=True).to_parquet(file)
    elif how == "csv":
        frame.to_csv(file)
    else:  # written, read and written again
        frame.to_csv(file)
        pd.read_csv(file).to_csv(file, index=how == "csv, three times")
    return file


@pytest.mark.parametrize(
    "how",
    ["parquet", "parquet, named", "parquet, two levels", "csv", "csv, twice", "csv, three times"],
)
def test_stored_row_numbers_are_no_feature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    file = stored(tmp_path, how)
    table = read_table(file, Selection())
    assert table.columns == NAMES
    np.testing.assert_array_equal(table.rows, ROWS)
    assert table.ids is not None
    assert table.ids.tolist() == ([0, 1, 2] if how == "csv, three times" else [30, 10, 20])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "was read as row names, not as a feature" in said


def test_stored_row_numbers_that_are_asked_for_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stored(tmp_path, "parquet, named")
    wanted = (*NAMES, "sample_id")  # a model that was fitted on them
    table = read_table(file, Selection(wanted=wanted))
    np.testing.assert_array_equal(table.rows, np.column_stack([ROWS, [30, 10, 20]]))
    assert table.ids is None
    assert capsys.readouterr().err == ""
    labelled = read_table(file, Selection(label="sample_id"))
    assert labelled.labels is not None
    assert labelled.labels.tolist() == [30, 10, 20]
    assert labelled.columns == NAMES


@pytest.mark.parametrize("how", ["parquet, named", "csv, twice"])
def test_the_advice_on_stored_row_numbers_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    file = stored(tmp_path, how)
    read_table(file, Selection())
    if "reset_index()" in capsys.readouterr().err:
        pd.read_parquet(file).reset_index().to_parquet(file)
    else:
        frame = pd.read_csv(file)
        frame.rename(columns={"Unnamed: 0": "sample"}).to_csv(file, index=False)
    assert len(read_table(file, Selection()).columns or ()) == 4
    assert capsys.readouterr().err == ""


# --------------------------------------------------------------------------------- parquet


def test_parquet_missing_number(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1, None], "b": [1.0, 2.0]}).to_parquet(file)
    with pytest.raises(CommandError, match="got nan in row 1, column 'a'"):
        read_table(file, Selection())


@pytest.mark.parametrize("known", ["ab", "a"])
def test_parquet_category_that_is_missing_is_no_other_one(tmp_path: Path, known: str) -> None:
    labels = ["a", None, known[-1], None]
    file = tmp_path / "t.parquet"
    kind = pd.Categorical(labels, categories=["b", "a"])
    pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "kind": kind}).to_parquet(file)
    for selection in (Selection(label="kind"), Selection(id="kind")):
        table = read_table(file, selection)
        read = table.labels if selection.label else table.ids
        assert read is not None
        assert read.tolist() == labels


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
        ("folder.csv", "must be a file, got a folder"),
        ("t.xlsx", r"must end in .npy, .npz, .csv, .*, got '.xlsx'"),
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


AWKWARD = [
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\tx", "\rx", "=cmd|' /C calc'!A0", "a\r\nb", "a\nb"),
    *('say "x"', "a,b", "a;b", " x ", "", "007", "-", "ü"),
]


@pytest.mark.parametrize("text", [AWKWARD, [text for text in AWKWARD if "\r" not in text]])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npz"])
def test_formulas_and_other_awkward_texts_come_back(
    tmp_path: Path, ending: str, text: list[str]
) -> None:
    """A table is data: what a spreadsheet would compute is written as it is."""
    file = tmp_path / f"map{ending}"
    columns = {"name": np.array(text), "=colour": np.array(text[::-1])}
    write_coordinates(file, Coordinates(np.zeros((len(text), 2)), ["umap0", "umap1"], columns))
    table = read_table(file, Selection(label="=colour", id="name"))
    assert table.ids is not None
    assert table.labels is not None
    assert (table.ids.tolist(), table.labels.tolist()) == (text, text[::-1])
    if ending == ".csv":
        read = pd.read_csv(file, dtype={"name": str, "=colour": str}, keep_default_na=False)
        assert read["name"].tolist() == text
        assert read["=colour"].tolist() == text[::-1]
        assert read["umap0"].tolist() == [0.0] * len(text)


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
