"""Networks against the matrix products they stand for, and back from their configuration."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neumap.networks import MLP, ConvDecoder, ConvEncoder, Standardize

CASES: list[tuple[type[nn.Module], dict[str, Any], tuple[int, ...]]] = [
    (Standardize, {"n_inputs": 6}, (6,)),
    (MLP, {"n_inputs": 6, "n_outputs": 2}, (6,)),
    (MLP, {"n_inputs": 6, "n_outputs": 3, "hidden": (7,)}, (2, 3)),
    (MLP, {"n_inputs": 6, "n_outputs": 3, "hidden": ()}, (6,)),
    (MLP, {"n_inputs": 6, "n_outputs": 2, "hidden": (5, 5, 4), "residual": True}, (6,)),
    (MLP, {"n_inputs": 2, "n_outputs": 12, "output_shape": (2, 2, 3)}, (2,)),
    (ConvEncoder, {"dims": (9, 7)}, (9, 7)),
    (ConvEncoder, {"dims": (9, 7, 3), "n_outputs": 3, "channels": (4, 5, 6)}, (9, 7, 3)),
    (ConvDecoder, {"dims": (9, 7), "hidden": 11}, (2,)),
    (ConvDecoder, {"dims": (9, 7, 3), "n_inputs": 3, "channels": (4,)}, (3,)),
]


@pytest.mark.parametrize(("kind", "settings", "row_shape"), CASES)
def test_config_and_state_rebuild_the_module(
    kind: type[nn.Module], settings: dict[str, Any], row_shape: tuple[int, ...]
) -> None:
    original = kind(**settings)
    for standardize in (m for m in original.modules() if isinstance(m, Standardize)):
        standardize.set(torch.arange(standardize.n_inputs).float(), 3.0)
    config = json.loads(json.dumps(original.config))  # what a file would hold
    assert config.keys() >= settings.keys()
    rebuilt = kind(**config)
    assert rebuilt.config == original.config
    rebuilt.load_state_dict(original.state_dict())
    rows = torch.randn(4, *row_shape)
    assert torch.equal(rebuilt(rows), original(rows))


@pytest.mark.parametrize(
    ("module", "row_shape", "output_shape"),
    [
        (MLP(12, 2), (12,), (2,)),
        (MLP(12, 3), (3, 4), (3,)),
        (MLP(2, 12, output_shape=(3, 4)), (2,), (3, 4)),
        (ConvEncoder((28, 28)), (28, 28), (2,)),
        (ConvEncoder((28, 28)), (784,), (2,)),  # flat images as well
        (ConvEncoder((5, 9, 3), n_outputs=4), (5, 9, 3), (4,)),
        (ConvDecoder((28, 28)), (2,), (28, 28)),
        (ConvDecoder((28, 28, 1)), (2,), (28, 28, 1)),
        (ConvDecoder((32, 16, 3), n_inputs=5), (5,), (32, 16, 3)),
        (ConvDecoder((5, 9, 2)), (2,), (5, 9, 2)),
        (ConvDecoder((1, 1)), (2,), (1, 1)),
        (ConvDecoder((7, 13), channels=(8, 6, 4)), (2,), (7, 13)),
    ],
)
def test_output_shape(
    module: nn.Module, row_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> None:
    for batch in (1, 3):
        outputs = module(torch.zeros(batch, *row_shape))
        assert outputs.shape == (batch, *output_shape)
        assert outputs.dtype == torch.float32


# --- the multilayer perceptron ---


def by_hand(mlp: MLP, rows: np.ndarray) -> np.ndarray:
    """The network in float64 numpy."""
    as_array = lambda t: t.detach().double().numpy()  # noqa: E731
    x = (rows - as_array(mlp.standardize.mean)) / as_array(mlp.standardize.scale)
    *hidden, last = mlp.layers
    for layer in hidden:
        y = np.maximum(x @ as_array(layer.weight).T + as_array(layer.bias), 0.0)
        x = x + y if mlp.residual and x.shape[1] == y.shape[1] else y
    return x @ as_array(last.weight).T + as_array(last.bias)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("hidden", [(), (8,), (6, 6, 9, 9)])
def test_mlp_is_its_matrix_products(hidden: tuple[int, ...], residual: bool) -> None:
    mlp = MLP(6, 2, hidden, residual=residual)
    for layer in mlp.layers:
        nn.init.normal_(layer.bias)
    mlp.standardize.set(torch.randn(6), 2.0)
    rows = torch.randn(10, 6)
    expected = by_hand(mlp, rows.double().numpy())
    np.testing.assert_allclose(mlp(rows).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    plain = MLP(6, 2, hidden)
    plain.load_state_dict(mlp.state_dict())
    same_width = any(i == o for i, o in pairwise([6, *hidden]))
    assert torch.equal(plain(rows), mlp(rows)) == (not (residual and same_width))


def test_features_are_what_the_last_layer_reads() -> None:
    rows = torch.randn(5, 4, 4, 1)
    mlp, conv = MLP(16, 2, (7, 3)), ConvEncoder((4, 4, 1), hidden=6)
    assert mlp.features(rows).shape == (5, 3)
    assert torch.equal(mlp.layers[-1](mlp.features(rows)), mlp(rows))
    assert conv.features(rows).shape == (5, 6)
    assert torch.equal(conv.output(conv.features(rows)), conv(rows))
    assert mlp.features(rows).min() >= 0


def test_initial_layers_keep_the_scale_of_their_input() -> None:
    """He's rule: through ReLU layers the mean square stays; the last layer has unit gain."""
    rows = torch.randn(2000, 300)
    mlp = MLP(300, 300, (300, 300, 300))
    assert mlp(rows).square().mean().item() == pytest.approx(1.0, rel=0.15)
    assert all(torch.count_nonzero(layer.bias) == 0 for layer in mlp.layers)


