"""
Data that grow: update a map
============================

Rows arrive in two parts. ``update`` continues the training with the new rows and holds a sample of
the old ones, so that the map which people know stays where it is. ``report_["landmark_drift"]``
says how far the held rows moved.
"""

# %%
# The first part lacks two digits.

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from neumap import ParametricUMAP, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
is_first = (np.arange(len(X)) < 1100) & (y != 4) & (y != 7)
X_first, y_first = X[is_first], y[is_first]
X_second, y_second = X[~is_first], y[~is_first]

embedder = ParametricUMAP(preset="fast", random_state=0).fit(X_first)
before = embedder.transform(X)

embedder.update(X_second)
after = embedder.transform(X)

# %%
colors = dict(zip(range(10), plots.THEMES["light"].palette, strict=False))
figure, panels = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
maps = {
    "first part": (before[is_first], y_first),
    "all rows, before the update": (before, y),
    "all rows, after it": (after, y),
}
for ax, (title, (positions, labels)) in zip(panels, maps.items(), strict=True):
    last = ax is panels[-1]
    plots.points(positions, labels=labels, color_key=colors, ax=ax, show_legend=last)
    ax.set_title(title)

# %%
drift = embedder.report_["landmark_drift"]
print(f"held rows moved, as fraction of the extent: {drift['mean_share_of_extent']:.3f}")

extent = np.linalg.norm(before[is_first] - before[is_first].mean(axis=0), axis=1).mean()
moved = np.linalg.norm(after[is_first] - before[is_first], axis=1).mean()
print(f"all old rows moved, as fraction of the extent: {moved / extent:.3f}")
