"""Classifier: cross entropy by hand, unlabelled rows, balance, consistency, few labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from neumap.losses import ClassifierTerm, balanced_weights, coordinates_of, features_of
from neumap.losses.terms import Batch
from neumap.networks import MLP, ConvEncoder

CLASSES = torch.tensor([0, 1, -1, 1, -1, 2])
COORDINATES = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


def batch_of(indices: list[int], coordinates: Tensor, rows: Tensor | None = None) -> Batch:
    return Batch(torch.tensor(indices), rows, coordinates, progress=0.0)


def whole_batch(coordinates: Tensor = COORDINATES) -> Batch:
    return batch_of([0, 1, 2, 3, 4, 5], coordinates)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 3.0]], ids=["plain", "weighted"])
def test_weighted_cross_entropy_over_labelled_rows(class_weights: list[float] | None) -> None:
    head = nn.Linear(2, 3)
    weights = None if class_weights is None else torch.tensor(class_weights)
    term = ClassifierTerm(head, CLASSES, class_weights=weights)
    assert term.name == "classifier_loss"
    assert term.modules == {"classifier": head}
    logits = head(COORDINATES).detach().double().numpy()
    kept = [0, 1, 3, 5]
    losses = -log_softmax(logits)[kept, CLASSES[kept]]
    shares = np.ones(4) if class_weights is None else np.array(class_weights)[CLASSES[kept]]
    expected = (shares * losses).sum() / shares.sum()
    assert term(whole_batch()).item() == pytest.approx(expected, rel=1e-5)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    classes = np.array([0] * 7 + [1] * 2 + [2] * 1)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=classes)
    found = balanced_weights(torch.tensor(classes), 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert balanced_weights(torch.tensor(classes), 4)[3] == 0.0


@pytest.mark.parametrize("balanced", [False, True])
def test_a_batch_without_labels_counts_nothing(balanced: bool) -> None:
    coordinates = torch.randn(2, 2, requires_grad=True)
    weights = balanced_weights(CLASSES, 3) if balanced else None
    value = ClassifierTerm(nn.Linear(2, 3), CLASSES, class_weights=weights)(
        batch_of([2, 4], coordinates)
    )
    assert value.item() == 0.0
    value.backward()
    torch.testing.assert_close(coordinates.grad, torch.zeros(2, 2))


def test_unlabelled_rows_feel_no_cross_entropy_and_labelled_ones_do() -> None:
    coordinates = COORDINATES.clone().requires_grad_()
    ClassifierTerm(nn.Linear(2, 3), CLASSES)(whole_batch(coordinates)).backward()
    assert coordinates.grad is not None
    felt = coordinates.grad.abs().sum(1) > 0
    assert felt.tolist() == [True, True, False, True, False, True]


def test_consistency_is_the_symmetric_divergence_over_open_edges() -> None:
    head = nn.Linear(2, 3)
    logits = head(COORDINATES).detach().double().numpy()
    p = np.exp(log_softmax(logits))
    # Edges of the batch: 0-3 (both labelled, left out), 1-4, 2-5.
    divergences = [
        0.5 * ((p[i] * np.log(p[i] / p[j])).sum() + (p[j] * np.log(p[j] / p[i])).sum())
        for i, j in ((1, 4), (2, 5))
    ]
    plain = ClassifierTerm(head, CLASSES)(whole_batch()).item()
    found = ClassifierTerm(head, CLASSES, consistency_weight=0.5)(whole_batch()).item()
    assert found - plain == pytest.approx(0.5 * np.mean(divergences), rel=1e-4)


def test_consistency_counts_nothing_where_all_is_labelled() -> None:
    head = nn.Linear(2, 3)
    batch = batch_of([0, 1, 3, 5], COORDINATES[:4])
    plain = ClassifierTerm(head, CLASSES)(batch).item()
    assert ClassifierTerm(head, CLASSES, consistency_weight=9.0)(batch).item() == plain


def test_with_locate_the_rare_labels_come_up_in_every_batch() -> None:
    classes = torch.full((1000,), -1)
    classes[[100, 500, 900]] = torch.tensor([0, 1, 2])
    table = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    located: list[Tensor] = []

    def locate(indices: Tensor) -> tuple[None, Tensor]:
        located.append(indices)
        return None, table[indices]

    head = nn.Linear(2, 3)
    term = ClassifierTerm(head, classes, locate=locate, n_visits=300)
    indices = torch.randint(1000, (400,), generator=torch.Generator().manual_seed(1))
    batch = Batch(indices, None, table[indices], progress=0.0)
    value = term(batch).item()
    visits = torch.bincount(located[0], minlength=1000)
    assert visits.nonzero().flatten().tolist() == [100, 500, 900]
    assert visits[[100, 500, 900]].min() > 70  # 100 each, if uniform
    losses = -log_softmax(head(table[[100, 500, 900]]).detach().numpy())[range(3), range(3)]
    expected = (visits[[100, 500, 900]].numpy() * losses).sum() / 300
    assert value == pytest.approx(expected, rel=1e-4)


def test_anchors_count_as_much_as_the_batch() -> None:
    """Rows 1 and 5 are certain; the batch of rows 0 and 3 is a guess. Half of each mean."""
    head = nn.Linear(2, 3)
    located: list[Tensor] = []

    def locate(indices: Tensor) -> tuple[None, Tensor]:
        located.append(indices)
        return None, COORDINATES[indices]

    anchors = torch.tensor([1, 5])
    term = ClassifierTerm(head, CLASSES, locate=locate, n_visits=2, anchors=anchors)
    value = term(batch_of([0, 3], COORDINATES[[0, 3]])).item()
    assert located[0].tolist() == [1, 5]  # 0 and 3 modulo the two anchors
    losses = -log_softmax(head(COORDINATES).detach().double().numpy())
    expected = (losses[1, 1] + losses[5, 2]) / 4 + (losses[0, 0] + losses[3, 1]) / 4
    assert value == pytest.approx(expected, rel=1e-5)


def test_features_come_from_the_layer_below_the_map_where_there_is_one() -> None:
    rows = torch.rand(4, 8)
    encoder = MLP(8, 2, hidden=(5, 7))
    batch = batch_of([0, 1, 2, 3], encoder(rows), rows)
    torch.testing.assert_close(features_of(encoder)(batch), encoder.features(rows))
    images = torch.rand(4, 4, 4, 1)
    conv = ConvEncoder((4, 4, 1), hidden=6)
    assert features_of(conv)(batch_of([0, 1, 2, 3], conv(images), images)).shape == (4, 6)
    for without in (nn.Linear(8, 2), None):
        assert features_of(without) is coordinates_of
    torch.testing.assert_close(coordinates_of(batch), batch.coordinates)


def test_the_encoder_learns_from_the_labels() -> None:
    encoder, head = MLP(8, 2, hidden=(5,)), nn.Linear(5, 3)
    rows = torch.rand(6, 8)
    term = ClassifierTerm(head, CLASSES, features=features_of(encoder))
    term(batch_of([0, 1, 2, 3, 4, 5], encoder(rows), rows)).backward()
    gradient = encoder.layers[0].weight.grad
    assert isinstance(gradient, Tensor)
    assert gradient.abs().sum() > 0


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="all 5 are -1"):
        ClassifierTerm(nn.Linear(2, 3), torch.full((5,), -1))
    with pytest.raises(ValueError, match="one output per class, 3, got 2"):
        ClassifierTerm(nn.Linear(2, 2), CLASSES)(whole_batch())
