"""Draw the picture of the site's first page: digits at their places on a map.

python docs/figures/map.py
"""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from sklearn.datasets import load_digits

from neumap import ParametricUMAP, plots

SIDE = 1100  # pixels of the longer side
SHOWN = 24  # pixels of an image

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
# Points far apart, so that images find room.
Z = ParametricUMAP(n_neighbors=30, min_dist=0.99, preset="fast", random_state=0).fit_transform(X)

# Each image in the colour of its class; its ink is its opacity, so that any background serves.
unit = (SIDE - SHOWN - 8) / np.ptp(Z, axis=0).max()
corners = (Z - Z.min(axis=0)) * unit + 4
width, height = (np.ptp(corners, axis=0) + SHOWN + 8).astype(int)
canvas = np.zeros((height, width, 4))
occupied: list[np.ndarray] = []
for row in np.random.default_rng(0).permutation(len(Z)):
    corner = corners[row].astype(int)
    if any(np.abs(corner - other).max() < 0.75 * SHOWN for other in occupied):
        continue
    occupied.append(corner)
    ink = np.kron(X[row].reshape(8, 8), np.ones((SHOWN // 8, SHOWN // 8)))
    left, top = corner[0], height - SHOWN - corner[1]
    patch = canvas[top : top + len(ink), left : left + len(ink)]
    stronger = ink > patch[..., 3]
    patch[stronger, :3] = to_rgb(plots.THEMES["light"].palette[y[row]])
    patch[stronger, 3] = ink[stronger]
print(f"{len(occupied)} of {len(Z)} digits are drawn")
plt.imsave(Path(__file__).with_suffix(".png"), canvas)
