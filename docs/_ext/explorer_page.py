"""The explorer on the first page: made by `neumap.explorer`, where this version has it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

__all__ = ["make"]


def make(folder: Path) -> list[str]:
    """Write `explorer/digits.html` once, and return the folder that the site copies.

    Returns
    -------
    list of str
        Empty if there is no explorer; the first page then shows a picture alone.
    """
    if importlib.util.find_spec("neumap.explorer") is None:
        return []
    page = folder / "explorer" / "digits.html"
    if not page.is_file():
        page.parent.mkdir(parents=True, exist_ok=True)
        _write(page)
    return [str(folder)]


def _write(page: Path) -> None:
    import numpy as np
    from sklearn.datasets import load_digits

    from neumap import ParametricUMAP

    explorer = importlib.import_module("neumap.explorer")
    digits = load_digits()
    X = (digits.data / 16).astype(np.float32)
    model = ParametricUMAP(parametric_reconstruction=True, preset="fast", random_state=0).fit(X)
    explorer.show(model, X, labels=digits.target, images=digits.images / 16, path=page)
