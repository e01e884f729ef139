"""Neighbours of rows that did not ask, in the lists of those that did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from neumap.neighbors import NeighborSearch, find_neighbors
from neumap.neighbors import lists as room
from neumap.neighbors.lists import nearest_in_lists
from neumap.neighbors.mapped import MappedRows
from neumap.neighbors.rows import float_rows

ROWS = np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32)
ANCHORS = np.arange(0, 400, 7)


def lists_of(rows: np.ndarray, k: int = 10) -> np.ndarray:
    return NeighborSearch(backend="exact").find(rows, k, anchors=ANCHORS).indices


def one_by_one(rows: np.ndarray, lists: np.ndarray, n_near: int) -> tuple[Any, Any]:
    """Candidates of each row in a set, their distances in float64."""
    candidates: dict[int, set[int]] = {}
    for members in lists.tolist():
        for member in members:
            candidates.setdefault(member, set()).update(set(members) - {member})
    for first in lists[:, 0].tolist():
        del candidates[first]
    distances = cdist(rows.astype(np.float64), rows.astype(np.float64))
    return candidates, {
        row: sorted(distances[row, list(others)])[:n_near] for row, others in candidates.items()
    }


@pytest.mark.parametrize("n_near", [1, 5])
def test_the_nearest_are_those_of_all_shared_lists(n_near: int) -> None:
    lists = lists_of(ROWS)
    numbers, (indices, distances) = nearest_in_lists(ROWS, lists, n_near)
    candidates, expected = one_by_one(ROWS, lists, n_near)
    assert numbers.tolist() == sorted(candidates)
    assert indices.dtype == np.int64
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(indices[:, 0], numbers)
    np.testing.assert_array_equal(distances[:, 0], 0)
    for row, near, lengths in zip(numbers, indices[:, 1:], distances[:, 1:], strict=True):
        assert len(set(near)) == n_near
        assert set(near) <= candidates[row]
        np.testing.assert_allclose(lengths, expected[row], rtol=1e-5)


def test_lists_of_few_rows_have_fewer_neighbours() -> None:
    numbers, (indices, distances) = nearest_in_lists(ROWS, lists_of(ROWS, 3), 5)
    assert indices.shape == distances.shape == (len(numbers), 3)


def test_threads_blocks_and_files_do_not_change_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = lists_of(ROWS)
    monkeypatch.setattr(room, "BLOCK_NUMBERS", 10 * 12 * 5)
    expected = nearest_in_lists(ROWS, lists, 4, n_jobs=1)
    monkeypatch.setattr(room, "PART_ROWS", 50)
    np.save(tmp_path / "rows.npy", ROWS)
    mapped = MappedRows(np.load(tmp_path / "rows.npy", mmap_mode="r"), float_rows)
    for n_jobs, rows in ((2, ROWS), (3, ROWS), (2, mapped)):
        numbers, found = nearest_in_lists(rows, lists, 4, n_jobs=n_jobs)
        np.testing.assert_array_equal(numbers, expected[0])
        np.testing.assert_array_equal(found[0], expected[1][0])
        np.testing.assert_array_equal(found[1], expected[1][1])


def test_rows_far_from_the_origin_keep_their_order() -> None:
    """By products of the rows as they are, float32 would know no digit of these distances."""
    rng = np.random.default_rng(1)
    centres = rng.normal(scale=3000.0, size=(10, 12))
    rows = (centres.repeat(40, axis=0) + rng.normal(size=(400, 12))).astype(np.float32)
    lists = lists_of(rows)
    numbers, (_, distances) = nearest_in_lists(rows, lists, 5)
    expected = one_by_one(rows, lists, 5)[1]
    for row, lengths in zip(numbers, distances[:, 1:], strict=True):
        np.testing.assert_allclose(lengths, expected[row], rtol=1e-4)


def test_equal_rows_are_neighbours_at_distance_zero() -> None:
    rows = np.repeat(ROWS[:100], 4, axis=0)
    _, (indices, distances) = nearest_in_lists(rows, lists_of(rows, 12), 3)
    assert (indices // 4 == indices[:, :1] // 4).all()
    np.testing.assert_array_equal(distances, 0)


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("euclidean", 1.0),
        ("euclidean", 1e25),  # whose squares are beyond float32
        ("sqeuclidean", 1.0),
        ("cosine", 1.0),
    ],
)
def test_distances_are_those_of_the_metric(metric: str, unit: float) -> None:
    rows = ROWS * np.float32(unit)
    search = NeighborSearch(metric=metric, backend="exact")
    found = search.find(rows, 12, anchors=ANCHORS)
    joined = search.join(rows, found, 6)
    assert joined.indices.shape == (len(joined.asking()), 6)
    assert joined.n_vertices == 400
    assert joined.recall is None
    true = cdist(rows.astype(np.float64), rows.astype(np.float64), metric)
    expected = np.take_along_axis(true[joined.asking()], joined.indices, axis=1)
    np.testing.assert_allclose(joined.distances, expected, rtol=1e-4, atol=1e-6 * unit)


def test_longer_lists_find_more_of_the_neighbours() -> None:
    rows = np.random.default_rng(2).normal(size=(3000, 5)).astype(np.float32)
    true = find_neighbors(rows, 6).indices
    search, recalls = NeighborSearch(), []
    for k in (10, 20):
        joined = search.join(rows, search.find(rows, k, anchors=np.arange(0, 3000, 6)), 6)
        pairs = zip(joined.indices[:, 1:], true[joined.asking(), 1:], strict=True)
        recalls.append(np.mean([np.isin(near, all_of).mean() for near, all_of in pairs]))
    assert recalls[1] > recalls[0] + 0.1
    assert recalls[1] > 0.8
