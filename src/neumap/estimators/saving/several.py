"""What a fit of several data sets learned, as one node, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neumap.archive import ArchiveError
from neumap.archive.schema import misfit
from neumap.estimators.aligned.learned import AlignedFitted
from neumap.estimators.constraints import Whole
from neumap.estimators.fitted import Fitted
from neumap.estimators.saving.nodes import Node, NotStorableError, Packer, Unpacker

__all__ = ["pack_aligned", "part_nodes", "unpack_aligned"]

FIELDS = ("sizes", "relations", "changed", "history", "report")


def pack_aligned(
    aligned: AlignedFitted, packer: Packer, pack_part: Callable[[Fitted, str], dict[str, Node]]
) -> Node:
    """Return the node of several maps.

    Parameters
    ----------
    aligned : AlignedFitted
    packer : Packer
    pack_part : callable
        Returns the nodes of the model of one data set, whose tensors have a prefix.

    Raises
    ------
    ArchiveError
        If a parameter that ``update`` was given cannot be in a file.
    """
    parts: list[Node] = [
        {"dict": pack_part(part, f"parts.{number}.")} for number, part in enumerate(aligned.parts)
    ]
    try:
        known = {name: packer.pack(_plain(getattr(aligned, name)), name) for name in FIELDS}
    except NotStorableError as reason:
        raise ArchiveError(
            f"Parameters of update must be values that a file can hold, got others: {reason}. Use "
            "a metric by its name."
        ) from None
    return {"dict": {"parts": {"list": parts}, **known}}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def part_nodes(node: Node) -> list[Mapping[str, Node]]:
    """Return the nodes of the model of each data set.

    Raises
    ------
    ArchiveError
        If the node is not one of several maps.
    """
    fields = node.get("dict")
    if not isinstance(fields, dict) or fields.keys() != {"parts", *FIELDS}:
        raise misfit("aligned", f"a dict of parts, {', '.join(FIELDS)}", "another")
    parts = fields["parts"].get("list")
    if not isinstance(parts, list) or not all(isinstance(p.get("dict"), dict) for p in parts):
        raise misfit("aligned.parts", "a list of models", "another")
    return [part["dict"] for part in parts]


def unpack_aligned(
    node: Node, unpacker: Unpacker, unpack_part: Callable[[Mapping[str, Node]], Fitted]
) -> AlignedFitted:
    """Return several maps from their node.

    Raises
    ------
    ArchiveError
        If they do not fit together.
    """
    parts = tuple(unpack_part(part) for part in part_nodes(node))
    values = {name: unpacker.unpack(node["dict"][name], name) for name in FIELDS}
    for name in ("sizes", "relations", "changed"):
        if not isinstance(values[name], list):
            raise misfit(name, "a list", values[name])
        values[name] = tuple(values[name])
    aligned = AlignedFitted(parts, **values)
    _check(aligned)
    return aligned


def _check(aligned: AlignedFitted) -> None:
    sizes = aligned.sizes
    if not sizes or not all(size in Whole(1) for size in sizes):
        raise misfit("sizes", "whole numbers of at least 1", list(sizes))
    _check_parts(aligned)
    _check_relations(aligned.relations, sizes)
    if len(aligned.changed) != len(sizes) or not all(isinstance(c, dict) for c in aligned.changed):
        raise misfit("changed", f"{len(sizes)} dicts", list(aligned.changed))
    for name in ("history", "report"):
        if not isinstance(getattr(aligned, name), dict):
            raise misfit(name, "a dict", getattr(aligned, name))


def _check_parts(aligned: AlignedFitted) -> None:
    is_shared = len(aligned.parts) == 1 and aligned.parts[0].encoder is not None
    wanted = [sum(aligned.sizes)] if is_shared else list(aligned.sizes)
    found = [None if p.embedding is None else len(p.embedding) for p in aligned.parts]
    if found != wanted:
        raise misfit("parts", f"models of {wanted} rows", found)
    if not is_shared and any(part.encoder is not None for part in aligned.parts):
        raise misfit("parts", "one model where there is a network", len(aligned.parts))


def _check_relations(relations: Sequence[Any], sizes: Sequence[int]) -> None:
    if len(relations) != len(sizes) - 1:
        raise misfit("relations", f"{len(sizes) - 1} arrays", len(relations))
    for relation, n_from, n_to in zip(relations, sizes[:-1], sizes[1:], strict=True):
        is_array = isinstance(relation, np.ndarray) and relation.dtype == np.int64
        if not is_array or relation.shape != (n_from,):
            raise misfit("relations", f"an array of {n_from} row numbers", relation)
        if len(relation) and not (relation.min() >= -1 and relation.max() < n_to):
            raise misfit("relations", f"row numbers from -1 to {n_to - 1}", "others")
