"""10. Semi-supervised: a few labels.

Labels are expensive, data are cheap. Pass labels for some rows and -1 for the others: edges between
different classes are then weaker. With `classifier_loss_weight` a classifier is trained together
with the embedding. The network learns from the labels and from the structure of all rows.
"""

import numpy as np
from drawing import draw_maps
from images import begin
from sklearn.linear_model import LogisticRegression

from neumap import ParametricUMAP

images, options = begin(__doc__)
N_LABELS = 5  # per class

# Keep only a few labels.
generator = np.random.default_rng(0)
labels = np.full(len(images.train), -1)
for digit in np.unique(images.train_labels):
    rows = np.flatnonzero(images.train_labels == digit)
    labels[generator.choice(rows, N_LABELS, replace=False)] = digit

embedder = ParametricUMAP(classifier_loss_weight=1.0, preset=options.preset, random_state=0)
embedding = embedder.fit_transform(images.train, labels)
accuracy = np.mean(embedder.predict(images.test) == images.test_labels)

# The baseline: the same labels without the other rows.
few = labels != -1
alone = LogisticRegression().fit(images.train[few], labels[few])
print(f"test accuracy, labelled rows alone: {alone.score(images.test, images.test_labels):.3f}")
print(f"test accuracy, with the map of all rows: {accuracy:.3f}")

draw_maps(
    options.figures / "10_semi_supervised.png",
    {
        f"training rows, {N_LABELS} labels per class": (embedding, labels),
        "unseen rows, true labels": (embedder.transform(images.test), images.test_labels),
    },
    same_axes=True,
)
