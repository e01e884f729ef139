"""Rows in a file, under a limit of memory, give the map of the same rows in memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory_limit.py"
N_ROWS, N_COLUMNS = 200_000, 512


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts the heap on Linux only")
@pytest.mark.parametrize(
    ("dtype", "metric"), [("float32", "euclidean"), ("uint8", "cosine")], ids=str
)
def test_a_fit_of_a_file_takes_no_copy_of_it(dtype: str, metric: str, tmp_path: Path) -> None:
    """As float32 the rows are 410 MB, which the limit has no room for besides what a fit needs."""
    output = tmp_path / "result.json"
    settings = {
        "rows": N_ROWS,
        "columns": N_COLUMNS,
        "dtype": dtype,
        "metric": metric,
        "anchors": 10_000,
        "steps": 150,
        "limit": 0.9,  # a third of it is gone when the package is imported
        "folder": tmp_path,
        "output": output,
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    done = run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(output.read_text())
    limited, usual = result["runs"]
    assert (limited["name"], usual["name"]) == ("on disk", "in memory")
    assert result["equal"]
    assert limited["report"]["neighbors"] == "cells"
    assert [run["placed_equals_fit"] for run in result["runs"]] == [True, True]
    used = limited["peak_bytes"] - limited["before_bytes"]
    assert used < 0.75 * 4 * N_ROWS * N_COLUMNS


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts the heap on Linux only")
def test_the_peak_grows_by_few_bytes_a_row(tmp_path: Path) -> None:
    """600,000 more rows are 154 MB, and a number of 64 bits for each is 5 MB."""
    output = tmp_path / "result.json"
    command = [sys.executable, str(SCRIPT), "--rows", "200000", "800000", "--no-comparison"]
    command += ["--anchors", "10000", "--steps", "60", "--limit", "0.9", "--output", str(output)]
    done = run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    few, many = json.loads(output.read_text())["runs"]
    assert many["peak_bytes"] - few["peak_bytes"] < 60e6 + 8 * 600_000
    stages = {stage["stage"]: stage for stage in many["stages"]}
    assert list(stages)[-3:] == ["training", "positions of all rows", "transform to a file"]
    assert sum(s["seconds"] for s in stages.values()) == pytest.approx(
        many["fit_seconds"] + many["transform_seconds"]
    )
    assert max(stage["peak_bytes"] for stage in stages.values()) == many["peak_bytes"]
