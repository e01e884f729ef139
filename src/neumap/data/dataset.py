"""Rows of a torch Dataset: whatever ``dataset[i]`` computes, decodes or loads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from neumap.data.disk import flat_file
from neumap.data.moments import dense_row_moments
from neumap.data.rows import Matrix, RowMoments, resolve_row_shape

__all__ = ["DatasetRows"]

READ_ROWS = 1024
IN_MEMORY_BYTES = 2**28  # of all rows, up to which a file is not worth it


class DatasetRows:
    """Rows of a map-style `torch.utils.data.Dataset`.

    Parameters
    ----------
    dataset : Dataset
        Its items are tensors or arrays of one shape, or tuples whose first entry is one, such as
        ``(image, label)``. It must have a length. A dataset with ``__getitems__`` loads a whole
        batch in one call.
    dims : tuple of int, optional
        Shape of one row; by default that of an item.
    device : torch.device or str, default="cpu"
        Where rows are returned.

    Attributes
    ----------
    n_rows, row_shape, n_features, device
        As in `RowStore`.

    Raises
    ------
    TypeError
        If the dataset is iterable-style or has no length, or an item is not an array of numbers.

    Examples
    --------
    >>> pairs = torch.utils.data.TensorDataset(torch.eye(3), torch.tensor([5, 6, 7]))
    >>> rows = DatasetRows(pairs)
    >>> rows.gather(torch.tensor([1]))
    tensor([[0., 1., 0.]])
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        dims: tuple[int, ...] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._dataset: Any = dataset
        self._item_shape = tuple(_row(self._dataset[0]).shape) if _length(dataset) else (0,)
        self.n_rows = _length(dataset)
        self.row_shape = resolve_row_shape(self._item_shape, dims)
        self.n_features = math.prod(self.row_shape)
        self.device = torch.device(device)

    def gather(self, indices: Tensor) -> Tensor:
        """Return the rows with these numbers, float32 (batch, *row_shape)."""
        shape = (len(indices), *self.row_shape)
        numbers = indices.tolist()
        rows = [_row(item) for item in self._items(numbers)]
        if not rows:
            return torch.empty(shape, device=self.device)
        self._check_shapes(rows, numbers)
        return torch.stack(rows).to(self.device).view(shape)

    def slices(self, batch_rows: int) -> Iterator[Tensor]:
        """Yield all rows in order, each slice in new memory."""
        for start in range(0, self.n_rows, batch_rows):
            yield self.gather(torch.arange(start, min(start + batch_rows, self.n_rows)))

    def to_matrix(self) -> Matrix:
        """Read every row into a new float32 array: the neighbour search needs all of them.

        Large ones are written to a temporary file, which is mapped.
        """
        shape, dtype = (self.n_rows, self.n_features), np.dtype(np.float32)
        is_small = 4 * self.n_rows * self.n_features <= IN_MEMORY_BYTES
        matrix = np.empty(shape, dtype) if is_small else flat_file(shape, dtype, "a Dataset")
        for number, rows in enumerate(self.slices(READ_ROWS)):
            start = number * READ_ROWS
            matrix[start : start + len(rows)] = rows.view(len(rows), -1).cpu().numpy()
        return matrix

    def mean_and_scale(
        self, *, max_rows: int = 10_000, seed: int | np.random.Generator = 0
    ) -> RowMoments:
        """Estimate the mean and the scale from a random sample of rows."""
        return dense_row_moments(self, max_rows, seed)

    def _items(self, numbers: list[int]) -> Sequence[Any]:
        if hasattr(self._dataset, "__getitems__"):
            items: Sequence[Any] = self._dataset.__getitems__(numbers)
            return items
        return [self._dataset[number] for number in numbers]

    def _check_shapes(self, rows: list[Tensor], numbers: list[int]) -> None:
        for number, row in zip(numbers, rows, strict=True):
            if tuple(row.shape) != self._item_shape:
                raise ValueError(
                    f"All items of a Dataset must have the shape of the first, {self._item_shape}, "
                    f"got item {number} of shape {tuple(row.shape)}. Crop, pad or resize it in the "
                    "Dataset."
                )


def _length(dataset: Any) -> int:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TypeError(
            "X must be a map-style Dataset with __len__ and __getitem__, since rows are drawn by "
            f"number, got {type(dataset).__name__}. Collect the stream into an array or a "
            "memory-mapped file first."
        )
    return len(dataset)


def _is_pair(item: Any) -> bool:
    """Whether an item is (row, label, ...) rather than a row; a list of numbers is a row."""
    if isinstance(item, list):
        return len(item) > 1 and np.ndim(item[0]) > 0 and np.shape(item[0]) != np.shape(item[1])
    return isinstance(item, tuple) and len(item) > 1


def _row(item: Any) -> Tensor:
    single = isinstance(item, tuple) and len(item) == 1
    row = item[0] if single or _is_pair(item) else item
    if isinstance(row, Tensor):
        return row.detach().to(torch.float32)
    array = np.asarray(row)
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise TypeError(
            "An item of a Dataset must be a tensor or an array of numbers, or a tuple that starts "
            f"with one, got {type(row).__name__}. Convert it in the Dataset."
        )
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
