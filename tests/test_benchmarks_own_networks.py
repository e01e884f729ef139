"""The table of own networks: what is measured, and that an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def own(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("own_networks")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "mnist.npz"
    parts = {"train": 60, "test": 20}
    arrays = {f"x_{p}": rng.integers(0, 255, (n, 784)).astype(np.uint8) for p, n in parts.items()}
    labels = {f"y_{p}": rng.integers(0, 3, n) for p, n in parts.items()}
    np.savez(path, **arrays, **labels)
    return path


def measured(own: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace the fits; return what is fitted."""
    fitted: list[tuple[str, int]] = []

    def fit(name: str, split: Any, seed: int) -> dict[str, float]:
        fitted.append((name, seed))
        scores = {"test_knn_accuracy": 0.1 * seed, "trustworthiness": 0.9, "recall@15": 0.2}
        return {"seconds": 1.0 + seed, **scores}

    monkeypatch.setattr(own, "fit", fit)
    return fitted


def test_what_is_there_is_not_measured_again(
    own: ModuleType, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "own.json"
    words = ["--mnist", str(file), "--rows", "40", "--only", "mlp", "conv"]
    fitted = measured(own, monkeypatch)
    own.main([*words, "--seeds", "0", "1", "--output", str(output)])
    assert sorted(fitted) == [("conv", 0), ("conv", 1), ("mlp", 0), ("mlp", 1)]
    fitted.clear()
    own.main([*words, "--seeds", "1", "2", "--output", str(output)])
    assert sorted(fitted) == [("conv", 2), ("mlp", 2)]
    (conv, mlp) = json.loads(output.read_text("utf-8"))["summary"]
    assert (conv["network"], mlp["network"], conv["n_seeds"]) == ("conv", "mlp", 3)
    assert conv["seconds"] == 2.0  # the median
    assert (conv["smallest"], conv["largest"]) == (0.0, pytest.approx(0.2))


def test_each_size_has_the_networks_of_the_table(own: ModuleType) -> None:
    options = own.parse(["--mnist", "mnist.npz"])
    at = {n_rows: set(own.chosen(options, n_rows, 0)) for n_rows in (2_000, 10_000, 60_000)}
    assert at[10_000] == {"default", "conv", "keras-conv"}
    assert at[60_000] == at[10_000] | {"decoder", "joint"}
    assert at[2_000] == set(own.SUBJECTS) - {"decoder", "joint"}


def test_a_fit_is_scored(own: ModuleType, file: Path) -> None:
    split = own.mnist(file, 60, 0)
    run = own.fit("mlp", split, 0)
    assert run["seconds"] > run["training_seconds"] > 0
    assert 0 <= run["test_knn_accuracy"] <= 1
    assert "test_mse" not in run


SHAPES = {
    "conv": (1, 28, 28),
    "mlp": (784,),
    "batch-norm": (784,),
    "gru": (28, 28),
    "conv-1d": (28, 28),
    "transformer": (28, 28),
}


@pytest.mark.parametrize("name", SHAPES)
def test_networks_take_images(own: ModuleType, name: str) -> None:
    network = own.SUBJECTS[name].make()
    assert network(torch.zeros(3, *SHAPES[name])).shape == (3, 2)
    assert (own.SUBJECTS[name].dims or (784,)) == SHAPES[name]


def test_the_decoder_makes_images(own: ModuleType) -> None:
    assert own.SUBJECTS["joint"].decoder()(torch.zeros(3, 2)).shape == (3, 1, 28, 28)
