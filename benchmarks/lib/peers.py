"""Other libraries with the interface of an estimator, for the yard: defaults, seeded, two columns.

They live in an environment of their own (``peers_maps.txt``); none is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Transform = Callable[[Floats], Any]


class Peer:
    """A function that fits, wrapped as an estimator.

    Parameters
    ----------
    learn : callable
        Takes rows and a seed; returns positions and a function that places new rows, or None.
    """

    def __init__(self, learn: Callable[[Floats, int], tuple[Any, Transform | None]], seed: int):
        self.learn, self.seed = learn, seed

    def fit(self, X: Floats) -> Peer:
        positions, self._transform = self.learn(X, self.seed)
        self.embedding_ = np.asarray(positions, dtype=np.float32)
        return self

    def transform(self, X: Floats) -> Floats | None:
        return None if self._transform is None else np.asarray(self._transform(X), np.float32)


def pacmap(X: Floats, seed: int) -> tuple[Any, Transform | None]:
    import pacmap as library

    model = library.PaCMAP(random_state=seed, save_tree=True)
    return model.fit_transform(X), lambda new: model.transform(new, basis=X)


def parametric_repulsor(X: Floats, seed: int) -> tuple[Any, Transform | None]:
    from parampacmap import ParamPaCMAP  # its default schedules are those of ParamRepulsor

    model = ParamPaCMAP(seed=seed)
    return model.fit_transform(X), model.transform


def open_tsne(X: Floats, seed: int) -> tuple[Any, Transform | None]:
    from openTSNE import TSNE

    positions = TSNE(random_state=seed, n_jobs=1).fit(X)
    return positions, positions.transform


def contrastive(X: Floats, seed: int) -> tuple[Any, Transform | None]:
    from cne import CNE

    model = CNE(seed=seed, parametric=True)
    # Version 0.4 takes the number of rows from `init`, which a parametric model does not use.
    return model.fit_transform(X, init=np.zeros((len(X), 2))), model.transform


def torchdr_umap(X: Floats, seed: int) -> tuple[Any, Transform | None]:
    from torchdr import UMAP

    return UMAP(random_state=seed).fit_transform(X), None


PEERS: dict[str, Callable[[Floats, int], tuple[Any, Transform | None]]] = {
    "pacmap": pacmap,
    "param-repulsor": parametric_repulsor,
    "opentsne": open_tsne,
    "cne": contrastive,
    "torchdr": torchdr_umap,
}
