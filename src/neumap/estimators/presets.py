"""Presets: a network and a training budget under one name, with what each costs.

The figures behind the choices are in ``docs/decisions.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neumap.losses.terms import Softening
from neumap.training import Plan

__all__ = ["PRESETS", "Preset", "encoder_plan", "table_epochs", "table_plan"]


# Mostly bounded forces for the first half, then towards the exact kernel.
SOFT_THEN_EXACT = Softening(start=0.3, end=0.01, hold=0.5)

# Rows at which a preset's number of steps holds, and how steps grow with rows around it: more
# rows hold more detail, but a network learns one map, not one position per row.
REFERENCE_ROWS = 10_000
STEP_GROWTH = 0.5
STEP_RANGE = (0.5, 4.0)
NOISE_GROWTH = 0.5
LARGEST_NOISE = 3.0


@dataclass(frozen=True)
class Preset:
    """A default network and the course of its training.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    n_steps : int
        Optimiser steps of one training epoch at 10,000 rows; they grow as the square root of the
        rows, between half and four times this number.
    batch_edges : int
        Edges per step; small data take fewer, a quarter of their rows.
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
        Standard deviation of the noise on training inputs at 10,000 rows, relative to the
        standard deviation of the data along their first principal component; see :meth:`noise`.
    n_spare : int
        Dimensions lent to the map for the first half of a training from scratch; see
        :class:`~neumap.training.AuxiliaryDimensions`. For networks that the package builds.
    """

    hidden: tuple[int, ...]
    n_steps: int
    batch_edges: int
    peak_learning_rate: float
    softening: Softening = SOFT_THEN_EXACT
    n_partners: int = 16
    repulsion: float = 2.0
    input_noise: float = 0.03
    n_spare: int = 2

    def noise(self, n_rows: int) -> float:
        """Return the noise for this many rows: the fewer, the more there is to smooth over."""
        scarcity: float = (REFERENCE_ROWS / n_rows) ** NOISE_GROWTH
        return min(self.input_noise * scarcity, LARGEST_NOISE * self.input_noise)

    def steps(self, n_rows: int) -> int:
        """Return the optimiser steps of one training epoch for this many rows."""
        growth = (n_rows / REFERENCE_ROWS) ** STEP_GROWTH
        factor: float = min(max(growth, STEP_RANGE[0]), STEP_RANGE[1])
        return round(self.n_steps * factor)


PRESETS = {
    "fast": Preset((128,) * 6, 600, 512, 5e-3),
    "default": Preset((192,) * 6, 1200, 512, 3.5e-3, input_noise=0.04),
    "best": Preset((384,) * 6, 2600, 512, 2.5e-3, input_noise=0.07),
}

SMALLEST_BATCH = 64

# A network the package did not build gets the step size that suits most of them. umap-learn's
# 1e-3 is too small for this number of steps: at 3e-3 and 6e-3 each of seven networks (MLPs with and
# without BatchNorm, convolutions, a transformer) placed held-out digits better, by up to .15.
FOREIGN_LEARNING_RATE = 5e-3

# It is trained with Adam, which takes more steps than the package's own networks with Muon.
FOREIGN_STEPS = 1.5

# Free positions: share of umap-learn's edge draws that are taken, and how far a point can go in
# one training, in units of the layout (which starts 20 wide): Adam's step times their number.
TABLE_DRAWS = 0.25
TABLE_TRAVEL = 225.0
LARGEST_TABLE_LEARNING_RATE = 1.0


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
    preset: Preset,
    budget: Budget,
    n_rows: int,
    total_weight: float,
    *,
    own_network: bool,
    own_optimizer: bool,
) -> Plan:
    """Return the plan for a network.

    Without ``n_epochs`` the preset decides on the steps, half as many again for a network that the
    package did not build. With it, as many are taken as umap-learn would take with this batch size.
    """
    batch = budget.batch_size or min(preset.batch_edges, max(SMALLEST_BATCH, n_rows // 4))
    if budget.n_epochs is None:
        n_steps = round(preset.steps(n_rows) * (1.0 if own_network else FOREIGN_STEPS))
    else:
        n_steps = math.ceil(edge_visits(budget.n_epochs, total_weight) / batch)
    peak = preset.peak_learning_rate if own_network else FOREIGN_LEARNING_RATE
    return Plan(
        n_steps=max(1, n_steps * budget.n_training_epochs),
        n_reports=budget.n_reports,
        batch_edges=batch,
        peak_learning_rate=None if own_optimizer else peak * budget.learning_rate,
        max_time=budget.max_time,
    )


def table_epochs(n_rows: int) -> int:
    """Return umap-learn's default number of epochs: 500 up to 10,000 rows, 200 beyond."""
    return 500 if n_rows <= 10_000 else 200


def table_plan(budget: Budget, n_rows: int, total_weight: float, *, own_optimizer: bool) -> Plan:
    """Return the plan for free positions: one step per epoch, in which every row moves.

    A step draws a quarter of the edges that an epoch of umap-learn draws. Adam needs no more: with
    momentum, and with every row moving at once, 200 to 500 steps settle a layout.
    """
    n_epochs = budget.n_epochs if budget.n_epochs is not None else table_epochs(n_rows)
    draws = edge_visits(n_epochs, total_weight) * TABLE_DRAWS
    batch = budget.batch_size or math.ceil(draws / max(n_epochs, 1))
    n_steps = max(1, round(draws / max(batch, 1)))
    peak = min(TABLE_TRAVEL / n_steps, LARGEST_TABLE_LEARNING_RATE)
    return Plan(
        n_steps=n_steps * budget.n_training_epochs,
        n_reports=budget.n_reports,
        batch_edges=max(batch, 1),
        peak_learning_rate=None if own_optimizer else peak * budget.learning_rate,
        warm_up=0.0,
        max_time=budget.max_time,
    )
