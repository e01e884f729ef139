"""Command lines that must fail: one line on stderr, exit code 2 or 130, nothing left behind."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neumap
from neumap.cli import main

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
KINDS = np.array(["u", "v", "w"])[np.arange(60) % 3]
QUICK = "--preset fast --n-epochs 1 --quiet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("failures"))


def make_folder(folder: Path) -> Path:
    """Write good files, damaged ones, empty ones, and folders with the names of files."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    np.save(folder / "rows.npy", X)
    np.savez(folder / "rows.npz", X=X, y=np.arange(60) % 3)
    frame.to_parquet(folder / "rows.parquet")
    frame.assign(label=KINDS).to_csv(folder / "rows.csv", index=False)
    for ending in ("csv", "npy", "npz", "parquet", "neumap"):
        (folder / f"empty.{ending}").write_bytes(b"")
        garbage = np.random.default_rng(1).bytes(3000)
        (folder / f"garbage.{ending}").write_bytes(garbage)
        (folder / f"folder.{ending}").mkdir()
    (folder / "text.csv").write_text("a,b\nx,y\nz,w\n")
    (folder / "plain").write_text("no table")
    for name, rows in {
        "one": X[:1],
        "two": X[:2],
        "wide": np.hstack([X, X]),
        "flat": X[0],
        "words": np.array([["a", "b"]]),
        "huge": X.astype(np.float64) * 1e300,
        "objects": np.array([[{}]], dtype=object),
    }.items():
        np.save(folder / f"{name}.npy", rows)
    header = (folder / "rows.npy").read_bytes()
    (folder / "header.npy").write_bytes(header.replace(b"{'descr'", b"{'descr("))
    (folder / "cut.npy").write_bytes(header[:200])
    fit = f"fit {folder}/rows.csv --label-column label --seed 0 {QUICK}"
    assert main(shlex.split(f"{fit} -o {folder}/model.neumap")) == 0
    assert main(shlex.split(f"{fit} -o {folder}/five.neumap --n-components 5")) == 0
    (folder / "cut.neumap").write_bytes((folder / "model.neumap").read_bytes()[:500])
    neumap.ParametricUMAP().save(folder / "unfitted.neumap")
    return folder


FIT = "fit rows.npy -o m.neumap"
TABLE = "fit rows.csv -o m.neumap --label-column label"

