"""Bounds on the memory and work of a network from a file, while it is built and gets one row.

A few bytes can describe a layer with results of any size. The size of a result is computed before
memory is taken for it, by the same operation on torch's meta device, which has no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from neumap.archive.schema import misfit

__all__ = ["bounded", "bounded_layers"]

FITTING = "a model whose layers fit its weights and one row"

# Of one row in one layer; images of 512 x 512 with 64 channels have as many.
LARGEST_OUTPUT = 2**24
MOST_PRODUCTS = 2**36  # some seconds; large networks of images have a tenth of it in all layers
# A recurrent network needs about 20 operations per time step.
MOST_OPERATIONS = 50_000
# Initial values of weights take a few times the memory of the weights, and constants some more.
INITIAL_PER_WEIGHT, CONSTANTS = 4, 2**22

# Layers whose result can be larger than their input and their weights.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
ADAPTIVE = tuple(
    getattr(nn, f"Adaptive{kind}Pool{n}d") for kind in ("Max", "Avg") for n in (1, 2, 3)
)


@contextmanager
def bounded(n_weights: int, where: str) -> Iterator[None]:
    """Bound the memory and work of any code of torch, such as building a Keras model.

    The size of each result is computed before memory is taken for it. That imports torch's
    compiler, which takes seconds, but Keras imports it as well.

    Parameters
    ----------
    n_weights : int
        Numbers in the file for the weights.
    where : str
        What is built, for the message.

    Raises
    ------
    ArchiveError
        If an operation needs more than the bounds.
    """
    with _Bounded(n_weights, where):
        yield


@contextmanager
def bounded_layers(network: nn.Module, where: str) -> Iterator[None]:
    """Bound the memory of a network of layers of torch.nn, while it is called with one row.

    Parameters
    ----------
    network : nn.Module
        Other layers than those of :mod:`neumap.archive.layers` are not bounded.
    where : str
        What it is, for the message.

    Raises
    ------
    ArchiveError
        If a layer would return more than ``2**24`` numbers.
    """

    def check_size(layer: nn.Module, given: tuple[Any, ...]) -> None:
        tensors = [item for item in given if isinstance(item, Tensor)]
        n_numbers = _size_after(layer, tensors[0].shape) if tensors else 0
        if n_numbers > LARGEST_OUTPUT:
            raise misfit(where, FITTING, f"a result of {n_numbers:.3g} numbers")

    hooks = [layer.register_forward_pre_hook(check_size) for layer in network.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _size_after(layer: Any, shape: torch.Size) -> float:
    """Return a bound of the size of a layer's result, 0 for layers that cannot grow much."""
    sides = list(shape[2:])
    if isinstance(layer, CONVOLUTIONS):
        # The padding of 'same' is made of dilation and kernel.
        around = [2 * p for p in layer.padding] if not isinstance(layer.padding, str) else 0
        sizes = np.add(sides[: len(layer.stride)], np.multiply(layer.dilation, layer.kernel_size))
        return max(layer.out_channels, shape[1]) * _product(sizes + np.asarray(around, float))
    if isinstance(layer, TRANSPOSED):
        grown = np.multiply(sides, layer.stride) + np.multiply(layer.dilation, layer.kernel_size)
        return layer.out_channels * _product(grown + np.asarray(layer.output_padding))
    if isinstance(layer, nn.Upsample):
        factor: Any = layer.scale_factor
        wanted: Any = np.multiply(sides, factor) if layer.size is None else layer.size
        n_sides = len(sides) if np.ndim(wanted) == 0 else 1
        return math.prod(shape[:2]) * _product(wanted) ** n_sides
    if isinstance(layer, ADAPTIVE):
        n_sides = int(type(layer).__name__[-2])
        wanted = [n or max(sides) for n in np.atleast_1d(layer.output_size)]
        n_times = 1 if len(wanted) == n_sides else n_sides  # one number stands for all sides
        return math.prod(shape[: len(shape) - n_sides]) * _product(wanted) ** n_times
    if hasattr(layer, "padding") and "Pad" in type(layer).__name__:
        pads = np.reshape(layer.padding, (-1, 2)).sum(axis=1)[::-1]
        kept = shape[: len(shape) - len(pads)]
        return math.prod(kept) * _product(np.add(shape[len(kept) :], np.abs(pads)))
    if isinstance(layer, nn.Embedding):
        return float(math.prod(shape)) * layer.embedding_dim
    return 0.0


def _product(sizes: Any) -> float:
    return float(np.prod(np.abs(np.asarray(sizes, dtype=float))))


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Refuses operations with results that are too large, before they run."""

    def __init__(self, n_weights: int, where: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.where = where
        self.largest = max(LARGEST_OUTPUT, n_weights)
        self.initial = INITIAL_PER_WEIGHT * n_weights + CONSTANTS
        self.n_operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch's compiler, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation if it is small enough."""
        named = kwargs or {}
        self.n_operations += 1
        if self.n_operations > MOST_OPERATIONS:
            self._refuse(f"more than {MOST_OPERATIONS} operations")
        given = [item for item in tree_leaves((args, named)) if isinstance(item, Tensor)]
        if given and not given[0].is_meta and not _is_in_place(func):
            n_numbers = _size_of_result(func, args, named)
            self._check_size(n_numbers)
            if func.overloadpacket is torch.ops.aten.convolution:
                self._check_work(n_numbers * args[1][0].numel())
        elif not given and torch.device(named.get("device") or "cpu").type != "meta":
            n_numbers = _size_of_new(func, args, named)
            self._check_size(n_numbers)
            self.initial -= n_numbers
            if self.initial < 0:
                self._refuse("layers with more weights than the file has")
        return func(*args, **named)

    def _check_size(self, n_numbers: int) -> None:
        if n_numbers > self.largest:
            self._refuse(f"a result of {n_numbers} numbers")

    def _check_work(self, n_products: int) -> None:
        if n_products > MOST_PRODUCTS:
            self._refuse(f"a convolution of {n_products} products")

    def _refuse(self, what: str) -> None:
        raise misfit(self.where, FITTING, what)


def _is_in_place(func: Any) -> bool:
    return str(func.overloadpacket.__name__).endswith("_")


def _size_of_result(func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Return the size of the largest result, by the same operation without data."""
    like_args, like_named = tree_map_only(Tensor, _without_data, (args, named))
    if like_named.get("device") is not None:
        like_named = {**like_named, "device": torch.device("meta")}
    return _largest(func, like_args, like_named)


def _size_of_new(func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Return the size of a tensor that is made of numbers alone, such as random ones."""
    shapes = [item for item in args if isinstance(item, list | tuple)]
    if shapes:
        return math.prod(shapes[0])
    return _largest(func, args, {**named, "device": torch.device("meta")})


def _largest(func: Any, args: Any, named: Any) -> int:
    try:
        results = func(*args, **named)
    except (RuntimeError, NotImplementedError, TypeError):  # needs data, or fails again below
        return 0
    sizes = [result.numel() for result in tree_leaves(results) if isinstance(result, Tensor)]
    return max(sizes, default=0)


def _without_data(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
