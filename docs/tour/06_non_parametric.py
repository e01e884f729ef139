"""6. With and without a network.

UMAP itself has no network: it optimises the positions of the rows directly. With
`parametric_embedding=False` the same code does this, with the same graph and the same loss, so that
the network is the only difference. `neumap.UMAP` is the same under its usual name.
"""

from drawing import draw_maps
from images import begin

from neumap import ParametricUMAP, metrics

images, options = begin(__doc__)

maps = {}
for parametric in (True, False):
    embedder = ParametricUMAP(
        parametric_embedding=parametric, preset=options.preset, random_state=0
    )
    embedding = embedder.fit_transform(images.train)
    placed = embedder.transform(
        images.test
    )  # without a network: placed near its neighbours, then optimised
    scores = metrics.scores(
        images.train,
        embedding,
        labels=images.train_labels,
        X_test=images.test,
        embedding_test=placed,
        labels_test=images.test_labels,
    )
    name = "a network" if parametric else "free positions"
    print(f"{name}, trustworthiness: {scores['trustworthiness']:.3f}")
    print(f"{name}, held-out 5-NN accuracy: {scores['test_knn_accuracy']:.3f}")
    maps[name] = (embedding, images.train_labels)

draw_maps(options.figures / "06_non_parametric.png", maps)
