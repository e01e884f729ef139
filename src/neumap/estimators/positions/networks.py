"""The networks of a fit: built, or copied from the user's, and checked before the training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from neumap._modes import evaluating
from neumap._random import layers_seeded, torch_seeded
from neumap.data import DenseRows, RowMoments, RowStore
from neumap.data.moments import sample_rows
from neumap.estimators.constraints import short_text
from neumap.keras_bridge import KerasModule, is_keras_model
from neumap.networks import MLP, ConvDecoder, ConvEncoder, RowForm, Standardize
from neumap.training import AuxiliaryDimensions, InputNoise

__all__ = [
    "auxiliary_dimensions",
    "copy_network",
    "input_noise",
    "prepare_decoder",
    "prepare_encoder",
]

ENCODER_NAMES = ("mlp", "residual", "conv")

# A built-in encoder should not see what the metric ignores in a row.
ROW_FORMS: dict[str, RowForm] = {"cosine": "unit", "correlation": "centred unit"}
MOMENT_ROWS = 10_000
MOMENT_COPIES = 4


def copy_network(network: Any, input_shape: Sequence[int], role: str) -> nn.Module:
    """Copy a user's network so that a fit cannot change it.

    Raises
    ------
    TypeError
        If it is neither a PyTorch module nor a Keras model.
    """
    if isinstance(network, nn.Module) and not is_keras_model(network):
        return copy.deepcopy(network)
    if is_keras_model(network):
        return KerasModule(network, tuple(input_shape))
    if isinstance(network, type):
        raise TypeError(
            f"{role} must be a module, got the class {network.__name__}. Pass an instance: "
            f"{role}={network.__name__}(...)."
        )
    raise TypeError(
        f"{role} must be a torch.nn.Module, a Keras model on the torch backend or None, "
        f"got {type(network).__name__}. Change {role}."
    )


def prepare_encoder(
    encoder: Any,
    rows: RowStore,
    n_components: int,
    hidden: Sequence[int],
    seed: int,
    *,
    metric: Any = "euclidean",
) -> nn.Module:
    """Return the encoder to train, on the rows' device.

    Parameters
    ----------
    encoder : None, str, torch.nn.Module or Keras model
        None and ``"mlp"`` build the preset's MLP, ``"residual"`` the same with skip connections,
        ``"conv"`` a :class:`~neumap.networks.ConvEncoder`. A network is copied.
    rows : RowStore
        The training rows.
    n_components : int
        Width the output must have.
    hidden : sequence of int
        Hidden widths of an MLP.
    seed : int
        For the initial weights.
    metric : str or callable, default="euclidean"
        Of the graph. A network built here reads rows of unit length for ``"cosine"``, centred
        before that for ``"correlation"``.

    Raises
    ------
    ValueError
        If the network cannot take the rows, or its output has another shape.
    """
    is_builtin = encoder is None or isinstance(encoder, str)
    with (layers_seeded if is_builtin else torch_seeded)(seed, "encoder"):
        if is_builtin:
            form = ROW_FORMS.get(metric, "raw") if isinstance(metric, str) else "raw"
            module = _named_encoder(encoder or "mlp", rows, n_components, hidden, form)
        else:
            module = copy_network(encoder, rows.row_shape, "encoder")
        module = module.to(rows.device)
        _check_output(module, rows, (n_components,), "encoder")
    _standardize_input(module, rows, seed)
    return module


def prepare_decoder(
    decoder: Any, rows: RowStore, n_components: int, hidden: Sequence[int], seed: int
) -> nn.Module:
    """Return the decoder to train, from coordinates to rows.

    Raises
    ------
    ValueError
        If its output does not have the shape of a row.
    """
    is_builtin = decoder is None or isinstance(decoder, str)
    with (layers_seeded if is_builtin else torch_seeded)(seed, "decoder"):
        if decoder is None:
            module: nn.Module = MLP(
                n_components, rows.n_features, hidden, output_shape=rows.row_shape
            )
        elif isinstance(decoder, str) and decoder == "conv":
            module = ConvDecoder(rows.row_shape, n_components)
        else:
            module = copy_network(decoder, (n_components,), "decoder")
        module = module.to(rows.device)
        probe = torch.zeros(2, n_components, device=rows.device)
        _check_shape(_apply(module, probe, "decoder"), (2, *rows.row_shape), "decoder")
    return module


def _named_encoder(
    name: str, rows: RowStore, n_components: int, hidden: Sequence[int], form: RowForm
) -> nn.Module:
    if name == "conv":
        return ConvEncoder(rows.row_shape, n_components, rows=form)
    if name in ENCODER_NAMES:
        return MLP(rows.n_features, n_components, hidden, residual=name == "residual", rows=form)
    raise ValueError(
        f"encoder must be one of {list(ENCODER_NAMES)}, a torch.nn.Module, a Keras model or None, "
        f"got {short_text(name)}."
    )


def _check_output(module: nn.Module, rows: RowStore, shape: tuple[int, ...], role: str) -> None:
    """Apply the network to two rows, which also builds lazy layers, and check the shape."""
    probe = rows.gather(torch.zeros(2, dtype=torch.int64))
    _check_shape(_apply(module, probe, role), (2, *shape), role)


def _apply(module: nn.Module, probe: torch.Tensor, role: str) -> torch.Tensor:
    try:
        with evaluating(module, to_be_trained=True):
            output: torch.Tensor = module(probe)
    except Exception as error:
        raise ValueError(
            f"The {role} cannot take rows of shape {tuple(probe.shape[1:])}: {error} "
            "Pass dims=... if it expects rows of another shape, such as images."
        ) from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"The {role} must return one tensor, got {type(output).__name__}. Wrap it in a module "
            "that returns the coordinates only."
        )
    return output


def _check_shape(output: torch.Tensor, expected: tuple[int, ...], role: str) -> None:
    if tuple(output.shape) == expected:
        return
    wanted = "n_components outputs per row" if role == "encoder" else "one row of X per point"
    raise ValueError(
        f"The {role} must give {wanted}: expected shape {('n', *expected[1:])}, got "
        f"{('n', *output.shape[1:])}. Change its last layer"
        + (f", or set n_components={output.shape[-1]}." if role == "encoder" else ", or dims.")
    )


def input_noise(encoder: nn.Module, relative: float, seed: int) -> InputNoise | None:
    """Return noise for an encoder that standardises its input, None for other networks.

    A user network may read images, counts or codes, for which noise of one scale makes no sense.
    """
    front = getattr(encoder, "standardize", None)
    if not isinstance(front, Standardize) or relative == 0.0:
        return None
    return InputNoise(relative * float(front.scale), seed)


def auxiliary_dimensions(
    encoder: nn.Module, n_auxiliary: int, seed: int
) -> AuxiliaryDimensions | None:
    """Return auxiliary dimensions for a built-in network, None for others."""
    if n_auxiliary == 0 or not isinstance(encoder, MLP | ConvEncoder):
        return None
    last = encoder.layers[-1] if isinstance(encoder, MLP) else encoder.output
    assert isinstance(last, nn.Linear)
    with layers_seeded(seed, "spare dimensions"):
        auxiliary = AuxiliaryDimensions(last.in_features, n_auxiliary)
    return auxiliary.to(last.weight.device)


def _standardize_input(module: nn.Module, rows: RowStore, seed: int) -> None:
    """Set the input statistics of a built-in network, unless it has some."""
    front = getattr(module, "standardize", None)
    if not isinstance(front, Standardize):
        return
    if bool(front.scale != 1.0) or bool(front.mean.any()):
        return
    moments = rows.mean_and_scale(seed=seed) if front.rows == "raw" else _moments(front, rows, seed)
    front.set(moments.mean, moments.scale)


def _moments(front: Standardize, rows: RowStore, seed: int) -> RowMoments:
    """Return mean and scale of a sample of rows, in the form that the network reads."""
    # The sample is dense here, in a few copies at once.
    bytes_per_row = MOMENT_COPIES * 4 * rows.n_features
    chosen = sample_rows(rows.n_rows, MOMENT_ROWS, seed, bytes_per_row)
    sample = rows.gather(torch.from_numpy(chosen)).flatten(1)
    return DenseRows(front.form(sample), device=rows.device).mean_and_scale(seed=seed)
