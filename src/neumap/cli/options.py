"""Options that several commands share."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from neumap.cli.table import Selection

__all__ = [
    "FILE",
    "image_shape",
    "input_options",
    "joined_names",
    "keep_option",
    "names_option",
    "progress_option",
    "say",
]

BETWEEN = "\x1f"  # no name holds it

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


def _image_size(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", value)
    if found is None:
        raise click.BadParameter(
            f"it must be a width and a height in pixels, got {value!r}. Write for example "
            "--image-size 32x32."
        )
    return int(found[1]), int(found[2] or found[1])


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
        comment: str | None,
        vector_column: str | None,
        image_size: tuple[int, int] | None,
        **kwargs: Any,
    ) -> Any:
        selection = Selection(
            key,
            label_column,
            id_column,
            ignore_column,
            delimiter=delimiter,
            decimal=decimal,
            comment=comment,
            vectors=vector_column,
            image_size=image_size,
        )
        return function(*args, selection=selection, **kwargs)

    options = (
        click.option(
            "--key", metavar="NAME", help="Array of an .npz, or of obsm in an .h5ad, with the rows."
        ),
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
        click.option(
            "--comment",
            callback=_delimiter,
            metavar="CHARACTER",
            help="Leave out lines of a .csv that begin with this, such as '#'.",
        ),
        click.option(
            "--vector-column",
            metavar="NAME",
            help="Column with one vector (list of numbers) per row; the others are no features.",
        ),
        click.option(
            "--image-size",
            callback=_image_size,
            metavar="WIDTHxHEIGHT",
            help="Resize the images of a folder to this many pixels.",
        ),
    )
    for option in reversed(options):
        with_selection = option(with_selection)
    return with_selection


def names_option(function: Function) -> Function:
    """Add ``--names``; pass them on as a list."""

    @functools.wraps(function)
    def with_names(*args: Any, names: str | None, **kwargs: Any) -> Any:
        return function(*args, names=None if names is None else names.split(BETWEEN), **kwargs)

    return click.option(
        "--names",
        metavar="NAME...",
        help="Names of the coordinates, one per component, such as: --names x y.",
    )(with_names)


keep_option = click.option(
    "--keep-columns", is_flag=True, help="Write all columns of the input beside the coordinates."
)


def joined_names(words: Sequence[str]) -> list[str]:
    """Join the words behind ``--names``, up to the next option, to the one value that click takes.

    Examples
    --------
    >>> joined_names(["--names", "x", "y", "-o", "map.csv"])[1:]
    ['-o', 'map.csv']
    """
    joined: list[str] = []
    is_open = False
    for word in words:
        if word.startswith("-"):
            is_open = word == "--names"
            joined.append(word)
        elif is_open:
            joined[-1] += ("=" if joined[-1] == "--names" else BETWEEN) + word
        else:
            joined.append(word)
    return joined


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
