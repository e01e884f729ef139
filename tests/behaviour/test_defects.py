"""Defects of umap-learn 0.5.12's ``ParametricUMAP``, none of which may come back here.

``DEFECTS`` numbers them and names the tests that hold each one off, here or in another file.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances

from neumap import ParametricUMAP, load_ParametricUMAP
from neumap.estimators import PRESETS

TESTS = Path(__file__).parents[1]

DEFECTS: dict[int, tuple[str, list[str]]] = {
    1: (
        "save, pickle and deepcopy fail on a default fitted model",
        [
            "test_default_model_is_saved_and_loaded",
            "test_persistence.py::test_copies_of_fitted_models",
            "test_persistence.py::test_round_trip_in_a_fresh_process_is_equal_to_the_bit",
        ],
    ),
    2: (
        "a loaded model lacks what a second fit needs",
        [
            "test_loaded_model_can_be_fitted_again",
            "test_persistence.py::test_fit_goes_on_with_landmarks_after_loading",
        ],
    ),
    3: (
        "documented constructor arguments do not exist",
        ["test_documented_arguments_exist", "test_parameter_flow.py::test_parameter_acts"],
    ),
    4: (
        "clone, get_params and repr lose the parameters of UMAP",
        [
            "test_estimators_contract.py::test_clone_and_set_params_keep_a_parameter",
            "test_estimators_contract.py::test_clone_keeps_the_neighbours",
            "test_estimators_contract.py::test_repr_shows_what_was_set",
            "test_estimators_contract.py::test_pipeline_grid_search_and_feature_union",
        ],
    ),
    5: (
        "parameters are silently ignored",
        [
            "test_parameter_flow.py::test_parameter_acts",
            "test_parameter_flow.py::test_start_of_an_encoder_cannot_be_chosen_by_init",
            "test_parameter_flow.py::test_a_parameter_behind_a_switch_warns",
        ],
    ),
    6: (
        "metric='precomputed' breaks in fit_transform",
        [
            "test_precomputed_distances_in_both_ways_of_fitting",
            "test_umap_behaviour.py::test_precomputed_distances_with_rows_for_the_encoder",
        ],
    ),
    7: (
        "sparse rows are refused",
        ["test_estimators_contract.py::test_containers_give_the_same_map"],
    ),
    8: ("data over 500 MB crash", ["test_no_path_depends_on_the_size_of_the_data"]),
    9: (
        "a batch larger than the edges never ends",
        ["test_estimators_contract.py::test_any_batch_size_terminates"],
    ),
    10: (
        "duplicates and a point as its own negative give NaN",
        [
            "test_estimators_contract.py::test_odd_rows_have_finite_places",
            "test_losses_umap.py::test_all_points_equal",
            "test_losses_umap.py::test_coincident_edges_and_coincident_negatives",
        ],
    ),
    11: (
        "the loss is not UMAP's cross entropy",
        [
            "test_losses_umap.py::test_value_and_gradient_equal_the_formula",
            "test_losses_umap.py::test_small_eps_tends_to_the_true_cross_entropy",
        ],
    ),
    12: (
        "inverse_transform returns logits",
        [
            "test_umap_behaviour.py::test_inverse_with_a_decoder_is_in_data_space",
            "test_losses_reconstruction.py::test_activation_leads_to_data_space",
        ],
    ),
    13: (
        "ONNX files cut negative coordinates and know one network only",
        [
            "test_onnx_file_places_rows_as_transform_does",
            "test_persistence.py::test_onnx_takes_rows_as_transform_does",
            "test_export.py::test_file_gives_the_numbers_of_the_module",
        ],
    ),
    14: (
        "transform checks nothing",
        [
            "test_estimators_contract.py::test_bad_rows_are_refused",
            "test_estimators_contract.py::test_wrong_width_is_refused",
            "test_estimators_contract.py::test_unfitted_model_says_so",
        ],
    ),
    15: (
        "seeds are taken in the constructor and reseed the user's generators",
        [
            "test_estimators_contract.py::test_seed_is_taken_at_fit_and_not_at_construction",
            "test_estimators_contract.py::test_same_seed_gives_the_same_map",
            "test_estimators_contract.py::test_generators_are_seeds_too",
            "test_estimators_contract.py::test_global_random_state_is_left_alone",
        ],
    ),
    16: (
        "a second fit goes on from the first and overwrites parameters",
        [
            "test_estimators_contract.py::test_second_fit_equals_a_fresh_one",
            "test_estimators_contract.py::test_second_fit_leaves_nothing_of_the_first",
            "test_estimators_contract.py::test_fit_leaves_constructor_attributes_alone",
        ],
    ),
    17: (
        "verbose=False prints",
        ["test_estimators_contract.py::test_verbose_speaks_on_stderr_only_and_changes_nothing"],
    ),
    18: (
        "update replaces the map and leaves the encoder behind",
        ["test_umap_behaviour.py::test_later_rows_join_the_map"],
    ),
    19: (
        "the validation loss holds other losses, and parts are not logged",
        [
            "test_every_part_of_the_loss_has_its_line",
            "test_losses_reconstruction.py::test_validation_loss_is_clean_and_leaves_no_trace",
        ],
    ),
    20: (
        "landmarks: extra rows come back, labels fail, small samples are empty",
        ["test_landmarks_stay_out_of_the_result", "test_landmark_arguments"],
    ),
    21: ("a default fit takes 1.3 steps per row", ["test_steps_of_a_default_fit"]),
    22: (
        "TensorFlow is imported",
        [
            "test_nothing_heavy_is_imported",
            "test_without_extras.py::test_fit_and_transform",
            "test_keras_bridge.py::test_asking_does_not_import_keras",
        ],
    ),
}

QUICK: dict[str, Any] = {"n_neighbors": 5, "n_epochs": 5, "random_state": 0, "preset": "fast"}


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    generator = np.random.default_rng(2)
    return (generator.random((90, 6)) * 0.2 + (np.arange(90) % 3)[:, None] * 0.4).astype(np.float32)


@cache
def functions_of(file: str) -> set[str]:
    """Return the names of the test functions of a file, those in classes included."""
    tree = ast.parse(next(TESTS.rglob(file)).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_twenty_two() -> None:
    assert list(DEFECTS) == list(range(1, 23))


@pytest.mark.parametrize("number", DEFECTS)
def test_named_tests_exist(number: int) -> None:
    for name in DEFECTS[number][1]:
        file, _, function = name.rpartition("::")
        assert function in functions_of(file or Path(__file__).name)


def test_default_model_is_saved_and_loaded(X: Any, tmp_path: Path) -> None:
    model = ParametricUMAP(random_state=0, n_epochs=2).fit(X)
    model.save(tmp_path / "a folder to make" / "model.neumap")
    loaded = load_ParametricUMAP(tmp_path / "a folder to make" / "model.neumap")
    np.testing.assert_array_equal(loaded.transform(X), model.embedding_)


def test_loaded_model_can_be_fitted_again(X: Any, tmp_path: Path) -> None:
    model = ParametricUMAP(**QUICK).fit(X)
    loaded = load_ParametricUMAP(model.save(tmp_path / "model.neumap"))
    np.testing.assert_array_equal(loaded.fit(X).embedding_, model.embedding_)


@pytest.mark.parametrize(
    "name",
    ["n_training_epochs", "optimizer", "loss_report_frequency", "parametric_embedding"],
)
def test_documented_arguments_exist(name: str) -> None:
    assert name in inspect.signature(ParametricUMAP).parameters


def test_precomputed_distances_in_both_ways_of_fitting(X: Any) -> None:
    distances = pairwise_distances(X)
    one = ParametricUMAP(**QUICK, metric="precomputed").fit(X, precomputed_distances=distances)
    other = ParametricUMAP(**QUICK, metric="precomputed")
    placed = other.fit_transform(X, precomputed_distances=scipy.sparse.csr_matrix(distances))
    np.testing.assert_allclose(placed, one.embedding_, atol=1e-5)


def test_no_path_depends_on_the_size_of_the_data(X: Any, tmp_path: Path) -> None:
    """Data on disk, which may have any size, give the map of the same data in memory."""
    on_disk = np.lib.format.open_memmap(tmp_path / "X.npy", mode="w+", dtype="f4", shape=X.shape)
    on_disk[:] = X
    placed = ParametricUMAP(**QUICK).fit_transform(on_disk)
    np.testing.assert_allclose(placed, ParametricUMAP(**QUICK).fit_transform(X), atol=1e-4)


def test_onnx_file_places_rows_as_transform_does(X: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = ParametricUMAP(**QUICK).fit(X)
    assert (model.embedding_ < 0).any()
    path = tmp_path / "encoder.onnx"
    model.to_onnx(path)
    session = onnxruntime.InferenceSession(path)
    (placed,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(placed, model.embedding_, atol=1e-4)


def test_every_part_of_the_loss_has_its_line(X: Any) -> None:
    model = ParametricUMAP(
        **QUICK,
        parametric_reconstruction=True,
        reconstruction_validation=X[:20],
        global_correlation_loss_weight=0.5,
    ).fit(X)
    history = model.history_
    assert set(history) == {
        "loss",
        "umap_loss",
        "reconstruction_loss",
        "global_correlation_loss",
        "val_loss",
        "val_reconstruction_loss",
    }
    assert {len(values) for values in history.values()} == {10}
    # Data in [0, 1] are decoded with cross entropy; the last line is that of the final weights.
    decoded = torch.from_numpy(model.inverse_transform(model.transform(X[:20])))
    expected = torch.nn.functional.binary_cross_entropy(decoded, torch.from_numpy(X[:20]))
    np.testing.assert_allclose(history["val_loss"][-1], float(expected), rtol=1e-4)
    again = model.fit(X).history_  # replaced, not appended to
    assert {len(values) for values in again.values()} == {10}


def test_landmarks_stay_out_of_the_result(X: Any) -> None:
    labels = np.arange(90) % 3
    model = ParametricUMAP(**QUICK).fit(X, labels)
    model.add_landmarks(X, sample_pct=0.2)
    placed = model.fit_transform(X[:50] + 0.5, labels[:50])
    assert placed.shape == (50, 2)
    assert model.embedding_.shape == (50, 2)
    assert model.graph_.shape == (50, 50)
    assert model.report_["landmark_drift"]["n_landmarks"] == 18
    np.testing.assert_array_equal(model.transform(X[:50] + 0.5), placed)


def test_landmark_arguments(X: Any, global_random_state_untouched: None) -> None:
    model = ParametricUMAP(**QUICK).fit(X)
    model.add_landmarks(X, sample_pct=0.001)  # at least one row, never none
    assert model.fit(X[:40]).report_["landmark_drift"]["n_landmarks"] == 1
    for mode in ("predetermined", "predefined"):
        model.add_landmarks(X, sample_mode=mode, idx=[3, 4, 5])
        assert model.fit(X[:40]).report_["landmark_drift"]["n_landmarks"] == 3
    with pytest.raises(ValueError, match="reset_optimizer must be True"):
        model.add_landmarks(X, reset_optimizer=False)


def test_steps_of_a_default_fit() -> None:
    """The default at 10,000 rows is a tenth of umap-learn's 32,440 steps, and grows more slowly."""
    preset = PRESETS["default"]
    assert preset.steps(10_000) <= 3_244
    assert preset.steps(1_000_000) <= 1_300_000 / 100
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    model = ParametricUMAP(random_state=0, preset="fast").fit(rows)
    assert model.report_["n_steps"] == PRESETS["fast"].steps(300)


def test_nothing_heavy_is_imported(X: Any) -> None:
    ParametricUMAP(**QUICK).fit(X).transform(X)
    assert "tensorflow" not in sys.modules
