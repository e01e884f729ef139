"""Free positions of several data sets, trained in one loop.

Every map starts where its rows are in the map before, as far as they are related to it, and a term
of the objective pulls related rows together while all maps are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neumap._device import resolve_device
from neumap._modes import own_torch_state
from neumap._random import resolve_seed
from neumap.callbacks import Callback, TrainingRun
from neumap.data import Validated, as_rows, distinct, take
from neumap.estimators.aligned.relations import NOTHING, partners_of
from neumap.estimators.fitted import Fitted
from neumap.estimators.fitting import fit_map
from neumap.estimators.positions import FreePositions
from neumap.estimators.recipe import Recipe
from neumap.fuzzy import FuzzyGraph
from neumap.layout import initial_positions
from neumap.losses.alignment import AlignmentTerm, JointUmapTerm
from neumap.losses.terms import Term
from neumap.sampling import JointSampler
from neumap.training import FreeEmbedder, train
from neumap.training.loop import History

__all__ = ["Alignment", "DataSet", "Trained", "between_graphs", "fit_graph", "fit_together"]

SMOOTHING_ROUNDS = 5
MIN_EDGES = 2  # of a map in a batch: with one there is no negative


@dataclass(frozen=True)
class Alignment:
    """How maps are held together.

    Attributes
    ----------
    weight : float
        Of the pull between related rows.
    window : int
        Data sets that a row looks ahead and back.
    """

    weight: float
    window: int


@dataclass(frozen=True)
class DataSet:
    """One data set with its graph, before it has positions.

    Attributes
    ----------
    fitted : Fitted
        Without positions.
    recipe : Recipe
        Settings for this data set.
    graph : FuzzyGraph
        Of its (distinct) rows.
    X : array, sparse matrix or other checked container
        The rows of the graph.
    inverse : array of shape (n_samples,), int64, or None
        From the rows as passed to those of the graph; None where they are the same.
    """

    fitted: Fitted
    recipe: Recipe
    graph: FuzzyGraph
    X: Any
    inverse: NDArray[np.int64] | None = None

    def expand(self, positions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return positions of the rows as passed."""
        return positions if self.inverse is None else positions[self.inverse]


