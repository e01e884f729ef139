"""Data: what may come in, and how training gets its rows.

`check_input` takes what the user passed and says whether it can be embedded; `as_rows` wraps it in
a `RowStore`, which hands out rows by number without ever copying the whole data set.
"""

from neumap.data.choose import as_rows
from neumap.data.dense import DenseRows
from neumap.data.rows import RowMoments, RowStore
from neumap.data.sparse import SparseRows

__all__ = ["DenseRows", "RowMoments", "RowStore", "SparseRows", "as_rows"]
