"""The core dependencies are enough to fit and place; what needs an extra says which one."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

EXTRA_PACKAGES = [
    *("matplotlib", "bokeh", "datashader", "pandas", "pyarrow", "polars", "anndata", "h5py"),
    *("zarr", "keras", "tensorflow", "onnx", "onnxscript", "onnxruntime"),
    *("pynndescent", "numba", "umap", "huggingface_hub", "anywidget"),
]

# A fresh process that does not find the packages of the extras, as if they were not installed.
WITHOUT_EXTRAS = f"""
import importlib.machinery, sys

class PathFinder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRA_PACKAGES!r}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = PathFinder
import numpy as np
X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
"""


def run_without_extras(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_EXTRAS + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_extras_are_really_out_of_reach() -> None:
    done = run_without_extras("import matplotlib")
    assert "No module named 'matplotlib'" in done.stderr


def test_fit_and_transform() -> None:
    done = run_without_extras(
        """
        from neumap import ParametricUMAP
        model = ParametricUMAP(n_neighbors=5, n_epochs=2, random_state=0)
        print(model.fit_transform(X).shape, model.transform(X[:3]).shape)
        """
    )
    assert done.stdout == "(60, 2) (3, 2)\n", done.stderr


def test_the_explorer() -> None:
    done = run_without_extras(
        """
        from neumap import ParametricUMAP, explorer
        model = ParametricUMAP(n_neighbors=5, n_epochs=2, random_state=0).fit(X)
        print(explorer.show(model, X, labels=X[:, 0] > 0))
        """
    )
    assert done.stdout.startswith("<Page of 60 points"), done.stderr


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from neumap import plots; plots.points(X[:, :2])", "plot"),
        ("from neumap import plots; plots.interactive(X[:, :2])", "plot|interactive"),
        ("from neumap import hub; hub.from_pretrained('user/map')", "hub"),
        (
            "from pathlib import Path; from neumap.cli.writing import check_output; "
            "check_output(Path('map.parquet'), ('.parquet',))",
            "tables",
        ),
    ],
)
def test_optional_feature_names_its_extra(code: str, extra: str) -> None:
    done = run_without_extras(
        f"""
        import re
        try:
            {code}
        except ImportError as error:
            assert re.search(r'pip install "neumap\\[({extra})\\]"', str(error)), error
        else:
            raise SystemExit("no ImportError")
        """
    )
    assert done.returncode == 0, done.stderr
