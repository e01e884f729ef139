"""The networks of a fit: built, or copied from the user's, and checked before the training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn

from neumap._random import layers_seeded, torch_seeded
from neumap.data import DenseRows, RowStore, first_rows
from neumap.data.moments import sample_rows
from neumap.estimators.constraints import short_text
from neumap.estimators.positions.linear_start import (
    WIDEST_COVARIANCE,
    principal_axes,
    start_linear,
)
from neumap.estimators.positions.own import last_layer
from neumap.estimators.positions.trial import TRIAL_ROWS, try_network
from neumap.keras_bridge import KerasModule, is_keras_model
from neumap.networks import MLP, ConvDecoder, ConvEncoder, RowForm, Standardize
from neumap.training import AuxiliaryDimensions
from neumap.training.last_layer import LastLayer

__all__ = [
    "auxiliary_dimensions",
    "copy_module",
    "copy_network",
    "own_auxiliary",
    "prepare_decoder",
    "prepare_encoder",
    "start_around",
    "tie_parameters",
]

ENCODER_NAMES = ("mlp", "residual", "conv")
DECODER_NAMES = ("conv",)

# A built-in encoder should not see what the metric ignores in a row.
ROW_FORMS: dict[str, RowForm] = {"cosine": "unit", "correlation": "centred unit"}
MOMENT_ROWS = 10_000
MOMENT_COPIES = 4

# Principal directions of rows too wide for a covariance are found by a randomised decomposition
# (Halko et al. 2011).
POWER_ITERATIONS = 2


def copy_network(network: Any, input_shape: Sequence[int], role: str) -> nn.Module:
    """Copy a user's network so that a fit cannot change it.

    Raises
    ------
    TypeError
        If it is neither a PyTorch module nor a Keras model.
    """
    if isinstance(network, nn.Module) and not is_keras_model(network):
        return _copy(network, role)
    if is_keras_model(network):
        return KerasModule(network, tuple(input_shape))
    if isinstance(network, type):
        raise TypeError(
            f"{role} must be a module, got the class {network.__name__}. Pass an instance: "
            f"{role}={network.__name__}(...)."
        )
    names = ENCODER_NAMES if role == "encoder" else DECODER_NAMES
    raise TypeError(
        f"{role} must be a torch.nn.Module, a Keras model on the torch backend, one of "
        f"{list(names)} or None, got {short_text(network)}. Change {role}."
    )


def _copy(network: nn.Module, role: str) -> nn.Module:
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise ValueError(
            f"{role} must have weights, got some on the device 'meta', which holds none. Call "
            f"{role}.to_empty(device='cpu') and load or initialise its weights."
        )
    try:
        return copy_module(network)
    except Exception as error:
        raise ValueError(
            f"{role} must be a module that copy.deepcopy can copy, since a fit trains a copy, got "
            f"{type(error).__name__}: {str(error).rstrip('. ')}. Keep no results of computations, "
            "open files or locks as attributes."
        ) from error


def copy_module(network: nn.Module) -> nn.Module:
    """Return a copy of a module whose parameters can be trained as those of the original."""
    with torch.no_grad():  # with gradients, TorchScript copies parameters that cannot be trained
        copied = copy.deepcopy(network)
    for parameter, original in zip(copied.parameters(), network.parameters(), strict=True):
        if parameter.requires_grad != original.requires_grad:  # lazy ones cannot be asked to change
            parameter.requires_grad_(original.requires_grad)
    return copied


def tie_parameters(
    given: tuple[Any, Any], encoder: nn.Module | None, decoder: nn.Module | None
) -> None:
    """Let the copies of an encoder and a decoder share the parameters that the originals share.

    Parameters
    ----------
    given : tuple of two networks
        The user's encoder and decoder. Copies were made of them one by one.
    encoder, decoder : nn.Module
        The copies; parameters of the decoder are replaced by those of the encoder.
    """
    are_modules = all(isinstance(n, nn.Module) and not is_keras_model(n) for n in given)
    if encoder is None or decoder is None or not are_modules:
        return
    of_encoder = {id(p): name for name, p in given[0].named_parameters()}
    copies = dict(encoder.named_parameters())
    for name, parameter in given[1].named_parameters(remove_duplicate=False):
        copied = copies.get(of_encoder.get(id(parameter), ""))
        if copied is not None:
            path, _, leaf = name.rpartition(".")
            setattr(decoder.get_submodule(path), leaf, copied)


def prepare_encoder(
    encoder: Any,
    rows: RowStore,
    n_components: int,
    hidden: Sequence[int],
    seed: int,
    *,
    metric: Any = "euclidean",
    subspace: int | None = None,
    learns: bool = True,
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
    subspace : int, optional
        Principal directions that an MLP built here reads; by default whole rows.
    learns : bool, default=True
        Whether it will be trained.

    Raises
    ------
    ValueError
        If the network cannot take the rows, or its output has another shape.
    """
    is_builtin = encoder is None or isinstance(encoder, str)
    with (layers_seeded if is_builtin else torch_seeded)(seed, "encoder"):
        if is_builtin:
            form = ROW_FORMS.get(metric, "raw") if isinstance(metric, str) else "raw"
            module = _named_encoder(encoder or "mlp", rows, n_components, hidden, form, subspace)
        else:
            module = copy_network(encoder, rows.row_shape, "encoder")
        module = module.to(rows.device)
        try_network(module, first_rows(rows), (n_components,), "encoder", learns=learns)
    _fit_input(module, rows, seed, starts=is_builtin)
    return module


