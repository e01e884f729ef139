"""Recipes: every parameter reaches its value, and what does not go together is refused."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from neumap import UMAP, ParametricUMAP
from neumap.callbacks import EarlyStopping, ProgressBar
from neumap.estimators.positions import FreePositions, NetworkPositions
from neumap.estimators.recipe import Recipe, free_recipe, parametric_recipe
from neumap.similarity import find_ab

CALLBACK = EarlyStopping()
KNN = (np.zeros((3, 2)), np.zeros((3, 2)))
ROWS = np.eye(3)
RECONSTRUCTS = {"parametric_reconstruction": True}


def recipe(kind: type[UMAP], **parameters: Any) -> Recipe:
    make = free_recipe if kind is UMAP else parametric_recipe
    return make({**kind()._parameters(), **parameters})


def value_at(made: Recipe, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), made)


# ------------------------------------------------------------------ from parameters to values

# Parameter, a value that is not its default, where it is found, and as what (None: as it is).
FLOWS: list[tuple[str, Any, str, Any]] = [
    ("n_neighbors", 7, "graph.n_neighbors", None),
    ("n_neighbors", 7, "targets.n_neighbors", None),
    ("n_components", 5, "n_components", None),
    ("n_components", 5, "positions.n_components", None),
    ("metric", "cosine", "graph.metric", None),
    ("metric_kwds", {"p": 3}, "graph.metric_kwds", None),
    ("n_epochs", 9, "n_epochs", None),
    ("n_epochs", 9, "positions.budget.n_epochs", None),
    ("learning_rate", 0.3, "positions.budget.learning_rate", None),
    ("init", "random", "positions.init", None),
    ("min_dist", 0.4, "objective.similarity.min_dist", None),
    ("spread", 1.7, "objective.similarity.spread", None),
    ("low_memory", False, "graph.low_memory", None),
    ("n_jobs", 3, "graph.n_jobs", None),
    ("set_op_mix_ratio", 0.2, "graph.set_op_mix_ratio", None),
    ("local_connectivity", 2.5, "graph.local_connectivity", None),
    ("repulsion_strength", 3.0, "objective.similarity.repulsion", 15.0),
    ("negative_sample_rate", 3.0, "objective.similarity.repulsion", 3.0),
    ("transform_queue_size", 8.0, "graph.transform_queue_size", None),
    ("a", 1.1, "objective.similarity.a", None),
    ("b", 0.9, "objective.similarity.b", None),
    ("random_state", 5, "random_state", None),
    ("angular_rp_forest", True, "graph.angular_rp_forest", None),
    ("target_n_neighbors", 11, "targets.n_neighbors", None),
    ("target_metric", "ordinal", "targets.metric", None),
    ("target_metric_kwds", {"p": 2}, "targets.metric_kwds", None),
    ("target_weight", 0.8, "targets.weight", None),
    ("transform_seed", 1, "transform_seed", None),
    ("transform_seed", 1, "graph.seed", None),
    ("transform_mode", "graph", "stops_at_graph", True),
    ("force_approximation_algorithm", True, "graph.force_approximation_algorithm", None),
    ("verbose", 2, "observers.verbose", True),
    ("verbose", 2, "graph.verbose", True),
    ("tqdm_kwds", {"ncols": 40}, "observers.tqdm_kwds", None),
    ("unique", True, "unique", None),
    ("output_dens", True, "keeps_radii", None),
    ("disconnection_distance", 2.0, "graph.disconnection_distance", None),
    ("precomputed_knn", KNN, "graph.precomputed_knn", None),
    ("batch_size", 99, "positions.budget.batch_size", None),
    ("n_training_epochs", 3, "positions.budget.n_training_epochs", None),
    ("n_training_epochs", 3, "positions.budget.n_reports", 30),
    ("loss_report_frequency", 4, "positions.budget.n_reports", 4),
    ("optimizer", "sgd", "positions.optimizer", None),
    ("callbacks", [CALLBACK], "observers.callbacks", None),
    ("max_time", 1.5, "positions.budget.max_time", None),
    ("device", "cpu", "device", None),
    ("column", "vector", "column", None),
]
OF_NETWORKS: list[tuple[str, Any, str, Any]] = [
    ("dims", [2, 3], "dims", (2, 3)),
    ("encoder", "conv", "positions.encoder", None),
    ("preset", "best", "positions.named_preset", None),
    ("metric", "cosine", "positions.metric", None),
    ("global_correlation_loss_weight", 0.1, "objective.correlation_weight", None),
    ("classifier_loss_weight", 0.2, "objective.classifier_weight", None),
    ("landmark_loss_weight", 0.4, "objective.landmarks.weight", None),
    ("landmark_loss_fn", np.subtract, "objective.landmarks.loss_fn", None),
    ("keras_fit_kwargs", {"verbose": 0}, "observers.keras_fit_kwargs", None),
    ("guide", None, "positions.guide", None),
    ("reconstruction_validation", ROWS, "observers.reconstruction_validation", None),
]
OF_DECODERS: list[tuple[str, Any, str, Any]] = [
    ("decoder", "conv", "decoder", None),
    ("preset", "best", "preset", None),
    ("parametric_reconstruction_loss_fcn", "mae", "loss", None),
    ("parametric_reconstruction_loss_weight", 0.5, "weight", None),
    ("autoencoder_loss", True, "trains_encoder", None),
    ("reconstruction_rows", 40, "rows", None),
]
OF_DENSITY = [
    ("dens_lambda", 3.0, "weight"),
    ("dens_frac", 0.6, "share"),
    ("dens_var_shift", 0.3, "var_shift"),
]


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
@pytest.mark.parametrize(("name", "value", "path", "expected"), FLOWS)
def test_a_parameter_reaches_its_value(
    kind: type[UMAP], name: str, value: Any, path: str, expected: Any
) -> None:
    found = value_at(recipe(kind, **{name: value}), path)
    wanted = value if expected is None else expected
    assert found is wanted or found == wanted
    assert value_at(recipe(kind), path) != found


@pytest.mark.parametrize(("name", "value", "path", "expected"), OF_NETWORKS)
def test_a_parameter_of_networks_reaches_its_value(
    name: str, value: Any, path: str, expected: Any
) -> None:
    found = value_at(recipe(ParametricUMAP, **{name: value}), path)
    wanted = value if expected is None else expected
    assert found is wanted or found == wanted


@pytest.mark.parametrize(("name", "value", "path", "expected"), OF_DECODERS)
def test_a_parameter_of_the_decoder_reaches_its_value(
    name: str, value: Any, path: str, expected: Any
) -> None:
    made = recipe(ParametricUMAP, **{**RECONSTRUCTS, name: value})
    assert value_at(made, f"objective.reconstruction.{path}") == value
    before = recipe(ParametricUMAP, **RECONSTRUCTS)
    assert value_at(before, f"objective.reconstruction.{path}") != value


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
@pytest.mark.parametrize(("name", "value", "path"), OF_DENSITY)
def test_a_parameter_of_densmap_reaches_its_value(
    kind: type[UMAP], name: str, value: Any, path: str
) -> None:
    assert recipe(kind, **{name: value}).objective.density is None
    density = recipe(kind, densmap=True, **{name: value}).objective.density
    assert getattr(density, path) == value


def test_no_parameter_is_forgotten() -> None:
    tables = [*FLOWS, *OF_NETWORKS, *OF_DECODERS, *OF_DENSITY]
    seen = {row[0] for row in tables} | {"densmap", "parametric_reconstruction"}
    # A switch, and the distance in the embedding, which has one value only.
    elsewhere = {"parametric_embedding", "output_metric", "output_metric_kwds", "n_anchors"}
    assert seen | elsewhere == {*ParametricUMAP().get_params()}


def test_what_gives_positions_follows_the_class_and_its_switch() -> None:
    assert isinstance(recipe(UMAP).positions, FreePositions)
    assert isinstance(recipe(ParametricUMAP).positions, NetworkPositions)
    without = recipe(ParametricUMAP, parametric_embedding=False)
    assert isinstance(without.positions, FreePositions)


def test_nothing_is_reconstructed_unless_asked_for() -> None:
    assert recipe(ParametricUMAP).objective.reconstruction is None
    assert recipe(ParametricUMAP, **RECONSTRUCTS).objective.reconstruction is not None


# ------------------------------------------------------------------ what follows from several


@pytest.mark.parametrize(
    ("kind", "preset", "factor"), [(UMAP, {}, 0.7), (ParametricUMAP, {"preset": "fast"}, 2.0)]
)
def test_the_kernel_is_that_of_the_positions(
    kind: type[UMAP], preset: dict[str, str], factor: float
) -> None:
    kernel = recipe(kind, min_dist=0.2, repulsion_strength=3.0, **preset).kernel
    assert (kernel.a, kernel.b) == find_ab(1.0, 0.2)
    assert kernel.repulsion == 5 * 3.0 * factor


@pytest.mark.parametrize(
    ("state", "seed"), [(5, 5), (np.int64(6), 6), (None, None), (np.random.default_rng(0), None)]
)
def test_the_search_of_the_fit_is_repeated_with_its_seed(state: Any, seed: int | None) -> None:
    made = recipe(UMAP, random_state=state)
    assert made.graph_settings_of_the_fit().seed == seed
    assert made.graph.seed == 42  # of transform_seed, for questions after the fit


# ------------------------------------------------------------------ callbacks


def test_a_progress_bar_comes_after_the_callbacks_where_it_is_wanted() -> None:
    assert recipe(UMAP, callbacks=CALLBACK).observers.all_callbacks == (CALLBACK,)
    first, bar = recipe(UMAP, callbacks=[CALLBACK], verbose=True).observers.all_callbacks
    assert first is CALLBACK
    assert isinstance(bar, ProgressBar)


@pytest.mark.parametrize(
    ("verbose", "given", "has_bar"), [(True, 0, False), (False, 1, True), (True, None, True)]
)
def test_verbose_of_keras_overrules_that_of_the_estimator(
    verbose: bool, given: int | None, has_bar: bool
) -> None:
    kwargs = {} if given is None else {"verbose": given}
    made = recipe(ParametricUMAP, verbose=verbose, keras_fit_kwargs=kwargs)
    bars = [c for c in made.observers.all_callbacks if isinstance(c, ProgressBar)]
    assert bool(bars) is has_bar


def test_callbacks_of_keras_fit_kwargs_are_called_too() -> None:
    made = recipe(ParametricUMAP, keras_fit_kwargs={"callbacks": [CALLBACK]})
    assert made.observers.all_callbacks == (CALLBACK,)


# ------------------------------------------------------------------ checks

WRONG: list[tuple[type[UMAP], dict[str, Any], str]] = [
    (UMAP, {"a": 1.0}, "a and b describe one curve together"),
    (UMAP, {"min_dist": 2.0}, "min_dist must be at most spread"),
    (UMAP, {"optimizer": "gradient"}, "optimizer must be one of"),
    (UMAP, {"optimizer": int}, "got the class int"),
    (UMAP, {"callbacks": [3]}, "callbacks must be instances"),
    (UMAP, {"metric": "foobar"}, "metric must be"),
    (UMAP, {"metric": "cosine", "metric_kwds": {"p": 3}}, "metric_kwds"),
    (UMAP, {"metric": "precomputed", "unique": True}, "unique=True finds equal rows"),
    (ParametricUMAP, {"init": "spectral"}, "init must be 'auto' for an encoder"),
    (ParametricUMAP, {"preset": "slow"}, "preset must be one of"),
    (ParametricUMAP, {"encoder": "transformer"}, "encoder must be one of"),
    (ParametricUMAP, {"keras_fit_kwargs": {"epochs": 3}}, "use n_training_epochs"),
    (ParametricUMAP, {"reconstruction_validation": ROWS}, "needs an encoder and a decoder"),
    (
        ParametricUMAP,
        {"reconstruction_validation": ROWS, **RECONSTRUCTS, "parametric_embedding": False},
        "needs an encoder and a decoder",
    ),
]


@pytest.mark.parametrize(("kind", "parameters", "message"), WRONG)
def test_a_recipe_is_made_of_anything_and_refused_when_checked(
    kind: type[UMAP], parameters: dict[str, Any], message: str
) -> None:
    made = recipe(kind, **parameters)
    with pytest.raises((ValueError, TypeError), match=message):
        made.check()


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
def test_the_defaults_pass_the_check_without_a_warning(kind: type[UMAP]) -> None:
    recipe(kind).check()


def test_held_out_rows_pass_the_check_with_encoder_and_decoder() -> None:
    recipe(ParametricUMAP, reconstruction_validation=ROWS, **RECONSTRUCTS).check()


@pytest.mark.parametrize(
    ("name", "value", "switch"),
    [
        ("decoder", "conv", "parametric_reconstruction"),
        ("parametric_reconstruction_loss_fcn", "mse", "parametric_reconstruction"),
        ("autoencoder_loss", True, "parametric_reconstruction"),
        ("encoder", "conv", "parametric_embedding"),
    ],
)
def test_a_parameter_behind_a_switch_that_is_off_warns(name: str, value: Any, switch: str) -> None:
    made = recipe(ParametricUMAP, **{name: value, switch: False})
    with pytest.warns(UserWarning, match=f"{name} has no effect while {switch}=False"):
        made.check()
    recipe(ParametricUMAP, **{name: value, switch: True}).check()  # no warning
