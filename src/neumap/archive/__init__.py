"""One safe file for a fitted model: named arrays, a JSON document, embedded files, no code.

:func:`write_archive` and :func:`read_archive` store plain values in a safetensors file.
:func:`pack_module` and :func:`unpack_module` turn a network into such values and back, and
:func:`pack_csr` and :func:`unpack_csr` a sparse matrix, :func:`pack_tree` and :func:`unpack_tree`
nested values with tensors in them. Reading never runs code from the file:
classes that are not part of torch.nn or neumap come from the caller. :func:`check_node` checks what
an estimator wrote into the document, and the reading functions check everything else, before
anything is built or allocated.

The names are imported at first use: the files that read a header and its document do without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neumap.archive.bounds import bounded, bounded_layers
    from neumap.archive.build import build_module, unpack_module
    from neumap.archive.describe import describe_module, pack_module
    from neumap.archive.document import FORMAT_VERSION
    from neumap.archive.encoding import fits_json
    from neumap.archive.errors import ArchiveError
    from neumap.archive.file import Archive, read_archive, write_archive
    from neumap.archive.nodes import check_node, check_zip, unpack_items
    from neumap.archive.sparse import pack_csr, unpack_csr
    from neumap.archive.trees import check_like, pack_tree, unpack_tree

__all__ = [
    "FORMAT_VERSION",
    "Archive",
    "ArchiveError",
    "bounded",
    "bounded_layers",
    "build_module",
    "check_like",
    "check_node",
    "check_zip",
    "describe_module",
    "fits_json",
    "pack_csr",
    "pack_module",
    "pack_tree",
    "read_archive",
    "unpack_csr",
    "unpack_items",
    "unpack_module",
    "unpack_tree",
    "write_archive",
]

_FILES = {
    "Archive": "file",
    "ArchiveError": "errors",
    "FORMAT_VERSION": "document",
    "bounded": "bounds",
    "bounded_layers": "bounds",
    "build_module": "build",
    "check_like": "trees",
    "check_node": "nodes",
    "check_zip": "nodes",
    "describe_module": "describe",
    "fits_json": "encoding",
    "pack_csr": "sparse",
    "pack_module": "describe",
    "pack_tree": "trees",
    "read_archive": "file",
    "unpack_csr": "sparse",
    "unpack_items": "nodes",
    "unpack_module": "build",
    "unpack_tree": "trees",
    "write_archive": "file",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use and keep it (PEP 562)."""
    if name not in _FILES:
        raise AttributeError(f"module 'neumap.archive' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"neumap.archive.{_FILES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, including those not imported yet."""
    return sorted({*globals(), *__all__})