def between_graphs(
    relation: NDArray[np.int64],
    ours: NDArray[np.int64] | None,
    theirs: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """Return a relation between rows as passed as one between the rows of graphs.

    Parameters
    ----------
    relation : array of shape (n_from,), int64
    ours : array or None
        Rows of the first data set that its graph has; None for all.
    theirs : array or None
        From rows of the second data set to those of its graph; None where they are the same.
    """
    kept = relation if ours is None else relation[ours]
    if theirs is None:
        return kept
    mapped = np.where(kept == NOTHING, NOTHING, theirs[np.maximum(kept, 0)])
    first = np.unique(mapped, return_index=True)[1]  # one row for each distinct one
    once = np.full_like(mapped, NOTHING)
    once[first] = mapped[first]
    return once


@dataclass(frozen=True)
class Trained:
    """Result of one training: positions of each data set, losses, and steps taken."""

    positions: list[NDArray[np.float32]]
    history: History
    n_steps: int


def fit_graph(data: Validated, recipe: Recipe, y: Any) -> DataSet:
    """Return a data set with its graph; all that a fit refuses is refused here."""
    fitted = fit_map(data, replace(recipe, stops_at_graph=True, n_anchors=None), y=y)
    graph = FuzzyGraph.from_matrix(fitted.graph)
    if not recipe.unique:
        return DataSet(fitted, recipe, graph, data.X)
    found = distinct(data.X)
    return DataSet(fitted, recipe, graph, take(data.X, found.first), found.inverse)


@own_torch_state()
def fit_together(
    sets: Sequence[DataSet],
    relations: Sequence[NDArray[np.int64]],
    alignment: Alignment,
    placed: Sequence[NDArray[np.float32]] = (),
) -> Trained:
    """Train the maps of several data sets at once.

    Parameters
    ----------
    sets : sequence of DataSet
        Those to train.
    relations : sequence of arrays
        Between all data sets, the placed ones first, by the rows of their graphs.
    alignment : Alignment
    placed : sequence of arrays (n_rows, n_components)
        Maps before the first of `sets`, which stay as they are.
    """
    recipe = sets[0].recipe
    seed, device = resolve_seed(recipe.random_state), resolve_device(recipe.device)
    starts = [*placed]
    for data in sets:
        number = len(starts)
        before = (starts[-1], relations[number - 1]) if starts else None
        starts.append(_start(data, before, seed))
    trained = starts[len(placed) :]
    embedder = FreeEmbedder(np.concatenate(trained)).to(device)
    if recipe.n_epochs == 0:
        return Trained([data.expand(p) for data, p in zip(sets, trained, strict=True)], {}, 0)
    weights = np.array([data.graph.weights.sum(dtype=np.float64) for data in sets])
    longest = max(data.graph.n_vertices for data in sets)
    plan = recipe.positions.plan(longest, float(weights.sum()))
    shares = plan.batch_edges * weights / weights.sum()
    sizes = tuple(max(MIN_EDGES, round(share)) for share in shares)
    counter = _Counter()
    history = train(
        embedder,
        _terms(sets, sizes, _Pull(alignment, relations, placed, trained), embedder),
        JointSampler([data.graph for data in sets], sizes, seed=seed, device=device),
        replace(plan, batch_edges=sum(sizes)),
        seed=seed,
        optimizer=recipe.positions.optimizer_factory(),
        callbacks=[*recipe.observers.all_callbacks, counter],
    )
    ends = np.cumsum([len(start) for start in trained])[:-1]
    parts = np.split(embedder.embed_all(), ends)
    return Trained([_finished(d, p) for d, p in zip(sets, parts, strict=True)], history, counter.n)


class _Counter(Callback):
    """Knows after training how many steps were taken."""

    n = 0

    def on_fit_end(self, run: TrainingRun) -> None:
        self.n = run.step


def _finished(data: DataSet, positions: NDArray[np.float32]) -> NDArray[np.float32]:
    positions[data.graph.isolated()] = np.nan
    return data.expand(positions)


@dataclass(frozen=True)
class _Pull:
    """What the alignment term is made of."""

    alignment: Alignment
    relations: Sequence[NDArray[np.int64]]
    placed: Sequence[NDArray[np.float32]]
    trained: Sequence[NDArray[np.float32]]

    def term(self, embedder: FreeEmbedder) -> AlignmentTerm:
        """Return the term; the rows that stay come last in its table of positions."""
        sizes = [len(part) for part in (*self.placed, *self.trained)]
        table, pulls = partners_of(self.relations, sizes, self.alignment.window)
        n_placed = sum(len(part) for part in self.placed)
        n_trained = sum(sizes) - n_placed
        ours = table[n_placed:]
        moved = np.where(ours < n_placed, ours + n_trained, ours - n_placed)
        # A row that has no position in an earlier map pulls nothing.
        still = np.concatenate([*self.placed, np.empty((0, self.trained[0].shape[1]), "f4")])
        lost = np.flatnonzero(np.isnan(still).any(axis=1)) + n_trained
        partners = np.where((ours == NOTHING) | np.isin(moved, lost), NOTHING, moved)
        device = embedder.positions.device
        fixed = torch.from_numpy(np.nan_to_num(still).astype(np.float32)).to(device)
        return AlignmentTerm(
            torch.from_numpy(partners).to(device),
            torch.from_numpy(pulls).to(device),
            lambda: torch.cat([embedder.positions, fixed]),
            # Rows that stay are never drawn, so only one end of a pair pulls.
            self.alignment.weight * (2.0 if n_placed else 1.0),
        )


def _terms(
    sets: Sequence[DataSet], sizes: tuple[int, ...], pull: _Pull, embedder: FreeEmbedder
) -> list[Term]:
    forces = sets[0].recipe.positions.forces
    kernels = tuple(data.recipe.kernel for data in sets)
    joint = JointUmapTerm(kernels, sizes, forces.softening, forces.n_negatives)
    return [joint] if pull.alignment.weight == 0.0 else [joint, pull.term(embedder)]


def _start(
    data: DataSet, before: tuple[NDArray[np.float32], NDArray[np.int64]] | None, seed: int
) -> NDArray[np.float32]:
    """Return where the map of a data set starts, beside the map before."""
    positions = data.recipe.positions
    assert isinstance(positions, FreePositions)
    is_auto = isinstance(positions.init, str) and positions.init == "auto"
    own = initial_positions(
        "spectral" if is_auto else positions.init,
        graph=data.graph,
        X_matrix=as_rows(data.X).to_matrix(),
        n_components=positions.n_components,
        seed=seed,
    )
    if before is None or not isinstance(positions.init, str):
        return own
    earlier, relation = before
    known = np.full_like(own, np.nan)
    rows = np.flatnonzero(relation != NOTHING)
    known[relation[rows]] = earlier[rows]
    return _beside(own, known, data.graph)


def _beside(
    own: NDArray[np.float32], known: NDArray[np.float32], graph: FuzzyGraph
) -> NDArray[np.float32]:
    """Turn and scale a layout onto known positions, and let these draw their neighbours along."""
    given = np.isfinite(known).all(axis=1)
    if not given.any():
        return own
    positions = _onto(own, own[given], known[given])
    positions[given] = known[given]
    matrix = graph.to_csr()
    degrees = np.asarray(matrix.sum(axis=1))
    moves = ~given & (degrees[:, 0] > 0)
    for _ in range(SMOOTHING_ROUNDS):
        positions[moves] = (matrix[moves] @ positions) / degrees[moves]
    return positions.astype(np.float32)


def _onto(layout: NDArray[Any], source: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float32]:
    """Apply the rotation, reflection and scale that best take `source` to `target` (Procrustes)."""
    from_, to = source.mean(axis=0), target.mean(axis=0)
    left, sizes, right = np.linalg.svd((source - from_).T @ (target - to))
    spread = float(np.square(source - from_).sum())
    scale = float(sizes.sum()) / spread if spread > 0.0 and sizes.sum() > 0.0 else 1.0
    return np.asarray(scale * (layout - from_) @ (left @ right) + to, dtype=np.float32)
