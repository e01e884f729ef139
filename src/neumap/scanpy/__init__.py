"""Parametric UMAP as scanpy's users expect it: functions that write into an AnnData.

============================  =============================================================
:func:`neumap`                a map of the cells, and its model
:func:`from_atlas`            the network of a map that exists in ``obsm``
:func:`place`                 new cells on that map, with doubt
:class:`Atlas`                what ``from_atlas`` returns; it can be saved
:func:`load_atlas`            read a saved atlas
============================  =============================================================

Scanpy itself is not required.
"""

from neumap.scanpy.atlas import Atlas, from_atlas, load_atlas, place
from neumap.scanpy.cells import neumap

__all__ = ["Atlas", "from_atlas", "load_atlas", "neumap", "place"]
