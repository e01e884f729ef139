"""7. Global structure.

UMAP cares for neighbours; how far apart two clusters lie means little. A third loss, switched on
by `global_correlation_loss_weight`, asks that distances on the map grow with distances in the
data. It moves the clusters to where the distances between them ask; larger weights more so.
"""

from drawing import draw_maps
from images import begin

from neumap import ParametricUMAP, metrics

images, options = begin(__doc__)

maps = {}
for weight in (0, 0.1, 1):
    embedder = ParametricUMAP(
        global_correlation_loss_weight=weight, preset=options.preset, random_state=0
    )
    embedding = embedder.fit_transform(images.train)
    placed = embedder.transform(images.test)
    accuracy = metrics.knn_accuracy(
        embedding, images.train_labels, embedding_test=placed, labels_test=images.test_labels
    )
    # Over pairs of rows that were not trained on.
    correlation = metrics.distance_correlation(images.test, placed, method="pearson")
    print(f"weight {weight}, held-out distance correlation: {correlation:.3f}")
    print(f"weight {weight}, held-out 5-NN accuracy: {accuracy:.3f}")
    title = f"weight {weight}\ndistances correlate by {correlation:.2f}"
    maps[title] = (embedding, images.train_labels)

draw_maps(options.figures / "07_global_loss.png", maps)
