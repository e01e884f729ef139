"""The README's Python code, and that of the first pages, runs; its command lines are accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from neumap.cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Pages whose code no other test runs.
PAGES = ("README.md", "docs/get_started.md", "docs/coming_from.md", "docs/integrations.md")
NEEDS = {"docs/get_started.md": "matplotlib", "docs/integrations.md": "pandas"}


def blocks(language: str, text: str = README) -> list[str]:
    """Fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def command_lines() -> list[str]:
    text = "\n".join(blocks("console")).replace("\\\n", " ")
    return re.findall(r"^\$ neumap (.*)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_python_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page in NEEDS:
        pytest.importorskip(NEEDS[page])
    monkeypatch.chdir(tmp_path)
    code = blocks("python", (ROOT / page).read_text(encoding="utf-8"))
    assert code, f"{page} shows no Python code"
    # One after the other in one namespace, as a reader would paste them.
    exec(compile("\n".join(code), page, "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("line", command_lines())
def test_command_line_is_accepted(line: str) -> None:
    name, *words = shlex.split(line, comments=True)
    command = app.commands[name]
    context = command.make_context(name, words, parent=click.Context(app))
    assert context.params


def test_readme_names_the_two_commands() -> None:
    assert "make demo" in README
    assert "make test" in README
