"""``UMAP``: free positions, learned from the fuzzy graph of nearest neighbours."""

from __future__ import annotations

import copyreg
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from neumap._card import Card
from neumap._device import resolve_device
from neumap._random import RandomState
from neumap._ranks import telling_errors
from neumap.callbacks import Callback
from neumap.data import Validated, row_count, stack
from neumap.estimators.alignment import aligned, check_frame, check_is_flat
from neumap.estimators.constraints import (
    ANYTHING,
    ARGUMENTS,
    ARRAY,
    FUNCTION,
    GENERATOR,
    N_JOBS,
    NAME,
    NONE,
    SWITCH,
    Constraints,
    Number,
    Whole,
    Word,
    check_parameter,
    check_parameters,
)
from neumap.estimators.documentation import DocumentationLink
from neumap.estimators.fitted import EnsureFinite, Fitted, Learned, check_rows, left_out
from neumap.estimators.fitting import fit_map
from neumap.estimators.growing import Stream, keep_rows, labels_after
from neumap.estimators.landmarks import WarmStart
from neumap.estimators.new_rows.to_file import write_positions
from neumap.estimators.new_rows.transform import embed, invert
from neumap.estimators.new_rows.unusual import warn_of_unusual_rows
from neumap.estimators.recipe import Recipe, free_recipe
from neumap.estimators.resuming import read_resume
from neumap.estimators.saving.copies import cloned, deeply_copied, settings_of
from neumap.estimators.saving.files import SavedModel, save_model
from neumap.estimators.umap_learn_names import UmapLearnNames
from neumap.fuzzy import FuzzyGraph, difference, intersection, union
from neumap.keras_bridge import is_keras_model
from neumap.losses.output_metrics import resolve_output_metric
from neumap.supervision import LABEL_METRICS
from neumap.training.loop import History

__all__ = ["UMAP"]

INIT_WORDS = ("auto", "spectral", "tswspectral", "pca", "random")


def _labels_of(fitted: Fitted) -> Any:
    return () if fitted.classes is None else fitted.classes


