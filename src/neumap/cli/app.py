"""The command's outer shell: its name, its subcommands, and what becomes of errors.

Exit codes: 0 done, 2 something about the input or the options is wrong (one line says what), 130
interrupted. A fault of neumap itself keeps its traceback and exits with 1.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import click

from neumap.cli import commands
from neumap.cli.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    INPUT_FAULTS,
    CommandError,
    is_broken_pipe,
    message_of,
)

__all__ = ["app", "main"]


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.option("--version", is_flag=True, help="Show the version and leave.")
@click.option("--traceback", is_flag=True, help="Show where an error arose, for a bug report.")
@click.pass_context
def app(context: click.Context, version: bool, traceback: bool) -> None:
    """Parametric UMAP: learn a map of your data, and place new rows on it.

    Tables are .npy, .npz (choose an array with --key or file.npz:key), .csv and .parquet files.
    """
    if version:
        import neumap

        click.echo(f"neumap {neumap.__version__}")
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in commands.ALL:
    app.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the command's name; those of the process by default.

    Returns
    -------
    int
        0, 2 for faults of the input, 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _one_line_warning
        code, message = _outcome(words)
    # Said only now: with the error and its frames gone, an open progress bar has left the terminal.
    if message:
        click.echo(f"neumap: {message}", err=True)
    return code


def _outcome(words: list[str]) -> tuple[int, str]:
    """Run the command; exit code and what to say about it."""
    try:
        app.main(words, prog_name="neumap", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "interrupted"
    except (click.ClickException, CommandError, *INPUT_FAULTS) as error:
        if is_broken_pipe(error):
            return 0, ""
        # A package missing without a word about its extra is a fault of neumap.
        if "--traceback" in words or isinstance(error, ModuleNotFoundError):
            raise
        return EXIT_BAD_INPUT, message_of(error)
    return 0, ""


def _one_line_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning without the code line it came from, which tells the user nothing."""
    click.echo(f"neumap: warning: {' '.join(str(message).split())}", err=True)
