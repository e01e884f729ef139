"""
A new class, without the old data
=================================

A network embeds an unseen class among the classes it knows. Training again on new rows separates
it. Landmarks are rows whose positions should not change; a tenth of the old rows keeps the rest of
the map in place.
"""

# %%
# The first half of the images lacks the digit 2, the second half has all digits.

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from neumap import ParametricUMAP, metrics, plots

X, y = load_digits(return_X_y=True)
X, _, y, _ = train_test_split((X / 16).astype(np.float32), y, stratify=y, random_state=0)
X, y = X[:900], y[:900]
UNSEEN = 2
half = len(X) // 2
is_known = y[:half] != UNSEEN
X1, y1 = X[:half][is_known], y[:half][is_known]
X2, y2 = X[half:], y[half:]

embedder = ParametricUMAP(preset="fast", random_state=0)
X1_before = embedder.fit_transform(X1)
X2_before = embedder.transform(X2)

# %%
# A tenth of the old rows are trained together with the new ones and held at their positions.

embedder.add_landmarks(X1, sample_pct=0.1, landmark_loss_weight=1.0)
X2_after = embedder.fit_transform(X2)  # positions of X2 alone
X1_after = embedder.transform(X1)
drift = embedder.report_["landmark_drift"]

# %%
colors = dict(zip(range(10), plots.THEMES["light"].palette, strict=False))
maps = {
    f"old rows, without {UNSEEN}": (X1_before, y1),
    f"new rows, before training on {UNSEEN}": (X2_before, y2),
    "old rows afterwards": (X1_after, y1),
    "new rows afterwards": (X2_after, y2),
}
figure, panels = plt.subplots(2, 2, figsize=(9, 9), layout="constrained")
for ax, (title, (positions, labels)) in zip(panels.flat, maps.items(), strict=True):
    is_corner = ax is panels[0, 1]
    plots.points(positions, labels=labels, color_key=colors, ax=ax, show_legend=is_corner)
    ax.set_title(title)

# %%
# The history covers both trainings, so that the jump between them is visible.

ax = plots.loss(embedder)


def unmixed(embedding: np.ndarray) -> float:
    """Fraction of the new class that 5-NN on the map recognises as the new class."""
    test = embedding[y2 == UNSEEN]
    return metrics.knn_accuracy(
        embedding, y2 == UNSEEN, embedding_test=test, labels_test=np.full(len(test), True)
    )


moved = np.linalg.norm(X1_after - X1_before, axis=1)
extent = np.linalg.norm(X1_before - X1_before.mean(axis=0), axis=1)
print(f"landmarks moved, as fraction of the extent: {drift['mean_share_of_extent']:.3f}")
print(f"all old rows moved, as fraction of the extent: {moved.mean() / extent.mean():.3f}")
print(f"unseen class found by 5-NN, before: {unmixed(X2_before):.3f}")
print(f"unseen class found by 5-NN, after: {unmixed(X2_after):.3f}")

# %%
# You can also fix the positions of single rows: ``fit(X, landmark_positions=positions)``, with NaN
# for free rows. ``landmark_loss_fn(y_true, y_pred)`` replaces the distance, and
# ``remove_landmarks()`` lets the next fit start afresh.
