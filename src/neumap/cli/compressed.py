"""Open text files, compressed or not, and tell the ending of what they hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neumap._optional import require
from neumap.cli.errors import CommandError

__all__ = ["COMPRESSED", "ending_of", "opened_text"]

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
TEXT = (".csv", ".tsv", ".jsonl", ".ndjson")


def ending_of(file: Path) -> str:
    """Return the ending that tells the format, in small letters: ``.csv`` of ``rows.CSV.gz``.

    Examples
    --------
    >>> ending_of(Path("rows.CSV.gz")), ending_of(Path("rows.npy.gz")), ending_of(Path("rows"))
    ('.csv', '.gz', '')
    """
    last = file.suffix.lower()
    inner = Path(file.stem).suffix.lower()
    return inner if last in COMPRESSED and inner in TEXT else last


@contextmanager
def opened_text(file: Path) -> Iterator[io.TextIOWrapper]:
    """Open a text file as UTF-8, with or without a byte order mark.

    Raises
    ------
    CommandError
        If the text is no UTF-8, or the file is not compressed as its ending says.
    """
    try:
        # newline="": line ends within quotes are part of the cell.
        with (
            _unpacked(file) as stream,
            io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text,
        ):
            yield text
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{file}: not a readable .csv, the text must be UTF-8 ({error}). Save it as UTF-8."
        ) from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise CommandError(_damaged(file, error)) from error
    except OSError as error:
        if error.errno is None and file.suffix.lower() in COMPRESSED:  # of bz2 and of pyarrow
            raise CommandError(_damaged(file, error)) from error
        raise


def _damaged(file: Path, error: Exception) -> str:
    return (
        f"{file}: the file must be compressed as its ending says, got one that cannot be unpacked "
        f"({error}). Compress it again, or correct the ending."
    )


def _unpacked(file: Path) -> Any:
    last = file.suffix.lower()
    if last == ".gz":
        return gzip.open(file)
    if last == ".bz2":
        return bz2.open(file)
    if last == ".xz":
        return lzma.open(file)
    if last == ".zst":
        arrow = require("pyarrow", extra="tables")
        packed = arrow.input_stream(str(file), compression="zstd")
        return io.BufferedReader(packed)
    return file.open("rb")
