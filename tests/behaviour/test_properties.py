"""Properties of fits with any combination of parameters."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neumap import UMAP, ParametricUMAP, load

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
NEW = X[:4] + np.float32(0.1)
Y = np.arange(24) % 3

# Of each parameter values that act, and values that are refused.
SHARED: dict[str, tuple[list[Any], list[Any]]] = {
    "n_neighbors": ([2, 5, 40], [1, "5"]),
    "n_components": ([1, 2, 3], [0]),
    "metric": (["euclidean", "cosine", "manhattan"], ["nothing"]),
    "min_dist": ([0.0, 0.5], [2.0, -1.0]),
    "set_op_mix_ratio": ([0.0, 0.5, 1.0], [1.5]),
    "local_connectivity": ([1.0, 2.5], [float("nan")]),
    "repulsion_strength": ([0.0, 2.0], [None]),
    "negative_sample_rate": ([1, 7.5], ["many"]),
    "n_jobs": ([1, -1], [0]),
    "unique": ([False, True], ["yes"]),
    "densmap": ([False, True], [1]),
    "output_dens": ([False, True], ["no"]),
    "transform_mode": (["embedding", "graph"], ["picture"]),
    "batch_size": ([None, 7], [0]),
    "learning_rate": ([0.1, 1.0], [-1.0]),
    "target_weight": ([0.0, 1.0], [3.0]),
}
OF_NETWORKS: dict[str, tuple[list[Any], list[Any]]] = {
    "preset": (["fast"], ["slow"]),
    "encoder": ([None, "residual"], ["conv2"]),
    "parametric_embedding": ([True, False], [0]),
    "parametric_reconstruction": ([False, True], [None]),
    "classifier_loss_weight": ([0.0, 1.0], [-2.0]),
    "reconstruction_rows": (["auto", None, 5], [0]),
    "guide": (["auto", None], ["teacher"]),
    "global_correlation_loss_weight": ([0.0, 0.1], ["much"]),
}


@st.composite
def combinations(draw: Any, table: dict[str, tuple[list[Any], list[Any]]]) -> dict[str, Any]:
    """Values that act, and in a third of the cases one that is refused."""
    right = {name: st.sampled_from(acting) for name, (acting, _) in table.items()}
    parameters: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=right))
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(sorted(table)))
        parameters[name] = draw(st.sampled_from(table[name][1]))
    return parameters


def check(kind: type[UMAP], parameters: dict[str, Any]) -> None:
    model = kind(**{"n_neighbors": 5, "n_epochs": 1, "random_state": 0, **parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters without an effect, and of rows cut off
        try:
            model.fit(X, Y)
        except (ValueError, TypeError) as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            assert any(name in refused for name in parameters), refused
            return
        with tempfile.TemporaryDirectory() as folder:
            again = load(model.save(Path(folder) / "m.neumap"))
        assert again.get_params() == model.get_params()
        if model.transform_mode == "graph":
            assert (again.graph_ != model.graph_).nnz == 0
            return
        positions = model._model().positions
        has_neighbor = np.asarray(model.graph_.sum(axis=1)).ravel() > 0
        assert np.isfinite(positions[has_neighbor]).all()
        np.testing.assert_array_equal(again.embedding_, model.embedding_)
        if has_neighbor.any():
            np.testing.assert_array_equal(again.transform(NEW), model.transform(NEW))


QUIET = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@QUIET
@given(combinations(SHARED))
def test_any_combination_acts_or_raises_by_name_and_is_saved(parameters: dict[str, Any]) -> None:
    check(UMAP, parameters)


@QUIET
@given(combinations({**SHARED, **OF_NETWORKS}))
def test_any_combination_of_a_network_does_too(parameters: dict[str, Any]) -> None:
    check(ParametricUMAP, {"preset": "fast", **parameters})
