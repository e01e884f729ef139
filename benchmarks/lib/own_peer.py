"""umap-learn's ParametricUMAP with a Keras network, in a process of the peers' interpreter.

Run by ``own_networks.py`` as ``python -m lib.own_peer FOLDER SEED``. FOLDER holds ``train.npy`` and
``test.npy``; the process adds ``train_embedding.npy``, ``test_embedding.npy`` and ``seconds.json``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(folder: Path, seed: int) -> None:
    import numpy as np
    from umap.parametric_umap import ParametricUMAP

    from lib.keras_networks import N_COMPONENTS, conv_encoder

    X, X_test = np.load(folder / "train.npy"), np.load(folder / "test.npy")
    model = ParametricUMAP(
        encoder=conv_encoder(), dims=(28, 28, 1), n_components=N_COMPONENTS, random_state=seed
    )
    began = time.perf_counter()
    embedding = model.fit_transform(X.reshape(len(X), -1))
    seconds = time.perf_counter() - began
    np.save(folder / "train_embedding.npy", embedding)
    np.save(folder / "test_embedding.npy", model.transform(X_test.reshape(len(X_test), -1)))
    (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
