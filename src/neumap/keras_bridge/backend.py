"""Get Keras on its torch backend, or say what to do.

Keras chooses its backend once, when it is imported. Only with the torch backend are its
variables torch parameters and its operations differentiable by torch.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch

from neumap._optional import require

__all__ = ["global_random_state_kept", "keras_on_torch"]


def keras_on_torch() -> ModuleType:
    """Return the ``keras`` module, running on torch.

    Where nothing has imported Keras and no backend is chosen, this chooses torch for the process.

    Raises
    ------
    ImportError
        If Keras is missing or older than version 3.
    RuntimeError
        If Keras runs, or is told to run, on another backend.
    """
    if "keras" not in sys.modules:
        # An earlier word than Keras's own default, which is TensorFlow.
        _check_backend(os.environ.setdefault("KERAS_BACKEND", "torch"))
    keras = require("keras", extra="keras")
    if int(keras.__version__.partition(".")[0]) < 3:
        raise ImportError(
            f"Expected Keras 3, came Keras {keras.__version__}, which runs on TensorFlow only. "
            'Install it with: pip install "neumap[keras]"'
        )
    _check_backend(keras.config.backend())
    return keras


def _check_backend(backend: str) -> None:
    if backend != "torch":
        raise RuntimeError(
            f"Expected Keras on its torch backend, came the backend {backend!r}. Set the "
            "environment variable KERAS_BACKEND=torch before keras is imported first: in the "
            'shell, or with os.environ["KERAS_BACKEND"] = "torch" as the first lines of the '
            "program; then start Python again."
        )


@contextmanager
def global_random_state_kept() -> Iterator[None]:
    """Give back the global random states as they were.

    A Keras layer without a seed takes one from Python's global generator when it is made, and
    subclassed models may make layers while they are built.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state to keep
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
