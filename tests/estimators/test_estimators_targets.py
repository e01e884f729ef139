"""Targets: one per row, and the classes among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neumap._labels import Column, read_column
from neumap.estimators.targets import check_targets, encode_classes


@pytest.mark.parametrize("y", [[3, 1, 2], (3, 1, 2), np.array([3, 1, 2])])
def test_targets_become_a_column(y: Any) -> None:
    column = check_targets(y, 3)
    assert isinstance(column, Column)
    np.testing.assert_array_equal(column.values, [3, 1, 2])
    assert not column.missing.any()


def test_targets_of_several_columns_keep_them() -> None:
    assert check_targets(np.zeros((3, 2)), 3).shape == (3, 2)


def test_a_single_column_becomes_flat_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="column-vector"):
        assert check_targets(np.zeros((3, 1)), 3).shape == (3,)


@pytest.mark.parametrize("y", [[1, 2], [1, 2, 3, 4], 5, np.zeros((2, 3))])
def test_targets_of_another_length_are_refused(y: Any) -> None:
    with pytest.raises(ValueError, match="y must have one entry per row of X"):
        check_targets(y, 3)


def test_labels_are_numbered_in_their_order() -> None:
    classes = encode_classes(read_column([30, 10, 20, 10]))
    assert classes.labels.tolist() == [10, 20, 30]
    assert classes.codes.tolist() == [2, 0, 1, 0]


def test_codes_give_back_the_labels() -> None:
    y = np.array(["oak", "ash", "oak", "elm"])
    classes = encode_classes(read_column(y))
    np.testing.assert_array_equal(classes.labels[classes.codes], y)


def test_minus_one_is_no_class() -> None:
    classes = encode_classes(read_column([5, -1, 7, -1]))
    assert classes.labels.tolist() == [5, 7]
    assert classes.codes.tolist() == [0, -1, 1, -1]


def test_a_missing_value_is_no_class() -> None:
    classes = encode_classes(read_column([5.0, np.nan, -1.0, 15.0]))
    assert classes.labels.tolist() == [5.0, 15.0]
    assert classes.codes.tolist() == [0, -1, -1, 1]


def test_fractions_are_labels_of_the_graph_and_no_classes() -> None:
    column = read_column([0.5, np.nan, -1.0, 1.5])
    assert column.classes().labels.tolist() == [0.5, 1.5]
    assert column.classes().codes.tolist() == [0, -1, -1, 1]
    with pytest.raises(ValueError, match=r"y must hold classes .* got 2 different fractional"):
        encode_classes(column)


def test_a_classifier_needs_one_label_per_row() -> None:
    with pytest.raises(ValueError, match="one label per row"):
        encode_classes(read_column(np.zeros((3, 2), dtype=int)))


def test_a_classifier_needs_a_label() -> None:
    with pytest.raises(ValueError, match="-1"):
        encode_classes(read_column([-1, -1]))
