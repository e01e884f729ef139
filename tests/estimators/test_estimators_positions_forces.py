"""Forces: the balance of attraction and repulsion reaches the objective whole."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from neumap import UMAP, ParametricUMAP
from neumap.estimators.positions.forces import Forces
from neumap.estimators.positions.presets import PRESETS


@pytest.mark.parametrize(
    ("model", "repulsion"),
    [
        (UMAP(), 0.7),
        (ParametricUMAP(parametric_embedding=False), 0.7),
        (ParametricUMAP(preset="best"), PRESETS["best"].repulsion),
    ],
)
def test_each_kind_of_positions_has_forces_of_its_own(model: Any, repulsion: float) -> None:
    forces = model._recipe().positions.forces
    assert isinstance(forces, Forces)
    assert forces.repulsion == repulsion


def test_networks_stay_soft_for_longer_than_free_positions() -> None:
    """A network cannot move rows one by one, and needs bounded forces to pass others."""
    free, network = (m._recipe().positions.forces for m in (UMAP(), ParametricUMAP()))
    for progress in (0.0, 0.3, 0.5, 0.9):
        assert network.softening(progress) > free.softening(progress)


def test_forces_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        UMAP()._recipe().positions.forces.repulsion = 1.0  # type: ignore[misc]
