"""The command as a person meets it: what it prints, writes and returns, and how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import neumap
from neumap.cli import main
from neumap.cli.errors import CommandError

SMALL = ["--set", "n_epochs=5", "--n-neighbors", "8", "--seed", "0", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables of digits, one with its labels and ids, and a model fitted to the first."""
    folder = tmp_path_factory.mktemp("cli")
    X, y = load_digits(return_X_y=True)
    columns = [f"pixel{at}" for at in range(64)]
    frame = pd.DataFrame(X[:500], columns=columns)
    frame = frame.assign(name=[f"image {at}" for at in range(500)], digit=y[:500])
    frame[:300].to_csv(folder / "train.csv", index=False)
    frame[300:].to_csv(folder / "new.csv", index=False)
    done = run(
        *("fit", folder / "train.csv", "-o", folder / "map.neumap"),
        *("--coordinates", folder / "train_map.csv"),
        *("--label-column", "digit", "--id-column", "name", *SMALL),
    )
    assert done == 0
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def failure(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The message of a command that must fail: one line, exit code 2, nothing on stdout."""
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("neumap: ")
    assert err.count("\n") == 1, err
    return err


LABELLED = ["--label-column", "digit", "--id-column", "name"]


# ------------------------------------------------------------------------------ the commands


def test_fit_writes_coordinates_with_labels_and_ids(folder: Path) -> None:
    table = pd.read_csv(folder / "train_map.csv")
    given = pd.read_csv(folder / "train.csv")
    assert table["name"].tolist() == given["name"].tolist()
    assert table["digit"].tolist() == given["digit"].tolist()
    model = neumap.load_ParametricUMAP(folder / "map.neumap")
    names = model.get_feature_names_out().tolist()
    assert list(table.columns) == ["name", "digit", *names]


def test_transform_equals_the_library(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new_map.npz"
    assert run("transform", folder / "map.neumap", folder / "new.csv", "-o", output, *LABELLED) == 0
    written = np.load(output)
    given = pd.read_csv(folder / "new.csv")
    model = neumap.load_ParametricUMAP(folder / "map.neumap")
    rows = given.drop(columns=["name", "digit"]).astype(np.float32)
    np.testing.assert_allclose(written["embedding"], model.transform(rows), rtol=1e-5, atol=1e-5)
    assert written["digit"].tolist() == given["digit"].tolist()
    assert written["name"].tolist() == given["name"].tolist()


def test_transform_takes_the_model_s_columns_whatever_their_order(
    folder: Path, tmp_path: Path
) -> None:
    shuffled = pd.read_csv(folder / "new.csv").iloc[:, ::-1].assign(more=1.0)
    shuffled.to_csv(tmp_path / "shuffled.csv", index=False)
    for name, rows in [("a.npy", folder / "new.csv"), ("b.npy", tmp_path / "shuffled.csv")]:
        assert run("transform", folder / "map.neumap", rows, "-o", tmp_path / name) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.parametrize("form", ["R", "German", "trailing"])
def test_transform_of_a_table_that_another_program_wrote(
    folder: Path, tmp_path: Path, form: str
) -> None:
    given = pd.read_csv(folder / "new.csv").drop(columns=["name", "digit"]) + 0.5
    given.to_csv(tmp_path / "plain.csv", index=False)
    other = tmp_path / "other.csv"
    if form == "R":  # the header has no name for the row names
        text = given.set_axis(np.arange(len(given)) + 1).to_csv().removeprefix(",")
    elif form == "German":
        text = given.to_csv(index=False, sep=";", decimal=",")
    else:
        text = given.to_csv(index=False).replace("\n", ",\n")
    other.write_text(text)
    for name, rows in [("a.npy", tmp_path / "plain.csv"), ("b.npy", other)]:
        assert run("transform", folder / "map.neumap", rows, "-o", tmp_path / name) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_same_seed_same_map(folder: Path, tmp_path: Path) -> None:
    maps = [tmp_path / "first.npy", tmp_path / "second.npy"]
    for file in maps:
        words = ["fit", folder / "train.csv", "-o", tmp_path / "m.neumap", "--coordinates", file]
        assert run(*words, *LABELLED, *SMALL) == 0
    np.testing.assert_array_equal(np.load(maps[0]), np.load(maps[1]))


def test_options_reach_the_model(folder: Path, tmp_path: Path) -> None:
    words = ["fit", folder / "train.csv", "-o", tmp_path / "m.neumap", *LABELLED, *SMALL]
    assert run(*words, "--n-components", 3, "--min-dist", 0.3, "--metric", "cosine") == 0
    assert neumap.load_ParametricUMAP(tmp_path / "m.neumap").spread == 1.0
    options = ["--n-components", 3, "--min-dist", 0.3, "--metric", "cosine", "--set", "spread=1.5"]
    assert run(*words, *options) == 0
    model = neumap.load_ParametricUMAP(tmp_path / "m.neumap")
    got = model.get_params()
    expected = {"n_components": 3, "min_dist": 0.3, "metric": "cosine", "spread": 1.5}
    assert {name: got[name] for name in expected} == expected
    assert got["n_neighbors"] == 8
    assert got["random_state"] == 0


def test_supervision_acts_and_text_labels_equal_their_codes(folder: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(folder / "train.csv").drop(columns="name")
    frame.assign(digit=[f"class {digit}" for digit in frame["digit"]]).to_csv(
        tmp_path / "text.csv", index=False
    )
    frame.to_csv(tmp_path / "codes.csv", index=False)
    maps = {}
    for name, table, options in [
        ("none", "codes", []),
        ("codes", "codes", ["--supervised"]),
        ("text", "text", ["--supervised"]),
    ]:
        words = ["fit", tmp_path / f"{table}.csv", "-o", tmp_path / "m.neumap", "--coordinates"]
        assert run(*words, tmp_path / "z.npy", "--label-column", "digit", *options, *SMALL) == 0
        maps[name] = np.load(tmp_path / "z.npy")
    assert not np.array_equal(maps["none"], maps["codes"])
    np.testing.assert_array_equal(maps["codes"], maps["text"])


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("missing", [False, True])
def test_classes_keep_their_names(tmp_path: Path, ending: str, missing: bool) -> None:
    X, y = load_digits(n_class=3, return_X_y=True)
    names = np.array(["zero", "one", "two"], dtype=object)[y]
    given = names.copy()
    if missing:
        given[::5] = None
    kind = pd.Categorical(given, categories=["zero", "one", "two"])
    frame = pd.DataFrame(X, columns=[f"p{at}" for at in range(64)]).assign(kind=kind)
    file = tmp_path / f"rows{ending}"
    frame.to_csv(file, index=False) if ending == ".csv" else frame.to_parquet(file)
    words = ["fit", file, "-o", tmp_path / "m.neumap", "--label-column", "kind", "--supervised"]
    few = ["--set", "batch_size=64"]  # edges, so that a few epochs are enough steps
    assert run(*words, "--set", "classifier_loss_weight=1", "--preset", "fast", *few, *SMALL) == 0
    model = neumap.load_ParametricUMAP(tmp_path / "m.neumap")
    assert model.classes_.tolist() == ["one", "two", "zero"]
    rows = pd.DataFrame(X, columns=frame.columns[:-1])
    assert np.mean(model.predict(rows) == names) > 0.9


def test_codes_with_gaps_stay_numbers() -> None:
    from neumap.cli.models import targets_of
    from neumap.cli.table import Table

    rows = np.zeros((4, 2), dtype=np.float32)
    for given, expected in [
        (np.array(["1", "", "2", "NA"]), [1, -1, 2, -1]),
        (np.array([1.0, np.nan, 2.0, 1.0]), [1.0, -1.0, 2.0, 1.0]),
        (np.array(["a", "", "b", "nan"]), ["a", -1, "b", -1]),
        (np.array(["a", None, "b", "a"], dtype=object), ["a", -1, "b", "a"]),
        (np.array(["a", "b", "b", "a"]), ["a", "b", "b", "a"]),
        (np.array(["", "", "", ""]), [-1, -1, -1, -1]),
        (np.array([True, False, True, True]), [True, False, True, True]),
        (np.array(["2020-01-02"] * 4, dtype="M8[D]"), ["2020-01-02"] * 4),
    ]:
        assert targets_of(Table(rows, labels=given)).tolist() == expected


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("parametric_reconstruction=False", False),
        ("parametric_reconstruction=false", False),
        ("densmap=True", True),
        ("n_epochs=None", None),
        ("n_epochs=null", None),
        ("n_epochs=7", 7),
        ("spread=1.5", 1.5),
        ("spread=2", 2),
        ("dims=[8, 8]", [8, 8]),
        ("dims=(8, 8)", (8, 8)),
        ("metric=cosine", "cosine"),
        ('metric="cosine"', "cosine"),
        ('metric_kwds={"p": 3}', {"p": 3}),
        ("metric_kwds={'p': 3}", {"p": 3}),
        ("metric_kwds=None", None),
        ("encoder=residual", "residual"),
        ("encoder=None", None),
        ("optimizer=adam", "adam"),
        ("target_metric=l2", "l2"),
        ("random_state=5", 5),
        ("transform_queue_size=1e1", 10.0),
    ],
)
def test_values_of_set_have_the_type_of_the_parameter(assignment: str, value: object) -> None:
    from neumap.cli.models import make_model

    others = ["metric=minkowski"] if "{" in assignment else []
    model = make_model({}, [*others, assignment])
    got = getattr(model, assignment.split("=")[0])
    assert got == value
    assert type(got) is type(value)


def test_every_switch_reads_false_as_false() -> None:
    from neumap.cli.models import make_model
    from neumap.estimators.constraints import SWITCH

    switches = [
        name for name, kinds in neumap.ParametricUMAP._constraints.items() if SWITCH in kinds
    ]
    assert len(switches) > 8
    for name in switches:
        for text, value in {"False": False, "false": False, "True": True, "true": True}.items():
            assert getattr(make_model({}, [f"{name}={text}"]), name) is value
        for text in ("No", "off", "0.0", "[]", '"False"', ""):
            with pytest.raises(CommandError, match=rf"^{name} must be .*True or False"):
                make_model({}, [f"{name}={text}"])


def test_evaluate_equals_the_library(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", folder / "map.neumap", folder / "train.csv", *LABELLED, "--json"]
    assert run(*words, "--held-out", folder / "new.csv") == 0
    printed = json.loads(capsys.readouterr().out)
    model = neumap.load_ParametricUMAP(folder / "map.neumap")
    train, new = (pd.read_csv(folder / f"{name}.csv") for name in ("train", "new"))
    X, X_test = (f.drop(columns=["name", "digit"]).astype(np.float32) for f in (train, new))
    expected = neumap.metrics.scores(
        X,
        model.transform(X),
        labels=train["digit"],
        X_test=X_test,
        embedding_test=model.transform(X_test),
        labels_test=new["digit"],
    )
    assert printed == pytest.approx(expected, abs=2e-3)
    assert printed["test_knn_accuracy"] > 0.3  # chance is 0.1


def test_evaluate_prints_one_score_per_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", folder / "map.neumap", folder / "train.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trustworthiness ")
    assert all(-1 <= float(line.split()[1]) <= 1 for line in lines)


@pytest.mark.parametrize("ending", [".png", ".svg", ".html"])
def test_plot_of_coordinates_and_of_a_model(folder: Path, tmp_path: Path, ending: str) -> None:
    first, second, third = (tmp_path / f"{name}{ending}" for name in "abc")
    assert run("plot", folder / "train_map.csv", "-o", first, *LABELLED) == 0
    assert run("plot", folder / "map.neumap", folder / "train.csv", "-o", second, *LABELLED) == 0
    assert run("plot", folder / "train_map.csv", "-o", third) == 0
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!DOCTYPE"}
    for file in (first, second, third):
        assert file.read_bytes().lstrip().startswith(starts[ending])
    assert first.read_bytes() != third.read_bytes()  # labels colour the points


def test_info(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", folder / "map.neumap", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["columns"], facts["components"]) == (64, 2)
    assert facts["settings"]["n_neighbors"] == 8
    assert facts["bytes"] == (folder / "map.neumap").stat().st_size
    assert run("info", folder / "map.neumap") == 0
    assert "n_neighbors" in capsys.readouterr().out


def test_demo_writes_its_three_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--quick", "--quiet", "--output", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "5-NN accuracy" in printed
    accuracy = float(printed.split("5-NN accuracy")[1].split()[1])
    assert accuracy > 0.8
    table = pd.read_csv(tmp_path / "out" / "coordinates.csv")
    assert len(table) == 1797
    assert sorted(table["row"]) == list(range(1797))
    assert (table.loc[table["part"] == "held out"].shape[0]) == 360
    assert (tmp_path / "out" / "map.png").read_bytes().startswith(b"\x89PNG")
    model = neumap.load_ParametricUMAP(tmp_path / "out" / "model.neumap")
    X, y = load_digits(return_X_y=True)
    assert table["digit"].tolist() == y[table["row"]].tolist()
    placed = table.loc[table["part"] == "held out"]
    np.testing.assert_allclose(
        model.transform(X[placed["row"]]), placed.iloc[:, -2:].to_numpy(), rtol=1e-4, atol=1e-4
    )


# --------------------------------------------------------------------------------- failures


def test_faults_of_the_input_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "narrow.npy", np.zeros((4, 3)))
    np.save(tmp_path / "one.npy", np.zeros((1, 3)))
    (tmp_path / "broken.neumap").write_bytes(b"\x00" * 100)
    model, rows, out = folder / "map.neumap", folder / "train.csv", tmp_path / "out.csv"
    to_model = ["-o", tmp_path / "m.neumap", "--quiet"]
    before = sorted(tmp_path.iterdir())
    for message, words in {
        "no such file": ["fit", tmp_path / "none.csv", *to_model],
        "got text in 'name'": ["fit", rows, *to_model],
        "must end in .npy": ["fit", tmp_path / "broken.neumap", *to_model],
        "got a table": ["fit", rows, "-o", out],
        "no folder": ["fit", rows, "-o", tmp_path / "no" / "m.neumap"],
        "Did you mean 'spread'": ["fit", rows, *to_model, *LABELLED, "--set", "sprad=1"],
        "NAME=VALUE": ["fit", rows, *to_model, *LABELLED, "--set", "spread"],
        "--supervised needs labels": ["fit", tmp_path / "narrow.npy", *to_model, "--supervised"],
        "n_neighbors": ["fit", rows, *to_model, *LABELLED, "--n-neighbors", "-3"],
        "metric": ["fit", rows, *to_model, *LABELLED, "--metric", "nonsense"],
        "device": ["fit", rows, *to_model, *LABELLED, "--device", "abacus"],
        "preset": ["fit", rows, *to_model, *LABELLED, "--preset", "magic"],
        "64 columns the model was fitted on, got 3": [
            *("transform", model, tmp_path / "narrow.npy", "-o", out),
        ],
        "no such model file": ["transform", tmp_path / "none.neumap", rows, "-o", out],
        "broken.neumap": ["transform", tmp_path / "broken.neumap", rows, "-o", out],
        "the model must be a file of 'neumap fit'": ["transform", rows, rows, "-o", out],
        "the output must end in": ["transform", model, rows, "-o", tmp_path / "out.txt"],
        "the output must end in .png": ["plot", model, "-o", tmp_path / "out.txt"],
        "must have 2 or 3 coordinates": ["plot", rows, "-o", tmp_path / "p.png", *LABELLED],
        "No such option": ["fit", rows, *to_model, "--neighbours", "3"],
        "No such command": ["fitt"],
        "Missing argument": ["info"],
        "is not a valid integer": ["fit", rows, *to_model, "--seed", "x"],
    }.items():
        assert message in failure(capsys, *words), words
    failure(capsys, "fit", tmp_path / "one.npy", *to_model)
    assert sorted(tmp_path.iterdir()) == before


def test_a_fault_of_neumap_itself_keeps_its_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("neumap.cli.models.load_model", fail)
    with pytest.raises(ZeroDivisionError):
        run("info", folder / "map.neumap")


def test_traceback_on_request(tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        run("--traceback", "info", tmp_path / "none.neumap")


# ------------------------------------------------------------------------- the process itself


def process(*words: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "neumap", *map(str, words)]
    return subprocess.Popen(  # type: ignore[call-overload]
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture
def interrupts_arrive() -> Iterator[None]:
    """A shell starts its background jobs with interrupts ignored, which children inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_arrive")
def test_interrupt_leaves_quietly_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    words = ["fit", folder / "train.csv", "-o", tmp_path / "m.neumap", *LABELLED, "--verbose"]
    with process(*words, "--set", "n_epochs=100000") as running:
        assert running.stderr is not None
        told = ""
        while "training" not in told:  # the progress bar: the fit is under way
            character = running.stderr.read(1)
            assert character, told
            told += character
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=200)
    assert running.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert err.rstrip().endswith("neumap: interrupted")
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_and_loads_neither_torch_nor_numpy() -> None:
    probe = (
        "import sys; from neumap.cli import main; code = main(['--help']); "
        "print(code, [name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0 []\n")
    for command in ("demo", "fit", "transform", "evaluate", "plot", "info"):
        assert f"  {command} " in done.stdout


