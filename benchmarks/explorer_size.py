"""Size of the explorer's page: `python benchmarks/explorer_size.py`.

Digits with a decoder, then 100,000 and 1,000,000 noisy copies of them, with and without pictures.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_digits

from neumap import ParametricUMAP, explorer


def size_of(model: ParametricUMAP, X: np.ndarray, **known: object) -> str:
    page = explorer.show(model, X, **known)
    parts = {name: len(content) for name, content in page.payload.packed().items()}
    largest = sorted(parts, key=parts.__getitem__, reverse=True)[:3]
    return f"{len(page.html):>12,} bytes, of them " + ", ".join(
        f"{name} {parts[name]:,}" for name in largest
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    arguments = parser.parse_args()
    digits = load_digits()
    X = (digits.data / 16).astype(np.float32)
    model = ParametricUMAP(preset="fast", parametric_reconstruction=True, random_state=0).fit(X)
    print(f"digits     {size_of(model, X, labels=digits.target, image_shape=(8, 8))}")
    generator = np.random.default_rng(0)
    for n_rows in arguments.rows:
        chosen = generator.integers(0, len(X), n_rows)
        rows = X[chosen] + 0.02 * generator.normal(size=(n_rows, 64)).astype(np.float32)
        labels = digits.target[chosen]
        print(f"{n_rows:<10,} {size_of(model, rows, labels=labels)}")
        print(f"  pictures {size_of(model, rows, labels=labels, image_shape=(8, 8))}")


if __name__ == "__main__":
    main()
