"""A warning names the line of the user's that led to it."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import neumap
from neumap import UMAP, ParametricUMAP
from neumap.callbacks import Checkpoint
from neumap.neighbors import find_neighbors

PACKAGE = Path(neumap.__file__).parent
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
FAR = np.vstack([X, np.full((1, 4), 1e3, dtype=np.float32)])
QUICK: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 2, "random_state": 0}


def quick(**parameters: Any) -> ParametricUMAP:
    return ParametricUMAP(**{**QUICK, "preset": "fast", **parameters})


class Batches(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


# What warns, and a part of the message.
WARN: dict[str, tuple[Callable[[], Any], str]] = {
    "rows cut off": (
        lambda: UMAP(**QUICK, disconnection_distance=50.0).fit(FAR),
        "must have a neighbour",
    ),
    "neighbours that do not exist": (lambda: find_neighbors(X, 99), "n_neighbors should be"),
    "given neighbours of other rows": (
        lambda: UMAP(**QUICK, precomputed_knn=(np.zeros((9, 5), int), np.zeros((9, 5)))).fit(X),
        "precomputed_knn should have",
    ),
    "labels as a column": (
        lambda: UMAP(**QUICK).fit(X, np.zeros((40, 1), int)),
        "A column-vector y",
    ),
    "a hook of Keras": (lambda: quick(callbacks=[Batches()]).fit(X), "runs once per report"),
    "a checkpoint that is not written": (
        lambda: quick(callbacks=[Checkpoint(Path(os.devnull, "run"))]).fit(X),
        "could not be written",
    ),
    "an output of scikit-learn": (
        lambda: UMAP(**QUICK, disconnection_distance=50.0).fit_transform(FAR),
        "must have a neighbour",
    ),
    "a pipeline": (
        lambda: make_pipeline(StandardScaler(), UMAP(**QUICK)).fit(X, np.zeros((40, 1), int)),
        "A column-vector y",
    ),
}


@pytest.mark.parametrize("name", WARN)
def test_a_warning_points_at_the_line_of_the_user(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, message = WARN[name]
    monkeypatch.chdir(tmp_path)
    with pytest.warns(Warning, match=message) as caught:
        act()
    assert [warning.filename for warning in caught] == [__file__] * len(caught)


def test_no_module_counts_the_lines_itself() -> None:
    direct = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "stacklevel"
    }
    assert direct == {"_warnings.py"}
