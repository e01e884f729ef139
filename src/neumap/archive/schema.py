"""Check values from a file against a schema before anything is built from them.

A checksum shows that a file is as it was written, not that its writer was neumap. Every value that
decides what is built is therefore checked first. A schema is one of

- a type, or a tuple of types: the value has exactly this type, so that True is no int;
- a frozenset of str: the value is one of these words;
- a list with one schema: a list or tuple whose items fit it;
- a dict from key to schema: a dict that has at least these keys;
- a function ``(value, where)`` that raises :class:`ArchiveError` itself.

The error names the path of the value that does not fit, such as ``encoder.root.children[0]``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from neumap.archive.errors import ArchiveError

__all__ = [
    "Check",
    "check",
    "mapping_of",
    "misfit",
    "nullable",
    "parse_json",
    "size",
    "tagged",
    "text_of",
]

Check = Callable[[object, str], None]

# Recursion over a value stays far below Python's limit; models use about 20 levels.
DEEPEST = 200
# An empty list takes 2 bytes of text and 60 of memory. The largest models use about 10,000.
MOST_CONTAINERS = 100_000


def check(value: object, schema: Any, where: str) -> None:
    """Raise :class:`ArchiveError` if the value does not fit the schema.

    Parameters
    ----------
    value : object
        What :func:`json.loads` or :func:`read_archive` gives.
    schema : type, tuple of types, frozenset, list, dict or function
        See the top of this file.
    where : str
        Path of the value, for the message.

    Examples
    --------
    >>> check({"sizes": [1, 2]}, {"sizes": [int]}, "net")
    >>> check({"sizes": [1, "b"]}, {"sizes": [int]}, "net")
    Traceback (most recent call last):
        ...
    neumap.archive.errors.ArchiveError: net.sizes[1] must be int, got 'b'. Use a file ...
    """
    if isinstance(schema, dict):
        _check_record(value, schema, where)
    elif isinstance(schema, list):
        for index, item in enumerate(_sequence(value, where)):
            check(item, schema[0], f"{where}[{index}]")
    elif isinstance(schema, frozenset):
        if not isinstance(value, str) or value not in schema:
            raise misfit(where, f"one of {', '.join(sorted(schema))}", value)
    elif isinstance(schema, type | tuple):
        kinds = schema if isinstance(schema, tuple) else (schema,)
        if type(value) not in kinds:
            raise misfit(where, " or ".join(kind.__name__ for kind in kinds), value)
    else:
        schema(value, where)


def mapping_of(schema: Any) -> Check:
    """Return the check of a dict from any text to values of one schema."""

    def check_mapping(value: object, where: str) -> None:
        for key, item in _record(value, where).items():
            check(item, schema, f"{where}.{key}")

    return check_mapping


def nullable(schema: Any) -> Check:
    """Return the check of None or a value of the schema."""

    def check_nullable(value: object, where: str) -> None:
        if value is not None:
            check(value, schema, where)

    return check_nullable


def tagged(schemas: Mapping[str, Any], advice: str = "") -> Check:
    """Return the check of a dict whose first key chooses among schemas."""

    def check_tagged(value: object, where: str) -> None:
        tag = next(iter(_record(value, where)), None)
        if tag is None or tag not in schemas:
            raise misfit(where, f"a dict that starts with {', '.join(schemas)}", value, advice)
        check(value, schemas[tag], where)

    return check_tagged


def text_of(longest: int) -> Check:
    """Return the check of a text with a largest length."""

    def check_text(value: object, where: str) -> None:
        check(value, str, where)
        if len(str(value)) > longest:
            raise misfit(where, f"text of at most {longest} characters", value)

    return check_text


def size(value: object, where: str) -> None:
    """Check an extent or a count: a whole number from 0 that fits into 63 bits."""
    check(value, int, where)
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise misfit(where, "a whole number from 0 to 2**63 - 1", value)


def misfit(where: str, expected: str, got: object, advice: str = "") -> ArchiveError:
    """Return the error for a value that does not fit."""
    shown = repr(got) if isinstance(got, int | float | str | None) else f"a {type(got).__name__}"
    return ArchiveError(
        f"{where} must be {expected}, got {shown:.100}. "
        f"{advice or 'Use a file from a source you trust, or save the model again.'}"
    )


def parse_json(text: str | bytes, most_containers: int = MOST_CONTAINERS) -> Any:
    """Parse JSON whose depth and number of containers are bounded.

    Raises
    ------
    ValueError
        If the text is not JSON, or goes beyond a bound.
    """
    brackets: tuple[Any, Any] = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
    if sum(text.count(bracket) for bracket in brackets) > most_containers:
        raise ValueError(f"more than {most_containers} lists and dicts")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [item for container in level for item in _items(container)]
        if not level:
            return value
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def _items(value: object) -> list[Any]:
    """Return the lists and dicts directly inside a value."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, list):
        inside = value
    return [item for item in inside if isinstance(item, dict | list)]


def _check_record(value: object, schema: dict[str, Any], where: str) -> None:
    record = _record(value, where)
    for key, inner in schema.items():
        if key not in record:
            raise misfit(where, f"a dict with {', '.join(schema)}", f"no {key}")
        check(record[key], inner, f"{where}.{key}")


def _record(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise misfit(where, "a dict with text as keys", value)
    return value


def _sequence(value: object, where: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise misfit(where, "a list", value)
    return value
