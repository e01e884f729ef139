"""The task of a fit: its rows, targets, seeds and positions to keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tasks import task_of

from neumap.estimators.landmarks import WarmStart
from neumap.estimators.task import Task

# Rows 0 and 2 are equal, and rows 1, 3 and 4.
REPEATED = np.array([[5, 0], [3, 1], [5, 0], [3, 1], [3, 1], [9, 9]], dtype=np.float32)
Y = np.arange(6)


def task(y: Any = None, **changed: Any) -> Task:
    return task_of(REPEATED, y, **{"random_state": 7, **changed})


def test_all_rows_are_trained_on() -> None:
    made = task(Y)
    assert made.rows.n_rows == 6
    assert made.distinct is None
    assert made.targets is not None
    np.testing.assert_array_equal(made.targets.values, Y)


def test_unique_keeps_the_first_of_equal_rows_with_its_target() -> None:
    made = task(Y, unique=True)
    np.testing.assert_array_equal(made.X, [[5, 0], [3, 1], [9, 9]])
    np.testing.assert_array_equal(made.rows.to_matrix(), made.X)
    assert made.targets is not None
    np.testing.assert_array_equal(made.targets.values, [0, 1, 5])


def test_values_of_distinct_rows_are_expanded_to_all_rows() -> None:
    made = task(unique=True)
    assert made.expand(np.array([10, 20, 30])).tolist() == [10, 20, 10, 20, 20, 30]
    np.testing.assert_array_equal(made.expand(made.X), REPEATED)


def test_without_unique_values_stay_as_they_are() -> None:
    values = np.arange(6)
    assert task().expand(values) is values


def test_positions_to_keep_are_those_of_the_rows_to_train_on() -> None:
    positions = np.arange(12, dtype=np.float32).reshape(6, 2)
    start = WarmStart(positions)
    np.testing.assert_array_equal(task(warm_start=start).warm_positions(), positions)
    distinct = task(warm_start=start, unique=True).warm_positions()
    np.testing.assert_array_equal(distinct, positions[[0, 1, 5]])


def test_without_a_warm_start_there_are_no_positions_to_keep() -> None:
    assert task().warm_positions() is None


def test_rows_have_the_shape_for_the_network() -> None:
    assert task().rows.row_shape == (2,)
    assert task(dims=(2, 1)).rows.row_shape == (2, 1)
    with pytest.raises(ValueError, match="dims must fit the rows of X"):
        task(dims=(3,))


def test_the_search_has_the_seed_of_the_fit() -> None:
    made = task()
    assert (made.seed, made.search_seed) == (7, 7)


def test_without_a_random_state_the_search_has_no_seed() -> None:
    one, other = task(random_state=None), task(random_state=None)
    assert one.search_seed is None
    assert one.seed != other.seed


def test_a_generator_gives_another_seed_each_time() -> None:
    generator = np.random.default_rng(0)
    one, other = task(random_state=generator), task(random_state=generator)
    assert one.seed != other.seed
    assert one.search_seed == one.seed


def test_the_device_is_resolved() -> None:
    assert task().device == torch.device("cpu")
    with pytest.raises(ValueError, match="device"):
        task(device="abacus")


@pytest.mark.parametrize("n_labels", [0, 5, 7])
def test_targets_of_another_length_are_refused(n_labels: int) -> None:
    with pytest.raises(ValueError, match="one entry per row of X"):
        task(np.zeros(n_labels))
