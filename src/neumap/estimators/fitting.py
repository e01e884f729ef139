"""The path of a fit, top to bottom: from checked data and a recipe to what was learned.

Everything that can be refused is refused before the neighbour search, which is the longest part
of a fit on many rows. Nothing of an estimator is touched here: a fit returns a value.
"""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version as package_version
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import nn

from neumap._memory import give_back
from neumap._modes import evaluating, own_torch_state
from neumap._random import RandomState, numpy_generator
from neumap._ranks import Ranks, current_ranks, telling
from neumap.callbacks import Callback, TrainingRun
from neumap.data import RowStore, Validated, as_rows, check_input, find_non_finite
from neumap.data.unpacking import unpack_together
from neumap.estimators.anchors import choose_anchors, joins_lists
from neumap.estimators.constraints import short_text
from neumap.estimators.describing import card_of_a_fit, extent_of
from neumap.estimators.fingerprint import differences, fingerprint, resumable
from neumap.estimators.fitted import Fitted
from neumap.estimators.graph import (
    TRIAL_ROWS,
    Graph,
    build_graph,
    check_metric,
    check_supervision,
    list_length,
)
from neumap.estimators.guiding import Guidance, choose_guidance, guided
from neumap.estimators.landmarks import WarmStart, drift
from neumap.estimators.new_rows.training_rows import TrainingRows
from neumap.estimators.objective import Networks
from neumap.estimators.positions import NetworkPositions
from neumap.estimators.positions.networks import tie_parameters
from neumap.estimators.radii import embedded_radii
from neumap.estimators.recipe import Recipe
from neumap.estimators.resuming import Resume, kept_neighbors, search_keeper
from neumap.estimators.task import Task, prepare
from neumap.fuzzy import FuzzyGraph
from neumap.losses.reconstruction import ReconstructionTerm
from neumap.losses.terms import Term
from neumap.metrics import distance_correlation
from neumap.neighbors import NeighborGraph
from neumap.sampling import EdgeSampler
from neumap.training import Embedder, EncoderEmbedder, Plan, train, training_precision
from neumap.training.embedders import rows_to_write_on
from neumap.training.loop import History, Validation

__all__ = ["fit_map"]

logger = logging.getLogger(__name__)

