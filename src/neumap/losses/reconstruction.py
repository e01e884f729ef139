"""Reconstruction: a decoder that maps coordinates back to rows, and its loss.

In: the coordinates and rows of a batch. Out: one scalar. A :class:`ReconstructionLoss` combines the
loss with the activation that turns the decoder's outputs into data. Training can therefore use
logits where these are numerically stable, while ``inverse_transform`` returns data.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neumap._modes import evaluating
from neumap.data import RowStore
from neumap.losses.terms import Batch, rows_of

__all__ = [
    "DecodedRows",
    "ReconstructionLoss",
    "ReconstructionTerm",
    "reconstruction_loss",
    "validation_loss",
]

NAMES = ("bce", "mse", "mae", "huber")
SMALLEST_FRACTION = 1e-7  # keeps the logarithms of fractions finite
LARGEST_TO_SQUARE = 1e15  # float32 holds the sum of the squares of a hundred million of them


@dataclass(frozen=True)
class ReconstructionLoss:
    """How far decoded rows are from the true ones.

    Attributes
    ----------
    name : str
        For reports and saved models; ``"custom"`` for a callable.
    function : callable
        ``function(y_true, y_pred)`` to a Tensor of any shape; its mean is the loss.
    activation : callable
        Maps the decoder's outputs to data space: sigmoid if the loss takes logits, otherwise the
        identity.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]

    @property
    def takes_logits(self) -> bool:
        """Whether the decoder has to end without an activation."""
        return self.activation is torch.sigmoid

    def of_fractions(self) -> ReconstructionLoss:
        """Return the same cross entropy for a decoder that gives fractions, not their logits."""
        return ReconstructionLoss(self.name, _cross_entropy_of_fractions, _identity)

    def __call__(self, rows: Tensor, outputs: Tensor) -> Tensor:
        """Return the mean loss of decoder outputs against rows, a scalar."""
        if outputs.numel() != rows.numel() or len(outputs) != len(rows):
            raise ValueError(
                f"The decoder must return one row per position, {tuple(rows.shape)} in all, got "
                f"{tuple(outputs.shape)}. Change the decoder's last layer, or dims."
            )
        return self.function(rows, outputs.reshape(rows.shape).to(rows.dtype)).mean()


def reconstruction_loss(loss: Any, data_range: tuple[float, float]) -> ReconstructionLoss:
    """Return the loss a user named, with its activation.

    Parameters
    ----------
    loss : None, {"bce", "mse", "mae", "huber"} or callable
        * ``None``: ``"bce"`` if all data lie in [0, 1], ``"mse"`` otherwise.
        * ``"bce"``: binary cross entropy from logits; the decoder ends in a linear layer. For
          pixels and fractions. :meth:`ReconstructionLoss.of_fractions` is for one that ends in a
          sigmoid.
        * ``"mse"``: squared error, any range. ``"mae"`` and ``"huber"`` are less sensitive to
          outliers.
        * a callable ``(y_true, y_pred)`` that returns one value per row, per element or in total.
          This is the argument order of Keras, and Keras losses work. A loss of ``torch.nn`` is
          recognised and gets its arguments in torch's order, prediction first. For a loss that
          takes logits (``BCEWithLogitsLoss``, a Keras loss with ``from_logits=True``) the
          activation is the sigmoid.
    data_range : tuple of float
        Smallest and largest value in the data.

    Raises
    ------
    ValueError
        If the name is unknown, or the data are outside [0, 1] for ``"bce"`` or too large for
        ``"mse"``.
    TypeError
        If `loss` is neither a name nor callable.

    Examples
    --------
    >>> reconstruction_loss(None, (0.0, 1.0)).name, reconstruction_loss(None, (0.0, 255.0)).name
    ('bce', 'mse')
    """
    within_unit = data_range[0] >= 0.0 and data_range[1] <= 1.0
    if loss is None:
        return reconstruction_loss("bce" if within_unit else "mse", data_range)
    if isinstance(loss, str):
        return _named(loss, data_range, within_unit)
    if not callable(loss):
        raise TypeError(
            f"The reconstruction loss must be None, one of {NAMES} or a function "
            f"(y_true, y_pred), got {type(loss).__name__}. Pass for example 'mse'."
        )
    return _custom(loss)


def _named(loss: str, data_range: tuple[float, float], within_unit: bool) -> ReconstructionLoss:
    name = loss.lower()
    if name == "bce":
        if not within_unit:
            raise ValueError(
                "X must be within [0, 1] for the reconstruction loss 'bce', got values from "
                f"{data_range[0]:.4g} to {data_range[1]:.4g}. Scale X, or use 'mse'."
            )
        return ReconstructionLoss(name, _cross_entropy, torch.sigmoid)
    elementwise: dict[str, Callable[..., Tensor]] = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": functional.huber_loss,
    }
    if name not in elementwise:
        raise ValueError(
            f"The reconstruction loss must be one of {NAMES} or a function (y_true, y_pred), "
            f"got {loss!r}. Choose one of these names, or pass a function."
        )
    if name == "mse" and max(-data_range[0], data_range[1]) > LARGEST_TO_SQUARE:
        raise ValueError(
            f"X must be within ±{LARGEST_TO_SQUARE:.0e} for the reconstruction loss 'mse', since "
            f"float32 holds no larger squares, got values from {data_range[0]:.4g} to "
            f"{data_range[1]:.4g}. Divide X by its largest number."
        )
    return ReconstructionLoss(name, elementwise[name], _identity)


