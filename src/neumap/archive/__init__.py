"""One safe file for a fitted model: named arrays, a JSON document, opaque blobs, no code.

:func:`write_archive` and :func:`read_archive` move plain values to a safetensors file and back;
:func:`pack_module` and :func:`unpack_module` turn a network into such values, and
:func:`pack_csr` and :func:`unpack_csr` a sparse matrix. Reading never runs code from the file:
classes that are not part of torch.nn or neumap come from the caller.
"""

from neumap.archive._build import build_module
from neumap.archive._describe import describe_module
from neumap.archive._document import FORMAT_VERSION
from neumap.archive._errors import ArchiveError
from neumap.archive._file import Archive, read_archive, write_archive
from neumap.archive._json import fits_json
from neumap.archive._modules import pack_module, unpack_module
from neumap.archive._sparse import pack_csr, unpack_csr

__all__ = [
    "FORMAT_VERSION",
    "Archive",
    "ArchiveError",
    "build_module",
    "describe_module",
    "fits_json",
    "pack_csr",
    "pack_module",
    "read_archive",
    "unpack_csr",
    "unpack_module",
    "write_archive",
]
