"""The structure of a sparse matrix that the user passed, checked before compiled code follows it.

scipy does not check row and column numbers when a matrix is made of arrays or changed in place. Its
products and conversions would then read and write other memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

__all__ = ["check_structure"]


def check_structure(matrix: Any, name: str = "X") -> None:
    """Check that every entry of a sparse matrix lies within it; other data pass.

    Parameters
    ----------
    matrix : object
        A scipy sparse matrix or array of any format, or anything else.
    name : str, default="X"
        Name for the message.

    Raises
    ------
    ValueError
        If row or column numbers are out of range, or the row pointers are not those of a matrix of
        this shape.

    Examples
    --------
    >>> check_structure(scipy.sparse.eye(3, format="csr"))
    """
    is_sparse: bool = scipy.sparse.issparse(matrix)
    if not is_sparse:
        return
    kind = matrix.format
    fault = None
    if kind in ("csr", "csc", "bsr"):
        block = getattr(matrix, "blocksize", (1, 1)) if kind == "bsr" else (1, 1)
        n_rows, n_columns = matrix.shape[0] // block[0], matrix.shape[1] // block[1]
        lines, across = (n_columns, n_rows) if kind == "csc" else (n_rows, n_columns)
        fault = _pointer_fault(matrix, lines) or _range_fault(matrix.indices, across, "indices")
    elif kind == "coo":  # scipy checks the others when it converts them
        faults = (
            _range_fault(numbers, bound, f"coords[{axis}]")
            for axis, (numbers, bound) in enumerate(zip(matrix.coords, matrix.shape, strict=True))
        )
        fault = next(filter(None, faults), None)
    if fault:
        raise ValueError(
            f"{name} must be a valid {kind} matrix of shape {tuple(matrix.shape)}, got one with "
            f"{fault}. Build it again from its entries, such as "
            "scipy.sparse.coo_matrix((values, (rows, columns)), shape=shape)."
        )


def _pointer_fault(matrix: Any, lines: int) -> str | None:
    pointers = matrix.indptr
    if len(pointers) != lines + 1 or pointers.dtype.kind not in "iu":
        return f"{len(pointers)} entries of {pointers.dtype} in indptr where {lines + 1} belong"
    if pointers[0] != 0 or (np.diff(pointers) < 0).any():
        return "an indptr that does not rise from 0"
    held = min(len(matrix.indices), len(matrix.data))
    if pointers[-1] > held:
        return f"an indptr that ends at {pointers[-1]} of {held} entries"
    return None


def _range_fault(numbers: NDArray[Any], bound: int, name: str) -> str | None:
    if numbers.size == 0:
        return None
    low, high = numbers.min(), numbers.max()
    if numbers.dtype.kind in "iu" and low >= 0 and high < bound:
        return None
    return f"{name} from {low} to {high} where 0 to {bound - 1} are possible"
