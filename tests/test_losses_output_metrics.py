"""Metrics of maps that are not flat, against their definitions in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import cdist

from neumap.losses import (
    OUTPUT_METRICS,
    Kernel,
    OutputMetric,
    metric_umap_loss,
    resolve_output_metric,
    umap_loss,
)

N_POINTS = 40
SIZES = {"haversine": 2, "gaussian_energy": 5, "diagonal_gaussian_energy": 4}
SIZES |= {"spherical_gaussian_energy": 3}


def points(name: str, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(N_POINTS, SIZES.get(name, 3), generator=generator, dtype=torch.float64)
    return 2.0 * drawn


def on_the_sphere(p: Any) -> Any:
    t, f = p.T
    return np.stack([np.sin(t) * np.cos(f), np.sin(t) * np.sin(f), np.cos(t)], axis=1)


def arc(x: Any, y: Any) -> Any:
    return np.arccos(np.clip((on_the_sphere(x) * on_the_sphere(y)).sum(1), -1, 1))


def minkowski_form(x: Any, y: Any) -> Any:
    up_x, up_y = (np.sqrt(1 + (p**2).sum(1)) for p in (x, y))
    return np.arccosh(up_x * up_y - (x * y).sum(1))


def covariance(p: Any) -> Any:
    if len(p) == 3:
        return np.abs(p[2]) * np.eye(2)
    plain = np.diag(np.abs(p[2:4]))
    if len(p) == 4:
        return plain
    turn = np.array([[np.cos(p[4]), -np.sin(p[4])], [np.sin(p[4]), np.cos(p[4])]])
    return turn @ plain @ turn.T


def overlap(x: Any, y: Any) -> Any:
    """Minus the log of the integral of the product: a normal density at the difference."""
    densities = [
        scipy.stats.multivariate_normal(np.zeros(2), covariance(p) + covariance(q)).logpdf(
            p[:2] - q[:2]
        )
        for p, q in zip(x, y, strict=True)
    ]
    return np.maximum(-np.array(densities), 0.0)


def of_scipy(name: str, **kwds: Any) -> Any:
    return lambda x, y: np.diagonal(cdist(x, y, name, **kwds))


DEFINITIONS = {
    "haversine": arc,
    "hyperboloid": minkowski_form,
    "gaussian_energy": overlap,
    "diagonal_gaussian_energy": overlap,
    "spherical_gaussian_energy": overlap,
    "manhattan": of_scipy("cityblock"),
    "chebyshev": of_scipy("chebyshev"),
    "minkowski": of_scipy("euclidean"),
    "cosine": of_scipy("cosine"),
}


def test_every_metric_has_a_definition() -> None:
    assert DEFINITIONS.keys() == OUTPUT_METRICS.keys()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_distances_are_those_of_the_definition(name: str) -> None:
    x, y = points(name), points(name, seed=1)
    found = OUTPUT_METRICS[name](x, y).numpy()
    np.testing.assert_allclose(found, DEFINITIONS[name](x.numpy(), y.numpy()), atol=1e-6)
    there = OUTPUT_METRICS[name].between(x.float().numpy()[:, None], y.float().numpy()[None])
    assert there.shape == (N_POINTS, N_POINTS)
    np.testing.assert_allclose(np.diagonal(there), found, atol=1e-4, rtol=1e-4)


def test_the_order_of_minkowski() -> None:
    x, y = points("minkowski"), points("minkowski", seed=1)
    found = resolve_output_metric("minkowski", {"p": 3})
    assert found is not None
    expected = of_scipy("minkowski", p=3)(x.numpy(), y.numpy())
    np.testing.assert_allclose(found(x, y).numpy(), expected, rtol=1e-9)


def test_distances_of_far_points_in_hyperbolic_space_keep_their_digits() -> None:
    """In float32 the textbook form has no digit left 10 from the origin."""
    radius = math.sinh(10.0)
    x = torch.tensor([[radius, 0.0]], dtype=torch.float64)
    y = torch.tensor([[radius, 5.0]], dtype=torch.float64)
    exact = minkowski_form(x.numpy(), y.numpy())
    found = OUTPUT_METRICS["hyperboloid"](x.float(), y.float()).numpy()
    np.testing.assert_allclose(found, exact, rtol=1e-3)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_gradients_are_finite_differences(name: str) -> None:
    x, y = (points(name, seed)[:12].requires_grad_(True) for seed in (0, 1))
    assert torch.autograd.gradcheck(OUTPUT_METRICS[name], (x, y), atol=1e-5)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_points_that_coincide_or_are_opposite_have_finite_gradients(name: str) -> None:
    x = torch.zeros(3, SIZES.get(name, 2))
    x[1, 0] = math.pi
    x[2, 0] = 2.0
    x.requires_grad_(True)
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        total = OUTPUT_METRICS[name](x, x[order]).sum()
        (slope,) = torch.autograd.grad(total, x)
        assert total.isfinite()
        assert slope.isfinite().all()


def flat(x: Any, y: Any) -> Any:
    return (x - y).square().sum(-1).clamp_min(1e-30).sqrt()


@pytest.mark.parametrize(("eps", "repulsion"), [(1.0, 5.0), (0.01, 2.0), (0.0, 0.0)])
def test_the_loss_of_a_flat_map_is_the_closed_form(eps: float, repulsion: float) -> None:
    kernel = Kernel(1.6, 0.9, repulsion)
    places = torch.randn(24, 3, dtype=torch.float64, requires_grad=True)
    general = metric_umap_loss(
        places[:, :2],
        kernel,
        OutputMetric("flat", flat),
        eps=eps,
        n_negatives=5,
        auxiliary=places[:, 2:],
    )
    closed = umap_loss(places, kernel, eps=eps, n_negatives=5)
    torch.testing.assert_close(general, closed)
    slopes = [torch.autograd.grad(loss, places)[0] for loss in (general, closed)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("name", ["euclidean", "l2"])
def test_euclidean_distance_needs_no_metric(name: str) -> None:
    assert resolve_output_metric(name, {}) is None


@pytest.mark.parametrize(("name", "own"), [("l1", "manhattan"), ("linf", "chebyshev")])
def test_other_names(name: str, own: str) -> None:
    found = resolve_output_metric(name, None)
    assert found is not None
    assert found.name == own


@pytest.mark.parametrize(
    ("metric", "kwds", "message"),
    [
        ("nothing", None, r"output_metric must be one of \['euclidean'.*got 'nothing'"),
        ("precomputed", None, "output_metric must be one of"),
        ("haversine", {"p": 1}, r"output_metric_kwds must fit .*no arguments, got \['p'\]"),
        ("euclidean", {"p": 1}, r"output_metric_kwds must fit .*no arguments, got \['p'\]"),
        ("minkowski", {"q": 1}, r"has the argument 'p', got \['q'\]"),
        ("minkowski", {"p": 0.5}, "output_metric_kwds must hold a finite p of at least 1"),
        (flat, {"r": 2}, r"output_metric_kwds must be arguments of flat .*got \['r'\]"),
    ],
)
def test_what_no_metric_is(metric: Any, kwds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_output_metric(metric, kwds)


def test_a_function_of_two_rows_compiled_by_numba() -> None:
    numba = pytest.importorskip("numba")

    @numba.njit
    def stretched(x: Any, y: Any, factors: Any = (1.0, 1.0)) -> Any:
        total = 0.0
        slope = np.zeros_like(x)
        for i in range(x.shape[0]):
            slope[i] = factors[i] * (x[i] - y[i])
            total += slope[i] * (x[i] - y[i])
        distance = np.sqrt(total)
        return distance, slope / distance

    found = resolve_output_metric(stretched, {"factors": (4.0, 9.0)})
    assert found is not None
    assert found.name == "stretched"
    x, y = (points("haversine", seed).requires_grad_(True) for seed in (0, 1))
    distances = found(x, y)
    weighted = torch.tensor([2.0, 3.0], dtype=torch.float64)
    expected = flat(weighted * x, weighted * y)
    torch.testing.assert_close(distances, expected)
    ours = torch.autograd.grad(distances.sum(), (x, y))
    torch.testing.assert_close(ours, torch.autograd.grad(expected.sum(), (x, y)))


def test_sphere_and_ellipses_are_written_without_ambiguity() -> None:
    sphere = OUTPUT_METRICS["haversine"]
    raw = 5.0 * points("haversine").float().numpy()
    written = sphere.written(raw)
    assert ((written[:, 0] >= 0) & (written[:, 0] <= np.pi)).all()
    assert (np.abs(written[:, 1]) <= np.pi + 1e-6).all()
    np.testing.assert_allclose(on_the_sphere(written), on_the_sphere(raw), atol=1e-5)
    ellipses = OUTPUT_METRICS["gaussian_energy"]
    raw = points("gaussian_energy").float().numpy()
    written = ellipses.written(raw)
    assert (written[:, 2:4] >= 0).all()
    np.testing.assert_array_equal(written[:, [0, 1, 4]], raw[:, [0, 1, 4]])
    np.testing.assert_array_equal(
        ellipses.between(written[:, None], written[None]), ellipses.between(raw[:, None], raw[None])
    )


def test_a_start_lies_around_the_origin_of_the_metric() -> None:
    layout = np.random.default_rng(0).uniform(0, 20, (50, 2)).astype(np.float32)
    sphere = OUTPUT_METRICS["haversine"].start(layout, 2)
    centre = on_the_sphere(np.array([[np.pi / 2, 0.0]]))
    assert (on_the_sphere(sphere) @ centre.T > 0.0).all()  # on one hemisphere
    ellipses = OUTPUT_METRICS["gaussian_energy"].start(layout, 5)
    np.testing.assert_array_equal(ellipses[:, :2], layout)
    np.testing.assert_array_equal(ellipses[:, 2:], np.tile([1.0, 1.0, 0.0], (50, 1)))


FUNCTIONS: dict[str, tuple[Any, str]] = {
    "of numpy": (
        lambda x, y: np.abs(x - y).sum(-1),
        r"of two tensors, got RuntimeError .* shape \(3, 2, 2\): .*numpy",
    ),
    "of two rows": (
        lambda x, y: (x - y).abs().sum(),
        r"in shape \(3, 2\) for tensors of shape \(3, 2, 2\), got shape \(\)",
    ),
    "of all coordinates": (lambda x, y: (x - y).abs(), r"got shape \(3, 2, 2\)"),
    "a number": (lambda x, y: 1.0, r"got <class 'float'>"),
    "without a gradient": (
        lambda x, y: (x - y).abs().sum(-1).detach(),
        r"with a gradient, got none from <lambda>\. Leave out detach",
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_cannot_be_trained_say_so_before_a_fit(name: str) -> None:
    function, message = FUNCTIONS[name]
    found = resolve_output_metric(function, None)
    assert found is not None
    with pytest.raises(ValueError, match=message):
        found.check(2)


def test_functions_of_tensors_pass() -> None:
    for function in (
        lambda x, y: (x - y).abs().sum(-1),
        lambda x, y: torch.dist(x, y) + 0 * x[..., 0],
    ):
        found = resolve_output_metric(function, None)
        assert found is not None
        found.check(2)
        with torch.no_grad():
            found.check(3)
        with torch.inference_mode():
            found.check(3)
