"""Callbacks: watch a training, stop it, keep what it was.

Free of any framework's callback system: the training loop calls the hooks of :class:`Callback`
with a :class:`TrainingRun`.

=========================  ====================================================
:class:`EarlyStopping`     stop when a logged value no longer gets better
:class:`TimeBudget`        stop after a given time
:class:`Checkpoint`        write the trained modules to a file now and then
:class:`Snapshots`         collect copies of the map while it is trained
:class:`ProgressBar`       a bar over the steps, on stderr
:class:`LambdaCallback`    plain functions at the hooks
=========================  ====================================================
"""

from neumap.callbacks.base import Callback, CallbackList, TrainingRun
from neumap.callbacks.checkpoint import Checkpoint, SavedState, load_checkpoint
from neumap.callbacks.stopping import EarlyStopping, TimeBudget
from neumap.callbacks.watching import LambdaCallback, ProgressBar, Snapshot, Snapshots

__all__ = [
    "Callback",
    "CallbackList",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "ProgressBar",
    "SavedState",
    "Snapshot",
    "Snapshots",
    "TimeBudget",
    "TrainingRun",
    "load_checkpoint",
]
