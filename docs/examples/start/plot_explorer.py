"""
A page on which rows land and points decode
===========================================

The explorer writes a map, what is known about its rows and the networks themselves into one HTML
file. It opens without a server and without a connection; the map on the first page of this site is
such a file.
"""

# %%
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from neumap import ParametricUMAP, callbacks, explorer, plots

digits = load_digits()
X = (digits.data / 16).astype(np.float32)

# %%
# A decoder lets the page draw what lies under the cursor, and ``Snapshots`` keeps the frames of the
# fit, which the page plays as a film.

film = callbacks.Snapshots()
model = ParametricUMAP(
    preset="fast", parametric_reconstruction=True, callbacks=[film], random_state=0
).fit(X)

file = Path(tempfile.mkdtemp()) / "digits.html"
page = explorer.show(
    model,
    X,
    labels=digits.target,
    texts=[f"digit number {row}" for row in range(len(X))],
    image_shape=(8, 8),
    snapshots=film,
    path=file,
)
print(f"megabytes of the page: {file.stat().st_size / 1e6:.2f}")

# %%
# ``page.open()`` opens it in the browser, and a notebook shows ``page`` itself. On paper, the map
# and what a lattice of places decodes to:

figure, panels = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
plots.points(model, labels=digits.target, ax=panels[0])
plots.inverse_grid(model, dims=(8, 8), ax=panels[1])
