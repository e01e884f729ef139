"""4. An autoencoder with a UMAP embedding as its code.

With `autoencoder_loss=True` the encoder is trained on two losses, that of the graph and that of the
reconstruction. The embedding then keeps the information that the decoder needs.
`parametric_reconstruction_loss_weight` is the weight of the reconstruction.
"""

from drawing import draw_maps
from images import begin

from neumap import ParametricUMAP, metrics

images, options = begin(__doc__)

maps = {}
for joint in (False, True):
    embedder = ParametricUMAP(
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn="mse",
        parametric_reconstruction_loss_weight=50.0,
        autoencoder_loss=joint,
        preset=options.preset,
        random_state=0,
    )
    embedding = embedder.fit_transform(images.train)
    placed = embedder.transform(images.test)
    error = metrics.reconstruction_error(images.test, embedder.inverse_transform(placed))
    accuracy = metrics.knn_accuracy(
        embedding, images.train_labels, embedding_test=placed, labels_test=images.test_labels
    )
    name = "trained on both losses" if joint else "trained on UMAP's loss"
    print(f"encoder {name}, test squared error per pixel: {error:.4f}")
    print(f"encoder {name}, held-out 5-NN accuracy: {accuracy:.3f}")
    maps[f"encoder {name}\ntest error {error:.4f} per pixel"] = (embedding, images.train_labels)

draw_maps(options.figures / "04_autoencoder.png", maps)
