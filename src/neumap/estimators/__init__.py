"""The estimators: the one place where the rooms meet.

``UMAP`` learns a free position per row, ``ParametricUMAP`` a network that gives positions. Both
run the same path: check the input (``neumap.data``), build the graph (``graphs``), choose what is
trained (``encoders``) and for how long (``presets``), train, keep the result.
"""

from neumap.estimators.parametric import ParametricUMAP
from neumap.estimators.positions.presets import PRESETS, Preset
from neumap.estimators.saving.loading import load, load_ParametricUMAP
from neumap.estimators.umap import UMAP

__all__ = ["PRESETS", "UMAP", "ParametricUMAP", "Preset", "load", "load_ParametricUMAP"]
