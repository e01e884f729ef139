"""
Early stopping and snapshots
============================

Callbacks run at each report of the training. neumap's own work with any network. Those of Keras
work too, passed by ``keras_fit_kwargs`` as in umap-learn.
"""

# %%
# Twenty training epochs are long; early stopping ends the training when the loss no longer falls.
# An optimiser that you pass keeps its step size, which suits early stopping; the default one lowers
# it over the whole training.

import keras
import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from neumap import ParametricUMAP, plots
from neumap.callbacks import EarlyStopping, Snapshots

X, y = load_digits(return_X_y=True)
X, y = (X[:600] / 16).astype(np.float32), y[:600]
plan = {"n_training_epochs": 20, "loss_report_frequency": 4, "preset": "fast", "random_state": 0}
n_planned = plan["n_training_epochs"] * plan["loss_report_frequency"]

snapshots = Snapshots()
embedder = ParametricUMAP(
    callbacks=[EarlyStopping(monitor="loss", min_delta=0.01, patience=3), snapshots],
    optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    **plan,
).fit(X)
n_reports = len(embedder.history_["loss"])
print(f"stopped by neumap's callback after {n_reports} of {n_planned} reports")

# %%
# The map before the first step (the principal components), after the first report and at the end.

seen = snapshots.snapshots
figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for ax, shot in zip(panels, (seen[0], seen[1], seen[-1]), strict=True):
    plots.points(shot.embedding, labels=y, ax=ax, show_legend=ax is panels[-1])
    ax.set_title(f"after {shot.step:,} steps")

# %%
ax = plots.loss(embedder)

# %%
# The same with the callback and the optimizer of Keras.

stopping = keras.callbacks.EarlyStopping(monitor="loss", min_delta=0.01, patience=3)
embedder = ParametricUMAP(
    keras_fit_kwargs={"callbacks": [stopping]}, optimizer=keras.optimizers.Adam(1e-3), **plan
).fit(X)
n_reports = len(embedder.history_["loss"])
print(f"stopped by Keras's callback after {n_reports} of {n_planned} reports")
