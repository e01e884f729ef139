"""Keras callbacks in neumap's training.

``KerasCallbacks`` is one neumap callback that calls Keras ones, with the arguments of Keras's own
``fit``. Their ``self.model`` is an adapter of the run: it can stop the training, read and write the
weights of all trained networks, and read and write the learning rate. All other attributes are
those of the Keras encoder, if the encoder is a Keras model.

Keras's *batch* hooks run once per report, after its last step, with the losses of the report, as
Keras does with ``steps_per_execution``. Losses of single steps are not read from the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neumap._warnings import warn_user
from neumap.callbacks import Callback, TrainingRun
from neumap.keras_bridge.backend import keras_on_torch
from neumap.keras_bridge.detect import is_keras_callback
from neumap.keras_bridge.module import KerasModule

__all__ = ["KerasCallbacks", "RunAsModel"]

_CANNOT_ACT = {
    "BackupAndRestore": "Use neumap.callbacks.Checkpoint.",
    "OrbaxCheckpoint": "Use neumap.callbacks.Checkpoint.",
    "ProgbarLogger": "Use verbose=True.",
    "SwapEMAWeights": "A decaying learning rate has a similar effect.",
    "TensorBoard": "Write run.logs in a neumap.callbacks.LambdaCallback.",
}
_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


class KerasCallbacks(Callback):
    """Calls Keras callbacks at the hooks of a neumap training.

    Parameters
    ----------
    callbacks : iterable of keras.callbacks.Callback
        Called in this order.

    Raises
    ------
    TypeError
        If one is not a Keras callback.
    ValueError
        If one needs a part of Keras's training that does not run here.
    """

    def __init__(self, callbacks: Iterable[Any]) -> None:
        self.callbacks = tuple(callbacks)
        for callback in self.callbacks:
            _check_callback(callback)
        self._model: RunAsModel | None = None
        self._first_step = 0

    def on_fit_start(self, run: TrainingRun) -> None:
        keras_on_torch()
        self._model = RunAsModel(run)
        steps = max(1, run.n_steps // max(1, run.n_epochs))
        for callback in self.callbacks:
            _warn_of_batch_hooks(callback)
            _settle_mode(callback)
            callback.set_params({"verbose": 0, "epochs": run.n_epochs, "steps": steps})
            callback.set_model(self._model)
        self._call("on_train_begin", {})

    def on_epoch_start(self, run: TrainingRun) -> None:
        self._first_step = run.step
        self._call("on_epoch_begin", run.epoch, {})
        self._call("on_train_batch_begin", 0, {})

    def on_epoch_end(self, run: TrainingRun) -> None:
        logs = {name: float(value) for name, value in run.logs.items()}
        trained = {name: value for name, value in logs.items() if not name.startswith("val_")}
        validated = {name.removeprefix("val_"): logs[name] for name in logs.keys() - trained.keys()}
        self._call("on_train_batch_end", max(0, run.step - self._first_step - 1), trained)
        if validated:
            self._call("on_test_begin", {})
            self._call("on_test_end", validated)
        self._call("on_epoch_end", run.epoch, logs)

    def on_fit_end(self, run: TrainingRun) -> None:
        self._call("on_train_end", {name: float(value) for name, value in run.logs.items()})
        if self._model is not None:
            self._model.release()  # the user may keep the callback, which should not hold the data
        self._model = None

    def _call(self, hook: str, *arguments: Any) -> None:
        *position, logs = arguments
        shared = dict(logs)  # one dict for all, as in Keras: a callback may add to it for the next
        for callback in self.callbacks:
            getattr(callback, hook)(*position, shared)


class RunAsModel:
    """The ``model`` of a Keras callback.

    Attributes
    ----------
    stop_training : bool
        That of the run; setting it ends the training.
    encoder, decoder : object
        The networks, as Keras models if they are, otherwise as torch modules; or None.
    optimizer : object
        Has ``learning_rate``, which can be read and set.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._run: TrainingRun | None = run

    def release(self) -> None:
        """Drop the reference to the run."""
        self._run = None

    @property
    def _running(self) -> TrainingRun:
        if self._run is None:
            raise RuntimeError(
                "The model of a Keras callback must be used during the training, got a training "
                "that has ended. Use the fitted estimator instead."
            )
        return self._run

    @property
    def stop_training(self) -> bool:
        return self._running.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        self._running.stop_training = bool(value)

    @property
    def encoder(self) -> Any:
        return _keras_model_of(self._running.encoder)

    @property
    def decoder(self) -> Any:
        return _keras_model_of(self._running.decoder)

    @property
    def optimizer(self) -> _LearningRate:
        optimizer = getattr(self._running, "optimizer", None)
        if optimizer is None:
            raise RuntimeError(
                "The training must have an optimizer for a callback that sets the learning rate, "
                "got none. Give the optimizer a schedule instead."
            )
        return _LearningRate(optimizer)

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all tensors of the trained networks, in a fixed order."""
        return [_as_array(tensor) for tensor in _tensors(self._running.state_dict())]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Restore what ``get_weights`` returned."""
        state = self._running.state_dict()
        n_expected = len(list(_tensors(state)))
        if len(weights) != n_expected:
            raise ValueError(
                f"weights must be {n_expected} arrays, as get_weights returns, got {len(weights)}. "
                "Pass the weights of this training."
            )
        self._running.load_state_dict(_with_tensors(state, iter(weights)))

    def save(self, filepath: str, overwrite: bool = True, **options: Any) -> None:
        """Save the Keras encoder to ``filepath``, and a Keras decoder with ``-decoder`` added."""
        for path, model in self._files(filepath):
            model.save(path, overwrite=overwrite, **options)

    def save_weights(self, filepath: str, overwrite: bool = True) -> None:
        """Save the weights of the networks, to the files of ``save``."""
        for path, model in self._files(filepath):
            model.save_weights(path, overwrite=overwrite)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_run":  # looked up by copy and pickle
            raise AttributeError(name)
        encoder = self.encoder
        if isinstance(self._running.encoder, KerasModule):
            return getattr(encoder, name)
        raise AttributeError(
            f"The encoder must be a Keras model for a callback that uses {name!r}, got "
            f"{type(encoder).__name__}. Pass a Keras model as encoder, or derive the callback from "
            "neumap.callbacks.Callback."
        )

    def _files(self, filepath: str) -> list[tuple[Path, Any]]:
        path = Path(filepath)
        ending = ".weights.h5" if path.name.endswith(".weights.h5") else path.suffix
        next_to_it = path.with_name(path.name.removesuffix(ending) + "-decoder" + ending)
        run = self._running
        networks = [(path, run.encoder), (next_to_it, run.decoder)]
        for _, network in networks:
            if network is not None and not isinstance(network, KerasModule):
                raise ValueError(
                    "Networks must be Keras models to be saved in Keras's format, got "
                    f"{type(network).__name__}. Use neumap.callbacks.Checkpoint, or a Keras model."
                )
        return [(file, network.model) for file, network in networks if network is not None]


