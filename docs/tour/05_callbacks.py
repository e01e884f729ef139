"""5. Callbacks: early stopping and snapshots.

Callbacks run at each report. neumap has its own, which work with any network. Keras callbacks work
too, through `keras_fit_kwargs`, as in umap-learn. 20 training epochs are long; early stopping ends
the training when the loss no longer falls.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch
from drawing import draw_maps, save
from images import begin

from neumap import ParametricUMAP, plots
from neumap.callbacks import EarlyStopping, Snapshots

images, options = begin(__doc__)
plan = {"n_training_epochs": 20, "loss_report_frequency": 4, "preset": "fast", "random_state": 0}
n_planned = plan["n_training_epochs"] * plan["loss_report_frequency"]

# neumap's callbacks. An optimiser that you pass keeps its step size, which suits early stopping;
# the default optimiser lowers it over the whole training.
snapshots = Snapshots()
embedder = ParametricUMAP(
    callbacks=[EarlyStopping(monitor="loss", min_delta=0.01, patience=3), snapshots],
    optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    **plan,
)
embedder.fit(images.train)
n_reports = len(embedder.history_["loss"])
print(f"stopped by neumap's callback after {n_reports} of {n_planned} reports")
save(plots.loss(embedder.history_), options.figures / "05_loss.png")

# The embedding before the first step, after the first report, and at the end.
seen = snapshots.snapshots
chosen = [seen[0], seen[1], seen[-1]]
draw_maps(
    options.figures / "05_snapshots.png",
    {f"after {shot.step:,} steps": (shot.embedding, images.train_labels) for shot in chosen},
)

# Keras's callbacks, passed as in umap-learn.
stopping = keras.callbacks.EarlyStopping(monitor="loss", min_delta=0.01, patience=3)
embedder = ParametricUMAP(
    keras_fit_kwargs={"callbacks": [stopping]},
    optimizer=keras.optimizers.Adam(1e-3),
    **plan,
)
embedder.fit(images.train)
n_reports = len(embedder.history_["loss"])
print(f"stopped by Keras's callback after {n_reports} of {n_planned} reports")
