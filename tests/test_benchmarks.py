"""The parts of the benchmarks in which an error would give wrong figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def bench(script):
    """The modules of benchmarks/lib."""
    names = ("data", "methods", "child", "report", "processes")
    return SimpleNamespace(**{name: script(f"lib.{name}") for name in names})


def run_of(method, seed, fit, trust, error=None):
    return {
        "dataset": "digits",
        "seed": seed,
        "method": method,
        "error": error,
        "seconds": {"import": 1.0, "fit": fit},
        "scores": {"trustworthiness": trust},
    }


def test_summary_holds_medians_over_seeds_and_leaves_failures_out(bench):
    runs = [run_of("neumap", seed, fit, 0.9) for seed, fit in enumerate([1.0, 9.0, 2.0])]
    failed = {"dataset": "digits", "seed": 3, "method": "neumap", "error": "stopped"}
    (entry,) = bench.report.summarise([*runs, failed])
    assert entry["n_seeds"] == 3
    assert entry["median"]["seconds.fit"] == 2.0


def test_ratios_compare_runs_of_the_same_seed_with_the_import_in(bench):
    runs = [
        run_of("neumap", 0, 1.0, 0.9),
        run_of("umap", 0, 9.0, 0.9),
        run_of("neumap", 1, 4.0, 0.9),
        run_of("umap", 1, 9.0, 0.9),
        run_of("umap", 2, 99.0, 0.9),  # nothing to compare with
    ]
    (ratio,) = bench.report.ratios(runs, "neumap")
    assert (ratio["smallest"], ratio["largest"]) == (10 / 5, 10 / 2)
    assert ratio["median"] == pytest.approx(3.5)


def test_table_leaves_out_columns_that_nobody_filled(bench):
    lines = bench.report.table(bench.report.summarise([run_of("neumap", 0, 2.0, 0.5)])).split("\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["data", "method", "import s", "fit s", "trust"]
    assert cells[2] == ["digits", "neumap", "1.0", "2.0", "0.500"]


def test_digits_hold_out_different_rows_by_seed(bench):
    first, again, other = (bench.data.digits(seed) for seed in (0, 0, 1))
    assert first.X_train.shape == (1438, 64)
    assert first.X_test.shape == (359, 64)
    assert first.X_train.max() == 1.0
    np.testing.assert_array_equal(first.X_test, again.X_test)
    assert not np.array_equal(first.y_test, other.y_test)


def test_mnist_takes_a_subset_of_rows_with_their_labels(bench, tmp_path):
    labels = np.arange(50)
    images = np.repeat(labels, 784).reshape(50, 28, 28).astype(np.uint8)
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:5], y_test=labels[:5])
    split = bench.data.mnist(path, 20, seed=0)
    assert split.X_train.shape == (20, 784)
    np.testing.assert_allclose(split.X_train[:, 0] * 255, split.y_train, rtol=1e-6)
    with pytest.raises(SystemExit, match="at most the 50 training rows"):
        bench.data.mnist(path, 51, seed=0)


def rows_of(X):
    return {row.tobytes() for row in X}


def test_validation_rows_of_the_digits_are_neither_trained_on_nor_reported(bench):
    reported, choosing = (bench.data.digits(0, rows) for rows in ("test", "validation"))
    assert len(choosing.X_train) + len(choosing.X_test) == len(reported.X_train)
    for rows in (choosing.X_train, choosing.X_test):
        assert rows_of(rows) <= rows_of(reported.X_train)
        assert not rows_of(rows) & rows_of(reported.X_test)
    assert not rows_of(choosing.X_train) & rows_of(choosing.X_test)


@pytest.fixture
def numbered_mnist(tmp_path):
    """A file of 4,000 training and 5,000 test images whose labels number them."""
    path = tmp_path / "mnist.npz"
    numbers = np.arange(9000)
    images = numbers[:, None].astype(np.uint8)  # one pixel, the number modulo 256
    train, test = slice(0, 4000), slice(4000, 9000)
    np.savez(
        path,
        x_train=images[train],
        y_train=numbers[train],
        x_test=images[test],
        y_test=numbers[test],
    )
    return path


def test_validation_rows_of_mnist_are_training_images_that_were_not_chosen(bench, numbered_mnist):
    split = bench.data.mnist(numbered_mnist, 1000, 0, "validation")
    reported = bench.data.mnist(numbered_mnist, 1000, 0)
    np.testing.assert_array_equal(split.y_train, reported.y_train)
    np.testing.assert_array_equal(reported.y_test, np.arange(4000, 7000))
    assert sorted({*split.y_train, *split.y_test}) == list(range(4000))
    assert len(split.y_test) == 3000


def test_where_no_training_image_is_left_mnist_validates_on_unreported_test_images(
    bench, numbered_mnist
):
    split = bench.data.mnist(numbered_mnist, 4000, 0, "validation")
    np.testing.assert_array_equal(split.y_test, np.arange(7000, 9000))
    np.testing.assert_allclose(split.X_test[:, 0] * 255, split.y_test % 256, rtol=1e-6)


def test_mnist_without_rows_to_validate_on_says_what_to_do(bench, tmp_path, numbered_mnist):
    with np.load(numbered_mnist) as file:
        arrays = {name: file[name][:3000] for name in file}
    path = tmp_path / "short.npz"
    np.savez(path, **arrays)
    with pytest.raises(SystemExit, match="Train on at most 2000 rows"):
        bench.data.mnist(path, 3000, 0, "validation")


def test_the_mixture_draws_validation_rows_beside_the_others(bench):
    reported, choosing = (bench.data.mixture(300, 0, 5, rows) for rows in ("test", "validation"))
    np.testing.assert_array_equal(choosing.X_train, reported.X_train)
    assert choosing.X_test.shape == reported.X_test.shape
    assert not rows_of(choosing.X_test) & rows_of(reported.X_test)
    # The same hierarchy: a row's nearest training row mostly has its label.
    squared = ((choosing.X_test[:, None] - choosing.X_train) ** 2).sum(-1)
    assert np.mean(choosing.y_train[squared.argmin(1)] == choosing.y_test) > 0.5


def test_blocks_of_the_mixture_do_not_change_it(bench, monkeypatch):
    whole = bench.data.mixture(300, 0, 5)
    monkeypatch.setattr(bench.data, "BLOCK_ROWS", 128)
    np.testing.assert_allclose(bench.data.mixture(300, 0, 5).X_train, whole.X_train, atol=1e-6)


def test_stages_of_umap_learn_count_nested_neighbors_once(bench, monkeypatch):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(bench.methods, "time", clock)

    def spend(seconds):
        clock.now += seconds

    method = bench.methods.UmapLearn(parametric=False)
    neighbors = method._timed("neighbors", spend)
    graph = method._timed("graph", lambda: (neighbors(20.0), spend(5.0)))
    graph()
    neighbors(1.0)
    assert method.seconds == {"neighbors": 21.0, "graph": 5.0}


def test_peak_memory_is_that_of_the_process_and_not_of_its_parent(bench):
    ballast = np.ones(50_000_000)  # 400 MB in this process
    code = (
        "from lib import child\n"
        "print(child.peak_bytes()); block = b'1' * 10**8; print(child.peak_bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert before < ballast.nbytes / 4
    assert 0.9e8 < after - before < 1.5e8


def test_a_failing_method_gives_its_error_and_no_figures(bench, monkeypatch):
    split = bench.data.digits(0)
    outcome = bench.processes.run_method(
        "umap", split, Path(sys.executable), {"unknown": 1}, timeout=0.01
    )
    assert outcome.error == "stopped after 0 s"
    assert outcome.embedding is None


@pytest.mark.slow
def test_the_run_writes_figures_of_the_digits(tmp_path):
    import json

    output = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--methods", "neumap-fast"]
    done = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    (run,) = result["runs"]
    stages = run["seconds"]
    assert stages["fit"] == pytest.approx(
        stages["neighbors"] + stages["graph"] + stages["training"]
    )
    assert run["bytes"]["peak"] > run["bytes"]["before_fit"] > run["bytes"]["data"]
    assert run["scores"]["test_knn_accuracy"] > 0.8
    assert "neumap-fast" in done.stdout
    assert result["machine"]["cores"] >= 1
    assert run["versions"]["torch"]


def test_hostile_cases_end_as_they_must(tmp_path):
    """A few of each group; all of them run with `python benchmarks/hostile.py`."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "hostile.py", "--tries", "3", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=tmp_path,
    )
    groups = [line.split() for line in done.stdout.splitlines()[1:]]
    assert done.returncode == 0, done.stderr
    assert [group[1] for group in groups] == ["3"] * 8
    assert {group[-1] for group in groups} == {"0"}
    assert list(tmp_path.iterdir()) == []
