"""The parts of ``keras_fit_kwargs``, the arguments that umap-learn passes to Keras's ``fit``.

``callbacks`` and ``verbose`` act. Any other argument raises an error that names the equivalent in
neumap, or says why it has no meaning in training on edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from neumap.callbacks import Callback
from neumap.keras_bridge.callbacks import KerasCallbacks
from neumap.keras_bridge.detect import is_keras_callback

__all__ = ["FitOptions", "split_fit_kwargs", "wrap_callbacks"]

_REMEDIES = {
    "batch_size": "use batch_size=... of ParametricUMAP",
    "epochs": "use n_training_epochs=... of ParametricUMAP",
    "steps_per_epoch": "use loss_report_frequency=... of ParametricUMAP, reports per epoch",
    "validation_data": "use reconstruction_validation=... of ParametricUMAP",
    "validation_split": "split the data and use reconstruction_validation=... of ParametricUMAP",
    "validation_freq": "validation runs at each report; set loss_report_frequency",
    "validation_steps": "all rows of reconstruction_validation are used",
    "validation_batch_size": "use batch_size=... of ParametricUMAP",
    "shuffle": "edges are always drawn at random; set random_state",
    "initial_epoch": "the training counts from 0; call fit again to continue",
    "sample_weight": "rows count by their edges in the graph",
    "class_weight": "rows count by their edges in the graph",
    "x": "pass the data to fit",
    "y": "pass the labels to fit",
}


@dataclass(frozen=True)
class FitOptions:
    """The part of ``keras_fit_kwargs`` that acts.

    Attributes
    ----------
    callbacks : tuple of Callback
        For neumap's training; Keras's are wrapped.
    verbose : bool or None
        Whether to show progress; None if it was not given.
    """

    callbacks: tuple[Callback, ...] = ()
    verbose: bool | None = None


def split_fit_kwargs(fit_kwargs: Mapping[str, Any] | None) -> FitOptions:
    """Check ``keras_fit_kwargs`` and return its parts.

    Parameters
    ----------
    fit_kwargs : mapping of str to object or None
        ``{"callbacks": [...], "verbose": 0}``; each key is optional.

    Raises
    ------
    ValueError
        For a key that has no effect; the message says what to use instead.
    TypeError
        For a callback of neither Keras nor neumap.

    Examples
    --------
    >>> split_fit_kwargs({"verbose": 0})
    FitOptions(callbacks=(), verbose=False)
    """
    given = dict(fit_kwargs or {})
    callbacks, verbose = given.pop("callbacks", None), given.pop("verbose", None)
    for key in given:
        remedy = _REMEDIES.get(key, "it is not an argument of Keras's fit that has a meaning here")
        raise ValueError(
            f"keras_fit_kwargs must only contain 'callbacks' and 'verbose', got {key!r}. "
            f"Leave it out: {remedy}."
        )
    shown = None if verbose is None else verbose not in (0, "0", False)
    return FitOptions(wrap_callbacks(callbacks), shown)


def wrap_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Return callbacks of Keras and neumap, in any mixture, as callbacks of neumap, in order.

    Parameters
    ----------
    callbacks : callback, iterable of callbacks or None
        Nested lists are flattened, as in Keras.
    """
    wrapped: list[Callback] = []
    # Consecutive ones share a wrapper, since a Keras callback may add to the logs of the next.
    for of_keras, group in groupby(_flat(callbacks), key=is_keras_callback):
        members = list(group)
        wrapped += [KerasCallbacks(members)] if of_keras else members
    return tuple(wrapped)


def _flat(callbacks: Any) -> Iterator[Any]:
    if isinstance(callbacks, (list, tuple)):
        for item in callbacks:
            yield from _flat(item)
    elif isinstance(callbacks, Callback) or is_keras_callback(callbacks):
        yield callbacks
    elif callbacks is not None:
        raise TypeError(
            "callbacks must be instances of keras.callbacks.Callback or neumap.callbacks.Callback, "
            f"got {callbacks!r} of type {type(callbacks).__name__}. Pass instances, in a list."
        )
