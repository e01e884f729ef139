"""Recognise kinds of data without importing the optional packages that define them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from torch.utils.data import Dataset

__all__ = ["is_a", "is_dataset", "is_on_disk", "is_row_files"]


def is_a(X: Any, module: str, name: str) -> bool:
    """Whether `X` is of a class of an optional package, without importing that package."""
    loaded = sys.modules.get(module)  # an instance exists only if its module was imported
    return loaded is not None and isinstance(X, getattr(loaded, name, ()))


def is_dataset(X: Any) -> bool:
    """Whether `X` is a torch Dataset of either style."""
    return isinstance(X, Dataset)


def is_on_disk(X: Any) -> bool:
    """Whether `X` is an array in a file: np.memmap, h5py.Dataset, zarr.Array or `RowFiles`.

    Arithmetic on a memmap gives an array of that class without a file; it does not count.
    """
    if isinstance(X, np.memmap):
        return X.filename is not None
    return is_a(X, "h5py", "Dataset") or is_a(X, "zarr", "Array") or is_row_files(X)


def is_row_files(X: Any) -> bool:
    """Whether `X` is what `open_rows` returns."""
    return is_a(X, "neumap.data.shards", "RowFiles")
