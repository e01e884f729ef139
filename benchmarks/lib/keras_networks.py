"""The convolutional networks of umap-learn's page, in Keras with any backend."""

from __future__ import annotations

from typing import Any

N_COMPONENTS = 2


def conv_encoder() -> Any:
    """Return the encoder, channels last."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, strides=2, activation="relu", padding="same"),
            layers.Conv2D(64, 3, strides=2, activation="relu", padding="same"),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(256, activation="relu"),
            layers.Dense(N_COMPONENTS),
        ]
    )
