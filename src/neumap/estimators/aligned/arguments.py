"""Arguments of `AlignedUMAP`: one value or a list with one per data set, and lists of data sets.

A list is told from a single value here, and what does not fit the number of data sets is refused by
its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neumap.data import Validated
from neumap.estimators.constraints import short_text

__all__ = [
    "PER_SET",
    "check_changed",
    "check_columns",
    "check_sets",
    "check_targets",
    "is_list",
    "value_for",
]

# Parameters of a single map, which may be a list with one value per data set.
PER_SET = (
    "n_neighbors",
    "metric",
    "metric_kwds",
    "init",
    "min_dist",
    "spread",
    "set_op_mix_ratio",
    "local_connectivity",
    "repulsion_strength",
    "negative_sample_rate",
    "a",
    "b",
    "target_n_neighbors",
    "target_metric",
    "target_metric_kwds",
    "target_weight",
    "disconnection_distance",
)


def is_list(name: str, value: Any) -> bool:
    """Whether a parameter has one value per data set."""
    if isinstance(value, np.ndarray) and name == "init":
        return False  # one array of positions
    return isinstance(value, list | tuple | range | np.ndarray)


def value_for(name: str, value: Any, number: int, is_changed: bool) -> Any:
    """Return a parameter of one data set."""
    if not is_list(name, value):
        return value
    if number < len(value):
        chosen = value[number]
        return chosen.item() if isinstance(chosen, np.generic) else chosen
    if is_changed:
        return None  # what update was given replaces it
    raise ValueError(
        f"{name} must have a value for each data set, got {len(value)} for data set {number}, "
        f"counted from 0. Add values, or pass {name}=... to update."
    )


def check_sets(sets: Any, name: str) -> list[Any]:
    """Return the data sets of a list; raise ValueError for anything else."""
    is_one = isinstance(sets, np.ndarray) and sets.ndim == 2
    if (
        isinstance(sets, str | bytes | Mapping)
        or is_one
        or not isinstance(sets, Sequence | np.ndarray)
    ):
        raise ValueError(
            f"{name} must be a list of data sets, got {type(sets).__name__}. Put each data set "
            "into the list, in order."
        )
    if len(sets) == 0:
        raise ValueError(f"{name} must hold at least one data set, got none. Pass a list of them.")
    return list(sets)


def check_targets(y: Any, n_sets: int) -> list[Any]:
    """Return the targets of each data set, None for those without."""
    if y is None:
        return [None] * n_sets
    targets = check_sets(y, "y")
    if len(targets) != n_sets:
        raise ValueError(
            f"y must hold one array of targets per data set, {n_sets}, got {len(targets)}. Use "
            "None for a data set without targets."
        )
    return targets


def check_changed(parameters: Mapping[str, Any], has_network: bool) -> None:
    """Raise ValueError for parameters that `update` cannot set for the new data set."""
    unknown = sorted(parameters.keys() - set(PER_SET))
    if unknown or (has_network and parameters):
        allowed = "none with a network" if has_network else f"of {list(PER_SET)}"
        raise ValueError(
            f"Parameters of update must be {allowed}, got {unknown or sorted(parameters)}. Set "
            "others in the constructor."
        )
    for name, value in parameters.items():
        if is_list(name, value):
            raise ValueError(
                f"{name} must be one value in update, which adds one data set, got "
                f"{short_text(value)}. Pass the value of this data set."
            )


def check_columns(data: Validated, n_features: int, number: int) -> None:
    """Raise ValueError if a data set has other columns than the first, with a network."""
    if data.n_features != n_features:
        raise ValueError(
            f"X must have the same columns in all data sets with a network, {n_features}, got "
            f"{data.n_features} in data set {number}. Select the common columns, or set "
            "parametric=False."
        )
