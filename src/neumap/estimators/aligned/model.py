"""``AlignedUMAP``: a series of related data sets on maps that are comparable."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from neumap._random import RandomState
from neumap.callbacks import Callback
from neumap.data import Validated, row_count
from neumap.estimators.aligned.arguments import (
    PER_SET,
    check_changed,
    check_columns,
    check_sets,
    check_targets,
    is_list,
    value_for,
)
from neumap.estimators.aligned.learned import AlignedFitted, misalignment
from neumap.estimators.aligned.one_network import fit_one_network
from neumap.estimators.aligned.relations import (
    NOTHING,
    as_dict,
    check_relation,
    check_relations,
    inverse,
)
from neumap.estimators.aligned.together import (
    Alignment,
    DataSet,
    Trained,
    between_graphs,
    fit_graph,
    fit_together,
)
from neumap.estimators.constraints import (
    SWITCH,
    Constraints,
    Number,
    Whole,
    check_parameters,
    short_text,
)
from neumap.estimators.documentation import DocumentationLink
from neumap.estimators.fitted import check_rows
from neumap.estimators.fitting import fit_map
from neumap.estimators.landmarks import WarmStart
from neumap.estimators.parametric import ParametricUMAP
from neumap.estimators.positions.presets import Preset
from neumap.estimators.recipe import Recipe
from neumap.estimators.saving.copies import cloned, deeply_copied, settings_of
from neumap.estimators.saving.files import SavedModel, save_model
from neumap.estimators.umap import UMAP
from neumap.training.loop import History

__all__ = ["AlignedUMAP"]

OWN = ("alignment_regularisation", "alignment_window_size", "parametric")
OF_NETWORKS = ("encoder", "preset")


class AlignedUMAP(DocumentationLink, BaseEstimator):
    r"""UMAP of several related data sets, on maps on which related rows lie near each other.

    Such as windows of a series over time, the same rows measured again, or the same data with
    other parameters. Names, meanings and defaults are those of ``umap.AlignedUMAP``. Here the maps
    can also come from one network, which places new rows of any data set.

    Parameters
    ----------
    n_neighbors : int or sequence of int, default=15
        See :class:`UMAP`, as for all parameters that are not explained here. Those of one map may
        be a list with one value per data set: `n_neighbors`, `metric`, `metric_kwds`, `init`,
        `min_dist`, `spread`, `set_op_mix_ratio`, `local_connectivity`, `repulsion_strength`,
        `negative_sample_rate`, `a`, `b`, `target_n_neighbors`, `target_metric`,
        `target_metric_kwds`, `target_weight` and `disconnection_distance`. Values beyond the last
        data set are for those that :meth:`update` adds. A network takes no lists.
    n_components : int, default=2
        Of all maps.
    metric, metric_kwds
        As in :class:`UMAP`.
    n_epochs, learning_rate, init
        As in :class:`UMAP`. Only the first map starts by `init`; the others start where their rows
        are in the map before. An array is the start itself.
    alignment_regularisation : float, default=0.01
        Weight of the distance between related rows. Larger values (0.1) keep the maps more alike,
        smaller ones (0.001) leave each its own shape; 0 only starts them alike. With a network,
        100 times as much, at most 1, is the weight of an edge between related rows.
    alignment_window_size : int, default=3
        Data sets that a row looks ahead and back, through the relations in between. Each pulls half
        as much as the one before.
    min_dist, spread, low_memory, n_jobs, set_op_mix_ratio, local_connectivity
        As in :class:`UMAP`.
    repulsion_strength, negative_sample_rate, transform_queue_size, a, b, random_state
        As in :class:`UMAP`.
    angular_rp_forest, target_n_neighbors, target_metric, target_metric_kwds, target_weight
        As in :class:`UMAP`.
    transform_seed, force_approximation_algorithm, verbose, tqdm_kwds, unique
        As in :class:`UMAP`. `unique` raises with a network.
    disconnection_distance, callbacks, max_time, device
        As in :class:`UMAP`.
    parametric : bool, default=False
        Train one network for all data sets, which must have the same columns. Equal rows then have
        one place in all maps.
    encoder, preset
        The network, as in :class:`ParametricUMAP`; with ``parametric=True``.

    Attributes
    ----------
    embeddings_ : list of ndarray of shape (n_samples, n_components), float32
        Positions, one array per data set.
    mappers_ : list of UMAP or ParametricUMAP
        A fitted model per data set, with its ``transform``, ``graph_`` and so on.
    dict_relations_ : list of dict
        From rows of each data set to rows of the next.
    n_models_ : int
        Number of data sets.
    history_ : dict of str to list of float
        ``"loss"`` and its terms, one mean per report.
    report_ : dict
        ``n_steps`` and ``misalignment``: the mean distance of related rows of consecutive maps,
        relative to the extent of the maps.
    encoder_ : nn.Module
        The network, with ``parametric=True``.

    See Also
    --------
    ParametricUMAP : ``landmark_positions`` keep single rows where they are.

    Notes
    -----
    All maps are trained at once. To UMAP's cross entropy of each map, in which rows repel rows of
    their own map only, is added, for both rows of each sampled edge,

    .. math:: \lambda \sum_{k=1}^{w} 2^{1-k} \left( |y - y_{+k}|^2 + |y - y_{-k}|^2 \right)

    where :math:`y_{\pm k}` is the position of the related row *k* data sets ahead or back,
    *λ* ``alignment_regularisation`` and *w* ``alignment_window_size``.

    A fit replaces the model at its end. If it fails, the model stays what it was.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from neumap import AlignedUMAP
    >>> X = load_iris().data
    >>> windows = [X[start : start + 50] for start in (0, 25, 50)]
    >>> relations = [{row + 25: row for row in range(25)} for _ in range(2)]
    >>> model = AlignedUMAP(n_epochs=50, random_state=0).fit(windows, relations=relations)
    >>> [embedding.shape for embedding in model.embeddings_]
    [(50, 2), (50, 2), (50, 2)]
    """

    _constraints: ClassVar[Constraints] = {
        "alignment_regularisation": (Number(),),
        "alignment_window_size": (Whole(1),),
        "parametric": (SWITCH,),
    }

    _aligned: AlignedFitted

    def __init__(
        self,
        n_neighbors: int | Sequence[int] = 15,
        n_components: int = 2,
        *,
        metric: Any = "euclidean",
        metric_kwds: Any = None,
        n_epochs: int | None = None,
        learning_rate: float = 1.0,
        init: str | ArrayLike = "spectral",
        alignment_regularisation: float = 0.01,
        alignment_window_size: int = 3,
        min_dist: float | Sequence[float] = 0.1,
        spread: float | Sequence[float] = 1.0,
        low_memory: bool = True,
        n_jobs: int | None = -1,
        set_op_mix_ratio: float | Sequence[float] = 1.0,
        local_connectivity: float | Sequence[float] = 1.0,
        repulsion_strength: float | Sequence[float] = 1.0,
        negative_sample_rate: float | Sequence[float] = 5,
        transform_queue_size: float = 4.0,
        a: float | Sequence[float] | None = None,
        b: float | Sequence[float] | None = None,
        random_state: RandomState = None,
        angular_rp_forest: bool = False,
        target_n_neighbors: int | Sequence[int] = -1,
        target_metric: Any = "categorical",
        target_metric_kwds: Any = None,
        target_weight: float | Sequence[float] = 0.5,
        transform_seed: int = 42,
        force_approximation_algorithm: bool = False,
        verbose: bool | int = False,
        tqdm_kwds: dict[str, Any] | None = None,
        unique: bool = False,
        disconnection_distance: float | Sequence[float] | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        max_time: float | None = None,
        device: str | torch.device = "auto",
        parametric: bool = False,
        encoder: Any = None,
        preset: str | Preset = "default",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.metric = metric
        self.metric_kwds = metric_kwds
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.init = init
        self.alignment_regularisation = alignment_regularisation
        self.alignment_window_size = alignment_window_size
        self.min_dist = min_dist
        self.spread = spread
        self.low_memory = low_memory
        self.n_jobs = n_jobs
        self.set_op_mix_ratio = set_op_mix_ratio
        self.local_connectivity = local_connectivity
        self.repulsion_strength = repulsion_strength
        self.negative_sample_rate = negative_sample_rate
        self.transform_queue_size = transform_queue_size
        self.a = a
        self.b = b
        self.random_state = random_state
        self.angular_rp_forest = angular_rp_forest
        self.target_n_neighbors = target_n_neighbors
        self.target_metric = target_metric
        self.target_metric_kwds = target_metric_kwds
        self.target_weight = target_weight
        self.transform_seed = transform_seed
        self.force_approximation_algorithm = force_approximation_algorithm
        self.verbose = verbose
        self.tqdm_kwds = tqdm_kwds
        self.unique = unique
        self.disconnection_distance = disconnection_distance
        self.callbacks = callbacks
        self.max_time = max_time
        self.device = device
        self.parametric = parametric
        self.encoder = encoder
        self.preset = preset

    # ---- what was learned ------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return "_aligned" in vars(self)

    def _model(self) -> AlignedFitted:
        check_is_fitted(self)
        return self._aligned

    def _learned(self, name: str) -> AlignedFitted:
        """Return what was learned; before a fit the attribute does not exist."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: this model is not "
                "fitted. Call fit first."
            )
        return self._aligned

    @property
    def embeddings_(self) -> list[NDArray[np.float32]]:
        """Positions, one array per data set."""
        return self._learned("embeddings_").embeddings()

    @property
    def mappers_(self) -> list[UMAP]:
        """A fitted model per data set."""
        learned = self._learned("mappers_")
        models = []
        for number, fitted in enumerate(learned.sets):
            model = self._single(number, learned.changed[number])
            model._fitted = fitted
            models.append(model)
        return models

    @property
    def dict_relations_(self) -> list[dict[int, int]]:
        """From rows of each data set to rows of the next."""
        return [as_dict(relation) for relation in self._learned("dict_relations_").relations]

    @property
    def n_models_(self) -> int:
        """Number of data sets."""
        return len(self._learned("n_models_").sizes)

    @property
    def history_(self) -> History:
        """Losses, one mean per report."""
        return self._learned("history_").history

    @property
    def report_(self) -> dict[str, Any]:
        """Steps taken and how far related rows are apart."""
        return self._learned("report_").report

    @property
    def encoder_(self) -> torch.nn.Module:
        """The network of all maps."""
        encoder = self._learned("encoder_").parts[0].encoder
        if encoder is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'encoder_': its positions are "
                "free. Set parametric=True and fit again."
            )
        return encoder

    # ---- verbs -----------------------------------------------------------------------------------

    def fit(self, X: Sequence[Any], y: Any = None, *, relations: Any = None) -> Self:
        """Learn one map per data set.

        Parameters
        ----------
        X : sequence of array-like of shape (n_samples, n_features)
            Data sets in order. With free positions they may differ in their columns.
        y : sequence of array-like, optional
            Targets of each data set, None for one without.
        relations : sequence of dict
            For each data set but the last: from its rows to the related rows of the next one. Rows
            may be left out. Arrays (n_pairs, 2) serve as well.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, a data set or a relation is not as it should be.
        TrainingDivergedError
            If the loss is no longer finite.
        """
        self._check()
        sets = check_sets(X, "X")
        targets = check_targets(y, len(sets))
        recipes = [self._recipe(number, {}) for number in range(len(sets))]
        data = [self._checked(rows, number) for number, rows in enumerate(sets)]
        checked = check_relations(relations, [row_count(part.X) for part in data])
        nothing: tuple[dict[str, Any], ...] = ({},) * len(sets)
        if self._has_network:
            self._aligned = self._fit_network(data, recipes[0], targets, checked)
        else:
            built = [fit_graph(d, r, t) for d, r, t in zip(data, recipes, targets, strict=True)]
            between = [
                between_graphs(relation, one.fitted.distinct, other.inverse)
                for relation, one, other in zip(checked, built[:-1], built[1:], strict=True)
            ]
            trained = fit_together(built, between, self._alignment)
            self._aligned = _free(built, trained, checked, nothing)
        return self

    def fit_transform(
        self, X: Sequence[Any], y: Any = None, *, relations: Any = None
    ) -> list[NDArray[np.float32]]:
        """Learn one map per data set and return the positions of their rows.

        Parameters
        ----------
        X, y, relations
            As in :meth:`fit`.

        Returns
        -------
        list of ndarray of shape (n_samples, n_components), float32
        """
        return self.fit(X, y, relations=relations).embeddings_

    def update(self, X: Any, y: Any = None, *, relations: Any = None, **parameters: Any) -> Self:
        """Add a data set, aligned with those before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The new data set.
        y : array-like, optional
            Its targets.
        relations : dict
            From rows of the new data set to the related rows of the last one, as in umap-learn:
            the other direction than in :meth:`fit`.
        **parameters
            Parameters of the new map instead of those of the constructor, such as
            ``n_neighbors=30``: those that may be a list.

        Returns
        -------
        self
            With free positions the maps so far stay as they are. A network continues to train with
            the old rows held in place; ``report_["drift"]`` says how far they moved.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If an argument is not as it should be, or a network was stored without its rows.
        """
        learned = self._model()
        self._check()
        number = len(learned.sizes)
        check_changed(parameters, self._has_network)
        recipe = self._recipe(number, parameters)
        data = self._checked(X, number)
        n_old, n_new = learned.sizes[-1], row_count(data.X)
        if relations is None:
            raise ValueError(
                "relations must be a dict from rows of the new data set to rows of the last one, "
                "got None. Pass relations=..., {} for none."
            )
        back = check_relation(relations, n_new, n_old, "relations")
        joined = (*learned.relations, inverse(back, n_old))
        if learned.has_network:
            self._aligned = self._update_network(learned, data, recipe, y, joined)
            return self
        built = fit_graph(data, recipe, y)
        between = [*learned.relations, between_graphs(joined[-1], None, built.inverse)]
        trained = fit_together([built], between, self._alignment, learned.embeddings())
        added = _free([built], trained, (), (parameters,))
        self._aligned = _with_report(
            replace(
                added,
                parts=(*learned.parts, *added.parts),
                sizes=(*learned.sizes, n_new),
                relations=joined,
                changed=(*learned.changed, parameters),
            )
        )
        return self

    def transform(self, X: Any, dataset: int = -1) -> NDArray[np.float32]:
        """Place new rows on one of the maps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with the columns of that data set.
        dataset : int, default=-1
            Number of the data set, the last by default. All maps of a network place a row alike.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there is no such data set, or the rows have other columns.
        """
        n_sets = len(self._model().sizes)
        if dataset not in Whole(-n_sets) or dataset >= n_sets:
            raise ValueError(
                f"dataset must be an integer from {-n_sets} to {n_sets - 1}, got "
                f"{short_text(dataset)}. Choose one of the {n_sets} data sets."
            )
        placed: NDArray[np.float32] = self.mappers_[dataset].transform(X)
        return placed

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model, fitted or not, as one safe file; :func:`neumap.load` reads it.

        Parameters
        ----------
        path : path-like
            As in :meth:`UMAP.save`. Training rows are kept where there is no network.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ArchiveError
            If a network or the training rows cannot be stored.
        """
        saved = SavedModel(
            type(self).__name__,
            self.get_params(deep=False),
            None,
            settings_of(vars(self)),
            vars(self).get("_aligned"),
        )
        return save_model(saved, path, keep_data=None)

    # ---- inside ----------------------------------------------------------------------------------

    @property
    def _has_network(self) -> bool:
        return bool(self.parametric)

    @property
    def _alignment(self) -> Alignment:
        return Alignment(float(self.alignment_regularisation), int(self.alignment_window_size))

    def _check(self) -> None:
        """Raise for what depends on the kind of positions."""
        check_parameters({name: getattr(self, name) for name in OWN}, self._constraints)
        if not self._has_network:
            for name, neutral in (("encoder", None), ("preset", "default")):
                value = getattr(self, name)
                if value is not neutral and value != neutral:
                    raise ValueError(
                        f"{name} must be {neutral!r} without a network, got {short_text(value)}. "
                        "Set parametric=True."
                    )
            return
        lists = [name for name in PER_SET if is_list(name, getattr(self, name))]
        if lists:
            raise ValueError(
                f"{lists[0]} must be one value with a network, which gives equal rows one place "
                f"in all maps, got {short_text(getattr(self, lists[0]))}. Pass one value, or set "
                "parametric=False."
            )
        for name, bad in (("unique", self.unique), ("metric", self.metric == "precomputed")):
            if bad:
                raise ValueError(
                    f"{name} must be another with a network for several data sets, got "
                    f"{getattr(self, name)!r}. Change {name}, or set parametric=False."
                )

    def _single(self, number: int, changed: Mapping[str, Any]) -> UMAP:
        """Return an unfitted model of one data set."""
        parameters = self.get_params(deep=False)
        for name in PER_SET:
            parameters[name] = value_for(name, parameters[name], number, name in changed)
        parameters |= changed
        own = {name: parameters.pop(name) for name in (*OWN, *OF_NETWORKS)}
        if not self._has_network:
            return UMAP(**parameters)
        if isinstance(parameters["init"], str) and parameters["init"] == "spectral":
            parameters["init"] = "auto"  # the default here; any other value a network refuses
        return ParametricUMAP(**parameters, encoder=own["encoder"], preset=own["preset"])

    def _recipe(self, number: int, changed: Mapping[str, Any]) -> Recipe:
        recipe = self._single(number, changed)._checked_recipe()
        recipe.check()
        if recipe.keeps_checkpoints:
            raise ValueError(
                "callbacks must hold no Checkpoint with AlignedUMAP, whose training cannot be "
                "resumed, got one. Remove it."
            )
        return recipe

    def _checked(self, rows: Any, number: int) -> Validated:
        try:
            return check_rows(rows, True, type(self).__name__)
        except (ValueError, TypeError) as error:
            raise type(error)(f"Data set {number}: {error}") from error

    def _fit_network(
        self,
        data: list[Validated],
        recipe: Recipe,
        targets: Sequence[Any],
        relations: tuple[NDArray[np.int64], ...],
    ) -> AlignedFitted:
        for number, part in enumerate(data):
            check_columns(part, data[0].n_features, number)
        stopped = replace(recipe, stops_at_graph=True, n_anchors=None)
        graphs = [fit_map(d, stopped, y=t).graph for d, t in zip(data, targets, strict=True)]
        fitted = fit_one_network(data, graphs, relations, self._alignment, recipe)
        sizes = tuple(row_count(part.X) for part in data)
        learned = AlignedFitted((fitted,), sizes, relations, ({},) * len(data))
        return _with_report(
            replace(learned, history=fitted.history or {}, report=fitted.report or {})
        )

    def _update_network(
        self,
        learned: AlignedFitted,
        data: Validated,
        recipe: Recipe,
        y: Any,
        relations: tuple[NDArray[np.int64], ...],
    ) -> AlignedFitted:
        old = learned.parts[0]
        check_columns(data, old.n_features, len(learned.sizes))
        before = old.data("update of a network")
        graph = fit_map(data, replace(recipe, stops_at_graph=True, n_anchors=None), y=y).graph
        start = WarmStart.after(old.positions, old.embed(data), old.encoder, old.history)
        # The old rows are one data set here: their graph has the edges between them already.
        n_old, n_new = sum(learned.sizes), row_count(data.X)
        last = np.full(n_old, NOTHING, dtype=np.int64)
        last[n_old - learned.sizes[-1] :] = relations[-1]
        alignment = replace(self._alignment, window=1)
        fitted = fit_one_network(
            [before, data], [old.graph, graph], [last], alignment, recipe, start
        )
        report = dict(fitted.report or {})
        if "landmark_drift" in report:
            report["drift"] = report["landmark_drift"]
        sizes = (*learned.sizes, n_new)
        changed = (*learned.changed, {})
        return _with_report(
            AlignedFitted((fitted,), sizes, relations, changed, fitted.history or {}, report)
        )

    # ---- copies ----------------------------------------------------------------------------------

    def __sklearn_clone__(self) -> Self:
        copied: Self = cloned(self)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied: Self = deeply_copied(self, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: with a network no training rows."""
        state = dict(super().__getstate__())
        if "_aligned" in state:
            state["_aligned"] = state["_aligned"].for_pickle()
        return state


def _free(
    sets: Sequence[DataSet],
    trained: Trained,
    relations: tuple[NDArray[np.int64], ...],
    changed: tuple[dict[str, Any], ...],
) -> AlignedFitted:
    parts = tuple(
        replace(data.fitted, embedding=positions)
        for data, positions in zip(sets, trained.positions, strict=True)
    )
    sizes = tuple(len(positions) for positions in trained.positions)
    report = {"n_steps": trained.n_steps, "n_edges": sum(len(d.graph.weights) for d in sets)}
    learned = AlignedFitted(parts, sizes, relations, changed, trained.history, report)
    return _with_report(learned) if len(relations) == len(sizes) - 1 else learned


def _with_report(learned: AlignedFitted) -> AlignedFitted:
    found = misalignment(learned.embeddings(), learned.relations)
    return replace(learned, report={**learned.report, "misalignment": found})
