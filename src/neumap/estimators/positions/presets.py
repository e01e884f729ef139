"""Presets: a network and a training budget under one name, with what each costs.

The figures behind the choices are in ``docs/decisions.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neumap.estimators.constraints import short_text
from neumap.losses.terms import Softening
from neumap.training import Plan

__all__ = ["PRESETS", "Budget", "Preset", "encoder_plan", "free_plan", "resolve_preset"]


# Mostly bounded forces for the first half, then towards the exact kernel.
SOFT_THEN_EXACT = Softening(start=0.3, end=0.01, hold=0.5)

# A preset's number of steps is that for this number of rows. It grows with the rows, since more
# rows hold more detail, but slowly, since a network learns one function, not one position per row.
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
        Optimiser steps of one training epoch at 10,000 rows. They grow with the square root of the
        number of rows, between half and four times this number.
    batch_edges : int
        Edges per step. For small data a quarter of the number of rows, if that is less.
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
        Standard deviation of the noise on training inputs at 10,000 rows, relative to the
        standard deviation of the data along their first principal component; see :meth:`noise`.
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
    input_noise: float = 0.03
    n_auxiliary: int = 2

    def noise(self, n_rows: int) -> float:
        """Return the noise for this many rows. Fewer rows need more smoothing."""
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

# User networks get a learning rate that suits most of them. The 1e-3 of umap-learn is too small for
# this number of steps: at 3e-3 and 6e-3 each of seven networks (MLPs with and without BatchNorm,
# convolutions, a transformer) had a better held-out accuracy on digits, by up to .15.
USER_LEARNING_RATE = 5e-3

# They take more steps than the built-in networks; expensive ones fewer, see ``own.shortened``.
USER_STEPS = 1.5

# Free positions: the fraction of umap-learn's edge samples that is used, and the longest way of a
# point in one training (Adam's step size times the number of steps), in units of the layout, whose
# initial extent is 20.
FREE_SAMPLES = 0.25
FREE_TRAVEL = 225.0
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
    batch = budget.batch_size or min(preset.batch_edges, max(SMALLEST_BATCH, n_rows // 4))
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
    budget: Budget, n_rows: int, total_weight: float, *, has_user_optimizer: bool
) -> Plan:
    """Return the plan for free positions: one step per epoch, which moves every row.

    A step samples a quarter of the edges that an epoch of umap-learn samples. Adam needs no more:
    with momentum, and with every row moving at once, a layout converges in 200 to 500 steps.
    """
    n_epochs = budget.n_epochs if budget.n_epochs is not None else free_epochs(n_rows)
    samples = edge_samples(n_epochs, total_weight) * FREE_SAMPLES
    batch = budget.batch_size or math.ceil(samples / max(n_epochs, 1))
    n_steps = max(1, round(samples / max(batch, 1)))
    peak = min(FREE_TRAVEL / n_steps, LARGEST_FREE_LEARNING_RATE)
    return Plan(
        n_steps=n_steps * budget.n_training_epochs,
        n_reports=budget.n_reports,
        batch_edges=max(batch, 1),
        peak_learning_rate=None if has_user_optimizer else peak * budget.learning_rate,
        warm_up=0.0,
        max_time=budget.max_time,
    )
