"""Read saved estimators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from neumap.archive import ArchiveError
from neumap.estimators.aligned.learned import AlignedFitted
from neumap.estimators.aligned.model import AlignedUMAP
from neumap.estimators.parametric import ParametricUMAP
from neumap.estimators.saving.checks import check_saved_parameters
from neumap.estimators.saving.files import read_model
from neumap.estimators.umap import UMAP

__all__ = ["load", "load_ParametricUMAP"]


def load(
    path: str | os.PathLike[str],
    *,
    encoder: Any = None,
    decoder: Any = None,
    classes: Sequence[Any] = (),
    device: str | torch.device = "auto",
) -> Any:
    """Read what ``save`` wrote: an estimator of this package, fitted or not.

    No code of the file is run and nothing is imported because a file names it; classes of your
    own come from you.

    Parameters
    ----------
    path : path-like
        The file, or the folder with ``model.neumap`` in it.
    encoder, decoder : torch.nn.Module or Keras model, optional
        Ready networks of the structure that was saved, for classes without a ``config``; copies
        of them are filled with the stored weights.
    classes : sequence of class, optional
        Your own that occur in the model: networks with a ``config`` property, Keras layers, a
        class derived from the estimator.
    device : str or torch.device, default="auto"
        Where the networks go, and the parameter `device` of the result. ``"auto"`` takes the
        device the model was made for where this machine has it.

    Returns
    -------
    UMAP, ParametricUMAP or AlignedUMAP
        Equal to the one saved: same parameters, same positions and same predictions to the bit.

    Raises
    ------
    ArchiveError
        If the file is missing, truncated, foreign or from a newer neumap, holds values that no
        model has, or holds a network that cannot be rebuilt without `classes`, `encoder` or
        `decoder`. It is a ``ValueError``.
    ValueError
        If the device is not here, or a network is passed for which the model has no place.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = UMAP(n_neighbors=7).save(folder)
    ...     load(folder)
    UMAP(n_neighbors=7)
    """
    known = (UMAP, AlignedUMAP)
    own = [kind for kind in classes if isinstance(kind, type) and issubclass(kind, known)]
    ours = [AlignedUMAP, ParametricUMAP, UMAP, *own[::-1]]
    kinds: dict[str, Any] = {kind.__name__: kind for kind in ours}
    saved = read_model(
        path,
        {name: kind._get_param_names() for name, kind in kinds.items()},
        networks={"encoder": encoder, "decoder": decoder},
        classes=classes,
        device=device,
    )
    kind = kinds[saved.class_name]
    is_several = issubclass(kind, AlignedUMAP)
    if saved.first is not None:  # else the fit checks them
        if (saved.aligned is not None) != is_several:
            raise ArchiveError(
                f"The file at {os.fspath(path)!r} must hold what a {saved.class_name} learned, got "
                "what another class learned. Take the file from its source again."
            )
        if not is_several:
            check_saved_parameters(saved.parameters, kind._constraints)
    model = kind(**saved.parameters)
    model.__dict__.update(saved.settings)
    if saved.fitted is not None:
        model._fitted = saved.fitted
    if saved.aligned is not None:
        _check_several(model, saved.aligned)
        model._aligned = saved.aligned
    return model


def _check_several(model: AlignedUMAP, aligned: AlignedFitted) -> None:
    """Raise if a parameter is none that the model of each data set takes."""
    try:
        model._check()
        singles = [model._single(number, changed) for number, changed in enumerate(aligned.changed)]
    except ValueError as error:
        raise ArchiveError(
            f"Parameters of the file must be valid, got others: {error} Then save the model again."
        ) from error
    for single in singles:
        check_saved_parameters(single.get_params(deep=False), single._constraints)


def load_ParametricUMAP(
    path: str | os.PathLike[str],
    *,
    encoder: Any = None,
    decoder: Any = None,
    classes: Sequence[Any] = (),
    device: str | torch.device = "auto",
) -> ParametricUMAP:
    """Read a saved :class:`ParametricUMAP`; see :func:`load` for the parameters.

    Parameters
    ----------
    path, encoder, decoder, classes, device
        As in :func:`load`.

    Returns
    -------
    ParametricUMAP

    Raises
    ------
    ArchiveError
        As :func:`load`, and if the file holds another estimator.
    """
    model = load(path, encoder=encoder, decoder=decoder, classes=classes, device=device)
    if not isinstance(model, ParametricUMAP):
        raise ArchiveError(
            f"Expected a ParametricUMAP at {os.fspath(path)!r}; the file holds a "
            f"{type(model).__name__}. Read it with neumap.load."
        )
    return model
