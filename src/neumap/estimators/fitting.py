"""The path of a fit, top to bottom: from checked data and a recipe to what was learned.

Everything that can be refused is refused before the neighbour search, which is the longest part
of a fit on many rows. Nothing of an estimator is touched here: a fit returns a value.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import nn

from neumap._modes import evaluating, own_torch_state
from neumap._random import numpy_generator
from neumap.callbacks import Callback, TrainingRun
from neumap.data import RowStore, Validated, as_rows, check_input, find_non_finite
from neumap.estimators.fitted import Fitted
from neumap.estimators.graph import (
    TRIAL_ROWS,
    Graph,
    build_graph,
    check_metric,
    check_supervision,
)
from neumap.estimators.guiding import Guidance, choose_guidance, guided
from neumap.estimators.landmarks import WarmStart, drift
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.estimators.objective import Networks
from neumap.estimators.positions import NetworkPositions
from neumap.estimators.positions.networks import tie_parameters
from neumap.estimators.radii import embedded_radii
from neumap.estimators.recipe import Recipe
from neumap.estimators.task import Task, prepare
from neumap.fuzzy import FuzzyGraph
from neumap.losses.reconstruction import ReconstructionTerm
from neumap.losses.terms import Term
from neumap.metrics import distance_correlation
from neumap.sampling import EdgeSampler
from neumap.training import Embedder, EncoderEmbedder, Plan, train, training_precision
from neumap.training.embedders import rows_to_write_on
from neumap.training.loop import History, Validation

__all__ = ["fit_map"]

logger = logging.getLogger(__name__)


@own_torch_state()
def fit_map(
    data: Validated,
    recipe: Recipe,
    *,
    y: Any = None,
    distances: Any = None,
    graph: FuzzyGraph | None = None,
    warm_start: WarmStart | None = None,
    sample_weight: Any = None,
) -> Fitted:
    """Learn the embedding of checked data.

    Parameters
    ----------
    data : Validated
        Training rows.
    recipe : Recipe
        All settings.
    y : array-like, optional
        Labels or values of the rows.
    distances : array or sparse matrix of shape (n_samples, n_samples), optional
        Used in place of rows in the neighbour search.
    graph : FuzzyGraph, optional
        Used in place of a neighbour search.
    warm_start : WarmStart, optional
        What the fit takes over from an earlier one.
    sample_weight : array-like of shape (n_samples,), optional
        Weights of rows in the training.

    Raises
    ------
    ValueError, TypeError
        If a parameter, the data or a network cannot be used.
    TrainingDivergedError
        If the loss is no longer finite.
    """
    began = time.perf_counter()
    recipe.check()
    task = prepare(
        data,
        y,
        dims=recipe.dims,
        unique=recipe.unique,
        device=recipe.device,
        random_state=recipe.random_state,
        warm_start=warm_start,
        sample_weight=sample_weight,
    )
    if task.targets is not None:
        check_supervision(task.targets, recipe.targets)
    if graph is None:
        _try_metric(task, recipe)
    networks, validate, guidance = Networks(), None, Guidance("none")
    if not recipe.stops_at_graph:
        networks = _networks(task, recipe)
        _try_optimizer(task, recipe, networks)
        guidance = choose_guidance(task, recipe, networks.encoder)
        validate = _validation(task, recipe, networks)

    found = _graph(task, recipe, distances) if graph is None else Graph(None, graph)
    learned = _of_graph(task, recipe, found)
    if recipe.stops_at_graph:
        return learned
    if task.row_weights is not None:
        found = found.weighted(task.row_weights)

    embedder = recipe.positions.build(task, networks.encoder, found)
    trained = time.perf_counter()
    terms = recipe.objective.terms(task, networks, found, embedder, recipe.positions.forces)
    course = _course(task, recipe, found, guidance, embedder, terms)
    history, counter = _train(task, recipe, found, course, validate)
    positions = _positions(embedder, found)
    report = {
        **_report(task, recipe, found, positions, counter.n_steps),
        **_of_networks(course, counter),
        "guide": guidance.text,
    }
    now = time.perf_counter()
    seconds = {"training_seconds": now - trained, "total_seconds": now - began}
    logger.info("fitted %d rows in %.1f s", task.rows.n_rows, seconds["total_seconds"])
    return replace(
        learned,
        embedding=task.expand(positions),
        history=_continued(warm_start, history),
        report={**report, **seconds},
        encoder=networks.encoder,
        decoder=networks.decoder,
        reconstruction_loss=networks.reconstruction_loss,
        classifier=networks.classifier,
        classes=None if networks.classes is None else networks.classes.labels,
        rad_orig=task.expand(found.radii()) if recipe.keeps_radii else None,
        rad_emb=_embedded_radii(task, recipe, positions),
    )


def _try_metric(task: Task, recipe: Recipe) -> None:
    """Compute a few distances, where the metric is not one of distances that are given."""
    metric = recipe.graph.metric
    is_given = isinstance(metric, str) and metric == "precomputed"
    # A function of sparse rows has other arguments, where pynndescent calls it.
    if is_given or (callable(metric) and scipy.sparse.issparse(task.X)):
        return
    first = torch.arange(min(TRIAL_ROWS, task.rows.n_rows))
    check_metric(recipe.graph, task.rows.gather(first).flatten(1).cpu().numpy())


def _networks(task: Task, recipe: Recipe) -> Networks:
    """Build or copy the networks, which fails for those that do not fit the rows."""
    encoder = recipe.positions.network(task)
    networks = recipe.objective.networks(
        task, encoder, recipe.n_components, learns=recipe.n_epochs != 0
    )
    positions, reconstruction = recipe.positions, recipe.objective.reconstruction
    if isinstance(positions, NetworkPositions):
        if reconstruction is not None:
            tie_parameters(
                (positions.encoder, reconstruction.decoder), networks.encoder, networks.decoder
            )
        _check_trainable(networks, recipe.n_epochs)
        if recipe.n_epochs != 0:
            _check_missing(task, encoder)
    return networks


def _check_missing(task: Task, encoder: nn.Module | None) -> None:
    """Raise ValueError if rows hold NaN or infinity, of which the encoder makes no position."""
    if encoder is None or task.data.is_finite:
        return
    found = find_non_finite(task.rows)
    first = found.first_nan or found.first_inf
    if first is None:
        return
    row = task.rows.gather(torch.tensor(first[:1], device=task.device))
    with evaluating(encoder):
        is_read = bool(encoder(rows_to_write_on(encoder, row)).isfinite().all())
    if not is_read:
        number = first[0] if task.distinct is None else task.distinct.first[first[0]]
        raise ValueError(
            f"X must hold finite values where this encoder learns from it, got "
            f"{found.n_nan + found.n_inf} NaN or infinite value(s), the first in row {number}. "
            "Impute them, pass an encoder that replaces them in its forward, or set "
            "parametric_embedding=False."
        )


def _check_trainable(networks: Networks, n_epochs: int | None) -> None:
    """Raise ValueError if networks should be trained, but hold no parameters to train."""
    modules = (networks.encoder, networks.decoder, networks.classifier)
    parameters = [p for m in modules if m is not None for p in m.parameters()]
    if n_epochs == 0 or any(p.requires_grad for p in parameters):
        return
    raise ValueError(
        "encoder must have parameters to train, got none with requires_grad=True. Unfreeze some "
        "with encoder.requires_grad_(True), or set n_epochs=0 to use the network as it is."
    )


def _try_optimizer(task: Task, recipe: Recipe, networks: Networks) -> None:
    """Make the user's optimiser for copies of the parameters, on which it may set hooks."""
    if recipe.positions.optimizer is None or recipe.n_epochs == 0:
        return
    modules = (networks.encoder, networks.decoder, networks.classifier)
    parameters = [p for m in modules if m is not None for p in m.parameters() if p.requires_grad]
    if networks.encoder is None:
        positions = torch.zeros(task.rows.n_rows, recipe.n_components, device=task.device)
        parameters.append(nn.Parameter(positions))
    recipe.positions.optimizer_factory()([nn.Parameter(torch.zeros_like(p)) for p in parameters])


