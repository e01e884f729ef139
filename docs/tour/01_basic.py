"""1. The map of a data set, and new rows on it.

ParametricUMAP trains a neural network that maps data to a UMAP embedding. `fit_transform` gives
the positions of the training rows; `transform` sends rows it never saw through the same network,
one by one, in no time.
"""

from drawing import draw_maps, save
from images import begin

from neumap import ParametricUMAP, metrics, plots

images, options = begin(__doc__)

embedder = ParametricUMAP(preset=options.preset, random_state=0)
embedding = embedder.fit_transform(images.train)  # (n_train, 2)
placed = embedder.transform(images.test)  # (n_test, 2)

draw_maps(
    options.figures / "01_basic.png",
    {
        "trained on": (embedding, images.train_labels),
        "never seen before": (placed, images.test_labels),
    },
    same_axes=True,
)

# One value per report; ten reports make up the training.
save(plots.loss(embedder.history_), options.figures / "01_loss.png")

# How many unseen rows lie among training rows of their own class?
accuracy = metrics.knn_accuracy(
    embedding, images.train_labels, embedding_test=placed, labels_test=images.test_labels
)
print(f"held-out 5-NN accuracy: {accuracy:.3f}")
