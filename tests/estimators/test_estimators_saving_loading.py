"""Loading: the class in the file decides, and classes of the user come from the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from neumap import UMAP, ParametricUMAP, load, load_ParametricUMAP
from neumap.archive import ArchiveError
from neumap.estimators.fitted import Fitted

GRAPH = scipy.sparse.csr_matrix(np.ones((4, 4), np.float32) - np.eye(4, dtype=np.float32))
EMBEDDING = np.arange(8, dtype=np.float32).reshape(4, 2)
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Own(ParametricUMAP):
    """An estimator of a user."""


class Affine(nn.Module):
    """A network of a user, with a config."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)

    @property
    def config(self) -> dict[str, Any]:
        return {"width": self.layer.in_features}

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(rows)
        return out


class WithoutConfig(Affine):
    """A network whose arguments are not known."""

    config = None  # type: ignore[assignment]


def fitted(kind: type[UMAP] = ParametricUMAP, encoder: nn.Module | None = None) -> Any:
    model = kind(n_neighbors=3, device="cpu")
    model._fitted = Fitted(3, 2, (3,), (3,), GRAPH, embedding=EMBEDDING, encoder=encoder)
    return model


def encoded(model: Any) -> Any:
    return model._model().encoder(torch.from_numpy(X))


@pytest.mark.parametrize("kind", [UMAP, ParametricUMAP])
def test_the_class_in_the_file_decides(kind: type[UMAP], tmp_path: Path) -> None:
    found = load(kind(n_neighbors=7).save(tmp_path))
    assert type(found) is kind
    assert found.n_neighbors == 7
    assert not found.__sklearn_is_fitted__()


def test_a_fitted_model_comes_back_fitted(tmp_path: Path) -> None:
    fitted(UMAP).save(tmp_path, keep_data=False)
    found = load(tmp_path)
    assert found.__sklearn_is_fitted__()
    np.testing.assert_array_equal(found.embedding_, EMBEDDING)


def test_output_settings_come_back(tmp_path: Path) -> None:
    UMAP().set_output(transform="default").save(tmp_path)
    assert load(tmp_path)._sklearn_output_config == {"transform": "default"}


def test_a_class_of_the_user_comes_from_the_user(tmp_path: Path) -> None:
    path = Own(n_neighbors=7).save(tmp_path)
    with pytest.raises(ArchiveError, match=r"Pass classes=\[Own\]"):
        load(path)
    found = load(path, classes=[Own])
    assert type(found) is Own
    assert found.n_neighbors == 7


def test_a_class_of_the_user_may_have_the_name_of_ours(tmp_path: Path) -> None:
    own = type("UMAP", (UMAP,), {})
    path = UMAP().save(tmp_path)
    assert type(load(path, classes=[own])) is own
    assert type(load(path)) is UMAP


def test_the_first_of_two_classes_of_one_name_is_taken(tmp_path: Path) -> None:
    other = type("Own", (Own,), {})
    path = Own().save(tmp_path)
    assert type(load(path, classes=[Own, other])) is Own
    assert type(load(path, classes=[other, Own])) is other


def test_a_network_of_the_user_comes_back_by_its_class(tmp_path: Path) -> None:
    model = fitted(encoder=Affine(3))
    path = model.save(tmp_path)
    assert torch.equal(encoded(load(path, classes=[Affine])), encoded(model))
    with pytest.raises(ArchiveError, match=r"classes=\[Affine\]"):
        load(path)


def test_a_network_without_config_fills_a_copy_of_a_given_one(tmp_path: Path) -> None:
    model, ready = fitted(encoder=WithoutConfig(3)), WithoutConfig(3)
    before = ready.layer.weight.clone()
    path = model.save(tmp_path)
    assert torch.equal(encoded(load(path, encoder=ready)), encoded(model))
    assert torch.equal(ready.layer.weight, before)


def test_the_device_of_the_result_can_be_chosen(tmp_path: Path) -> None:
    path = ParametricUMAP(device="auto").save(tmp_path)
    assert load(path, device="cpu").device == "cpu"
    assert load_ParametricUMAP(path, device="cpu").device == "cpu"


def test_a_file_of_another_estimator_is_no_parametric_umap(tmp_path: Path) -> None:
    assert isinstance(load_ParametricUMAP(ParametricUMAP().save(tmp_path / "a")), ParametricUMAP)
    with pytest.raises(ArchiveError, match=r"Expected a ParametricUMAP.*the file holds a UMAP"):
        load_ParametricUMAP(UMAP().save(tmp_path / "b"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="nothing"):
        load(tmp_path / "nothing.neumap")
