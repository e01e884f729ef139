"""Nested values with tensors in them, such as the state of an optimiser, as JSON and tensors.

A node is a dict whose first key says what it holds: ``{"value": 3}``, ``{"tensor": name}``,
``{"dict": [[key, node], ...]}``, ``{"list": [node, ...]}`` or ``{"tuple": [node, ...]}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from neumap.archive.encoding import fits_json
from neumap.archive.schema import misfit, tagged

__all__ = ["check_like", "pack_tree", "unpack_tree"]


def pack_tree(value: Any, name: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the node of a value, and add its tensors under names that begin with `name`.

    What is neither a container nor a tensor stays as it is; :func:`write_archive` refuses it where
    JSON cannot hold it.

    Examples
    --------
    >>> tensors = {}
    >>> pack_tree({"step": 3, 0: (np.ones(2),)}, "state", tensors)["dict"][0]
    ['step', {'value': 3}]
    >>> [*tensors]
    ['state.0.0']
    """
    if isinstance(value, Tensor | np.ndarray):
        free = name
        while free in tensors:
            free += "_"
        tensors[free] = value
        return {"tensor": free}
    if fits_json(value):
        return {"value": value}
    if isinstance(value, Mapping):
        items = value.items()
        return {"dict": [[key, pack_tree(item, f"{name}.{key}", tensors)] for key, item in items]}
    if isinstance(value, list | tuple):
        nodes = [pack_tree(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": nodes}
    return {"value": value}


def unpack_tree(node: Any, tensors: Mapping[str, Any], where: str) -> Any:
    """Return the value of a node.

    Raises
    ------
    ArchiveError
        If it is not one that :func:`pack_tree` returns for these tensors.
    """
    CHECK_NODE(node, where)
    ((kind, content),) = list(node.items())[:1]
    if kind == "tensor":
        if content not in tensors:
            raise misfit(f"{where}.tensor", "the name of a tensor of the file", content)
        return tensors[content]
    if kind == "dict":
        pairs = [_pair(pair, tensors, where) for pair in content]
        return dict(pairs)
    if kind in ("list", "tuple"):
        items = [unpack_tree(item, tensors, f"{where}[{i}]") for i, item in enumerate(content)]
        return items if kind == "list" else tuple(items)
    return content


CHECK_NODE = tagged(
    {
        "value": {"value": lambda value, where: None},
        "tensor": {"tensor": str},
        "dict": {"dict": [[lambda value, where: None]]},
        "list": {"list": [dict]},
        "tuple": {"tuple": [dict]},
    }
)


def _pair(pair: Any, tensors: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    if len(pair) != 2 or not isinstance(pair[0], str | int | float | None):
        raise misfit(where, "pairs of a key and a node", f"{len(pair)} items")
    return pair[0], unpack_tree(pair[1], tensors, f"{where}.{pair[0]}")


def check_like(given: Any, own: Any, where: str, advice: str = "") -> None:
    """Raise unless a value has the containers, tensors and kinds of numbers of another one.

    Parameters
    ----------
    given : object
        From a file.
    own : object
        What such a value looks like.
    where : str
        Path of the value, for the message.
    advice : str, optional
        What to do.

    Raises
    ------
    ArchiveError
        Naming the first place that differs.

    Examples
    --------
    >>> check_like({"step": 3}, {"step": 0}, "optimizer")
    >>> check_like({"step": "3"}, {"step": 0}, "optimizer")
    Traceback (most recent call last):
        ...
    neumap.archive.errors.ArchiveError: optimizer.step must be of type int, got '3'. ...
    """
    if isinstance(own, Tensor):
        _check_tensor(given, own, where, advice)
    elif isinstance(own, Mapping):
        if not isinstance(given, Mapping) or given.keys() != own.keys():
            found = f"{len(given)} others" if isinstance(given, Mapping) else given
            raise misfit(where, f"a dict of {len(own)} known names", found, advice)
        for key, value in own.items():
            check_like(given[key], value, f"{where}.{key}", advice)
    elif isinstance(own, list | tuple):
        if type(given) is not type(own) or len(given) != len(own):
            raise misfit(where, f"a {type(own).__name__} of {len(own)} items", given, advice)
        for index, value in enumerate(own):
            check_like(given[index], value, f"{where}[{index}]", advice)
    elif type(given) is not type(own) and not (type(own) is float and type(given) is int):
        raise misfit(where, f"of type {type(own).__name__}", given, advice)


def _check_tensor(given: Any, own: Tensor, where: str, advice: str) -> None:
    if isinstance(given, Tensor) and given.shape == own.shape and given.dtype == own.dtype:
        return
    found = f"{tuple(given.shape)} of {given.dtype}" if isinstance(given, Tensor) else given
    raise misfit(where, f"a tensor of shape {tuple(own.shape)} of {own.dtype}", found, advice)
