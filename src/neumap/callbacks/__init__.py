"""Callbacks: observe a training, stop it, save its state.

They do not depend on another framework's callbacks: the training loop calls the hooks of
:class:`Callback` with a :class:`TrainingRun`.

=========================  =======================================================
:class:`EarlyStopping`     stop when a logged value no longer improves
:class:`TimeBudget`        stop after a given time
:class:`Checkpoint`        write the state to a file, from which a fit can go on
:class:`Snapshots`         keep copies of the embedding during training
:class:`ProgressBar`       show a progress bar on stderr
:class:`ScalarLogger`      hand losses to TensorBoard, MLflow, W&B or any function
:class:`LambdaCallback`    call plain functions at the hooks
=========================  =======================================================
"""

from neumap.callbacks.base import Callback, CallbackList, TrainingRun
from neumap.callbacks.checkpoint import Checkpoint, SavedState, load_checkpoint
from neumap.callbacks.stopping import EarlyStopping, TimeBudget
from neumap.callbacks.watching import (
    LambdaCallback,
    ProgressBar,
    ScalarLogger,
    Snapshot,
    Snapshots,
)

__all__ = [
    "Callback",
    "CallbackList",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "ProgressBar",
    "SavedState",
    "ScalarLogger",
    "Snapshot",
    "Snapshots",
    "TimeBudget",
    "TrainingRun",
    "load_checkpoint",
]
