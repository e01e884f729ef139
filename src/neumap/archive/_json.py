"""Python values to strict JSON and back, without losing what JSON cannot say.

Standard JSON has no tuples, no infinities and only string keys. Each of these becomes an object
with a single key that starts with ``$``, so ``decode(encode(value)) == value``, and the text
remains readable by any JSON parser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from neumap.archive._errors import ArchiveError

__all__ = ["decode", "encode", "fits_json"]


def encode(value: object, where: str) -> Any:
    """Turn a value into what :func:`json.dumps` writes as strict JSON.

    Parameters
    ----------
    value : None, bool, int, float, str, NumPy scalar, list, tuple or mapping of these
        NumPy scalars become Python's.
    where : str
        How messages call the value, for example ``"metadata"``.

    Raises
    ------
    ArchiveError
        If there is anything else in it; the message names the key.
    """
    match value:
        case np.bool_() | np.integer() | np.floating():
            return encode(_python_scalar(value, where), where)
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": repr(value)}
        case list():
            return [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        case tuple():
            return {"$tuple": [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        case Mapping():
            return _encode_mapping(value, where)
        case _:
            raise _not_json(value, where)


def decode(value: Any) -> Any:
    """Undo :func:`encode`."""
    match value:
        case list():
            return [decode(item) for item in value]
        case {"$float": text, **rest} if not rest:
            return float(text)
        case {"$tuple": items, **rest} if not rest:
            return tuple(decode(item) for item in items)
        case {"$dict": pairs, **rest} if not rest:
            return {decode(key): decode(item) for key, item in pairs}
        case dict():
            return {key: decode(item) for key, item in value.items()}
        case _:
            return value


def fits_json(value: object) -> bool:
    """Whether a value can stand in the metadata of an archive, see :func:`encode`.

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
    items = [(key, encode(item, f"{where}[{key!r}]")) for key, item in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
        return dict(items)
    return {"$dict": [[encode(key, f"the key {key!r} of {where}"), item] for key, item in items]}


def _python_scalar(value: np.generic, where: str) -> object:
    scalar: object = value.item()
    if isinstance(scalar, np.generic):  # longdouble has no Python counterpart
        raise _not_json(value, where)
    return scalar


def _not_json(value: object, where: str) -> ArchiveError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    is_array = hasattr(value, "shape") and not isinstance(value, np.generic)
    advice = (
        "Put arrays into tensors instead"
        if is_array
        else "Leave it out, or replace it by a name that you resolve after reading"
    )
    return ArchiveError(
        f"Expected {where} to be a number, string, bool, None, or a list, tuple or dict of these; "
        f"got {value!r:.100} of type {kind}. {advice}."
    )
