"""Labels spread over a graph, against cases worked out by hand and against labels held back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from neumap import propagation
from neumap.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from neumap.neighbors import find_neighbors
from neumap.propagation import spread_labels


def graph_of(n: int, *edges: tuple[int, int, float]) -> FuzzyGraph:
    heads, tails, weights = zip(*edges, strict=True)
    return FuzzyGraph(np.array(heads), np.array(tails), np.array(weights, dtype=np.float32), n)


def path(n: int) -> FuzzyGraph:
    return graph_of(n, *[(i, i + 1, 1.0) for i in range(n - 1)])


def test_path_is_cut_in_the_middle() -> None:
    classes = np.array([0, -1, -1, -1, -1, 1])
    assert spread_labels(path(6), classes).tolist() == [0, 0, 0, 1, 1, 1]


def test_weights_move_the_cut() -> None:
    """On a path, potentials between sources fall by the inverse conductance of each edge.

    Poisson's equation with sources of +1/2 and -1/2 at the ends sends the same flow through every
    edge. Conductances are (w J)^4 with J = 2/3, 1/2, 1/2, 2/3, so without losses the drops are
    proportional to 5, 16, 160,000 and 5, and the middle lies in the third.
    """
    strong_then_weak = graph_of(5, (0, 1, 1.0), (1, 2, 1.0), (2, 3, 0.1), (3, 4, 1.0))
    assert spread_labels(strong_then_weak, np.array([0, -1, -1, -1, 1])).tolist() == [0, 0, 0, 1, 1]


def conductances(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(w J)^4 with J from sets: neighbours that both ends have, of those that one of them has."""
    near = [{i, *np.flatnonzero(row)} for i, row in enumerate(weights)]
    shares = [[len(a & b) / len(a | b) for b in near] for a in near]
    return (weights * np.array(shares)) ** 4


def potentials(weights: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Poisson learning by a dense solve: (L + loss D) u = sum over labels of (one hot - mean).

    A flow is lost at such a rate that it makes ten steps for each row that a label has to name.
    """
    labelled = np.flatnonzero(classes >= 0)
    one_hot = np.zeros((len(classes), classes.max() + 1))
    one_hot[labelled, classes[labelled]] = 1.0
    share = one_hot[labelled].mean(axis=0)
    source = one_hot.copy()
    source[labelled] -= share
    loss = len(labelled) / len(classes) / 10
    degrees = weights.sum(axis=1)
    return np.linalg.solve(np.diag((1 + loss) * degrees) - weights, source) / share


def poisson(weights: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = potentials(weights, classes).argmax(axis=1)
    found[classes >= 0] = classes[classes >= 0]
    return found


def example(seed: int) -> tuple[FuzzyGraph, NDArray[np.int64]]:
    """90 rows of three overlapping classes; about one in seven has a label."""
    rng = np.random.default_rng(seed)
    centres = 1.0 * np.eye(3)
    kind = rng.integers(3, size=90)
    X = (centres[kind] + rng.normal(size=(90, 3))).astype(np.float32)
    classes = np.where(rng.random(90) < 0.15, kind, -1)
    assert set(classes) == {-1, 0, 1, 2}
    return fuzzy_simplicial_set(find_neighbors(X, 8)), classes


@pytest.mark.parametrize("seed", range(3))
def test_it_solves_poissons_equation(seed: int) -> None:
    graph, classes = example(seed)
    exact = poisson(conductances(graph.to_csr().toarray().astype(np.float64)), classes)
    assert np.mean(spread_labels(graph, classes) == exact) > 0.98


@pytest.mark.parametrize("seed", range(3))
def test_rows_left_out_are_least_sure_in_the_mean_of_their_neighbours(seed: int) -> None:
    graph, classes = example(seed)
    weights = graph.to_csr().toarray().astype(np.float64)
    flow = potentials(conductances(weights), classes)
    spread = flow.argmax(axis=1)
    expected = spread.copy()
    for label in range(3):
        leads = {}
        for row in np.flatnonzero(spread == label):
            around = np.average(flow, axis=0, weights=weights[row])
            leads[row] = around[label] - max(around[other] for other in {0, 1, 2} - {label})
        expected[sorted(leads, key=leads.__getitem__)[: len(leads) * 2 // 5]] = -1
    expected[classes >= 0] = classes[classes >= 0]
    assert np.mean(spread_labels(graph, classes, leave_out=0.4) == expected) > 0.97


def groups(*groups: tuple[int, ...]) -> list[tuple[int, int, float]]:
    """Edges of strength 1 between all rows of a group."""
    return [(i, j, 1.0) for group in groups for i in group for j in group if i < j]


def test_a_class_with_two_groups_does_not_take_the_group_beside_one() -> None:
    """Without a loss, class 0 would take rows 4 to 6 too.

    Groups of four rows stand in a line, the last behind an edge that hardly conducts. The first two
    hold one label each, of classes 0 and 1; the last two more of class 1. So what flows over that
    edge is of class 0 in one direction and of class 1 in the other, and puts the first two groups
    on one level, high for class 0 and low for class 1, against which their own labels count little.
    """
    edges = groups((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))
    bridged = graph_of(12, *edges, (3, 4, 1.0), (7, 8, 0.01))
    classes = np.full(12, -1)
    classes[[0, 7, 9, 10]] = 0, 1, 1, 1
    weights = conductances(bridged.to_csr().toarray().astype(np.float64))
    assert poisson(weights, classes).tolist() == [0] * 4 + [1] * 8
    assert lossless(weights, classes)[4:7].tolist() == [0] * 3
    assert spread_labels(bridged, classes).tolist() == [0] * 4 + [1] * 8


def lossless(weights: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Poisson learning as published, without a loss."""
    labelled = np.flatnonzero(classes >= 0)
    one_hot = np.eye(classes.max() + 1)[classes] * (classes >= 0)[:, None]
    share = one_hot[labelled].mean(axis=0)
    degrees = weights.sum(axis=1)
    source = one_hot - share * (classes >= 0)[:, None]
    potential = np.linalg.lstsq(np.diag(degrees) - weights, source, rcond=1e-14)[0]
    potential -= degrees @ potential / degrees.sum()
    found: NDArray[np.int64] = (potential / share).argmax(axis=1)
    return found


def test_a_bridge_between_two_groups_carries_little() -> None:
    """By strength alone, row 5 would get the label at the other end of its strongest edge.

    Every other edge of row 5 has a fifth of the strength: 4 (0.2)^4 are less than 1.
    """
    rows = [
        (i, j, 0.2) for group in ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)) for i in group for j in group
    ]
    edges = [(i, j, w) for i, j, w in rows if i < j] + [(4, 5, 1.0)]
    classes = np.full(10, -1)
    classes[[4, 9]] = 0, 1
    assert spread_labels(graph_of(10, *edges), classes).tolist() == [0] * 5 + [1] * 5


