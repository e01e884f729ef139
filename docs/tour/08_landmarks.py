"""8. Adding a new class with landmarks.

A network embeds an unseen class among the classes it knows. Training again on new rows separates
it. Landmarks are rows whose positions should not change; they keep the rest of the embedding in
place.
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

# A tenth of the old rows are trained together with the new ones and held at their positions.
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
# The history covers both trainings, so the jump between them is visible.
save(plots.loss(embedder.history_), options.figures / "08_loss.png")


def unmixed(embedding: np.ndarray) -> float:
    """Fraction of the new class that 5-NN in the embedding recognises as the new class."""
    test = embedding[y2 == UNSEEN]
    return metrics.knn_accuracy(
        embedding, y2 == UNSEEN, embedding_test=test, labels_test=np.full(len(test), True)
    )


moved = np.linalg.norm(x1_after - x1_before, axis=1)
extent = np.linalg.norm(x1_before - x1_before.mean(axis=0), axis=1)
print(f"landmarks moved, as fraction of the extent: {drift['mean_share_of_extent']:.3f}")
print(f"all old rows moved, as fraction of the extent: {moved.mean() / extent.mean():.3f}")
print(f"unseen class found by 5-NN, before: {unmixed(x2_before):.3f}")
print(f"unseen class found by 5-NN, after: {unmixed(x2_after):.3f}")