@torch.no_grad()
def start_around(network: nn.Module, origin: Sequence[float]) -> None:
    """Move the start of a network's map: add a point to the bias of its last layer."""
    if not origin or not isinstance(network, MLP | ConvEncoder):
        return
    last = network.layers[-1] if isinstance(network, MLP) else network.output
    bias = last.bias
    assert isinstance(bias, Tensor)
    bias += torch.tensor(origin, dtype=bias.dtype, device=bias.device)


def prepare_decoder(
    decoder: Any,
    rows: RowStore,
    n_components: int,
    hidden: Sequence[int],
    seed: int,
    *,
    learns: bool = True,
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
        # Around the origin, but not there, where a division by the length has no value.
        line = torch.linspace(-1.0, 1.0, TRIAL_ROWS * n_components, device=rows.device)
        probe = line.reshape(TRIAL_ROWS, n_components)
        try_network(module, probe, rows.row_shape, "decoder", learns=learns)
    return module


def _named_encoder(
    name: str,
    rows: RowStore,
    n_components: int,
    hidden: Sequence[int],
    form: RowForm,
    subspace: int | None,
) -> nn.Module:
    if name == "conv":
        return ConvEncoder(rows.row_shape, n_components, rows=form)
    if name in ENCODER_NAMES:
        return MLP(
            rows.n_features,
            n_components,
            hidden,
            residual=name == "residual",
            rows=form,
            subspace=subspace,
        )
    raise ValueError(
        f"encoder must be one of {list(ENCODER_NAMES)}, a torch.nn.Module, a Keras model or None, "
        f"got {short_text(name)}."
    )


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


def own_auxiliary(
    encoder: nn.Module, n_auxiliary: int, rows: RowStore, seed: int
) -> tuple[AuxiliaryDimensions | None, LastLayer | None]:
    """Return auxiliary dimensions for a network of the user, and the layer whose input they read.

    Both are None where the network does not end with a linear layer.
    """
    if n_auxiliary == 0:
        return None, None
    with torch_seeded(seed, "trial"):
        found = last_layer(encoder, first_rows(rows))
    if found is None:
        return None, None
    with layers_seeded(seed, "spare dimensions"):
        auxiliary = AuxiliaryDimensions(found.n_features, n_auxiliary)
    return auxiliary.to(rows.device), found


def _fit_input(module: nn.Module, rows: RowStore, seed: int, *, starts: bool) -> None:
    """Set what a built-in network knows of its rows before it is trained, unless it is set.

    These are the statistics of the input and the principal directions; an MLP that `starts` from
    no weights of its own also becomes the map of principal components.
    """
    front = getattr(module, "standardize", None)
    if not isinstance(front, Standardize):
        return
    if bool(front.scale != 1.0) or bool(front.mean.any()):
        return
    is_raw, mlp = front.rows == "raw", module if isinstance(module, MLP) else None
    if is_raw and (mlp is None or (mlp.basis is None and not starts)):
        sample = None
        moments = rows.mean_and_scale(seed=seed)
    else:
        sample = _sample(front, rows, seed)
        as_read = rows if is_raw else DenseRows(sample, device=rows.device)
        moments = as_read.mean_and_scale(seed=seed)
    front.set(moments.mean, moments.scale)
    if mlp is None or sample is None:
        return
    if mlp.basis is not None:
        mlp.basis.copy_(_principal_directions(front, sample, len(mlp.basis), seed))
    if starts:
        with torch.no_grad():
            start_linear(mlp, _whole(mlp.inputs(sample)), seed)  # normalised rows stay as they are


def _principal_directions(front: Standardize, sample: Tensor, number: int, seed: int) -> Tensor:
    """Return the first principal directions of a sample of rows, (number, n_features)."""
    standard = _whole((sample - front.mean) / front.scale)
    if standard.shape[1] <= WIDEST_COVARIANCE:
        return principal_axes((standard.t() @ standard).double())[1][:number]
    _, _, found = randomized_svd(
        standard.cpu().numpy(), number, n_iter=POWER_ITERATIONS, random_state=seed % 2**31
    )
    return torch.from_numpy(np.ascontiguousarray(found))


def _whole(sample: Tensor) -> Tensor:
    """Return the rows without missing values; one of zeros if there is none."""
    finite = sample[sample.isfinite().all(1)]
    return finite if len(finite) else torch.zeros_like(sample[:1])


def _sample(front: Standardize, rows: RowStore, seed: int) -> Tensor:
    """Return a sample of rows as the network reads them, (n_sampled, n_features)."""
    # The sample is dense here, in a few copies at once.
    bytes_per_row = MOMENT_COPIES * 4 * rows.n_features
    chosen = sample_rows(rows.n_rows, MOMENT_ROWS, seed, bytes_per_row)
    return front.form(rows.gather(torch.from_numpy(chosen)).flatten(1))
