"""The images and the command line options of all scripts of the tour."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

N_QUICK = 600  # training rows with --quick


@dataclass(frozen=True)
class Images:
    """Handwritten digits, flat rows of grey values between 0 and 1, and their labels."""

    train: np.ndarray  # (n_train, height * width), float32
    train_labels: np.ndarray
    test: np.ndarray  # held-out rows
    test_labels: np.ndarray
    dims: tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    figures: Path
    preset: str  # size of the default network and length of training


def begin(description: str) -> tuple[Images, Options]:
    """Read the command line and load the images."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--figures", type=Path, default=Path("figures"), help="folder for figures")
    parser.add_argument("--mnist", type=Path, help="mnist.npz to use instead of the 8x8 digits")
    parser.add_argument("--quick", action="store_true", help="few rows and a short training")
    asked = parser.parse_args()

    asked.figures.mkdir(parents=True, exist_ok=True)
    images = small_digits() if asked.mnist is None else mnist(asked.mnist)
    if asked.quick:
        images = shortened(images, N_QUICK)
    return images, Options(asked.figures, "fast" if asked.quick else "default")


def small_digits() -> Images:
    """Return scikit-learn's 1,797 digits of 8x8 pixels, a quarter of them as test rows."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    train, test, train_labels, test_labels = train_test_split(X, y, stratify=y, random_state=0)
    return Images(train, train_labels, test, test_labels, dims=(8, 8, 1))


def mnist(path: Path) -> Images:
    """Return MNIST from a file in Keras's format: x_train, y_train, x_test, y_test."""
    with np.load(path) as file:
        train, test = (
            file[name].reshape(-1, 784).astype(np.float32) / 255 for name in ("x_train", "x_test")
        )
        return Images(train, file["y_train"], test, file["y_test"], dims=(28, 28, 1))


def shortened(images: Images, n_train: int) -> Images:
    """Return the first rows only, and a third as many test rows."""
    n_test = n_train // 3
    return Images(
        images.train[:n_train],
        images.train_labels[:n_train],
        images.test[:n_test],
        images.test_labels[:n_test],
        images.dims,
    )
