"""The data sets: training rows and held-out rows, chosen by a seed.

Held-out rows serve two purposes that must not mix. *Test* rows are reported. *Validation* rows are
for choosing settings, such as those of a preset. Within a seed, no training or validation row is a
test row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

HeldOut = Literal["test", "validation"]

MNIST_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# The first test images are reported, as in all earlier results.
N_MNIST_TEST = 3_000
LARGEST_MNIST_VALIDATION = 7_000
SMALLEST_MNIST_VALIDATION = 1_000

N_LATENT = 10
# Rows of the mixture computed at once: 100 hidden units in float64 take 80 MB for these.
BLOCK_ROWS = 100_000


@dataclass(frozen=True)
class Split:
    """Rows of one data set, pixels scaled to [0, 1], float32.

    ``X_test`` are the held-out rows: test rows, or validation rows if requested.
    """

    name: str
    X_train: npt.NDArray[np.float32]  # (n_train, n_features)
    y_train: npt.NDArray[np.int64]
    X_test: npt.NDArray[np.float32]  # (n_test, n_features)
    y_test: npt.NDArray[np.int64]


def digits(seed: int, held_out: HeldOut = "test") -> Split:
    """scikit-learn's 1,797 digits of 8 by 8 pixels, a fifth of them held out.

    Validation rows are a further fifth, taken from the training rows. Each seed splits the rows
    differently, so validation rows of one seed are test rows of another. For MNIST and the mixture
    they are disjoint for all seeds.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    X = (pixels / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(X))
    fifth = len(X) // 5
    test, train = order[:fifth], order[fifth:]
    if held_out == "validation":
        test, train = train[:fifth], train[fifth:]
    return Split("digits", X[train], labels[train], X[test], labels[test])


def mnist(path: Path, n_train: int, seed: int, held_out: HeldOut = "test") -> Split:
    """A random subset of MNIST's training images, and held-out images.

    Parameters
    ----------
    path : Path
        An .npz file with `x_train` (uint8, n by 784 or n by 28 by 28), `y_train`, `x_test` and
        `y_test`.
    n_train : int
        Training rows.
    seed : int
        Chooses the training rows and the validation rows.
    held_out : {"test", "validation"}
        "test": the first 3,000 test images. "validation": training images that were not chosen or,
        if fewer than 1,000 of these remain, the test images after the first 3,000.
    """
    arrays = _mnist_arrays(path)
    x_train, y_train = arrays["x_train"], arrays["y_train"]
    if n_train > len(x_train):
        raise SystemExit(
            f"--mnist-rows must be at most the {len(x_train)} training rows of {path}, "
            f"got {n_train}. Pass a smaller number."
        )
    order = np.random.default_rng(seed).permutation(len(x_train))
    rows = np.sort(order[:n_train])
    x_test, y_test = arrays["x_test"][:N_MNIST_TEST], arrays["y_test"][:N_MNIST_TEST]
    if held_out == "validation":
        x_test, y_test = _mnist_validation(arrays, order[n_train:], path)
    return Split(
        f"mnist-{n_train}",
        _pixels(x_train[rows]),
        y_train[rows].astype(np.int64),
        _pixels(x_test),
        y_test.astype(np.int64),
    )


def mnist_or_digits(path: Path | str | None, n_train: int, seed: int) -> Split:
    """Return MNIST if a file is given, else scikit-learn's digits."""
    return digits(seed) if path is None else mnist(Path(path), n_train, seed)


def _mnist_arrays(path: Path) -> dict[str, npt.NDArray[np.uint8]]:
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in MNIST_ARRAYS if name not in file]
        if missing:
            raise SystemExit(
                f"--mnist must hold the arrays {', '.join(MNIST_ARRAYS)}, got {path} without "
                f"{', '.join(missing)}. Pass another file."
            )
        return {name: file[name] for name in MNIST_ARRAYS}


def _mnist_validation(
    arrays: dict[str, npt.NDArray[np.uint8]], unchosen: npt.NDArray[np.int64], path: Path
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return images and labels that are used neither for training nor for reports."""
    if len(unchosen) >= SMALLEST_MNIST_VALIDATION:
        rows = np.sort(unchosen[:LARGEST_MNIST_VALIDATION])
        return arrays["x_train"][rows], arrays["y_train"][rows]
    n_unreported = len(arrays["x_test"]) - N_MNIST_TEST
    if n_unreported < SMALLEST_MNIST_VALIDATION:
        most = len(arrays["x_train"]) - SMALLEST_MNIST_VALIDATION
        raise SystemExit(
            f"Validation rows must be at least {SMALLEST_MNIST_VALIDATION}, got {path} with "
            f"{len(unchosen)} remaining training images and {max(n_unreported, 0)} test images "
            f"beyond the {N_MNIST_TEST} reported ones. Train on at most {most} rows, or use a file "
            "with all 10,000 test images."
        )
    return arrays["x_test"][N_MNIST_TEST:], arrays["y_test"][N_MNIST_TEST:]


def _pixels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def mixture(n_train: int, seed: int, n_features: int = 50, held_out: HeldOut = "test") -> Split:
    """A hierarchy of Gaussian clusters, 5 groups of 5 groups of 5, made curved by a random layer.

    The spread of the centres at each level is a third of that at the level above. Labels are the
    125 clusters, so ``label // 25`` is the outermost group. A random layer with tanh makes the
    clusters curved and the directions of large variance non-linear. The seed determines centres,
    layer and rows.
    """
    rng = np.random.default_rng([seed, 125])
    centres = np.zeros((1, N_LATENT))
    for scale in (9.0, 3.0, 1.0):
        spread = rng.normal(scale=scale / np.sqrt(N_LATENT), size=(len(centres), 5, N_LATENT))
        centres = (centres[:, None] + spread).reshape(-1, N_LATENT)
    n_held_out = max(1000, n_train // 5)
    latent, labels = _draw_latent(rng, centres, n_train + n_held_out)
    first = rng.normal(scale=0.15, size=(N_LATENT, 100))
    second = rng.normal(scale=0.1, size=(100, n_features))

    X = _bend(rng, latent, first, second)
    X_train, y_train, X_test, y_test = X[:n_train], labels[:n_train], X[n_train:], labels[n_train:]
    if held_out == "validation":  # drawn last, so that all other rows stay the same
        latent, y_test = _draw_latent(rng, centres, n_held_out)
        X_test = _bend(rng, latent, first, second)
    return Split(f"mixture-{n_train}", X_train, y_train, X_test, y_test)


def _draw_latent(
    rng: np.random.Generator, centres: npt.NDArray[np.float64], n_rows: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return points around random centres, (n_rows, 10), and the indices of these centres."""
    labels = rng.integers(len(centres), size=n_rows)
    noise = rng.normal(scale=0.25 / np.sqrt(N_LATENT), size=(n_rows, N_LATENT))
    return centres[labels] + noise, labels


def _bend(
    rng: np.random.Generator,
    latent: npt.NDArray[np.float64],
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Return the observed rows of latent points: tanh layer, projection and a little noise."""
    X = np.empty((len(latent), second.shape[1]), dtype=np.float32)
    for start in range(0, len(latent), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        X[block] = np.tanh(latent[block] @ first) @ second
        X[block] += rng.normal(scale=0.02, size=X[block].shape).astype(np.float32)
    return X
