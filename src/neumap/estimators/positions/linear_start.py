"""A start of the training at the principal components: the untrained network is that linear map.

A deep ReLU network with random weights sends all rows in nearly the same direction, so its first
map has lost which groups of rows lie near each other, and the training, which only sees neighbours,
does not find it again. Here the units of each hidden layer come in pairs of opposite sign, whose
weights are an orthogonal matrix Q as ``[[Q, -Q], [-Q, Q]]``. Since relu(x) - relu(-x) = x, the
network as a whole is then linear (Balduzzi et al. 2017, "The shattered gradients problem"), and its
last layer can be chosen such that it gives the principal components.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neumap._random import torch_generator
from neumap.networks import MLP

__all__ = ["WIDEST_COVARIANCE", "principal_axes", "start_linear"]

# Standard deviation of the first component in the first map. Maps are some twenty times as large in
# the end; starting at 5 gave the same scores.
EXTENT = 1.0
WIDEST_COVARIANCE = 2048  # that of more directions takes longer than it is worth
SMALLEST_RATIO = 1e-6  # of a component's variance to the first


@torch.no_grad()
def start_linear(network: MLP, sample: Tensor, seed: int) -> bool:
    """Set the weights such that the network gives the principal components of its input.

    Parameters
    ----------
    network : MLP
        With statistics of its input.
    sample : Tensor of shape (n, n_read)
        What the first layer reads of some rows; see :meth:`neumap.networks.MLP.inputs`.
    seed : int
        Of the orthogonal matrices.

    Returns
    -------
    bool
        False, with the weights as they were, where that is impossible: for residual networks,
        widths that are odd or less than twice the outputs, or rows of fewer dimensions than
        outputs.
    """
    widths = network.hidden
    fits = widths and all(w % 2 == 0 and w >= 2 * network.n_outputs for w in widths)
    if network.residual or not fits or network.n_read > WIDEST_COVARIANCE:
        return False
    directions, spreads = _principal(sample)
    if len(spreads) < network.n_outputs:
        return False
    layers: list[nn.Linear] = list(network.layers)  # type: ignore[arg-type]
    generator = torch_generator(seed, "linear start")
    kept = directions[: widths[0] // 2]
    carried = _orthogonal(widths[0] // 2, len(kept), generator).to(kept) @ kept
    _set(layers[0], torch.cat([carried, -carried]))
    for layer, before, after in zip(layers[1:-1], widths, widths[1:], strict=False):
        turn = _orthogonal(after // 2, before // 2, generator).to(kept)
        _set(layer, torch.cat([torch.cat([turn, -turn], 1), torch.cat([-turn, turn], 1)]))
        carried = turn @ carried
    wanted = directions[: network.n_outputs] * (EXTENT / spreads[0])
    last = wanted @ torch.linalg.pinv(carried)
    _set(layers[-1], torch.cat([last, -last], 1))
    return True


def _principal(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Return principal directions as rows, and the standard deviation along each, largest first."""
    centred = (sample - sample.mean(0)).double()
    variances, directions = principal_axes(centred.t() @ centred / len(sample))
    counts = variances > SMALLEST_RATIO * variances[0].clamp_min(torch.finfo(torch.float64).tiny)
    return directions[counts], variances[counts].sqrt()


def principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variances along the principal axes, and the axes as rows, largest first."""
    variances, axes = torch.linalg.eigh(covariance)
    return variances.flip(0), axes.flip(1).t()


def _orthogonal(n_rows: int, n_columns: int, generator: torch.Generator) -> Tensor:
    """Return a random matrix with orthonormal columns, or rows if there are fewer of these."""
    longer, shorter = max(n_rows, n_columns), min(n_rows, n_columns)
    drawn = torch.randn(longer, shorter, generator=generator, dtype=torch.float64)
    orthonormal: Tensor = torch.linalg.qr(drawn).Q
    return orthonormal if n_rows >= n_columns else orthonormal.t()


def _set(layer: nn.Linear, weight: Tensor) -> None:
    layer.weight.copy_(weight)
    layer.bias.zero_()
