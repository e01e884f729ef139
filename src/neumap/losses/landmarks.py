"""Landmarks: rows that should keep a given position.

In: the coordinates of a batch and target positions of some of its rows. Out: their mean distance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neumap.losses.terms import Batch

__all__ = ["LandmarkTerm"]

# Added under the root, as in umap-learn: no infinite gradient for a landmark at its target.
SMALLEST_SQUARED_DISTANCE = 1e-10


@dataclass(frozen=True)
class LandmarkTerm:
    """Mean distance of the batch's landmarks from their given positions.

    A row occurs in a batch in proportion to the weights of its edges: on average
    ``2 n_edges * degree / (sum of degrees)`` times. The loss of a batch is the mean over its
    landmarks, and 0 without any. The fewer landmarks there are, the stronger each of them is
    pulled. With fewer than about one per batch, raise `weight`.

    Parameters
    ----------
    targets : Tensor of shape (n_rows, n_components)
        Given positions of all training rows; rows of NaN are free.
    weight : float, default=1.0
        Factor in the total. 0.01 keeps an old embedding in place while new rows are added.
    loss_fn : callable, optional
        ``loss_fn(y_true, y_pred)`` on the landmarks of the batch, (n_landmarks, n_components)
        each; its mean is the loss. The Euclidean distance by default.

    Raises
    ------
    ValueError
        If a row is NaN in part, or infinite.
    """

    targets: Tensor
    weight: float = 1.0
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None
    name: str = field(default="landmark_loss", init=False)
    modules: dict[str, nn.Module] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Check the targets once."""
        unknown = self.targets.isnan()
        partial = unknown.any(1) & ~unknown.all(1)
        infinite = self.targets.isinf().any(1)
        for bad, what in ((partial, "NaN in some columns only"), (infinite, "infinite")):
            if bad.any():
                first = int(bad.nonzero()[0])
                raise ValueError(
                    "A landmark position must be finite in every column, or NaN in every column "
                    f"for a free row, got {int(bad.sum())} rows that are {what}, the first at row "
                    f"{first}: {self.targets[first].tolist()}. Correct these rows."
                )

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean loss over the landmarks of the batch, 0 if it holds none."""
        targets = self.targets.index_select(0, batch.indices)  # (2 n_edges, n_components)
        given = ~targets[:, 0].isnan()
        if self.loss_fn is None:
            return _mean_distance(targets, batch.coordinates, given)
        if not given.any():
            return batch.coordinates.sum() * 0.0
        return torch.as_tensor(self.loss_fn(targets[given], batch.coordinates[given])).mean()


def _mean_distance(targets: Tensor, coordinates: Tensor, given: Tensor) -> Tensor:
    """Return the mean distance of given rows, without shapes that depend on the batch.

    Such shapes would wait for a GPU.
    """
    # Free rows are set to 0, since 0 * NaN is NaN.
    difference = torch.where(given[:, None], coordinates - targets, 0.0)
    distance = (difference.square().sum(1) + SMALLEST_SQUARED_DISTANCE).sqrt()
    return (distance * given).sum() / given.sum().clamp_min(1)