def test_neighbours_are_counted_block_by_block(monkeypatch: Any, digits: Any) -> None:
    X, y = digits
    graph = fuzzy_simplicial_set(find_neighbors(X[:300], 10))
    classes = np.where(np.arange(300) % 15 == 0, y[:300], -1)
    whole = spread_labels(graph, classes)
    monkeypatch.setattr(propagation, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(spread_labels(graph, classes), whole)


def test_a_class_with_more_labels_does_not_drown_the_other() -> None:
    classes = np.full(12, -1)
    classes[[0, 1, 2, 3]] = 0
    classes[11] = 1
    spread = spread_labels(path(12), classes)
    assert spread[:4].tolist() == [0] * 4
    assert spread[9:].tolist() == [1] * 3


def test_parts_without_a_label_stay_unlabelled() -> None:
    two_parts = graph_of(6, (0, 1, 1.0), (1, 2, 1.0), (3, 4, 1.0), (4, 5, 1.0))
    assert (
        spread_labels(two_parts, np.array([1, -1, -1, -1, -1, -1])).tolist() == [1] * 3 + [-1] * 3
    )
    lonely = graph_of(3, (0, 1, 1.0))
    assert spread_labels(lonely, np.array([0, -1, -1])).tolist() == [0, 0, -1]


def test_labelled_rows_keep_their_class_whatever_surrounds_them() -> None:
    ring = graph_of(5, *[(i, i + 1, 1.0) for i in range(4)], (0, 4, 1.0))
    classes = np.array([0, 1, 0, 0, 0])
    np.testing.assert_array_equal(spread_labels(ring, classes), classes)


def test_rows_between_two_classes_are_left_out_first() -> None:
    classes = np.full(10, -1)
    classes[[0, 9]] = 0, 1
    spread = spread_labels(path(10), classes, leave_out=0.4)  # two of five rows on each side
    assert spread.tolist() == [0, 0, 0, -1, -1, -1, -1, 1, 1, 1]
    everything = spread_labels(path(10), classes, leave_out=1.0)
    np.testing.assert_array_equal(everything, classes)


def test_a_single_class_has_no_border() -> None:
    classes = np.array([2, -1, -1, -1])
    assert spread_labels(path(4), classes, leave_out=0.5).tolist() == [2, 2, 2, 2]


def test_rows_left_out_are_the_ones_most_often_wrong(digits: Any) -> None:
    X, y = digits
    graph = fuzzy_simplicial_set(find_neighbors(X, 15))
    classes = np.full(len(y), -1)
    for digit in range(10):
        classes[np.flatnonzero(y == digit)[:4]] = digit
    everywhere = spread_labels(graph, classes)
    surest = spread_labels(graph, classes, leave_out=0.3)
    kept = surest >= 0
    assert kept.mean() == pytest.approx(0.7, abs=0.02)
    np.testing.assert_array_equal(surest[kept], everywhere[kept])
    assert np.mean(everywhere[kept] != y[kept]) < 0.5 * np.mean(everywhere[~kept] != y[~kept])


def test_no_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one label, got only -1"):
        spread_labels(path(3), np.full(3, -1))


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32), y


# Means over the three seeds: .921, .967 and .978; of the nearest labelled row .704, .843 and .950.
@pytest.mark.parametrize(("per_class", "least"), [(2, 0.85), (4, 0.9), (16, 0.95)])
def test_few_labels_name_most_digits(per_class: int, least: float, digits: Any) -> None:
    X, y = digits
    graph = fuzzy_simplicial_set(find_neighbors(X, 15))
    spread, nearest = [], []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(y))
        classes = np.full(len(y), -1)
        for digit in range(10):
            classes[order[y[order] == digit][:per_class]] = digit
        hidden = classes < 0
        spread.append(np.mean(spread_labels(graph, classes)[hidden] == y[hidden]))
        vote = KNeighborsClassifier(1).fit(X[~hidden], classes[~hidden])
        nearest.append(vote.score(X[hidden], y[hidden]))
    assert np.mean(spread) > least
    assert np.mean(spread) > np.mean(nearest)
