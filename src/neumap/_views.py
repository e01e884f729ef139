"""Tensors that share the memory of numpy arrays."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["tensor_view"]


def tensor_view(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the memory of an array, which may be read-only.

    The caller must not write to the tensor: torch cannot mark it read-only, and warns about that.

    Examples
    --------
    >>> import numpy as np
    >>> constant = np.ones(2, dtype=np.float32)
    >>> constant.flags.writeable = False
    >>> tensor_view(constant)
    tensor([1., 1.])
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
