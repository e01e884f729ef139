"""Callbacks, and what they see of a training.

A callback is an object with hooks. The training loop calls each hook with the run itself, a
:class:`TrainingRun`. The callback reads it, may set ``run.stop_training``, and stores its results
in its own attributes. :class:`CallbackList` calls several callbacks as one.

An *epoch* here is one report, that is, one line of the history. It is neither a pass over the data
nor one of UMAP's epochs. The hooks are called in this order::

    on_fit_start                        step 0, nothing trained yet
      on_epoch_start                    once per report
        on_step_end ...                 after optimiser steps; may skip some, see ``run.step``
      on_epoch_end                      run.logs has the losses of this epoch
    on_fit_end                          may still load a state; positions are computed after it

``stop_training`` is checked after each ``on_step_end`` and each ``on_epoch_end``. If it is set
within an epoch, the epoch ends after the steps done so far and is reported as usual.

A training that is continued from a checkpoint begins with ``on_fit_start`` as well; ``run.step`` is
not 0 then. Checkpoints are called after all other callbacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

__all__ = ["Callback", "CallbackList", "TrainingRun"]


@runtime_checkable
class TrainingRun(Protocol):
    """One training as its callbacks see it.

    Attributes
    ----------
    epoch : int
        Index of the current report, from 0. An epoch is one report.
    n_epochs : int
        Planned number of reports.
    step : int
        Optimiser steps done so far.
    n_steps : int
        Planned number of optimiser steps.
    seconds : float
        Wall time since the training began, in seconds.
    logs : dict of str to float
        Losses of the epoch that just ended: ``"loss"``, ``"umap_loss"`` and those of
        ``"reconstruction_loss"``, ``"global_correlation_loss"``, ``"density_loss"``,
        ``"landmark_loss"``, ``"regularization_loss"``, ``"classifier_loss"``, ``"val_loss"`` that
        this training has. Empty before the first report.
    stop_training : bool
        Set it to True to end the training; the only attribute a callback writes.
    encoder, decoder : torch.nn.Module or None
        The modules being trained; None if there is none.
    """

    stop_training: bool

    @property
    def epoch(self) -> int: ...
    @property
    def n_epochs(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def n_steps(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def logs(self) -> dict[str, float]: ...
    @property
    def encoder(self) -> nn.Module | None: ...
    @property
    def decoder(self) -> nn.Module | None: ...

    def embed(self) -> np.ndarray:
        """Return the current positions of all training rows, (n_samples, n_components)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all trained modules; copy its tensors to keep them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Restore what ``state_dict`` returned."""
        ...

    def checkpoint(self) -> dict[str, Any]:
        """Return all that a resumed training needs: nested values with tensors in them.

        Among them are ``"weights"`` (as ``state_dict`` returns), ``"epoch"``, ``"step"`` and
        ``"logs"``.
        """
        ...


class Callback:
    """Base class of callbacks; its hooks do nothing.

    A callback with state resets it in ``on_fit_start``, so that one object can be used in several
    trainings one after the other.

    Examples
    --------
    >>> class StopBelow(Callback):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...     def on_epoch_end(self, run):
    ...         if run.logs["loss"] < self.loss:
    ...             run.stop_training = True
    >>> StopBelow(0.1).wants_steps
    False
    """

    @property
    def wants_steps(self) -> bool:
        """Whether ``on_step_end`` does anything; if not, the loop does not call it."""
        return type(self).on_step_end is not Callback.on_step_end

    @property
    def wants_gradients(self) -> bool:
        """Whether ``on_step_end`` may read gradients, which replayed GPU steps do not keep.

        True for every callback with ``on_step_end``, unless its class overrides this.
        """
        return self.wants_steps

    @property
    def on_first_process_only(self) -> bool:
        """Whether only the first of several processes that train together calls it.

        True for what writes files or shows something.
        """
        return False

    def state(self) -> Any:
        """Return what a checkpoint keeps of this callback; None for nothing.

        Nested dicts, lists and tuples of numbers, strings and tensors. :meth:`resume` gets it.
        """
        return None

    def resume(self, state: Any, run: TrainingRun) -> None:
        """Take over the state of the same kind of callback in the training that is continued.

        Called after ``on_fit_start``, with the weights of the checkpoint in the networks.
        """

    def on_fit_start(self, run: TrainingRun) -> None:
        """Run before the first epoch, or before the first one of a training that is continued."""

    def on_epoch_start(self, run: TrainingRun) -> None:
        """Run before the first step of an epoch (a report)."""

    def on_step_end(self, run: TrainingRun) -> None:
        """Run after optimiser steps: after each one, or after several that run as one."""

    def on_epoch_end(self, run: TrainingRun) -> None:
        """Run after an epoch (a report), with its losses in ``run.logs``."""

    def on_fit_end(self, run: TrainingRun) -> None:
        """Run once after the last epoch, before final positions are computed."""


class CallbackList(Callback):
    """Several callbacks called in order, as one.

    Parameters
    ----------
    callbacks : iterable of Callback or None, default=None
        Called in this order. None is the empty list.

    Raises
    ------
    TypeError
        If one of them is not a ``Callback`` instance.

    Examples
    --------
    >>> len(CallbackList([Callback(), Callback()]))
    2
    """

    def __init__(self, callbacks: Iterable[Callback] | Callback | None = None) -> None:
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        for position, callback in enumerate(given):
            _check_callback(callback, position)
        self.callbacks: tuple[Callback, ...] = tuple(given)
        self._step_callbacks = tuple(c for c in given if c.wants_steps)

    def __len__(self) -> int:
        return len(self.callbacks)

    def __iter__(self) -> Iterator[Callback]:
        return iter(self.callbacks)

    @property
    def wants_steps(self) -> bool:
        """Whether any callback of the list uses ``on_step_end``."""
        return bool(self._step_callbacks)

    @property
    def wants_gradients(self) -> bool:
        """Whether any callback of the list may read gradients in ``on_step_end``."""
        return any(callback.wants_gradients for callback in self._step_callbacks)

    def on_fit_start(self, run: TrainingRun) -> None:
        for callback in self.callbacks:
            callback.on_fit_start(run)

    def on_epoch_start(self, run: TrainingRun) -> None:
        for callback in self.callbacks:
            callback.on_epoch_start(run)

    def on_step_end(self, run: TrainingRun) -> None:
        for callback in self._step_callbacks:
            callback.on_step_end(run)

    def on_epoch_end(self, run: TrainingRun) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(run)

    def on_fit_end(self, run: TrainingRun) -> None:
        for callback in self.callbacks:
            callback.on_fit_end(run)


def _check_callback(callback: object, position: int) -> None:
    if isinstance(callback, Callback):
        return
    if isinstance(callback, type) and issubclass(callback, Callback):
        remedy = f"Pass an instance: {callback.__name__}(...)."
    elif callable(callback):
        remedy = "Wrap a function in LambdaCallback(on_epoch_end=function)."
    else:
        remedy = "Derive its class from neumap.callbacks.Callback."
    raise TypeError(
        f"callbacks must be neumap.callbacks.Callback instances, got {callback!r} of type "
        f"{type(callback).__name__} as item {position}. {remedy}"
    )
