"""Parametric UMAP as scanpy's users expect it: functions that write into an AnnData.

=====================================  ========================================
:func:`~neumap.scanpy.neumap`          a map of the cells, and its model
:func:`~neumap.scanpy.from_atlas`      the network of a map that is in ``obsm``
:func:`~neumap.scanpy.place`           new cells on that map, with doubt
:class:`~neumap.scanpy.Atlas`          what ``from_atlas`` returns and saves
:func:`~neumap.scanpy.load_atlas`      read a saved atlas
=====================================  ========================================

Scanpy itself is not required.
"""

from neumap.scanpy.atlas import Atlas, from_atlas, load_atlas, place
from neumap.scanpy.cells import neumap

__all__ = ["Atlas", "from_atlas", "load_atlas", "neumap", "place"]
