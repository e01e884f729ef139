"""3. From the map back to images: a decoder.

With `parametric_reconstruction=True` a second network learns the way back. It is trained on the
positions that the encoder finds and does not change them. `reconstruction_validation` are rows
that are reconstructed at each report, to see how well the decoder does on images it has not
learned from.
"""

from drawing import save
from images import begin

from neumap import ParametricUMAP, metrics, plots

images, options = begin(__doc__)

# "conv" is a small convolutional network; any PyTorch or Keras network of yours can take its place.
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

# What the decoder sees in each place of the map.
picture = plots.inverse_grid(embedder, dims=images.dims, n=16, width=600, height=600)
save(picture, options.figures / "03_inverse_grid.png")

print(f"test squared error per pixel: {metrics.reconstruction_error(images.test, decoded):.4f}")
print(f"test variance explained: {metrics.reconstruction_r2(images.test, decoded):.3f}")
