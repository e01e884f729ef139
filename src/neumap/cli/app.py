"""The top level of the command: its subcommands and its error handling.

Exit codes: 0 for success, 2 for a wrong input or option (one line says what is wrong), 130 for an
interrupt. A bug in neumap itself keeps its traceback and exits with 1.
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
from neumap.cli.options import joined_names

__all__ = ["app", "main"]


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.option("--traceback", is_flag=True, help="Show the traceback of an error, for a bug report.")
@click.pass_context
def app(context: click.Context, version: bool, traceback: bool) -> None:
    """Parametric UMAP: learn a map of your data and embed new rows in it.

    Tables are .npy, .npz (select an array with --key or file.npz:key), .csv, .tsv, .jsonl (also
    compressed), .parquet, .arrow, .feather and .h5ad files, and folders of images.
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
        Arguments after the command's name; by default those of the process.

    Returns
    -------
    int
        0 for success, 2 for a wrong input, 130 for an interrupt.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _one_line_warning
        code, message = _outcome(words)
    # Printed last: once the error and its frames are freed, an open progress bar is closed.
    if message:
        click.echo(f"neumap: {message}", err=True)
    return code


def _outcome(words: list[str]) -> tuple[int, str]:
    """Run the command; return its exit code and a message."""
    try:
        app.main(joined_names(words), prog_name="neumap", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "interrupted"
    except (click.ClickException, CommandError, *INPUT_FAULTS) as error:
        if is_broken_pipe(error):
            return 0, ""
        # A missing package without a message that names its extra is a bug in neumap.
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
    """Show a warning without its line of code, which does not help the user."""
    click.echo(f"neumap: warning: {' '.join(str(message).split())}", err=True)
