"""Reconstruction: values against numpy, which gradients flow, how losses are resolved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neumap.data import DenseRows
from neumap.losses import ReconstructionTerm, reconstruction_loss, validation_loss
from neumap.losses.terms import Batch

UNIT, WIDE = (0.0, 1.0), (-3.0, 255.0)
ROWS = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
OUTPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def numpy_losses() -> dict[str, float]:
    y, p = ROWS.double().numpy(), OUTPUTS.double().numpy()
    q = 1 / (1 + np.exp(-p))
    error = np.abs(y - p)
    return {
        "bce": float(-(y * np.log(q) + (1 - y) * np.log(1 - q)).mean()),
        "mse": float((error**2).mean()),
        "mae": error.mean().item(),
        "huber": float(np.where(error < 1, error**2 / 2, error - 0.5).mean()),
    }


@pytest.mark.parametrize("name", ["bce", "mse", "mae", "huber"])
def test_named_losses_equal_their_formula(name: str) -> None:
    found = reconstruction_loss(name, UNIT)(ROWS, OUTPUTS).item()
    assert found == pytest.approx(numpy_losses()[name], rel=1e-5)


def test_default_follows_the_range_of_the_data() -> None:
    assert reconstruction_loss(None, UNIT).name == "bce"
    assert reconstruction_loss(None, (0.2, 0.9)).name == "bce"
    assert reconstruction_loss(None, (-0.001, 0.9)).name == "mse"
    assert reconstruction_loss(None, (0.0, 1.001)).name == "mse"
    assert reconstruction_loss(None, WIDE).name == "mse"


def test_activation_leads_to_data_space() -> None:
    outputs = torch.tensor([-30.0, 0.0, 30.0])
    as_data = reconstruction_loss("bce", UNIT).activation(outputs)
    torch.testing.assert_close(as_data, torch.tensor([0.0, 0.5, 1.0]))
    for name in ("mse", "mae", "huber"):
        torch.testing.assert_close(reconstruction_loss(name, WIDE).activation(outputs), outputs)


class KerasLike:
    """What a Keras loss looks like from outside."""

    from_logits = True

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(y_pred, y_true)


@pytest.mark.parametrize(
    "loss",
    [nn.BCEWithLogitsLoss(), functional.binary_cross_entropy_with_logits, KerasLike()],
    ids=["torch module", "torch function", "keras"],
)
def test_losses_on_logits_get_their_order_and_bring_the_sigmoid(loss: Any) -> None:
    resolved = reconstruction_loss(loss, UNIT)
    assert resolved(ROWS, OUTPUTS).item() == pytest.approx(numpy_losses()["bce"], rel=1e-5)
    torch.testing.assert_close(resolved.activation(OUTPUTS), OUTPUTS.sigmoid())


def test_a_callable_gets_truth_first_and_may_return_one_value_per_row() -> None:
    def overshoot(y_true: Tensor, y_pred: Tensor) -> Tensor:
        return (y_pred - y_true).clamp_min(0).sum(1)

    resolved = reconstruction_loss(overshoot, WIDE)
    expected = np.maximum(OUTPUTS.numpy() - ROWS.numpy(), 0).sum(1).mean()
    assert resolved(ROWS, OUTPUTS).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(resolved.activation(OUTPUTS), OUTPUTS)


@pytest.mark.parametrize(
    ("loss", "data_range", "error", "message"),
    [
        ("bce", WIDE, ValueError, r"within \[0, 1\] .* got values from -3 to 255.*'mse'"),
        ("mean", UNIT, ValueError, "one of .*'huber'.*got 'mean'"),
        (3, UNIT, TypeError, "got int"),
    ],
)
def test_losses_that_cannot_work_are_refused(
    loss: Any, data_range: tuple[float, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        reconstruction_loss(loss, data_range)


def encoded_batch(encoder: nn.Module) -> Batch:
    return Batch(torch.arange(6), ROWS, encoder(ROWS), progress=0.0)


@pytest.mark.parametrize("joint", [True, False])
def test_gradient_reaches_the_encoder_only_if_joint(joint: bool) -> None:
    encoder, decoder = nn.Linear(4, 2), nn.Linear(2, 4)
    term = ReconstructionTerm(decoder, reconstruction_loss("mse", UNIT), joint=joint)
    assert term.name == "reconstruction_loss"
    assert term.modules == {"decoder": decoder}
    value = term(encoded_batch(encoder))
    expected = (decoder(encoder(ROWS)) - ROWS).square().mean()
    torch.testing.assert_close(value, expected)
    value.backward()
    assert decoder.weight.grad is not None
    assert decoder.weight.grad.abs().sum() > 0
    if joint:
        assert encoder.weight.grad is not None
        assert encoder.weight.grad.abs().sum() > 0
    else:
        assert encoder.weight.grad is None


def test_shaped_rows_and_flat_outputs_meet() -> None:
    images = ROWS.reshape(6, 2, 2, 1)
    loss = reconstruction_loss("mse", UNIT)
    assert loss(images, OUTPUTS).item() == pytest.approx(numpy_losses()["mse"], rel=1e-5)
    with pytest.raises(ValueError, match=r"one row per position, \(6, 2, 2, 1\).*got \(6, 3\)"):
        loss(images, OUTPUTS[:, :3])


def test_free_positions_take_rows_from_a_store() -> None:
    decoder = nn.Linear(2, 4)
    indices, positions = torch.tensor([3, 1]), torch.randn(2, 2)
    batch = Batch(indices, None, positions, progress=0.0)
    loss = reconstruction_loss("mse", UNIT)
    found = ReconstructionTerm(decoder, loss, rows=DenseRows(ROWS.numpy()))(batch)
    torch.testing.assert_close(found, (decoder(positions) - ROWS[[3, 1]]).square().mean())
    with pytest.raises(ValueError, match="row store for a ReconstructionTerm with free positions"):
        ReconstructionTerm(decoder, loss)(batch)


def test_validation_loss_is_clean_and_leaves_no_trace() -> None:
    encoder = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    decoder = nn.Linear(2, 4)
    loss = reconstruction_loss("mse", UNIT)
    found = validation_loss(encoder, decoder, loss, DenseRows(ROWS.numpy()), batch_rows=4)
    expected = (decoder(encoder[0](ROWS)) - ROWS).square().mean().item()  # no dropout
    assert found == pytest.approx(expected, rel=1e-5)
    assert encoder.training
    assert decoder.training
    assert decoder.weight.grad is None
