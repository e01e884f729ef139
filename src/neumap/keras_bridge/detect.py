"""Recognise Keras objects without importing Keras.

A Keras object has a Keras base class, so the names in its type's method resolution order are
enough. Importing Keras for ``isinstance`` would take seconds, also for users without Keras.
"""

from __future__ import annotations

__all__ = ["is_keras_callback", "is_keras_loss", "is_keras_model", "is_keras_optimizer"]


def is_keras_model(obj: object) -> bool:
    """Whether ``obj`` is a Keras model or a single Keras layer, of any backend."""
    return _has_keras_base(obj, "Layer")


def is_keras_optimizer(obj: object) -> bool:
    """Whether ``obj`` is a Keras optimizer."""
    return _has_keras_base(obj, "BaseOptimizer")


def is_keras_loss(obj: object) -> bool:
    """Whether ``obj`` is a Keras loss object, or a loss function of Keras's own."""
    if _has_keras_base(obj, "Loss"):
        return True
    module = getattr(obj, "__module__", None) or ""
    return callable(obj) and not isinstance(obj, type) and module.startswith("keras.src.losses")


def is_keras_callback(obj: object) -> bool:
    """Whether ``obj`` is a Keras callback."""
    return _has_keras_base(obj, "Callback")


def _has_keras_base(obj: object, name: str) -> bool:
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == "keras"
        for base in type(obj).__mro__
    )
