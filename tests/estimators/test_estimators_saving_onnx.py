"""The networks that an ONNX file holds: equal to transform and inverse_transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neumap.estimators.saving.onnx as room
from neumap import ParametricUMAP
from neumap.data import check_input
from neumap.estimators.fitted import Fitted
from neumap.estimators.new_rows.transform import invert
from neumap.estimators.saving.onnx import (
    Pipeline,
    decoding_pipeline,
    encoding_pipeline,
    export_part,
)
from neumap.losses.reconstruction import reconstruction_loss
from neumap.networks import MLP

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(30, 8)).astype(np.float32)


def model(loss: str = "mse", row_shape: tuple[int, ...] = (8,), **fields: Any) -> Fitted:
    torch.manual_seed(0)
    networks = {
        "encoder": MLP(8, 2, (6,)).eval(),
        "decoder": MLP(2, 8, (6,), output_shape=row_shape).eval(),
        "reconstruction_loss": reconstruction_loss(loss, (0.0, 1.0)),
    }
    embedding = GENERATOR.normal(size=(30, 2)).astype(np.float32)
    return Fitted(8, 2, (8,), row_shape, None, embedding=embedding, **{**networks, **fields})


# ------------------------------------------------------------------ the pipeline


def test_a_pipeline_reshapes_before_and_after() -> None:
    pipeline = Pipeline(nn.Flatten(), (2, 4), (4, 2), torch.neg)
    rows = torch.from_numpy(X)
    assert torch.equal(pipeline(rows), -rows.reshape(30, 4, 2))


@pytest.mark.parametrize("row_shape", [(8,), (2, 4), (2, 2, 2)])
def test_encoding_equals_transform(row_shape: tuple[int, ...]) -> None:
    fitted = model(row_shape=row_shape)
    with torch.no_grad():
        found = encoding_pipeline(fitted)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, fitted.embed(check_input(X)), atol=1e-6)


@pytest.mark.parametrize("row_shape", [(8,), (2, 2, 2)])
@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_decoding_equals_inverse_transform(loss: str, row_shape: tuple[int, ...]) -> None:
    fitted = model(loss, row_shape)
    with torch.no_grad():
        found = decoding_pipeline(fitted)(torch.from_numpy(fitted.positions)).numpy()
    expected = invert(fitted.positions, fitted, ParametricUMAP(device="cpu")._recipe())
    assert found.shape == (30, 8)
    np.testing.assert_allclose(found, expected, atol=1e-6)


# ------------------------------------------------------------------ what is exported


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def watched(pipeline: nn.Module, path: Any, **settings: Any) -> Any:
        seen.update(pipeline=pipeline, path=path, **settings)
        return path

    monkeypatch.setattr(room, "to_onnx", watched)
    return seen


@pytest.mark.parametrize(
    ("part", "names", "width"),
    [("encoder", ("X", "embedding"), 8), ("decoder", ("embedding", "X"), 2)],
)
def test_a_part_is_exported_with_its_names(
    exported: dict[str, Any], part: Any, names: tuple[str, str], width: int
) -> None:
    fitted = model()
    export_part(fitted, "file.onnx", part=part, check=False)
    assert (exported["input_names"], exported["output_names"]) == (names[:1], names[1:])
    assert exported["example"].shape[1:] == (width,)
    assert exported["pipeline"].network is getattr(fitted, part)
    assert exported["check"] is False


def test_example_rows_have_mean_and_scale_of_the_training_rows(exported: dict[str, Any]) -> None:
    fitted = model()
    fitted.encoder.standardize.set(torch.full((8,), 100.0), 5.0)  # type: ignore[union-attr, operator]
    export_part(fitted, "file.onnx", part="encoder", check=True)
    example = exported["example"]
    assert float(example.mean()) == pytest.approx(100.0, abs=1.5)
    assert float(example.std()) == pytest.approx(5.0, rel=0.2)


def test_example_rows_of_another_network_have_both_signs(exported: dict[str, Any]) -> None:
    export_part(model(encoder=nn.Linear(8, 2)), "file.onnx", part="encoder", check=True)
    assert exported["example"].min() < 0 < exported["example"].max()


def test_example_positions_are_known_ones(exported: dict[str, Any]) -> None:
    fitted = model()
    fitted.positions[3] = np.nan
    export_part(fitted, "file.onnx", part="decoder", check=True)
    np.testing.assert_array_equal(exported["example"], np.delete(fitted.positions, 3, axis=0))


@pytest.mark.parametrize(
    ("part", "missing", "message"),
    [
        ("head", {}, "part must be 'encoder' or 'decoder', got 'head'"),
        ("encoder", {"encoder": None}, "no encoder to export. Fit with parametric_embedding=True"),
        ("decoder", {"decoder": None}, "no decoder to export. Fit with parametric_reconstruction"),
    ],
)
def test_a_part_that_is_not_there_is_refused(part: Any, missing: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export_part(model(**missing), "file.onnx", part=part, check=True)