def _validation(task: Task, recipe: Recipe, networks: Networks) -> Validation | None:
    held_out = recipe.observers.reconstruction_validation
    if held_out is None:
        return None
    data = task.data
    try:
        checked = check_input(
            held_out, n_features=data.n_features, feature_names=data.feature_names, min_rows=1
        )
    except (ValueError, TypeError) as error:
        raise type(error)(f"reconstruction_validation must hold rows like X: {error}") from error
    rows = as_rows(checked.X, dims=task.rows.row_shape, device=task.device)
    return recipe.objective.validation(networks, rows)


def _graph(task: Task, recipe: Recipe, distances: Any) -> Graph:
    matrix = task.rows.to_matrix() if distances is None else distances
    settings = replace(recipe.graph, seed=task.search_seed)
    return build_graph(matrix, settings, task.targets, recipe.targets, device=task.device)


def _of_graph(task: Task, recipe: Recipe, graph: Graph) -> Fitted:
    """Return what is known once there is a graph."""
    return Fitted(
        n_features=task.data.n_features,
        n_components=recipe.n_components,
        input_shape=task.data.row_shape,
        row_shape=task.rows.row_shape,
        feature_names=task.data.feature_names,
        graph=graph.fuzzy.to_csr(),
        is_supervised=task.targets is not None,
        distinct=None if task.distinct is None else task.distinct.first,
        training=TrainingRows(task.X),
    )


@dataclass(frozen=True)
class _Course:
    """What is trained, and how; see :func:`neumap.training.train`."""

    embedder: Embedder
    terms: Sequence[Term]
    plan: Plan
    callbacks: Sequence[Callback]
    part: tuple[float, float] = (0.0, 1.0)

    @property
    def decoders(self) -> list[nn.Module]:
        """Networks that the terms train besides the encoder."""
        return [m for t in self.terms for name, m in t.modules.items() if name == "decoder"]


