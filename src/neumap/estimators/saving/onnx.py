"""``transform`` and ``inverse_transform`` as one network each, for the ONNX file.

Rows are reshaped for the encoder and encoded. Positions are decoded, passed through the activation
and reshaped like the training rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from neumap._random import torch_generator
from neumap.estimators.fitted import Fitted
from neumap.export import to_onnx
from neumap.networks import Standardize
from neumap.training.embedders import rows_to_write_on

__all__ = ["Pipeline", "decoding_pipeline", "encoding_pipeline", "export_part"]

EXAMPLE_ROWS = 64


class Pipeline(nn.Module):
    """A network between two reshapes, followed by an activation.

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
        shaped = rows.reshape(rows.shape[0], *self.in_shape)
        outputs: Tensor = self.network(rows_to_write_on(self.network, shaped))
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs.reshape(rows.shape[0], *self.out_shape)


def encoding_pipeline(fitted: Fitted) -> Pipeline:
    """Return the network behind ``transform``."""
    assert fitted.encoder is not None
    return Pipeline(fitted.encoder, fitted.row_shape, (fitted.n_components,))


def decoding_pipeline(fitted: Fitted) -> Pipeline:
    """Return the network behind ``inverse_transform``."""
    assert fitted.decoder is not None
    assert fitted.reconstruction_loss is not None
    return Pipeline(
        fitted.decoder,
        (fitted.n_components,),
        fitted.input_shape,
        fitted.reconstruction_loss.activation,
    )


def export_part(
    fitted: Fitted,
    path: str | os.PathLike[str],
    *,
    part: Literal["encoder", "decoder"],
    check: bool,
) -> Path:
    """Write a part of a fitted estimator; see :meth:`neumap.ParametricUMAP.to_onnx`."""
    if part not in ("encoder", "decoder"):
        raise ValueError(f"part must be 'encoder' or 'decoder', got {part!r}. Change part.")
    if getattr(fitted, part) is None:
        setting = "parametric_embedding" if part == "encoder" else "parametric_reconstruction"
        raise ValueError(f"This model has no {part} to export. Fit with {setting}=True.")
    if part == "encoder":
        pipeline, rows = encoding_pipeline(fitted), _rows_like_training(fitted)
        names = ("X", "embedding")
    else:
        pipeline, rows = decoding_pipeline(fitted), _positions(fitted)
        names = ("embedding", "X")
    return to_onnx(
        pipeline,
        path,
        example=rows,
        input_names=names[:1],
        output_names=names[1:],
        check=check,
    )


def _rows_like_training(fitted: Fitted) -> Tensor:
    """Rows of both signs, of the training rows' mean and scale where the encoder knows them."""
    noise = torch.randn(EXAMPLE_ROWS, fitted.n_features, generator=torch_generator(0, "onnx"))
    front = getattr(fitted.encoder, "standardize", None)
    if isinstance(front, Standardize):
        noise = noise * front.scale.cpu() + front.mean.cpu()
    return noise.reshape(EXAMPLE_ROWS, *fitted.input_shape)


def _positions(fitted: Fitted) -> Tensor:
    """Positions of training rows, or others in a model without them."""
    if fitted.embedding is None:
        return 5.0 * torch.randn(
            EXAMPLE_ROWS, fitted.n_components, generator=torch_generator(0, "onnx positions")
        )
    placed = fitted.positions[np.isfinite(fitted.positions).all(axis=1)]
    return torch.from_numpy(placed[:EXAMPLE_ROWS])