class UMAP(
    UmapLearnNames,
    DocumentationLink,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    r"""UMAP: one free position per row, learned from the fuzzy graph of nearest neighbours.

    Names, meanings and defaults are those of ``umap.UMAP``. :class:`ParametricUMAP` learns a
    network instead, which places new rows at once.

    Parameters
    ----------
    n_neighbors : int, default=15
        Neighbours of a row, including itself. More (50 to 200) show global structure, fewer (5 to
        10) local structure. At most the number of rows.
    n_components : int, default=2
        Dimensions of the embedding: 2 or 3 for plots, 5 to 50 before clustering.
    metric : str or callable, default="euclidean"
        A name in :data:`neumap.neighbors.METRICS`, a function of two rows, or ``"precomputed"``:
        X then holds distances, dense or sparse.
    metric_kwds : dict, optional
        Arguments of the metric, such as ``{"p": 3}`` for ``"minkowski"``.
    output_metric : str or callable, default="euclidean"
        Distance in the embedding: also ``"haversine"`` (a sphere; angle from the pole and
        longitude), ``"hyperboloid"``, ``"gaussian_energy"`` (5 components), ``"manhattan"`` and
        others of ``neumap.losses.OUTPUT_METRICS``, a function of two tensors
        ``(..., n_components)`` that returns distances ``(...)``, or a function of two rows compiled
        by numba that returns distance and gradient. All but Euclidean distance take several times
        as long. Not with `densmap` or `output_dens`.
    output_metric_kwds : dict, optional
        Arguments of that metric, such as ``{"p": 3}`` for ``"minkowski"``.
    n_epochs : int, optional
        Length of the training; by default 500 up to 10,000 rows, 200 beyond. 0 keeps the initial
        positions. More epochs resolve finer detail; the cost is proportional. See Notes.
    learning_rate : float, default=1.0
        Factor on the step size, 0.3 to 3. An `optimizer` that you pass keeps its own learning rate
        and ignores this factor.
    init : {"spectral", "tswspectral", "pca", "random", "auto"} or array, default="spectral"
        Method for the initial positions, or the positions (n_samples, n_components), of which each
        axis is scaled to 0..10 (kept as it is with another `output_metric` than Euclidean).
        ``"tswspectral"`` starts its eigensolver from principal components;
        ``"auto"`` is ``"spectral"``.
    min_dist : float, default=0.1
        Distance in the embedding below which similar rows attract no further. 0 packs clusters
        tightly (for clustering), 0.5 spreads them (for plots). At most `spread`.
    spread : float, default=1.0
        Scale of the embedding; larger values move clusters apart.
    low_memory : bool, default=True
        False uses pynndescent with its faster, more memory-hungry settings.
    n_jobs : int, default=-1
        Threads of the neighbour search; -1 uses all cores that the process may use, which a
        container's quota may limit.
    set_op_mix_ratio : float in [0, 1], default=1.0
        1 keeps an edge that either of its rows has (union), 0 only an edge that both have
        (intersection). Small values separate outliers.
    local_connectivity : float, default=1.0
        Neighbours that every row is fully connected to. Larger values, up to the intrinsic
        dimension, connect sparse regions. Fractions interpolate.
    repulsion_strength, negative_sample_rate : float, default=1.0 and 5
        Their product is the weight of repulsion. Larger values spread the embedding; 0.5 to 3 and
        2 to 20. The number of negatives per step is fixed, so neither costs time.
    transform_queue_size : float, default=4.0
        The approximate search with ``force_approximation_algorithm=True`` keeps this many times
        `n_neighbors` candidates. Larger values find more neighbours and take longer. The search
        widens by itself until it finds 98.5 % of the neighbours of a sample of rows.
    a, b : float, optional
        Parameters of the similarity ``1 / (1 + a d^(2b))``, instead of `min_dist` and `spread`.
        Both or neither.
    random_state : int, numpy generator or None, default=None
        The same seed gives the same embedding on the same machine. None uses fresh entropy and may
        search with more threads. Global generators are neither read nor changed.
    angular_rp_forest : bool, default=False
        True uses pynndescent with trees split by angle.
    target_n_neighbors : int, default=-1
        Neighbours among numeric targets; -1 uses `n_neighbors`.
    target_metric : str or callable, default="categorical"
        Kind of y: ``"categorical"`` labels (-1 for unlabelled rows), labels with groups
        (``"hierarchical_categorical"``), ``"ordinal"``, ``"count"``, ``"string"``, or a metric for
        numbers.
    target_metric_kwds : dict, optional
        Arguments of that metric. The groups of labels are ``{"cat_hierarchy": levels}``: dicts
        from label to group, the finest level first.
    target_weight : float in [0, 1], default=0.5
        0 uses the data alone, 1 mostly the targets.
    transform_seed : int, default=42
        Seed for the training rows used as negatives in :meth:`transform`.
    transform_mode : {"embedding", "graph"}, default="embedding"
        ``"graph"`` stops at the fuzzy graph and returns it.
    force_approximation_algorithm : bool, default=False
        Use an approximate search for any number of rows.
    verbose : bool or int, default=False
        Show a progress bar on stderr. It does not change the result.
    tqdm_kwds : dict, optional
        Arguments of the progress bar.
    unique : bool, default=False
        Train on distinct rows only and give equal rows the same position. For data with many
        duplicates.
    densmap : bool, default=False
        Preserve local densities as well (densMAP), by a term for the correlation of local radii.
    dens_lambda : float, default=2.0
        Weight of that term. 0.1 to 5.
    dens_frac : float in [0, 1], default=0.3
        Fraction of the training, at its end, in which that term is active.
    dens_var_shift : float, default=0.1
        Added to the variance of the embedded radii; keeps the correlation finite.
    output_dens : bool, default=False
        :meth:`fit_transform` also returns the local radii in the data and in the embedding.
    disconnection_distance : float, optional
        Rows at this distance or farther are not neighbours. By default the largest distance of the
        metric, where it has one (2 for cosine, 1 for jaccard).
    precomputed_knn : tuple of arrays, optional
        (indices, distances) of the nearest neighbours, (n_samples, k) each with
        ``k >= n_neighbors``. Several fits can share one search.
    batch_size : int, optional
        Edges per step; by default a quarter of the edges that an epoch samples, so that nearly
        every row moves in each step.
    n_training_epochs : int, default=1
        Factor on the number of steps.
    loss_report_frequency : int, default=10
        Entries of ``history_`` per training epoch; callbacks run equally often.
    optimizer : str, torch.optim class or instance, Keras optimizer or callable, optional
        By default Adam with a step size that decays to zero along a cosine. An optimiser that you
        pass keeps its own learning rate.
    callbacks : Callback or sequence of them, optional
        From :mod:`neumap.callbacks` or Keras, such as early stopping.
    max_time : float, optional
        Seconds of training; the schedule is adapted to end in time.
    device : str or torch.device, default="auto"
        ``"cpu"``, ``"cuda"``, ``"mps"``; ``"auto"`` uses CUDA if there is a GPU.
    column : str, optional
        Column of a table that holds one vector per row, such as ``"embedding"``; the other columns
        are left out. By default a single column of vectors is found. Rows that are no table, such
        as an array of new vectors, are taken as they are.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components), float32
        Positions; NaN for rows without any neighbour (of free positions, not of an encoder).
    graph_ : scipy CSR matrix of shape (n_samples, n_samples)
        Membership strengths, symmetric.
    history_ : dict of str to list of float
        ``"loss"`` and its terms, one mean per report.
    report_ : dict
        ``neighbors`` (which search), ``neighbor_recall`` (measured on a sample),
        ``neighbor_seconds``, ``graph_seconds``, ``training_seconds``, ``total_seconds``,
        ``n_steps`` (taken), ``n_edges``, ``device``; ``landmark_drift`` after an update,
        ``partial_fit`` after :meth:`partial_fit` and ``alignment`` after a fit with `align_to`;
        ``n_anchors``, None where the neighbours of every row were searched for, and ``n_joined``.
    rad_orig_, rad_emb_ : ndarray of shape (n_samples,), float32
        Log local radii in the data and in the embedding, with ``output_dens=True``.
    n_features_in_ : int
        Number of values per row.
    feature_names_in_ : ndarray of str
        Column names, if all of them are strings.
    input_shape_ : tuple of int
        Shape of one row as passed.

    See Also
    --------
    ParametricUMAP : A network that gives the positions.

    Notes
    -----
    With the similarity ``q = 1 / (1 + a d^(2b))`` of two positions at distance ``d``, and ``w`` the
    membership strengths, training minimises UMAP's cross entropy [1]_ by sampling,

    .. math::

        \sum_{ij} w_{ij} \left[ -\log q_{ij}
        - m \gamma \, \mathbb{E}_{k} \log (1 - q_{ik}) \right],

    where *m* is `negative_sample_rate` and *γ* `repulsion_strength`. Edges are sampled in
    proportion to ``w``, and Adam moves all rows of a batch at once. The logarithms are those of
    ``q`` itself, in a form that stays finite where points coincide; see :mod:`neumap.losses`.

    One epoch is one step here. In umap-learn an epoch samples each edge in proportion to its
    weight; one step here samples a quarter as many, which gives `n_epochs` about the same meaning.
    If you set `batch_size`, the total number of sampled edges stays the same and the number of
    steps changes.

    :meth:`transform` places each row on its own among its neighbours in the training data, which
    are kept by reference.

    A fit replaces the whole model at its end. If it fails or is interrupted (Ctrl-C), the model
    stays what it was: the earlier fit, or unfitted.

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

    # What each parameter may be. The recipe of a fit checks what depends on several parameters,
    # and the room that uses it checks what may be ANYTHING.
    _constraints: ClassVar[Constraints] = {
        "n_neighbors": (Whole(2),),
        "n_components": (Whole(1),),
        "metric": (ANYTHING,),
        "metric_kwds": (ARGUMENTS, NONE),
        "output_metric": (NAME, FUNCTION),
        "output_metric_kwds": (ARGUMENTS, NONE),
        "n_epochs": (Whole(0), NONE),
        "learning_rate": (Number(),),
        "init": (Word(INIT_WORDS), ARRAY),
        "min_dist": (Number(),),
        "spread": (Number(),),
        "low_memory": (SWITCH,),
        "n_jobs": (N_JOBS, NONE),
        "set_op_mix_ratio": (Number(high=1.0),),
        "local_connectivity": (Number(),),
        "repulsion_strength": (Number(),),
        "negative_sample_rate": (Number(),),
        "transform_queue_size": (Number(),),
        "a": (Number(above=True), NONE),
        "b": (Number(above=True), NONE),
        "random_state": (Whole(0), GENERATOR, NONE),
        "angular_rp_forest": (SWITCH,),
        "target_n_neighbors": (Whole(2, others=(-1,)),),
        "target_metric": (NAME, FUNCTION),
        "target_metric_kwds": (ARGUMENTS, NONE),
        "target_weight": (Number(high=1.0),),
        "transform_seed": (Whole(0),),
        "transform_mode": (Word(("embedding", "graph")),),
        "force_approximation_algorithm": (SWITCH,),
        "verbose": (SWITCH, Whole(0)),
        "tqdm_kwds": (ARGUMENTS, NONE),
        "unique": (SWITCH,),
        "densmap": (SWITCH,),
        "dens_lambda": (Number(),),
        "dens_frac": (Number(high=1.0),),
        "dens_var_shift": (Number(),),
        "output_dens": (SWITCH,),
        "disconnection_distance": (Number(), NONE),
        "precomputed_knn": (ANYTHING,),
        "batch_size": (Whole(1), NONE),
        "n_training_epochs": (Whole(1),),
        "loss_report_frequency": (Whole(1),),
        "optimizer": (ANYTHING,),
        "callbacks": (ANYTHING,),
        "max_time": (Number(above=True), NONE),
        "device": (ANYTHING,),
        "column": (NAME, NONE),
    }

    # From parameters to the settings of a fit, which include what gives positions.
    _recipe_of = staticmethod(free_recipe)

    _fitted: Fitted

    embedding_ = Learned[NDArray[np.float32]]("embedding")
    graph_ = Learned[Any]("graph")
    history_ = Learned[History]("history")
    report_ = Learned[dict[str, Any]]("report")
    rad_orig_ = Learned[NDArray[np.float32]]("rad_orig")
    rad_emb_ = Learned[NDArray[np.float32]]("rad_emb")
    n_features_in_ = Learned[int]("n_features")
    feature_names_in_ = Learned[NDArray[Any]]("feature_names")
    input_shape_ = Learned[tuple[int, ...]]("input_shape")
    _n_features_out = Learned[int]("n_components")

    def __init__(  # noqa: PLR0915 - a constructor stores, one statement per parameter
        self,
        n_neighbors: int = 15,
        n_components: int = 2,
        *,
        metric: Any = "euclidean",
        metric_kwds: dict[str, Any] | None = None,
        output_metric: Any = "euclidean",
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
        column: str | None = None,
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
        self.column = column

    @property
    def card_(self) -> dict[str, Any]:
        """What the map says about itself: its rows, its making, and the notes of ``save``."""
        fitted = vars(self).get("_fitted")
        if fitted is None or fitted.card is None:
            why = "is not fitted" if fitted is None else "was fitted by neumap 0.1"
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'card_': this model {why}."
            )
        card: Card = fitted.card
        return card.described(fitted.feature_names, fitted.input_shape)

    def _recipe(self) -> Recipe:
        """Return all settings of a fit as values."""
        return self._recipe_of(self._parameters())

    def _checked_recipe(self) -> Recipe:
        check_parameters(self._parameters(), self._constraints)
        return self._recipe()

    def _parameters(self) -> dict[str, Any]:
        # By the table, not by the constructor: a subclass may have a shorter one.
        return {name: getattr(self, name) for name in self._constraints}

    def _model(self) -> Fitted:
        """Return what was learned; all of it belongs to one fit, whatever other threads do."""
        check_is_fitted(self)
        return self._fitted

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in vars(self)

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        align_to: Any = None,
        resume_from: str | os.PathLike[str] | None = None,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
    ) -> Self:
        """Learn the embedding of X.

        A fit that fails or is interrupted leaves the model as it was before.

        Parameters
        ----------
        X : array-like, sparse matrix, table, Tensor, Dataset or AnnData, (n_samples, n_features)
            Training rows; distances (n_samples, n_samples) if ``metric="precomputed"``. Rows in
            files that are larger than the memory come from :func:`neumap.open_rows`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), optional
            Labels (-1, None or any missing value for unlabelled rows) or values; see
            `target_metric`.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows: an edge is sampled in proportion to its strength times the weights
            of both of its rows, and their common unit does not matter. A row of weight 2 acts about
            as two equal rows, though it takes one place among the neighbours of others. A row of
            weight 0 has no part in the training and gets no position. ``graph_`` holds the
            strengths without weights.
        align_to : fitted model or array of shape (n_samples, n_components), optional
            A frame to move the result into: known positions of the rows, NaN where there is none,
            or a model whose :meth:`transform` gives them. The map is turned, mirrored and shifted
            onto them with the least squared distances; it is not trained towards them. Decoder and
            classifier follow. ``report_["alignment"]`` says how far the rows are from them then.
        resume_from : path-like, optional
            File of a :class:`~neumap.callbacks.Checkpoint` of an interrupted fit of the same data
            with the same parameters, or the name of one that was not written yet. The fit goes on
            to the same end. The neighbours come from the file beside it, where they were kept.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values raise an error.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are not as they should be, or the checkpoint is that of
            another fit; the message names what differs.
        ArchiveError
            If the checkpoint is damaged or missing. It is a ``ValueError``.
        TrainingDivergedError
            If the loss is no longer finite.
        """
        with telling_errors():
            recipe = self._checked_recipe()
            self._check_places(sample_weight=sample_weight, align_to=align_to)
            resume = None if resume_from is None else read_resume(resume_from)
            data = self._checked_rows(X, self._may_hold(ensure_all_finite))
            frame = self._frame(align_to, X, row_count(data.X))
        learned = fit_map(data, recipe, y=y, resume=resume, sample_weight=sample_weight)
        self._fitted = learned if frame is None else aligned(learned, frame)
        return self

    def _check_places(self, **arguments: Any) -> None:
        """Raise ValueError for arguments that act on positions, of which there will be none."""
        for name, value in arguments.items():
            if value is not None and self.transform_mode == "graph":
                raise ValueError(
                    f"transform_mode must be 'embedding' for {name}, which acts on positions, got "
                    f"'graph'. Set transform_mode='embedding', or leave {name} out."
                )

    def _frame(self, align_to: Any, X: Any, n_rows: int) -> NDArray[np.float32] | None:
        """Return the positions that a fit of X is moved onto."""
        if align_to is None:
            return None
        check_is_flat(resolve_output_metric(self.output_metric, self.output_metric_kwds))
        known = align_to.transform(X) if isinstance(align_to, UMAP) else align_to
        return check_frame(known, n_rows, self.n_components)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Learn the embedding of X and return the positions of its rows.

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

    def transform(
        self,
        X: Any,
        *,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
        output: Literal["numpy", "torch"] = "numpy",
        out: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Place rows in the learned embedding.

        Each row is placed on its own: near its neighbours among the training rows, then moved by
        the forces of UMAP while the training rows stay. A training row gets its own position.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to place; distances (n_samples, n_training) if ``metric="precomputed"``.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values raise an error.
        output : {"numpy", "torch"}, default="numpy"
            ``"torch"`` returns the positions as a tensor on the device of the model, so that they
            stay on a graphics card. ``set_output`` names a kind of table instead.
        out : path-like, optional
            Name of a ``.npy`` file. Positions are written to it as they are computed, and returned
            as a memory map of it, so that memory does not grow with the number of rows. The file
            is written completely or not at all.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_components), float32
            Positions; the same for a row whatever rows come with it. With
            ``transform_mode="graph"`` the sparse memberships (n_samples, n_training) instead.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If X has another width than the training rows, or `out` is no ``.npy`` file, or is set
            together with ``output="torch"``, ``transform_mode="graph"`` or tables of `set_output`.
        OSError
            If `out` cannot be written.

        Warns
        -----
        UnusualRowsWarning
            Once for a fitted model, if most rows lie clearly outside of the training rows.
        """
        fitted = self._model()
        self._check_output(output, out)
        new = self._checked_new(fitted, X, self._may_hold(ensure_all_finite))
        warn_of_unusual_rows(new, fitted)
        if out is not None:
            return write_positions(Path(out), new, fitted, self._recipe())
        return self._as_output(embed(new, fitted, self._recipe()), output)

    def _check_output(self, output: str, out: str | os.PathLike[str] | None = None) -> None:
        """Raise ValueError for an `output` or a file that the other settings exclude."""
        check_parameter("output", output, Word(("numpy", "torch")))
        if out is not None:
            self._check_file(output, out)
        if output == "numpy":
            return
        if self.transform_mode == "graph":
            raise ValueError(
                "output must be 'numpy' while transform_mode='graph', which returns a sparse "
                "matrix, got 'torch'. Leave output out."
            )
        self._check_no_table("output", output)

    def _check_file(self, output: str, out: str | os.PathLike[str]) -> None:
        if not isinstance(out, str | os.PathLike) or Path(out).suffix != ".npy":
            raise ValueError(
                f"out must be the name of a .npy file, got {out!r}. Let it end in .npy."
            )
        if output == "torch" or self.transform_mode == "graph":
            other = "output='torch'" if output == "torch" else "transform_mode='graph'"
            raise ValueError(
                f"out must be left out with {other}, which returns no array of positions, got "
                f"{str(out)!r}. Leave one of them out."
            )
        self._check_no_table("out", str(out))

    def _check_no_table(self, name: str, value: str) -> None:
        chosen = getattr(self, "_sklearn_output_config", {}).get("transform")
        table = chosen or get_config()["transform_output"]
        if table != "default":
            kept = "'numpy'" if name == "output" else "None"
            raise ValueError(
                f"{name} must be {kept} while set_output asks for tables of {table}, got "
                f"{value!r}. Call set_output(transform='default') first."
            )

    def _as_output(self, positions: Any, output: str) -> Any:
        if output == "numpy":
            return positions
        return torch.from_numpy(positions).to(resolve_device(self.device))

    def _checked_rows(self, X: Any, ensure_all_finite: EnsureFinite = True) -> Validated:
        return check_rows(X, ensure_all_finite, type(self).__name__, self.column)

    def _checked_new(
        self, fitted: Fitted, X: Any, ensure_all_finite: EnsureFinite = True
    ) -> Validated:
        return fitted.check_new(X, ensure_all_finite, type(self).__name__, self.column)

    def _may_hold(self, wanted: EnsureFinite) -> EnsureFinite:
        """Leave distances to the search, which takes infinite ones and refuses NaN."""
        is_given = isinstance(self.metric, str) and self.metric == "precomputed"
        return False if is_given and wanted is True else wanted

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return rows of data for positions.

        A :class:`ParametricUMAP` with ``parametric_reconstruction=True`` applies its decoder.
        Otherwise each position becomes the mean of the training rows nearest to it in the
        embedding, weighted by the similarity ``1 / (1 + a d^(2b))``.

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
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the positions have another width, or there is neither a decoder nor training rows.
        """
        return invert(X, self._model(), self._recipe())

    def update(self, X: Any, *, ensure_all_finite: bool | Literal["allow-nan"] = True) -> Self:
        """Add rows to the embedding and continue training, keeping the old rows in place.

        Parameters
        ----------
        X : array-like of shape (n_new, n_features)
            Rows to add after the training rows so far.
        ensure_all_finite : bool or "allow-nan", default=True
            Whether missing and infinite values raise an error.

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
            After a supervised or precomputed fit, or if the model was saved without its training
            rows.
        """
        fitted, recipe = self._model(), self._checked_recipe()
        added = self._checked_new(fitted, X, ensure_all_finite)
        if self.metric == "precomputed" or fitted.is_supervised:
            kind = "precomputed" if self.metric == "precomputed" else "supervised"
            raise ValueError(
                f"update cannot extend a {kind} fit: it has no distances or labels for the new "
                "rows. Fit on all rows instead."
            )
        self._check_rows_are_there("update", fitted)
        self._fitted = self._extended(fitted, recipe, added)
        return self

    def _check_rows_are_there(self, purpose: str, fitted: Fitted) -> None:
        """Raise ValueError if a model has no rows that others could be added to."""
        if fitted.training is None or self.unique:
            advice = "" if self.unique else "Save it with keep='data' to have them, or use"
            raise ValueError(
                f"{purpose} needs the training rows of a fit with unique=False, which this model "
                f"does not have. {advice or 'Use'} add_landmarks(old rows) and fit(new rows)."
            )

    def _extended(
        self,
        fitted: Fitted,
        recipe: Recipe,
        added: Validated,
        *,
        y: Any = None,
        rows: NDArray[np.int64] | None = None,
    ) -> Fitted:
        """Return a model of rows of a fitted one, which stay in place, and of new rows after them.

        Parameters
        ----------
        fitted : Fitted
            The model so far, with its rows.
        recipe : Recipe
            All settings.
        added : Validated
            New rows.
        y : array-like, optional
            Labels of the new rows.
        rows : array of int, optional
            Numbers of the earlier rows that remain; by default all.
        """
        placed = embed(added, fitted, replace(recipe, stops_at_graph=False))
        kept, positions = keep_rows(fitted, rows)
        start = WarmStart.after(positions, placed, fitted.encoder, fitted.history)
        joined = replace(added, X=stack(kept.rows, added.X))
        labels = None if y is None else labels_after(y, len(positions), row_count(added.X))
        learned = fit_map(joined, recipe, y=labels, warm_start=start)
        card = learned.card
        if card is not None and fitted.card is not None:
            card = card.noted(fitted.card.notes)
        return replace(learned, landmarks=fitted.landmarks, card=card)

    def partial_fit(self, X: Any, y: Any = None, *, max_rows: int | None = None) -> Self:
        """Fit the first rows, or add rows to a fitted embedding, whose old rows stay in place.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), optional
            Labels of these rows, -1 for rows without one. In later calls the labels of earlier rows
            are not known any more; those rows keep the positions that their labels gave them.
        max_rows : int, optional
            Earlier rows to keep besides those of this call: a uniform sample of all rows so far,
            determined by `random_state`. Memory and time of a call are then bounded, and the
            sample is enough to hold the embedding in place. 2,000 to 50,000. Later calls use the
            same number unless another is given. By default all rows are kept, and each call takes
            longer than the one before.

        Returns
        -------
        self
            ``embedding_`` and ``graph_`` hold the earlier rows that were kept and then those of
            this call. ``report_["partial_fit"]`` has ``n_seen`` (rows of all calls), ``n_added``
            (rows of this one) and ``max_rows``; ``report_["landmark_drift"]`` how far the earlier
            rows moved.

        Raises
        ------
        ValueError
            If the rows of a fitted model cannot be extended, as after a precomputed fit, or `y`
            cannot be used, as with a classifier or with targets that are no labels.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from neumap import ParametricUMAP
        >>> X = load_digits().data
        >>> model = ParametricUMAP(preset="fast", n_epochs=3, random_state=0)
        >>> for start in range(0, 1200, 400):
        ...     _ = model.partial_fit(X[start:start + 400], max_rows=200)
        >>> model.embedding_.shape, model.report_["partial_fit"]["n_seen"]
        ((600, 2), 1200)
        """
        check_parameter("max_rows", max_rows, Whole(2), NONE)
        known = vars(self).get("_fitted")
        is_without_rows = known is not None and known.graph is None  # which the addition says
        if not hasattr(self, "embedding_") and not is_without_rows:
            self.fit(X, y)
            if hasattr(self, "embedding_"):
                self._fitted = Stream.of(self._fitted, max_rows).noted_in(self._fitted)
            return self
        fitted, recipe = self._model(), self._checked_recipe()
        added = self._checked_new(fitted, X)
        self._check_more(fitted, y)
        self._check_rows_are_there("partial_fit", fitted)
        stream = Stream.of(fitted, max_rows)
        rows = stream.kept(int(fitted.graph.shape[0]), self.random_state)
        learned = self._extended(fitted, recipe, added, y=y, rows=rows)
        self._fitted = stream.after(row_count(added.X)).noted_in(learned)
        return self

    def _check_more(self, fitted: Fitted, y: Any) -> None:
        """Raise ValueError if rows with or without these labels cannot be added."""
        if self.metric == "precomputed":
            raise ValueError(
                "metric must be one of rows for a second partial_fit, got 'precomputed': the "
                "distances of new rows are not known. Fit on all distances instead."
            )
        if y is None and fitted.is_supervised:
            raise ValueError(
                "y must be given for a second partial_fit on a supervised model, got None. Pass "
                "labels, with -1 for rows without one."
            )
        if y is None:
            return
        if self.target_metric not in LABEL_METRICS:
            raise ValueError(
                "target_metric must be one for labels, 'categorical' or "
                "'hierarchical_categorical', where partial_fit gets y again, since the values of "
                f"earlier rows are not known; got {self.target_metric!r}. Fit on all rows instead."
            )
        if fitted.classifier is not None:
            raise ValueError(
                "classifier_loss_weight must be 0 for a second partial_fit, since a classifier "
                f"needs the labels of earlier rows, got {len(_labels_of(fitted))} classes learned "
                "before. Fit on all rows with their labels instead."
            )

    def __add__(self, other: UMAP) -> Any:
        """Return a model of the union of two graphs over the same samples."""
        return self._combined(other, union)

    def __mul__(self, other: UMAP) -> Any:
        """Return a model of the intersection of two graphs over the same samples."""
        return self._combined(other, intersection)

    def __sub__(self, other: UMAP) -> Any:
        """Return a model of this graph without the structure of another one."""
        return self._combined(other, difference)

    def _combined(
        self, other: Any, operation: Callable[[FuzzyGraph, FuzzyGraph], FuzzyGraph]
    ) -> Any:
        """Return a model with these parameters and rows, fitted to a combination of two graphs."""
        if not isinstance(other, UMAP):
            return NotImplemented
        fitted, theirs = self._model(), other._model()
        if fitted.graph is None or theirs.graph is None:
            raise ValueError(left_out("Models to combine"))
        if fitted.graph.shape != theirs.graph.shape:
            raise ValueError(
                "Both models must be fitted on the same samples: expected graphs of one size, got "
                f"{fitted.graph.shape[0]} and {theirs.graph.shape[0]} rows. Fit both on the same "
                "rows."
            )
        for one in (fitted, theirs):
            if one.n_anchors is not None:
                raise ValueError(
                    "Models that are combined must have the neighbours of every row in graph_, got "
                    f"one with those of {one.n_anchors} anchors. Fit both with n_anchors=None."
                )
        graph = operation(
            FuzzyGraph.from_matrix(fitted.graph), FuzzyGraph.from_matrix(theirs.graph)
        )
        model = clone(self)
        data = fitted.data("Combining models")
        model._fitted = fit_map(data, self._checked_recipe(), graph=graph)
        return model

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        keep: Literal["network", "map", "data"] | None = None,
        keep_data: bool | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the model, fitted or not, as one safe file; :func:`neumap.load` reads it.

        The file holds the parameters, the results of the fit, and the networks with their weights.
        It holds no code: functions (metrics, losses) and callbacks are left out, with a warning.
        The file is written completely or not at all.

        Parameters
        ----------
        path : path-like
            A file, if the name has a suffix. An existing folder, or a name without a suffix,
            means the file ``model.neumap`` in that folder. Missing folders are created.
        keep : {"network", "map", "data"}, optional
            How much of the model the file holds.

            * ``"network"``: what new rows need. The size does not depend on the number of training
              rows. Without ``embedding_`` and ``graph_``, plots of them, and landmarks.
            * ``"map"``: positions and graph as well, about 200 bytes for a training row.
            * ``"data"``: also the training rows and `reconstruction_validation`. :meth:`update`,
              ``confidence``, ``transform_mode="graph"`` and ``+ * -`` need the training rows.

            The default is ``"map"``, with the training rows for a model without an encoder, which
            needs them to place new rows.
        keep_data : bool, optional
            True is ``keep="data"`` and False ``keep="map"``.
        card : mapping of str to value, optional
            Notes for those who use the file: what the rows are, how they were made and scaled,
            such as the embedding model and its prompt. Text, numbers, and lists and dicts of these.
            They come on top of those that the model was loaded with; see ``card_``.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ArchiveError
            If a network or the training rows cannot be stored. It is a ``ValueError``.
        ValueError
            If a parameter of a fitted model was set to a value that it cannot have, or the model
            does not hold what should be kept.
        OSError
            If the file cannot be written. It names the path and the reason; the model stays as it
            is, so that it can be saved elsewhere.

        Warns
        -----
        UserWarning
            Naming what is left out.
        """
        if self.__sklearn_is_fitted__():  # a load checks them too
            check_parameters(self._parameters(), self._constraints)
        saved = SavedModel(
            type(self).__name__,
            self.get_params(deep=False),
            vars(self).get("_fitted"),
            settings_of(vars(self)),
        )
        return save_model(saved, path, keep=keep, keep_data=keep_data, notes=card)

    def __sklearn_clone__(self) -> Self:
        copied: Self = cloned(self)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied: Self = deeply_copied(self, memo)
        return copied

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Return what pickle and copy make an object from, as they do by default."""
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be taken apart, which skops does and which no network survives.

        Raises
        ------
        TypeError
            If the model has a network.
        """
        known = [*vars(self).values(), *vars(vars(self).get("_fitted", self)).values()]
        if any(isinstance(value, nn.Module) or is_keras_model(value) for value in known):
            raise TypeError(
                f"A {type(self).__name__} with a network must be stored by its own save method, "
                "got another way of storing, such as skops. Call save(path) and neumap.load(path); "
                "in MLflow use serialization_format='cloudpickle'."
            )
        return self.__reduce_ex__(2)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: as in a saved file, no training rows with an encoder."""
        state = dict(super().__getstate__())
        if "_fitted" in state:
            state["_fitted"] = state["_fitted"].for_pickle()
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.transformer_tags.preserves_dtype = ["float32"]  # positions are always float32
        return tags
