"""Import Keras on its torch backend, or say what to do.

Keras chooses its backend once, when it is imported. Its variables are torch parameters, and its
operations differentiable by torch, only with the torch backend.
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

    If Keras is not imported yet and no backend is set, this sets torch for the process.

    Raises
    ------
    ImportError
        If Keras is missing or older than version 3.
    RuntimeError
        If Keras runs on another backend, or another one is set.
    """
    if "keras" not in sys.modules:
        # Before Keras chooses its own default, which is TensorFlow.
        _check_backend(os.environ.setdefault("KERAS_BACKEND", "torch"))
    keras = require("keras", extra="keras")
    if int(keras.__version__.partition(".")[0]) < 3:
        raise ImportError(
            f"Keras must be version 3, got Keras {keras.__version__}, which only runs on "
            'TensorFlow. Install it with: pip install "neumap[keras]"'
        )
    _check_backend(keras.config.backend())
    return keras


def _check_backend(backend: str) -> None:
    if backend != "torch":
        raise RuntimeError(
            f"The backend of Keras must be 'torch', got {backend!r}. Set the environment variable "
            "KERAS_BACKEND=torch before the first import of keras, either in the shell or with "
            'os.environ["KERAS_BACKEND"] = "torch" in the first lines of the program. Then start '
            "Python again."
        )


@contextmanager
def global_random_state_kept() -> Iterator[None]:
    """Restore the global random states after the block.

    A Keras layer without a seed draws one from Python's global generator when it is created, and
    subclassed models may create layers while they are built.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state to restore
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
