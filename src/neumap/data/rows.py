"""The contract between data and training: a `RowStore` returns rows of ``X`` by number.

Training reads the rows of a batch, transform consecutive slices, and the neighbour search one
matrix. Where the rows are (in memory, on a graphics card, in a sparse matrix, a file or a Dataset)
is known to the store only. Every row that a store returns is float32 and on its device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

__all__ = ["Matrix", "RowMoments", "RowStore", "first_rows", "is_row_store", "resolve_row_shape"]

TRIAL_ROWS = 8

Matrix = NDArray[Any] | sparse.csr_matrix[Any]


class RowMoments(NamedTuple):
    """Location and scale of the rows, for centring and scaling a network's input.

    Attributes
    ----------
    mean : Tensor of shape (n_features,), float32
        Mean of each feature.
    scale : float
        Standard deviation along the first principal component: the one number that brings the
        cloud as a whole to unit size without changing its shape. 1.0 if all rows are equal.
    """

    mean: Tensor
    scale: float


class RowStore(Protocol):
    """Rows of a data set, addressed by their number."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row as the network sees it, such as ``(784,)`` or ``(28, 28, 1)``."""
        ...

    @property
    def n_features(self) -> int:
        """Number of values per row, the product of `row_shape`."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the rows that are returned."""
        ...

    def gather(self, indices: Tensor) -> Tensor:
        """Return the rows with these numbers.

        Parameters
        ----------
        indices : Tensor of shape (batch,), int64
            Row numbers in any order, repeats allowed, on any device.

        Returns
        -------
        Tensor of shape (batch, *row_shape), float32
            In new memory, never a view of the data.
        """
        ...

    def slices(self, batch_rows: int) -> Iterator[Tensor]:
        """Yield all rows in order, `batch_rows` at a time (the last slice may be shorter).

        A slice may be a view of the data: read it, do not write to it.
        """
        ...

    def to_matrix(self) -> Matrix:
        """Return all rows as one matrix (n_rows, n_features), a view where the storage allows it.

        The dtype is that of the storage, which need not be float32.
        """
        ...

    def mean_and_scale(
        self, *, max_rows: int = 10_000, seed: int | np.random.Generator = 0
    ) -> RowMoments:
        """Estimate the mean and the scale from a random sample of rows.

        Parameters
        ----------
        max_rows : int, default=10_000
            Largest size of the sample; 10,000 rows give the scale to about 1 %. All rows are used
            if there are no more than that.
        seed : int or numpy.random.Generator, default=0
            Decides which rows are drawn.
        """
        ...


def first_rows(rows: RowStore, number: int = TRIAL_ROWS) -> Tensor:
    """Return the first rows, those of short data several times, to try a network on."""
    return rows.gather(torch.arange(number) % rows.n_rows)


def is_row_store(X: Any) -> TypeGuard[RowStore]:
    """Whether `X` has the methods of a `RowStore`.

    Looks at the class alone: reading attributes of arbitrary data may raise or cost time.
    """
    methods = ("gather", "slices", "to_matrix", "mean_and_scale")
    return all(callable(getattr(type(X), name, None)) for name in methods)


def resolve_row_shape(
    stored_shape: tuple[int, ...], dims: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the shape of one row for the network, from its stored shape and the user's `dims`.

    Flat rows take any `dims` of the same number of elements. Rows that already have axes may only
    gain or lose axes of length one: reshaping ``(3, 28, 28)`` to ``(28, 28, 3)`` would scramble the
    image rather than transpose it.

    Raises
    ------
    ValueError
        If the rows cannot have this shape.

    Examples
    --------
    >>> resolve_row_shape((784,), (28, 28, 1))
    (28, 28, 1)
    >>> resolve_row_shape((28, 28), None)
    (28, 28)
    """
    if dims is None:
        return stored_shape
    wanted = tuple(int(length) for length in dims)
    if len(stored_shape) == 1 and math.prod(wanted) == stored_shape[0]:
        return wanted
    if _without_unit_axes(stored_shape) == _without_unit_axes(wanted):
        return wanted
    n_elements = math.prod(stored_shape)
    raise ValueError(
        f"dims must fit the rows of X, which have shape {stored_shape} ({n_elements} values), got "
        f"{wanted} ({math.prod(wanted)} values). Pass dims whose product is {n_elements} for flat "
        "rows, or transpose X so that its rows have the shape of dims."
    )


def _without_unit_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