def _cross_entropy(rows: Tensor, logits: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, rows)


def _cross_entropy_of_fractions(rows: Tensor, fractions: Tensor) -> Tensor:
    inside = fractions.clamp(SMALLEST_FRACTION, 1.0 - SMALLEST_FRACTION)
    return -(rows * inside.log() + (1.0 - rows) * (1.0 - inside).log())


def _identity(outputs: Tensor) -> Tensor:
    return outputs


def _custom(loss: Callable[..., Any]) -> ReconstructionLoss:
    """Wrap a callable by the order of its arguments and whether it takes logits."""
    takes_logits = (
        isinstance(loss, nn.BCEWithLogitsLoss)
        or loss is functional.binary_cross_entropy_with_logits
        or bool(getattr(loss, "from_logits", False))
    )
    from_torch = isinstance(loss, nn.Module) and type(loss).__module__.startswith("torch.nn")
    from_torch |= getattr(loss, "__module__", None) == "torch.nn.functional"
    # Partial functions, not closures, which could not be pickled with a fitted model.
    function = partial(_in_torch_order if from_torch else _in_keras_order, loss)
    return ReconstructionLoss("custom", function, torch.sigmoid if takes_logits else _identity)


def _in_torch_order(loss: Callable[..., Any], rows: Tensor, outputs: Tensor) -> Tensor:
    return torch.as_tensor(loss(outputs, rows))


def _in_keras_order(loss: Callable[..., Any], rows: Tensor, outputs: Tensor) -> Tensor:
    return torch.as_tensor(loss(rows, outputs))


@dataclass(frozen=True)
class DecodedRows:
    """How many rows of a batch are decoded: a share of them, but not fewer than `at_least`.

    Examples
    --------
    >>> DecodedRows().of(1024), DecodedRows(0.25, at_least=64).of(1024)
    (1024, 256)
    >>> DecodedRows(0.0, at_least=64).of(1024), DecodedRows(0.0, at_least=64).of(40)
    (64, 40)
    """

    share: float = 1.0
    at_least: int = 1

    def of(self, n_batch: int) -> int:
        """Return the number of rows for a batch of this size."""
        return min(n_batch, max(self.at_least, round(self.share * n_batch)))


@dataclass(frozen=True)
class ReconstructionTerm:
    """Decode the positions of a batch and compare with its rows.

    umap-learn decodes one end of each edge. Here both ends are decoded, since both are encoded.

    Parameters
    ----------
    decoder : nn.Module
        Maps (batch, n_components) to rows, flat or shaped. Trained.
    loss : ReconstructionLoss
        See :func:`reconstruction_loss`.
    weight : float, default=1.0
        Factor in the total. If `joint`, larger values favour reconstruction over neighbourhoods. If
        not, the factor only acts on the decoder, and Adam, which divides by the size of the
        gradient, cancels it.
    joint : bool, default=False
        Whether the gradient reaches the encoder. If False, the decoder does not affect the
        embedding.
    rows : RowStore, optional
        The rows, if positions are free and the batch has none.
    decoded : DecodedRows, optional
        How many rows of a batch are decoded; by default all.
    mixed : callable, optional
        Returns a context in which the decoder runs, for its precision.
    """

    decoder: nn.Module
    loss: ReconstructionLoss
    weight: float = 1.0
    joint: bool = False
    rows: RowStore | None = None
    decoded: DecodedRows = DecodedRows()
    mixed: Callable[[], AbstractContextManager[None]] | None = None
    name: str = field(default="reconstruction_loss", init=False)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The decoder."""
        return {"decoder": self.decoder}

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean reconstruction loss of the rows that are decoded."""
        chosen = self._chosen(batch)
        rows = rows_of(batch, self.rows, type(self).__name__, chosen)
        coordinates = batch.coordinates[chosen]
        if not self.joint:
            coordinates = coordinates.detach()
        with nullcontext() if self.mixed is None else self.mixed():
            outputs = self.decoder(coordinates)
        return self.loss(rows, outputs)

    def _chosen(self, batch: Batch) -> Tensor | slice:
        """Return which rows of a batch are decoded."""
        n_batch = len(batch.indices)
        n_rows = self.decoded.of(n_batch)
        if n_rows == n_batch:
            return slice(None)
        # Evenly spread, since a batch may be in an order, such as by neighbourhood.
        return torch.arange(n_rows, device=batch.indices.device) * n_batch // n_rows


def validation_loss(
    encoder: nn.Module,
    decoder: nn.Module,
    loss: ReconstructionLoss,
    rows: RowStore,
    *,
    batch_rows: int = 4096,
) -> float:
    """Return the mean reconstruction loss over all rows of a store, without training.

    Parameters
    ----------
    encoder, decoder : nn.Module
        Switched to evaluation during the call.
    loss : ReconstructionLoss
    rows : RowStore
        Held-out rows.
    batch_rows : int, default=4096
        Rows decoded at once.
    """
    total, n_rows = 0.0, 0
    with evaluating(encoder), evaluating(decoder):
        for part in rows.slices(batch_rows):
            # Copies: networks and losses of the user may write on what they are given.
            outputs = decoder(encoder(part.clone()).float())
            total += float(loss(part.clone(), outputs)) * len(part)
            n_rows += len(part)
    return total / max(n_rows, 1)
