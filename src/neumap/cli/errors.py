"""How a command fails: one line on stderr and an exit code, never a traceback.

A :class:`CommandError` means that something on the command line is wrong. Errors that the library
finds (a wrong width, a damaged model file) are exceptions of the library. :func:`message_of` turns
both into one line.
"""

from __future__ import annotations

import errno

import click

__all__ = ["EXIT_BAD_INPUT", "EXIT_INTERRUPTED", "INPUT_FAULTS", "CommandError", "message_of"]

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the convention of shells

# What the library raises for wrong data, files or parameters. Anything else is a bug in neumap and
# keeps its traceback.
INPUT_FAULTS = (ValueError, OSError, ImportError, MemoryError, FloatingPointError)


class CommandError(Exception):
    """An error in the user's input, with a message of one line."""


def message_of(error: BaseException) -> str:
    r"""Return one line that says what went wrong.

    Examples
    --------
    >>> message_of(CommandError("two\n  lines"))
    'two lines'
    >>> message_of(FileNotFoundError(2, "No such file or directory", "rows.csv"))
    'rows.csv: no such file or directory'
    """
    if isinstance(error, click.ClickException):
        return _joined(_usage_message(error))
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return _joined(place + error.strerror[:1].lower() + error.strerror[1:])
    if isinstance(error, MemoryError):
        return _joined(f"out of memory: {error}" if str(error) else "out of memory")
    return _joined(str(error) or type(error).__name__)


def is_broken_pipe(error: BaseException) -> bool:
    """Return whether the reader closed stdout, which is no error (``neumap info m | head``)."""
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return message
    return f"{message} Try '{context.command_path} --help'."


def _joined(text: str) -> str:
    return " ".join(text.split())
