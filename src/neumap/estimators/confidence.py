"""How far to trust a new point: signs that a row is unlike what the map was learned from.

A network places every row somewhere, also one of a kind it never saw. Three signs tell: the row is
far from the training rows, its neighbours among them lie apart on the map, or the network
is steep at it, so that a small change of the row would move it far. Each is compared with
the same sign at training rows, which gives a number between 0 and 1 that needs no scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neumap._modes import evaluating
from neumap.data import RowStore

__all__ = ["Confidence", "Signs", "compare", "measure_signs", "steepness"]

SLOPE_ROWS = 1024


@dataclass(frozen=True)
class Signs:
    """The three signs, one number per row each; larger is stranger.

    Attributes
    ----------
    distance : ndarray of shape (n_samples,)
        Mean distance to the nearest training rows, in the units of the data.
    disagreement : ndarray of shape (n_samples,)
        Root mean square distance on the map to the positions of those training rows.
    steepness : ndarray of shape (n_samples,)
        Norm of the derivative of the position by the row, in map units per data unit.
    """

    distance: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    steepness: NDArray[np.float64]


@dataclass(frozen=True)
class Confidence:
    """What :meth:`neumap.ParametricUMAP.confidence` returns.

    Attributes
    ----------
    score : ndarray of shape (n_samples,)
        Between 0 (unlike all training rows) and 1: the mean of the shares below of distance and
        disagreement. Below 0.05 a point deserves doubt.
    signs : Signs
        The measurements themselves.
    shares : Signs
        For each sign, the share of training rows in which it is at least as large.
    """

    score: NDArray[np.float64]
    signs: Signs
    shares: Signs


def measure_signs(
    distances: NDArray[np.float32],
    neighbor_positions: NDArray[np.float32],
    positions: NDArray[np.float32],
    slopes: NDArray[np.float64],
) -> Signs:
    """Return the signs of rows from their neighbours.

    Parameters
    ----------
    distances : array of shape (n, k)
        To the nearest training rows.
    neighbor_positions : array of shape (n, k, n_components)
        Where these are on the map.
    positions : array of shape (n, n_components)
        Where the rows themselves are.
    slopes : array of shape (n,)
        See :func:`steepness`.
    """
    apart = np.square(neighbor_positions - positions[:, None]).sum(2).mean(1)
    return Signs(distances.mean(1, dtype=np.float64), np.sqrt(apart, dtype=np.float64), slopes)


def compare(found: Signs, usual: Signs) -> Confidence:
    """Return the confidence in rows from their signs and those of training rows."""
    shares = Signs(
        _share_at_least(found.distance, usual.distance),
        _share_at_least(found.disagreement, usual.disagreement),
        _share_at_least(found.steepness, usual.steepness),
    )
    return Confidence((shares.distance + shares.disagreement) / 2.0, found, shares)


def _share_at_least(values: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of usual values not below each value, counting the value itself: never 0."""
    below = np.searchsorted(np.sort(usual), values, side="left")
    return np.asarray((len(usual) - below + 1) / (len(usual) + 1), dtype=np.float64)


def steepness(encoder: nn.Module, rows: RowStore) -> NDArray[np.float64]:
    """Return the Frobenius norm of the encoder's Jacobian at every row.

    Parameters
    ----------
    encoder : nn.Module
        Maps rows to positions, each on its own.
    rows : RowStore
        Where the norm is wanted.

    Returns
    -------
    ndarray of shape (n_rows,), float64
    """
    parts = [_slopes(encoder, part) for part in rows.slices(SLOPE_ROWS)]
    return np.concatenate(parts).astype(np.float64)


def _slopes(encoder: nn.Module, part: torch.Tensor) -> NDArray[np.float32]:
    with evaluating(encoder), torch.inference_mode(False), torch.enable_grad():
        inputs = part.clone().requires_grad_(True)
        outputs = encoder(inputs)  # (batch, n_components)
        squared = torch.zeros(len(inputs), device=inputs.device)
        for component in outputs.unbind(1):
            (slope,) = torch.autograd.grad(component.sum(), inputs, retain_graph=True)
            squared += slope.flatten(1).square().sum(1)
    return squared.sqrt().cpu().numpy()
