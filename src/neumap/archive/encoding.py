"""Python values to strict JSON and back, with tuples, infinities and keys that are no text.

Standard JSON has no tuples, no infinities and only text as keys. Each of these becomes an object
with a single key that starts with ``$``, so that ``decode(encode(value)) == value`` and any JSON
parser can read the text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from neumap.archive.errors import ArchiveError

__all__ = ["decode", "encode", "fits_json"]

FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def encode(value: object, where: str) -> Any:
    """Return a value that :func:`json.dumps` writes as strict JSON.

    Parameters
    ----------
    value : None, bool, int, float, str, NumPy scalar, list, tuple or mapping of these
        NumPy scalars become Python's.
    where : str
        Name of the value in messages, such as ``"metadata"``.

    Raises
    ------
    ArchiveError
        If it contains anything else; the message names the key.
    """
    try:
        return _encode(value, where)
    except RecursionError as error:
        raise ArchiveError(
            f"{where} must be nested less deeply, got a value that contains itself or hundreds of "
            "levels. Leave it out."
        ) from error


def _encode(value: object, where: str) -> Any:
    match value:
        case np.bool_() | np.integer() | np.floating():
            return _encode(_python_scalar(value, where), where)
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": repr(value)}
        case list():
            return [_encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        case tuple():
            return {"$tuple": [_encode(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        case Mapping():
            return _encode_mapping(value, where)
        case _:
            raise _not_json(value, where)


def decode(value: Any) -> Any:
    """Undo :func:`encode`.

    Raises
    ------
    ArchiveError
        If a marked object is not one that :func:`encode` returns.
    """
    match value:
        case list():
            return [decode(item) for item in value]
        case {"$float": str(text), **rest} if not rest and text in FLOATS:
            return FLOATS[text]
        case {"$tuple": list(items), **rest} if not rest:
            return tuple(decode(item) for item in items)
        case {"$dict": list(pairs), **rest} if not rest:
            return _decode_pairs(pairs)
        case {"$float": _, **rest} | {"$tuple": _, **rest} | {"$dict": _, **rest} if not rest:
            raise ArchiveError(
                f"A marked JSON object must hold what the mark says, got {value!r:.100}. "
                "Use a file from a source you trust."
            )
        case dict():
            return {key: decode(item) for key, item in value.items()}
        case _:
            return value


def _decode_pairs(pairs: list[Any]) -> dict[Any, Any]:
    try:
        return {decode(key): decode(item) for key, item in pairs}
    except (TypeError, ValueError) as error:  # no pair, or a key without hash
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f"'$dict' must hold pairs of a key and a value, got {pairs!r:.100}. "
            "Use a file from a source you trust."
        ) from error


def fits_json(value: object) -> bool:
    """Return whether a value can be in the metadata of an archive, see :func:`encode`.

    Examples
    --------
    >>> fits_json({"dims": (28, 28), "limit": math.inf}), fits_json([math.sin])
    (True, False)
    """
    try:
        encode(value, "value")
    except ArchiveError:
        return False
    return True


def _encode_mapping(value: Mapping[Any, object], where: str) -> dict[str, Any]:
    items = [(key, _encode(item, f"{where}[{key!r}]")) for key, item in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
        return dict(items)
    return {"$dict": [[_encode(key, f"the key {key!r} of {where}"), item] for key, item in items]}


def _python_scalar(value: np.generic, where: str) -> object:
    scalar: object = value.item()
    if isinstance(scalar, np.generic):  # longdouble has no Python counterpart
        raise _not_json(value, where)
    return scalar


def _not_json(value: object, where: str) -> ArchiveError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    is_array = hasattr(value, "shape") and not isinstance(value, np.generic)
    advice = (
        "Put arrays into tensors"
        if is_array
        else "Leave it out, or write a name that you resolve after reading"
    )
    return ArchiveError(
        f"{where} must be a number, string, bool, None, or a list, tuple or dict of these, "
        f"got {value!r:.100} of type {kind}. {advice}."
    )
