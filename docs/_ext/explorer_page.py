"""The explorer on the first page: digits, with the networks that place and decode them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make"]


def make(folder: Path) -> list[str]:
    """Write `explorer/digits.html` once, and return the folder that the site copies.

    It is made again after `make clean`.
    """
    page = folder / "explorer" / "digits.html"
    if not page.is_file():
        page.parent.mkdir(parents=True, exist_ok=True)
        _write(page)
    return [str(folder)]


def _write(page: Path) -> None:
    import numpy as np
    from sklearn.datasets import load_digits

    from neumap import ParametricUMAP, callbacks, explorer

    digits = load_digits()
    X = (digits.data / 16).astype(np.float32)
    film = callbacks.Snapshots()
    model = ParametricUMAP(
        preset="fast", parametric_reconstruction=True, callbacks=[film], random_state=0
    ).fit(X)
    explorer.show(
        model,
        X,
        labels=digits.target,
        image_shape=(8, 8),
        snapshots=film,
        title="digits",
        path=page,
    )
