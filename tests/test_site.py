"""The site: what it must list, and that it builds without a warning where Sphinx is installed."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


class Links(HTMLParser):
    """Addresses that a page leads to or loads, and the places in it that have a name."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.names: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.found.add(value)
            elif name == "id" and value:
                self.names.add(value)


def dead_links(site: Path) -> set[str]:
    """Return the links from page to page of a site whose file or heading does not exist."""
    files = [file.resolve() for file in site.rglob("*.html") if "_static" not in file.parts]
    pages = {file: Links(file) for file in files}
    dead = set()
    for file, page in pages.items():
        for link in page.found:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (file.parent / unquote(address.path)).resolve() if address.path else file
            # The pages of the source name a function by its module, wherever it is documented.
            has_name = address.fragment and target in pages and "_modules" not in file.parts
            if not target.exists() or (
                has_name and unquote(address.fragment) not in pages[target].names
            ):
                dead.add(f"{file.relative_to(site.resolve())} -> {link}")
    return dead


def test_a_dead_link_of_a_site_is_found(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">a</h1><a href="api/b.html#c">b</a><a href="#top">c</a><a href="#gone">d</a>'
        '<img src="gone.png"><a href="https://a.example/gone">e</a>'
    )
    (tmp_path / "api" / "b.html").write_text('<a href="../index.html#top">a</a><a href="#c">c</a>')
    assert dead_links(tmp_path) == {
        "index.html -> api/b.html#c",
        "index.html -> #gone",
        "index.html -> gone.png",
        "api/b.html -> #c",
    }


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
    assert not dead_links(tmp_path / "site")


# Described on the first page of the reference, not on a page of their own.
DATA = {
    "neumap.plots.THEMES.html",
    "neumap.networks.RowForm.html",
    "neumap.neighbors.METRICS.html",
}
