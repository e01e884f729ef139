"""The ``neumap`` command: fit a map, place rows on it, score it, draw it.

Everything the command can do is a few lines of Python with :mod:`neumap`; what it adds is tables in
and out, and one-line messages. Results go to stdout, progress and messages to stderr.
"""

from neumap.cli.app import main

__all__ = ["main"]
