"""Options that several commands share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from neumap.cli.table import Selection

__all__ = ["FILE", "image_shape", "input_options", "progress_option", "say"]

FILE = click.Path(path_type=Path)

Function = Callable[..., Any]


def _delimiter(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return one character; a tab is hard to type in a shell, hence its name."""
    if value is None:
        return None
    character = {"tab": "\t", "\\t": "\t"}.get(value, value)
    if len(character) != 1 or character.isalnum() or character in "\"'.+-_\r\n":
        raise click.BadParameter(
            f"it must be one character that is part of no number, or tab, got {value!r}. "
            "Write for example --delimiter ';'."
        )
    return character


def image_shape(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return the sides of an image from a text such as 28x28."""
    if value is None:
        return None
    sides = value.lower().replace("×", "x").split("x")
    if len(sides) not in (2, 3) or not all(side.isdecimal() and int(side) for side in sides):
        raise click.BadParameter(
            f"it must be HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, got {value!r}. "
            "Write for example --image-shape 28x28."
        )
    return tuple(map(int, sides))


def input_options(function: Function) -> Function:
    """Add the options that select parts of the input; pass them on as ``selection``."""

    @functools.wraps(function)
    def with_selection(
        *args: Any,
        key: str | None,
        label_column: str | None,
        id_column: str | None,
        ignore_column: tuple[str, ...],
        delimiter: str | None,
        decimal: str | None,
        **kwargs: Any,
    ) -> Any:
        selection = Selection(
            key, label_column, id_column, ignore_column, delimiter=delimiter, decimal=decimal
        )
        return function(*args, selection=selection, **kwargs)

    options = (
        click.option("--key", metavar="NAME", help="Array of an .npz with the rows."),
        click.option(
            "--label-column",
            metavar="NAME",
            help="Column (or array) with the label of each row; no feature, copied to the output.",
        ),
        click.option(
            "--id-column",
            metavar="NAME",
            help="Column (or array) with the name of each row, copied too.",
        ),
        click.option(
            "--ignore-column",
            metavar="NAME",
            multiple=True,
            help="Column to leave out; can be repeated.",
        ),
        click.option(
            "--delimiter",
            callback=_delimiter,
            metavar="CHARACTER",
            help="Between the cells of a .csv: , ; | tab or another; found by itself if clear.",
        ),
        click.option(
            "--decimal",
            type=click.Choice([".", ","]),
            help="Decimal mark of a .csv; found by itself if clear.",
        ),
    )
    for option in reversed(options):
        with_selection = option(with_selection)
    return with_selection


def progress_option(function: Function) -> Function:
    """Add ``--verbose/--quiet``; by default progress is shown on a terminal only."""

    @functools.wraps(function)
    def with_default(*args: Any, verbose: bool | None, **kwargs: Any) -> Any:
        shown = sys.stderr.isatty() if verbose is None else verbose
        return function(*args, verbose=shown, **kwargs)

    return click.option(
        "--verbose/--quiet",
        default=None,
        show_default="verbose on a terminal",
        help="Show progress on stderr.",
    )(with_default)


def say(message: str, verbose: bool = True) -> None:
    """Print a message to stderr."""
    if verbose:
        click.echo(message, err=True)
