"""How many rows of a batch a decoder is trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import ParametricUMAP
from neumap.data import DenseRows
from neumap.estimators.positions.decoding import decoded_rows, some_positions
from neumap.estimators.positions.presets import PRESETS
from neumap.losses.reconstruction import DecodedRows, ReconstructionTerm, reconstruction_loss
from neumap.losses.terms import Batch
from neumap.networks import MLP
from neumap.training.embedders import EncoderEmbedder
from neumap.training.flops import forward_flops

HIDDEN = PRESETS["default"].hidden
IMAGES = DenseRows(np.zeros((4, 1, 28, 28), dtype=np.float32))
POSITIONS = some_positions(2, torch.device("cpu"))


def page_encoder() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, 2)),
    )


def page_decoder() -> nn.Module:
    """A decoder of images as in umap-learn's documentation."""
    return nn.Sequential(
        *(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, 7 * 7 * 256), nn.ReLU()),
        *(nn.Unflatten(1, (256, 7, 7)), nn.Upsample(scale_factor=2)),
        *(nn.Conv2d(256, 64, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)),
        *(nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1)),
    )


class TableOnly(nn.Module):
    """Torch's counter sees no products in it."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(784))

    def forward(self, positions: Tensor) -> Tensor:
        return (positions[:, :1] * self.rows).view(-1, 1, 28, 28)


def decide(wanted: Any, encoder: nn.Module | None, decoder: nn.Module) -> DecodedRows:
    encoding = 0.0 if encoder is None else EncoderEmbedder(encoder, IMAGES).flops
    return decoded_rows(wanted, IMAGES, encoding, decoder, POSITIONS, HIDDEN)


def test_the_decoder_of_the_page_decodes_few_rows() -> None:
    """By hand: 14 x 14 x 64 x 2304 + 28 x 28 x (32 x 576 + 288) + 256 x 12546 products."""
    products = 14 * 14 * 64 * 2304 + 28 * 28 * (32 * 576 + 288) + 2 * 256 + 256 * 12544
    assert forward_flops(page_decoder(), POSITIONS) == 2 * products
    encoding = forward_flops(page_encoder(), torch.zeros(2, 1, 28, 28))
    found = decide("auto", page_encoder(), page_decoder())
    assert found.share == pytest.approx(1.5 * encoding / (2 * products))
    assert found.of(256) == 32 < found.of(2048) < 400


@pytest.mark.parametrize(("n_rows", "expected"), [(2_000, 32), (12_000, 100), (60_000, 500)])
def test_more_training_rows_are_decoded_more_at_a_time(n_rows: int, expected: int) -> None:
    """One in 120, so that every row has its turn about as often whatever their number."""
    rows = DenseRows(np.zeros((1, 1, 28, 28), dtype=np.float32).repeat(2, 0)[np.zeros(n_rows, int)])
    encoding = EncoderEmbedder(page_encoder(), rows).flops
    found = decoded_rows("auto", rows, encoding, page_decoder(), POSITIONS, HIDDEN)
    assert found.at_least == expected


def test_cheap_decoders_decode_all_rows() -> None:
    mlp = MLP(2, 784, HIDDEN, output_shape=(1, 28, 28))
    for encoder in (None, nn.Linear(784, 2), page_encoder()):
        inner = nn.Sequential(nn.Flatten(), encoder) if isinstance(encoder, nn.Linear) else encoder
        assert decide("auto", inner, mlp).of(1024) == 1024
        assert decide("auto", inner, TableOnly()).of(1024) == 1024


@pytest.mark.parametrize(("wanted", "expected"), [(None, 1024), (1, 1), (100, 100), (5000, 1024)])
def test_a_number_is_taken(wanted: int | None, expected: int) -> None:
    assert decide(wanted, page_encoder(), page_decoder()).of(1024) == expected


@pytest.mark.parametrize("n_rows", [1, 3, 7, 9, 10])
@pytest.mark.parametrize("joint", [False, True])
def test_the_loss_is_that_of_rows_spread_over_the_batch(n_rows: int, joint: bool) -> None:
    torch.manual_seed(0)
    rows, coordinates = torch.rand(10, 5), torch.rand(10, 2).requires_grad_(True)
    decoder, loss = nn.Linear(2, 5), reconstruction_loss("mse", (0, 1))
    term = ReconstructionTerm(decoder, loss, joint=joint, decoded=DecodedRows(0.0, n_rows))
    value = term(Batch(torch.arange(10), rows, coordinates, 0.0))
    chosen = np.arange(n_rows) * 10 // n_rows
    by_hand = (decoder(coordinates[chosen]) - rows[chosen]).square().mean()
    assert value.item() == pytest.approx(by_hand.item())
    value.backward()
    assert (coordinates.grad is not None) is joint


def test_a_fit_reports_the_rows() -> None:
    X = np.random.default_rng(0).random((120, 6), dtype=np.float32)
    settings: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 2, "preset": "fast"}
    model = ParametricUMAP(parametric_reconstruction=True, **settings).fit(X)
    assert model.report_["reconstruction_rows"] == 240  # all: 120 edges
    model.set_params(reconstruction_rows=10).fit(X)
    assert model.report_["reconstruction_rows"] == 10
    assert "reconstruction_rows" not in ParametricUMAP(**settings).fit(X).report_
