"""
A rolled sheet
==============

A sheet in two dimensions, rolled up in three, with a hole. A map that follows neighbours along the
sheet unrolls it.
"""

# %%
from matplotlib import pyplot as plt
from sklearn.datasets import make_swiss_roll

from neumap import ParametricUMAP, metrics, plots

X, along = make_swiss_roll(2000, noise=0.05, hole=True, random_state=0)
Z = ParametricUMAP(n_neighbors=20, preset="fast", random_state=0).fit_transform(X)

# %%
figure = plt.figure(figsize=(11, 5), layout="constrained")
space = figure.add_subplot(1, 2, 1, projection="3d")
space.scatter(*X.T, c=along, s=4, cmap="viridis")
space.set_title("the data")
space.set_axis_off()
space.view_init(8, -75)
ax = plots.points(Z, values=along, ax=figure.add_subplot(1, 2, 2))
ax.set_title("the map, coloured by the place along the roll")

# %%
# Points that are near in space but far along the sheet end up apart: the trustworthiness counts
# neighbours in space, and only the nearest are also neighbours on the sheet.

print(f"trustworthiness of 5 neighbours: {metrics.trustworthiness(X, Z, n_neighbors=5):.3f}")
