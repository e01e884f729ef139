"""Data: what users may pass, and how training reads its rows.

`check_input` checks what the user passed, and `as_rows` wraps it in a `RowStore`, which returns
rows by number and never copies the whole data set. `take`, `stack`, `same`, `like`, `distinct`
and `row_count` work on all rows of what `check_input` returned.
"""

from neumap.data.anndata import embed_anndata
from neumap.data.choose import as_rows
from neumap.data.combine import DistinctRows, distinct, like, row_count, same, stack, take
from neumap.data.dataset import DatasetRows
from neumap.data.dense import DenseRows
from neumap.data.disk import MemmapRows
from neumap.data.finite import find_non_finite
from neumap.data.rows import RowMoments, RowStore, first_rows
from neumap.data.shards import RowFiles, open_rows
from neumap.data.sparse import CsrRows
from neumap.data.validate import Validated, check_input

__all__ = [
    "CsrRows",
    "DatasetRows",
    "DenseRows",
    "DistinctRows",
    "MemmapRows",
    "RowFiles",
    "RowMoments",
    "RowStore",
    "Validated",
    "as_rows",
    "check_input",
    "distinct",
    "embed_anndata",
    "find_non_finite",
    "first_rows",
    "like",
    "open_rows",
    "row_count",
    "same",
    "stack",
    "take",
]
