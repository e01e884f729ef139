"""A model as one archive: what is kept, what is left out, and what is refused."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from neumap import UMAP, ParametricUMAP
from neumap._card import Card
from neumap.archive import ArchiveError, read_archive, write_archive
from neumap.estimators.fitted import FIELDS, Fitted
from neumap.estimators.landmarks import Landmarks
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.estimators.saving.files import SavedModel, read_model, save_model
from neumap.losses.reconstruction import reconstruction_loss
from neumap.networks import MLP

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(5, 3)).astype(np.float32)
NAMES = {kind.__name__: kind._get_param_names() for kind in (UMAP, ParametricUMAP)}
GRAPH = scipy.sparse.random_array((5, 5), density=0.5, format="csr", dtype=np.float32, rng=0)
FREE = Fitted(
    3,
    2,
    (3,),
    (3,),
    GRAPH,
    embedding=GENERATOR.normal(size=(5, 2)).astype(np.float32),
    training=TrainingRows(X),
)
WITH_NETWORK = replace(FREE, encoder=MLP(3, 2, (4,)))
HELD_OUT = np.ones((2, 3), np.float32)


def saved(
    fitted: Fitted | None = FREE, settings: dict[str, Any] | None = None, **parameters: Any
) -> SavedModel:
    kind = UMAP if fitted is not None and fitted.encoder is None else ParametricUMAP
    model = kind(**parameters)
    return SavedModel(kind.__name__, model.get_params(deep=False), fitted, settings or {})


def read(path: Path, **given: Any) -> SavedModel:
    arguments = {"networks": {}, "classes": (), "device": "auto", **given}
    return read_model(path, NAMES, **arguments)


def there_and_back(model: SavedModel, folder: Path, keep_data: bool | None = None) -> SavedModel:
    return read(save_model(model, folder / "model.neumap", keep_data=keep_data))


def the_fitted(model: SavedModel) -> Fitted:
    assert model.fitted is not None
    return model.fitted


def changed_file(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    archive = read_archive(save_model(saved(), path, keep_data=None))
    metadata = copy.deepcopy(archive.metadata)
    change(metadata["estimator"])
    return write_archive(path, tensors=archive.tensors, metadata=metadata, blobs=archive.blobs)


# ------------------------------------------------------------------ what comes back


def test_every_field_comes_back(tmp_path: Path) -> None:
    fitted = replace(
        WITH_NETWORK,
        n_anchors=3,
        card=Card("2026", "0.1", 5, ((0.0, 1.0), (0.0, 1.0)), None, {"who": "a"}),
        is_supervised=True,
        feature_names=np.array(["a", "b", "c"], dtype=object),
        distinct=np.arange(5),
        history={"loss": [2.0, 1.0]},
        report={"n_steps": 3, "landmark_drift": {"mean": 0.5}},
        rad_orig=np.arange(5, dtype=np.float32),
        rad_emb=np.arange(5, dtype=np.float32),
        decoder=MLP(2, 3, (4,)),
        reconstruction_loss=reconstruction_loss("mse", (0.0, 2.0)),
        classifier=nn.Linear(2, 2),
        classes=np.array(["x", "y"]),
        landmarks=Landmarks(X[:2], FREE.positions[:2], 0.1),
    )
    # All are set, so that a field that is added later is not forgotten here.
    assert [f.name for f in fields(Fitted) if getattr(fitted, f.name) is None] == []
    found = the_fitted(there_and_back(saved(fitted), tmp_path, keep_data=True))
    for name in FIELDS:
        assert type(getattr(found, name)) is type(getattr(fitted, name)) or name == "graph"
    for name in ("embedding", "distinct", "rad_orig", "rad_emb", "classes", "feature_names"):
        np.testing.assert_array_equal(getattr(found, name), getattr(fitted, name))
    np.testing.assert_array_equal(found.graph.toarray(), GRAPH.toarray())
    assert (found.history, found.report) == (fitted.history, fitted.report)
    assert found.n_anchors == 3
    assert (found.card.n_rows, found.card.notes) == (5, {"who": "a"})
    for name in ("encoder", "decoder", "classifier"):
        for one, other in zip(
            getattr(found, name).parameters(), getattr(fitted, name).parameters(), strict=True
        ):
            assert torch.equal(one, other)


def test_an_unfitted_model_is_its_parameters(tmp_path: Path) -> None:
    model = saved(None, n_neighbors=7, metric_kwds={"p": 3}, dims=(2, 3))
    found = there_and_back(model, tmp_path)
    assert found.fitted is None
    assert found.class_name == "ParametricUMAP"
    assert found.parameters == model.parameters


def test_settings_of_scikit_learn_come_back(tmp_path: Path) -> None:
    settings = {"_sklearn_output_config": {"transform": "pandas"}}
    assert there_and_back(saved(settings=settings), tmp_path).settings == settings


def test_without_settings_there_are_none(tmp_path: Path) -> None:
    assert there_and_back(saved(), tmp_path).settings == {}


# ------------------------------------------------------------------ rows of data


@pytest.mark.parametrize(
    ("fitted", "keep_data", "kept"),
    [
        (FREE, None, True),  # placing new rows needs them
        (FREE, True, True),
        (FREE, False, False),
        (WITH_NETWORK, None, False),
        (WITH_NETWORK, True, True),
        (WITH_NETWORK, False, False),
    ],
)
def test_training_rows_are_kept_where_asked_or_needed(
    fitted: Fitted, keep_data: bool | None, kept: bool, tmp_path: Path
) -> None:
    found = the_fitted(there_and_back(saved(fitted), tmp_path, keep_data))
    assert (found.training is not None) is kept
    if kept:
        np.testing.assert_array_equal(found.training_rows("x").rows, X)
    else:
        archive = read_archive(tmp_path / "model.neumap")
        assert "training" not in archive.tensors


@pytest.mark.parametrize("fitted", [replace(WITH_NETWORK, training=None), None])
def test_rows_that_a_model_does_not_have_cannot_be_kept(
    fitted: Fitted | None, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"keep must be .* for this ParametricUMAP, which holds no rows"
    ):
        save_model(saved(fitted), tmp_path / "model.neumap", keep_data=True)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("keep_data", [None, False])
def test_held_out_rows_are_left_out_with_a_warning(keep_data: bool | None, tmp_path: Path) -> None:
    model = saved(WITH_NETWORK, reconstruction_validation=HELD_OUT)
    with pytest.warns(UserWarning, match="reconstruction_validation: it holds rows of data"):
        found = there_and_back(model, tmp_path, keep_data)
    assert "reconstruction_validation" not in found.parameters


def test_held_out_rows_are_kept_where_asked(tmp_path: Path) -> None:
    model = saved(replace(WITH_NETWORK, training=None), reconstruction_validation=HELD_OUT)
    found = there_and_back(model, tmp_path, keep_data=True)
    np.testing.assert_array_equal(found.parameters["reconstruction_validation"], HELD_OUT)


def test_landmarks_are_always_kept(tmp_path: Path) -> None:
    landmarks = Landmarks(X[:2], FREE.positions[:2], 0.1)
    model = saved(replace(WITH_NETWORK, landmarks=landmarks))
    found = the_fitted(there_and_back(model, tmp_path, keep_data=False)).landmarks
    assert found is not None
    np.testing.assert_array_equal(found.rows, X[:2])


class Unreadable:
    """Rows that are not in memory."""


def test_rows_that_are_not_in_memory_are_refused(tmp_path: Path) -> None:
    model = saved(replace(FREE, training=TrainingRows(Unreadable())))
    with pytest.raises(ArchiveError, match=r"must be in memory to be saved.* got a Unreadable"):
        save_model(model, tmp_path / "model.neumap", keep_data=None)
    assert the_fitted(there_and_back(model, tmp_path, keep_data=False)).training is None


# ------------------------------------------------------------------ functions


def test_what_a_file_cannot_hold_is_left_out_with_a_warning(tmp_path: Path) -> None:
    model = saved(WITH_NETWORK, callbacks=print, metric=max)
    with pytest.warns(UserWarning, match=r"defaults take their place.*callbacks: .*metric: "):
        found = there_and_back(model, tmp_path)
    assert {"callbacks", "metric"} & found.parameters.keys() == set()


@pytest.mark.parametrize("name", ["metric", "metric_kwds"])
def test_a_search_that_a_file_cannot_hold_is_refused_with_training_rows(
    name: str, tmp_path: Path
) -> None:
    value = max if name == "metric" else {"f": max}
    model = saved(FREE, **{name: value})
    with pytest.raises(ArchiveError, match=f"^{name} must be one that a file can hold"):
        save_model(model, tmp_path / "model.neumap", keep_data=None)
    with pytest.warns(UserWarning, match=name):
        there_and_back(model, tmp_path, keep_data=False)


# ------------------------------------------------------------------ networks and devices


def test_a_network_without_a_place_is_refused(tmp_path: Path) -> None:
    path = save_model(saved(), tmp_path / "model.neumap", keep_data=None)
    with pytest.raises(ValueError, match=r"encoder was passed, but the model at .* has no encoder"):
        read(path, networks={"encoder": nn.Linear(3, 2)})
    assert read(path, networks={"encoder": None, "decoder": None}).class_name == "UMAP"


def test_a_network_takes_the_place_of_one_that_was_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="encoder"):
        path = save_model(saved(None, encoder=max), tmp_path / "model.neumap", keep_data=None)
    given = nn.Linear(3, 2)
    assert read(path, networks={"encoder": given}).parameters["encoder"] is given


@pytest.mark.parametrize(
    ("of_file", "wanted", "expected"),
    [("cpu", "auto", "cpu"), ("auto", "cpu", "cpu"), ("auto", "auto", "auto")],
)
def test_the_device_is_the_wanted_one_or_that_of_the_file(
    of_file: str, wanted: str, expected: str, tmp_path: Path
) -> None:
    path = save_model(saved(device=of_file), tmp_path / "model.neumap", keep_data=None)
    assert read(path, device=wanted).parameters["device"] == expected


def test_a_device_of_the_file_that_is_not_here_becomes_auto(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_model(saved(device="cuda:77"), tmp_path / "model.neumap", keep_data=None)
    with caplog.at_level(logging.INFO, logger="neumap"):
        assert read(path).parameters["device"] == "auto"
    assert "cuda:77" in caplog.text


def test_the_networks_go_to_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every machine has "meta", but it is refused since it holds no numbers, and no row can be
    # encoded there.
    monkeypatch.setattr("neumap.estimators.saving.files.resolve_device", torch.device)
    monkeypatch.setattr("neumap.estimators.saving.files.check_networks", lambda *args: None)
    path = save_model(saved(WITH_NETWORK, device="cpu"), tmp_path / "model.neumap", keep_data=None)
    encoder = the_fitted(read(path, device="meta")).encoder
    assert encoder is not None
    assert {p.device.type for p in encoder.parameters()} == {"meta"}


def test_a_wanted_device_that_is_not_here_is_refused(tmp_path: Path) -> None:
    path = save_model(saved(), tmp_path / "model.neumap", keep_data=None)
    with pytest.raises(ValueError, match="device"):
        read(path, device="abacus")


# ------------------------------------------------------------------ other files


def test_a_class_that_is_not_known_is_told(tmp_path: Path) -> None:
    path = save_model(replace(saved(), class_name="Own"), tmp_path / "model.neumap", keep_data=None)
    with pytest.raises(ArchiveError, match=r"got the class 'Own'. Pass classes=\[Own\]"):
        read(path)


def test_an_archive_without_a_model_is_told(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "other.neumap", tensors={}, metadata={"poem": "x"})
    with pytest.raises(ArchiveError, match="must be a saved estimator, but it holds poem instead"):
        read(path)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "format": (lambda nodes: nodes.update(format=3), "must have format 2 or lower, got 3"),
    "parameter": (
        lambda nodes: nodes["parameters"].update(unheard={"value": 1}),
        "Parameters of UMAP must be known to this neumap, got unheard as well",
    ),
    "field": (
        lambda nodes: nodes["fitted"].update(unheard={"value": 1}),
        "Fields of a fitted model must be known to this neumap, got unheard",
    ),
    "setting": (
        lambda nodes: nodes["settings"].update(unheard={"value": 1}),
        "Settings of scikit-learn must be known to this neumap, got unheard",
    ),
    "missing": (lambda nodes: nodes["fitted"].pop("n_features"), "got none of n_features"),
    "without graph": (
        lambda nodes: nodes["fitted"].pop("graph"),
        "graph must be there for a model with embedding, got None",
    ),
    "kind": (
        lambda nodes: nodes["parameters"].update(metric={"hologram": 1}),
        "parameters.dict.metric must be a dict that starts with value, array",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_of_another_version_is_told(name: str, tmp_path: Path) -> None:
    change, message = CHANGES[name]
    path = changed_file(tmp_path / "model.neumap", change)
    with pytest.raises(ArchiveError, match=message):
        read(path)


def test_a_parameter_that_a_file_lacks_is_left_to_its_default(tmp_path: Path) -> None:
    path = changed_file(tmp_path / "model.neumap", lambda nodes: nodes["parameters"].pop("b"))
    assert "b" not in read(path).parameters