def _course(
    task: Task,
    recipe: Recipe,
    graph: Graph,
    guidance: Guidance,
    embedder: Embedder,
    terms: Sequence[Term],
) -> _Course:
    """Return the training of the embedder, under a guide where there is one."""
    callbacks = recipe.observers.all_callbacks
    if guidance.applies:
        assert isinstance(embedder, EncoderEmbedder)
        under = guided(task, recipe, graph, guidance, embedder, terms, callbacks)
        return _Course(under.embedder, under.terms, under.plan, callbacks, under.part)
    plan = recipe.positions.plan(task.rows.n_rows, graph.total_weight, embedder)
    return _Course(embedder, terms, plan, callbacks)


def _train(
    task: Task, recipe: Recipe, graph: Graph, course: _Course, validate: Validation | None
) -> tuple[History, _StepCounter]:
    """Train the embedder and the networks; return the history and what counted the steps."""
    counter = _StepCounter()
    if recipe.n_epochs == 0:
        return {}, counter
    history = train(
        course.embedder,
        course.terms,
        EdgeSampler(graph.fuzzy, seed=task.seed, device=task.device),
        course.plan,
        seed=task.seed,
        optimizer=recipe.positions.optimizer_factory(course.embedder.encoder, *course.decoders),
        callbacks=[*course.callbacks, counter],
        validate=validate,
        part=course.part,
    )
    return history, counter


class _StepCounter(Callback):
    """Knows after training how many steps were taken; a callback or the time may end it early."""

    def __init__(self) -> None:
        self.n_steps = 0
        self.is_replayed = False

    def on_fit_end(self, run: TrainingRun) -> None:
        self.n_steps = run.step
        self.is_replayed = bool(getattr(run, "is_replayed", False))


def _positions(embedder: Embedder, graph: Graph) -> NDArray[np.float32]:
    """Return the position of every row; NaN for a free row without any neighbour."""
    positions = embedder.embed_all()
    if embedder.encoder is None:
        positions[graph.fuzzy.isolated()] = np.nan
    return positions


def _embedded_radii(
    task: Task, recipe: Recipe, positions: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Return the log local radius of each row in the embedding, NaN for one without position."""
    if not recipe.keeps_radii:
        return None
    return task.expand(embedded_radii(positions, recipe.graph.n_neighbors))


def _report(
    task: Task, recipe: Recipe, graph: Graph, positions: NDArray[np.float32], n_steps: int
) -> dict[str, Any]:
    neighbors = graph.neighbors
    report: dict[str, Any] = {
        "neighbors": None if neighbors is None else neighbors.backend,
        "neighbor_recall": None if neighbors is None else neighbors.recall,
        "neighbor_seconds": graph.neighbor_seconds,
        "graph_seconds": graph.fuzzy_seconds,
        "n_steps": n_steps,
        "n_edges": len(graph.fuzzy.weights),
        "device": str(task.device),
    }
    if task.warm_start is not None:
        report["landmark_drift"] = drift(task.expand(positions), task.warm_start.positions)
    if recipe.objective.correlation_weight:
        report["distance_correlation"] = _reached_correlation(task.rows, positions, task.seed)
    return report


def _of_networks(course: _Course, counter: _StepCounter) -> dict[str, Any]:
    """Return how the networks were trained."""
    found: dict[str, Any] = {"precision": training_precision(course.embedder, course.terms)}
    for term in course.terms:
        if isinstance(term, ReconstructionTerm):
            found["reconstruction_rows"] = term.decoded.of(2 * course.plan.batch_edges)
    if counter.is_replayed:
        found["replayed"] = True
    return found


def _reached_correlation(
    rows: RowStore, positions: NDArray[np.float32], seed: int, max_rows: int = 2000
) -> float:
    """Return the correlation of distances in the data and in the embedding.

    The pairs are drawn among a sample of rows and are not those that were trained on: of the many
    pairs of a data set, batches visit few.
    """
    generator = numpy_generator(seed, "correlation")
    sample = np.sort(generator.permutation(rows.n_rows)[:max_rows])
    inputs = rows.gather(torch.from_numpy(sample)).flatten(1).cpu().numpy()
    return float(
        distance_correlation(inputs, positions[sample], method="pearson", random_state=seed % 2**31)
    )


def _continued(start: WarmStart | None, history: History) -> History:
    """Return the history of a fit, after that of the earlier fit which it continues.

    A loss that one of them lacks is NaN there, so that all lists have the same length.
    """
    before = {} if start is None or not start.continues else start.history or {}
    names = [*before, *(name for name in history if name not in before)]
    return {name: [*_curve(before, name), *_curve(history, name)] for name in names}


def _curve(history: History, name: str) -> list[float]:
    n_reports = max((len(curve) for curve in history.values()), default=0)
    return history.get(name, [math.nan] * n_reports)
