"""8. New kinds of data on an old map: training on, with landmarks.

A network places rows like those it has learned. A class it has never seen lands among the others.
Training on with the new rows makes room for it; landmarks, rows whose positions should stay, keep
the rest of the map where it was.
"""

import numpy as np
from drawing import draw_maps, save
from images import begin

from neumap import ParametricUMAP, metrics, plots

images, options = begin(__doc__)
UNSEEN = 2

# The first half of the images lacks the digit 2, the second half has all.
half = len(images.train) // 2
known = images.train_labels[:half] != UNSEEN
x1, y1 = images.train[:half][known], images.train_labels[:half][known]
x2, y2 = images.train[half:], images.train_labels[half:]

embedder = ParametricUMAP(preset=options.preset, random_state=0)
x1_before = embedder.fit_transform(x1)
x2_before = embedder.transform(x2)

# A tenth of the old rows go into the training on the new ones and are held where they are now.
embedder.add_landmarks(x1, sample_pct=0.1, landmark_loss_weight=1.0)
x2_after = embedder.fit_transform(x2)  # positions of x2 alone
x1_after = embedder.transform(x1)
drift = embedder.report_["landmark_drift"]

draw_maps(
    options.figures / "08_landmarks.png",
    {
        f"old rows, without {UNSEEN}": (x1_before, y1),
        f"new rows, before training on {UNSEEN}": (x2_before, y2),
        "old rows afterwards": (x1_after, y1),
        "new rows afterwards": (x2_after, y2),
    },
    columns=2,
    same_axes=True,
)
# The history goes on, so that the jump at the second training shows.
save(plots.loss(embedder.history_), options.figures / "08_loss.png")


def unmixed(embedding: np.ndarray) -> float:
    """Share of the new class's neighbours on the map that belong to it."""
    test = embedding[y2 == UNSEEN]
    return metrics.knn_accuracy(
        embedding, y2 == UNSEEN, embedding_test=test, labels_test=np.full(len(test), True)
    )


moved = np.linalg.norm(x1_after - x1_before, axis=1)
extent = np.linalg.norm(x1_before - x1_before.mean(axis=0), axis=1)
print(f"landmarks moved, as share of the map: {drift['mean_share_of_extent']:.3f}")
print(f"all old rows moved, as share of the map: {moved.mean() / extent.mean():.3f}")
print(f"unseen class found by 5-NN, before: {unmixed(x2_before):.3f}")
print(f"unseen class found by 5-NN, after: {unmixed(x2_after):.3f}")
