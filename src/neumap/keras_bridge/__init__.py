"""Keras 3 objects in a torch training, on Keras's torch backend.

===============================  ===============================================
:class:`KerasModule`             a copy of a Keras model as a torch module
:func:`keras_optimizer_factory`  a Keras optimizer for torch parameters
:func:`loss_function`            a Keras loss of torch tensors
:class:`KerasCallbacks`          Keras callbacks in neumap's training
:func:`split_fit_kwargs`         the parts of ``keras_fit_kwargs``
:func:`copy_keras`               a copy of any Keras object
``is_keras_*``                   type checks that do not import Keras
===============================  ===============================================

Keras is only imported when a Keras object is used, and must then run on torch.
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
from neumap.keras_bridge.module import KerasModule
from neumap.keras_bridge.optimizer import KerasOptimizer, keras_optimizer_factory

__all__ = [
    "FitOptions",
    "KerasCallbacks",
    "KerasLoss",
    "KerasModule",
    "KerasOptimizer",
    "copy_keras",
    "is_keras_callback",
    "is_keras_loss",
    "is_keras_model",
    "is_keras_optimizer",
    "keras_optimizer_factory",
    "loss_function",
    "split_fit_kwargs",
    "wrap_callbacks",
]
