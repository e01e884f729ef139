"""Callbacks: watch a training, stop it, keep what it was.

Free of any framework's callback system; the training loop calls the hooks of
:class:`Callback` with a :class:`TrainingRun`.
"""

from neumap.callbacks.base import Callback, CallbackList, TrainingRun

__all__ = ["Callback", "CallbackList", "TrainingRun"]
