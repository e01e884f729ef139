"""Keras 3 objects in a torch training, on Keras's torch backend.

==========================  ========================================================
:func:`as_module`           a Keras model as a torch module (a copy of it)
:func:`optimizer_factory`   a Keras optimizer that steps torch parameters
:func:`loss_function`       a Keras loss of torch tensors
:class:`KerasCallbacks`     Keras callbacks at the hooks of neumap's training
:func:`split_fit_kwargs`    ``keras_fit_kwargs`` taken apart
:func:`copy_keras`          a copy of any Keras object, subclassed models included
``is_keras_*``              what an object is, without importing Keras
==========================  ========================================================

Keras is imported where a Keras object is really used, and must run on torch then.
"""

from neumap.keras_bridge.callbacks import KerasCallbacks
from neumap.keras_bridge.copying import copy_keras
from neumap.keras_bridge.detect import (
    is_keras_callback,
    is_keras_loss,
    is_keras_model,
    is_keras_optimizer,
)
from neumap.keras_bridge.fit_kwargs import FitOptions, split_fit_kwargs, wrap_callbacks
from neumap.keras_bridge.loss import KerasLoss, loss_function
from neumap.keras_bridge.module import KerasModule, as_module
from neumap.keras_bridge.optimizer import KerasOptimizer, optimizer_factory

__all__ = [
    "FitOptions",
    "KerasCallbacks",
    "KerasLoss",
    "KerasModule",
    "KerasOptimizer",
    "as_module",
    "copy_keras",
    "is_keras_callback",
    "is_keras_loss",
    "is_keras_model",
    "is_keras_optimizer",
    "loss_function",
    "optimizer_factory",
    "split_fit_kwargs",
    "wrap_callbacks",
]
