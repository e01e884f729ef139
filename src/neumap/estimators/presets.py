"""Presets: a network and a training budget under one name, with what each costs.

The figures behind the choices are in ``docs/decisions.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neumap.losses.terms import Softening
from neumap.training import Plan

__all__ = ["PRESETS", "Preset", "encoder_plan", "table_epochs", "table_plan"]


# Bounded forces for the first half, then the exact kernel.
BOUNDED_THEN_EXACT = Softening(start=1.0, end=0.01, hold=0.5)


@dataclass(frozen=True)
class Preset:
    """A default network and the course of its training.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    n_steps : int
        Optimiser steps of one training epoch, whatever the number of rows.
    batch_edges, final_batch_edges : int
        Edges per step at the start and at the end.
    peak_learning_rate : float
        For the default network and optimiser.
    softening : Softening
        Course of eps; see :mod:`neumap.losses`.
    n_partners : int
        Negatives per row and step.
    repulsion : float
        Factor on the weight of repulsion. A network moves a point together with its surroundings,
        which blunts the push of near negatives (Huang, Wang & Rudin 2024); 2 makes up for it.
    input_noise : float
        Standard deviation of the noise on training inputs, relative to the standard deviation of
        the data along their first principal component.
    """

    hidden: tuple[int, ...]
    n_steps: int
    batch_edges: int
    final_batch_edges: int
    peak_learning_rate: float
    softening: Softening = BOUNDED_THEN_EXACT
    n_partners: int = 32
    repulsion: float = 2.0
    input_noise: float = 0.05


PRESETS = {
    "fast": Preset((100, 100, 100), 1500, 256, 256, 6e-3),
    "default": Preset((256,) * 6, 2000, 512, 512, 3e-3),
    "best": Preset((512,) * 6, 4000, 512, 1024, 2e-3),
}

# A network the package did not build gets the step size that suits most of them.
FOREIGN_LEARNING_RATE = 1e-3

# Adam's step for free positions, in units of the layout (which starts 20 wide).
TABLE_LEARNING_RATE = 0.5


@dataclass(frozen=True)
class Budget:
    """What the user said about the length of training; None where nothing was said."""

    n_epochs: int | None
    n_training_epochs: int
    batch_size: int | None
    n_reports: int
    learning_rate: float
    max_time: float | None


def edge_visits(n_epochs: int, total_weight: float) -> float:
    """Return the draws of ``n_epochs`` of UMAP: each edge, both ways, as often as it weighs."""
    return n_epochs * 2.0 * total_weight


def encoder_plan(
    preset: Preset, budget: Budget, total_weight: float, *, own_network: bool, own_optimizer: bool
) -> Plan:
    """Return the plan for a network.

    Without ``n_epochs`` the preset's steps are taken, whatever the number of rows: a network
    learns one map, not one position per row. With it, as many steps as umap-learn would take.
    """
    start = budget.batch_size or preset.batch_edges
    end = budget.batch_size or preset.final_batch_edges
    n_steps = preset.n_steps
    if budget.n_epochs is not None:
        mean_edges = math.sqrt(start * end)
        n_steps = math.ceil(edge_visits(budget.n_epochs, total_weight) / mean_edges)
    peak = preset.peak_learning_rate if own_network else FOREIGN_LEARNING_RATE
    return Plan(
        n_steps=max(1, n_steps * budget.n_training_epochs),
        n_epochs=budget.n_reports,
        batch_edges=start,
        final_batch_edges=end,
        peak_learning_rate=None if own_optimizer else peak * budget.learning_rate,
        max_time=budget.max_time,
    )


def table_epochs(n_rows: int) -> int:
    """Return umap-learn's default number of epochs: 500 up to 10,000 rows, 200 beyond."""
    return 500 if n_rows <= 10_000 else 200


def table_plan(budget: Budget, n_rows: int, total_weight: float, *, own_optimizer: bool) -> Plan:
    """Return the plan for free positions: every row moves in almost every step."""
    n_epochs = budget.n_epochs if budget.n_epochs is not None else table_epochs(n_rows)
    edges = budget.batch_size or max(1, math.ceil(total_weight / 2))
    n_steps = math.ceil(edge_visits(n_epochs, total_weight) / edges / 4)
    return Plan(
        n_steps=max(1, n_steps * budget.n_training_epochs),
        n_epochs=budget.n_reports,
        batch_edges=edges,
        final_batch_edges=edges,
        peak_learning_rate=None if own_optimizer else TABLE_LEARNING_RATE * budget.learning_rate,
        warm_up=0.0,
        max_time=budget.max_time,
    )
