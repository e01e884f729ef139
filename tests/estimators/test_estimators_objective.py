"""The objective: the terms that were asked for, in order, with their weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tasks import task_of
from torch import nn

from neumap.data import as_rows
from neumap.estimators.graph import Graph
from neumap.estimators.landmarks import WarmStart
from neumap.estimators.objective import (
    Density,
    Landmarking,
    Networks,
    Objective,
    Reconstruction,
    Similarity,
)
from neumap.estimators.positions.forces import Forces
from neumap.estimators.positions.presets import PRESETS
from neumap.estimators.task import Task
from neumap.fuzzy import fuzzy_simplicial_set
from neumap.losses.reconstruction import reconstruction_loss
from neumap.losses.terms import Softening, Term
from neumap.neighbors import find_neighbors
from neumap.similarity import find_ab
from neumap.training import EncoderEmbedder, FreeEmbedder

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(size=(12, 3)).astype(np.float32)
Y = np.arange(12) % 3
NEIGHBORS = find_neighbors(X, 4)
GRAPH = Graph(NEIGHBORS, fuzzy_simplicial_set(NEIGHBORS))
FORCES = Forces(Softening(0.2, 0.1, 0.0), n_negatives=7, repulsion=0.5, density=0.25)
SIMILARITY = Similarity(a=1.5, b=0.8, min_dist=0.1, spread=1.0, repulsion=4.0)
DECODER = Reconstruction(decoder=None, preset="fast", loss=None, weight=2.0, trains_encoder=True)


def task(y: Any = None, warm_start: WarmStart | None = None) -> Task:
    return task_of(X, y, random_state=3, warm_start=warm_start)


def terms_of(
    objective: Objective, y: Any = None, warm_start: WarmStart | None = None, graph: Graph = GRAPH
) -> list[Term]:
    made = task(y, warm_start)
    networks = objective.networks(made, None, 2)
    return objective.terms(made, networks, graph, FreeEmbedder(X[:, :2]), FORCES)


def names_of(*arguments: Any, **keywords: Any) -> list[str]:
    return [term.name for term in terms_of(*arguments, **keywords)]


def kept(**settings: Any) -> WarmStart:
    positions = np.full((12, 2), np.nan, dtype=np.float32)
    positions[:2] = 1.0
    return WarmStart(positions, **settings)


# ------------------------------------------------------------------ the curve


def test_the_kernel_has_the_a_and_b_that_were_given() -> None:
    kernel = SIMILARITY.kernel(FORCES)
    assert (kernel.a, kernel.b) == (1.5, 0.8)


def test_without_a_and_b_the_kernel_has_those_fitted_to_min_dist_and_spread() -> None:
    kernel = replace(SIMILARITY, a=None, b=None, min_dist=0.3, spread=1.5).kernel(FORCES)
    assert (kernel.a, kernel.b) == find_ab(1.5, 0.3)


def test_repulsion_is_the_product_of_the_parameters_and_the_kind_of_positions() -> None:
    assert SIMILARITY.kernel(FORCES).repulsion == 4.0 * 0.5
    assert SIMILARITY.kernel(replace(FORCES, repulsion=2.0)).repulsion == 4.0 * 2.0


@pytest.mark.parametrize(("a", "b"), [(1.0, None), (None, 1.0)])
def test_a_without_b_is_refused(a: float | None, b: float | None) -> None:
    with pytest.raises(ValueError, match="a and b describe one curve together"):
        replace(SIMILARITY, a=a, b=b).check()


def test_min_dist_above_spread_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_dist must be at most spread, got min_dist=1.1"):
        replace(SIMILARITY, min_dist=1.1).check()
    replace(SIMILARITY, min_dist=1.0).check()


# ------------------------------------------------------------------ which terms


def test_plain_umap_has_one_term() -> None:
    (term,) = terms_of(Objective(SIMILARITY))
    assert (term.name, term.weight, term.modules) == ("umap_loss", 1.0, {})


def test_the_umap_term_has_the_forces_of_the_positions() -> None:
    (term,) = terms_of(Objective(SIMILARITY))
    assert term.kernel == SIMILARITY.kernel(FORCES)
    assert (term.softening, term.n_negatives) == (FORCES.softening, 7)


@pytest.mark.parametrize(
    ("settings", "name", "weight"),
    [
        ({"density": Density(2.0, 0.3, 0.1)}, "density_loss", 0.25 * 2.0),
        ({"reconstruction": DECODER}, "reconstruction_loss", 2.0),
        ({"correlation_weight": 0.7}, "global_correlation_loss", 0.7),
        ({"classifier_weight": 0.4}, "classifier_loss", 0.4),
    ],
)
def test_a_term_is_present_exactly_when_asked_for(
    settings: dict[str, Any], name: str, weight: float
) -> None:
    first, added = terms_of(Objective(SIMILARITY, **settings), Y)
    assert first.name == "umap_loss"
    assert (added.name, added.weight) == (name, weight)


def test_all_terms_come_in_one_order() -> None:
    everything = Objective(
        SIMILARITY,
        density=Density(2.0, 0.3, 0.1),
        reconstruction=DECODER,
        correlation_weight=0.7,
        classifier_weight=0.4,
    )
    assert names_of(everything, Y, kept()) == [
        "umap_loss",
        "density_loss",
        "landmark_loss",
        "reconstruction_loss",
        "global_correlation_loss",
        "classifier_loss",
    ]


def test_labels_alone_add_no_term() -> None:
    assert names_of(Objective(SIMILARITY), Y) == ["umap_loss"]


# ------------------------------------------------------------------ density


@pytest.mark.parametrize("is_free", [True, False])
def test_density_acts_in_the_last_share_of_the_training(is_free: bool) -> None:
    objective, made = Objective(SIMILARITY, density=Density(2.0, 0.3, 0.15)), task()
    embedder: Any = FreeEmbedder(X[:, :2])
    if not is_free:
        embedder = EncoderEmbedder(nn.Linear(3, 2), made.rows)
    _, term = objective.terms(made, Networks(), GRAPH, embedder, FORCES)
    assert term.start == pytest.approx(0.7)
    assert term.var_shift == 0.15
    np.testing.assert_array_equal(term.radii.numpy(), GRAPH.radii())
    if is_free:
        assert term.positions is embedder.positions
    else:
        assert (term.a, term.b) == (1.5, 0.8)


def test_density_of_free_positions_looks_for_as_many_neighbors_as_in_the_data() -> None:
    _, term = terms_of(Objective(SIMILARITY, density=Density(2.0, 0.3, 0.15)))
    line = np.arange(12, dtype=np.float32)[:, None] ** 2
    heads, tails, _ = term.find_edges(line)
    # The three nearest of each point of 0, 1, 4, 9, ... and no more.
    near = np.argsort(np.abs(line - line.T), axis=1, kind="stable")[:, 1:4]
    expected = {tuple(sorted((i, int(j)))) for i in range(12) for j in near[i]}
    assert set(zip(heads.tolist(), tails.tolist(), strict=True)) == expected


def test_density_needs_distances() -> None:
    objective = Objective(SIMILARITY, density=Density(2.0, 0.3, 0.1))
    with pytest.raises(ValueError, match="for a graph without distances"):
        terms_of(objective, graph=Graph(None, GRAPH.fuzzy))


# ------------------------------------------------------------------ landmarks


@pytest.mark.parametrize(("own", "expected"), [(None, 3.0), (0.01, 0.01), (0.0, 0.0)])
def test_the_weight_of_landmarks_is_their_own_or_the_parameter(
    own: float | None, expected: float
) -> None:
    objective = Objective(SIMILARITY, landmarks=Landmarking(weight=3.0))
    _, term = terms_of(objective, warm_start=kept(loss_weight=own))
    assert (term.name, term.weight) == ("landmark_loss", expected)


def test_landmarks_have_the_loss_and_the_positions_that_were_given() -> None:
    def loss(y_true: Any, y_pred: Any) -> Any:
        return (y_true - y_pred).abs()

    start = kept()
    objective = Objective(SIMILARITY, landmarks=Landmarking(loss_fn=loss))
    _, term = terms_of(objective, warm_start=start)
    assert term.loss_fn is loss
    np.testing.assert_array_equal(term.targets.numpy(), start.positions)


def test_only_landmarks_drops_the_umap_term() -> None:
    assert names_of(Objective(SIMILARITY), warm_start=kept(only_landmarks=True)) == [
        "landmark_loss"
    ]


# ------------------------------------------------------------------ networks


def test_a_network_that_was_not_asked_for_is_not_built() -> None:
    encoder = nn.Linear(3, 2)
    networks = Objective(SIMILARITY).networks(task(Y), encoder, 2)
    assert networks == Networks(encoder=encoder)


def test_a_decoder_maps_positions_to_rows() -> None:
    networks = Objective(SIMILARITY, reconstruction=DECODER).networks(task(), None, 4)
    assert networks.decoder is not None
    assert networks.decoder(torch.zeros(5, 4)).shape == (5, 3)
    assert networks.reconstruction_loss is not None
    assert networks.reconstruction_loss.name == "bce"  # the rows are in [0, 1]


def test_a_built_in_decoder_has_the_hidden_widths_of_the_preset() -> None:
    reconstruction = replace(DECODER, preset="best")
    networks = Objective(SIMILARITY, reconstruction=reconstruction).networks(task(), None, 2)
    assert networks.decoder is not None
    assert networks.decoder.hidden == PRESETS["best"].hidden


def test_the_decoder_trains_the_encoder_only_where_asked() -> None:
    for trains in (True, False):
        reconstruction = replace(DECODER, trains_encoder=trains)
        _, term = terms_of(Objective(SIMILARITY, reconstruction=reconstruction))
        assert term.joint is trains
        assert [*term.modules] == ["decoder"]


def test_a_classifier_has_one_output_per_class() -> None:
    labels = np.array(["a", "b", "c", "d"] * 3)
    networks = Objective(SIMILARITY, classifier_weight=1.0).networks(task(labels), None, 2)
    assert networks.classifier is not None
    assert networks.classifier(torch.zeros(1, 2)).shape == (1, 4)
    assert networks.classes is not None
    assert networks.classes.labels.tolist() == ["a", "b", "c", "d"]


def test_the_first_weights_depend_on_the_seed_alone(global_random_state_untouched: None) -> None:
    objective = Objective(SIMILARITY, reconstruction=DECODER, classifier_weight=1.0)
    one, two = (objective.networks(task(Y), None, 2) for _ in range(2))
    other = objective.networks(replace(task(Y), seed=4), None, 2)
    for name in ("decoder", "classifier"):
        first, second, third = (next(getattr(n, name).parameters()) for n in (one, two, other))
        assert torch.equal(first, second)
        assert not torch.equal(first, third)


def test_a_classifier_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="classifier_loss_weight needs labels"):
        Objective(SIMILARITY, classifier_weight=1.0).networks(task(), None, 2)


def test_a_classifier_of_labelled_rows_reads_the_batch() -> None:
    _, term = terms_of(Objective(SIMILARITY, classifier_weight=1.0), Y)
    assert term.classes.tolist() == Y.tolist()
    assert term.embed is None


def test_unlabelled_rows_get_labels_and_labelled_ones_are_always_visited() -> None:
    some = np.where(np.arange(12) < 6, Y, -1)
    _, term = terms_of(Objective(SIMILARITY, classifier_weight=1.0), some)
    assert term.anchors.tolist() == [0, 1, 2, 3, 4, 5]
    assert term.classes[:6].tolist() == Y[:6].tolist()
    assert (term.classes[6:] >= 0).any()
    assert term.embed is not None


def test_a_penalty_comes_after_the_decoder_and_before_the_classifier() -> None:
    class Lasso(nn.Linear):
        def regularization(self) -> torch.Tensor:
            return self.weight.abs().sum()

    objective = Objective(SIMILARITY, reconstruction=DECODER, classifier_weight=0.4)
    made = task(Y)
    networks = objective.networks(made, Lasso(3, 2), 2)
    terms = objective.terms(made, networks, GRAPH, FreeEmbedder(X[:, :2]), FORCES)
    assert [term.name for term in terms] == [
        "umap_loss",
        "reconstruction_loss",
        "regularization_loss",
        "classifier_loss",
    ]


# ------------------------------------------------------------------ validation


def test_validation_is_the_mean_loss_of_held_out_rows_and_its_weighted_value() -> None:
    encoder, decoder = nn.Linear(3, 2), nn.Linear(2, 3)
    networks = Networks(encoder, decoder, reconstruction_loss("mse", (0.0, 1.0)))
    held_out = GENERATOR.normal(size=(9, 3)).astype(np.float32)
    validate = Objective(SIMILARITY, reconstruction=DECODER).validation(networks, as_rows(held_out))
    w, c, v, d = (
        p.detach().numpy().astype(float) for p in [*encoder.parameters(), *decoder.parameters()]
    )
    decoded = (held_out @ w.T + c) @ v.T + d
    expected = np.square(decoded - held_out).mean()
    assert validate() == {
        "val_loss": pytest.approx(2.0 * expected, rel=1e-6),
        "val_reconstruction_loss": pytest.approx(expected, rel=1e-6),
    }
