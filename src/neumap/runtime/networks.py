"""The networks of the package by NumPy, and others by onnxruntime.

In: rows (n, n_inputs) of float32. Out: rows (n, n_outputs) of float32, equal to those of torch but
for the order of sums.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neumap._optional import require
from neumap.archive.errors import ArchiveError
from neumap.archive.schema import check, misfit, nullable, size
from neumap.runtime.layers import mlp_layers
from neumap.runtime.reading import Network

__all__ = ["Evaluate", "mlp", "onnx_network"]

Array = NDArray[np.floating[Any]]
Evaluate = Callable[[NDArray[np.float32]], NDArray[np.float32]]

CONFIG = {
    "n_inputs": size,
    "n_outputs": size,
    "hidden": [size],
    "residual": bool,
    "output_shape": nullable([size]),
    "rows": frozenset({"raw", "unit", "centred unit"}),
}
# Numbers of one layer at a time: 8 MB.
BLOCK = 2**21
MOST_ROWS, FEWEST_ROWS = 4096, 16


def mlp(network: Network, role: str, n_inputs: int, n_outputs: int) -> Evaluate:
    """Return the function of a :class:`neumap.networks.MLP`.

    Parameters
    ----------
    network : Network
        As read from the file.
    role : {"encoder", "decoder"}
        For messages.
    n_inputs, n_outputs : int
        Of the model; the network must agree.

    Raises
    ------
    ArchiveError
        If it is a network of another kind, or its parts do not fit.
    """
    if network.kind != "neumap.networks.MLP":
        raise ArchiveError(
            f"The {role} must be an MLP of neumap to be evaluated by NumPy, got "
            f"{network.kind:.100}. Write it with model.to_onnx('{role}.onnx', part='{role}') where "
            f"neumap is installed, and load with {role}='{role}.onnx' and onnxruntime."
        )
    config, tensors = network.config, network.tensors
    check(config, CONFIG, f"{role}.config")
    subspace = config.get("subspace")
    n_read = n_inputs if subspace is None else subspace
    check(n_read, size, f"{role}.config.subspace")
    if (config["n_inputs"], config["n_outputs"]) != (n_inputs, n_outputs):
        got = f"{config['n_inputs']} and {config['n_outputs']}"
        raise misfit(role, f"a network from {n_inputs} to {n_outputs} numbers", got)
    widths = [n_read, *config["hidden"], n_outputs]
    shapes = {"standardize.mean": (n_inputs,), "standardize.scale": ()}
    if subspace is not None:
        shapes["basis"] = (subspace, n_inputs)
    for index, (before, after) in enumerate(pairwise(widths)):
        shapes[f"layers.{index}.weight"] = (after, before)
        shapes[f"layers.{index}.bias"] = (after,)
    for name, shape in shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            got = str(tensors[name].shape) if name in tensors else "none"
            raise misfit(f"{role}.{name}", f"an array of shape {shape}", got)
    layers = mlp_layers(config, tensors)
    return lambda rows: _in_blocks(layers.apply, rows, n_outputs, max(n_inputs, *widths))


def _in_blocks(
    evaluate: Callable[[Array], Array], rows: NDArray[np.float32], n_outputs: int, widest: int
) -> NDArray[np.float32]:
    """Apply a network to some rows at a time, so that memory does not grow with their number."""
    step = min(MOST_ROWS, max(FEWEST_ROWS, BLOCK // max(widest, 1)))
    outputs = np.empty((len(rows), n_outputs), dtype=np.float32)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        outputs[part] = evaluate(rows[part])
    return outputs


def onnx_network(
    path: str | os.PathLike[str], role: str, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> Evaluate:
    """Return the function of a file of ``to_onnx``.

    Parameters
    ----------
    path : path-like
    role : {"encoder", "decoder"}
        For messages.
    in_shape, out_shape : tuple of int
        Shape of a row that goes in, and of one that comes out.

    Raises
    ------
    ImportError
        If onnxruntime is missing.
    ValueError
        If the file cannot be read, or is of rows of another shape.
    """
    onnxruntime = require("onnxruntime", "onnx")
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base of its errors
        raise ValueError(
            f"{role} must be a file of to_onnx, got {os.fspath(path)!r}, which onnxruntime "
            f"does not read ({error!s:.200}). Write it with model.to_onnx(path, part='{role}')."
        ) from error
    found = [tuple(part[0].shape[1:]) for part in (session.get_inputs(), session.get_outputs())]
    if found != [in_shape, out_shape]:
        raise ValueError(
            f"{role} must map rows of shape {in_shape} to {out_shape}, got a file from "
            f"{found[0]} to {found[1]}. Write it from the same model with "
            f"model.to_onnx(path, part='{role}')."
        )
    name, n_outputs = session.get_inputs()[0].name, math.prod(out_shape)

    def evaluate(rows: Array) -> Array:
        (outputs,) = session.run(None, {name: rows.reshape(len(rows), *in_shape)})
        return np.asarray(outputs).reshape(len(rows), n_outputs)

    widest = max(math.prod(in_shape), n_outputs)
    return lambda rows: _in_blocks(evaluate, rows, n_outputs, widest)
