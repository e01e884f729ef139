"""Classifier: cross entropy by hand, unlabelled rows, few labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap.losses import ClassifierTerm
from neumap.losses.terms import Batch
from neumap.networks import MLP

CLASSES = torch.tensor([0, 1, -1, 1, -1, 2])
COORDINATES = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


def batch_of(indices: list[int], coordinates: Tensor, rows: Tensor | None = None) -> Batch:
    return Batch(torch.tensor(indices), rows, coordinates, progress=0.0)


def whole_batch(coordinates: Tensor = COORDINATES) -> Batch:
    return batch_of([0, 1, 2, 3, 4, 5], coordinates)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_cross_entropy_over_labelled_rows() -> None:
    head = nn.Linear(2, 3)
    term = ClassifierTerm(head, CLASSES)
    assert term.name == "classifier_loss"
    assert term.modules == {"classifier": head}
    logits = head(COORDINATES).detach().double().numpy()
    kept = [0, 1, 3, 5]
    expected = -log_softmax(logits)[kept, CLASSES[kept]].mean()
    assert term(whole_batch()).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_labels_counts_nothing() -> None:
    coordinates = torch.randn(2, 2, requires_grad=True)
    value = ClassifierTerm(nn.Linear(2, 3), CLASSES)(batch_of([2, 4], coordinates))
    assert value.item() == 0.0
    value.backward()
    torch.testing.assert_close(coordinates.grad, torch.zeros(2, 2))


def test_unlabelled_rows_feel_no_cross_entropy_and_labelled_ones_do() -> None:
    coordinates = COORDINATES.clone().requires_grad_()
    ClassifierTerm(nn.Linear(2, 3), CLASSES)(whole_batch(coordinates)).backward()
    assert coordinates.grad is not None
    felt = coordinates.grad.abs().sum(1) > 0
    assert felt.tolist() == [True, True, False, True, False, True]


def test_with_embed_the_rare_labels_come_up_in_every_batch() -> None:
    classes = torch.full((1000,), -1)
    classes[[100, 500, 900]] = torch.tensor([0, 1, 2])
    table = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    embedded: list[Tensor] = []

    def embed(indices: Tensor) -> tuple[None, Tensor]:
        embedded.append(indices)
        return None, table[indices]

    head = nn.Linear(2, 3)
    term = ClassifierTerm(head, classes, embed=embed)
    indices = torch.randint(1000, (400,), generator=torch.Generator().manual_seed(1))
    batch = Batch(indices, None, table[indices], progress=0.0)
    value = term(batch).item()
    visits = torch.bincount(embedded[0], minlength=1000)
    assert visits.nonzero().flatten().tolist() == [100, 500, 900]
    assert visits[[100, 500, 900]].min() > 10  # 64 / 3 each, if uniform
    losses = -log_softmax(head(table[[100, 500, 900]]).detach().numpy())[range(3), range(3)]
    expected = (visits[[100, 500, 900]].numpy() * losses).sum() / 64
    assert value == pytest.approx(expected, rel=1e-4)


def test_anchors_count_as_much_as_the_batch() -> None:
    """Rows 1 and 5 are certain; the batch of rows 0 and 3 is a guess. Half of each mean."""
    head = nn.Linear(2, 3)
    embedded: list[Tensor] = []

    def embed(indices: Tensor) -> tuple[None, Tensor]:
        embedded.append(indices)
        return None, COORDINATES[indices]

    anchors = torch.tensor([1, 5])
    term = ClassifierTerm(head, CLASSES, embed=embed, anchors=anchors)
    value = term(batch_of([0, 3], COORDINATES[[0, 3]])).item()
    assert embedded[0].tolist() == [1, 5]  # 0 and 3 modulo the two anchors
    losses = -log_softmax(head(COORDINATES).detach().double().numpy())
    expected = (losses[1, 1] + losses[5, 2]) / 4 + (losses[0, 0] + losses[3, 1]) / 4
    assert value == pytest.approx(expected, rel=1e-5)


def test_the_encoder_learns_from_the_labels() -> None:
    encoder, head = MLP(8, 2, hidden=(5,)), nn.Linear(2, 3)
    rows = torch.rand(6, 8)
    term = ClassifierTerm(head, CLASSES)
    term(batch_of([0, 1, 2, 3, 4, 5], encoder(rows), rows)).backward()
    gradient = encoder.layers[0].weight.grad
    assert isinstance(gradient, Tensor)
    assert gradient.abs().sum() > 0


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="got 5 rows that are all -1"):
        ClassifierTerm(nn.Linear(2, 3), torch.full((5,), -1))
    with pytest.raises(ValueError, match="one output per class, 3, got 2"):
        ClassifierTerm(nn.Linear(2, 2), CLASSES)(whole_batch())