def test_version() -> None:
    out, _ = process("--version").communicate(timeout=200)
    assert out == f"neumap {neumap.__version__}\n"


def test_results_to_stdout_progress_to_stderr(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", folder / "train.csv", "-o", tmp_path / "m.neumap", *LABELLED, *SMALL]
    loud = process(*words, "--verbose", env=os.environ | {"OMP_NUM_THREADS": "1"})
    out, err = loud.communicate(timeout=120)
    assert loud.returncode == 0, err
    assert out.count("\n") == 1
    assert "300 rows of 64 columns" in out
    assert "300 rows of 64 columns" in err
    capfd.readouterr()
    assert run(*words) == 0
    assert capfd.readouterr().err == ""


# --- checkpoints ----------------------------------------------------------------------------


def test_resume_ends_as_a_fit_that_was_not_interrupted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from neumap.callbacks import Checkpoint

    def interrupt(self: Checkpoint, run: neumap.callbacks.TrainingRun) -> None:
        write(self, run)
        if run.epoch == 3:
            raise KeyboardInterrupt

    write, model, kept = Checkpoint.on_epoch_end, tmp_path / "m.neumap", tmp_path / "{step}.c"
    words = ["fit", folder / "train.csv", *LABELLED, "-o", model, "--checkpoint", kept, *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", interrupt)
        assert run(*words, "--resume") == 130  # no checkpoint yet: it begins
    assert kept.exists()
    assert not model.exists()
    assert run(*words, "--resume", "--verbose") == 0
    assert "the fit goes on from here" in capsys.readouterr().err
    found, expected = neumap.load(model), neumap.load(folder / "map.neumap")
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    assert found.callbacks is None


def test_resume_goes_on_before_the_first_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from neumap.estimators import fitting, graph

    def interrupt(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    def refused(*given: object) -> None:
        raise AssertionError("searched again")

    model, kept = tmp_path / "m.neumap", tmp_path / "{step}.c"
    words = ["fit", folder / "train.csv", *LABELLED, "-o", model, "--checkpoint", kept, *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "train", interrupt)
        assert run(*words, "--resume") == 130
    assert [file.name for file in tmp_path.iterdir()] == ["{step}.search.neumap"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "training_neighbors", refused)
        assert run(*words, "--resume", "--verbose") == 0
    assert "{step}.search.neumap: the fit goes on from here" in capsys.readouterr().err
    found, expected = neumap.load(model), neumap.load(folder / "map.neumap")
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)


def test_a_checkpoint_that_cannot_be_used_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", folder / "train.csv", *LABELLED, "-o", tmp_path / "m.neumap", *SMALL]
    assert "--resume needs the file to go on from" in failure(capsys, *fit, "--resume")
    assert "got a table" in failure(capsys, *fit, "--checkpoint", tmp_path / "c.csv")
    (tmp_path / "c").write_bytes(b"0123456789 no checkpoint")
    message = failure(capsys, *fit, "--checkpoint", tmp_path / "c", "--resume")
    assert "must be a model saved by neumap" in message


@pytest.mark.slow
def test_processes_of_torchrun_fit_together(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.neumap"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["fit", folder / "train.csv", *LABELLED, "-o", model, *SMALL[:-1], "--verbose"]
    words += ["--checkpoint", tmp_path / "c"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [*launch, "-m", "neumap", *map(str, words)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"{model}: 300 rows of 64 columns to 2")
    assert done.stderr.count("300 rows of 64 columns") == 1  # one process says what it reads
    assert np.isfinite(neumap.load(model).embedding_).all()
    assert (tmp_path / "c").exists()
