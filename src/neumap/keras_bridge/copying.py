"""Copy any Keras object, weights and all, without asking it for a config.

Keras copies a model by writing it to a file and reading it back. That needs ``get_config``, which
subclassed models often lack, and where Keras guesses it, the guess can have other layer sizes than
the model. Here the object graph itself is copied, so a copy is what the original is: built or
unbuilt, with the same seeds of its initializers.

Python's ``copy.deepcopy`` does the work; this file tells it the four things about Keras objects
that it cannot know, see :func:`copy_keras`.
"""

from __future__ import annotations

import copy
import gc
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from torch import Tensor

__all__ = ["copy_keras"]

T = TypeVar("T")

# Closures over the object, made anew by its constructor; a copied one would act on the original.
_BOUND_TO_THE_OBJECT = frozenset({"build", "quantize"})
_TRACKED = ("TrackedList", "TrackedDict", "TrackedOrderedDict", "TrackedSet")
_COMPILED_FUNCTIONS = ("train_function", "test_function", "predict_function")


def copy_keras(obj: T) -> T:
    """Deep copy of a Keras model, layer, optimizer or callback that shares no state with it.

    The original is left as it is. Modules, classes and functions are shared.
    """
    reached = _reachable(obj)
    savables = [o for o in reached if _is_a(o, "KerasSaveable")]
    containers = [o for o in reached if _is_a(o, *_TRACKED)]
    # 1. A module, as some layers hold one, is itself in every copy.
    #    Preprocessing layers hold a stand-in for one, which cannot be copied.
    memo: dict[int, Any] = {
        id(o): o for o in reached if isinstance(o, ModuleType) or _is_a(o, "DynamicBackend")
    }
    # 2. Keras's own way to copy is avoided: empty objects first, so that all references among
    #    them find the new ones, and their content after that.
    memo |= {id(o): _empty_like(o) for o in (*savables, *containers)}
    for savable in savables:
        state = {k: v for k, v in vars(savable).items() if k not in _BOUND_TO_THE_OBJECT}
        state |= {name: None for name in _COMPILED_FUNCTIONS if name in state}
        vars(memo[id(savable)]).update(copy.deepcopy(state, memo))
    # 3. Lists that tell their layer of what they get must not tell it again.
    for container in containers:
        _fill(memo[id(container)], container, memo)
    # 4. Where Keras keeps ids of objects, they must become the ids of the copies.
    copied = copy.deepcopy(obj, memo)
    for original in reached:
        if id(original) in memo:
            _renew_ids(memo[id(original)], memo)
    return copied


def _reachable(root: object) -> list[Any]:
    """All objects that ``root`` holds, itself included; not through classes, modules, tensors."""
    seen: dict[int, object] = {}  # keeps the objects, so that no id is given twice
    waiting: list[object] = [root]
    while waiting:
        obj = waiting.pop()
        if id(obj) in seen or isinstance(obj, (type, Tensor)):
            continue
        seen[id(obj)] = obj
        if isinstance(obj, FunctionType):  # not its globals: they hold everything
            waiting.extend(cell.cell_contents for cell in obj.__closure__ or ())
        elif not isinstance(obj, ModuleType):
            waiting.extend(gc.get_referents(obj))
    return list(seen.values())


def _empty_like(obj: Any) -> Any:
    kind: Any = type(obj)
    return kind.__new__(kind)


def _fill(new: Any, original: Any, memo: dict[int, Any]) -> None:
    new.tracker = None  # tells no layer of what it gets
    if isinstance(original, list):
        new.extend(copy.deepcopy(list(original), memo))
    else:
        new.update(copy.deepcopy(original.__class__.__base__(original), memo))
    vars(new).update(copy.deepcopy(vars(original), memo))


def _renew_ids(new: Any, memo: dict[int, Any]) -> None:
    def renewed(old_id: int) -> int:
        return id(memo[old_id]) if old_id in memo else old_id

    if _is_a(new, "Tracker"):  # what each list of a layer holds
        new.stored_ids = {
            name: {renewed(i) for i in stored} for name, stored in new.stored_ids.items()
        }
    elif _is_a(new, "Function"):  # nodes of a functional model, as "<id of the operation>_ib-<n>"
        keys = [key.partition("_ib-") for key in new._nodes]
        vars(new)["_nodes"] = {f"{renewed(int(op))}{ib}{n}" for op, ib, n in keys}
    elif _is_a(new, "BaseOptimizer"):  # place of each variable
        indices = new._trainable_variables_indices
        vars(new)["_trainable_variables_indices"] = {renewed(i): n for i, n in indices.items()}


def _is_a(obj: object, *names: str) -> bool:
    return any(
        base.__name__ in names and base.__module__.partition(".")[0] == "keras"
        for base in type(obj).__mro__
    )
