"""Write a network as one ONNX file that gives the same numbers without PyTorch.

In: an ``nn.Module`` that takes a batch of rows and includes its reshaping and preprocessing. Out: a
file for onnxruntime and similar runtimes, with a free batch size. Before the file is moved into
place, its outputs in onnxruntime are compared with those of the module on random rows, which
include negative values.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neumap._atomic import replacing
from neumap._modes import evaluation_mode
from neumap._optional import require
from neumap._warnings import warn_user

__all__ = ["to_onnx"]

_LARGEST_FILE = 2 * 2**30 - 2**24  # bytes of weights; a protobuf message ends at 2 GiB
_CHECKED_BATCHES = (1, 7)  # rows; 1 is the size that exporters are most likely to fix by mistake

_logger = logging.getLogger(__name__)


def to_onnx(  # noqa: PLR0913 - names and opset define the file's interface
    module: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Tensor | Sequence[int],
    input_names: Sequence[str] = ("input",),
    output_names: Sequence[str] = ("output",),
    opset: int = 18,
    check: bool = True,
    tolerance: float = 1e-5,
) -> Path:
    """Write ``module`` as an ONNX file with a free batch size.

    The module is exported in evaluation mode and is unchanged afterwards, including its device and
    modes. The file is written completely or not at all.

    Parameters
    ----------
    module : nn.Module
        Network with one input, a batch along the first axis, that treats each row independently.
    path : path-like
        File to write, usually ending in ``.onnx``. Missing folders are made.
    example : Tensor of shape (n_rows, ...) or sequence of int
        Typical rows, or the shape of one row, for example ``(784,)`` (then float, of the
        module's precision). Typical rows make the check use numbers of their scale.
    input_names, output_names : sequence of str
        Names of the input and the outputs in the file.
    opset : int, default=18
        Version of ONNX's operators. A larger one needs a newer runtime.
    check : bool, default=True
        Compare the file with the module if onnxruntime is installed.
    tolerance : float, default=1e-5
        Largest difference accepted, as a fraction of the largest absolute output. Half precision
        needs about 1e-2.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ImportError
        If the extra ``onnx`` is not installed.
    ValueError
        If the module cannot be exported with a free batch size, or the file gives other numbers.

    Warns
    -----
    UserWarning
        If the weights exceed 2 GB, since ONNX then needs a second file, ``<path>.data``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = to_onnx(nn.Linear(4, 2), f"{folder}/map.onnx", example=(4,))
    ...     file.name
    'map.onnx'
    """
    require("onnxscript", extra="onnx")
    target = Path(path).resolve()
    is_split = _n_bytes(module) > _LARGEST_FILE
    with _evaluated_on_cpu(module):
        rows = _example_rows(module, example)
        program = _export(module, rows, input_names, output_names, opset)
        _drop_traces(program.model)
        _rename_inner(program.model.graph)
        with replacing(target) as draft:  # its weights' own file too, where it has one
            program.save(draft, external_data=is_split)
            if check:
                _compare(module, draft, rows, tolerance)
    if is_split:
        warn_user(
            f"The weights exceed 2 GB, the limit of one ONNX file. They are in {target.name}.data, "
            f"which must stay in the same folder as {target.name}.",
        )
    return target


@contextmanager
def _evaluated_on_cpu(module: nn.Module) -> Iterator[None]:
    """Switch the module to evaluation on the CPU, and restore its modes and device afterwards.

    On the CPU, because a GPU may round convolutions to TF32, more coarsely than the check allows.
    """
    tensors = [(tensor, tensor.data) for tensor in [*module.parameters(), *module.buffers()]]
    with evaluation_mode(module):
        try:
            for tensor, data in tensors:
                tensor.data = data.cpu()
            yield
        finally:
            for tensor, data in tensors:
                tensor.data = data


def _example_rows(module: nn.Module, example: Tensor | Sequence[int]) -> Tensor:
    """Return at least two rows, since the exporter treats a batch size of one as a constant."""
    if not isinstance(example, Tensor):
        floats = (p.dtype for p in module.parameters() if p.is_floating_point())
        return torch.zeros(2, *example, dtype=next(floats, torch.float32))
    if example.ndim == 0 or len(example) == 0:
        raise ValueError(
            "example must have rows along its first axis, got a tensor of shape "
            f"{tuple(example.shape)}. Pass a few rows of data, or the shape of one row."
        )
    rows = example.detach().cpu()[:64]
    return rows if len(rows) > 1 else torch.cat([rows, rows])


def _export(
    module: nn.Module,
    rows: Tensor,
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> Any:
    with _quiet(), torch.no_grad():
        return torch.onnx.export(
            _capture(module, rows),
            (rows,),
            dynamo=True,
            verbose=False,
            input_names=list(input_names),
            output_names=list(output_names),
            opset_version=opset,
            dynamic_shapes=({0: "batch"},),  # only names the axis, which the capture has made free
        )


def _capture(module: nn.Module, rows: Tensor) -> torch.export.ExportedProgram:
    """Return the computation graph with a free batch size.

    The non-strict capture is faster, but treats ``len(x)`` as a constant. The strict capture does
    not, but fails on more kinds of Python code. They are tried in this order.
    """
    failures = []
    for strict in (False, True):
        try:
            return torch.export.export(
                module,
                (rows,),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                strict=strict,
            )
        except Exception as error:
            failures.append(error)
    raise ValueError(
        "The network must be one that torch.export can capture with a free batch size, got "
        f"{type(module).__name__}, which failed with {type(failures[0]).__name__}: "
        f"{failures[0]!s:.600}\n"
        "In its forward, take the batch size from x.shape[0] or write -1, and do not branch on "
        "values."
    ) from failures[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress lines, warnings and log records of the exporter."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)  # failures arrive as exceptions
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _drop_traces(model: Any) -> None:
    """Remove the exporter's metadata, such as source lines and paths of the user's machine."""
    model.metadata_props.clear()
    for graph in model.graphs():
        graph.metadata_props.clear()
        values = [*graph.inputs, *graph.initializers.values()]
        for node in graph:
            node.metadata_props.clear()
            values += node.outputs
        for value in values:
            value.metadata_props.clear()


def _rename_inner(graph: Any) -> None:
    """Rename results inside the graph that have the name of an input or output.

    The exporter names a result after its operation: that of ``nn.Embedding`` is "embedding".
    """
    outer = {value.name for value in (*graph.inputs, *graph.outputs)}
    ends = {id(value) for value in graph.outputs}
    inner = [value for node in graph for value in node.outputs if id(value) not in ends]
    taken = outer | {value.name for value in inner}
    for value in inner:
        if value.name in outer:
            value.name = next(
                name for at in count(1) if (name := f"{value.name}_{at}") not in taken
            )
            taken.add(value.name)


def _n_bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])


def _compare(module: nn.Module, file: Path, rows: Tensor, tolerance: float) -> None:
    """Raise if onnxruntime and the module disagree; only log if onnxruntime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        _logger.info("onnxruntime is not installed: %s was written without a check", file.name)
        return
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; they arrive as exceptions
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, without a common base
        raise ValueError(
            f"The ONNX file must load in onnxruntime, got an error: {error!s:.600}. onnxruntime "
            "lacks some operators in double precision: use module.float(), or check=False."
        ) from error
    generator = torch.Generator().manual_seed(0)
    random = [_random_rows(rows, n_rows, generator) for n_rows in _CHECKED_BATCHES]
    for batch in [rows, *(_taken_rows(module, rows, batch) for batch in random)]:
        with torch.no_grad():
            expected = module(batch)
        outputs = [expected] if isinstance(expected, Tensor) else list(expected)
        got = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        for ours, theirs in zip(outputs, got, strict=True):
            _require_equal(ours.numpy(), theirs, tolerance)


def _taken_rows(module: nn.Module, rows: Tensor, random: Tensor) -> Tensor:
    """Return random rows if the module takes them, otherwise as many of the example's.

    A module that reads numbers as codes has no entry in its table for others.
    """
    try:
        with torch.no_grad():
            module(random)
    except Exception:  # of any kind: an operation of the user
        return rows[torch.arange(len(random)) % len(rows)]
    return random


def _random_rows(rows: Tensor, n_rows: int, generator: torch.Generator) -> Tensor:
    """Return rows of the example's type and scale; floats have both signs."""
    shape = (n_rows, *rows.shape[1:])
    if not rows.is_floating_point():
        low, high = int(rows.min()), int(rows.max())
        return torch.randint(low, high + 1, shape, generator=generator).to(rows.dtype)
    scale = float(rows.abs().max()) or 1.0
    return (torch.randn(shape, generator=generator) * scale).to(rows.dtype)


def _require_equal(expected: np.ndarray, got: np.ndarray, tolerance: float) -> None:
    if expected.shape != got.shape:
        raise ValueError(
            f"The ONNX file must return shape {expected.shape}, as the module does, got "
            f"{got.shape}. Take the batch size from x.shape[0], or write -1, in reshapes."
        )
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    difference = float(np.abs(expected - got).max(initial=0.0)) / scale
    if not difference <= tolerance:  # nan is a difference too
        raise ValueError(
            f"The ONNX file must agree with the module within {tolerance:g} of the largest output, "
            f"got a difference of {difference:.3g}. Raise tolerance if the network computes in "
            "half precision, otherwise report this with the module's code."
        )
