"""The estimators, where the rooms meet.

``UMAP`` learns a free position per row, ``ParametricUMAP`` a network that gives positions. Both
check their parameters (``constraints``), collect them as values (``recipe``) and follow one path
(``fitting``): data and targets, networks, graph, training. The result is one frozen value
(``fitted``), which new rows (``new_rows``) and files (``saving``) work with. What gives positions
is a value as well (``positions``).
"""

from neumap.estimators.aligned.model import AlignedUMAP
from neumap.estimators.parametric import ParametricUMAP
from neumap.estimators.positions.presets import PRESETS, Preset
from neumap.estimators.saving.loading import load, load_ParametricUMAP
from neumap.estimators.umap import UMAP

__all__ = [
    "PRESETS",
    "UMAP",
    "AlignedUMAP",
    "ParametricUMAP",
    "Preset",
    "load",
    "load_ParametricUMAP",
]