# Each command line with a part of its message.
LINES = {
    # the command itself
    "fitt": "No such command 'fitt'",
    "--nonsense": "No such option '--nonsense'",
    "fit": "Missing argument 'INPUT'",
    "fit rows.npy": "Missing option '-o'",
    "fit rows.npy -o": "requires an argument",
    "info": "Missing argument 'MODEL'",
    "info model.neumap extra": "unexpected extra argument",
    "plot model.neumap rows.csv": "Missing option '-o'",
    # tables that cannot be read
    "fit none.npy -o m.neumap": "none.npy: the table must be a file, got no such file",
    "fit folder.csv -o m.neumap": "must be a file, got a folder",
    "fit '' -o m.neumap": "the file name must end in",
    "fit plain -o m.neumap": "got 'no ending'",
    "fit model.neumap -o m.neumap": "got '.neumap'",
    "fit empty.csv -o m.neumap": "got an empty file",
    "fit empty.npy -o m.neumap": "not a readable .npy array",
    "fit empty.npz -o m.neumap": "not a readable .npz archive",
    "fit empty.parquet -o m.neumap": "not a readable .parquet table",
    "fit garbage.csv -o m.neumap": "the text must be UTF-8",
    "fit garbage.npy -o m.neumap": "not a readable .npy array",
    "fit garbage.npz -o m.neumap": "not a readable .npz archive",
    "fit garbage.parquet -o m.neumap": "not a readable .parquet table",
    "fit header.npy -o m.neumap": "not a readable .npy array",
    "fit cut.npy -o m.neumap": "not a readable .npy array",
    "fit objects.npy -o m.neumap": "not a readable .npy array",
    "fit words.npy -o m.neumap": "the array must hold numbers, got dtype <U1",
    "fit flat.npy -o m.neumap": "must have rows and columns, got shape (4,)",
    "fit huge.npy -o m.neumap": "must be finite and at most 1e+36",
    "fit text.csv -o m.neumap": "got text in 'a', 'b'",
    "fit rows.csv -o m.neumap": "got text in 'label'",
    f"fit one.npy -o m.neumap {QUICK}": "1 sample",
    "fit rows.npz:none -o m.neumap": "must be one of 'X', 'y', got 'none'",
    "fit rows.npz -o m.neumap --key none": "must be one of 'X', 'y', got 'none'",
    # columns, labels and ids
    f"{TABLE} --ignore-column none": "must be among 'a', 'b'",
    f"{TABLE} --id-column none": "got 'none'",
    f"{TABLE} --ignore-column a --ignore-column b --ignore-column c --ignore-column d": (
        "at least one column must hold numbers"
    ),
    f"{FIT} --label-column label": "must be another array, got the column 'label'",
    f"{FIT} --label-column none.npy": "none.npy: the file must exist",
    f"{FIT} --label-column folder.npy": "folder.npy: not a readable",
    f"{FIT} --label-column two.npy": "one entry for each of 60 rows, got shape (2, 4)",
    f"{FIT} --label-column rows.npz:none": "got 'none'",
    f"{FIT} --supervised": "--supervised needs labels",
    f"{TABLE} --delimiter ''": "it must be one character",
    f"{TABLE} --delimiter ab": "got 'ab'",
    f"{TABLE} --delimiter 5": "got '5'",
    f"{TABLE} --delimiter ';'": "got 'label'",
    f"{TABLE} --decimal x": "'x' is not one of",
    f"{TABLE} --decimal ,": "got text in 'a', 'b', 'c', 'd'",
    # parameters
    f"{FIT} --n-neighbors 0": "n_neighbors must be an integer of at least 2, got 0",
    f"{FIT} --n-neighbors 1.5": "is not a valid integer",
    f"{FIT} --min-dist nan": "min_dist must be a number",
    f"{FIT} --min-dist 5": "min_dist must be at most spread",
    f"{FIT} --metric nonsense": "metric must be",
    f"{FIT} --metric precomputed {QUICK}": "must be a square matrix",
    f"{FIT} --metric haversine {QUICK}": "must have two columns",
    f"{FIT} --n-components 0": "n_components must be",
    f"{FIT} --n-epochs -1": "n_epochs must be",
    f"{FIT} --seed -1": "random_state must be",
    f"{FIT} --seed x": "is not a valid integer",
    f"{FIT} --preset magic": "preset must be",
    f"{FIT} --max-time nan": "max_time must be",
    f"{FIT} --device meta": "device must be one that this build of torch can compute on",
    f"{FIT} --device abacus": "device must be",
    f"{FIT} --device ''": "device must be",
    f"{FIT} --set spread": "--set must be NAME=VALUE",
    f"{FIT} --set =1": "--set must be NAME=VALUE",
    f"{FIT} --set sprad=1": "Did you mean 'spread'",
    f"{FIT} --set zzzz=1": "See help(neumap.ParametricUMAP)",
    f"{FIT} --set spread=": "spread must be a number",
    f"{FIT} --set densmap=maybe": "densmap must be True or False, got 'maybe'",
    f"{FIT} --set unique=No": "unique must be True or False, got 'No'",
    f"{FIT} --set n_epochs=5.5": "n_epochs must be an integer",
    f"{FIT} --set dims=[2,3]": "dims must fit the rows",
    f"{FIT} --set encoder=nonsense": "encoder must be",
    f"{FIT} --set encoder=3": "encoder must be",
    f"{FIT} --set decoder=nonsense --set parametric_reconstruction=True": "decoder=nonsense",
    f"{FIT} --set optimizer=[]": "optimizer must be",
    f"{FIT} --set metric=[]": "metric must be",
    f"{FIT} --set callbacks=[1]": "callbacks",
    f"{FIT} --set precomputed_knn=[]": "precomputed_knn must be",
    f"{FIT} --set transform_mode=graph": "transform_mode must be 'embedding' on the command line",
    f'{TABLE} --metric minkowski --set metric_kwds=\'{{"p": "x"}}\' {QUICK}': "p",
    f"{FIT} --set learning_rate=1e30 --preset fast --quiet": "Weights became infinite",
    f"{TABLE} --supervised --set target_metric=nonsense": "metric must be",
    # models
    "transform none.neumap rows.csv -o o.csv": "none.neumap: the model must be a file",
    "transform folder.neumap rows.csv -o o.csv": "folder.neumap",
    "transform empty.neumap rows.csv -o o.csv": "empty.neumap",
    "transform garbage.neumap rows.csv -o o.csv": "garbage.neumap",
    "transform cut.neumap rows.csv -o o.csv": "cut.neumap",
    "transform plain rows.csv -o o.csv": "plain",
    "transform rows.csv rows.csv -o o.csv": "got a table",
    "transform unfitted.neumap rows.csv -o o.csv": "the model must be fitted",
    "evaluate unfitted.neumap rows.csv": "the model must be fitted",
    "plot unfitted.neumap -o p.png": "the model must be fitted",
    "info unfitted.neumap": "the model must be fitted",
    "info unfitted.neumap --json": "the model must be fitted",
    "info none.neumap": "the model must be a file, got no such model file",
    "info rows.csv": "got a table",
    "info empty.neumap": "empty.neumap",
    "info garbage.neumap": "garbage.neumap",
    "info folder.neumap": "folder.neumap",
    # rows that do not fit the model
    "transform model.neumap none.csv -o o.csv": "no such file",
    "transform model.neumap text.csv -o o.csv": "must be among 'a', 'b', got 'c', 'd'",
    "transform model.neumap wide.npy -o o.csv": "4 columns the model was fitted on, got 8",
    "transform model.neumap huge.npy -o o.csv": "must be finite and at most 1e+36",
    "evaluate model.neumap rows.csv --samples -5": "n_samples must be",
    "evaluate model.neumap two.npy": "n_neighbors must be",
    "evaluate model.neumap rows.csv --held-out none.csv": "no such file",
    "evaluate model.neumap rows.csv --held-out rows.csv --held-out-label-column zz": "got 'zz'",
    # pictures
    "plot none.csv -o p.png": "no such file",
    "plot model.neumap rows.csv -o p.png --theme nonsense": "theme must be one of",
    "plot model.neumap -o p.png --label-column label": "--label-column needs INPUT",
    "plot five.neumap rows.csv -o p.html": "must have 2 or 3 coordinates, got 5",
    "plot rows.csv -o p.png --label-column label": "must have 2 or 3 coordinates, got 4",
    "plot rows.csv rows.csv -o p.png": "INPUT must be empty",
    # outputs
    "fit rows.npy -o m.npy": "the output must be a model",
    "fit rows.npy -o no/m.neumap": "the folder of the output must exist",
    "fit rows.npy -o plain/m.neumap": "the folder of the output must exist",
    "fit rows.npy -o folder.neumap": "the output must be a file, got a folder",
    "fit rows.npy -o ''": "the output must be a file, got a folder",
    f"fit rows.npy -o {'x' * 300}.neumap": "file name too long",
    f"{FIT} --coordinates c.txt": "the output must end in",
    f"{FIT} --coordinates no/c.csv": "the folder of the output must exist",
    f"{FIT} --coordinates rows.npy": "would overwrite the input",
    "transform model.neumap rows.csv -o o.txt": "the output must end in",
    "transform model.neumap rows.csv -o rows.csv": "would overwrite the input",
    "transform model.neumap rows.csv -o folder.csv": "must be a file, got a folder",
    "plot model.neumap rows.csv -o p.txt": "the output must end in .png",
    "plot model.neumap rows.csv -o no/p.png": "the folder of the output must exist",
    "demo --output plain": "cannot create this folder",
    "demo --seed -1": "-1 is not in the range",
    "demo --seed x": "Invalid value for '--seed'",
}


