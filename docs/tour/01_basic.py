"""1. An embedding, and new rows in it.

ParametricUMAP trains a neural network that maps data to a UMAP embedding. `fit_transform` returns
the positions of the training rows. `transform` applies the same network to unseen rows, which takes
almost no time.
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

# One value per report; a training has ten reports.
save(plots.loss(embedder.history_), options.figures / "01_loss.png")

# The fraction of unseen rows whose nearest training rows have the right class.
accuracy = metrics.knn_accuracy(
    embedding, images.train_labels, embedding_test=placed, labels_test=images.test_labels
)
print(f"held-out 5-NN accuracy: {accuracy:.3f}")
