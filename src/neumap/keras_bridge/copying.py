"""Copy any Keras object with its weights, without ``get_config``.

Keras copies a model by writing it to a file and reading it back. This needs ``get_config``, which
subclassed models often lack. If Keras infers it, the layer sizes can differ from those of the
model. Here the object graph itself is copied, so the copy is in the same state as the original:
built or unbuilt, with the same seeds of its initializers.

Python's ``copy.deepcopy`` does the work. This module handles five properties of Keras objects that
``deepcopy`` does not know, see :func:`copy_keras`.
"""

from __future__ import annotations

import copy
import gc
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from torch import Tensor

__all__ = ["copy_keras"]

T = TypeVar("T")

# Closures over the object that its constructor creates; a copied one would act on the original.
_BOUND_TO_THE_OBJECT = frozenset({"build", "quantize"})
_TRACKED = ("TrackedList", "TrackedDict", "TrackedOrderedDict", "TrackedSet")
_COMPILED_FUNCTIONS = ("train_function", "test_function", "predict_function")


def copy_keras(obj: T) -> T:
    """Deep copy of a Keras model, layer, optimizer or callback that shares no state with it.

    The original stays unchanged. Modules, classes and functions are shared.
    """
    reached = _reachable(obj)
    savables = [o for o in reached if _is_a(o, "KerasSaveable")]
    containers = [o for o in reached if _is_a(o, *_TRACKED)]
    # 1. Modules, which some layers hold, are shared by all copies. So are the stand-ins for modules
    #    in preprocessing layers, which cannot be copied.
    memo: dict[int, Any] = {
        id(o): o for o in reached if isinstance(o, ModuleType) or _is_a(o, "DynamicBackend")
    }
    # 2. Keras's own way of copying is avoided. Empty objects are created first, so that all
    #    references among them refer to the new ones. Their content is copied after that.
    memo |= {id(o): _empty_like(o) for o in (*savables, *containers)}
    for savable in savables:
        state = {k: v for k, v in vars(savable).items() if k not in _BOUND_TO_THE_OBJECT}
        state |= {name: None for name in _COMPILED_FUNCTIONS if name in state}
        # 3. Losses of the latest call are part of its autograd graph, which cannot be copied.
        state |= {"_losses": []} if "_losses" in state else {}
        vars(memo[id(savable)]).update(copy.deepcopy(state, memo))
    # 4. Lists that report new items to their layer must not report them again.
    for container in containers:
        _fill(memo[id(container)], container, memo)
    # 5. Where Keras stores ids of objects, they must be replaced by the ids of the copies.
    copied = copy.deepcopy(obj, memo)
    for original in reached:
        if id(original) in memo:
            _renew_ids(memo[id(original)], memo)
    return copied


def _reachable(root: object) -> list[Any]:
    """Return ``root`` and all objects that it refers to, except through classes and tensors."""
    seen: dict[int, object] = {}  # keeps the objects alive, so that no id is used twice
    waiting: list[object] = [root]
    while waiting:
        obj = waiting.pop()
        if id(obj) in seen or isinstance(obj, (type, Tensor)):
            continue
        seen[id(obj)] = obj
        if isinstance(obj, FunctionType):  # not its globals, which refer to everything
            waiting.extend(cell.cell_contents for cell in obj.__closure__ or ())
        elif not isinstance(obj, ModuleType):
            waiting.extend(gc.get_referents(obj))
    return list(seen.values())


def _empty_like(obj: Any) -> Any:
    kind: Any = type(obj)
    return kind.__new__(kind)


def _fill(new: Any, original: Any, memo: dict[int, Any]) -> None:
    new.tracker = None  # does not report new items
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
