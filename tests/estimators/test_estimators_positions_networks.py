"""The networks of a fit: built or copied, checked, and given the statistics of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from neumap.data import RowStore, as_rows
from neumap.estimators.positions.networks import (
    auxiliary_dimensions,
    copy_network,
    prepare_decoder,
    prepare_encoder,
)
from neumap.networks import MLP, ConvDecoder, ConvEncoder

GENERATOR = np.random.default_rng(0)
X = (3.0 + GENERATOR.normal(size=(50, 8)) * [4, 1, 1, 1, 1, 1, 1, 1]).astype(np.float32)
ROWS = as_rows(X)
IMAGES = as_rows(GENERATOR.uniform(size=(20, 64)).astype(np.float32), dims=(8, 8, 1))
HIDDEN = (6, 5)


def encoder(given: Any = None, rows: RowStore = ROWS, seed: int = 0, **settings: Any) -> Any:
    return prepare_encoder(given, rows, 2, HIDDEN, seed, **settings)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ------------------------------------------------------------------ copies


def test_a_network_is_copied() -> None:
    given = nn.Linear(8, 2)
    copied = copy_network(given, (8,), "encoder")
    assert copied is not given
    assert same_weights(copied, given)
    with torch.no_grad():
        copied.weight.zero_()
    assert given.weight.abs().sum() > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")
def test_a_keras_model_becomes_a_module_that_shares_nothing() -> None:
    keras = pytest.importorskip("keras")
    given = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    copied = copy_network(given, (8,), "encoder")
    before = given.predict_on_batch(X)
    with torch.no_grad():
        np.testing.assert_allclose(copied(torch.from_numpy(X)).numpy(), before, rtol=1e-5)
        for parameter in copied.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(given.predict_on_batch(X), before)


def test_a_class_in_place_of_an_instance_is_named() -> None:
    with pytest.raises(TypeError, match=r"got the class Linear. Pass an instance: encoder=Linear"):
        copy_network(nn.Linear, (8,), "encoder")


@pytest.mark.parametrize("wrong", [3, lambda rows: rows, "mlp"])
def test_what_is_no_network_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^decoder must be a .*, a Keras model"):
        copy_network(wrong, (2,), "decoder")


# ------------------------------------------------------------------ encoders


def test_the_default_encoder_is_an_mlp_of_the_hidden_widths() -> None:
    built = encoder()
    assert isinstance(built, MLP)
    assert (built.n_inputs, built.n_outputs, built.hidden) == (8, 2, HIDDEN)
    assert not built.residual


def test_encoders_are_built_by_name() -> None:
    assert encoder("mlp").config == encoder().config
    assert encoder("residual").residual
    assert isinstance(encoder("conv", IMAGES), ConvEncoder)
    with pytest.raises(ValueError, match="encoder must be one of"):
        encoder("transformer")


@pytest.mark.parametrize(
    ("metric", "form"),
    [
        ("euclidean", "raw"),
        ("cosine", "unit"),
        ("correlation", "centred unit"),
        ("manhattan", "raw"),
        (lambda a, b: 0.0, "raw"),
    ],
)
def test_a_built_in_encoder_does_not_see_what_the_metric_ignores(metric: Any, form: str) -> None:
    assert encoder(metric=metric).standardize.rows == form


def test_the_first_weights_depend_on_the_seed_alone(global_random_state_untouched: None) -> None:
    assert same_weights(encoder(), encoder())
    assert not torch.equal(encoder(seed=1).layers[0].weight, encoder().layers[0].weight)


def test_lazy_layers_are_built() -> None:
    built = encoder(nn.LazyLinear(2))
    assert built.weight.shape == (2, 8)


WRONG: dict[str, tuple[nn.Module, str]] = {
    "rows": (nn.Linear(7, 2), r"must take float32 rows of shape \(8,\).*Pass dims"),
    "codes": (
        nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(32, 2)),
        r"must take float32 rows .*Turn codes into integers in its forward, with rows.long\(\)",
    ),
    "width": (nn.Linear(8, 3), r"in shape \('n', 2\), got \('n', 3\).*n_components=3"),
    "axes": (nn.Sequential(nn.Linear(8, 4), nn.Unflatten(1, (2, 2))), r"got \('n', 2, 2\)"),
    "two": (nn.LSTM(8, 2), "must return one tensor, got tuple"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_encoder_of_the_wrong_shape_is_refused(name: str) -> None:
    network, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        encoder(network)


def test_the_probe_leaves_batch_statistics_and_modes() -> None:
    given = nn.Sequential(nn.Linear(8, 2), nn.BatchNorm1d(2))
    built = encoder(given)
    assert built.training
    assert int(built[1].num_batches_tracked) == 0


# ------------------------------------------------------------------ statistics of the rows


def test_a_built_in_encoder_gets_mean_and_scale_of_the_rows() -> None:
    front = encoder().standardize
    np.testing.assert_allclose(front.mean.numpy(), X.mean(axis=0), rtol=1e-4)
    along_first_axis = np.sqrt(np.linalg.eigvalsh(np.cov(X.T, bias=True))[-1])
    assert float(front.scale) == pytest.approx(along_first_axis, rel=0.02)


def test_statistics_of_normalised_rows_are_of_these() -> None:
    front = encoder(metric="cosine").standardize
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(front.mean.numpy(), unit.mean(axis=0), atol=1e-5)
    along_first_axis = np.sqrt(np.linalg.eigvalsh(np.cov(unit.T, bias=True))[-1])
    assert float(front.scale) == pytest.approx(along_first_axis, rel=0.02)


@pytest.mark.parametrize(("mean", "scale"), [(1.0, 1.0), (0.0, 2.0)])
def test_statistics_that_a_network_has_are_kept(mean: float, scale: float) -> None:
    given = MLP(8, 2, HIDDEN)
    given.standardize.set(torch.full((8,), mean), scale)
    front = encoder(given).standardize
    assert (front.mean == mean).all()
    assert float(front.scale) == scale


def test_an_mlp_of_the_user_without_statistics_gets_them_in_its_copy() -> None:
    given = MLP(8, 2, HIDDEN)
    assert float(encoder(given).standardize.scale) != 1.0
    assert float(given.standardize.scale) == 1.0


# ------------------------------------------------------------------ decoders


def test_decoders_give_rows() -> None:
    probe = torch.zeros(3, 2)
    assert prepare_decoder(None, ROWS, 2, HIDDEN, 0)(probe).shape == (3, 8)
    assert prepare_decoder(None, IMAGES, 2, HIDDEN, 0)(probe).shape == (3, 8, 8, 1)
    conv = prepare_decoder("conv", IMAGES, 2, HIDDEN, 0)
    assert isinstance(conv, ConvDecoder)
    assert conv(probe).shape == (3, 8, 8, 1)


def test_the_decoder_of_the_user_is_copied_and_checked() -> None:
    given = nn.Linear(2, 8)
    built = prepare_decoder(given, ROWS, 2, HIDDEN, 0)
    assert built is not given
    assert same_weights(built, given)
    with pytest.raises(ValueError, match=r"one row of X per position, .* \('n', 8\), got \('n', 7"):
        prepare_decoder(nn.Linear(2, 7), ROWS, 2, HIDDEN, 0)
    with pytest.raises(ValueError, match=r"decoder must take float32 positions of shape \(2,\)"):
        prepare_decoder(nn.Linear(3, 8), ROWS, 2, HIDDEN, 0)


# ------------------------------------------------------------------ principal directions


def wide(n_rows: int = 60, n_features: int = 30) -> np.ndarray:
    """Rows in a plane, of which one direction is wider, with a little noise."""
    generator = np.random.default_rng(1)
    plane = np.linalg.qr(generator.normal(size=(n_features, 2)))[0]
    rows = generator.normal(size=(n_rows, 2)) * [5, 2] @ plane.T
    return (7 + rows + 0.01 * generator.normal(size=rows.shape)).astype(np.float32)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation"])
def test_a_network_of_a_subspace_reads_the_principal_components(kind: str, metric: str) -> None:
    X = wide()
    rows = as_rows(scipy.sparse.csr_array(X) if kind == "sparse" else X)
    built = encoder("mlp", rows, metric=metric, subspace=2)
    assert built.layers[0].in_features == 2
    form = built.standardize.form(torch.from_numpy(X)).double().numpy()
    centred = form - form.mean(0)
    _, spreads, directions = np.linalg.svd(centred, full_matrices=False)
    components = built.inputs(torch.from_numpy(X)).double().numpy()
    expected = centred @ directions[:2].T / (spreads[0] / np.sqrt(len(X)))
    signs = np.sign((components * expected).sum(0))
    np.testing.assert_allclose(components * signs, expected, atol=2e-2)
    with torch.no_grad():  # the rest of a row does not matter
        apart = torch.from_numpy(X + np.linalg.svd(form)[2][-1].astype(np.float32))
        if metric == "euclidean":
            torch.testing.assert_close(built(apart), built(torch.from_numpy(X)), atol=0.1, rtol=0)


def test_other_networks_read_whole_rows() -> None:
    assert encoder(None).basis is None
    given = encoder(MLP(8, 2, HIDDEN), subspace=3)
    assert given.basis is None


# ------------------------------------------------------------------ auxiliary dimensions


@pytest.mark.parametrize(("name", "rows"), [("mlp", ROWS), ("residual", ROWS), ("conv", IMAGES)])
def test_built_in_networks_get_auxiliary_dimensions(name: str, rows: RowStore) -> None:
    built = encoder(name, rows)
    auxiliary = auxiliary_dimensions(built, 3, seed=0)
    assert auxiliary is not None
    features = built.features(rows.gather(torch.arange(4)))
    assert auxiliary(features).shape == (4, 3)


def test_other_networks_get_no_auxiliary_dimensions() -> None:
    assert auxiliary_dimensions(nn.Linear(8, 2), 3, seed=0) is None
    assert auxiliary_dimensions(encoder(), 0, seed=0) is None


def test_auxiliary_dimensions_depend_on_the_seed_alone(global_random_state_untouched: None) -> None:
    one, again, other = (auxiliary_dimensions(encoder(), 2, seed) for seed in (0, 0, 1))
    assert one is not None
    assert again is not None
    assert other is not None
    assert torch.equal(one.layer.weight, again.layer.weight)
    assert not torch.equal(one.layer.weight, other.layer.weight)
