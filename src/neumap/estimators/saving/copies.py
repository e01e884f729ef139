"""Copies of estimators that hold Keras objects.

Keras copies a model by writing and reading it, which fails for subclassed models without
``get_config``; the bridge's own way does not need it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from neumap.keras_bridge import copy_keras, is_keras_loss, is_keras_model, is_keras_optimizer

__all__ = ["SETTINGS", "cloned", "deeply_copied", "settings_of"]

# What else scikit-learn's own clone takes along.
SETTINGS = ("_metadata_request", "_sklearn_output_config")


def cloned(estimator: Any) -> Any:
    """Return an unfitted estimator with copies of the parameters, as ``sklearn.clone`` does."""
    parameters = estimator.get_params(deep=False)
    copies = {name: _cloned_value(value) for name, value in parameters.items() if name != "guide"}
    if "guide" in parameters:
        copies["guide"] = parameters["guide"]  # a guide is fitted, which a clone would not be
    new = type(estimator)(**copies)
    vars(new).update(copy.deepcopy(settings_of(vars(estimator))))
    return new


def settings_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the attributes of an estimator that are settings of scikit-learn."""
    return {name: attributes[name] for name in SETTINGS if name in attributes}


def deeply_copied(estimator: Any, memo: dict[int, Any]) -> Any:
    """Return a copy that shares nothing with the estimator, as ``copy.deepcopy`` does."""
    new: Any = object.__new__(type(estimator))
    memo[id(estimator)] = new
    memo |= {id(v): copy_keras(v) for v in vars(estimator).values() if _is_of_keras(v)}
    vars(new).update(copy.deepcopy(vars(estimator), memo))
    return new


def _cloned_value(value: Any) -> Any:
    return copy_keras(value) if _is_of_keras(value) else clone(value, safe=False)


def _is_of_keras(value: Any) -> bool:
    return is_keras_model(value) or is_keras_optimizer(value) or is_keras_loss(value)
