"""A SciPy CSR matrix as four plain arrays and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from neumap.archive._errors import ArchiveError

__all__ = ["pack_csr", "unpack_csr"]

_PARTS = ("data", "indices", "indptr", "shape")


def pack_csr(matrix: Any, name: str) -> dict[str, np.ndarray]:
    """Split a sparse matrix into arrays that :func:`write_archive` takes.

    Parameters
    ----------
    matrix : scipy.sparse matrix or array
        Formats other than CSR are converted.
    name : str
        Prefix of the keys ``name.data``, ``name.indices``, ``name.indptr`` and ``name.shape``.

    Examples
    --------
    >>> sorted(pack_csr(sparse.eye(3), "graph"))
    ['graph.data', 'graph.indices', 'graph.indptr', 'graph.shape']
    """
    csr: Any = sparse.csr_matrix(matrix)  # the stubs know less of it than is documented
    parts = (csr.data, csr.indices, csr.indptr, np.asarray(csr.shape, dtype=np.int64))
    return {f"{name}.{part}": array for part, array in zip(_PARTS, parts, strict=True)}


def unpack_csr(tensors: Mapping[str, Any], name: str) -> sparse.csr_matrix:
    """Put the matrix of :func:`pack_csr` together again, equal to the bit.

    Raises
    ------
    ArchiveError
        If an array is missing, or the arrays are not those of a CSR matrix.
    """
    missing = [f"{name}.{part}" for part in _PARTS if f"{name}.{part}" not in tensors]
    if missing:
        raise ArchiveError(
            f"Expected the sparse matrix {name!r}, but there is no {', '.join(missing)}. "
            "Write it with pack_csr, or ask for a name that is in the archive."
        )
    data, indices, indptr, (n_rows, n_columns) = (tensors[f"{name}.{part}"] for part in _PARTS)
    try:
        matrix = sparse.csr_matrix((data, indices, indptr), shape=(int(n_rows), int(n_columns)))
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise ArchiveError(
            f"Expected the arrays of {name!r} to form a CSR matrix; they do not: {error}. "
            "The file was changed after it was written: use another copy of it."
        ) from error
    return matrix