def test_output_shape_must_hold_the_outputs() -> None:
    with pytest.raises(ValueError, match=r"n_outputs=12 elements, got \(3, 3\) with 9"):
        MLP(2, 12, output_shape=(3, 3))


# --- standardising ---


def test_standardize_does_nothing_until_it_has_statistics() -> None:
    rows = torch.randn(3, 4)
    standardize = Standardize(4)
    assert torch.equal(standardize(rows), rows)
    standardize.set(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2.0)
    expected = (rows.numpy() - np.array([1, 2, 3, 4])) / 2
    np.testing.assert_allclose(standardize(rows), expected, rtol=1e-6)


def test_statistics_are_state_and_not_trained() -> None:
    mlp = MLP(4, 2, (3,))
    mlp.standardize.set(torch.ones(4), 5.0)
    assert {"standardize.mean", "standardize.scale"} <= mlp.state_dict().keys()
    assert not any("standardize" in name for name, _ in mlp.named_parameters())


@pytest.mark.parametrize("encoder", [MLP(12, 2), ConvEncoder((2, 2, 3))])
def test_encoders_standardize_first(encoder: MLP | ConvEncoder) -> None:
    rows = torch.randn(5, 12)
    raw = encoder(rows).detach()
    mean = torch.randn(12)
    encoder.standardize.set(mean, 4.0)
    torch.testing.assert_close(encoder(4.0 * rows + mean), raw, rtol=1e-4, atol=1e-5)


# --- images ---


def test_conv_encoder_reads_channels_last() -> None:
    """A 1 x 1 image in three channels: only the middle of each kernel meets data."""
    encoder = ConvEncoder((1, 1, 3), channels=(4,), hidden=5)
    pixel = torch.randn(6, 1, 1, 3)
    convolution = encoder.convolutions[0]
    x = torch.relu(pixel.reshape(6, 3) @ convolution.weight[:, :, 1, 1].T + convolution.bias)
    expected = encoder.output(torch.relu(encoder.dense(x)))
    torch.testing.assert_close(encoder(pixel), expected)


