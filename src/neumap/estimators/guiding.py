"""Whether a network of the user is guided by a cheaper one, and the guide itself.

The decision is made before the neighbour search, from parameters and counted operations, never from
time, which could differ between runs. What speaks against a guide stands in ``report_["guide"]``.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from neumap._random import torch_seeded
from neumap.callbacks import Callback, ProgressBar
from neumap.data import first_rows
from neumap.estimators.graph import Graph
from neumap.estimators.objective import Objective
from neumap.estimators.positions import NetworkPositions
from neumap.estimators.positions.decoding import mlp_flops
from neumap.estimators.positions.own import read_columns
from neumap.estimators.positions.presets import Budget
from neumap.estimators.recipe import Recipe
from neumap.estimators.task import Task
from neumap.losses.terms import Term, UmapTerm
from neumap.sampling import EdgeSampler
from neumap.training import EncoderEmbedder, InputNoise, Plan, train
from neumap.training.flops import counted_flops
from neumap.training.guide import GuidedEmbedder, RowsBetween, guided_terms

__all__ = ["Guidance", "Guided", "choose_guidance", "guided"]

# Operations of the user's network per row, relative to those of the preset's MLP, from which
# training a guide first is the shorter way; see "A guide" in docs/decisions.md.
EXPENSIVE = 5.0

# Steps of a guided training at 10,000 rows, for the preset "default". They grow with the square
# root of the number of rows.
STEPS = 450
FEWEST_STEPS, MOST_STEPS = 300, 1100
REFERENCE_ROWS, REFERENCE_PRESET = 10_000, 1500

# Share of the training in which the guide leads. The rest is UMAP's own objective.
LEADS = 2 / 3

BATCH_EDGES = 256

# Operations per second of the package's MLP, relative to those of convolutions: for the time left
# that a progress bar shows, and for the part of `max_time` that a guide gets.
SPEED = 2.0
LARGEST_SHARE = 0.5
SHORTEST_TIME = 0.01

# Terms that act while the guide leads as well.
KEPT_TERMS = ("reconstruction_loss", "regularization_loss")


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
    cost : float
        Operations of the network per row, relative to those of the preset's MLP.
    is_restored : bool
        Whether a checkpoint brings the weights of the guide, which is then not trained again.
    """

    text: str
    module: nn.Module | None = None
    is_trained: bool = False
    cost: float = 1.0
    is_restored: bool = False

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
    if recipe.n_epochs == 0:
        return Guidance("none: n_epochs=0 trains nothing")
    if task.warm_start is not None:
        return Guidance("none: the fit keeps given positions")
    shaped = _what_shapes(recipe.objective)
    if not isinstance(positions.guide, str):
        return _given(positions.guide, task, recipe, shaped)
    obstacle = None if shaped is None else f"{shaped} shapes the map as well"
    obstacle = obstacle or _why_not_trained(task, recipe, positions, encoder)
    if obstacle is not None:
        return Guidance(f"none: {obstacle}")
    cost = _relative_cost(task, recipe, positions, encoder)
    if cost is None:
        return Guidance("none: the operations of the encoder cannot be counted")
    if cost < EXPENSIVE:
        return Guidance(
            f"none: the encoder costs {cost:.1f} times the package's, below {EXPENSIVE:g}"
        )
    return Guidance("trained first", is_trained=True, cost=cost)


def _what_shapes(objective: Objective) -> str | None:
    """Return the parameter whose term shapes the map besides UMAP's own, if there is one."""
    decoder = objective.reconstruction
    terms = {
        "classifier_loss_weight": objective.classifier_weight != 0,
        "autoencoder_loss": decoder is not None and decoder.trains_encoder,
        "global_correlation_loss_weight": objective.correlation_weight != 0,
        "densmap": objective.density is not None,
        "output_metric": objective.metric is not None,
    }
    return next((name for name, acts in terms.items() if acts), None)


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
    with torch_seeded(task.seed, "trial"):  # the network may draw random numbers
        columns = read_columns(encoder, first_rows(task.rows))
    if columns is None or not columns.any():  # a table of embeddings reads codes
        return "the encoder does not read rows as measurements"
    return None


def _relative_cost(
    task: Task, recipe: Recipe, positions: NetworkPositions, encoder: nn.Module
) -> float | None:
    """Return the operations of a network, relative to the preset's MLP; None if not countable."""
    own = counted_flops(encoder, first_rows(task.rows))
    if own is None:
        return None
    return own / mlp_flops(task.rows.n_features, positions.preset.hidden, recipe.n_components)


def _given(guide: Any, task: Task, recipe: Recipe, shaped: str | None) -> Guidance:
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
    if shaped is not None:
        raise ValueError(
            f"guide must be 'auto' or None together with {shaped}, which shapes the map as well, "
            f"got a model. Leave out guide or {shaped}."
        )
    module = copy.deepcopy(fitted.encoder).to(task.device).eval()
    return Guidance("as passed", _Placing(module, fitted.row_shape))


