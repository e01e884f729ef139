"""Settings shared by all tests: one thread, fixed seeds, no display."""

from __future__ import annotations

import os

# Before numpy, torch and faiss load: they read these once. One thread keeps sums in one order.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("KERAS_BACKEND", "torch")

import importlib
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Start every test from the same global random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries that draw from the global state are meant here
    torch.manual_seed(0)


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> type[Exception]:
    """Let a neighbour search raise an exception of its own, and return the class of this."""

    class SearchStarted(Exception):
        """The neighbour search was reached."""

    def started(*args: Any, **kwargs: Any) -> Any:
        raise SearchStarted

    monkeypatch.setattr("neumap.neighbors.NeighborSearch.find", started)
    return SearchStarted


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Run the Python blocks of a page of the documentation in an empty folder, and count them."""

    def run(name: str) -> int:
        page = DOCS / name
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {"__name__": page.stem}
        for block in blocks:
            exec(compile(block, str(page), "exec"), names)
        return len(blocks)

    return run


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of benchmarks/, which is a folder of scripts and not a package."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and BENCHMARKS in Path(file).parents:
            del sys.modules[name]


@pytest.fixture
def global_random_state_untouched() -> Iterator[None]:
    """Fail the test that asks for it if python's, numpy's or torch's global generator moved."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state under test
    torch_state = torch.get_rng_state()
    yield
    assert random.getstate() == python, "python's global random state changed"
    now = np.random.get_state()  # noqa: NPY002 - the state under test
    assert all(np.array_equal(a, b) for a, b in zip(numpy, now, strict=True)), (
        "numpy's global random state changed"
    )
    assert torch.equal(torch.get_rng_state(), torch_state), "torch's global random state changed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU where there is none."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def package(request: pytest.FixtureRequest) -> Any:
    """The package of an integration, imported without its own warnings, such as of old syntax."""
    (marker,) = request.node.iter_markers("integration")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(*marker.args)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of an integration whose package is missing, or fail it if that is asked for.

    `make test-integrations` asks, so that no test of its packages is left out in silence.
    """
    for marker in item.iter_markers("integration"):
        (package,) = marker.args
        if find_spec(package) is not None:
            continue
        if os.environ.get("NEUMAP_INTEGRATIONS"):
            pytest.fail(f"{package} is not installed, and NEUMAP_INTEGRATIONS asks for it")
        pytest.skip(f"{package} is not installed")
