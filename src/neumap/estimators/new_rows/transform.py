"""From new rows to positions, and from positions back to rows, with a fitted model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from neumap._device import resolve_device
from neumap._modes import own_torch_state
from neumap.data import Validated, as_rows, like, row_count, same
from neumap.estimators.fitted import Fitted, device_of
from neumap.estimators.new_rows.placement import average_neighbors, place_rows
from neumap.estimators.recipe import Recipe
from neumap.fuzzy import membership_to_train
from neumap.training.embedders import encode_rows

__all__ = ["are_training_rows", "embed", "invert"]


@own_torch_state()
def embed(new: Validated, fitted: Fitted, recipe: Recipe) -> Any:
    """Return the positions of checked rows, or their memberships if the recipe stops there.

    An encoder gives positions at once. Free positions are found among the training rows: near the
    neighbours of a row, then moved by the forces of UMAP while the training rows stay.

    Raises
    ------
    ValueError
        If the model has no encoder and was saved without its training rows.
    """
    if fitted.encoder is not None and not recipe.stops_at_graph:
        return fitted.embed(new)
    training = fitted.training_rows("transform without an encoder")
    if not recipe.stops_at_graph and are_training_rows(new.X, fitted, recipe):
        return fitted.positions.copy()  # equal training rows may have positions of their own
    indices, distances = training.nearest(new.X, recipe.graph, resolve_device(recipe.device))
    if recipe.stops_at_graph:
        return membership_to_train(
            indices,
            distances,
            row_count(training.rows),
            local_connectivity=recipe.graph.local_connectivity,
            disconnection_distance=recipe.graph.farthest,
        )
    return place_rows(
        indices,
        distances,
        fitted.positions,
        recipe.kernel_of_new_rows,
        local_connectivity=recipe.graph.local_connectivity,
        seed=recipe.transform_seed,
    )


def are_training_rows(X: Any, fitted: Fitted, recipe: Recipe) -> bool:
    """Whether checked rows are those of the fit, in their order."""
    training = fitted.training_rows("transform without an encoder").rows
    if row_count(X) != row_count(training):  # before sparse rows are made dense to compare them
        return False
    # Of distances, absent ones and zeros are different.
    return same(X if recipe.graph.metric == "precomputed" else like(X, training), training)


@own_torch_state()
def invert(X: ArrayLike, fitted: Fitted, recipe: Recipe) -> NDArray[np.float32]:
    """Return rows of data for positions, by the decoder or as a mean of training rows.

    Raises
    ------
    ValueError
        If the positions have another width or are not finite, or there is neither a decoder nor
        training rows.
    """
    positions = _check_positions(X, fitted.n_components)
    if fitted.decoder is not None:
        assert fitted.reconstruction_loss is not None
        points = as_rows(positions, device=device_of(fitted.decoder))
        outputs = torch.from_numpy(encode_rows(fitted.decoder, points))
        rows = fitted.reconstruction_loss.activation(outputs).numpy()
    elif fitted.training is None or recipe.graph.metric == "precomputed":
        raise ValueError(
            "inverse_transform needs a decoder: fit with parametric_reconstruction=True. "
            "Without one it averages training rows, which this model does not keep; a file has "
            "them with save(path, keep='data')."
        )
    else:
        rows = average_neighbors(
            positions,
            fitted.positions,
            as_rows(fitted.training.rows).to_matrix(),
            recipe.kernel_of_new_rows,
            recipe.graph.n_neighbors,
        )
    return np.asarray(rows.reshape(len(rows), *fitted.input_shape))


def _check_positions(X: Any, n_components: int) -> NDArray[np.float32]:
    positions = np.asarray(X, dtype=np.float32)
    if positions.ndim != 2 or positions.shape[1] != n_components:
        raise ValueError(
            f"Positions must have shape (n_samples, {n_components}), got {positions.shape}. Pass "
            "positions as transform returns them."
        )
    if not np.isfinite(positions).all():
        raise ValueError(
            "Positions must be finite, got NaN or infinity. Leave out rows without a position."
        )
    return positions