# ---- training with a guide ----------------------------------------------------------------------


@dataclass(frozen=True)
class Guided:
    """What is trained in place of an embedder alone.

    Attributes
    ----------
    embedder, terms, plan
        As :func:`neumap.training.train` takes them.
    part : tuple of float
        Where this training begins and ends in the work of the whole, 0 to 1.
    """

    embedder: GuidedEmbedder
    terms: list[Term]
    plan: Plan
    part: tuple[float, float]


def guided(
    task: Task,
    recipe: Recipe,
    graph: Graph,
    guidance: Guidance,
    embedder: EncoderEmbedder,
    terms: Sequence[Term],
    callbacks: Sequence[Callback] = (),
) -> Guided:
    """Return the training of an embedder under a guide, trained now unless it was passed.

    Parameters
    ----------
    task, recipe, graph
        Of the fit.
    guidance : Guidance
        The decision for a guide.
    embedder, terms
        What would be trained without one.
    callbacks : sequence of Callback
        Those of the user; a progress bar shows the training of the guide as well.
    """
    positions, n_rows = recipe.positions, task.rows.n_rows
    assert isinstance(positions, NetworkPositions)
    plan = _guided_plan(positions.plan(n_rows, graph.total_weight), n_rows, positions)
    guide, begins = guidance.module, 0.0
    if guide is None:
        own = _own_positions(positions)
        of_guide = own.plan(n_rows, graph.total_weight)
        begins = _share_of_guide(of_guide, plan, guidance.cost)
        began = time.perf_counter()
        if guidance.is_restored:
            guide = own.network(task).eval()
        else:
            guide = _train_guide(task, recipe, graph, own, begins, callbacks)
        if plan.max_time is not None:
            left = plan.max_time - (time.perf_counter() - began)
            plan = replace(plan, max_time=max(left, SHORTEST_TIME * plan.max_time))
    noise = None
    if embedder.noise is not None:  # the same amounts, other numbers
        noise = InputNoise(embedder.noise.scale, task.seed + 1, embedder.noise.basis)
    between = RowsBetween(noise, task.seed)
    under = GuidedEmbedder(embedder, guide, between, LEADS)
    return Guided(under, guided_terms(under, terms, KEPT_TERMS), plan, (begins, 1.0))


def _guided_plan(plan: Plan, n_rows: int, positions: NetworkPositions) -> Plan:
    """Return the plan of a guided training, which has fewer steps unless `n_epochs` sets them."""
    budget = positions.budget
    if budget.n_epochs is not None:
        return plan
    n_steps = min(max(STEPS * math.sqrt(n_rows / REFERENCE_ROWS), FEWEST_STEPS), MOST_STEPS)
    n_steps *= positions.preset.n_steps / REFERENCE_PRESET * budget.n_training_epochs
    batch = budget.batch_size or max(min(BATCH_EDGES, n_rows // 4), plan.batch_edges // 2)
    return replace(plan, n_steps=max(2, round(n_steps)), batch_edges=batch)


def _share_of_guide(of_guide: Plan, plan: Plan, cost: float) -> float:
    """Return the share of the work that training the guide is, by counted operations."""
    guide = of_guide.n_steps * of_guide.batch_edges / SPEED
    own = plan.n_steps * plan.batch_edges * cost
    return min(guide / (guide + own), LARGEST_SHARE)


def _own_positions(asked: NetworkPositions) -> NetworkPositions:
    """Return the settings of the preset's MLP in place of those of the user's network."""
    budget = Budget(None, 1, None, 1, 1.0, asked.budget.max_time)
    return replace(asked, encoder=None, optimizer=None, guide=None, budget=budget)


def _train_guide(
    task: Task,
    recipe: Recipe,
    graph: Graph,
    positions: NetworkPositions,
    share: float,
    callbacks: Sequence[Callback],
) -> nn.Module:
    """Return the preset's MLP, trained on the same rows and the same graph."""
    network = positions.network(task)
    forces, plan = positions.forces, positions.plan(task.rows.n_rows, graph.total_weight)
    if plan.max_time is not None:
        plan = replace(plan, max_time=plan.max_time * share)
    train(
        positions.build(task, network, graph),
        [UmapTerm(recipe.kernel, forces.softening, forces.n_negatives)],
        EdgeSampler(graph.fuzzy, seed=task.seed, device=task.device),
        plan,
        seed=task.seed,
        optimizer=positions.optimizer_factory(),
        callbacks=[callback for callback in callbacks if isinstance(callback, ProgressBar)],
        part=(0.0, share),
    )
    return network.eval()
