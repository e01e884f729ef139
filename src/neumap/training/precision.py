"""bfloat16 for networks that autograd trains, where the processor multiplies it in hardware.

:func:`choose_precision` decides for one network from its layers and its counted operations, never
by measuring time, which could differ between runs. A :class:`MixedPrecision` then runs the forward
pass under autocast. The last layer stays float32, since eight significant bits would quantise the
embedding; losses and the weights that the optimiser updates stay float32 as well.
:class:`VerifiedStep` compares the gradients of the first step with those in float32. Outside
training networks always compute in float32, so the same row gets the same position whatever the
batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from neumap._device import fast_dtype
from neumap._modes import draws_from_torch, evaluating
from neumap._warnings import warn_user
from neumap.networks import MLP
from neumap.training.flops import forward_flops
from neumap.training.recordable import Recordable, StepInputs

__all__ = ["MixedPrecision", "Rewind", "Source", "VerifiedStep", "choose_precision"]

logger = logging.getLogger(__name__)

# Below this number of operations per row, casts take as long as bfloat16 saves.
FEWEST_FLOPS = 1e5

# Kinds that gain nothing from bfloat16 on a processor, or cannot be followed by hooks.
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
OPAQUE = (torch.jit.ScriptModule, nn.DataParallel)

# The backward pass of attention in bfloat16 takes twenty times as long on a processor
# (torch 2.13).
SLOW_OPERATIONS = ("scaled_dot_product",)

# Share of a column of coordinates that may be bfloat16 numbers by chance: one float32 in 65,536 is.
LARGEST_QUANTISED = 0.5

# Largest accepted difference between a parameter's gradient in bfloat16 and in float32, relative to
# its length. On MNIST the first step makes 2 to 4 %, on rows of pure noise 10 %. A wrong kernel
# makes 100 % and more.
LARGEST_DIFFERENCE = 0.25
WRONG = 0.9
# Gradients that are this small next to the largest count as this large: those of a bias in front of
# a batch normalisation are rounding errors of zero.
SMALLEST_SHARE = 1e-2


class MixedPrecision:
    """How one network runs in bfloat16.

    Parameters
    ----------
    last : nn.Module
        The layer that stays float32.
    convolutions : sequence of nn.Module
        Layers whose inputs are brought into channels-last order, in which bfloat16 convolutions
        are fastest.
    device_type : str
        Type of the device that computes.
    keeps_order : bool, default=False
        Whether gradients are brought into the order of what they belong to, see
        :class:`_GradientsInOrder`.
    is_known : bool, default=False
        Whether the first step needs no comparison with float32.

    Attributes
    ----------
    enabled : bool
        False runs the network in float32 from then on.
    is_compared : bool
        Whether float32 computes in the order of bfloat16, so that dropout, which draws in the order
        of memory, leaves out the same numbers.
    """

    def __init__(
        self,
        last: nn.Module,
        convolutions: Sequence[nn.Module],
        device_type: str,
        *,
        keeps_order: bool = False,
        is_known: bool = False,
    ) -> None:
        self.enabled = True
        self.is_compared = False
        self.is_known = is_known
        self._last = last
        self._convolutions = tuple(convolutions)
        self._keeps_order = keeps_order
        self._device_type = device_type

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run the forward passes of the block in this precision."""
        if not (self.enabled or self.is_compared):
            yield
            return
        # Registered for the block alone: the network itself is copied, saved and passed on.
        hooks = [c.register_forward_pre_hook(_in_channels_last) for c in self._convolutions]
        if self.enabled:
            hooks.append(self._last.register_forward_pre_hook(self._enter_last))
            hooks.append(self._last.register_forward_hook(self._leave_last))
        in_order = _GradientsInOrder() if self._keeps_order else nullcontext()
        try:
            with torch.autocast(self._device_type, torch.bfloat16, enabled=self.enabled), in_order:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter_last(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        torch.set_autocast_enabled(self._device_type, False)
        return tuple(map(_in_float32, inputs))

    def _leave_last(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        torch.set_autocast_enabled(self._device_type, True)


def _in_float32(value: Any) -> Any:
    is_short = isinstance(value, Tensor) and value.dtype == torch.bfloat16
    return value.float() if is_short else value


def _in_channels_last(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *others = inputs
    if isinstance(first, Tensor) and first.ndim == 4:
        first = first.contiguous(memory_format=torch.channels_last)
        if first.shape[1] == 1:  # in both orders at once: strides say which one the output takes
            n, _, height, width = first.shape
            first = first.reshape(n, height, width, 1).permute(0, 3, 1, 2)
    return first, *others


class _GradientsInOrder(TorchFunctionMode):
    """Brings the gradients of images in channels-last order into this order.

    Behind the last convolution they come in another one. torch then computes the gradient of a ReLU
    ten times as slowly (3.8 ms instead of 0.3 for 512 rows of 64 x 7 x 7, and 0.4 for the copy).
    Every function of torch that the block calls is seen, those of modules and others.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.ndim == 4 and output.requires_grad:
            _keep_order(output)
        return output


def _keep_order(output: Tensor) -> None:
    if output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous():
        output.register_hook(_as_channels_last)  # type: ignore[no-untyped-call]


def _as_channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


def choose_precision(module: nn.Module, inputs: Tensor) -> MixedPrecision | None:
    """Return how a network trains in bfloat16, or None if it trains in float32.

    Parameters
    ----------
    module : nn.Module
        On the device of the inputs.
    inputs : Tensor of shape (n, ...)
        A few rows or positions.
    """
    if fast_dtype(inputs.device) != torch.bfloat16:
        return None
    if isinstance(module, MLP):  # known, and trained without counting
        return MixedPrecision(module.layers[-1], (), inputs.device.type, is_known=True)
    found, reason = None, _why_float32(module, inputs)
    if reason is None:
        found, reason = _tried(module, inputs)
    logger.debug("%s trains in %s", type(module).__name__, reason or "bfloat16")
    return found


def _why_float32(module: nn.Module, inputs: Tensor) -> str | None:
    """Return why a network stays float32 before it is run; None if nothing is against bfloat16."""
    kinds = tuple(map(type, module.modules()))
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in module.parameters()):
        return "float32: it has parameters of another dtype"
    compiled = any(kind.__name__ == "OptimizedModule" for kind in kinds)
    if compiled or any(issubclass(kind, OPAQUE) for kind in kinds):
        return "float32: its layers cannot be followed"
    if inputs.device.type == "cpu" and any(issubclass(kind, RECURRENT) for kind in kinds):
        return "float32: recurrent layers gain nothing"
    try:
        flops = forward_flops(module, inputs)
    except Exception as error:  # of any kind: torch's counter meets layers of the user
        return f"float32: its operations cannot be counted ({type(error).__name__})"
    return None if flops >= FEWEST_FLOPS else f"float32: {flops:.0f} operations per row are few"


def _tried(module: nn.Module, inputs: Tensor) -> tuple[MixedPrecision | None, str | None]:
    """Return the precision if a trial on a few rows works, otherwise why not."""
    last = _last_layer(module, inputs)
    if last is None or last is module:
        return None, "float32: it has no last layer of its own"
    convolutions = [part for part in module.modules() if isinstance(part, CONVOLUTIONS)]
    keeps_order = bool(convolutions) and inputs.device.type == "cpu"
    found = MixedPrecision(last, convolutions, inputs.device.type, keeps_order=keeps_order)
    seen = _Operations()
    try:
        with evaluating(module, to_be_trained=True), seen, found():
            output = module(inputs.clone())
    except Exception as error:  # of any kind: the user's forward may refuse bfloat16
        return None, f"float32: {type(error).__name__} in bfloat16"
    if inputs.device.type == "cpu" and any(slow in seen.text for slow in SLOW_OPERATIONS):
        return None, "float32: attention is slower in bfloat16"
    if output.dtype != torch.float32 or _is_quantised(output):
        return None, "float32: its outputs are not those of its last layer"
    return found, None


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the names of the operations of a block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names: set[str] = set()

    @property
    def text(self) -> str:
        """All names."""
        return " ".join(sorted(self._names))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._names.add(str(func))
        return func(*args, **(kwargs or {}))


def _last_layer(module: nn.Module, inputs: Tensor) -> nn.Module | None:
    """Return the last layer with a matrix of weights that a forward pass runs."""
    finished: list[nn.Module] = []

    def note(part: nn.Module, given: Any, output: Any) -> None:
        finished.append(part)

    hooks = [part.register_forward_hook(note) for part in _parts(module)]
    try:
        with evaluating(module, to_be_trained=True):
            module(inputs.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return next(filter(_has_matrix, reversed(finished)), None)


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return all modules within a network, Keras layers included."""
    parts = list(module.modules())
    for part in tuple(parts):
        inside: Any = getattr(part, "keras_layers", None)  # they are not registered as submodules
        parts.extend(inside() if callable(inside) else ())
    return parts


def _has_matrix(part: nn.Module) -> bool:
    """Whether a module has a matrix of weights of its own, not only in its parts."""
    layer: Any = part
    if hasattr(layer, "_flatten_layers"):  # a Keras layer
        is_single = not list(layer._flatten_layers(include_self=False))
        return is_single and any(len(weight.shape) > 1 for weight in layer.weights)
    return any(p.ndim > 1 for p in part.parameters(recurse=False))


def _is_quantised(outputs: Tensor) -> bool:
    """Whether the numbers in some column are those that bfloat16 can hold."""
    flat = outputs.detach().flatten(1)
    is_short = (flat == flat.bfloat16().float()) & (flat != 0.0)
    return bool((is_short.float().mean(0) > LARGEST_QUANTISED).any())


# ---- the check of the first step ---------------------------------------------------------------


class Computing(Recordable, Protocol):
    """The step that is checked."""

    def finish(self) -> None: ...


class Source(Protocol):
    """Something that random numbers are drawn from, such as the noise of an embedder."""

    def state(self) -> Any: ...
    def set_state(self, state: Any) -> None: ...


class VerifiedStep:
    """A step in bfloat16 whose first gradients are compared with those in float32.

    If a gradient differs by more than a quarter, this and all further steps compute in float32.
    There is a warning if it is wrong altogether or not finite.

    Parameters
    ----------
    step : Step
        Computes the gradients of all parameters.
    precisions : sequence of MixedPrecision
        Of the networks that the step trains; also an attribute.
    modules : sequence of nn.Module
        These networks. Their buffers may change in a step, as in a batch normalisation.
    sources : sequence of Source, optional
        What the step draws from besides the generators of torch; also an attribute.
    """

    def __init__(
        self,
        step: Computing,
        precisions: Sequence[MixedPrecision],
        modules: Sequence[nn.Module],
        sources: Sequence[Source] = (),
    ) -> None:
        self._step = step
        self.precisions = tuple(precisions)
        self._modules = modules
        self.sources = sources
        self._is_checked = False

    @property
    def is_mixed(self) -> bool:
        """Whether some network computes in bfloat16."""
        return any(precision.enabled for precision in self.precisions)

    def rewind(self, *, with_weights: bool = True) -> Rewind:
        """Return the present state of what is trained."""
        return Rewind(self._modules, self.sources, with_weights=with_weights)

    def state(self) -> dict[str, Any]:
        """Return which precision it has settled on, for :meth:`set_state`."""
        enabled = [precision.enabled for precision in self.precisions]
        return {"is_checked": self._is_checked, "enabled": enabled}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on in the precision of :meth:`state`."""
        self._is_checked = state["is_checked"]
        for precision, enabled in zip(self.precisions, state["enabled"], strict=True):
            precision.enabled = enabled

    def use_float32(self) -> None:
        """Compute in float32 from now on."""
        for precision in self.precisions:
            precision.enabled = False

    @property
    def n_threads(self) -> int:
        """Those of the step."""
        return self._step.n_threads

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the step."""
        return self._step.parameters()

    def finish(self) -> None:
        """End the step."""
        self._step.finish()

    @property
    def device(self) -> torch.device:
        """That of the step."""
        return self._step.device

    @property
    def is_known(self) -> bool:
        """As the step."""
        return self._step.is_known

    def is_resident_on(self, kind: str) -> bool:
        """As the step."""
        return self._step.is_resident_on(kind)

    def changing(self) -> list[Tensor]:
        """Return what the step changes besides the parameters."""
        return self._step.changing()

    def python_state(self) -> Hashable:
        """Return that of the step."""
        return self._step.python_state()

    def inputs(self, progress: float) -> StepInputs:
        """Return those of the step."""
        return self._step.inputs(progress)

    def __call__(self, indices: Tensor, progress: float) -> dict[str, Tensor]:
        """Compute the losses of these rows and leave new gradients in the parameters."""
        return self.compute(indices, self.inputs(progress))

    def compute(self, indices: Tensor, given: StepInputs) -> dict[str, Tensor]:
        """Do the arithmetic of a step; the first one is compared with float32."""
        if self._is_checked:
            return self._step.compute(indices, given)
        self._is_checked = True
        before = self.rewind(with_weights=False)
        expected, _ = self._run(indices, given, enabled=False, is_compared=True)
        before.restore()
        found, losses = self._run(indices, given, enabled=True)
        missed = _largest_difference(found, expected)
        if missed <= LARGEST_DIFFERENCE:
            return losses
        before.restore()
        repeated, _ = self._run(indices, given, enabled=False, is_compared=True)
        before.restore()
        _, losses = self._run(indices, given, enabled=False)
        _say(missed, repeats=_largest_difference(repeated, expected) <= LARGEST_DIFFERENCE)
        return losses

    def _run(
        self, indices: Tensor, given: StepInputs, *, enabled: bool, is_compared: bool = False
    ) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """Return copies of the gradients and the losses of a step in one of the precisions."""
        for precision in self.precisions:
            precision.enabled, precision.is_compared = enabled, is_compared
        losses = self._step.compute(indices, given)
        gradients = [parameter.grad for parameter in self.parameters()]
        return [None if g is None else g.detach().clone() for g in gradients], losses


class Rewind:
    """What a training changes, to be restored before it is repeated.

    Parameters
    ----------
    modules : sequence of nn.Module
    sources : sequence of Source
    with_weights : bool, default=True
        False leaves out the weights that only an optimiser changes.
    """

    def __init__(
        self, modules: Sequence[nn.Module], sources: Sequence[Source], *, with_weights: bool = True
    ) -> None:
        # Keras keeps moving averages and the states of its random numbers as parameters.
        state = [t for module in modules for t in (*module.buffers(), *module.parameters())]
        self._tensors = [tensor for tensor in state if with_weights or not tensor.requires_grad]
        self._copies = [tensor.detach().clone() for tensor in self._tensors]
        self._sources = [(source, source.state()) for source in sources]
        self._draws = any(map(draws_from_torch, modules))
        self._generators = _generator_states() if self._draws else []

    def restore(self) -> None:
        """Restore the state of the construction."""
        with torch.no_grad():
            for tensor, copy in zip(self._tensors, self._copies, strict=True):
                tensor.copy_(copy)
        for source, state in self._sources:
            source.set_state(state)
        if self._draws:
            first, *others = self._generators
            torch.set_rng_state(first)
            if others:
                torch.cuda.set_rng_state_all(others)


def _generator_states() -> list[Tensor]:
    on_cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *on_cards]


def _largest_difference(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """Return the largest difference of a parameter's gradient, relative to its length."""
    pairs = [(f, e) for f, e in zip(found, expected, strict=True) if e is not None]
    if not pairs:
        return 0.0
    if any(f is None for f, _ in pairs):
        return math.inf
    lengths = torch.stack([e.double().norm() for _, e in pairs])
    missed = torch.stack([(f.double() - e.double()).norm() for f, e in pairs if f is not None])
    relative = missed / lengths.clamp_min(SMALLEST_SHARE * float(lengths.max()))
    largest = float(relative.nan_to_num(0.0).max()) if bool(lengths.any()) else 0.0
    return largest if bool(missed.isfinite().all()) else math.inf


def _say(missed: float, *, repeats: bool) -> None:
    """Warn of gradients that are wrong, log those that are only too inexact."""
    if not repeats:
        logger.info("training in float32: the gradients of a step differ when it is repeated")
    elif missed < WRONG:
        logger.info("training in float32: gradients in bfloat16 differ by %.2g", missed)
    else:
        warn_user(
            "The network trains in float32, which takes longer: its gradients in bfloat16 differed "
            f"by {missed:.2g} times their length from those in float32. Please report this with "
            "the network and the version of torch.",
            RuntimeWarning,
        )
