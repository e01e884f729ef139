"""3. From positions back to images: a decoder.

With `parametric_reconstruction=True` a second network learns to decode positions. It does not
affect the encoder. The rows in `reconstruction_validation` are reconstructed at each report, which
shows the decoder's error on images that it was not trained on.
"""

from drawing import save
from images import begin

from neumap import ParametricUMAP, metrics, plots

images, options = begin(__doc__)

# "conv" is a small convolutional network; you can pass any PyTorch or Keras network instead.
embedder = ParametricUMAP(
    encoder="conv",
    decoder="conv",
    dims=images.dims,
    parametric_reconstruction=True,
    reconstruction_validation=images.test,
    preset=options.preset,
    random_state=0,
)
embedding = embedder.fit_transform(images.train)
decoded = embedder.inverse_transform(embedder.transform(images.test))  # grey values, as in the data

picture = plots.reconstruction(images.test, decoded, dims=images.dims)
save(picture, options.figures / "03_reconstruction.png")

# Cross entropies: of the graph, and of the pixels of training and validation images.
shown = ["umap_loss", "reconstruction_loss", "val_reconstruction_loss"]
save(plots.loss(embedder.history_, components=shown), options.figures / "03_loss.png")

# Images decoded on a grid over the embedding.
picture = plots.inverse_grid(embedder, dims=images.dims, n=16, width=600, height=600)
save(picture, options.figures / "03_inverse_grid.png")

print(f"test squared error per pixel: {metrics.reconstruction_error(images.test, decoded):.4f}")
print(f"test variance explained: {metrics.reconstruction_r2(images.test, decoded):.3f}")
