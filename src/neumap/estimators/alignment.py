"""A refit in the frame of an earlier map: turned, mirrored and scaled, networks included.

Two fits of the same rows differ by an arbitrary rotation, and in details. The similarity transform
that brings the new positions of rows closest to known ones (Umeyama 1991, "Least-squares estimation
of transformation parameters between two point patterns") removes the first and measures the second.
It is composed with the last layer of the encoder and the first one of decoder and classifier, so
that everything a model gives is in the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neumap._random import layers_seeded
from neumap.estimators.describing import extent_of
from neumap.estimators.fitted import Fitted, device_of
from neumap.estimators.landmarks import drift
from neumap.losses.output_metrics import OutputMetric
from neumap.networks import MLP, ConvDecoder, ConvEncoder

__all__ = ["Motion", "aligned", "best_motion", "check_frame", "check_is_flat"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """The map ``z -> z @ matrix + shift`` of row vectors.

    Attributes
    ----------
    matrix : array of shape (n_components, n_components), float64
        A rotation, possibly with a reflection, times the scale.
    shift : array of shape (n_components,), float64
        Added afterwards.
    """

    matrix: Matrix
    shift: Matrix

    @property
    def scale(self) -> float:
        """Factor on all distances."""
        return float(abs(np.linalg.det(self.matrix)) ** (1 / len(self.shift)))

    @property
    def is_mirrored(self) -> bool:
        """Whether the map turns right hands into left ones."""
        return bool(np.linalg.det(self.matrix) < 0.0)

    def inverse(self) -> Motion:
        """Return the map back."""
        back = np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)
        return Motion(back, -self.shift @ back)

    def __call__(self, positions: NDArray[Any]) -> NDArray[np.float32]:
        """Return moved positions, (n, n_components) float32; NaN stays NaN."""
        return np.asarray(positions.astype(np.float64) @ self.matrix + self.shift, np.float32)


def best_motion(source: Matrix, target: Matrix, *, scales: bool = True) -> Motion:
    """Return the similarity transform with the least squared distances from moved to given points.

    Parameters
    ----------
    source, target : arrays of shape (n, n_components), float64
        Corresponding points.
    scales : bool, default=True
        Whether distances may change, all by one factor.
    """
    from_centre, to_centre = source.mean(0), target.mean(0)
    moved, fixed = source - from_centre, target - to_centre
    left, strengths, right = np.linalg.svd(moved.T @ fixed)
    spread = float(np.square(moved).sum())
    factor = float(strengths.sum()) / spread if scales and spread > 0.0 else 1.0
    # A reflection is allowed: UMAP has no handedness.
    matrix = (factor or 1.0) * (left @ right)
    return Motion(matrix, to_centre - from_centre @ matrix)


def check_is_flat(metric: OutputMetric | None) -> None:
    """Raise ValueError where turning, mirroring and scaling coordinates would change a map.

    Angles on a sphere are no coordinates that can be turned as those of a plane can, and distances
    such as the sum of absolute differences change with the direction of the axes.
    """
    if metric is not None:
        raise ValueError(
            "align_to must be None for a map with another metric than the Euclidean one, whose "
            f"distances a rotation of the coordinates changes, got output_metric={metric.name!r}. "
            "Leave out align_to, or pass landmark_positions, which keep coordinates."
        )


def check_frame(positions: Any, n_rows: int, n_components: int) -> NDArray[np.float32]:
    """Return known positions as float32.

    Raises
    ------
    ValueError
        If the shape is another, or too few rows have a position.
    """
    known = np.asarray(positions, dtype=np.float32)
    if known.shape != (n_rows, n_components):
        raise ValueError(
            f"align_to must give positions of shape {(n_rows, n_components)}, one row per row of "
            f"X, got {known.shape}. Use NaN for rows whose position is not known, and a model of "
            "as many components."
        )
    n_known = int(np.isfinite(known).all(axis=1).sum())
    if n_known <= n_components:
        raise ValueError(
            f"align_to must give positions for at least {n_components + 1} rows, got {n_known}. "
            "Pass more rows that are on both maps."
        )
    return known


def aligned(fitted: Fitted, frame: NDArray[np.float32]) -> Fitted:
    """Return a fitted model whose positions are moved onto known ones as closely as possible.

    Free positions keep their scale, in which the forces on new rows are given.

    Parameters
    ----------
    fitted : Fitted
        Just fitted; its networks are changed in place where that is possible.
    frame : array of shape (n_samples, n_components), float32
        Known positions of the rows, NaN where there is none.
    """
    assert fitted.embedding is not None
    source = fitted.embedding
    both = np.isfinite(source).all(axis=1) & np.isfinite(frame).all(axis=1)
    motion = best_motion(
        source[both].astype(np.float64),
        frame[both].astype(np.float64),
        scales=fitted.encoder is not None,
    )
    positions = motion(source)
    report = {
        **_with_rows(drift(positions, frame)),
        "scale": motion.scale,
        "is_mirrored": motion.is_mirrored,
    }
    radii, card = fitted.rad_emb, fitted.card
    return replace(
        fitted,
        card=None if card is None else replace(card, extent=extent_of(positions)),
        embedding=positions,
        # Local radii are logarithms of squared distances.
        rad_emb=None if radii is None else radii + np.float32(2 * np.log(motion.scale)),
        encoder=None if fitted.encoder is None else _followed(fitted.encoder, motion),
        decoder=None if fitted.decoder is None else _preceded(fitted.decoder, motion.inverse()),
        classifier=_preceded_linear(fitted.classifier, motion.inverse()),
        report={**(fitted.report or {}), "alignment": report},
    )


def _with_rows(moved: dict[str, float | int]) -> dict[str, float | int]:
    return {("n_rows" if name == "n_landmarks" else name): value for name, value in moved.items()}


def _followed(encoder: nn.Module, motion: Motion) -> nn.Module:
    """Return the encoder with the motion after it; in its last layer, if it is of the package."""
    last: Any = None
    if isinstance(encoder, MLP) and encoder.output_shape is None:
        last = encoder.layers[-1]
    elif isinstance(encoder, ConvEncoder):
        last = encoder.output
    if last is None:
        # The layers of a user's network may be used elsewhere, as by a decoder with its weights.
        return nn.Sequential(encoder, _layer_of(motion, device_of(encoder))).eval()
    weight, bias, matrix, shift = _in_double(last, motion)
    _set(last, matrix.T @ weight, bias @ matrix + shift)
    return encoder


def _preceded(decoder: nn.Module, motion: Motion) -> nn.Module:
    """Return the decoder with the motion before it; in its first layer, where that is the same."""
    first: Any = None
    if isinstance(decoder, ConvDecoder):
        first = decoder.dense
    elif isinstance(decoder, MLP) and _reads_positions_once(decoder):
        first = decoder.layers[0]
    if first is None:
        return nn.Sequential(_layer_of(motion, device_of(decoder)), decoder).eval()
    _put_before(first, motion)
    return decoder


def _reads_positions_once(decoder: MLP) -> bool:
    """Whether the first layer alone reads the positions, as they are."""
    front = decoder.standardize
    is_plain = front.rows == "raw" and float(front.scale) == 1.0 and not bool(front.mean.any())
    passes_on = decoder.residual and decoder.hidden[:1] == (decoder.n_inputs,)
    return is_plain and decoder.subspace is None and not passes_on


def _preceded_linear(classifier: nn.Module | None, motion: Motion) -> nn.Module | None:
    if classifier is not None:
        assert isinstance(classifier, nn.Linear)
        _put_before(classifier, motion)
    return classifier


def _put_before(layer: nn.Linear, motion: Motion) -> None:
    """Change a linear layer so that it reads moved positions."""
    weight, bias, matrix, shift = _in_double(layer, motion)
    _set(layer, weight @ matrix.T, bias + weight @ shift)


def _layer_of(motion: Motion, device: torch.device) -> nn.Linear:
    size = len(motion.shift)
    with layers_seeded(0, "alignment"):  # which leaves the global generators alone
        layer = nn.Linear(size, size)
    _set(layer, torch.from_numpy(motion.matrix.T.copy()), torch.from_numpy(motion.shift))
    return layer.to(device)


def _in_double(layer: nn.Linear, motion: Motion) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weight and bias of a layer, matrix and shift of a motion, float64 on the CPU."""
    weight, bias = layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double()
    return weight, bias, torch.from_numpy(motion.matrix), torch.from_numpy(motion.shift)


def _set(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
