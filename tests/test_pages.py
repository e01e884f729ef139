"""Pages point at files, tests and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
FOR_DEVELOPERS = {"CONTRIBUTING.md", "decisions.md"}
FILE = re.compile(r"\b(?:tests|benchmarks|docs)/[\w./-]+\.(?:py|md)\b")
TEST = re.compile(r"(tests/\w+\.py)::(test_\w+)")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([\w-]+))?\)")


def missing_from(page: Path) -> set[str]:
    """Return what the page names and the project lacks."""
    text = page.read_text("utf-8")
    missing = {name for name in FILE.findall(text) if not (ROOT / name).is_file()}
    for file, test in TEST.findall(text):
        if f"def {test}(" not in (ROOT / file).read_text("utf-8"):
            missing.add(f"{file}::{test}")
    for target, anchor in LINK.findall(text):
        path = page.parent / target if target else page
        if not path.exists():
            missing.add(target)
        elif anchor and anchor not in anchors(path.read_text("utf-8")):
            missing.add(f"{target}#{anchor}")
    return missing


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, by GitHub's rule."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    assert not missing_from(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_user_page_names_no_tests(page: Path) -> None:
    shown = re.sub(r"<!--.*?-->", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert page.name in FOR_DEVELOPERS or not re.findall(r"\btest_\w+|\btests/", shown)


def test_a_name_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`tests/test_gone.py`, `tests/test_pages.py::test_gone`, [a](gone.md), [b](page.md#gone), "
        "[c](page.md#a-head-with-signs), `tests/test_pages.py::test_what_a_page_names_exists`\n"
        "# A head: with signs!\n"
    )
    gone = {"tests/test_gone.py", "tests/test_pages.py::test_gone", "gone.md", "page.md#gone"}
    assert missing_from(page) == gone
