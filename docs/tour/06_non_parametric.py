"""6. With and without a network.

UMAP itself has no network: each row has free coordinates, which are moved directly. With
`parametric_embedding=False` the same code does that, with the same graph and the same loss, so
that the two maps differ in nothing but the network. `neumap.UMAP` is the same thing under its
usual name.
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
    placed = embedder.transform(images.test)  # without a network: near its neighbours, then settled
    scores = metrics.scores(
        images.train,
        embedding,
        labels=images.train_labels,
        X_test=images.test,
        embedding_test=placed,
        labels_test=images.test_labels,
    )
    name = "a network" if parametric else "free coordinates"
    print(f"{name}, trustworthiness: {scores['trustworthiness']:.3f}")
    print(f"{name}, held-out 5-NN accuracy: {scores['test_knn_accuracy']:.3f}")
    maps[name] = (embedding, images.train_labels)

draw_maps(options.figures / "06_non_parametric.png", maps)