STATE_METHODS = ("state_dict", "load_state_dict")


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
    resume: Resume | None = None,
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
    resume : Resume, optional
        What the fit goes on from.

    Raises
    ------
    ValueError, TypeError
        If a parameter, the data or a network cannot be used, or the checkpoint is that of another
        fit.
    TrainingDivergedError
        If the loss is no longer finite.
    """
    began, ranks = time.perf_counter(), current_ranks()
    unpack_together(data.X, ranks)
    task, origin = _task(data, y, recipe, distances, warm_start, resume, sample_weight)
    ready = _ready(task, recipe, distances, resume, origin, searches=graph is None)
    networks, guidance, validate = ready.networks, ready.guidance, ready.validate
    with telling(ranks) as known:
        keep = _keeper(task, recipe, resume, origin, ready.kept)
        given = None if graph is None else Graph(None, graph)
        found = given or _graph(task, recipe, distances, ready, keep)
        known["graph"] = None if ranks.is_alone else _checksum(found.fuzzy)
    give_back()
    _check_graphs(known["notes"])
    card = card_of_a_fit(task, recipe, networks.encoder)
    learned = replace(_of_graph(task, recipe, found), card=card)
    if recipe.stops_at_graph:
        return learned
    if task.row_weights is not None:
        found = found.weighted(task.row_weights)

    # Networks of the user may begin with other weights in each process.
    ranks.take_first_([tensor for module in networks.modules for tensor in _state(module)])
    embedder = recipe.positions.build(task, networks.encoder, found)
    trained = time.perf_counter()
    give_back()
    terms = recipe.objective.terms(task, networks, found, embedder, recipe.positions.forces)
    before = None if resume is None else resume.training
    course = _course(task, recipe, found, guidance, embedder, terms, resumes=before is not None)
    course = replace(course, origin=origin, resume=before)
    history, counter = _train(task, recipe, found, course, validate)
    give_back()
    positions = _positions(embedder, found, recipe, ranks)
    give_back()
    now = time.perf_counter()
    report = {
        **_report(task, recipe, found, positions, counter.n_steps),
        **_of_networks(course, counter),
        "guide": guidance.text,
        "training_seconds": now - trained,
        "total_seconds": now - began,
    }
    logger.info("fitted %d rows in %.1f s", task.rows.n_rows, now - began)
    return replace(
        learned,
        embedding=task.expand(positions),
        card=replace(card, extent=extent_of(positions)),
        history=_continued(warm_start, history),
        report=report,
        encoder=networks.encoder,
        decoder=networks.decoder,
        reconstruction_loss=networks.reconstruction_loss,
        classifier=networks.classifier,
        classes=None if networks.classes is None else networks.classes.labels,
        rad_orig=task.expand(found.radii()) if recipe.keeps_radii else None,
        rad_emb=_embedded_radii(task, recipe, positions),
    )


@dataclass(frozen=True)
class _Ready:
    """What a fit has before the neighbour search."""

    anchors: NDArray[np.int64] | None
    joins: bool
    kept: NeighborGraph | None
    networks: Networks
    guidance: Guidance
    validate: Validation | None


def _ready(
    task: Task,
    recipe: Recipe,
    distances: Any,
    resume: Resume | None,
    origin: Mapping[str, Any],
    *,
    searches: bool,
) -> _Ready:
    """Refuse what can be refused, and return networks and the neighbours that are known."""
    anchors, joins, kept = None, False, None
    networks, validate, guidance = Networks(), None, Guidance("none")
    with telling(task.ranks) as known:
        if task.targets is not None:
            check_supervision(task.targets, recipe.targets)
        if searches:
            anchors = choose_anchors(task, recipe, has_distances=distances is not None)
            joins = joins_lists(task, recipe, anchors)
            _try_metric(task, recipe)
        if not recipe.stops_at_graph:
            networks = _networks(task, recipe)
            _try_optimizer(task, recipe, networks)
            guidance = choose_guidance(task, recipe, networks.encoder)
            validate = _validation(task, recipe, networks)
        if searches:
            kept = _kept(task, recipe, resume, origin, anchors, joins=joins)
        known["kept"] = kept is not None
    if not all(note["kept"] for note in known["notes"]):
        kept = None  # a process that searches alone would wait for the others
    return _Ready(anchors, joins, kept, networks, guidance, validate)


def _task(
    data: Validated,
    y: Any,
    recipe: Recipe,
    distances: Any,
    warm_start: WarmStart | None,
    resume: Resume | None,
    sample_weight: Any,
) -> tuple[Task, dict[str, Any]]:
    """Return what all processes work on, and what a checkpoint says about its fit."""
    ranks = current_ranks()
    with telling(ranks) as known:
        recipe.check()
        task = prepare(
            data,
            y,
            dims=recipe.dims,
            unique=recipe.unique,
            device=recipe.device,
            random_state=_seed_source(recipe, resume),
            warm_start=warm_start,
            sample_weight=sample_weight,
            is_repeated=resume is not None or recipe.keeps_checkpoints or not ranks.is_alone,
        )
        origin = _origin(task, recipe, distances, resume, ranks)
        known.update(origin, version=package_version("neumap"))
    task = _of_all(task, ranks, known["notes"])
    return task, {**origin, "seed": task.seed} if origin else {}


def _seed_source(recipe: Recipe, resume: Resume | None) -> RandomState:
    """Return what gives the seed: that of the checkpoint where the parameter is no number."""
    if resume is None or isinstance(recipe.random_state, int | np.integer):
        return recipe.random_state
    origin = resume.state.get("origin")
    seed = origin.get("seed") if isinstance(origin, Mapping) else None
    return seed if isinstance(seed, int) and seed >= 0 else 0  # a wrong one is refused below


def _origin(
    task: Task,
    recipe: Recipe,
    distances: Any,
    resume: Resume | None,
    ranks: Ranks,
) -> dict[str, Any]:
    """Return what checkpoints say about this fit; raise if one to go on from is of another.

    Without checkpoints and other processes there is nothing to say, and the data are not read.
    """
    if resume is None and not recipe.keeps_checkpoints and ranks.is_alone:
        return {}
    found = fingerprint(task, recipe, distances)
    if resume is not None:
        resumable(resume.state, found, package_version("neumap"))
        trains = recipe.n_epochs != 0 and not recipe.stops_at_graph
        if resume.training is not None and not trains:
            raise ValueError(
                "resume_from must be left out of a fit that trains nothing, got n_epochs=0 or "
                "transform_mode='graph'. Leave out resume_from."
            )
    return {"fit": found, "seed": task.seed}


def _of_all(task: Task, ranks: Ranks, notes: Sequence[Mapping[str, Any]]) -> Task:
    """Return the task with the seed of the first process.

    Raises
    ------
    ValueError
        If the processes have other data, parameters or versions; the same error in all of them.
    """
    if ranks.is_alone:
        return task
    first = notes[0]
    for rank, note in enumerate(notes):
        found = differences(note["fit"], first["fit"])
        if note["version"] != first["version"]:
            found.append(f"neumap ({note['version']} there, {first['version']} here)")
        if found:
            words = ", ".join(found).replace("there", f"in process {rank}")
            raise ValueError(
                "All processes of a fit must get the same data and parameters, got other "
                f"{words.replace('here', 'in process 0')}. Pass the same to fit in all of them."
            )
    seed = int(first["seed"])
    return replace(task, seed=seed, search_seed=seed, ranks=ranks)


def _checksum(graph: FuzzyGraph) -> int:
    parts = (graph.heads, graph.tails, graph.weights)
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(np.ascontiguousarray(part).tobytes(), checksum)
    return checksum


def _state(module: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


def _check_graphs(notes: Sequence[Mapping[str, Any]]) -> None:
    """Raise, in all processes, if these found other neighbours."""
    if len({note["graph"] for note in notes}) > 1:
        raise ValueError(
            "All processes of a fit must find the same neighbours, got other graphs: their "
            "machines compute differently. Launch them on machines of one kind, or pass the "
            "neighbours as precomputed_knn."
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
    parameters = [p for module in networks.modules for p in module.parameters()]
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
    parameters = [p for m in networks.modules for p in m.parameters() if p.requires_grad]
    if networks.encoder is None:
        positions = torch.zeros(task.rows.n_rows, recipe.n_components, device=task.device)
        parameters.append(nn.Parameter(positions))
    make = recipe.positions.optimizer_factory()
    made = make([nn.Parameter(torch.zeros_like(p)) for p in parameters])
    if recipe.keeps_checkpoints and not all(hasattr(made, name) for name in STATE_METHODS):
        raise TypeError(
            "optimizer must have the methods state_dict and load_state_dict for checkpoints, got "
            f"{short_text(made)}. Add them, or leave out Checkpoint."
        )


def _validation(task: Task, recipe: Recipe, networks: Networks) -> Validation | None:
    held_out = recipe.observers.reconstruction_validation
    if held_out is None:
        return None
    data = task.data
    try:
        checked = check_input(
            held_out,
            n_features=data.n_features,
            feature_names=data.feature_names,
            min_rows=1,
            column=recipe.column,
        )
    except (ValueError, TypeError) as error:
        raise type(error)(f"reconstruction_validation must hold rows like X: {error}") from error
    rows = as_rows(checked.X, dims=task.rows.row_shape, device=task.device)
    return recipe.objective.validation(networks, rows)


def _graph(
    task: Task,
    recipe: Recipe,
    distances: Any,
    ready: _Ready,
    keep: Callable[[NeighborGraph], None] | None,
) -> Graph:
    shows = recipe.graph.verbose and task.ranks.is_first
    matrix = distances
    if distances is None and (ready.kept is None or ready.joins):
        matrix = task.rows.to_matrix()
    return build_graph(
        matrix,
        replace(recipe.graph, seed=task.search_seed, verbose=shows),
        task.targets,
        recipe.targets,
        device=task.device,
        anchors=ready.anchors,
        ranks=task.ranks,
        joins=ready.joins,
        known=ready.kept,
        keep=keep,
    )


def _kept(
    task: Task,
    recipe: Recipe,
    resume: Resume | None,
    origin: Mapping[str, Any],
    anchors: NDArray[np.int64] | None,
    *,
    joins: bool,
) -> NeighborGraph | None:
    """Return the neighbours that an interrupted fit has found."""
    n_rows, n_neighbors = task.rows.n_rows, recipe.graph.n_neighbors
    asking = np.arange(n_rows) if anchors is None else anchors
    length = list_length(n_neighbors, n_rows) if joins else n_neighbors
    return kept_neighbors(resume, origin, asking, n_rows, length)


def _keeper(
    task: Task,
    recipe: Recipe,
    resume: Resume | None,
    origin: Mapping[str, Any],
    kept: NeighborGraph | None,
) -> Callable[[NeighborGraph], None] | None:
    """Return what writes the neighbours beside the checkpoints, in the process that does."""
    known_from = None if resume is None or kept is None else resume.search_path
    keep = search_keeper(recipe, origin, known_from)
    is_search = recipe.graph.searches and recipe.graph.metric != "precomputed"
    return keep if is_search and task.ranks.is_first else None


def _of_graph(task: Task, recipe: Recipe, graph: Graph) -> Fitted:
    """Return what is known once there is a graph."""
    return Fitted(
        n_features=task.data.n_features,
        n_components=recipe.n_components,
        input_shape=task.data.row_shape,
        row_shape=task.rows.row_shape,
        feature_names=task.data.feature_names,
        graph=graph.fuzzy.to_csr(),
        n_anchors=None if graph.anchors is None else len(graph.anchors),
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
    origin: Mapping[str, Any] = field(default_factory=dict)
    resume: Mapping[str, Any] | None = None

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
    *,
    resumes: bool,
) -> _Course:
    """Return the training of the embedder, under a guide where there is one."""
    callbacks = recipe.observers.all_callbacks
    if guidance.applies:
        assert isinstance(embedder, EncoderEmbedder)
        known = replace(guidance, is_restored=resumes)
        under = guided(task, recipe, graph, known, embedder, terms, callbacks)
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
        origin=course.origin,
        resume=course.resume,
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


def _positions(
    embedder: Embedder, graph: Graph, recipe: Recipe, ranks: Ranks
) -> NDArray[np.float32]:
    """Return the position of every row; NaN for a free row without any neighbour."""
    positions = embedder.embed_all(ranks)
    if embedder.encoder is None:
        if recipe.objective.metric is not None:
            positions = recipe.objective.metric.written(positions)
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
        "n_anchors": None if graph.anchors is None else len(graph.anchors),
        "n_joined": 0 if graph.joined is None else len(graph.joined.indices),
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
