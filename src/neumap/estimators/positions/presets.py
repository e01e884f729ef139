"""Presets: a network and a training budget under one name, with what each costs.

The figures behind the choices are in ``docs/decisions.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from neumap.estimators.constraints import short_text
from neumap.losses.terms import Softening
from neumap.training import Plan

__all__ = [
    "PRESETS",
    "Budget",
    "Preset",
    "encoder_plan",
    "for_regression",
    "free_plan",
    "resolve_preset",
]


# Mostly bounded forces for the first half, then towards the exact kernel.
SOFT_THEN_EXACT = Softening(start=0.3, end=0.01, hold=0.5)

# A preset's number of steps is that for this number of rows. It grows with the rows, since more
# rows hold more detail, but slowly, since a network learns one function, not one position per row.
REFERENCE_ROWS = 10_000
STEP_GROWTH = 0.5
MOST_STEPS = 4.0

# The fewer rows there are, the farther apart they lie, and the more noise fills the gaps. A network
# of many rows can use more of their directions without fitting what is particular to them.
NOISE_ROWS = 4_000
NOISE_GROWTH = 0.25
NOISE_RANGE = (0.6, 1.6)
SUBSPACE_ROWS = 2_500
SUBSPACE_GROWTH = 0.5
LARGEST_SUBSPACE = 4


@dataclass(frozen=True)
class Preset:
    """A default network and the course of its training.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    n_steps : int
        Optimiser steps of one training epoch at 10,000 rows. They grow with the square root of the
        number of rows, up to four times this number; fewer rows get as many.
    batch_edges : int
        Edges per step; at most as many as there are rows.
    peak_learning_rate : float
        For the default network and optimiser.
    softening : Softening
        Course of eps; see :mod:`neumap.losses`.
    n_negatives : int
        Negatives per row and step.
    repulsion : float
        Factor on the weight of repulsion. A network moves a point together with its surroundings,
        which weakens the repulsion of near negatives (Huang, Wang & Rudin 2024). A factor of 2
        compensates for it.
    input_noise : float
        Length of the noise on a training row at 4,000 rows, relative to the mean distance between
        this row and its neighbours; see :meth:`noise`.
    subspace : int
        Principal directions of wide rows that the network reads, up to 2,500 rows; 0 for whole
        rows. See :meth:`directions`.
    n_auxiliary : int
        Auxiliary dimensions in the first half of a training from scratch, for built-in networks;
        see :class:`~neumap.training.AuxiliaryDimensions`.
    """

    hidden: tuple[int, ...]
    n_steps: int
    batch_edges: int
    peak_learning_rate: float
    softening: Softening = SOFT_THEN_EXACT
    n_negatives: int = 16
    repulsion: float = 2.0
    input_noise: float = 0.5
    subspace: int = 64
    n_auxiliary: int = 2

    def steps(self, n_rows: int) -> int:
        """Return the optimiser steps of one training epoch for this many rows."""
        growth = (n_rows / REFERENCE_ROWS) ** STEP_GROWTH
        factor: float = min(max(growth, 1.0), MOST_STEPS)
        return round(self.n_steps * factor)

    def noise(self, n_rows: int) -> float:
        """Return the relative length of the noise for this many rows."""
        scarcity = (NOISE_ROWS / n_rows) ** NOISE_GROWTH
        factor: float = min(max(scarcity, NOISE_RANGE[0]), NOISE_RANGE[1])
        return self.input_noise * factor

    def directions(self, n_rows: int, n_features: int) -> int | None:
        """Return how many principal directions of its rows a network reads; None for whole rows.

        Few rows do not show which of many directions matter: a network that reads all of them fits
        what is particular to the training rows. Rows that are not at least twice as wide are read
        whole.
        """
        growth: float = (n_rows / SUBSPACE_ROWS) ** SUBSPACE_GROWTH
        number = round(self.subspace * min(max(growth, 1.0), LARGEST_SUBSPACE))
        if not self.subspace or n_features < 2 * self.subspace:
            return None
        return min(number, n_features // 2, n_rows)


PRESETS = {
    "fast": Preset((128,) * 6, 600, 512, 5e-3),
    "default": Preset((192,) * 6, 1500, 512, 3.5e-3),
    "best": Preset((384,) * 6, 2600, 512, 2.5e-3),
}

# Regression on an embedding that exists takes more steps and more noise than UMAP's loss: each row
# has one target, which a network soon meets, and what remains to be learned lies between the rows.
REGRESSION_STEPS = 2.0
REGRESSION_NOISE = 2.0

SMALLEST_BATCH = 64

# User networks get a learning rate that suits most of them. The 1e-3 of umap-learn is too small for
# this number of steps: at 3e-3 and 6e-3 each of seven networks (MLPs with and without BatchNorm,
# convolutions, a transformer) had a better held-out accuracy on digits, by up to .15.
USER_LEARNING_RATE = 5e-3

# They train with Adam, which needs more steps than the built-in networks with Muon.
USER_STEPS = 1.5

# Free positions: the fraction of umap-learn's edge samples that is used, and the longest way of a
# point in one training (Adam's step size times the number of steps), in units of the layout, whose
# initial extent is 20. A short way keeps the order of the start. A random start has none, and a
# start that the user gives may be of any kind.
FREE_SAMPLES = 0.25
FREE_TRAVEL = 100.0
LONG_TRAVEL = 225.0
LARGEST_FREE_LEARNING_RATE = 1.0


def resolve_preset(preset: str | Preset) -> Preset:
    """Return a preset by its name.

    Raises
    ------
    ValueError
        If there is no preset of this name.
    """
    if isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(
            f"preset must be one of {list(PRESETS)} or a neumap.estimators.Preset, got "
            f"{short_text(preset)}. Change preset."
        )
    return PRESETS[preset]


def for_regression(preset: Preset) -> Preset:
    """Return a preset for learning positions that are given."""
    return replace(
        preset,
        n_steps=round(REGRESSION_STEPS * preset.n_steps),
        input_noise=REGRESSION_NOISE * preset.input_noise,
    )


@dataclass(frozen=True)
class Budget:
    """The length of training as the user set it; None where nothing was set."""

    n_epochs: int | None
    n_training_epochs: int
    batch_size: int | None
    n_reports: int
    learning_rate: float
    max_time: float | None


def edge_samples(n_epochs: int, total_weight: float) -> float:
    """Return the edge samples of ``n_epochs`` of UMAP: each edge by its weight, both ways."""
    return n_epochs * 2.0 * total_weight


def encoder_plan(
    preset: Preset,
    budget: Budget,
    n_rows: int,
    total_weight: float,
    *,
    is_builtin_network: bool,
    has_user_optimizer: bool,
) -> Plan:
    """Return the plan for a network.

    Without ``n_epochs`` the preset determines the steps; user networks take half as many again.
    With it, there are as many steps as umap-learn would take with this batch size.
    """
    batch = budget.batch_size or min(preset.batch_edges, max(SMALLEST_BATCH, n_rows))
    if budget.n_epochs is None:
        n_steps = round(preset.steps(n_rows) * (1.0 if is_builtin_network else USER_STEPS))
    else:
        n_steps = math.ceil(edge_samples(budget.n_epochs, total_weight) / batch)
    peak = preset.peak_learning_rate if is_builtin_network else USER_LEARNING_RATE
    return Plan(
        n_steps=max(1, n_steps * budget.n_training_epochs),
        n_reports=budget.n_reports,
        batch_edges=batch,
        peak_learning_rate=None if has_user_optimizer else peak * budget.learning_rate,
        max_time=budget.max_time,
    )


def free_epochs(n_rows: int) -> int:
    """Return umap-learn's default number of epochs: 500 up to 10,000 rows, 200 beyond."""
    return 500 if n_rows <= 10_000 else 200


def free_plan(
    budget: Budget,
    n_rows: int,
    total_weight: float,
    *,
    has_user_optimizer: bool,
    starts_in_order: bool = True,
) -> Plan:
    """Return the plan for free positions: one step per epoch, which moves every row.

    A step samples a quarter of the edges that an epoch of umap-learn samples. Adam needs no more:
    with momentum, and with every row moving at once, a layout converges in 200 to 500 steps.
    """
    n_epochs = budget.n_epochs if budget.n_epochs is not None else free_epochs(n_rows)
    samples = edge_samples(n_epochs, total_weight) * FREE_SAMPLES
    batch = budget.batch_size or math.ceil(samples / max(n_epochs, 1))
    n_steps = max(1, round(samples / max(batch, 1)))
    travel = FREE_TRAVEL if starts_in_order else LONG_TRAVEL
    peak = min(travel / n_steps, LARGEST_FREE_LEARNING_RATE)
    return Plan(
        n_steps=n_steps * budget.n_training_epochs,
        n_reports=budget.n_reports,
        batch_edges=max(batch, 1),
        peak_learning_rate=None if has_user_optimizer else peak * budget.learning_rate,
        warm_up=0.0,
        max_time=budget.max_time,
    )
