"""``ParametricUMAP``: a network that gives positions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils import ClassifierTags, Tags
from sklearn.utils.metaestimators import available_if
from torch import nn

from neumap._random import RandomState, resolve_seed
from neumap._ranks import telling_errors
from neumap.callbacks import Callback
from neumap.data import Validated, as_rows, row_count, take
from neumap.estimators.alignment import aligned
from neumap.estimators.constraints import (
    ANYTHING,
    ARGUMENTS,
    FUNCTION,
    NONE,
    SHAPE,
    SWITCH,
    Constraints,
    Kind,
    Number,
    Whole,
    Word,
    check_parameter,
)
from neumap.estimators.fitted import Learned, device_of
from neumap.estimators.fitting import fit_map
from neumap.estimators.landmarks import (
    Landmarks,
    SampleMode,
    WarmStart,
    check_landmark_positions,
    choose_landmarks,
)
from neumap.estimators.new_rows.confidence import Confidence, confidence_of
from neumap.estimators.new_rows.jacobian import explain_rows
from neumap.estimators.new_rows.to_file import write_positions
from neumap.estimators.new_rows.transform import embed
from neumap.estimators.new_rows.unusual import warn_of_unusual_rows
from neumap.estimators.positions.presets import PRESETS, Preset
from neumap.estimators.recipe import parametric_recipe
from neumap.estimators.resuming import read_resume
from neumap.estimators.saving.onnx import export_part
from neumap.estimators.targets import accuracy, check_targets, weights_before_landmarks
from neumap.estimators.umap import UMAP
from neumap.fuzzy import FuzzyGraph
from neumap.losses.reconstruction import NAMES, ReconstructionLoss
from neumap.supervision import LABEL_METRICS
from neumap.training.embedders import encode_rows

__all__ = ["ParametricUMAP"]


def _is_classifier(model: ParametricUMAP) -> bool:
    """Whether the model has a classifier, or its next fit trains one."""
    # Before fit checks it, the parameter may be anything.
    wants_one = model.classifier_loss_weight in Number(above=True)
    return wants_one or hasattr(model, "classifier_")


def _has_classifier(model: ParametricUMAP) -> bool:
    """Whether `predict` has something to ask; scikit-learn looks for the method."""
    if _is_classifier(model):
        return True
    raise AttributeError(
        "There is no classifier. Fit with classifier_loss_weight=1.0 and labels y to train one "
        "with the embedding."
    )


def _check_one_frame(align_to: Any, start: WarmStart | None) -> None:
    """Raise ValueError for a fit that should keep positions and be moved onto others."""
    if align_to is not None and start is not None:
        raise ValueError(
            "align_to must be None for a fit with landmarks, which are in a frame already, got "
            f"{type(align_to).__name__}. Leave it out, or call remove_landmarks()."
        )


PRESET = Kind("a neumap.estimators.Preset", lambda value: isinstance(value, Preset))
MODEL = Kind("a fitted ParametricUMAP", lambda value: isinstance(value, ParametricUMAP))
LOSS_NAME = Kind(
    f"one of {list(NAMES)}", lambda value: isinstance(value, str) and value.lower() in NAMES
)


class ParametricUMAP(UMAP):
    r"""Parametric UMAP: a network learns the embedding and places new rows in it at once.

    Names, meanings and defaults are those of ``umap.parametric_umap.ParametricUMAP`` and its
    documentation; ``docs/from_umap_learn.md`` compares them one by one.

    Parameters
    ----------
    n_neighbors, n_components, metric, metric_kwds, min_dist, spread, set_op_mix_ratio
        As in :class:`UMAP`.
    local_connectivity, disconnection_distance, precomputed_knn, unique, a, b
        As in :class:`UMAP`.
    low_memory, n_jobs, angular_rp_forest, force_approximation_algorithm, transform_queue_size
        As in :class:`UMAP`: the search for neighbours.
    target_metric, target_metric_kwds, target_weight, target_n_neighbors
        As in :class:`UMAP`: how labels change the graph. A network can separate two classes only
        if their features differ; see `classifier_loss_weight`.
    densmap, dens_lambda, dens_frac, dens_var_shift, output_dens
        As in :class:`UMAP`.
    repulsion_strength, negative_sample_rate, transform_mode, random_state, device, max_time, column
        As in :class:`UMAP`.
    verbose, tqdm_kwds, callbacks, loss_report_frequency, n_training_epochs
        As in :class:`UMAP`.
    optimizer : str, torch.optim class or instance, Keras optimizer or callable, optional
        By default networks train with Muon: orthogonal steps for the square matrices of built-in
        networks, for all matrices of a user network (kernels of convolutions flattened), and Adam
        for the rest. The step size decays to zero along a cosine. An optimiser that you pass keeps
        its own learning rate.
    output_metric, output_metric_kwds
        As in :class:`UMAP`. The network's outputs are the coordinates: angles may be outside 0 to
        2 pi and variances negative, where the metric reads their absolute values. Not with
        `global_correlation_loss_weight`, a guide or the fast closed-form training.
    transform_seed : int, default=42
        Has an effect with ``parametric_embedding=False`` and on :meth:`confidence`; an encoder uses
        no random numbers.
    init : "auto", or as in :class:`UMAP`
        An encoder starts from its weights, so anything but ``"auto"`` raises for it. Free
        positions (``parametric_embedding=False``) start as in :class:`UMAP`.
    n_epochs : int, optional
        Length of the training in UMAP's epochs, each of which samples every edge in proportion to
        its weight. By default the preset determines the length, with far fewer steps; see Notes. 0
        leaves the weights as they are.
    learning_rate : float, default=1.0
        Factor on the preset's step size, 0.3 to 3. Lower it if the loss diverges. An `optimizer`
        that you pass keeps its own learning rate and ignores this factor.
    batch_size : int, optional
        Edges per step; each is two rows for the encoder. By default the preset's 512, or the number
        of rows if that is less, at least 64. Larger batches have less noise and take
        fewer steps per row; 128 to 4,096.
    dims : tuple of int, optional
        Shape of one row for the network, such as ``(28, 28, 1)``; X may be flat or shaped, in
        :meth:`fit` and in :meth:`transform` alike.
    encoder : torch.nn.Module, Keras model or {"mlp", "residual", "conv"}, optional
        The network from rows to positions, with `n_components` outputs. It is copied, never
        trained in place. None and ``"mlp"`` build the preset's layers, ``"residual"`` the same
        with skip connections, ``"conv"`` a small convolutional network for images. Built-in
        networks standardise their input; a user network gets the rows as they are, in training
        with noise about half as long as the distance to their neighbours, unless it reads them as
        codes. Regularisers of a Keras model, and the scalar of a method ``regularization()`` of a
        PyTorch module, are part of the loss (``regularization_loss`` in ``history_``).
    decoder : torch.nn.Module, Keras model or "conv", optional
        The network from positions to rows, with ``parametric_reconstruction=True``. By default an
        MLP like the encoder.
    parametric_embedding : bool, default=True
        False learns free positions instead, as :class:`UMAP` does, in the same training loop.
    parametric_reconstruction : bool, default=False
        Train a decoder for :meth:`inverse_transform`.
    parametric_reconstruction_loss_fcn : str, callable or Keras loss, optional
        ``"bce"``, ``"mse"``, ``"mae"``, ``"huber"`` or ``f(truth, reconstruction)``. By default
        cross entropy for data in [0, 1] and squared error for others. For cross entropy a decoder
        of yours ends in a linear layer, whose outputs are logits then, or in a sigmoid. A built-in
        decoder learns numbers around 0 and of ordinary size; others get a warning: standardise
        them.
    parametric_reconstruction_loss_weight : float, default=1.0
        Weight of the reconstruction loss. It matters with `autoencoder_loss`; 0.1 to 10.
    autoencoder_loss : bool, default=False
        Let the reconstruction loss train the encoder as well. Otherwise the embedding is the same
        as without a decoder.
    reconstruction_rows : int, "auto" or None, default="auto"
        Rows of each batch that are decoded; None decodes all. More rows make the gradient less
        noisy and a step slower. ``"auto"`` counts operations: all rows, unless the decoder costs
        many times the encoder (as convolutions at the size of the image do), then as many as cost
        one and a half times the encoder, at least 32 and one in 120 training rows.
        ``report_["reconstruction_rows"]`` has the number.
    reconstruction_validation : array-like, optional
        Held-out rows. Their reconstruction loss is ``val_loss`` in each report.
    global_correlation_loss_weight : float, default=0.0
        Weight of a term that correlates large distances in the embedding with those in the data.
        0.01 to 1; larger values favour the arrangement of clusters over neighbourhoods.
    landmark_loss_fn : callable, optional
        ``f(targets, positions)`` for rows with given positions; by default the mean distance.
    landmark_loss_weight : float, default=1.0
        Weight of that loss, for ``landmark_positions`` in :meth:`fit`.
    classifier_loss_weight : float, default=0.0
        Weight of a classifier that is trained on the embedding, for y with a label per row (-1 for
        unlabelled rows). Labels then train the encoder directly, and the model is a classifier
        with :meth:`predict` and :meth:`score`. 0.1 to 10.
    keras_fit_kwargs : dict, optional
        ``{"callbacks": [...], "verbose": 0}`` as for Keras's ``fit``. Other keys raise an error
        that names the equivalent.
    preset : {"fast", "default", "best"} or Preset, default="default"
        Size of the network and length of the training, from a narrow network trained briefly to a
        wide one. The settings are in ``neumap.estimators.PRESETS``. Networks built by name read
        rows of 128 features and more in their principal directions, 64 to 256 of them, and an MLP
        is the map of principal components until it is trained.
    guide : "auto", ParametricUMAP or None, default=None
        A network that has learned the map already and tells `encoder` the positions of rows, also
        of rows between the training rows, for most of its training. A fitted model gives encoders
        of any kind the same map. ``"auto"`` first trains the preset's own network where `encoder`
        costs many times more per row (counted operations, such as those of convolutions); that is
        quicker and less accurate than training `encoder` alone, which None does.
        ``report_["guide"]`` says what was done, and why.
    n_anchors : int, "auto" or None, default="auto"
        Rows whose neighbours, among all rows, are searched for; their edges train the network.
        The training of a large data set draws only few of all edges, so that a sample of rows is
        enough: it takes less time and memory, and `graph_` is small. ``"auto"`` takes every row up
        to 300,000, and then as many as let each edge be drawn one and a half times (146,000 with
        the default preset). None takes every row, as does a number of at least `n_samples`. With
        few anchors, whose edges would be drawn more than four times, other rows get neighbours
        from the lists of the anchors (Euclidean distance and metrics that reduce to it, dense rows,
        without `n_epochs`). A group of few rows may have no anchor; see ``docs/scale.md``. A number
        raises with what needs every row: ``parametric_embedding=False``, ``metric="precomputed"``,
        `precomputed_knn`, `set_op_mix_ratio` below 1, numbers as targets. ``"auto"`` takes every
        row there, and with `n_epochs`, ``transform_mode="graph"`` and a classifier of few labels.

    Attributes
    ----------
    embedding_, graph_, history_, report_, rad_orig_, rad_emb_
        As in :class:`UMAP`. Rows without any neighbour get the encoder's position. ``report_`` also
        has ``precision`` of the training ("bfloat16" or "float32"), ``guide`` (see `guide`),
        ``reconstruction_rows`` with a decoder, ``replayed`` where steps were replayed from CUDA
        graphs, ``landmark_drift`` after a fit with landmarks, and ``n_anchors`` (see `n_anchors`;
        None for every row) and ``n_joined``, the number of other rows that got neighbours from the
        lists of the anchors. With anchors, `graph_` holds their edges and those of these rows only,
        the shape being the same and rows without an edge empty, and `rad_orig_` is NaN for rows
        that are no anchors; `embedding_` has all rows.
    n_features_in_, feature_names_in_, input_shape_
        As in :class:`UMAP`.
    encoder_ : torch.nn.Module
        The trained network, in evaluation mode; absent with ``parametric_embedding=False``.
    decoder_ : torch.nn.Module
        The trained decoder, with ``parametric_reconstruction=True``.
    reconstruction_loss_ : ReconstructionLoss
        Its loss, and the activation from its outputs to data space.
    classifier_ : torch.nn.Module
        From positions to logits, with `classifier_loss_weight`.
    classes_ : ndarray
        Labels in the order of ``predict_proba``.
    row_shape_ : tuple of int
        Shape of one row for the network.

    See Also
    --------
    UMAP : Free positions, and the shared parameters.

    Notes
    -----
    The objective is that of :class:`UMAP` [1]_, where ``d`` is the distance of the encoder's
    outputs [2]_, plus further terms with their weights,

    .. math::

        L = L_\text{umap} + \lambda_r L_\text{reconstruction} - \lambda_g \, \rho_\text{far}
        + \lambda_l L_\text{landmark} + \lambda_c L_\text{classifier}.

    umap-learn since 0.5.4 treats ``log q`` as a logit, which is a different objective. Here it is
    the cross entropy itself, softened at the start of the training (``eps`` in
    :mod:`neumap.losses`).

    *Length of the training.* Without `n_epochs` the preset determines the number of steps from the
    number of rows (`Preset.steps`). With `n_epochs` as many edges are sampled as umap-learn samples
    in these epochs, in ``n_epochs * graph_.sum() / batch_size`` steps. Both are multiplied by
    `n_training_epochs`. Under a guide there are fewer steps, unless `n_epochs` is set. There are
    ``loss_report_frequency * n_training_epochs`` reports, which do not change the steps. `max_time`
    and callbacks may end the training earlier.

    The position of a row depends on that row only, except for rounding: matrix products add in
    another order for batches of another size.

    *Seeds, threads and processes.* A seed gives the same embedding whatever happens in other
    threads. User networks and decoders add in another order with another number of torch's threads
    (``torch.set_num_threads``), so their results then differ by rounding, which training amplifies.
    Built-in networks never use torch's global random generators. A user network that may draw from
    them, such as one with dropout, borrows them during its fit: other fits of this kind wait, and
    your own code in other threads should not draw at the same time. Training takes half of the
    cores that the process may use, at most four for built-in networks and 16 for others, so that
    other busy processes do not stop it; ``torch.set_num_threads`` lowers this. A forked child
    process works with one thread.

    A fit replaces the whole model at its end. If it fails or is interrupted (Ctrl-C), the model
    stays what it was: the earlier fit, or unfitted. :class:`~neumap.callbacks.Checkpoint` keeps the
    state of a long training on disk, from which ``fit(X, resume_from=path)`` goes on.

    References
    ----------
    .. [1] L. McInnes, J. Healy and J. Melville, "UMAP: Uniform Manifold Approximation and
       Projection for Dimension Reduction", arXiv:1802.03426, 2018.
    .. [2] T. Sainburg, L. McInnes and T. Q. Gentner, "Parametric UMAP Embeddings for Representation
       and Semisupervised Learning", Neural Computation 33 (11), 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from neumap import ParametricUMAP
    >>> X = load_digits().data
    >>> model = ParametricUMAP(preset="fast", n_epochs=5, random_state=0).fit(X[:400])
    >>> model.transform(X[400:405]).shape
    (5, 2)
    >>> sorted(model.history_)
    ['loss', 'umap_loss']

    Your own network, and a decoder:

    >>> import torch
    >>> encoder = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(),
    ...                               torch.nn.Linear(32, 2))
    >>> model = ParametricUMAP(encoder=encoder, parametric_reconstruction=True, n_epochs=5,
    ...                        random_state=0).fit(X[:400])
    >>> model.inverse_transform(model.embedding_[:3]).shape
    (3, 64)
    """

    _constraints: ClassVar[Constraints] = {
        **UMAP._constraints,
        "dims": (SHAPE, NONE),
        "encoder": (ANYTHING,),
        "decoder": (ANYTHING,),
        "parametric_embedding": (SWITCH,),
        "parametric_reconstruction": (SWITCH,),
        "parametric_reconstruction_loss_fcn": (LOSS_NAME, FUNCTION, NONE),
        "parametric_reconstruction_loss_weight": (Number(),),
        "autoencoder_loss": (SWITCH,),
        "reconstruction_rows": (Whole(1), Word(("auto",)), NONE),
        "reconstruction_validation": (ANYTHING,),
        "global_correlation_loss_weight": (Number(),),
        "landmark_loss_fn": (FUNCTION, NONE),
        "landmark_loss_weight": (Number(),),
        "classifier_loss_weight": (Number(),),
        "keras_fit_kwargs": (ARGUMENTS, NONE),
        "preset": (Word(tuple(PRESETS)), PRESET),
        "guide": (Word(("auto",)), MODEL, NONE),
        "n_anchors": (Whole(1), Word(("auto",)), NONE),
    }

    _recipe_of = staticmethod(parametric_recipe)

    encoder_ = Learned[nn.Module]("encoder")
    decoder_ = Learned[nn.Module]("decoder")
    reconstruction_loss_ = Learned[ReconstructionLoss]("reconstruction_loss")
    classifier_ = Learned[nn.Module]("classifier")
    classes_ = Learned[NDArray[Any]]("classes")
    row_shape_ = Learned[tuple[int, ...]]("row_shape")

    def __init__(
        self,
        *,
        n_neighbors: int = 15,
        n_components: int = 2,
        metric: Any = "euclidean",
        metric_kwds: dict[str, Any] | None = None,
        output_metric: Any = "euclidean",
        output_metric_kwds: dict[str, Any] | None = None,
        n_epochs: int | None = None,
        learning_rate: float = 1.0,
        init: str | ArrayLike = "auto",
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
        dims: Sequence[int] | None = None,
        encoder: Any = None,
        decoder: Any = None,
        parametric_embedding: bool = True,
        parametric_reconstruction: bool = False,
        parametric_reconstruction_loss_fcn: Any = None,
        parametric_reconstruction_loss_weight: float = 1.0,
        autoencoder_loss: bool = False,
        reconstruction_rows: int | Literal["auto"] | None = "auto",
        reconstruction_validation: Any = None,
        global_correlation_loss_weight: float = 0.0,
        landmark_loss_fn: Any = None,
        landmark_loss_weight: float = 1.0,
        classifier_loss_weight: float = 0.0,
        keras_fit_kwargs: dict[str, Any] | None = None,
        preset: str | Preset = "default",
        guide: ParametricUMAP | Literal["auto"] | None = None,
        n_anchors: int | Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__(
            n_neighbors=n_neighbors,
            n_components=n_components,
            metric=metric,
            metric_kwds=metric_kwds,
            output_metric=output_metric,
            output_metric_kwds=output_metric_kwds,
            n_epochs=n_epochs,
            learning_rate=learning_rate,
            init=init,
            min_dist=min_dist,
            spread=spread,
            low_memory=low_memory,
            n_jobs=n_jobs,
            set_op_mix_ratio=set_op_mix_ratio,
            local_connectivity=local_connectivity,
            repulsion_strength=repulsion_strength,
            negative_sample_rate=negative_sample_rate,
            transform_queue_size=transform_queue_size,
            a=a,
            b=b,
            random_state=random_state,
            angular_rp_forest=angular_rp_forest,
            target_n_neighbors=target_n_neighbors,
            target_metric=target_metric,
            target_metric_kwds=target_metric_kwds,
            target_weight=target_weight,
            transform_seed=transform_seed,
            transform_mode=transform_mode,
            force_approximation_algorithm=force_approximation_algorithm,
            verbose=verbose,
            tqdm_kwds=tqdm_kwds,
            unique=unique,
            densmap=densmap,
            dens_lambda=dens_lambda,
            dens_frac=dens_frac,
            dens_var_shift=dens_var_shift,
            output_dens=output_dens,
            disconnection_distance=disconnection_distance,
            precomputed_knn=precomputed_knn,
            batch_size=batch_size,
            n_training_epochs=n_training_epochs,
            loss_report_frequency=loss_report_frequency,
            optimizer=optimizer,
            callbacks=callbacks,
            max_time=max_time,
            device=device,
            column=column,
        )
        self.dims = dims
        self.encoder = encoder
        self.decoder = decoder
        self.parametric_embedding = parametric_embedding
        self.parametric_reconstruction = parametric_reconstruction
        self.parametric_reconstruction_loss_fcn = parametric_reconstruction_loss_fcn
        self.parametric_reconstruction_loss_weight = parametric_reconstruction_loss_weight
        self.autoencoder_loss = autoencoder_loss
        self.reconstruction_rows = reconstruction_rows
        self.reconstruction_validation = reconstruction_validation
        self.global_correlation_loss_weight = global_correlation_loss_weight
        self.landmark_loss_fn = landmark_loss_fn
        self.landmark_loss_weight = landmark_loss_weight
        self.classifier_loss_weight = classifier_loss_weight
        self.keras_fit_kwargs = keras_fit_kwargs
        self.preset = preset
        self.guide = guide
        self.n_anchors = n_anchors

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        precomputed_distances: Any = None,
        landmark_positions: Any = None,
        sample_weight: Any = None,
        align_to: Any = None,
        resume_from: str | os.PathLike[str] | None = None,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
    ) -> Self:
        """Learn a network that maps X.

        A fit starts from fresh weights (or from a copy of `encoder` as it was passed), however
        often it is called. It continues from the fitted encoder only to keep landmarks: with
        `landmark_positions`, or after :meth:`add_landmarks`. ``history_`` is continued as well.

        A fit that fails or is interrupted leaves the model as it was before.

        Parameters
        ----------
        X : array-like, sparse matrix, table, Tensor, Dataset or AnnData, (n_samples, ...)
            Training rows; flat rows may be reshaped for the network by `dims`. Rows in files that
            are larger than the memory come from :func:`neumap.open_rows`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), optional
            Labels (-1, None or any missing value for unlabelled rows) or values; see
            `target_metric`.
        precomputed_distances : array or sparse matrix (n_samples, n_samples), optional
            Distances that determine the graph, with ``metric="precomputed"``; the network reads X.
        landmark_positions : array of shape (n_samples, n_components), optional
            Positions that some rows should keep; rows of NaN are free.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows: an edge is sampled in proportion to its strength times the weights
            of both of its rows, and their common unit does not matter. A row of weight 2 acts about
            as two equal rows, though it takes one place among the neighbours of others. A row of
            weight 0 has no part in the training; the network places it. ``graph_`` holds the
            strengths without weights.
        align_to : fitted model or array of shape (n_samples, n_components), optional
            A frame to move the result into: known positions of the rows, NaN where there is none,
            or a model whose :meth:`transform` gives them. The map is turned, mirrored, shifted and
            scaled onto them with the least squared distances; it is not trained towards them.
            Decoder and classifier follow. ``report_["alignment"]`` says how far the rows are from
            them then.
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
            # A network reads every row of distances; free positions leave them to the search.
            are_only_searched = precomputed_distances is None and not self.parametric_embedding
            wanted = self._may_hold(ensure_all_finite) if are_only_searched else ensure_all_finite
            data = self._checked_rows(X, wanted)
            n_rows = row_count(data.X)
            frame = self._frame(align_to, X, n_rows)
            data, y, start = self._with_landmarks(data, y, landmark_positions)
            _check_one_frame(align_to, start)
            n_landmarks = row_count(data.X) - n_rows
            if precomputed_distances is not None:
                self._check_distances(n_landmarks)
            weights = weights_before_landmarks(sample_weight, n_rows, n_landmarks)
        learned = fit_map(
            data,
            recipe,
            y=y,
            distances=precomputed_distances,
            warm_start=start,
            resume=resume,
            sample_weight=weights,
        ).first_rows(n_rows)
        learned = learned if frame is None else aligned(learned, frame)
        self._fitted = replace(learned, landmarks=self._landmarks)
        return self

    @property
    def _landmarks(self) -> Landmarks | None:
        fitted = vars(self).get("_fitted")
        return None if fitted is None else fitted.landmarks

    def _with_landmarks(
        self, data: Validated, y: Any, landmark_positions: Any
    ) -> tuple[Validated, Any, WarmStart | None]:
        """Return data and targets with the landmarks appended, and the start that keeps these."""
        encoder, history = getattr(self, "encoder_", None), getattr(self, "history_", None)
        n_rows = row_count(data.X)
        if landmark_positions is not None:
            given = check_landmark_positions(landmark_positions, n_rows, self.n_components)
            return data, y, WarmStart(given, encoder=encoder, history=history)
        landmarks = self._landmarks
        if landmarks is None:
            return data, y, None
        joined, positions = landmarks.append_to(data)
        if y is not None and self.target_metric not in LABEL_METRICS:
            raise ValueError(
                "target_metric must be one for labels, 'categorical' or "
                "'hierarchical_categorical', where landmarks are part of the fit, since the values "
                f"of y for landmarks are not known; got {self.target_metric!r}. Call "
                "remove_landmarks(), or pass landmark_positions for rows of X."
            )
        targets = None if y is None else landmarks.extend_targets(y, n_rows)
        start = WarmStart(positions, landmarks.loss_weight, encoder, history=history)
        return joined, targets, start

    def _check_distances(self, n_appended: int) -> None:
        if self.metric != "precomputed":
            raise ValueError(
                f"precomputed_distances need metric='precomputed', got metric={self.metric!r}. "
                "Set the metric, or leave the distances out."
            )
        if n_appended:
            raise ValueError(
                "add_landmarks appends rows, for which precomputed_distances has no entries. Pass "
                "landmark_positions for rows of X instead."
            )

    def transform(
        self,
        X: Any,
        batch_size: int | None = None,
        *,
        ensure_all_finite: bool | Literal["allow-nan"] = True,
        output: Literal["numpy", "torch"] = "numpy",
        out: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Place rows in the learned embedding, by the encoder alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Rows to place.
        batch_size : int, optional
            Rows encoded at once; by default 4,096, or fewer where these take more than 64 MB. Sets
            the memory, not the result. It has no effect on free positions
            (``parametric_embedding=False``).
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
        check_parameter("batch_size", batch_size, Whole(1), NONE)
        self._check_output(output, out)
        has_encoder = fitted.encoder is not None
        wanted = ensure_all_finite if has_encoder else self._may_hold(ensure_all_finite)
        new = self._checked_new(fitted, X, wanted)
        warn_of_unusual_rows(new, fitted)
        if out is not None:
            return write_positions(Path(out), new, fitted, self._recipe(), batch_size)
        if fitted.encoder is not None and self.transform_mode == "embedding":
            place = fitted.embed if output == "numpy" else fitted.embed_as_tensor
            return place(new, batch_size)
        return self._as_output(embed(new, fitted, self._recipe()), output)

    @available_if(_has_classifier)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the probability of each class, by the classifier trained with the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float32
            In the order of ``classes_``.

        Raises
        ------
        AttributeError
            If ``classifier_loss_weight`` is zero, so that there is no classifier.
        NotFittedError
            Before :meth:`fit`.
        """
        fitted = self._model()
        if fitted.classifier is None:
            raise NotFittedError(
                "classifier_loss_weight must be positive during fit for a classifier, got 0. Fit "
                "again with labels y."
            )
        new = self._checked_new(fitted, X)
        warn_of_unusual_rows(new, fitted)
        positions = embed(new, fitted, replace(self._recipe(), stops_at_graph=False))
        points = as_rows(positions, device=device_of(fitted.classifier))
        logits = torch.from_numpy(encode_rows(fitted.classifier, points))
        return np.asarray(logits.softmax(1).numpy())

    @available_if(_has_classifier)  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row; see :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels as passed to :meth:`fit`.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[codes])

    @available_if(_has_classifier)  # type: ignore[untyped-decorator]
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of labelled rows whose class :meth:`predict` gives.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, usually new ones.
        y : array-like of shape (n_samples,)
            Their labels; rows without a label (-1) are left out.
        sample_weight : array-like of shape (n_samples,), optional
            Weight of each row.

        Returns
        -------
        float
            In [0, 1].
        """
        predicted = self.predict(X)
        return accuracy(predicted, check_targets(y, len(predicted)), sample_weight)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if _is_classifier(self):
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags()
            tags.target_tags.required = True
        return tags

    def confidence(self, X: Any, *, n_calibration: int = 1000) -> Confidence:
        """Return how far the positions of rows can be trusted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, usually new ones.
        n_calibration : int, default=1000
            Training rows that the rows are compared with. More give finer p-values.

        Returns
        -------
        Confidence
            ``score`` is near 0 for rows unlike the training rows. ``measures`` and ``p_values``
            hold what it is computed from.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the training rows are not at hand, as after loading a model saved without them.
        """
        fitted = self._model()
        if fitted.encoder is None:
            raise NotFittedError(
                "confidence needs an encoder, which this model does not have. Set "
                "parametric_embedding=True and fit again."
            )
        check_parameter("n_calibration", n_calibration, Whole(1))
        new = self._checked_new(fitted, X)
        return confidence_of(new, fitted, self._recipe(), n_calibration=n_calibration)

    def explain(
        self, X: Any, *, summary: Literal["rows", "features"] | None = None
    ) -> NDArray[np.float32]:
        """Return how the positions of rows move with each feature: the Jacobian of the encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, known or new.
        summary : {"rows", "features"} or None, default=None
            ``"rows"`` gives one number per row and feature, the distance that the point moves per
            unit of the feature; ``"features"`` the mean of these distances over the rows, which
            needs no memory per row.

        Returns
        -------
        ndarray of shape (n_samples, n_components, n_features), float32
            Element ``[i, c, j]`` is the derivative of coordinate c of row i with respect to its
            feature j, in units of the embedding per unit of the data. With ``summary="rows"`` the
            Euclidean norms over c, (n_samples, n_features); with ``summary="features"`` their
            means, (n_features,). Features of rows with several axes are in the order of
            ``X.reshape(n_samples, -1)``.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`, or without an encoder.
        ValueError
            If X has another width than the training rows, or the encoder has no derivative, such
            as one that reads codes.

        See Also
        --------
        neumap.plots.explanation : The features that move points most, as bars.

        Notes
        -----
        A derivative describes small changes of a row. Multiply it by the standard deviations of the
        features, ``X.std(axis=0)``, to compare features of different units.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from neumap import ParametricUMAP
        >>> X = load_iris().data
        >>> model = ParametricUMAP(preset="fast", n_epochs=20, random_state=0).fit(X)
        >>> model.explain(X[:5]).shape, model.explain(X, summary="features").shape
        ((5, 2, 4), (4,))
        """
        fitted = self._model()
        if fitted.encoder is None:
            raise NotFittedError(
                "explain needs an encoder, which this model does not have. Set "
                "parametric_embedding=True and fit again."
            )
        rows = fitted.network_rows(self._checked_new(fitted, X))
        return explain_rows(fitted.encoder, rows, fitted.n_components, summary)

    @classmethod
    def from_embedding(cls, X: Any, embedding: Any, graph: Any = None, **parameters: Any) -> Self:
        """Learn a network for an embedding that exists, of UMAP, t-SNE or any other method.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that were embedded.
        embedding : array-like of shape (n_samples, n_components)
            Their positions; rows of NaN are left to the network.
        graph : sparse matrix of shape (n_samples, n_samples), optional
            The neighbour graph of the embedding, kept as ``graph_``. By default it is computed.
        **parameters
            Constructor parameters; ``n_components`` is that of the embedding.

        Returns
        -------
        ParametricUMAP
            Fitted: ``transform`` places new rows in the embedding. ``embedding_`` is the output of
            the network for X, and ``report_["landmark_drift"]`` its distance from `embedding`.

        Raises
        ------
        ValueError
            If the shapes do not agree.

        Notes
        -----
        The network regresses on the positions; UMAP's objective plays no part. It is trained for
        twice the preset's steps, with twice its input noise. A network that is trained with UMAP's
        objective keeps more of the neighbourhoods, so prefer :meth:`fit` unless you need this very
        embedding.
        """
        targets = np.asarray(embedding, dtype=np.float32)
        if targets.ndim != 2:
            raise ValueError(
                f"embedding must have two axes, got shape {targets.shape}. Pass one row of "
                "coordinates per row of X."
            )
        model = cls(**{**parameters, "n_components": targets.shape[1]})
        recipe = model._checked_recipe().for_regression()
        data = model._checked_rows(X)
        positions = check_landmark_positions(targets, row_count(data.X), targets.shape[1])
        start = WarmStart(positions, loss_weight=1.0, only_landmarks=True)
        known = None if graph is None else FuzzyGraph.from_matrix(graph)
        if known is not None and known.n_vertices != row_count(data.X):
            raise ValueError(
                f"graph must have one row and column per row of X, got {known.n_vertices} for "
                f"{row_count(data.X)} rows. Pass the graph of exactly these rows."
            )
        model._fitted = fit_map(data, recipe, graph=known, warm_start=start)
        return model

    def add_landmarks(
        self,
        X: Any,
        sample_pct: float = 0.01,
        sample_mode: SampleMode = "uniform",
        landmark_loss_weight: float = 0.01,
        idx: Any = None,
        reset_optimizer: bool = True,
    ) -> Self:
        """Choose rows that keep their positions in the next fit, which continues from this encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to choose from, usually the training rows so far.
        sample_pct : float, default=0.01
            Fraction of the rows to choose, at least one row.
        sample_mode : {"uniform", "predetermined"}, default="uniform"
            Whether rows are sampled or given by `idx`.
        landmark_loss_weight : float, default=0.01
            Weight of their loss in the next fits; larger values keep them closer to their
            positions.
        idx : array-like of int, optional
            Row numbers, for ``sample_mode="predetermined"``.
        reset_optimizer : bool, default=True
            The state of the optimiser is always reset; False raises an error.

        Returns
        -------
        self

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If an argument is out of range.
        """
        fitted = self._model()
        if fitted.encoder is None:
            raise NotFittedError(
                "add_landmarks needs an encoder, which this model does not have. Set "
                "parametric_embedding=True and fit again."
            )
        if not reset_optimizer:
            raise ValueError(
                "reset_optimizer must be True, got False: the state of an optimiser belongs to the "
                "graph it was trained on and is not kept. Leave the argument out."
            )
        data = self._checked_new(fitted, X)
        seed = resolve_seed(self.random_state)
        rows = choose_landmarks(row_count(data.X), sample_pct, sample_mode, idx, seed)
        chosen = replace(data, X=take(data.X, rows))
        landmarks = Landmarks(chosen.X, fitted.embed(chosen), landmark_loss_weight)
        self._fitted = replace(fitted, landmarks=landmarks)
        return self

    def remove_landmarks(self) -> Self:
        """Forget the landmarks; the next fit starts from fresh weights.

        Returns
        -------
        self
        """
        if self._landmarks is not None:
            self._fitted = replace(self._fitted, landmarks=None)
        return self

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        part: Literal["encoder", "decoder"] = "encoder",
        check: bool = True,
    ) -> Path:
        """Write the network as an ONNX file that takes rows as :meth:`transform` takes them.

        Reshaping and standardisation are part of it, as is the activation after a decoder.

        Parameters
        ----------
        path : path-like
            File to write, usually ending in ``.onnx``. Missing folders are made.
        part : {"encoder", "decoder"}, default="encoder"
            ``"encoder"``: input ``X`` (n, ...), output ``embedding`` (n, n_components).
            ``"decoder"``: input ``embedding``, output ``X``, as :meth:`inverse_transform` gives it.
        check : bool, default=True
            Compare the file with the network where onnxruntime is installed.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ImportError
            If the extra ``onnx`` is not installed.
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If there is no such network, it cannot be exported, or the file gives other numbers.
        """
        return export_part(self._model(), path, part=part, check=check)

    to_ONNX = to_onnx  # the name in umap-learn