def test_conv_encoder_reads_pixels_with_their_channels() -> None:
    """One convolution and dense layer written as a sum over the pixels of each window."""
    encoder = ConvEncoder((4, 6, 3), channels=(5,), hidden=7)
    image = torch.randn(1, 4, 6, 3)
    padded = torch.zeros(6, 8, 3)
    padded[1:5, 1:7] = image[0]
    kernel = encoder.convolutions[0]
    maps = torch.stack(
        [
            torch.stack(
                [
                    torch.einsum("hwi,oihw->o", padded[r : r + 3, c : c + 3], kernel.weight)
                    for c in (0, 2, 4)
                ]
            )
            for r in (0, 2)
        ]
    )  # (2, 3, channels)
    x = torch.relu(maps + kernel.bias).permute(2, 0, 1).reshape(1, -1)
    expected = encoder.output(torch.relu(encoder.dense(x)))
    torch.testing.assert_close(encoder(image), expected)


def test_conv_decoder_writes_pixels_next_to_each_other() -> None:
    """One kernel of the last layer paints one block of neighbouring pixels in one channel."""
    decoder = ConvDecoder((4, 6, 2), channels=(3,), hidden=5)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        # Grid of 2 x 3 cells; light cell (1, 2) of the first channel, as the hidden layer's bias.
        decoder.unfold.bias.view(3, 2, 3)[0, 1, 2] = 1.0
        decoder.convolutions[0].weight[0, 1] = 1.0  # (in, out, 4, 4): paints channel 1
    image = decoder(torch.zeros(1, 2))[0].detach()
    expected = torch.zeros(4, 6, 2)
    expected[1:4, 3:6, 1] = 1.0  # 4 x 4 pixels around (2..3, 4..5), cut by the border
    assert torch.equal(image, expected)


def test_conv_encoder_sees_position_and_every_pixel() -> None:
    encoder = ConvEncoder((7, 5))
    image = torch.randn(1, 7, 5, requires_grad=True)
    encoder(image).square().sum().backward()
    assert image.grad is not None
    assert torch.count_nonzero(image.grad) == 35
    assert not torch.allclose(encoder(image), encoder(image.flip(1)))


@pytest.mark.parametrize("dims", [(8, 8), (7, 5), (7, 5, 3)])
def test_conv_decoder_reaches_every_pixel(dims: tuple[int, ...]) -> None:
    decoder = ConvDecoder(dims)
    images = decoder(torch.randn(8, 2))
    assert (images.std(0) > 0).all()  # each pixel depends on the coordinates


def test_conv_nets_learn_an_image() -> None:
    """The mirror can be trained to give back what the encoder saw."""
    images = torch.rand(4, 6, 6, 2)
    net = nn.Sequential(
        ConvEncoder((6, 6, 2), channels=(8, 8), hidden=32),
        ConvDecoder((6, 6, 2), channels=(8, 8), hidden=32),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = (net(images) - images).square().mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = (net(images) - images).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 * before
    assert loss.item() < 0.01


@pytest.mark.parametrize("encoder", [MLP(12, 2, (64,)), ConvEncoder((2, 2, 3))])
def test_last_layer_stays_float32_under_autocast(encoder: nn.Module) -> None:
    rows = torch.randn(50, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, outputs = encoder.features(rows), encoder(rows)
    assert (hidden.dtype, outputs.dtype) == (torch.bfloat16, torch.float32)
    assert not torch.equal(outputs, outputs.bfloat16().float())
    torch.testing.assert_close(outputs, encoder(rows), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", [ConvEncoder, ConvDecoder])
@pytest.mark.parametrize("dims", [(784,), (2, 3, 4, 5)])
def test_conv_nets_need_images(kind: type[nn.Module], dims: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"dims must be \(height, width\) or .*got \("):
        kind(dims)
