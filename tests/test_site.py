"""The site: what it must list, and that it builds without a warning where Sphinx is installed."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neumap

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = [name for name in neumap.__all__ if inspect.ismodule(getattr(neumap, name))]


def names_of_the_reference() -> set[str]:
    """Return the full names that the pages of the reference list."""
    found, module = set(), ""
    pages = sorted((DOCS / "api").glob("*.rst"))
    for line in "\n".join(page.read_text("utf-8") for page in pages).splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif module and (match := re.match(r"(?:\.\. (?:auto)?data:: |   )([A-Za-z]\w*)$", line)):
            found.add(f"{module}.{match[1]}")
        elif line.startswith("==="):
            module = ""  # another page
    return found


@pytest.mark.parametrize("room", [*ROOMS, "scanpy"])
def test_the_reference_lists_every_public_name(room: str) -> None:
    public = importlib.import_module(f"neumap.{room}").__all__
    assert {f"neumap.{room}.{name}" for name in public} <= names_of_the_reference()


def test_the_reference_lists_the_names_of_the_package() -> None:
    own = set(neumap.__all__) - set(ROOMS) - {"__version__"}
    assert {f"neumap.{name}" for name in own} <= names_of_the_reference()


def test_the_reference_lists_no_name_that_is_gone() -> None:
    for full in names_of_the_reference():
        module, _, name = full.rpartition(".")
        assert hasattr(importlib.import_module(module), name), full


def test_every_page_is_in_a_table_of_contents() -> None:
    """Without Sphinx, so that a forgotten page is found before CI builds the site."""
    listed = {"index"}
    for page in DOCS.glob("*.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            listed |= set(re.findall(r"^[a-z]\S*$", tree, re.MULTILINE))
    pages = {page.stem for page in DOCS.glob("*.md")}
    assert pages <= listed
    assert {name for name in listed if "/" not in name} <= pages


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """All pages and the reference; the examples are read but do not run."""
    packages = ("sphinx", "myst_parser", "numpydoc", "pydata_sphinx_theme")
    for package in (*packages, "sphinx_gallery", "sphinx_design", "sphinx_copybutton"):
        pytest.importorskip(package)
    made = shutil.ignore_patterns("auto_examples", "generated", "_explorer", "__pycache__")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=made)  # a build writes into its sources
    for name in ("benchmarks", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    for file in ROOT.glob("*.md"):
        shutil.copy(file, tmp_path)
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--nitpicky", "--keep-going"]
    run = subprocess.run(
        [*command, "-b", "html", "-D", "plot_gallery=0", tmp_path / "docs", tmp_path / "site"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    pages = {page.name for page in (tmp_path / "site" / "api" / "generated").glob("*.html")}
    assert {f"{name}.html" for name in names_of_the_reference()} - pages <= DATA
    contents = (tmp_path / "site" / "llms.txt").read_text("utf-8")
    for target in re.findall(r"\]\((_sources/[^)]+)\)", contents):
        assert (tmp_path / "site" / target).is_file(), target


# Described on the first page of the reference, not on a page of their own.
DATA = {
    "neumap.plots.THEMES.html",
    "neumap.networks.RowForm.html",
    "neumap.neighbors.METRICS.html",
}
