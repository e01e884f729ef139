"""The data sets: rows to train on and rows to hold out, chosen by a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

MNIST_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Split:
    """Rows of one data set, pixels scaled to [0, 1], float32."""

    name: str
    X_train: npt.NDArray[np.float32]  # (n_train, n_features)
    y_train: npt.NDArray[np.int64]
    X_test: npt.NDArray[np.float32]  # (n_test, n_features)
    y_test: npt.NDArray[np.int64]


def digits(seed: int) -> Split:
    """scikit-learn's 1,797 digits of 8 by 8 pixels, a fifth of them held out."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    X = (pixels / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(X))
    test, train = order[: len(X) // 5], order[len(X) // 5 :]
    return Split("digits", X[train], labels[train], X[test], labels[test])


def mnist(path: Path, n_train: int, seed: int) -> Split:
    """A random subset of MNIST's training rows, and all rows of its test part.

    `path` is an .npz file with `x_train` (uint8, n by 784 or n by 28 by 28), `y_train`, `x_test`
    and `y_test`.
    """
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in MNIST_ARRAYS if name not in file]
        if missing:
            raise SystemExit(
                f"{path} must hold the arrays {', '.join(MNIST_ARRAYS)}; "
                f"it lacks {', '.join(missing)}. Point --mnist to another file."
            )
        x_train, y_train, x_test, y_test = (file[name] for name in MNIST_ARRAYS)
    if n_train > len(x_train):
        raise SystemExit(
            f"--mnist-rows must be at most the {len(x_train)} training rows of {path}; "
            f"got {n_train}. Ask for fewer."
        )
    rows = np.sort(np.random.default_rng(seed).permutation(len(x_train))[:n_train])
    return Split(
        f"mnist-{n_train}",
        _pixels(x_train[rows]),
        y_train[rows].astype(np.int64),
        _pixels(x_test),
        y_test.astype(np.int64),
    )


def _pixels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def mixture(n_train: int, seed: int, n_features: int = 50) -> Split:
    """A hierarchy of Gaussian clusters: 5 groups of 5 groups of 5 clusters, bent by a random layer.

    The centres of each level scatter a third as far as those of the level above; labels are the
    125 clusters. A fixed random network with tanh makes the clusters curved and the directions
    of large variance non-linear.
    """
    rng = np.random.default_rng([seed, 125])
    centres = np.zeros((1, 10))
    for scale in (9.0, 3.0, 1.0):
        spread = rng.normal(scale=scale / np.sqrt(10), size=(len(centres), 5, 10))
        centres = (centres[:, None] + spread).reshape(-1, 10)
    n_rows = n_train + max(1000, n_train // 5)
    labels = rng.integers(len(centres), size=n_rows)
    latent = centres[labels] + rng.normal(scale=0.25 / np.sqrt(10), size=(n_rows, 10))
    hidden = np.tanh(latent @ rng.normal(scale=0.15, size=(10, 100)))
    X = (hidden @ rng.normal(scale=0.1, size=(100, n_features))).astype(np.float32)
    X += rng.normal(scale=0.02, size=X.shape).astype(np.float32)
    return Split(f"mixture-{n_train}", X[:n_train], labels[:n_train], X[n_train:], labels[n_train:])
