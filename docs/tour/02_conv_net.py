"""2. Your own network, in Keras and in PyTorch.

Any network that maps a batch of rows to a batch of positions works. `dims` is the shape of one row
that the network expects; the data stay flat in `fit` and `transform`. The network is copied, so the
one you pass keeps its weights.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras reads this at import

import keras
from drawing import draw_maps
from images import begin
from torch import nn

from neumap import ParametricUMAP, metrics

images, options = begin(__doc__)
height, width, channels = images.dims
n_components = 2

# Keras puts the channels of an image last.
keras_encoder = keras.Sequential(
    [
        keras.Input(images.dims),
        keras.layers.Conv2D(32, kernel_size=3, strides=2, padding="same", activation="relu"),
        keras.layers.Conv2D(64, kernel_size=3, strides=2, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(n_components),
    ]
)

# PyTorch puts them first.
torch_encoder = nn.Sequential(
    nn.Conv2d(channels, 32, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 64, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(64 * (height // 4) * (width // 4), 128),
    nn.ReLU(),
    nn.Linear(128, n_components),
)

networks = {
    "Keras": (keras_encoder, (height, width, channels)),
    "PyTorch": (torch_encoder, (channels, height, width)),
}
maps = {}
for name, (encoder, dims) in networks.items():
    embedder = ParametricUMAP(encoder=encoder, dims=dims, preset=options.preset, random_state=0)
    embedding = embedder.fit_transform(images.train)
    placed = embedder.transform(images.test)
    accuracy = metrics.knn_accuracy(
        embedding, images.train_labels, embedding_test=placed, labels_test=images.test_labels
    )
    print(f"{name}, held-out 5-NN accuracy: {accuracy:.3f}")
    maps[f"{name}, unseen images"] = (placed, images.test_labels)

draw_maps(options.figures / "02_conv_net.png", maps)
