"""Models saved by neumap 0.1 are read by every later version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neumap import ParametricUMAP, load
from neumap.archive import ArchiveError, read_archive, write_archive
from neumap.estimators.fitted import FIELDS

DATA = Path(__file__).parents[1] / "data"
EXPECTED = np.load(DATA / "model_0_1_expected.npz")
X = EXPECTED["X"]


def test_a_network_with_decoder_classifier_and_landmarks() -> None:
    model = load(DATA / "model_0_1_network.neumap")
    assert isinstance(model, ParametricUMAP)
    np.testing.assert_allclose(model.transform(X), EXPECTED["network"], atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(X), EXPECTED["proba"], atol=1e-5)
    decoded = model.inverse_transform(model.embedding_)
    np.testing.assert_allclose(decoded, EXPECTED["decoded"], atol=1e-4)
    assert model.classes_.tolist() == [0, 1, 2]
    labels = np.repeat([0, 1, 2], 15)
    assert model.fit(X, labels).report_["landmark_drift"]["n_landmarks"] == 3


def test_free_positions_of_distinct_rows() -> None:
    model = load(DATA / "model_0_1_free.neumap")
    np.testing.assert_array_equal(model.embedding_, EXPECTED["free"])
    np.testing.assert_allclose(model.transform(X + 0.01), EXPECTED["placed"], atol=1e-4)
    assert model._model().distinct.tolist() == list(range(45))  # three rows were passed twice


@pytest.mark.parametrize("name", ["model_0_1_network", "model_0_1_free"])
def test_a_file_read_and_saved_anew_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = load(DATA / f"{name}.neumap")
    again = load(model.save(tmp_path / "m.neumap"))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    assert again.history_ == model.history_


def test_todays_files_name_the_fields_of_a_fitted_model(tmp_path: Path) -> None:
    """A renamed field changes the format, which needs a new version and a reader of the old."""
    path = load(DATA / "model_0_1_network.neumap").save(tmp_path / "m.neumap")
    nodes = read_archive(path).metadata["estimator"]
    assert nodes["format"] == 2
    known = {
        *("n_features", "n_components", "input_shape", "row_shape", "graph", "is_supervised"),
        *("embedding", "history", "report", "encoder", "decoder", "reconstruction_loss"),
        *("classifier", "classes", "landmarks"),
    }
    assert nodes["fitted"].keys() == known
    others = {"card", "feature_names", "distinct", "rad_orig", "rad_emb", "training", "n_anchors"}
    assert known | others == set(FIELDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.update(format=3), "must have format 2 or lower, got 3"),
        (lambda e: e["fitted"].update(colour={"value": 1}), "got colour as well"),
        (lambda e: e["fitted"].pop("n_features"), "must have the fields"),
        (lambda e: e.update({"class": "Forest"}), "got the class 'Forest'"),
    ],
)
def test_other_fields_are_refused(change, message: str, tmp_path: Path) -> None:
    path = load(DATA / "model_0_1_free.neumap").save(tmp_path / "m.neumap")
    archive = read_archive(path)
    change(archive.metadata["estimator"])
    write_archive(path, tensors=archive.tensors, metadata=archive.metadata, blobs=archive.blobs)
    with pytest.raises(ArchiveError, match=message):
        load(path)
