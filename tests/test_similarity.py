"""The curve q(d) against its formula, published constants and umap-learn."""

from __future__ import annotations

import numpy as np
import pytest

from neumap.similarity import find_ab, similarity

# Constants of umap-learn for spread 1 (the last: spread 5), printed to four decimals.
PUBLISHED = [
    (1.0, 0.0, 1.9328, 0.7905),
    (1.0, 0.05, 1.7502, 0.8421),
    (1.0, 0.1, 1.5769, 0.8951),
    (1.0, 0.25, 1.1214, 1.0575),
    (1.0, 0.5, 0.5830, 1.3342),
    (1.0, 0.8, 0.2321, 1.6812),
    (1.0, 0.99, 0.1193, 1.9164),
    (5.0, 0.1, 0.1367, 0.8109),
]


@pytest.mark.parametrize(("spread", "min_dist", "a", "b"), PUBLISHED)
def test_find_ab_gives_the_published_constants(
    spread: float, min_dist: float, a: float, b: float
) -> None:
    assert find_ab(spread, min_dist) == pytest.approx((a, b), abs=6e-5)


@pytest.mark.reference
@pytest.mark.parametrize(("spread", "min_dist"), [(1.0, 0.1), (1.0, 0.0), (2.5, 0.7), (0.5, 0.5)])
def test_find_ab_equals_umap_learn(spread: float, min_dist: float) -> None:
    umap_ = pytest.importorskip("umap.umap_")
    assert find_ab(spread, min_dist) == pytest.approx(
        umap_.find_ab_params(spread, min_dist), rel=1e-6
    )


@pytest.mark.parametrize(("spread", "min_dist"), [(1.0, 0.1), (2.0, 0.5)])
def test_no_curve_nearby_fits_better(spread: float, min_dist: float) -> None:
    d = np.linspace(0.0, 3.0 * spread, 300)
    target = [1.0 if x < min_dist else np.exp((min_dist - x) / spread) for x in d]

    def squared_error(a: float, b: float) -> float:
        return float(
            sum((1 / (1 + a * x ** (2 * b)) - t) ** 2 for x, t in zip(d, target, strict=True))
        )

    a, b = find_ab(spread, min_dist)
    best = squared_error(a, b)
    for da, db in [(0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01), (0.01, 0.01), (-0.01, -0.01)]:
        assert squared_error(a + da, b + db) > best


def test_larger_min_dist_keeps_close_points_similar() -> None:
    at_half = [similarity(0.5, *find_ab(1.0, min_dist)).item() for min_dist in (0.0, 0.1, 0.5, 0.9)]
    assert at_half == sorted(at_half)
    assert at_half[0] < at_half[-1]


def test_similarity_by_hand() -> None:
    found = similarity([[0.0, 1.0], [2.0, 4.0]], a=2.0, b=0.5)  # 1 / (1 + 2 d)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[1.0, 1 / 3], [1 / 5, 1 / 9]], rtol=1e-15)


@pytest.mark.parametrize(
    ("spread", "min_dist"),
    [(1.0, -0.1), (1.0, 1.1), (0.0, 0.0), (-1.0, -2.0), (1.0, float("nan")), (float("inf"), 0.1)],
)
def test_find_ab_refuses_a_curve_that_does_not_exist(spread: float, min_dist: float) -> None:
    with pytest.raises(
        ValueError, match=r"between 0 and a positive, finite spread, got min_dist=.*spread="
    ):
        find_ab(spread, min_dist)