class _LearningRate:
    """A torch optimizer with the attribute ``learning_rate`` of a Keras one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    @property
    def learning_rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = float(value)


def _check_callback(callback: Any) -> None:
    if not is_keras_callback(callback):
        raise TypeError(
            f"callbacks must be Keras callbacks, got {callback!r} of type "
            f"{type(callback).__name__}. Pass instances of keras.callbacks.Callback, and neumap's "
            "own callbacks in callbacks=[...]."
        )
    name = type(callback).__name__
    if name in _CANNOT_ACT and type(callback).__module__.startswith("keras."):
        raise ValueError(
            f"callbacks must work without Keras's fit, got {name}, which needs it. "
            f"{_CANNOT_ACT[name]}"
        )


def _settle_mode(callback: Any) -> None:
    # mode="auto" reads the metrics of a compiled model. Here all logged values are losses.
    if getattr(callback, "mode", None) == "auto" and callback.monitor.endswith("loss"):
        callback.mode = "min"


def _warn_of_batch_hooks(callback: Any) -> None:
    if type(callback).__module__.startswith("keras."):
        return
    own = [h for h in _BATCH_HOOKS if not getattr(getattr(callback, h), "_is_default", False)]
    if own:
        warn_user(
            f"{type(callback).__name__}.{own[0]} runs once per report, after its last step, not "
            "after each step. For single steps, use on_step_end of neumap.callbacks.Callback.",
        )


def _keras_model_of(network: Any) -> Any:
    return network.model if isinstance(network, KerasModule) else network


def _tensors(state: Mapping[str, Any]) -> Iterable[Tensor]:
    for value in state.values():
        if isinstance(value, Mapping):
            yield from _tensors(value)
        elif isinstance(value, Tensor):
            yield value


def _with_tensors(state: Mapping[str, Any], arrays: Any) -> dict[str, Any]:
    """Return the same structure with each tensor replaced by the next array."""
    new: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            new[name] = _with_tensors(value, arrays)
        elif isinstance(value, Tensor):
            array = torch.as_tensor(np.asarray(next(arrays)))
            new[name] = array.to(device=value.device, dtype=value.dtype, copy=True)
        else:
            new[name] = value
    return new


def _as_array(tensor: Tensor) -> np.ndarray:
    # numpy has no bfloat16; float32 represents each of its values
    plain = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return np.array(plain.detach().cpu().numpy(), copy=True)
