"""The rows of a batch, for terms that compare positions with data."""

from __future__ import annotations

from torch import Tensor

from neumap.data import RowStore
from neumap.losses.terms import Batch

__all__ = ["rows_of"]


def rows_of(batch: Batch, store: RowStore | None, term: str) -> Tensor:
    """Return the rows an encoder was given, or, beside a free table, those of the store."""
    if batch.rows is not None:
        return batch.rows
    if store is None:
        raise ValueError(
            f"{term} needs the rows of the batch, but a free table has none. "
            "Pass rows=, the row store of X."
        )
    return store.gather(batch.indices)
