"""What a description of a network may say: the layers, their arguments, and how much of each."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from neumap.archive.layers import CONTAINERS, LAYERS, NOT_RECORDED
from neumap.archive.schema import check, mapping_of, misfit, nullable, tagged, text_of

__all__ = ["check_arguments", "check_spec"]

LONGEST_TEXT = 1_000
LONGEST_LIST = 64
MOST_PARTS = 10_000
# Activations, dropout and containers have no tensors, but networks have few of them per layer.
PARTS_WITHOUT_TENSORS = 200
PARTS_PER_TENSOR = 10


def check_spec(spec: object, name: str, n_tensors: int | None = None) -> None:
    """Raise if this is no description by :func:`describe_module`, or describes too many parts.

    Parameters
    ----------
    spec : object
        The value from the file.
    name : str
        Name of the network, for messages.
    n_tensors : int, optional
        Number of tensors that the file has for the network.
    """
    check(spec, {"root": dict, "tied": dict}, name)
    if not isinstance(spec, dict):
        return
    most = MOST_PARTS
    if n_tensors is not None:
        most = min(most, PARTS_WITHOUT_TENSORS + PARTS_PER_TENSOR * (n_tensors + len(spec["tied"])))
    # First as they are written, which is fast, then with those that occur more than once.
    _check_count(_count_written(spec["root"]), most, name)
    check(spec, SPEC, name)
    _check_count(_count(spec["root"], "", {}), most, name)


def _check_count(n_parts: int, most: int, name: str) -> None:
    if n_parts > most:
        raise misfit(f"{name}.root", f"at most {most} modules for its tensors", n_parts)


def check_arguments(config: object, where: str, n_tensors: int | None = None) -> None:
    """Raise if arguments of a layer are not numbers, words and short lists of these.

    A list of layer widths may be as long as there are tensors for them.
    """
    longest = LONGEST_LIST + (0 if n_tensors is None else n_tensors)
    mapping_of(lambda value, inner: _check_argument(value, inner, longest, 2))(config, where)


def _check_argument(value: object, where: str, longest: int, depth: int) -> None:
    if not isinstance(value, list | tuple):
        check(value, (type(None), bool, int, float, str), where)
        if isinstance(value, str):
            text_of(LONGEST_TEXT)(value, where)
        return
    if len(value) > longest or depth == 0:
        raise misfit(where, f"a list of at most {longest} numbers or words", f"{len(value)} items")
    for index, item in enumerate(value):
        _check_argument(item, f"{where}[{index}]", longest, depth - 1)


def _check_layer(node: Any, where: str) -> None:
    check(node, {"layer": str, "config": dict}, where)
    check_arguments(node["config"], f"{where}.config")
    if node["layer"] in LAYERS:  # the builder names those that are not
        check([*node["config"]], [_arguments_of(node["layer"])], f"{where}.config")


@functools.cache
def _arguments_of(layer: str) -> frozenset[str]:
    return frozenset(inspect.signature(LAYERS[layer]).parameters) - NOT_RECORDED


def _check_child(value: object, where: str) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise misfit(where, "a pair of name and module", value)
    key, child = value
    check(key, text_of(LONGEST_TEXT), f"{where}[0]")
    _check_part(child, f"{where}[1]")


def _check_part(value: object, where: str) -> None:
    PART(value, where)


PART = tagged(
    {
        "same_as": {"same_as": str},
        "container": {"container": frozenset(CONTAINERS), "children": [_check_child]},
        "layer": _check_layer,
        "class": {"class": text_of(LONGEST_TEXT), "config": nullable(mapping_of(lambda *_: None))},
    }
)
SPEC = {"root": _check_part, "tied": mapping_of(str), "frozen": [str], "eval": [str]}


def _count(part: Any, path: str, known: dict[str, int]) -> int:
    """Count modules; a module that occurs twice counts twice, as in the names of its tensors."""
    if "same_as" in part:
        return known.get(part["same_as"], 1)
    children = part.get("children", ())
    known[path] = 1 + sum(
        _count(child, f"{path}.{key}".lstrip("."), known) for key, child in children
    )
    return known[path]


def _count_written(root: object) -> int:
    """Count modules of an unchecked description, without recursion."""
    waiting, n_parts = [root], 0
    while waiting:
        part = waiting.pop()
        n_parts += 1
        children = part.get("children") if isinstance(part, dict) else None
        if isinstance(children, list | tuple):
            waiting += [pair[-1] for pair in children if isinstance(pair, list | tuple) and pair]
    return n_parts
