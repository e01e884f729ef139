"""Placement of new rows: at a known place, along the gradient, each on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import neumap.estimators.new_rows.placement as room
from neumap.estimators.new_rows.placement import average_neighbors, place_rows
from neumap.losses import OUTPUT_METRICS, Kernel

KERNEL = Kernel(1.2, 0.9, repulsion=3.0)
GENERATOR = np.random.default_rng(0)
EMBEDDING = GENERATOR.normal(scale=3.0, size=(40, 2)).astype(np.float32)
SQUARE = np.array([[0, 0], [2, 0], [0, 2], [2, 2]], dtype=np.float32)


def new_rows(n_new: int, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    indices = np.stack([GENERATOR.choice(40, k, replace=False) for _ in range(n_new)])
    distances = np.sort(GENERATOR.uniform(0.5, 2.0, (n_new, k)), axis=1).astype(np.float32)
    return indices.astype(np.int64), distances


def cross_entropy(
    point: np.ndarray, neighbors: np.ndarray, share: np.ndarray, repellers: np.ndarray
) -> float:
    """UMAP's cross entropy of one new row, in float64, by its definition."""

    def q(others: np.ndarray) -> np.ndarray:
        squared = ((point - others) ** 2).sum(1)
        return 1.0 / (1.0 + KERNEL.a * squared**KERNEL.b)

    attraction = -(share * np.log(q(neighbors))).sum()
    return float(attraction - KERNEL.repulsion * np.log(1.0 - q(repellers)).mean())


