"""Whether a network of the user is guided by a cheaper one, and the guide itself.

The decision is made before the neighbour search, from parameters and counted operations, never from
time, which could differ between runs. What speaks against a guide stands in ``report_["guide"]``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neumap._modes import evaluating
from neumap.callbacks import Callback
from neumap.data import RowStore
from neumap.estimators.graph import Graph
from neumap.estimators.positions import NetworkPositions
from neumap.estimators.positions.decoding import mlp_flops
from neumap.estimators.positions.networks import input_noise
from neumap.estimators.positions.presets import Budget
from neumap.estimators.recipe import Recipe
from neumap.estimators.task import Task
from neumap.losses.terms import Term, UmapTerm
from neumap.sampling import EdgeSampler
from neumap.training import EncoderEmbedder, InputNoise, Plan, train
from neumap.training.flops import forward_flops
from neumap.training.guide import GuidedEmbedder, RowsBetween, guided_terms

__all__ = ["Guidance", "Guided", "choose_guidance", "guided"]

# Operations of the user's network per row, relative to those of the preset's MLP, from which
# training a guide first is the shorter way; see "A guide" in docs/decisions.md.
EXPENSIVE = 5.0

# Steps of a guided training at 10,000 rows, for the preset "default". They grow with the square
# root of the number of rows.
STEPS = 450
FEWEST_STEPS, MOST_STEPS = 300, 1100
REFERENCE_ROWS, REFERENCE_PRESET = 10_000, 1200

# Share of the training in which the guide leads. The rest is UMAP's own objective.
LEADS = 2 / 3

BATCH_EDGES = 256

# Terms that act while the guide leads as well.
KEPT_TERMS = ("reconstruction_loss", "regularization_loss")

COUNTED_ROWS = 8


class _Placing(nn.Module):
    """A fitted encoder on rows of another shape."""

    def __init__(self, encoder: nn.Module, row_shape: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.row_shape = tuple(row_shape)

    def forward(self, rows: Tensor) -> Tensor:
        placed: Tensor = self.encoder(rows.reshape(len(rows), *self.row_shape).clone())
        return placed


@dataclass(frozen=True)
class Guidance:
    """The decision about a guide.

    Attributes
    ----------
    text : str
        For the report.
    module : nn.Module or None
        A guide that was passed.
    is_trained : bool
        Whether a guide is trained first.
    """

    text: str
    module: nn.Module | None = None
    is_trained: bool = False

    @property
    def applies(self) -> bool:
        """Whether there is a guide."""
        return self.is_trained or self.module is not None


def choose_guidance(task: Task, recipe: Recipe, encoder: nn.Module | None) -> Guidance:
    """Decide about a guide.

    Raises
    ------
    ValueError
        If a guide was passed that cannot guide this fit.
    """
    positions = recipe.positions
    if not isinstance(positions, NetworkPositions) or encoder is None:
        return Guidance("none: positions are free")
    if positions.guide is None:
        return Guidance("none: guide=None")
    obstacle = _obstacle(task, recipe)
    if not isinstance(positions.guide, str):
        return _given(positions.guide, task, recipe, obstacle)
    obstacle = obstacle or _why_not_trained(task, recipe, positions, encoder)
    return Guidance(f"none: {obstacle}") if obstacle else Guidance("trained first", is_trained=True)


def _obstacle(task: Task, recipe: Recipe) -> str | None:
    """Return what no guide can be combined with, if there is something."""
    objective = recipe.objective
    reasons = {
        "n_epochs=0 trains nothing": recipe.n_epochs == 0,
        "the fit keeps given positions": task.warm_start is not None,
        "a classifier shapes the map": objective.classifier_weight != 0,
        "a decoder shapes the map (autoencoder_loss)": objective.reconstruction is not None
        and objective.reconstruction.trains_encoder,
        "global_correlation_loss_weight shapes the map": objective.correlation_weight != 0,
        "densmap shapes the map": objective.density is not None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _why_not_trained(
    task: Task, recipe: Recipe, positions: NetworkPositions, encoder: nn.Module
) -> str | None:
    """Return what speaks against training a guide first, if there is something."""
    metric = positions.metric
    if positions.is_builtin_network:
        return "the encoder is one of the package"
    if recipe.n_epochs is not None:
        return "n_epochs sets the length of the training"
    if not (isinstance(metric, str) and metric in ("euclidean", "l2")):
        return "not measured for this metric"
    probe = task.rows.gather(torch.arange(COUNTED_ROWS) % task.rows.n_rows)
    if not _is_smooth(encoder, probe):
        return "the encoder does not read rows as measurements"
    try:
        own = forward_flops(encoder, probe)
    except Exception:  # of any kind: torch's counter meets layers of the user
        return "the operations of the encoder cannot be counted"
    cheap = mlp_flops(task.rows.n_features, positions.preset.hidden, recipe.n_components)
    if own < EXPENSIVE * cheap:
        return f"the encoder costs {own / cheap:.1f} times the package's, below {EXPENSIVE:g}"
    return None


def _is_smooth(encoder: nn.Module, probe: Tensor) -> bool:
    """Whether gradients reach the rows: a table of embeddings reads codes, which have none."""
    rows = probe.clone().requires_grad_(True)
    try:
        with evaluating(encoder, to_be_trained=True), torch.enable_grad():
            output = encoder(rows * 1.0)
            (slope,) = torch.autograd.grad(output.float().sum(), rows, allow_unused=True)
    except Exception:  # of any kind: an operation may have no gradient for its input
        return False
    return slope is not None and bool(slope.any())


def _given(guide: Any, task: Task, recipe: Recipe, obstacle: str | None) -> Guidance:
    """Return a fitted model as the guide.

    Raises
    ------
    ValueError
        If it cannot guide this fit.
    """
    fitted = vars(guide).get("_fitted")
    if fitted is None or fitted.encoder is None:
        raise ValueError(
            "guide must be a fitted ParametricUMAP with an encoder, got one "
            f"{'that is not fitted' if fitted is None else 'without an encoder'}. Call "
            "guide.fit(X) first, with parametric_embedding=True."
        )
    for name, found, wanted in (
        ("features", fitted.n_features, task.data.n_features),
        ("components", fitted.n_components, recipe.n_components),
    ):
        if found != wanted:
            raise ValueError(
                f"guide must have the {name} of this fit, {wanted}, got {found}. Fit the guide on "
                "the same rows with the same n_components."
            )
    if obstacle is not None:
        raise ValueError(
            f"guide must be 'auto' or None for this fit, got a model, but {obstacle}. Leave guide "
            "out."
        )
    module = copy.deepcopy(fitted.encoder).to(task.device).eval()
    return Guidance("as passed", _Placing(module, fitted.row_shape))


# ---- training with a guide ----------------------------------------------------------------------


@dataclass(frozen=True)
class Guided:
    """What is trained in place of an embedder alone."""

    embedder: GuidedEmbedder
    terms: list[Term]
    plan: Plan


def guided(
    task: Task,
    recipe: Recipe,
    graph: Graph,
    guidance: Guidance,
    embedder: EncoderEmbedder,
    terms: Sequence[Term],
) -> Guided:
    """Return the training of an embedder under a guide, trained now unless it was passed."""
    guide = guidance.module or train_guide(task, recipe, graph)
    positions = recipe.positions
    assert isinstance(positions, NetworkPositions)
    relative = positions.preset.noise(task.rows.n_rows)
    noise = InputNoise(relative * _scale(guide, task.rows, task.seed), task.seed + 1)
    between = RowsBetween(noise, task.seed, task.device)
    embedder = GuidedEmbedder(embedder, guide, between, LEADS)
    plan = positions.plan(task.rows.n_rows, graph.total_weight)
    return Guided(
        embedder, guided_terms(embedder, terms, KEPT_TERMS), _guided_plan(plan, task, positions)
    )


def _scale(guide: nn.Module, rows: RowStore, seed: int) -> float:
    known = input_noise(guide, 1.0, seed)
    return known.scale if known is not None else rows.mean_and_scale(seed=seed).scale


def _guided_plan(plan: Plan, task: Task, positions: NetworkPositions) -> Plan:
    growth = math.sqrt(task.rows.n_rows / REFERENCE_ROWS) * STEPS
    n_steps = min(max(growth, FEWEST_STEPS), MOST_STEPS)
    n_steps *= positions.preset.n_steps / REFERENCE_PRESET * positions.budget.n_training_epochs
    batch = positions.budget.batch_size or BATCH_EDGES
    return replace(plan, n_steps=max(2, round(n_steps)), batch_edges=batch)


def train_guide(
    task: Task, recipe: Recipe, graph: Graph, callbacks: Sequence[Callback] = ()
) -> nn.Module:
    """Return the preset's MLP, trained on the same rows and the same graph."""
    asked = recipe.positions
    assert isinstance(asked, NetworkPositions)
    positions = replace(
        asked,
        encoder=None,
        optimizer=None,
        guide=None,
        budget=Budget(None, 1, None, 1, 1.0, asked.budget.max_time),
    )
    network = positions.network(task)
    embedder = positions.build(task, network, graph)
    forces = positions.forces
    kernel = recipe.objective.similarity.kernel(forces)
    train(
        embedder,
        [UmapTerm(kernel, forces.softening, forces.n_negatives)],
        EdgeSampler(graph.fuzzy, seed=task.seed, device=task.device),
        positions.plan(task.rows.n_rows, graph.total_weight),
        seed=task.seed,
        optimizer=positions.optimizer_factory(),
        callbacks=callbacks,
    )
    return network.eval()
