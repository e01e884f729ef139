"""7. Global structure.

UMAP preserves neighbours; the distance between two clusters means little. An additional loss, with
weight `global_correlation_loss_weight`, increases the correlation between distances in the
embedding and distances in the data. With larger weights the arrangement of clusters follows the
data more closely.
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
    # Over pairs of held-out rows.
    correlation = metrics.distance_correlation(images.test, placed, method="pearson")
    print(f"weight {weight}, held-out distance correlation: {correlation:.3f}")
    print(f"weight {weight}, held-out 5-NN accuracy: {accuracy:.3f}")
    title = f"weight {weight}\ndistances correlate by {correlation:.2f}"
    maps[title] = (embedding, images.train_labels)

draw_maps(options.figures / "07_global_loss.png", maps)
