"""neumap: parametric UMAP in PyTorch.

A neural network learns the mapping from data to a UMAP embedding, so that new rows can be embedded
at once. Start with :class:`ParametricUMAP`, which follows scikit-learn's conventions.

Public names are imported at first use, so that ``import neumap`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neumap import callbacks, explorer, export, metrics, networks, plots
    from neumap.estimators import UMAP, ParametricUMAP, load, load_ParametricUMAP

    __version__: str

__all__ = [
    "UMAP",
    "ParametricUMAP",
    "__version__",
    "callbacks",
    "explorer",
    "export",
    "load",
    "load_ParametricUMAP",
    "metrics",
    "networks",
    "plots",
]

_ROOMS = frozenset({"callbacks", "explorer", "export", "metrics", "networks", "plots"})
_ESTIMATORS = frozenset({"ParametricUMAP", "UMAP", "load", "load_ParametricUMAP"})


def __getattr__(name: str) -> Any:
    """Import a public name at its first use and keep it (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f"neumap.{name}")  # the import binds the name here
    if name in _ESTIMATORS:
        value = getattr(importlib.import_module("neumap.estimators"), name)
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("neumap")
    else:
        raise AttributeError(f"module 'neumap' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, including those not imported yet."""
    return sorted({*globals(), *__all__})
