"""neumap: parametric UMAP in PyTorch.

A neural network learns the mapping from data to a UMAP embedding, so that new rows can be embedded
at once. Start with :class:`ParametricUMAP`, which follows scikit-learn's conventions.

Public names are imported at first use, so that ``import neumap`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neumap import callbacks, explorer, export, hub, metrics, networks, plots, runtime
    from neumap._card import UnusualRowsWarning
    from neumap.data import open_rows
    from neumap.estimators import UMAP, ParametricUMAP, load, load_ParametricUMAP

    __version__: str

__all__ = [
    "UMAP",
    "ParametricUMAP",
    "UnusualRowsWarning",
    "__version__",
    "callbacks",
    "explorer",
    "export",
    "hub",
    "load",
    "load_ParametricUMAP",
    "metrics",
    "networks",
    "open_rows",
    "plots",
    "runtime",
]

_ROOMS = frozenset(
    {"callbacks", "explorer", "export", "hub", "metrics", "networks", "plots", "runtime"}
)
# An installation with --no-deps, to serve maps, lacks them.
_REQUIRED = frozenset({"torch", "scipy", "sklearn", "safetensors", "faiss", "tqdm", "click"})
_ESTIMATORS = frozenset({"ParametricUMAP", "UMAP", "load", "load_ParametricUMAP"})


def __getattr__(name: str) -> Any:
    """Import a public name at its first use and keep it (PEP 562)."""
    if name in _ROOMS:
        return _module(name)  # the import binds the name here
    if name in _ESTIMATORS:
        value = getattr(_module("estimators"), name)
    elif name == "UnusualRowsWarning":
        value = importlib.import_module("neumap._card").UnusualRowsWarning
    elif name == "open_rows":
        value = _module("data").open_rows
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("neumap")
    else:
        raise AttributeError(f"module 'neumap' has no attribute {name!r}")
    globals()[name] = value
    return value


def _module(room: str) -> Any:
    try:
        return importlib.import_module(f"neumap.{room}")
    except ModuleNotFoundError as error:
        if error.name not in _REQUIRED:
            raise
        raise ImportError(
            f"neumap.{room} needs {error.name!r}, which is not installed: without its "
            "dependencies, neumap has neumap.runtime only. Install them with: pip install neumap"
        ) from error


def __dir__() -> list[str]:
    """Return the public names, including those not imported yet."""
    return sorted({*globals(), *__all__})
