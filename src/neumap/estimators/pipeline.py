"""The whole way of a row as one network, for a file that other runtimes read.

Rows as ``transform`` takes them are shaped for the encoder and encoded; positions as
``inverse_transform`` takes them are decoded, activated and shaped as the training rows were.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from neumap._random import torch_generator
from neumap.export import to_onnx
from neumap.networks import Standardize

__all__ = ["Pipeline", "decoding_pipeline", "encoding_pipeline", "export_part"]

EXAMPLE_ROWS = 64


class Pipeline(nn.Module):
    """A network between two reshapes, with an activation behind it.

    Parameters
    ----------
    network : nn.Module
        Shared, not copied.
    in_shape, out_shape : tuple of int
        Shape of a row for the network, and of a row that comes out.
    activation : callable or None
        Applied to the network's outputs.
    """

    def __init__(
        self,
        network: nn.Module,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.in_shape = in_shape
        self.out_shape = out_shape
        self.activation = activation

    def forward(self, rows: Tensor) -> Tensor:
        """Map a batch of rows (batch, ...) to (batch, *out_shape)."""
        outputs: Tensor = self.network(rows.reshape(rows.shape[0], *self.in_shape))
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs.reshape(rows.shape[0], *self.out_shape)


def encoding_pipeline(estimator: Any) -> Pipeline:
    """Return the network behind ``transform``."""
    return Pipeline(estimator.encoder_, estimator.row_shape_, (estimator.n_components,))


def decoding_pipeline(estimator: Any) -> Pipeline:
    """Return the network behind ``inverse_transform``."""
    return Pipeline(
        estimator.decoder_,
        (estimator.n_components,),
        estimator.input_shape_,
        estimator.reconstruction_loss_.activation,
    )


def export_part(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    part: Literal["encoder", "decoder"],
    check: bool,
) -> Path:
    """Write a part of a fitted estimator; see :meth:`neumap.ParametricUMAP.to_onnx`."""
    check_is_fitted(estimator, "graph_")
    if part not in ("encoder", "decoder"):
        raise ValueError(f"part must be 'encoder' or 'decoder', got {part!r}.")
    if not hasattr(estimator, f"{part}_"):
        setting = "parametric_embedding" if part == "encoder" else "parametric_reconstruction"
        raise ValueError(f"This model has no {part} to export. Fit with {setting}=True.")
    if part == "encoder":
        pipeline, rows = encoding_pipeline(estimator), _rows_like_training(estimator)
        names = ("X", "embedding")
    else:
        pipeline, rows = decoding_pipeline(estimator), _positions(estimator)
        names = ("embedding", "X")
    return to_onnx(
        pipeline,
        path,
        example=rows,
        input_names=names[:1],
        output_names=names[1:],
        check=check,
    )


def _rows_like_training(estimator: Any) -> Tensor:
    """Rows of both signs, of the training rows' mean and scale where the encoder knows them."""
    noise = torch.randn(
        EXAMPLE_ROWS, estimator.n_features_in_, generator=torch_generator(0, "onnx")
    )
    front = getattr(estimator.encoder_, "standardize", None)
    if isinstance(front, Standardize):
        noise = noise * front.scale.cpu() + front.mean.cpu()
    return noise.reshape(EXAMPLE_ROWS, *estimator.input_shape_)


def _positions(estimator: Any) -> Tensor:
    """Places on the map where there are training rows."""
    placed = estimator.embedding_[np.isfinite(estimator.embedding_).all(axis=1)]
    return torch.from_numpy(placed[:EXAMPLE_ROWS])
