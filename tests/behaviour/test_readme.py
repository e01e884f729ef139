"""The README's Python code runs as it stands, and its command lines are accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from neumap.cli.app import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def command_lines() -> list[str]:
    text = "\n".join(blocks("console")).replace("\\\n", " ")
    return re.findall(r"^\$ neumap (.*)$", text, flags=re.MULTILINE)


def test_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert blocks("python"), "the README shows no Python code"
    # One after the other in one namespace, as a reader would paste them.
    exec(compile("\n".join(blocks("python")), "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("line", command_lines())
def test_command_line_is_accepted(line: str) -> None:
    name, *words = shlex.split(line, comments=True)
    command = app.commands[name]
    context = command.make_context(name, words, parent=click.Context(app))
    assert context.params


def test_readme_names_the_two_commands() -> None:
    assert "make demo" in README
    assert "make test" in README
