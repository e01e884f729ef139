"""What each constructor parameter may be, and the check of a whole set of parameters.

A class lists its parameters in a table, from name to the kinds of values that are allowed. What
depends on more than one parameter is checked where the parameters are used (``recipe``).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = [
    "ANYTHING",
    "ARGUMENTS",
    "ARRAY",
    "FUNCTION",
    "GENERATOR",
    "NAME",
    "NONE",
    "N_JOBS",
    "SHAPE",
    "SWITCH",
    "Allowed",
    "Constraints",
    "Kind",
    "Number",
    "Whole",
    "Word",
    "check_parameter",
    "check_parameters",
    "short_text",
]


class Allowed(Protocol):
    """One kind of value that a parameter may have."""

    @property
    def text(self) -> str:
        """What the value must be, to follow "must be"."""
        ...

    def __contains__(self, value: Any) -> bool: ...


Constraints = Mapping[str, tuple[Allowed, ...]]


@dataclass(frozen=True)
class Number:
    """A finite real number of at least `low` (above it, if `above`) and at most `high`."""

    low: float = 0.0
    high: float | None = None
    above: bool = False

    @property
    def text(self) -> str:
        """What the value must be."""
        if self.high is not None:
            return f"a number between {self.low} and {self.high}"
        return f"a number {'above' if self.above else 'at least'} {self.low}"

    def __contains__(self, value: Any) -> bool:
        is_real = isinstance(value, int | float | np.integer | np.floating)
        if isinstance(value, bool) or not is_real:
            return False
        try:
            number = float(value)
        except OverflowError:  # an int beyond the range of floats
            return False
        if not math.isfinite(number) or number < self.low:
            return False
        return not (self.above and number == self.low) and (
            self.high is None or number <= self.high
        )


@dataclass(frozen=True)
class Whole:
    """An integer of at least `low`, or one of `others`."""

    low: int
    others: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What the value must be."""
        return f"an integer of at least {self.low}" + "".join(f", or {o}" for o in self.others)

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
            return False
        return int(value) >= self.low or int(value) in self.others


@dataclass(frozen=True)
class Word:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """What the value must be."""
        return f"one of {list(self.words)}"

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words


@dataclass(frozen=True)
class Kind:
    """A value that the function `accepts` takes; `text` says which values these are."""

    text: str
    accepts: Callable[[Any], bool]

    def __contains__(self, value: Any) -> bool:
        return self.accepts(value)


def _is_arguments(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_shape(value: Any) -> bool:
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return is_sequence and len(value) > 0 and all(size in Whole(1) for size in value)


def _is_array(value: Any) -> bool:
    return isinstance(value, list) or hasattr(value, "__array__")


def _is_generator(value: Any) -> bool:
    return isinstance(value, np.random.Generator | np.random.RandomState)


NONE = Kind("None", lambda value: value is None)
NAME = Kind("a name", lambda value: isinstance(value, str))
# A class makes an object of its arguments, which is no number: mostly its parentheses are missing.
FUNCTION = Kind("a function", lambda value: callable(value) and not isinstance(value, type))
# numpy's bool comes out of comparisons and parameter grids.
SWITCH = Kind("True or False", lambda value: isinstance(value, bool | np.bool_))
ARGUMENTS = Kind("a dict of arguments", _is_arguments)
N_JOBS = Kind("a positive integer, or -1 for all cores", lambda n: n in Whole(1, others=(-1,)))
SHAPE = Kind("a tuple of positive integers", _is_shape)
ARRAY = Kind("an array (n_samples, n_components)", _is_array)
GENERATOR = Kind("a numpy generator", _is_generator)
# Checked by the room that uses it, which knows what it may be.
ANYTHING = Kind("anything", lambda value: True)


def check_parameters(parameters: Mapping[str, Any], constraints: Constraints) -> None:
    """Check every parameter of a table.

    Raises
    ------
    ValueError
        Naming the parameter, what it may be and what it is.
    """
    for name, allowed in constraints.items():
        check_parameter(name, parameters[name], *allowed)


def check_parameter(name: str, value: Any, *allowed: Allowed) -> None:
    """Check one value.

    Raises
    ------
    ValueError
        If it is of none of the allowed kinds.
    """
    if not any(value in kind for kind in allowed):
        texts = ", or ".join(kind.text for kind in allowed)
        raise ValueError(f"{name} must be {texts}, got {short_text(value)}. Change {name}.")


def short_text(value: object) -> str:
    """Return a representation that fits into a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
