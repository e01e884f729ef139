"""Landmarks and warm starts: which rows stay where, and how far they moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from torch import nn

from neumap.data import check_input
from neumap.estimators.landmarks import (
    Landmarks,
    WarmStart,
    check_landmark_positions,
    choose_landmarks,
    drift,
)

NAN = np.nan
OLD = np.array([[1.0, 2.0], [3.0, 4.0], [NAN, NAN]], dtype=np.float32)
ADDED = np.array([[5.0, 6.0]], dtype=np.float32)


# ------------------------------------------------------------------ warm starts


def test_after_a_fit_old_rows_stay_and_added_rows_are_free() -> None:
    start = WarmStart.after(OLD, ADDED, None, {"loss": [1.0]})
    np.testing.assert_array_equal(start.positions, [*OLD, [NAN, NAN]])
    assert start.history == {"loss": [1.0]}
    assert start.only_landmarks is False


def test_after_a_fit_every_row_starts_where_it_was_placed() -> None:
    start = WarmStart.after(OLD, ADDED, None, None)
    # A row that had no position starts at the origin.
    np.testing.assert_array_equal(start.initial, [[1, 2], [3, 4], [0, 0], [5, 6]])


def test_a_start_continues_if_it_has_an_encoder_or_initial_positions() -> None:
    assert not WarmStart(OLD).continues
    assert WarmStart(OLD, encoder=nn.Linear(2, 2)).continues
    assert WarmStart(OLD, initial=OLD).continues


# ------------------------------------------------------------------ landmarks of the next fit


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_matrix])
def test_landmarks_are_appended_with_their_positions(container: Any) -> None:
    data = check_input(container(np.eye(3, dtype=np.float32)))
    landmarks = Landmarks(container(np.full((2, 3), 7, np.float32)), ADDED.repeat(2, 0), 0.1)
    joined, positions = landmarks.append_to(data)
    dense = joined.X.toarray() if scipy.sparse.issparse(joined.X) else joined.X
    np.testing.assert_array_equal(dense, [*np.eye(3), [7, 7, 7], [7, 7, 7]])
    np.testing.assert_array_equal(positions, [[NAN, NAN]] * 3 + [[5, 6]] * 2)
    assert (joined.n_features, joined.row_shape) == (3, (3,))


def test_the_labels_of_landmarks_are_unknown() -> None:
    landmarks = Landmarks(np.eye(2), OLD[:2], 0.1)
    extended = landmarks.extend_targets([4, 5, 6], 3)
    assert extended.known().tolist() == [4, 5, 6]
    assert extended.unlabelled().tolist() == [False] * 3 + [True] * 2


def test_values_of_several_columns_are_extended_in_each() -> None:
    landmarks = Landmarks(np.eye(2), OLD[:2], 0.1)
    extended = landmarks.extend_targets(np.ones((3, 2)), 3)
    np.testing.assert_array_equal(extended.values[:3], [[1, 1]] * 3)
    np.testing.assert_array_equal(extended.unlabelled(), [[False] * 2] * 3 + [[True] * 2] * 2)


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one entry per row of X: expected 3, got shape \(2,\)"):
        Landmarks(np.eye(2), OLD[:2], 0.1).extend_targets([0, 1], 3)


# ------------------------------------------------------------------ choosing


@pytest.mark.parametrize(
    ("n_rows", "share", "count"), [(200, 0.1, 20), (10, 0.01, 1), (7, 1.0, 7), (10, 0.26, 3)]
)
def test_a_share_of_the_rows_is_chosen_without_repeats(
    n_rows: int, share: float, count: int
) -> None:
    rows = choose_landmarks(n_rows, share, "uniform", None, seed=0)
    assert len({*rows.tolist()}) == len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert rows.min() >= 0
    assert rows.max() < n_rows


def test_the_choice_depends_on_the_seed() -> None:
    one, again, other = (choose_landmarks(500, 0.1, "uniform", None, seed) for seed in (0, 0, 1))
    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()


@pytest.mark.parametrize("mode", ["predetermined", "predefined"])
def test_given_rows_are_taken_in_their_order_and_from_the_end(mode: Any) -> None:
    assert choose_landmarks(5, 0.1, mode, [3, 0, -1], seed=0).tolist() == [3, 0, 4]
    assert choose_landmarks(5, 0.1, mode, 2, seed=0).tolist() == [2]


@pytest.mark.parametrize(
    ("share", "mode", "idx", "message"),
    [
        (0.0, "uniform", None, r"sample_pct must be in \(0, 1\], got 0.0"),
        (1.1, "uniform", None, r"sample_pct must be in \(0, 1\], got 1.1"),
        (NAN, "uniform", None, r"sample_pct must be in \(0, 1\], got nan"),
        (0.1, "predetermined", None, "needs idx, the rows to take"),
        (0.1, "predetermined", [], "at least one row number below 5"),
        (0.1, "predetermined", [5], r"row number below 5, got \[5\]"),
        (0.1, "predetermined", [-6], r"row number below 5, got \[-6\]"),
        (0.1, "random", None, "sample_mode must be 'uniform' or 'predetermined', got 'random'"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(
    share: float, mode: Any, idx: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose_landmarks(5, share, mode, idx, seed=0)


# ------------------------------------------------------------------ given positions


def test_given_positions_become_float32() -> None:
    checked = check_landmark_positions([[1, 2], [NAN, NAN]], 2, 2)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, [[1, 2], [NAN, NAN]])


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (2,), (2, 2, 1)])
def test_positions_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have shape \(2, 2\), one row per row of X"):
        check_landmark_positions(np.zeros(shape), 2, 2)


def test_positions_of_no_row_are_refused() -> None:
    with pytest.raises(ValueError, match="a position for at least one row, got NaN in all rows"):
        check_landmark_positions(np.full((2, 2), NAN), 2, 2)


# ------------------------------------------------------------------ drift

# Four corners of a square of side 2: their root mean square distance from the centre is sqrt(2).
SQUARE = np.array([[0, 0], [2, 0], [0, 2], [2, 2]], dtype=np.float32)


def test_drift_is_the_distance_of_given_rows_from_their_targets() -> None:
    targets = np.array([[0, 1], [NAN, NAN], [3, 6], [2, 2]], dtype=np.float32)
    found = drift(SQUARE, targets)  # distances 1, 5 and 0
    assert found["n_landmarks"] == 3
    assert found["mean"] == pytest.approx(2.0)
    assert found["max"] == pytest.approx(5.0)
    assert found["mean_share_of_extent"] == pytest.approx(2.0 / np.sqrt(2.0))


def test_drift_of_points_in_one_place_is_finite() -> None:
    found = drift(np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32))
    assert found["mean_share_of_extent"] == pytest.approx(np.sqrt(2.0))


def test_drift_leaves_out_rows_that_have_no_position() -> None:
    nowhere = [[NAN, NAN], [NAN, NAN]]
    positions = np.concatenate([SQUARE, nowhere]).astype(np.float32)
    targets = np.concatenate([SQUARE + [0, 1], [[NAN, NAN], [7, 7]]]).astype(np.float32)
    found = drift(positions, targets)
    assert found["n_landmarks"] == 4
    assert found["mean"] == pytest.approx(1.0)
    assert found["mean_share_of_extent"] == pytest.approx(1.0 / np.sqrt(2.0))
