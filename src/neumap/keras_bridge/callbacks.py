"""Keras callbacks in neumap's training.

``KerasCallbacks`` is one neumap callback that calls Keras ones, with the arguments Keras's own
``fit`` would give. What they see as ``self.model`` is a stand-in for the run: it can stop the
training, read and write the weights of all trained networks and the learning rate; anything
else a callback asks of it is asked of the Keras encoder, where the encoder is one.

Keras's *batch* hooks run once per report, after its last step, with the losses of the report, as
Keras does it under ``steps_per_execution``. Losses of single steps are not read from the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neumap.callbacks import Callback, TrainingRun
from neumap.keras_bridge.backend import keras_on_torch
from neumap.keras_bridge.detect import is_keras_callback
from neumap.keras_bridge.module import KerasModule

__all__ = ["KerasCallbacks", "RunAsModel"]

_CANNOT_ACT = {
    "BackupAndRestore": "Use neumap.callbacks.Checkpoint.",
    "OrbaxCheckpoint": "Use neumap.callbacks.Checkpoint.",
    "ProgbarLogger": "Use verbose=True.",
    "SwapEMAWeights": "A decaying learning rate does much the same.",
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
        If one is no Keras callback.
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
            self._model.release()  # a callback that the user keeps must not keep the data alive
        self._model = None

    def _call(self, hook: str, *arguments: Any) -> None:
        *position, logs = arguments
        shared = dict(logs)  # one dict for all, as in Keras: some add to it for the next ones
        for callback in self.callbacks:
            getattr(callback, hook)(*position, shared)


class RunAsModel:
    """What a Keras callback sees as its ``model``.

    Attributes
    ----------
    stop_training : bool
        The run's own; setting it ends the training.
    encoder, decoder : object
        The networks: Keras models where they are, else torch modules, or None.
    optimizer : object
        Has ``learning_rate``, to read and to set.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._run: TrainingRun | None = run

    def release(self) -> None:
        """Let go of the run."""
        self._run = None

    @property
    def _running(self) -> TrainingRun:
        if self._run is None:
            raise RuntimeError(
                "Expected a training that runs; it has ended. Read the fitted estimator instead."
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
                "Expected a training that shows its optimizer, got none. A callback that sets the "
                "learning rate cannot act here: give the optimizer a schedule instead."
            )
        return _LearningRate(optimizer)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all tensors of the trained networks, in a fixed order."""
        return [_as_array(tensor) for tensor in _tensors(self._running.state_dict())]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Put back what ``get_weights`` gave."""
        state = self._running.state_dict()
        n_expected = len(list(_tensors(state)))
        if len(weights) != n_expected:
            raise ValueError(
                f"Expected {n_expected} arrays, as get_weights gives, got {len(weights)}. Pass "
                "the weights of this training."
            )
        self._running.load_state_dict(_with_tensors(state, iter(weights)))

    def save(self, filepath: str, overwrite: bool = True, **options: Any) -> None:
        """Save the Keras encoder to ``filepath``, a Keras decoder beside it as ``-decoder``."""
        for path, model in self._files(filepath):
            model.save(path, overwrite=overwrite, **options)

    def save_weights(self, filepath: str, overwrite: bool = True) -> None:
        """Save the weights of the networks, to the files that ``save`` would write."""
        for path, model in self._files(filepath):
            model.save_weights(path, overwrite=overwrite)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_run":  # asked by copy and pickle
            raise AttributeError(name)
        encoder = self.encoder
        if isinstance(self._running.encoder, KerasModule):
            return getattr(encoder, name)
        raise AttributeError(
            f"Expected a Keras encoder to have {name!r}, got {type(encoder).__name__}. A Keras "
            "callback that uses this needs a Keras model as encoder; else derive from "
            "neumap.callbacks.Callback."
        )

    def _files(self, filepath: str) -> list[tuple[Path, Any]]:
        path = Path(filepath)
        ending = ".weights.h5" if path.name.endswith(".weights.h5") else path.suffix
        beside = path.with_name(path.name.removesuffix(ending) + "-decoder" + ending)
        run = self._running
        networks = [(path, run.encoder), (beside, run.decoder)]
        for _, network in networks:
            if network is not None and not isinstance(network, KerasModule):
                raise ValueError(
                    f"Expected Keras networks to save in Keras's format, got "
                    f"{type(network).__name__}. Use neumap.callbacks.Checkpoint, or a Keras model."
                )
        return [(place, network.model) for place, network in networks if network is not None]


class _LearningRate:
    """A torch optimizer seen as a Keras one: its learning rate alone."""

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
            f"Expected Keras callbacks, got {callback!r} of type {type(callback).__name__}. Pass "
            "instances of keras.callbacks.Callback; neumap's own go into callbacks=[...]."
        )
    name = type(callback).__name__
    if name in _CANNOT_ACT and type(callback).__module__.startswith("keras."):
        raise ValueError(
            f"Expected callbacks that can act outside of Keras's fit, got {name}, which needs its "
            f"insides. {_CANNOT_ACT[name]}"
        )


def _settle_mode(callback: Any) -> None:
    # mode="auto" asks the metrics of a compiled model; here everything logged is a loss.
    if getattr(callback, "mode", None) == "auto" and callback.monitor.endswith("loss"):
        callback.mode = "min"


def _warn_of_batch_hooks(callback: Any) -> None:
    if type(callback).__module__.startswith("keras."):
        return
    own = [h for h in _BATCH_HOOKS if not getattr(getattr(callback, h), "_is_default", False)]
    if own:
        warnings.warn(
            f"{type(callback).__name__}.{own[0]} runs once per report, after its last step, not "
            "after each step. For single steps use on_step_end of neumap.callbacks.Callback.",
            stacklevel=2,
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
    """The same structure with the next array in place of each tensor."""
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
    # numpy has no bfloat16; float32 holds each of its values
    plain = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return np.array(plain.detach().cpu().numpy(), copy=True)