def numerical_gradient(point: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    steps = 1e-5 * np.eye(2)
    return np.array(
        [cross_entropy(point + h, *rest) - cross_entropy(point - h, *rest) for h in steps]
    ) / (2e-5)


# ------------------------------------------------------------------ forces


def test_the_forces_are_the_gradient_of_the_cross_entropy() -> None:
    point = np.array([0.4, -0.7])
    neighbors, repellers = EMBEDDING[:3].astype(float), EMBEDDING[3:].astype(float)
    share = np.array([0.5, 0.3, 0.2])
    at = torch.tensor(point[None], dtype=torch.float32)
    pull = room._pull(at, torch.tensor(neighbors[None]).float(), torch.tensor(share[None]), KERNEL)
    push = room._push(at, torch.from_numpy(EMBEDDING[3:]), KERNEL)
    expected = numerical_gradient(point, neighbors, share, repellers)
    # What a step subtracts: the gradient of the attraction, and the repulsion's with its sign.
    np.testing.assert_allclose((pull - push)[0].numpy(), expected, rtol=1e-4)


def test_coincident_points_give_finite_forces() -> None:
    at = torch.zeros(1, 2)
    assert room._pull(at, torch.zeros(1, 2, 2), torch.ones(1, 2) / 2, KERNEL).isfinite().all()
    assert room._push(at, torch.zeros(3, 2), KERNEL).isfinite().all()


def test_a_step_is_bounded() -> None:
    far = torch.full((1, 1, 2), 1e-2)
    strong = Kernel(1.0, 1.0, repulsion=1e6)
    one = room._settle(far, torch.ones(1, 1), torch.zeros(1, 2), strong, n_epochs=1)
    assert (one - far[:, 0]).abs().max() <= room.LARGEST_STEP


# ------------------------------------------------------------------ positions


def test_a_row_at_distance_zero_gets_the_position_of_that_training_row() -> None:
    indices, distances = new_rows(6)
    distances[2:4, 0] = 0.0
    placed = place_rows(indices, distances, EMBEDDING, KERNEL)
    np.testing.assert_array_equal(placed[2:4], EMBEDDING[indices[2:4, 0]])
    others = [0, 1, 4, 5]
    assert (placed[others] != EMBEDDING[indices[others, 0]]).any(axis=1).all()


def test_without_steps_a_row_is_the_mean_of_its_neighbors_by_membership() -> None:
    indices = np.array([[0, 1, 2, 3]])
    distances = np.array([[1.0, 1.0, 2.0, 2.0]], dtype=np.float32)
    placed = place_rows(indices, distances, SQUARE, KERNEL, n_epochs=0)[0]
    # Memberships are e = exp(-1 / sigma) and e^2. As in umap-learn those after the first one sum
    # to log2(4): e + 2 e^2 = 2.
    near = (np.sqrt(17) - 1) / 4
    weights = np.array([near, near, near**2, near**2])
    np.testing.assert_allclose(placed, weights @ SQUARE / weights.sum(), rtol=1e-4)


def test_the_steps_lower_the_cross_entropy() -> None:
    indices, distances = new_rows(5)
    start = place_rows(indices, distances, EMBEDDING, KERNEL, n_epochs=0)
    end = place_rows(indices, distances, EMBEDDING, KERNEL)
    share = np.full(5, 0.2)
    for row in range(5):
        rest = EMBEDDING[indices[row]].astype(float), share, EMBEDDING.astype(float)
        assert cross_entropy(end[row], *rest) < cross_entropy(start[row], *rest)


def test_rows_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    indices, distances = new_rows(9)
    together = place_rows(indices, distances, EMBEDDING, KERNEL)
    alone = [
        place_rows(indices[i : i + 1], distances[i : i + 1], EMBEDDING, KERNEL)[0] for i in range(9)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    monkeypatch.setattr(room, "TILE_ROWS", 4)
    np.testing.assert_allclose(
        place_rows(indices, distances, EMBEDDING, KERNEL), together, atol=1e-5
    )


@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_a_row_alone_is_pushed_as_among_others_to_the_bit(n_components: int) -> None:
    """A product of matrices rounds a single row in another way, and steps magnify rounding."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(300, n_components, generator=generator)
    repellers = 3.0 * torch.randn(512, n_components, generator=generator)
    together = room._push(positions, repellers, KERNEL)
    for n_rows in (1, 2, 7):
        parts = [room._push(part, repellers, KERNEL) for part in positions.split(n_rows)]
        assert torch.equal(torch.cat(parts), together)


def test_the_seed_chooses_which_rows_repel() -> None:
    many = GENERATOR.normal(size=(room.N_REPELLERS + 200, 2)).astype(np.float32)
    indices, distances = new_rows(3)
    first, again, other = (
        place_rows(indices, distances, many, KERNEL, n_epochs=5, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_training_rows_without_a_position_do_not_pull() -> None:
    indices, distances = np.array([[0, 1]]), np.array([[1.0, 1.5]], dtype=np.float32)
    holes = SQUARE + np.float32(5.0)
    holes[1] = np.nan
    placed = place_rows(indices, distances, holes, KERNEL, n_epochs=0)
    np.testing.assert_allclose(placed[0], holes[0], rtol=1e-6)


def test_training_rows_without_a_position_do_not_push() -> None:
    indices, distances = np.array([[0, 1]]), np.array([[1.0, 1.5]], dtype=np.float32)
    more = np.concatenate([SQUARE, np.full((3, 2), np.nan, np.float32)])
    expected = place_rows(indices, distances, SQUARE, KERNEL)
    np.testing.assert_allclose(place_rows(indices, distances, more, KERNEL), expected, atol=1e-5)


def test_a_row_whose_neighbors_have_no_position_still_gets_one() -> None:
    indices, distances = np.array([[0, 1]]), np.array([[1.0, 2.0]], dtype=np.float32)
    holes = EMBEDDING.copy()
    holes[:2] = np.nan
    assert np.isfinite(place_rows(indices, distances, holes, KERNEL)).all()


# ------------------------------------------------------------------ and back


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
def test_positions_become_means_of_the_rows_around_them(container: Any) -> None:
    rows = GENERATOR.normal(size=(4, 3)).astype(np.float32)
    at = np.array([[0.0, 0.5]], dtype=np.float32)
    found = average_neighbors(at, SQUARE, container(rows), KERNEL, n_neighbors=2)
    # The two nearest are rows 0 and 2, at 0.5 and 1.5.
    q = 1 / (1 + 1.2 * np.array([0.5, 1.5]) ** 1.8)
    np.testing.assert_allclose(found, [(q[0] * rows[0] + q[1] * rows[2]) / q.sum()], rtol=1e-5)


def test_means_leave_out_rows_without_a_position() -> None:
    rows = np.eye(4, dtype=np.float32)
    holes = SQUARE.copy()
    holes[0] = np.nan
    found = average_neighbors(np.zeros((1, 2), np.float32), holes, rows, KERNEL, n_neighbors=10)
    assert found[0, 0] == 0.0
    assert found.sum() == pytest.approx(1.0)


def test_a_row_between_neighbours_where_a_sphere_closes_on_itself() -> None:
    """The mean of the longitudes 3.1 and -3.1 is 0, on the other side of the sphere."""
    sphere = OUTPUT_METRICS["haversine"]
    training = np.array([[1.5, 3.1], [1.6, -3.1], [1.4, -3.12], [1.5, 0.0]], dtype=np.float32)
    indices = np.array([[0, 1, 2]])
    distances = np.array([[1.0, 1.05, 1.1]], dtype=np.float32)
    placed = place_rows(indices, distances, training, Kernel(1.6, 0.9, 0.1), metric=sphere)
    assert (sphere.between(placed, training[:3]) < 0.3).all()
    assert sphere.between(placed, training[3:])[0] > 2.5


def test_the_nearest_rows_of_a_position_are_those_of_the_metric() -> None:
    sphere = OUTPUT_METRICS["haversine"]
    training = np.array([[1.5, 3.1], [1.5, -3.1], [1.5, 2.7]], dtype=np.float32)
    rows = np.array([[1.0], [2.0], [30.0]], dtype=np.float32)
    at = np.array([[1.5, 3.12]], dtype=np.float32)
    kernel = Kernel(1.6, 0.9)
    found = average_neighbors(at, training, rows, kernel, 2, sphere)
    assert 1.0 <= found[0, 0] <= 2.0  # of the first two
    assert average_neighbors(at, training, rows, kernel, 2)[0, 0] > 2.0  # of the first and third