def contents(folder: Path) -> dict[str, bytes | None]:
    files = {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    return {str(path): content for path, content in files.items()}


def outcome(capfd: pytest.CaptureFixture[str], line: str) -> tuple[int, str]:
    """The exit code of a command and its message: one line on stderr, nothing on stdout."""
    capfd.readouterr()
    code = main(shlex.split(line))
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    message = err.removeprefix("\n") if code == 130 else err  # click ends the line of ^C
    assert message.startswith("neumap: ")
    assert message.count("\n") == 1, err
    return code, message


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_command_line_is_one_line_of_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.chdir(folder)
    before = contents(folder)
    code, err = outcome(capfd, line)
    assert code == 2
    assert LINES[line] in err
    assert contents(folder) == before


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user"
)
@pytest.mark.parametrize(
    "line", ["fit shut.npy -o m.neumap", "fit rows.npy -o shut/m.neumap", "info shut.neumap"]
)
def test_forbidden_files_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.npy", "shut.npy", "shut.neumap"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, X)
    for name in ("shut.npy", "shut.neumap"):
        (tmp_path / name).chmod(0)
    (tmp_path / "shut").mkdir(mode=0o500)
    code, err = outcome(capfd, line)
    assert code == 2
    assert "ermission" in err


WRITING = {
    f"fit rows.npy -o out.neumap {QUICK}": "out.neumap",
    "transform model.neumap rows.csv -o out.csv": "out.csv",
    "transform model.neumap rows.csv -o out.npy": "out.npy",
    "transform model.neumap rows.csv -o out.npz": "out.npz",
    "transform model.neumap rows.csv -o out.parquet": "out.parquet",
    "plot model.neumap rows.csv -o out.png --label-column label": "out.png",
    "plot model.neumap rows.csv -o out.html --label-column label": "out.html",
}


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "no space left on device"),
        (OSError(errno.EACCES, "Permission denied"), 2, "permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("line", WRITING)
def test_a_write_that_fails_leaves_the_old_file(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    error: BaseException,
    code: int,
    message: str,
    old: bytes | None,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.chdir(folder)
    target = folder / WRITING[line]
    if old is not None:
        target.write_bytes(old)
    before = contents(folder)
    monkeypatch.setattr("neumap._atomic._move", fail)
    got, err = outcome(capfd, line)
    assert got == code
    assert message in err
    if code == 2:
        assert target.name in err
    assert contents(folder) == before
    target.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (f"{FIT} {QUICK}", "neumap.cli.reading.read_table"),
        (f"{FIT} {QUICK}", "neumap.cli.models.make_model"),
        (f"{FIT} {QUICK}", "neumap.estimators.ParametricUMAP.fit"),
        (f"{FIT} {QUICK}", "neumap.estimators.ParametricUMAP.save"),
        ("transform model.neumap rows.csv -o o.csv", "neumap.cli.models.load_model"),
        ("transform model.neumap rows.csv -o o.csv", "neumap.cli.models.read_rows_for"),
        ("transform model.neumap rows.csv -o o.csv", "neumap.cli.models.place"),
        ("transform model.neumap rows.csv -o o.csv", "neumap.cli.writing.write_coordinates"),
        ("evaluate model.neumap rows.csv", "neumap.metrics.scores"),
        ("plot model.neumap rows.csv -o p.png", "neumap.cli.pictures.draw"),
        ("plot model.neumap rows.csv -o p.png", "neumap.plots.points"),
        ("info model.neumap", "neumap.cli.models.load_model"),
        ("demo --quick", "neumap.metrics.scores"),
    ],
)
def test_an_interrupt_is_one_line_wherever_it_comes(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    place: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    before = contents(folder)
    monkeypatch.setattr(place, interrupt)
    if line.startswith("demo"):
        monkeypatch.setattr("neumap.estimators.ParametricUMAP.fit_transform", interrupt)
    code, err = outcome(capfd, line)
    assert (code, err) == (130, "neumap: interrupted\n")
    after = contents(folder)
    if line.startswith("demo"):  # its folder is made before the work
        after.pop(str(folder / "demo-output"))
        (folder / "demo-output").rmdir()
    assert after == before
