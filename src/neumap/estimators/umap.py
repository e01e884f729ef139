"""``UMAP``: free positions, and the path of a fit that ``ParametricUMAP`` shares."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from neumap._device import resolve_device
from neumap._random import RandomState, resolve_seed
from neumap.callbacks import Callback, ProgressBar
from neumap.data import Validated, as_rows, check_input
from neumap.estimators import reference_names
from neumap.estimators.checks import check_parameters
from neumap.estimators.copies import cloned, deeply_copied
from neumap.estimators.fitting import (
    DistinctRows,
    Fit,
    StepCounter,
    check_positions,
    check_targets,
    distinct_rows,
    embedded_radii,
    joined_histories,
    resolve_optimizer,
    row_count,
    same_rows,
)
from neumap.estimators.graphs import (
    Graph,
    GraphSettings,
    Targets,
    build_graph,
)
from neumap.estimators.landmarks import Memory, drift, remember, stack_rows
from neumap.estimators.persistence import save_estimator
from neumap.estimators.placement import average_neighbors, place_rows
from neumap.estimators.presets import Budget, table_plan
from neumap.estimators.queries import neighbors_among_training_rows
from neumap.fuzzy import FuzzyGraph, difference, intersection, membership_to_train, union
from neumap.keras_bridge import wrap_callbacks
from neumap.layout import initial_positions
from neumap.losses import Kernel
from neumap.losses.density import DensityTerm
from neumap.losses.landmarks import LandmarkTerm
from neumap.losses.terms import Softening, Term, UmapTerm
from neumap.sampling import EdgeSampler
from neumap.similarity import find_ab
from neumap.training import Embedder, FreeEmbedder, Plan, train
from neumap.training.loop import History, Validation
from neumap.training.optimizers import OptimizerFactory

__all__ = ["UMAP"]

logger = logging.getLogger(__name__)

# Free positions move one by one, so the exact kernel is safe from the start.
TABLE_SOFTENING = Softening(start=0.01, end=0.001, hold=0.0)
TABLE_PARTNERS = 10

# Learned from the data before training; everything else a fit learned is replaced by the next.
OF_THE_DATA = ("n_features_in_", "feature_names_in_", "input_shape_")


class UMAP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""UMAP: one free position per row, learned from the fuzzy graph of nearest neighbours.

    Names, meanings and defaults are those of ``umap.UMAP``. For a network that gives the
    positions, and places new rows at once, see :class:`ParametricUMAP`.

    Parameters
    ----------
    n_neighbors : int, default=15
        Neighbours of a row, itself among them. More (50 to 200) show the large structure, fewer
        (5 to 10) the small one. At most the number of rows.
    n_components : int, default=2
        Width of the map. 2 or 3 for pictures, 5 to 50 before clustering.
    metric : str or callable, default="euclidean"
        A name in :data:`neumap.neighbors.METRICS`, a function of two rows, or ``"precomputed"``:
        X then holds distances, dense or sparse.
    metric_kwds : dict, optional
        Arguments of the metric, such as ``{"p": 3}`` for ``"minkowski"``.
    output_metric, output_metric_kwds
        Only ``"euclidean"`` without arguments: forces are written for that distance. Others raise.
    n_epochs : int, optional
        Length of the training; by default 500 up to 10,000 rows, 200 beyond. 0 keeps the start.
        More settle finer detail, at a cost that grows in proportion. See Notes.
    learning_rate : float, default=1.0
        Factor on the step size. 0.3 to 3 is sensible; ignored by an `optimizer` of your own,
        which brings its own.
    init : {"spectral", "tswspectral", "pca", "random", "auto"} or array, default="spectral"
        Where positions start, or the positions (n_samples, n_components); they are stretched to
        0..10. ``"tswspectral"`` starts its eigensolver from principal components; ``"auto"`` is
        ``"spectral"``.
    min_dist : float, default=0.1
        Distance on the map up to which rows count as one. 0 packs clusters (for clustering), 0.5
        spreads them (for looking at points). At most `spread`.
    spread : float, default=1.0
        Scale of the map; larger values move clusters apart.
    low_memory : bool, default=True
        False asks for nearest-neighbour descent (pynndescent), in its faster and larger way.
    n_jobs : int, default=-1
        Threads of the neighbour search; -1 takes all cores.
    set_op_mix_ratio : float in [0, 1], default=1.0
        1 keeps an edge that one of its two rows has (union), 0 one that both have (intersection).
        Small values part outliers from the rest.
    local_connectivity : float, default=1.0
        Neighbours that every row is fully connected to. Larger (up to the intrinsic dimension)
        joins sparse regions. Fractions interpolate.
    repulsion_strength, negative_sample_rate : float, default=1.0 and 5
        Their product is the weight of repulsion. Larger spreads the map; 0.5 to 3 and 2 to 20.
        The number of negatives per step is fixed, so neither costs time.
    transform_queue_size : float, default=4.0
        Times `n_neighbors`, the candidates that the approximate search holds with
        ``force_approximation_algorithm=True``. Larger finds more and takes longer; the search
        widens by itself until a sample of rows finds 98.5 % of its neighbours.
    a, b : float, optional
        The similarity ``1 / (1 + a d^(2b))`` itself, instead of `min_dist` and `spread`. Both or
        neither.
    random_state : int, numpy generator or None, default=None
        The same seed gives the same map on the same machine. None takes fresh entropy, and may
        search with more threads. Global generators are neither read nor moved.
    angular_rp_forest : bool, default=False
        True asks for nearest-neighbour descent (pynndescent) with trees split by angle.
    target_n_neighbors : int, default=-1
        Neighbours among numeric targets; -1 takes `n_neighbors`.
    target_metric : str or callable, default="categorical"
        What y holds: ``"categorical"`` labels (-1 for unlabelled rows), labels with groups
        (``"hierarchical_categorical"``), ``"ordinal"``, ``"count"``, ``"string"``, or numbers
        compared by a metric.
    target_metric_kwds : dict, optional
        Arguments of that metric. The groups of labels are ``{"cat_hierarchy": levels}``: dicts
        from label to group, the finest level first.
    target_weight : float in [0, 1], default=0.5
        0 lets the data rule, 1 the targets.
    transform_seed : int, default=42
        Chooses the training rows that push new rows away in :meth:`transform`.
    transform_mode : {"embedding", "graph"}, default="embedding"
        ``"graph"`` stops at the fuzzy graph and returns it.
    force_approximation_algorithm : bool, default=False
        Search approximately however few rows there are.
    verbose : bool or int, default=False
        Show a progress bar on stderr. Results do not depend on it.
    tqdm_kwds : dict, optional
        Arguments of the bar.
    unique : bool, default=False
        Train on distinct rows only and give equal rows one position. For data with many copies.
    densmap : bool, default=False
        Keep local densities too (densMAP): a term for the correlation of local radii.
    dens_lambda : float, default=2.0
        Weight of that term. 0.1 to 5.
    dens_frac : float in [0, 1], default=0.3
        Last share of the training in which it acts.
    dens_var_shift : float, default=0.1
        Added to the variance of the radii on the map; keeps the correlation finite.
    output_dens : bool, default=False
        :meth:`fit_transform` also returns the local radii, in the data and on the map.
    disconnection_distance : float, optional
        Rows this far apart are no neighbours. By default the greatest distance that the metric
        knows, where it knows one (2 for cosine, 1 for jaccard).
    precomputed_knn : tuple of arrays, optional
        (indices, distances) of the nearest neighbours, (n_samples, k) each with
        ``k >= n_neighbors``; saves the search over several fits.
    batch_size : int, optional
        Edges per step; by default a quarter of an epoch's draws, so that nearly every row moves
        in each step.
    n_training_epochs : int, default=1
        Repeats the whole budget.
    loss_report_frequency : int, default=10
        Lines of ``history_`` per training epoch; callbacks run as often.
    optimizer : str, torch.optim class or instance, Keras optimizer or callable, optional
        By default Adam with a step size that falls to zero along a cosine. Another optimiser
        keeps its own learning rate.
    callbacks : Callback or sequence of them, optional
        From :mod:`neumap.callbacks` or Keras, such as early stopping.
    max_time : float, optional
        Seconds of training; it is annealed to end in time.
    device : str or torch.device, default="auto"
        ``"cpu"``, ``"cuda"``, ``"mps"``; ``"auto"`` takes CUDA where there is a card.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components), float32
        Positions; NaN for rows without any neighbour (of free positions, not of an encoder).
    graph_ : scipy CSR matrix of shape (n_samples, n_samples)
        Membership strengths, symmetric.
    history_ : dict of str to list of float
        ``"loss"`` and every term of it, one mean per report.
    report_ : dict
        ``neighbors`` (which search), ``neighbor_recall`` (measured on a sample),
        ``neighbor_seconds``, ``graph_seconds``, ``training_seconds``, ``total_seconds``,
        ``n_steps`` (taken), ``n_edges``, ``device``; ``landmark_drift`` after an update.
    rad_orig_, rad_emb_ : ndarray of shape (n_samples,), float32
        Log local radii in the data and on the map, with ``output_dens=True``.
    n_features_in_ : int
        Numbers per row.
    feature_names_in_ : ndarray of str
        Column names, if all of them are strings.
    input_shape_ : tuple of int
        Shape of one row as passed.

    See Also
    --------
    ParametricUMAP : The same with a network.

    Notes
    -----
    With the similarity ``q = 1 / (1 + a d^(2b))`` of two positions at distance ``d``, and ``w`` the
    membership strengths, training minimises UMAP's cross entropy [1]_ by sampling,

    .. math::

        \sum_{ij} w_{ij} \left[ -\log q_{ij}
        - m \gamma \, \mathbb{E}_{k} \log (1 - q_{ik}) \right],

    where *m* is `negative_sample_rate` and *γ* `repulsion_strength`. Edges are drawn in proportion
    to ``w``, all rows of a batch move at once, by Adam. The logarithms are taken of ``q`` itself,
    in a form that stays finite where points coincide; see :mod:`neumap.losses`.

    One epoch is one step here: umap-learn's epoch draws each edge as often as it weighs, and a
    step draws a quarter of that. `n_epochs` therefore means about the same as there. With a
    `batch_size` of your own the edges drawn stay and the number of steps changes.

    :meth:`transform` places a row by itself among its neighbours in the training data, which are
    kept by reference.

    References
    ----------
    .. [1] L. McInnes, J. Healy and J. Melville, "UMAP: Uniform Manifold Approximation and
       Projection for Dimension Reduction", arXiv:1802.03426, 2018.
    .. [2] A. Narayan, B. Berger and H. Cho, "Assessing single-cell transcriptomic variability
       through density-preserving data visualization", Nature Biotechnology 39, 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from neumap import UMAP
    >>> X = load_digits().data
    >>> model = UMAP(n_epochs=50, random_state=0).fit(X[:400])
    >>> model.embedding_.shape, model.report_["neighbors"]
    ((400, 2), 'exact')
    >>> model.transform(X[400:405]).shape
    (5, 2)
    """

    def __init__(  # noqa: PLR0915 - a constructor stores, one statement per parameter
        self,
        n_neighbors: int = 15,
        n_components: int = 2,
        *,
        metric: Any = "euclidean",
        metric_kwds: dict[str, Any] | None = None,
        output_metric: str = "euclidean",
        output_metric_kwds: dict[str, Any] | None = None,
        n_epochs: int | None = None,
        learning_rate: float = 1.0,
        init: str | ArrayLike = "spectral",
        min_dist: float = 0.1,
        spread: float = 1.0,
        low_memory: bool = True,
        n_jobs: int | None = -1,
        set_op_mix_ratio: float = 1.0,
        local_connectivity: float = 1.0,
        repulsion_strength: float = 1.0,
        negative_sample_rate: float = 5,
        transform_queue_size: float = 4.0,
        a: float | None = None,
        b: float | None = None,
        random_state: RandomState = None,
        angular_rp_forest: bool = False,
        target_n_neighbors: int = -1,
        target_metric: Any = "categorical",
        target_metric_kwds: dict[str, Any] | None = None,
        target_weight: float = 0.5,
        transform_seed: int = 42,
        transform_mode: Literal["embedding", "graph"] = "embedding",
        force_approximation_algorithm: bool = False,
        verbose: bool | int = False,
        tqdm_kwds: dict[str, Any] | None = None,
        unique: bool = False,
        densmap: bool = False,
        dens_lambda: float = 2.0,
        dens_frac: float = 0.3,
        dens_var_shift: float = 0.1,
        output_dens: bool = False,
        disconnection_distance: float | None = None,
        precomputed_knn: Any = None,
        batch_size: int | None = None,
        n_training_epochs: int = 1,
        loss_report_frequency: int = 10,
        optimizer: Any = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        max_time: float | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.metric = metric
        self.metric_kwds = metric_kwds
        self.output_metric = output_metric
        self.output_metric_kwds = output_metric_kwds
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.init = init
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
        self.transform_mode = transform_mode
        self.force_approximation_algorithm = force_approximation_algorithm
        self.verbose = verbose
        self.tqdm_kwds = tqdm_kwds
        self.unique = unique
        self.densmap = densmap
        self.dens_lambda = dens_lambda
        self.dens_frac = dens_frac
        self.dens_var_shift = dens_var_shift
        self.output_dens = output_dens
        self.disconnection_distance = disconnection_distance
        self.precomputed_knn = precomputed_knn
        self.batch_size = batch_size
        self.n_training_epochs = n_training_epochs
        self.loss_report_frequency = loss_report_frequency
        self.optimizer = optimizer
        self.callbacks = callbacks
        self.max_time = max_time
        self.device = device

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
    ) -> Self:
        """Learn the map of X.

        Parameters
        ----------
        X : array-like, sparse matrix, table, Tensor, Dataset or AnnData, (n_samples, n_features)
            Training rows; distances (n_samples, n_samples) if ``metric="precomputed"``.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), optional
            Labels (-1 for unlabelled rows) or values; see `target_metric`.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values are refused.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are not as they should be.
        TrainingDivergedError
            If the loss is no longer finite.
        """
        self._fit(self._check_X(X, ensure_all_finite), y)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Learn the map of X and return the positions of its rows.

        Parameters
        ----------
        X, y, **fit_params
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32
            Positions. With ``output_dens=True`` a tuple with the original and the embedded local
            radii; with ``transform_mode="graph"`` the fuzzy graph as a sparse matrix.
        """
        self.fit(X, y, **fit_params)
        if self.transform_mode == "graph":
            return self.graph_
        if self.output_dens:
            return self.embedding_, self.rad_orig_, self.rad_emb_
        return self.embedding_

    def transform(self, X: Any, *, ensure_all_finite: bool | Literal["allow-nan"] = True) -> Any:
        """Place rows on the learned map.

        Each row is placed on its own: near its neighbours among the training rows, then moved by
        the forces of UMAP while the training rows stay. A training row goes to its own position.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to place; distances (n_samples, n_training) if ``metric="precomputed"``.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values are refused.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32
            Positions; the same for a row whatever rows come with it. With
            ``transform_mode="graph"`` the sparse memberships (n_samples, n_training) instead.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If X has another width than the training rows.
        """
        check_is_fitted(self, "graph_")
        return self._place(self._check_X(X, ensure_all_finite, fitted=True))

    def update(self, X: Any, *, ensure_all_finite: bool | Literal["allow-nan"] = True) -> Self:
        """Add rows to the map and train on, holding the old rows where they are.

        Parameters
        ----------
        X : array-like of shape (n_new, n_features)
            Rows to add after the training rows so far.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values are refused.

        Returns
        -------
        self
            ``embedding_`` and ``graph_`` hold the old rows and then the new ones;
            ``report_["landmark_drift"]`` says how far the old rows moved.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            After a supervised or precomputed fit, or where the training rows are not at hand.
        """
        check_is_fitted(self, "embedding_")
        added = self._check_X(X, ensure_all_finite, fitted=True)
        self._fit_joined(*self._joined_with(added))
        return self

    def _joined_with(self, added: Validated) -> tuple[Validated, Memory]:
        """Return old rows with new ones after them, and the positions of the old."""
        if self.metric == "precomputed" or self._is_supervised:
            kind = "precomputed" if self.metric == "precomputed" else "supervised"
            raise ValueError(
                f"update cannot extend a {kind} fit: it has no distances or labels for the new "
                "rows. Fit on all rows instead."
            )
        if not hasattr(self, "_raw_data") or self.unique:
            raise ValueError(
                "update needs the training rows of a fit with unique=False, which this model does "
                "not have at hand. Use add_landmarks(old rows) and fit(new rows)."
            )
        memory = remember(self.embedding_, self._place(added))
        return replace(added, X=stack_rows(self._raw_data, added.X)), memory

    def _fit_joined(self, data: Validated, memory: Memory) -> None:
        self._fit(data, None, memory=memory)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Fit the first rows, or add rows to a fitted map; see :meth:`update`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like, optional
            Labels, for the first call only.

        Returns
        -------
        self
        """
        if not hasattr(self, "embedding_"):
            return self.fit(X, y)
        if y is not None:
            self._check_X(X, True, fitted=True)
            raise ValueError("partial_fit takes labels in the first call only. Leave y out.")
        return self.update(X)

    def __add__(self, other: UMAP) -> Any:
        """Return a model of the union of two graphs over the same samples."""
        return self._combined(other, union)

    def __mul__(self, other: UMAP) -> Any:
        """Return a model of the intersection of two graphs over the same samples."""
        return self._combined(other, intersection)

    def __sub__(self, other: UMAP) -> Any:
        """Return a model of this graph without the structure of another one."""
        return self._combined(other, difference)

    def _combined(self, other: Any, operation: Any) -> Any:
        """Train a model with these parameters and rows on a combination of two graphs."""
        if not isinstance(other, UMAP):
            return NotImplemented
        check_is_fitted(self, "graph_")
        check_is_fitted(other, "graph_")
        if self.graph_.shape != other.graph_.shape:
            raise ValueError(
                "Both models must be fitted on the same samples: expected graphs of one size, got "
                f"{self.graph_.shape[0]} and {other.graph_.shape[0]} rows."
            )
        if not hasattr(self, "_raw_data"):
            raise ValueError("Combining models needs the training rows, which were not saved.")
        began = time.perf_counter()
        model = clone(self)
        for name in ("n_features_in_", "feature_names_in_", "input_shape_"):
            if hasattr(self, name):
                setattr(model, name, getattr(self, name))
        fuzzy = operation(FuzzyGraph.from_matrix(self.graph_), FuzzyGraph.from_matrix(other.graph_))
        device = resolve_device(self.device)
        rows = as_rows(self._raw_data, dims=self._dims(), device=device)
        seed = resolve_seed(self.random_state)
        model._learn(Fit(rows, Graph(None, fuzzy, 0.0, 0.0), seed, device), self._raw_data, began)
        return model

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.transformer_tags.preserves_dtype = ["float32"]  # positions are always float32
        return tags

    n_features_in_: int

    def _check_X(
        self, X: Any, ensure_all_finite: bool | Literal["allow-nan"], *, fitted: bool = False
    ) -> Validated:
        """Check data; while fitting, remember their width and column names."""
        checked = check_input(
            X,
            ensure_all_finite=ensure_all_finite,
            n_features=self.n_features_in_ if fitted else None,
            feature_names=getattr(self, "feature_names_in_", None) if fitted else None,
            min_rows=1 if fitted else 2,
            estimator_name=type(self).__name__,
        )
        if not fitted:
            self.n_features_in_ = checked.n_features
            if checked.feature_names is not None:
                self.feature_names_in_ = checked.feature_names
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        return checked

    def _fit(
        self,
        data: Validated,
        y: Any,
        *,
        distances: Any = None,
        memory: Memory | None = None,
        fuzzy: FuzzyGraph | None = None,
    ) -> None:
        """Run the path of a fit on checked data.

        `distances` replace rows in the search for neighbours, `fuzzy` the whole graph.
        """
        check_parameters(self.get_params(deep=False))
        began = time.perf_counter()
        device, seed = resolve_device(self.device), resolve_seed(self.random_state)
        distinct = distinct_rows(data.X) if self.unique else None
        X = data.X if distinct is None else data.X[distinct.first]
        rows = as_rows(X, dims=self._dims(), device=device)
        targets = None if y is None else self._targets(y, data, distinct)
        matrix = rows.to_matrix() if distances is None else distances
        # Without a seed the approximate search may build its index with all threads.
        settings = self._graph_settings(None if self.random_state is None else seed)
        if fuzzy is None:
            graph = build_graph(matrix, settings, targets, device=device)
        else:
            graph = Graph(None, fuzzy, 0.0, 0.0)
        self.input_shape_ = data.row_shape
        values = None if targets is None else targets.values
        self._learn(Fit(rows, graph, seed, device, distinct, values, memory), X, began)

    def _learn(self, fit: Fit, X: Any, began: float) -> None:
        """Train on a graph and keep what was learned."""
        if self.transform_mode == "graph":
            self._keep_graph(fit, X)
            return
        embedder, terms = self._trained_parts(fit)
        trained = time.perf_counter()
        before: History = getattr(self, "history_", {}) if fit.goes_on else {}
        history, n_steps = ({}, 0) if self.n_epochs == 0 else self._train(fit, embedder, terms)
        self._keep_graph(fit, X)
        self.history_ = joined_histories(before, history)
        self._keep_positions(fit, embedder, terms)
        self.report_ = self._report(fit, n_steps, began, trained)
        logger.info("fitted %d rows in %.1f s", fit.rows.n_rows, self.report_["total_seconds"])

    # Read by programs for umap-learn, such as umap.plot.
    _history = property(reference_names.history)
    _n_neighbors = property(reference_names.n_neighbors)
    _a = property(reference_names.a)
    _b = property(reference_names.b)
    _metric_kwds = property(reference_names.metric_kwds)
    _small_data = property(reference_names.small_data)
    _knn_indices = property(reference_names.knn_indices)
    _knn_dists = property(reference_names.knn_dists)
    _knn_search_index = property(reference_names.knn_search_index)

    def _keep_graph(self, fit: Fit, X: Any) -> None:
        """Forget an earlier fit and keep the graph of this one."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            if name not in OF_THE_DATA:
                delattr(self, name)
        self._n_features_out = self.n_components
        self.graph_ = fit.graph.fuzzy.to_csr()
        self._is_supervised = fit.targets is not None
        # By reference. Placing rows without an encoder needs them, and so do updates.
        self._raw_data = X

    def _report(self, fit: Fit, n_steps: int, began: float, trained: float) -> dict[str, Any]:
        now = time.perf_counter()
        neighbors = fit.graph.neighbors
        report: dict[str, Any] = {
            "neighbors": None if neighbors is None else neighbors.backend,
            "neighbor_recall": None if neighbors is None else neighbors.recall,
            "neighbor_seconds": fit.graph.neighbor_seconds,
            "graph_seconds": fit.graph.fuzzy_seconds,
            "training_seconds": now - trained,
            "total_seconds": now - began,
            "n_steps": n_steps,
            "n_edges": len(fit.graph.fuzzy.weights),
            "device": str(fit.device),
        }
        if fit.memory is not None:
            report["landmark_drift"] = drift(self.embedding_, fit.memory.positions)
        return report

    def _dims(self) -> tuple[int, ...] | None:
        return None

    def _graph_settings(self, seed: int | None) -> GraphSettings:
        return GraphSettings(
            n_neighbors=self.n_neighbors,
            metric=self.metric,
            metric_kwds=self.metric_kwds,
            set_op_mix_ratio=self.set_op_mix_ratio,
            local_connectivity=self.local_connectivity,
            disconnection_distance=self.disconnection_distance,
            precomputed_knn=self.precomputed_knn,
            force_approximation_algorithm=self.force_approximation_algorithm,
            angular_rp_forest=self.angular_rp_forest,
            low_memory=self.low_memory,
            n_jobs=self.n_jobs,
            transform_queue_size=self.transform_queue_size,
            seed=seed,
            verbose=bool(self.verbose),
        )

    def _targets(self, y: Any, data: Validated, distinct: DistinctRows | None) -> Targets:
        values = check_targets(y, row_count(data.X))
        n_neighbors = self.target_n_neighbors
        return Targets(
            values=values if distinct is None else values[distinct.first],
            metric=self.target_metric,
            metric_kwds=self.target_metric_kwds,
            weight=self.target_weight,
            n_neighbors=self.n_neighbors if n_neighbors == -1 else n_neighbors,
        )

    def _kernel(self) -> Kernel:
        a, b = (self.a, self.b) if self.a is not None else find_ab(self.spread, self.min_dist)
        assert b is not None
        weight = self.negative_sample_rate * self.repulsion_strength * self._repulsion_factor()
        return Kernel(float(a), float(b), weight)

    def _repulsion_factor(self) -> float:
        """Return what a negative weighs: umap-learn pushes one end of it, here both ends move."""
        return 0.5

    def _density_factor(self) -> float:
        """Return what `dens_lambda` is multiplied by.

        The gradient of umap-learn has the balance of 2, but it clips what each edge adds. At a
        quarter maps keep as much as its own do; see "densMAP" in docs/decisions.md.
        """
        return 0.25

    def _budget(self) -> Budget:
        return Budget(
            n_epochs=self.n_epochs,
            n_training_epochs=self.n_training_epochs,
            batch_size=self.batch_size,
            n_reports=self.loss_report_frequency * self.n_training_epochs,
            learning_rate=self.learning_rate,
            max_time=self.max_time,
        )

    def _trained_parts(self, fit: Fit) -> tuple[Embedder, list[Term]]:
        """Return what gives positions and the terms it is trained on."""
        initial = self._initial_positions(fit)
        terms: list[Term] = [UmapTerm(self._kernel(), TABLE_SOFTENING, TABLE_PARTNERS)]
        terms += [*self._density_terms(fit), *self._landmark_terms(fit)]
        return FreeEmbedder(initial).to(fit.device), terms

    def _initial_positions(self, fit: Fit) -> NDArray[np.float32]:
        if fit.memory is not None and fit.memory.initial is not None:
            return fit.memory.initial
        init = self.init
        return initial_positions(
            "spectral" if isinstance(init, str) and init == "auto" else init,
            graph=fit.graph.fuzzy,
            X_matrix=fit.rows.to_matrix(),
            n_components=self.n_components,
            seed=fit.seed,
        )

    def _landmark_terms(self, fit: Fit) -> list[Term]:
        """Return the term that holds remembered positions, where there are any."""
        if fit.memory is None:
            return []
        targets = fit.memory.positions
        distinct = targets if fit.distinct is None else targets[fit.distinct.first]
        weight, loss_fn = self._landmark_loss(fit.memory)
        return [LandmarkTerm(torch.from_numpy(distinct).to(fit.device), weight, loss_fn)]

    def _landmark_loss(self, memory: Memory) -> tuple[float, Any]:
        return 1.0 if memory.loss_weight is None else memory.loss_weight, None

    def _density_terms(self, fit: Fit) -> list[Term]:
        if not self.densmap:
            return []
        kernel = self._kernel()
        return [
            DensityTerm(
                radii=torch.from_numpy(fit.graph.radii()).to(fit.device),
                a=kernel.a,
                b=kernel.b,
                weight=self._density_factor() * self.dens_lambda,
                var_shift=self.dens_var_shift,
                start=1.0 - self.dens_frac,
            )
        ]

    def _plan(self, fit: Fit) -> Plan:
        return table_plan(
            self._budget(),
            fit.rows.n_rows,
            fit.graph.total_weight,
            own_optimizer=self.optimizer is not None,
        )

    def _optimizer_factory(self) -> OptimizerFactory:
        return resolve_optimizer(self.optimizer)

    def _train(self, fit: Fit, embedder: Embedder, terms: Sequence[Term]) -> tuple[History, int]:
        """Train, and return the history and the number of steps taken."""
        counter = StepCounter()
        history = train(
            embedder,
            terms,
            EdgeSampler(fit.graph.fuzzy, seed=fit.seed, device=fit.device),
            self._plan(fit),
            seed=fit.seed,
            optimizer=self._optimizer_factory(),
            callbacks=[*self._watchers(), counter],
            validate=self._validation(fit, embedder, terms),
        )
        return history, counter.n_steps

    def _validation(self, fit: Fit, embedder: Embedder, terms: Sequence[Term]) -> Validation | None:
        return None

    def _watchers(self) -> list[Callback]:
        """Return the user's callbacks, and a progress bar where one is wanted."""
        chosen = list(wrap_callbacks(self.callbacks))
        if self._shows_progress():
            chosen.append(ProgressBar(tqdm_kwds=self.tqdm_kwds))
        return chosen

    def _shows_progress(self) -> bool:
        return bool(self.verbose)

    def _keep_positions(self, fit: Fit, embedder: Embedder, terms: Sequence[Term]) -> None:
        """Set the learned attributes."""
        positions = embedder.embed_all()
        if embedder.encoder is None:
            positions[fit.graph.fuzzy.isolated()] = np.nan  # nothing says where they belong
        if self.output_dens:
            self.rad_orig_ = fit.expand(fit.graph.radii())
            self.rad_emb_ = fit.expand(embedded_radii(positions, self.n_neighbors))
        self.embedding_ = fit.expand(positions)
        self._placed = positions

    def _place(self, new: Validated) -> Any:
        """Place checked rows among the training rows."""
        self._need_training_rows("Placing rows without an encoder")
        if self.transform_mode == "embedding" and same_rows(new.X, self._raw_data):
            return self._placed.copy()  # equal training rows may have positions of their own
        indices, distances = self._neighbors_of(new)
        if self.transform_mode == "graph":
            return membership_to_train(
                indices,
                distances,
                row_count(self._raw_data),
                local_connectivity=self.local_connectivity,
                disconnection_distance=self._graph_settings(None).farthest,
            )
        return place_rows(
            indices,
            distances,
            self._placed,
            self._kernel(),
            local_connectivity=self.local_connectivity,
            seed=self.transform_seed,
        )

    def _neighbors_of(self, new: Validated) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return numbers and distances of the training rows nearest to checked rows."""
        settings = self._graph_settings(self.transform_seed)
        return neighbors_among_training_rows(self, new.X, settings)

    def _need_training_rows(self, what: str) -> None:
        if not hasattr(self, "_raw_data"):
            raise ValueError(
                f"{what} needs the training rows, which were not saved with this model. Save it "
                "with keep_data=True."
            )

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return rows of data for positions on the map.

        Each position becomes the mean of the training rows nearest to it on the map, weighted by
        the similarity ``1 / (1 + a d^(2b))``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Positions.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
            Rows in data space, shaped like the rows passed to :meth:`fit`.

        Raises
        ------
        ValueError
            If the positions have another width, or the training rows are not at hand.
        """
        check_is_fitted(self, "graph_")
        positions = check_positions(X, self.n_components)
        if not hasattr(self, "_raw_data") or self.metric == "precomputed":
            raise ValueError(
                "inverse_transform needs a decoder: fit with parametric_reconstruction=True. "
                "Without one it averages training rows, which this model does not keep."
            )
        training = as_rows(self._raw_data).to_matrix()
        rows = average_neighbors(
            positions, self._placed, training, self._kernel(), self.n_neighbors
        )
        return rows.reshape(len(rows), *self.input_shape_)

    # ---------------------------------------------------------------- keep

    def save(self, path: str | os.PathLike[str], *, keep_data: bool | None = None) -> Path:
        """Write the model, fitted or not, as one safe file; :func:`neumap.load` reads it.

        The file holds the parameters, what was learned, and the networks with their weights. It
        holds no code: functions (metrics, losses) and callbacks are left out, with a warning.
        It appears complete or not at all.

        Parameters
        ----------
        path : path-like
            A file, if the name has a suffix. An existing folder, or a name without a suffix,
            means the file ``model.neumap`` in that folder. Missing folders are made.
        keep_data : bool, optional
            Whether the file holds rows of data: the training rows and `reconstruction_validation`.
            By default only the training rows of a model without an encoder are kept, which it
            cannot place new rows without. Landmarks are always kept.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ArchiveError
            If a network or the training rows cannot be stored. It is a ``ValueError``.

        Warns
        -----
        UserWarning
            Naming what is left out.
        """
        return save_estimator(self, path, keep_data=keep_data)

    def __sklearn_clone__(self) -> Self:
        copied: Self = cloned(self)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied: Self = deeply_copied(self, memo)
        return copied
