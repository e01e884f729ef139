"""How attraction and repulsion are balanced for one kind of positions."""

from __future__ import annotations

from dataclasses import dataclass

from neumap.losses.terms import Softening

__all__ = ["Forces"]


@dataclass(frozen=True)
class Forces:
    """Settings of the objective that depend on what gives positions.

    Attributes
    ----------
    softening : Softening
        Course of eps; see :mod:`neumap.losses`.
    n_negatives : int
        Negatives per row and step.
    repulsion : float
        Factor on the weight of repulsion.
    density : float
        Factor on `dens_lambda`.
    """

    softening: Softening
    n_negatives: int
    repulsion: float
    density: float
