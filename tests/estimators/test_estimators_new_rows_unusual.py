"""Which of the new rows are looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from neumap._card import MOST_CHECKED
from neumap.estimators.new_rows.unusual import FEWEST, _sample

X = np.arange(1000 * 6, dtype=np.float32).reshape(1000, 6)


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, sparse.csr_matrix])
def test_rows_are_spread_over_all(form: Any) -> None:
    sample = _sample(form(X), 6)
    assert sample is not None
    assert len(sample) <= MOST_CHECKED
    np.testing.assert_array_equal(sample, X[:: int(np.ceil(1000 / MOST_CHECKED))])


def test_wide_rows_are_fewer_and_images_flat() -> None:
    assert len(_sample(np.zeros((100, 300_000), np.uint8), 300_000)) <= FEWEST  # type: ignore[arg-type]
    assert _sample(X.reshape(1000, 2, 3), 6).shape[1] == 6  # type: ignore[union-attr]


def test_rows_elsewhere_are_not_read() -> None:
    assert _sample(object(), 6) is None
