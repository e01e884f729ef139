"""The ``neumap`` command: fit a map, embed new rows, score the map, draw it.

Each subcommand does what a few lines of Python with :mod:`neumap` do. The command adds table files
as input and output, and one-line messages. Results go to stdout, progress and messages to stderr.
"""

from neumap.cli.app import main

__all__ = ["main"]
