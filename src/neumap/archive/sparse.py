"""A SciPy CSR matrix as four plain arrays and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neumap.archive.errors import ArchiveError

__all__ = ["PARTS", "pack_csr", "unpack_csr"]

PARTS = ("data", "indices", "indptr", "shape")


def pack_csr(matrix: Any, name: str) -> dict[str, NDArray[Any]]:
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
    csr: Any = sparse.csr_matrix(matrix)  # the stubs lack documented attributes
    parts = (csr.data, csr.indices, csr.indptr, np.asarray(csr.shape, dtype=np.int64))
    return {f"{name}.{part}": array for part, array in zip(PARTS, parts, strict=True)}


def unpack_csr(tensors: Mapping[str, Any], name: str) -> sparse.csr_matrix:
    """Rebuild the matrix of :func:`pack_csr`, equal to the bit.

    Raises
    ------
    ArchiveError
        If an array is missing, or the arrays are not those of a CSR matrix.
    """
    missing = [f"{name}.{part}" for part in PARTS if f"{name}.{part}" not in tensors]
    if missing:
        raise ArchiveError(
            f"The sparse matrix {name!r} must have four arrays, got no {', '.join(missing)}. "
            "Write it with pack_csr, or ask for a name that is in the archive."
        )
    data, indices, indptr, shape = (tensors[f"{name}.{part}"] for part in PARTS)
    try:
        n_rows, n_columns = _checked(data, indices, indptr, shape)
        matrix = sparse.csr_matrix((data, indices, indptr), shape=(n_rows, n_columns))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise ArchiveError(
            f"The arrays of {name!r} must form a CSR matrix, got others: {error}. "
            "The file was changed after it was written: use another copy of it."
        ) from error
    return matrix


def _checked(data: Any, indices: Any, indptr: Any, shape: Any) -> tuple[int, int]:
    """Return the shape of the matrix if the four arrays have the right types and lengths."""
    arrays = (data, indices, indptr, shape)
    if not all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays):
        raise ValueError("they must be one-dimensional arrays")
    if any(array.dtype.kind not in "iu" for array in arrays[1:]) or data.dtype.kind not in "biufc":
        raise ValueError("indices must be integers, and data numbers")
    if len(shape) != 2 or len(indptr) != int(shape[0]) + 1 or int(shape[1]) < 0:
        raise ValueError(f"a shape of {shape.tolist()} does not fit {len(indptr) - 1} rows")
    return int(shape[0]), int(shape[1])
