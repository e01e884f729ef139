"""
A thin animal in three dimensions
=================================

The rows lie on the surface of an animal of tubes. Which parts stay together on the map, and in
which order?
"""

# %%
# Each part is a tube of points around a line from one point to another.

import numpy as np
from matplotlib import pyplot as plt

from neumap import ParametricUMAP, metrics, plots

PARTS = {
    "back": [((-4, 0, 1), (4, 0, 1), 0.9, 900)],
    "head": [((4, 0, 1.4), (5.4, 0, 1.8), 0.7, 400)],
    "trunk": [
        ((5.4, 0, 1.4), (6.6, 0, -0.4), 0.25, 250),
        ((6.6, 0, -0.4), (6.2, 0, -2.6), 0.2, 250),
    ],
    "tusks": [((5.6, side, 0.9), (7.4, side, 0.3), 0.1, 130) for side in (-0.6, 0.6)],
    "tail": [((-4, 0, 1), (-5.2, 0, -0.8), 0.12, 200)],
    "legs": [
        ((x, side, 0.4), (x, 1.2 * side, -3.6), 0.3, 320) for x in (-3, 3) for side in (-0.8, 0.8)
    ],
}


def tube(rng: np.random.Generator, start, end, radius: float, n: int) -> np.ndarray:
    """Return n points around the line from start to end."""
    along = rng.random((n, 1))
    away = rng.normal(size=(n, 3))
    away *= radius / np.linalg.norm(away, axis=1, keepdims=True)
    return np.asarray(start) * (1 - along) + np.asarray(end) * along + away


rng = np.random.default_rng(0)
X = np.vstack([tube(rng, *piece) for pieces in PARTS.values() for piece in pieces])
part = np.repeat(list(PARTS), [sum(piece[-1] for piece in pieces) for pieces in PARTS.values()])
print(X.shape)

# %%
Z = ParametricUMAP(n_neighbors=20, preset="fast", random_state=0).fit_transform(X)

figure = plt.figure(figsize=(12, 5), layout="constrained")
space = figure.add_subplot(1, 2, 1, projection="3d")
names = sorted(PARTS)
for name, color in zip(names, plots.THEMES["light"].palette, strict=False):
    space.scatter(*X[part == name].T, s=2, color=color)
space.set(title="the data", box_aspect=np.ptp(X, axis=0))
space.set_axis_off()
space.view_init(12, -70)
ax = plots.points(Z, labels=part, ax=figure.add_subplot(1, 2, 2))
ax.set_title("the map")

# %%
print(f"trustworthiness: {metrics.trustworthiness(X, Z):.3f}")
print(f"triplets in their order: {metrics.random_triplet_accuracy(X, Z):.3f}")
