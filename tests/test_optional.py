"""What a user reads who lacks an optional package, and what is not mistaken for that."""

from __future__ import annotations

import json
import os.path
from pathlib import Path

import pytest

from neumap._optional import require


def test_returns_the_module_itself() -> None:
    assert require("json", extra="plot") is json
    assert require("os.path", extra="plot") is os.path


@pytest.mark.parametrize("name", ["package_that_is_not_there", "package_that_is_not_there.part"])
def test_missing_package_names_the_line_to_run(name: str) -> None:
    with pytest.raises(
        ImportError,
        match=r"package 'package_that_is_not_there', .*pip install \"neumap\[plot\]\"",
    ) as caught:
        require(name, extra="plot")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def write_package(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


def test_package_that_lacks_a_dependency_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installing the extra again would not help, so the true cause must be shown."""
    write_package(tmp_path, "half_installed", "import dependency_of_it", monkeypatch)
    with pytest.raises(ModuleNotFoundError, match="dependency_of_it") as caught:
        require("half_installed", extra="plot")
    assert "neumap[" not in str(caught.value)


def test_package_that_fails_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, "breaks_at_import", "raise OSError('no shared library')", monkeypatch)
    with pytest.raises(OSError, match="no shared library"):
        require("breaks_at_import", extra="plot")
